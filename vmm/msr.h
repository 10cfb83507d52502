/* Which MSRs are part of a vCPU's state on this host. */
#ifndef KEMARI_VMM_MSR_H
#define KEMARI_VMM_MSR_H

#include "base/error.h"
#include "base/types.h"
#include "vmm/kvm.h"

#define MSR_TSC             0x10u
#define MSR_TSC_DEADLINE    0x6e0u
#define MSR_KVM_WALL_CLOCK  0x11u /* old numbers, still in KVM's list */
#define MSR_KVM_SYSTEM_TIME 0x12u

#define MSR_COUNT_MAX       512

struct msr_list {
    uint32_t indices[MSR_COUNT_MAX]; /* ascending, so that equal hosts give equal lists */
    uint32_t count;
};

/* What KVM_GET_MSR_INDEX_LIST reports, and the MTRRs, as far as vCPU `vcpu_fd` (fresh, with its
 * CPUID set) can both read and write back, without the TSC, which is saved as an offset, and
 * without MSR_TSC_DEADLINE, which must be written after the local APIC and is kept by itself. */
int msr_list_probe(const struct kvm_host *host, int vcpu_fd, struct msr_list *out,
                   struct error *err);

/* One MSR; 0 or -errno. */
int msr_read(int vcpu_fd, uint32_t index, uint64_t *value);
int msr_write(int vcpu_fd, uint32_t index, uint64_t value);

#endif
