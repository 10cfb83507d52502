#include "vmm/vcpu_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/wire.h"
#include "vmm/kvm.h"

#define VERSION         1

#define LAPIC_ID_OFFSET 0x20
#define XCR0            0

/* Read together with the listed ones, since every ioctl of a vCPU costs as much as twenty MSRs. */
#define EXTRA_MSRS 2

/* What we never restore although KVM reports it: nothing of SMM exists in this machine. */
#define EVENT_FLAGS_KNOWN                                                                          \
    ((uint32_t)KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                 \
     KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |          \
     KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

int vcpu_state_init(struct vcpu_state *state, const struct vcpu_layout *layout, struct error *err)
{
    memset(state, 0, sizeof(*state));
    state->layout = layout;
    state->xsave = calloc(1, layout->xsave_size);
    const uint32_t count = layout->msrs.count;
    state->msrs =
        calloc(1, sizeof(struct kvm_msrs) + (count + EXTRA_MSRS) * sizeof(struct kvm_msr_entry));
    if (!state->xsave || !state->msrs) {
        vcpu_state_fini(state);
        return error_set(err, -ENOMEM, "KVM: out of memory");
    }
    for (uint32_t i = 0; i < count; i++)
        state->msrs->entries[i].index = layout->msrs.indices[i];
    state->msrs->entries[count].index = MSR_TSC;
    state->msrs->entries[count + 1].index = MSR_TSC_DEADLINE;
    return 0;
}

void vcpu_state_fini(struct vcpu_state *state)
{
    free(state->xsave);
    free(state->msrs);
    state->xsave = NULL;
    state->msrs = NULL;
}

int vcpu_tsc_settle_khz(int vcpu_fd, uint32_t *khz, struct error *err)
{
    /* Zero stands for the kernel's own. A KVM that doesn't take it has given what it tells. */
    (void)ioctl(vcpu_fd, KVM_SET_TSC_KHZ, 0ul);
    const int known = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
    if (known <= 0)
        return error_set(err, -ENOTSUP, "this host's KVM does not know its TSC's frequency");
    *khz = (uint32_t)known;
    return 0;
}

int vcpu_tsc_get_offset(int vcpu_fd, uint64_t *offset, struct error *err)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
    return kvm_ioctl(vcpu_fd, KVM_GET_DEVICE_ATTR, &attr, "reading KVM_VCPU_TSC_OFFSET", err);
}

int vcpu_tsc_set_offset(int vcpu_fd, uint64_t offset, struct error *err)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};
    return kvm_ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attr, "setting KVM_VCPU_TSC_OFFSET", err);
}

/* KVM stops at the first MSR that it can't read. A host without the deadline timer lacks the last
 * one, and only that. */
static int capture_msrs(struct vcpu_state *s, int fd, struct error *err)
{
    const uint32_t count = s->layout->msrs.count;
    s->msrs->nmsrs = count + EXTRA_MSRS;
    const int got = kvm_ioctl(fd, KVM_GET_MSRS, s->msrs, "KVM_GET_MSRS", err);
    if (got < 0)
        return got;
    if ((uint32_t)got < count + EXTRA_MSRS - 1)
        return error_set(err, -EIO, "KVM: MSR 0x%x can't be read any more",
                         s->msrs->entries[got].index);
    s->tsc_read = s->msrs->entries[count].data;
    s->tsc_deadline = (uint32_t)got == count + EXTRA_MSRS ? s->msrs->entries[count + 1].data : 0;
    return 0;
}

int vcpu_state_capture(struct vcpu_state *s, int fd, struct error *err)
{
    /* mp_state first: asking for it makes KVM act on a pending INIT or SIPI, which changes the
     * registers. */
    const struct {
        unsigned long request;
        void *argument;
        const char *name;
    } steps[] = {
        {KVM_GET_MP_STATE, &s->mp_state, "KVM_GET_MP_STATE"},
        {KVM_GET_REGS, &s->regs, "KVM_GET_REGS"},
        {KVM_GET_SREGS2, &s->sregs, "KVM_GET_SREGS2"},
        {KVM_GET_XSAVE2, s->xsave, "KVM_GET_XSAVE2"},
        {KVM_GET_XCRS, &s->xcrs, "KVM_GET_XCRS"},
        {KVM_GET_VCPU_EVENTS, &s->events, "KVM_GET_VCPU_EVENTS"},
        {KVM_GET_DEBUGREGS, &s->debugregs, "KVM_GET_DEBUGREGS"},
        {KVM_GET_LAPIC, &s->lapic, "KVM_GET_LAPIC"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        const int rc = kvm_ioctl(fd, steps[i].request, steps[i].argument, steps[i].name, err);
        if (rc < 0)
            return rc;
    }
    return capture_msrs(s, fd, err);
}

static size_t fpu_size(const struct vcpu_layout *layout)
{
    return 8 + layout->xsave_size;
}

static size_t msrs_size(const struct vcpu_layout *layout)
{
    return layout->msrs.count * 12 + 8;
}

#define RUN_SIZE (sizeof(struct kvm_vcpu_events) + sizeof(struct kvm_debugregs) + 4 + 8)

static uint64_t xcr0_of(const struct vcpu_state *s)
{
    for (uint32_t i = 0; i < s->xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (s->xcrs.xcrs[i].xcr == XCR0)
            return s->xcrs.xcrs[i].value;
    return 1; /* no XSAVE on this host: x87 only */
}

/* Adds a section and opens it for writing. */
static int add_section(struct section_set *set, const char *name, uint32_t instance, size_t size,
                       struct wire_writer *w, struct error *err)
{
    uint8_t *out = section_set_add(set, name, instance, VERSION, size);
    if (!out)
        return error_set(err, -ENOMEM, "state: no room for section %s.%u", name, instance);
    *w = (struct wire_writer){.bytes = out, .size = size};
    return 0;
}

static int save_plain(struct section_set *set, const char *name, uint32_t instance,
                      const void *data, size_t size, struct error *err)
{
    struct wire_writer w = {0};
    const int rc = add_section(set, name, instance, size, &w, err);
    if (rc == 0)
        wire_put(&w, data, size);
    return rc;
}

static int save_fpu(const struct vcpu_state *s, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    struct wire_writer w = {0};
    const int rc = add_section(set, "vcpu.fpu", instance, fpu_size(s->layout), &w, err);
    if (rc < 0)
        return rc;
    wire_put_u64(&w, xcr0_of(s));
    wire_put(&w, s->xsave, s->layout->xsave_size);
    return 0;
}

static int save_msrs(const struct vcpu_state *s, uint32_t instance, struct section_set *set,
                     struct error *err)
{
    struct wire_writer w = {0};
    const int rc = add_section(set, "vcpu.msrs", instance, msrs_size(s->layout), &w, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < s->layout->msrs.count; i++) {
        wire_put_u32(&w, s->msrs->entries[i].index);
        wire_put_u64(&w, s->msrs->entries[i].data);
    }
    wire_put_u64(&w, s->tsc_deadline);
    return 0;
}

static int save_run(const struct vcpu_state *s, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    struct wire_writer w = {0};
    const int rc = add_section(set, "vcpu.run", instance, RUN_SIZE, &w, err);
    if (rc < 0)
        return rc;
    wire_put(&w, &s->events, sizeof(s->events));
    wire_put(&w, &s->debugregs, sizeof(s->debugregs));
    wire_put_u32(&w, s->mp_state.mp_state);
    wire_put_u64(&w, s->tsc);
    return 0;
}

int vcpu_state_save(const struct vcpu_state *s, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    int rc = save_plain(set, "vcpu.regs", instance, &s->regs, sizeof(s->regs), err);
    if (rc == 0)
        rc = save_plain(set, "vcpu.sregs", instance, &s->sregs, sizeof(s->sregs), err);
    if (rc == 0)
        rc = save_fpu(s, instance, set, err);
    if (rc == 0)
        rc = save_msrs(s, instance, set, err);
    if (rc == 0)
        rc = save_plain(set, "vcpu.lapic", instance, &s->lapic, sizeof(s->lapic), err);
    if (rc == 0)
        rc = save_run(s, instance, set, err);
    return rc;
}

/* Opens a section of exactly that size. */
static int open_section(const struct section_set *set, const char *name, uint32_t instance,
                        size_t size, struct wire_reader *r, struct error *err)
{
    const struct section *s = section_set_find(set, name, instance);
    if (!s)
        return error_set(err, -ENOENT, "state: section %s.%u is missing", name, instance);
    if (s->version != VERSION || s->size != size)
        return error_set(err, -EPROTONOSUPPORT,
                         "state: section %s.%u has version %u and %u bytes, expected %u and %zu",
                         name, instance, s->version, s->size, VERSION, size);
    *r = (struct wire_reader){.bytes = section_set_data(set, s), .size = s->size};
    return 0;
}

static int decode_plain(const struct section_set *set, const char *name, uint32_t instance,
                        void *out, size_t size, struct error *err)
{
    struct wire_reader r;
    const int rc = open_section(set, name, instance, size, &r, err);
    if (rc == 0)
        wire_get(&r, out, size);
    return rc;
}

static int decode_fpu(struct vcpu_state *s, uint32_t instance, const struct section_set *set,
                      struct error *err)
{
    struct wire_reader r;
    const int rc = open_section(set, "vcpu.fpu", instance, fpu_size(s->layout), &r, err);
    if (rc < 0)
        return rc;
    const uint64_t xcr0 = wire_get_u64(&r);
    if (!(xcr0 & 1) || (xcr0 & ~s->layout->xcr0_allowed))
        return error_set(err, -EINVAL, "state: section vcpu.fpu.%u: XCR0 0x%llx is not possible",
                         instance, (unsigned long long)xcr0);
    s->xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs = {{.xcr = XCR0, .value = xcr0}}};
    wire_get(&r, s->xsave, s->layout->xsave_size);
    return 0;
}

static int decode_msrs(struct vcpu_state *s, uint32_t instance, const struct section_set *set,
                       struct error *err)
{
    struct wire_reader r;
    const int rc = open_section(set, "vcpu.msrs", instance, msrs_size(s->layout), &r, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < s->layout->msrs.count; i++) {
        const uint32_t index = wire_get_u32(&r);
        if (index != s->layout->msrs.indices[i])
            return error_set(err, -EINVAL, "state: section vcpu.msrs.%u: MSR 0x%x, expected 0x%x",
                             instance, index, s->layout->msrs.indices[i]);
        s->msrs->entries[i].data = wire_get_u64(&r);
    }
    s->tsc_deadline = wire_get_u64(&r);
    return 0;
}

static int decode_lapic(struct vcpu_state *s, uint32_t instance, const struct section_set *set,
                        struct error *err)
{
    int rc = decode_plain(set, "vcpu.lapic", instance, &s->lapic, sizeof(s->lapic), err);
    if (rc < 0)
        return rc;
    uint32_t id;
    memcpy(&id, s->lapic.regs + LAPIC_ID_OFFSET, sizeof(id));
    /* xAPIC mode keeps the id in the upper byte and lets the guest change it; x2APIC mode, which
     * KVM without KVM_CAP_X2APIC_API converts to the same place, does not. */
    if (id & 0xffffff)
        return error_set(err, -EINVAL, "state: section vcpu.lapic.%u: APIC id 0x%x is not possible",
                         instance, id);
    return 0;
}

static int decode_run(struct vcpu_state *s, uint32_t instance, const struct section_set *set,
                      struct error *err)
{
    struct wire_reader r;
    const int rc = open_section(set, "vcpu.run", instance, RUN_SIZE, &r, err);
    if (rc < 0)
        return rc;
    wire_get(&r, &s->events, sizeof(s->events));
    wire_get(&r, &s->debugregs, sizeof(s->debugregs));
    s->mp_state.mp_state = wire_get_u32(&r);
    s->tsc = wire_get_u64(&r);
    if (s->mp_state.mp_state > KVM_MP_STATE_SIPI_RECEIVED)
        return error_set(err, -EINVAL, "state: section vcpu.run.%u: mp_state %u is not possible",
                         instance, s->mp_state.mp_state);
    if (s->events.flags & ~EVENT_FLAGS_KNOWN || s->events.exception.nr > 31 || s->events.smi.smm ||
        s->events.smi.pending)
        return error_set(err, -EINVAL, "state: section vcpu.run.%u: events are not possible",
                         instance);
    return 0;
}

int vcpu_state_decode(struct vcpu_state *s, uint32_t instance, const struct section_set *set,
                      struct error *err)
{
    int rc = decode_plain(set, "vcpu.regs", instance, &s->regs, sizeof(s->regs), err);
    if (rc == 0)
        rc = decode_plain(set, "vcpu.sregs", instance, &s->sregs, sizeof(s->sregs), err);
    if (rc == 0)
        rc = decode_fpu(s, instance, set, err);
    if (rc == 0)
        rc = decode_msrs(s, instance, set, err);
    if (rc == 0)
        rc = decode_lapic(s, instance, set, err);
    if (rc == 0)
        rc = decode_run(s, instance, set, err);
    return rc;
}

static int apply_msrs(const struct vcpu_state *s, int fd, struct error *err)
{
    s->msrs->nmsrs = s->layout->msrs.count;
    const int done = kvm_ioctl(fd, KVM_SET_MSRS, s->msrs, "KVM_SET_MSRS", err);
    if (done < 0)
        return done;
    if ((uint32_t)done != s->msrs->nmsrs)
        return error_set(err, -EINVAL, "KVM: MSR 0x%x refuses the value 0x%llx",
                         s->msrs->entries[done].index,
                         (unsigned long long)s->msrs->entries[done].data);
    return 0;
}

int vcpu_state_apply(const struct vcpu_state *s, int fd, struct error *err)
{
    struct kvm_vcpu_events events = s->events;
    events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                    KVM_VCPUEVENT_VALID_SHADOW;
    /* The order matters: sregs sets the mode of the APIC and of the paging, XCR0 says which parts
     * of the XSAVE area are legal, the APIC's timer mode decides what the deadline MSR means, and
     * events come after everything that could cancel them. */
    const struct {
        unsigned long request;
        const void *argument;
        const char *name;
    } before[] =
        {
            {KVM_SET_SREGS2, &s->sregs, "KVM_SET_SREGS2"},
            {KVM_SET_REGS, &s->regs, "KVM_SET_REGS"},
            {KVM_SET_XCRS, &s->xcrs, "KVM_SET_XCRS"},
            {KVM_SET_XSAVE, s->xsave, "KVM_SET_XSAVE"},
            {KVM_SET_DEBUGREGS, &s->debugregs, "KVM_SET_DEBUGREGS"},
        },
      after[] = {
          {KVM_SET_LAPIC, &s->lapic, "KVM_SET_LAPIC"},
          {KVM_SET_MP_STATE, &s->mp_state, "KVM_SET_MP_STATE"},
          {KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS"},
      };
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < ARRAY_SIZE(before); i++)
        rc = kvm_ioctl(fd, before[i].request, (void *)(uintptr_t)before[i].argument, before[i].name,
                       err);
    if (rc >= 0)
        rc = apply_msrs(s, fd, err);
    for (size_t i = 0; rc >= 0 && i < ARRAY_SIZE(after); i++)
        rc = kvm_ioctl(fd, after[i].request, (void *)(uintptr_t)after[i].argument, after[i].name,
                       err);
    if (rc >= 0 && s->tsc_deadline)
        rc = msr_write(fd, MSR_TSC_DEADLINE, s->tsc_deadline);
    return rc < 0 ? (err && err->code ? err->code
                                      : error_set(err, rc, "KVM: the deadline timer refuses"))
                  : 0;
}
