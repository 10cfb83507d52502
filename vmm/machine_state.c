/* Saving, checking and loading a whole machine.
 *
 * Section "machine" (ours) says how many vCPUs there are and whether the guest has ended; the
 * others are described in vcpu_state.h, vm_state.h and by the devices. The order of loading:
 *
 *   devices             they drive their interrupt lines
 *   TSC, VM clock       what timers and clock pages are measured against
 *   interrupt chips     overwrite what the devices' lines did
 *   vCPUs               the local APICs last, with what is pending in them
 *
 * Clocks: everything that counts guest time is moved forward by `elapsed` plus the time the loading
 * itself takes. All vCPU TSCs are set by offset against one reading, so that they keep their
 * distance from each other exactly (normally none), and never ahead of the VM clock. */
#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "vmm/machine_internal.h"
#include "vmm/state.h"

struct machine_section {
    uint32_t vcpus;
    uint8_t ended;
};

static const struct state_field machine_fields[] = {
    STATE_UINT(struct machine_section, vcpus, 1, MACHINE_VCPUS_MAX),
    STATE_UINT(struct machine_section, ended, MACHINE_END_NONE, MACHINE_END_FAILED),
};

static int check_machine(const void *object, const void *context, struct error *err)
{
    const struct machine_section *s = object;
    const struct machine *m = context;
    if (s->vcpus == m->config.vcpus)
        return 0;
    return error_set(err, -EINVAL, "state: of %u vCPUs, this machine has %u", s->vcpus,
                     m->config.vcpus);
}

static const struct state_table machine_table = {"machine", 1, machine_fields,
                                                 ARRAY_SIZE(machine_fields), check_machine};

static void capture_vcpu(void *context, unsigned i)
{
    struct machine *m = context;
    const int fd = vcpu_fd(m->vcpus[i]);
    int rc = vcpu_state_capture(&m->scratch[i], fd, &m->errors[i]);
    if (rc >= 0 && m->config.vcpus > 1)
        rc = vcpu_tsc_get_offset(fd, &m->tsc_offsets[i], &m->errors[i]);
    m->results[i] = rc;
}

/* The guest's TSCs at one moment: that at which the first vCPU's was read. A single vCPU has no
 * offset to be asked for: 0 - 0. */
static void align_tsc(struct machine *m)
{
    for (unsigned i = 0; i < m->config.vcpus; i++)
        m->scratch[i].tsc = m->scratch[0].tsc_read + m->tsc_offsets[i] - m->tsc_offsets[0];
}

static int save_vcpus(struct machine *m, struct section_set *set, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        if (m->results[i] < 0)
            rc = error_set(err, m->results[i], "vCPU %u: %s", i, m->errors[i].text);
    if (rc == 0)
        align_tsc(m);
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        rc = vcpu_state_save(&m->scratch[i], i, set, err);
    return rc;
}

static int save_vm(struct machine *m, struct section_set *set, struct error *err)
{
    struct vm_chips chips = {0}; /* KVM fills in only what the chip has */
    struct vm_clock clock = {.tsc_khz = m->tsc_khz};
    int rc = vm_chips_capture(&chips, m->vm_fd, err);
    if (rc == 0)
        rc = vm_chips_save(&chips, set, err);
    if (rc == 0)
        rc = vm_clock_capture(&clock, m->vm_fd, err);
    if (rc == 0)
        rc = vm_clock_save(&clock, set, err);
    return rc;
}

static int save_devices(struct machine *m, struct section_set *set, struct error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < m->device_count; i++) {
        const struct device *d = &m->devices[i];
        rc = d->ops->save(d->context, d->instance, set, err);
    }
    return rc;
}

/* An ioctl of a vCPU takes some microseconds, and reading its state takes a dozen of them: several
 * vCPUs are read on several threads. */
int machine_save(struct machine *m, struct section_set *set, struct error *err)
{
    assert(!m->running);
    const struct machine_section section = {.vcpus = m->config.vcpus, .ended = (uint8_t)m->ended};
    run_begin_job(m->run, capture_vcpu);
    int rc = state_save(&machine_table, 0, &section, set, err);
    if (rc == 0)
        rc = save_vm(m, set, err);
    if (rc == 0)
        rc = save_devices(m, set, err);
    run_finish_job(m->run);
    return rc < 0 ? rc : save_vcpus(m, set, err);
}

static int check_tsc(const struct machine *m, uint32_t khz, struct error *err)
{
    const uint64_t mine = m->tsc_khz;
    const uint64_t distance = khz > mine ? khz - mine : mine - khz;
    if (m->host.tsc_control || distance * 1000000 <= mine * MACHINE_TSC_TOLERANCE_PPM)
        return 0;
    return error_set(err, -EINVAL,
                     "state: the guest's TSC runs at %u kHz, this host's at %u and can't be scaled",
                     khz, m->tsc_khz);
}

int machine_check(struct machine *m, const struct section_set *set, struct error *err)
{
    struct machine_section section;
    struct vm_chips chips;
    struct vm_clock clock;
    int rc = state_decode(&machine_table, 0, &section, m, set, err);
    if (rc == 0)
        rc = vm_chips_decode(&chips, set, err);
    if (rc == 0)
        rc = vm_clock_decode(&clock, set, err);
    if (rc == 0)
        rc = check_tsc(m, clock.tsc_khz, err);
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        rc = vcpu_state_decode(&m->proof, i, set, err);
    for (size_t i = 0; rc == 0 && i < m->device_count; i++) {
        const struct device *d = &m->devices[i];
        rc = d->ops->check(d->context, d->instance, set, err);
    }
    return rc;
}

/* A vCPU may run before KVM has renewed the clock page that it reads (Linux' vDSO reads vCPU 0's):
 * it extrapolates the old page by the new TSC. So that time does not go back when the page is
 * renewed, the VM clock must not be behind what the TSC says. The TSC is therefore set a little
 * late on purpose; and a KVM whose guests see the host's TSC whatever offset is asked for (a
 * software KVM without TSC virtualisation) has its clock follow that TSC. */
#define CLOCK_SLACK USEC(100)
#define CLOCK_TRIES 1000
/* Further ahead is no progress of the same TSC, but another host's. */
#define TSC_AHEAD_MAX SEC(10)

static nsec_t passed_by_tsc(const struct machine *m, nsec_t elapsed)
{
    const uint64_t saved = m->scratch[0].tsc;
    uint64_t tsc;
    if (msr_read(vcpu_fd(m->vcpus[0]), MSR_TSC, &tsc) < 0 || tsc < saved)
        return elapsed;
    const unsigned __int128 passed = (unsigned __int128)(tsc - saved) * 1000000u / m->tsc_khz;
    return passed < (unsigned __int128)(elapsed + TSC_AHEAD_MAX) ? (nsec_t)passed : elapsed;
}

/* Again, when this thread was held up in the middle of it. */
static int load_clock(const struct machine *m, const struct vm_clock *clock, nsec_t taken,
                      struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < CLOCK_TRIES; i++) {
        const nsec_t now = clock_now();
        const nsec_t by_tsc = passed_by_tsc(m, now - taken) + CLOCK_SLACK;
        rc = vm_clock_apply(clock, by_tsc > now - taken ? by_tsc : now - taken, m->vm_fd, err);
        if (clock_now() - now <= CLOCK_SLACK)
            break;
    }
    return rc;
}

/* Lets the TSC of vCPU 0 follow the host's without offset, reads it, and gives every vCPU the
 * offset that makes it what it was, `elapsed` later. */
static int load_tsc(struct machine *m, uint32_t khz, nsec_t taken, struct error *err)
{
    for (unsigned i = 0; khz != m->tsc_khz && i < m->config.vcpus; i++) {
        const int rc = kvm_ioctl(vcpu_fd(m->vcpus[i]), KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz,
                                 "KVM_SET_TSC_KHZ", err);
        if (rc < 0)
            return rc;
    }
    m->tsc_khz = khz;
    uint64_t host;
    int rc = vcpu_tsc_set_offset(vcpu_fd(m->vcpus[0]), 0, err);
    if (rc < 0)
        return rc;
    const nsec_t since = clock_now() - taken - CLOCK_SLACK;
    rc = msr_read(vcpu_fd(m->vcpus[0]), MSR_TSC, &host);
    if (rc < 0)
        return error_set(err, rc, "KVM: the guest's TSC can't be read");
    const uint64_t passed = since > 0 ? (uint64_t)((unsigned __int128)since * khz / 1000000u) : 0;
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        rc = vcpu_tsc_set_offset(vcpu_fd(m->vcpus[i]), m->scratch[i].tsc + passed - host, err);
    return rc;
}

/* There are KVMs that give every guest the host's TSC whatever offset is set. kvmclock is right
 * there all the same, but who reads the TSC itself should know. */
static void warn_of_fixed_tsc(const struct machine *m)
{
    uint64_t now;
    if (msr_read(vcpu_fd(m->vcpus[0]), MSR_TSC, &now) == 0 && now < m->scratch[0].tsc)
        log_warning("machine", "this host's KVM can't shift the TSC: the guest sees it go back");
}

static int load_vm(struct machine *m, const struct section_set *set, nsec_t taken,
                   struct error *err)
{
    struct vm_clock clock;
    struct vm_chips chips;
    int rc = vm_clock_decode(&clock, set, err);
    if (rc == 0)
        rc = vm_chips_decode(&chips, set, err);
    if (rc == 0)
        rc = load_tsc(m, clock.tsc_khz, taken, err);
    if (rc == 0)
        warn_of_fixed_tsc(m);
    if (rc == 0)
        rc = load_clock(m, &clock, taken, err);
    return rc < 0 ? rc : vm_chips_apply(&chips, m->vm_fd, err);
}

static int load_vcpus(struct machine *m, struct error *err)
{
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        const int fd = vcpu_fd(m->vcpus[i]);
        const int rc = vcpu_state_apply(&m->scratch[i], fd, err);
        if (rc < 0)
            return rc;
        /* Tells a guest with a paravirtual clock that it was away, so that its watchdogs don't
         * bark; refused, and not needed, by one without. */
        kvm_ioctl(fd, KVM_KVMCLOCK_CTRL, NULL, "KVM_KVMCLOCK_CTRL", NULL);
    }
    return 0;
}

int machine_load(struct machine *m, const struct section_set *set, nsec_t elapsed,
                 struct error *err)
{
    assert(!m->running && elapsed >= 0);
    const nsec_t taken = clock_now() - elapsed;
    struct machine_section section;
    int rc = state_decode(&machine_table, 0, &section, m, set, err);
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        rc = vcpu_state_decode(&m->scratch[i], i, set, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < m->device_count; i++) {
        const struct device *d = &m->devices[i];
        d->ops->load(d->context, d->instance, set);
    }
    /* What was typed for the guest that was here before is not for the one that comes. */
    if (m->serial_input)
        console_input_clear(m->serial_input);
    if (m->console_input)
        console_input_clear(m->console_input);
    rc = load_vm(m, set, taken, err);
    if (rc == 0)
        rc = load_vcpus(m, err);
    if (rc < 0)
        return rc;
    m->loaded = true;
    if (section.ended != MACHINE_END_NONE)
        machine_end_for_good(m, section.ended);
    return 0;
}
