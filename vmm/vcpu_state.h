/* The state of one vCPU: captured from KVM, written to sections, read back, applied to KVM.
 *
 * Sections, instance = vCPU number. "Kernel structure" means the bytes of <asm/kvm.h>, whose layout
 * is fixed ABI of x86-64:
 *   vcpu.regs    struct kvm_regs
 *   vcpu.sregs   struct kvm_sregs2
 *   vcpu.fpu     u64 XCR0, then the XSAVE area
 *   vcpu.msrs    u32 index, u64 value for each MSR of the list; then u64 IA32_TSC_DEADLINE
 *   vcpu.lapic   struct kvm_lapic_state
 *   vcpu.run     struct kvm_vcpu_events, struct kvm_debugregs, u32 mp_state, u64 guest TSC
 *
 * Two buffers are allocated at creation; capturing and saving allocate nothing. */
#ifndef KEMARI_VMM_VCPU_STATE_H
#define KEMARI_VMM_VCPU_STATE_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/section.h"
#include "base/types.h"
#include "vmm/msr.h"

/* What the state of every vCPU of a machine has in common. Set once, borrowed by the states. */
struct vcpu_layout {
    struct msr_list msrs;
    size_t xsave_size;     /* bytes of the XSAVE area on this host */
    uint64_t xcr0_allowed; /* bits that XCR0 may have */
};

struct vcpu_state {
    const struct vcpu_layout *layout;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_xcrs xcrs;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    struct kvm_mp_state mp_state;
    struct kvm_lapic_state lapic;
    uint64_t tsc_read; /* as captured: guest TSC at some moment of the capture */
    uint64_t tsc;      /* guest TSC at the moment all vCPUs of the machine share */
    uint64_t tsc_deadline;
    uint8_t *xsave;        /* layout->xsave_size bytes, owned */
    struct kvm_msrs *msrs; /* layout->msrs.count entries, then TSC and TSC_DEADLINE; owned */
};

int vcpu_state_init(struct vcpu_state *state, const struct vcpu_layout *layout, struct error *err);
void vcpu_state_fini(struct vcpu_state *state);

/* Reads everything but `tsc` from a vCPU that is not running. */
int vcpu_state_capture(struct vcpu_state *state, int vcpu_fd, struct error *err);

int vcpu_state_save(const struct vcpu_state *state, uint32_t instance, struct section_set *set,
                    struct error *err);

/* Decodes into `state` and validates: sizes, the MSR list, enumerations, XCR0, the APIC id. */
int vcpu_state_decode(struct vcpu_state *state, uint32_t instance, const struct section_set *set,
                      struct error *err);

/* Writes everything but the TSC (vcpu_tsc_*) to a vCPU that is not running. The TSC and the VM's
 * clock must have been set before: timers and clock pages are armed against them. */
int vcpu_state_apply(const struct vcpu_state *state, int vcpu_fd, struct error *err);

/* Gives a new vCPU the frequency that the kernel takes for the TSC's now, and tells it in kHz.
 *
 * Of its own accord KVM gives what the kernel knew when KVM's module was loaded. The kernel
 * measures the TSC again a second after its start, and where the two differ by more than KVM's
 * tsc_tolerance_ppm and the processor can't scale, the vCPU has no frequency at all, and nobody
 * says so: the guest reads the host's TSC, KVM takes it for 0, and timers of the TSC deadline come
 * late by the host's uptime (set_tsc_khz() of Linux 6.1). To be called before anything that sets an
 * offset. Fails with -ENOTSUP where KVM knows none. */
int vcpu_tsc_settle_khz(int vcpu_fd, uint32_t *khz, struct error *err);

/* The offset between the host's (scaled) and the guest's TSC: guest = host + offset. */
int vcpu_tsc_get_offset(int vcpu_fd, uint64_t *offset, struct error *err);
int vcpu_tsc_set_offset(int vcpu_fd, uint64_t offset, struct error *err);

#endif
