/* State of the VM as a whole: the interrupt controllers and the PIT, and its clock.
 *
 * Sections, all instance 0 unless said otherwise; kernel structures as in vcpu_state.h:
 *   vm.irqchip  struct kvm_irqchip; instance 0 and 1 are the two PICs, 2 is the IOAPIC
 *   vm.pit      struct kvm_pit_state2, with the host's times zeroed
 *   vm.clock    u64 kvmclock (ns), u32 TSC frequency (kHz)
 *
 * The clock is read after the vCPUs have stopped, so it is not behind anything they saw; loading
 * adds the time that has passed since. */
#ifndef KEMARI_VMM_VM_STATE_H
#define KEMARI_VMM_VM_STATE_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/section.h"
#include "base/types.h"

#define VM_IRQCHIPS 3

struct vm_chips {
    struct kvm_irqchip irqchips[VM_IRQCHIPS];
    struct kvm_pit_state2 pit;
};

struct vm_clock {
    uint64_t kvmclock_ns;
    uint32_t tsc_khz;
};

int vm_chips_capture(struct vm_chips *chips, int vm_fd, struct error *err);
int vm_chips_save(const struct vm_chips *chips, struct section_set *set, struct error *err);
int vm_chips_decode(struct vm_chips *chips, const struct section_set *set, struct error *err);
int vm_chips_apply(const struct vm_chips *chips, int vm_fd, struct error *err);

int vm_clock_capture(struct vm_clock *clock, int vm_fd, struct error *err);
int vm_clock_save(const struct vm_clock *clock, struct section_set *set, struct error *err);
int vm_clock_decode(struct vm_clock *clock, const struct section_set *set, struct error *err);

/* Sets kvmclock to the captured value plus `elapsed`. */
int vm_clock_apply(const struct vm_clock *clock, nsec_t elapsed, int vm_fd, struct error *err);

#endif
