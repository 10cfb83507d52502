#include "vmm/vm_state.h"

#include <errno.h>
#include <string.h>

#include "vmm/kvm.h"
#include "vmm/state.h"

#define PIT_CHANNELS 3

static const struct state_field irqchip_fields[] = {
    STATE_UINT(struct kvm_irqchip, chip_id, 0, VM_IRQCHIPS - 1),
    STATE_BYTES(struct kvm_irqchip, chip),
};

static const struct state_table irqchip_table = {"vm.irqchip", 1, irqchip_fields,
                                                 ARRAY_SIZE(irqchip_fields), NULL};

/* Modes and states are any byte: KVM has a meaning, or none, for each. */
static int check_pit(const void *object, const void *context, struct error *err)
{
    (void)context;
    const struct kvm_pit_state2 *pit = object;
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        const struct kvm_pit_channel_state *c = &pit->channels[i];
        if (c->count > 0x10000)
            return error_set(err, -EINVAL, "state: section vm.pit.0: channel %u is not possible",
                             i);
    }
    return 0;
}

static const struct state_field pit_fields[] = {
    STATE_BYTES(struct kvm_pit_state2, channels),
    STATE_UINT(struct kvm_pit_state2, flags, 0,
               KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON),
};

static const struct state_table pit_table = {"vm.pit", 1, pit_fields, ARRAY_SIZE(pit_fields),
                                             check_pit};

static const struct state_field clock_fields[] = {
    STATE_UINT(struct vm_clock, kvmclock_ns, 0, INT64_MAX),
    STATE_UINT(struct vm_clock, tsc_khz, 1, UINT32_MAX),
};

static const struct state_table clock_table = {"vm.clock", 1, clock_fields,
                                               ARRAY_SIZE(clock_fields), NULL};

int vm_chips_capture(struct vm_chips *chips, int vm_fd, struct error *err)
{
    for (unsigned i = 0; i < VM_IRQCHIPS; i++) {
        chips->irqchips[i].chip_id = i;
        const int rc =
            kvm_ioctl(vm_fd, KVM_GET_IRQCHIP, &chips->irqchips[i], "KVM_GET_IRQCHIP", err);
        if (rc < 0)
            return rc;
    }
    const int rc = kvm_ioctl(vm_fd, KVM_GET_PIT2, &chips->pit, "KVM_GET_PIT2", err);
    /* Host time, meaningless elsewhere: KVM starts the count anew when it is loaded. */
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        chips->pit.channels[i].count_load_time = 0;
    return rc;
}

int vm_chips_save(const struct vm_chips *chips, struct section_set *set, struct error *err)
{
    for (unsigned i = 0; i < VM_IRQCHIPS; i++) {
        const int rc = state_save(&irqchip_table, i, &chips->irqchips[i], set, err);
        if (rc < 0)
            return rc;
    }
    return state_save(&pit_table, 0, &chips->pit, set, err);
}

int vm_chips_decode(struct vm_chips *chips, const struct section_set *set, struct error *err)
{
    memset(chips, 0, sizeof(*chips));
    for (unsigned i = 0; i < VM_IRQCHIPS; i++) {
        const int rc = state_decode(&irqchip_table, i, &chips->irqchips[i], NULL, set, err);
        if (rc < 0)
            return rc;
        if (chips->irqchips[i].chip_id != i)
            return error_set(err, -EINVAL, "state: section vm.irqchip.%u is of another chip", i);
    }
    return state_decode(&pit_table, 0, &chips->pit, NULL, set, err);
}

int vm_chips_apply(const struct vm_chips *chips, int vm_fd, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc >= 0 && i < VM_IRQCHIPS; i++)
        rc = kvm_ioctl(vm_fd, KVM_SET_IRQCHIP, (void *)(uintptr_t)&chips->irqchips[i],
                       "KVM_SET_IRQCHIP", err);
    if (rc >= 0)
        rc = kvm_ioctl(vm_fd, KVM_SET_PIT2, (void *)(uintptr_t)&chips->pit, "KVM_SET_PIT2", err);
    return rc < 0 ? rc : 0;
}

int vm_clock_capture(struct vm_clock *clock, int vm_fd, struct error *err)
{
    struct kvm_clock_data data = {0};
    const int rc = kvm_ioctl(vm_fd, KVM_GET_CLOCK, &data, "KVM_GET_CLOCK", err);
    clock->kvmclock_ns = data.clock;
    return rc;
}

int vm_clock_save(const struct vm_clock *clock, struct section_set *set, struct error *err)
{
    return state_save(&clock_table, 0, clock, set, err);
}

int vm_clock_decode(struct vm_clock *clock, const struct section_set *set, struct error *err)
{
    return state_decode(&clock_table, 0, clock, NULL, set, err);
}

int vm_clock_apply(const struct vm_clock *clock, nsec_t elapsed, int vm_fd, struct error *err)
{
    struct kvm_clock_data data = {.clock = clock->kvmclock_ns + (uint64_t)elapsed};
    return kvm_ioctl(vm_fd, KVM_SET_CLOCK, &data, "KVM_SET_CLOCK", err);
}
