/* The CPUID that a guest sees: what this host's KVM supports, less what can't be moved to another
 * host, plus topology. Deterministic: equal hosts and equal configuration give equal bytes, and the
 * digest in the machine's identity is of them. */
#ifndef KEMARI_VMM_CPUID_H
#define KEMARI_VMM_CPUID_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "vmm/kvm.h"

#define CPUID_ENTRIES_MAX 256

struct cpuid_table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX]; /* what head.entries[] names */
};

/* Asks the kernel. */
int cpuid_read_host(const struct kvm_host *host, struct cpuid_table *out, struct error *err);

/* Pure: adapts a table read from a host to a guest of `vcpus` CPUs, as seen by CPU `id` (which is
 * also its APIC id): one package, one thread per core, no nested virtualisation, no performance
 * counters, no asynchronous page faults. Entries that do not fit any more are dropped. */
void cpuid_adapt(struct cpuid_table *table, unsigned vcpus, unsigned id, bool tsc_deadline);

/* Pure: takes away XSAVE and everything whose registers only XSAVE can save. */
void cpuid_drop_xsave(struct cpuid_table *table);

/* The entry of that leaf, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t function, uint32_t index);

/* Of all entries: equal on two hosts exactly when the guests see equal processors (identity). */
uint64_t cpuid_digest(const struct cpuid_table *table);

#endif
