/* Rules: Intel SDM vol. 2 "CPUID", AMD APM vol. 3 appendix E, Linux Documentation/virt/kvm/x86/
 * cpuid.rst for the leaves at 0x40000000. */
#include "vmm/cpuid.h"

#include <asm/kvm_para.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(offsetof(struct cpuid_table, entries) == offsetof(struct kvm_cpuid2, entries),
               "the kernel reads the entries right behind the head");

#define LEAF_FEATURES                 0x1u
#define LEAF_CACHES                   0x4u /* Intel; also tells cores per package */
#define LEAF_PMU                      0xau
#define LEAF_STRUCTURED               0x7u
#define LEAF_TOPOLOGY                 0xbu
#define LEAF_XSAVE                    0xdu
#define LEAF_TILES                    0x1du
#define LEAF_TILE_MULTIPLY            0x1eu
#define LEAF_TOPOLOGY_V2              0x1fu
#define LEAF_AVX10                    0x24u
#define LEAF_KVM_FEATURES             0x40000001u
#define LEAF_AMD_FEATURES             0x80000001u
#define LEAF_AMD_SIZES                0x80000008u
#define LEAF_AMD_CACHES               0x8000001du
#define LEAF_AMD_TOPOLOGY             0x8000001eu
#define LEAF_AMD_PMU                  0x80000022u
#define LEAF_AMD_SVM                  0x8000000au

#define BIT(n)                        (1u << (n))

#define FEATURES_ECX_VMX              BIT(5)
#define FEATURES_ECX_PDCM             BIT(15) /* performance capabilities MSR */
#define FEATURES_ECX_TSC_DEADLINE     BIT(24)
#define FEATURES_ECX_HYPERVISOR       BIT(31)
#define FEATURES_EDX_HTT              BIT(28) /* more than one logical processor in the package */

#define AMD_FEATURES_ECX_CMP_LEGACY   BIT(1)
#define AMD_FEATURES_ECX_SVM          BIT(2)
#define AMD_FEATURES_ECX_TOPOEXT      BIT(22)
#define AMD_FEATURES_ECX_PERFCTR_CORE BIT(23)
#define AMD_FEATURES_ECX_PERFCTR_NB   BIT(24)

/* Of leaf 1: FMA, XSAVE, OSXSAVE, AVX, F16C. */
#define XSAVE_FEATURES_ECX (BIT(12) | BIT(26) | BIT(27) | BIT(28) | BIT(29))
/* Of leaf 7: AVX2, MPX, AVX-512; AVX-512, protection keys, shadow stacks, VAES, VPCLMULQDQ;
 * AVX-512, IBT, AMX. Of its subleaf 1: the later ones of AVX, AVX-512, AMX and AVX10. */
#define XSAVE_STRUCTURED_EBX                                                                       \
    (BIT(5) | BIT(14) | BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) |      \
     BIT(31))
#define XSAVE_STRUCTURED_ECX                                                                       \
    (BIT(1) | BIT(3) | BIT(4) | BIT(6) | BIT(7) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14))
#define XSAVE_STRUCTURED_EDX                                                                       \
    (BIT(2) | BIT(3) | BIT(8) | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25))
#define XSAVE_STRUCTURED_1_EAX (BIT(4) | BIT(5) | BIT(21) | BIT(23))
#define XSAVE_STRUCTURED_1_EDX (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19))
/* Of AMD's features: XOP, LWP, FMA4. */
#define XSAVE_AMD_ECX (BIT(11) | BIT(15) | BIT(16))

/* A page that the host has to fetch must stall the vCPU, not be announced to the guest: the
 * announcement would be in flight when the checkpoint is taken. */
#define KVM_ASYNC_PF_FEATURES                                                                      \
    (BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) | BIT(KVM_FEATURE_ASYNC_PF_INT))

/* A kick for a vCPU that is about to halt is kept by KVM alone, in no state that can be read: moved
 * at that moment the vCPU would wait for ever. Without the feature spinlocks spin. */
#define KVM_DROPPED_FEATURES  (KVM_ASYNC_PF_FEATURES | BIT(KVM_FEATURE_PV_UNHALT))

#define TOPOLOGY_LEVEL_THREAD 1u
#define TOPOLOGY_LEVEL_CORE   2u

int cpuid_read_host(const struct kvm_host *host, struct cpuid_table *out, struct error *err)
{
    memset(out, 0, sizeof(*out));
    out->head.nent = CPUID_ENTRIES_MAX;
    return kvm_ioctl(host->fd, KVM_GET_SUPPORTED_CPUID, out, "KVM_GET_SUPPORTED_CPUID", err);
}

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table->head.nent; i++) {
        struct kvm_cpuid_entry2 *e = &table->entries[i];
        if (e->function == function &&
            (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
            return e;
    }
    return NULL;
}

static bool is_dropped(uint32_t function)
{
    return function == LEAF_PMU || function == LEAF_TOPOLOGY || function == LEAF_TOPOLOGY_V2 ||
           function == LEAF_AMD_PMU || function == LEAF_AMD_SVM;
}

static void drop_entries(struct cpuid_table *table, bool (*is_in)(uint32_t function))
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->head.nent; i++)
        if (!is_in(table->entries[i].function))
            table->entries[kept++] = table->entries[i];
    table->head.nent = kept;
}

static bool describes_xsave(uint32_t function)
{
    return function == LEAF_XSAVE || function == LEAF_TILES || function == LEAF_TILE_MULTIPLY ||
           function == LEAF_AVX10;
}

void cpuid_drop_xsave(struct cpuid_table *table)
{
    drop_entries(table, describes_xsave);
    for (uint32_t i = 0; i < table->head.nent; i++) {
        struct kvm_cpuid_entry2 *e = &table->entries[i];
        if (e->function == LEAF_FEATURES) {
            e->ecx &= ~XSAVE_FEATURES_ECX;
        } else if (e->function == LEAF_STRUCTURED && e->index == 0) {
            e->ebx &= ~XSAVE_STRUCTURED_EBX;
            e->ecx &= ~XSAVE_STRUCTURED_ECX;
            e->edx &= ~XSAVE_STRUCTURED_EDX;
        } else if (e->function == LEAF_STRUCTURED && e->index == 1) {
            e->eax &= ~XSAVE_STRUCTURED_1_EAX;
            e->edx &= ~XSAVE_STRUCTURED_1_EDX;
        } else if (e->function == LEAF_AMD_FEATURES) {
            e->ecx &= ~XSAVE_AMD_ECX;
        }
    }
}

/* Bits of an APIC id that number the cores. */
static uint32_t core_bits(unsigned vcpus)
{
    uint32_t bits = 0;
    while ((1u << bits) < vcpus)
        bits++;
    return bits;
}

static void append(struct cpuid_table *table, struct kvm_cpuid_entry2 entry)
{
    if (table->head.nent < CPUID_ENTRIES_MAX)
        table->entries[table->head.nent++] = entry;
}

/* Extended topology: one thread per core, then all cores of the only package, then the end. */
static void append_topology(struct cpuid_table *table, unsigned vcpus, unsigned id)
{
    const struct kvm_cpuid_entry2 *basic = cpuid_find(table, 0, 0);
    if (!basic || basic->eax < LEAF_TOPOLOGY)
        return;
    const struct kvm_cpuid_entry2 common = {
        .function = LEAF_TOPOLOGY, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .edx = id};
    struct kvm_cpuid_entry2 thread = common, core = common, end = common;
    thread.ebx = 1;
    thread.ecx = TOPOLOGY_LEVEL_THREAD << 8;
    core.index = 1;
    core.eax = core_bits(vcpus);
    core.ebx = vcpus;
    core.ecx = TOPOLOGY_LEVEL_CORE << 8 | 1;
    end.index = 2;
    end.ecx = 2;
    append(table, thread);
    append(table, core);
    append(table, end);
}

static void adapt_features(struct kvm_cpuid_entry2 *e, unsigned vcpus, unsigned id,
                           bool tsc_deadline)
{
    e->ebx = (e->ebx & 0xffffu) | (vcpus & 0xffu) << 16 | (id & 0xffu) << 24;
    e->ecx &= ~(FEATURES_ECX_VMX | FEATURES_ECX_PDCM | FEATURES_ECX_TSC_DEADLINE);
    e->ecx |= FEATURES_ECX_HYPERVISOR | (tsc_deadline ? FEATURES_ECX_TSC_DEADLINE : 0);
    e->edx &= ~FEATURES_EDX_HTT;
    e->edx |= vcpus > 1 ? FEATURES_EDX_HTT : 0;
}

static void adapt_entry(struct kvm_cpuid_entry2 *e, unsigned vcpus, unsigned id, bool tsc_deadline)
{
    switch (e->function) {
    case LEAF_FEATURES:
        adapt_features(e, vcpus, id, tsc_deadline);
        break;
    case LEAF_CACHES: /* cores per package - 1; threads sharing the cache - 1: below L3 private */
        if ((e->eax & 0x1f) != 0) {
            const uint32_t level = e->eax >> 5 & 7;
            const uint32_t sharing = level >= 3 ? (1u << core_bits(vcpus)) - 1 : 0;
            const uint32_t cores = (1u << core_bits(vcpus)) - 1;
            e->eax = (e->eax & 0x3fffu) | (sharing & 0xfffu) << 14 | (cores & 0x3fu) << 26;
        }
        break;
    case LEAF_KVM_FEATURES:
        e->eax &= ~KVM_DROPPED_FEATURES;
        break;
    case LEAF_AMD_FEATURES:
        e->ecx &= ~(AMD_FEATURES_ECX_SVM | AMD_FEATURES_ECX_PERFCTR_CORE |
                    AMD_FEATURES_ECX_PERFCTR_NB | AMD_FEATURES_ECX_CMP_LEGACY);
        if (vcpus > 1 && (e->ecx & AMD_FEATURES_ECX_TOPOEXT))
            e->ecx |= AMD_FEATURES_ECX_CMP_LEGACY;
        break;
    case LEAF_AMD_SIZES: /* core count - 1, and how many APIC id bits number them */
        e->ecx = (e->ecx & ~0xf0ffu) | core_bits(vcpus) << 12 | ((vcpus - 1) & 0xffu);
        break;
    case LEAF_AMD_CACHES:
        if ((e->eax & 0x1f) != 0) {
            const uint32_t level = e->eax >> 5 & 7;
            const uint32_t sharing = level >= 3 ? vcpus - 1 : 0;
            e->eax = (e->eax & 0x3fffu) | (sharing & 0xfffu) << 14;
        }
        break;
    case LEAF_AMD_TOPOLOGY: /* APIC id; compute unit; one node */
        e->eax = id;
        e->ebx = id & 0xffu;
        e->ecx = 0;
        break;
    default:
        break;
    }
}

void cpuid_adapt(struct cpuid_table *table, unsigned vcpus, unsigned id, bool tsc_deadline)
{
    drop_entries(table, is_dropped);
    for (uint32_t i = 0; i < table->head.nent; i++)
        adapt_entry(&table->entries[i], vcpus, id, tsc_deadline);
    append_topology(table, vcpus, id);
}

uint64_t cpuid_digest(const struct cpuid_table *table)
{
    return XXH3_64bits(table->entries, table->head.nent * sizeof(table->entries[0]));
}
