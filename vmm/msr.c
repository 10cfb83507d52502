#include "vmm/msr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

int msr_read(int vcpu_fd, uint32_t index, uint64_t *value)
{
    struct one_msr m = {.head = {.nmsrs = 1}, .entry = {.index = index}};
    const int rc = ioctl(vcpu_fd, KVM_GET_MSRS, &m);
    if (rc != 1)
        return rc < 0 ? -errno : -EINVAL;
    *value = m.entry.data;
    return 0;
}

int msr_write(int vcpu_fd, uint32_t index, uint64_t value)
{
    struct one_msr m = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = value}};
    const int rc = ioctl(vcpu_fd, KVM_SET_MSRS, &m);
    if (rc != 1)
        return rc < 0 ? -errno : -EINVAL;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Performance counters are switched off (kvm.c). A KVM that lists their MSRs all the same reads
 * them as zero; two dozen of them in every checkpoint would cost more than all the others. */
static bool is_counter(uint32_t index)
{
    return (index >= 0xc1 && index <= 0xc8) ||             /* IA32_PMCn */
           (index >= 0x186 && index <= 0x18d) ||           /* IA32_PERFEVTSELn */
           (index >= 0x309 && index <= 0x30c) ||           /* IA32_FIXED_CTRn */
           (index >= 0x38d && index <= 0x391) ||           /* IA32_FIXED_CTR_CTRL.. */
           index == 0x3f1 || index == 0x3f2 ||             /* IA32_PEBS_ENABLE, PEBS_DATA_CFG */
           index == 0x600 ||                               /* IA32_DS_AREA */
           index == 0x345 ||                               /* IA32_PERF_CAPABILITIES */
           (index >= 0xc0010000 && index <= 0xc0010007) || /* K7 */
           (index >= 0xc0010200 && index <= 0xc001020b) || /* F15h */
           (index >= 0xc0000300 && index <= 0xc0000303);   /* PerfMonV2 */
}

/* The Hyper-V interface, which our CPUID does not offer. KVM lists its MSRs on every host. */
static bool is_hyperv(uint32_t index)
{
    return index >= 0x40000000 && index <= 0x400001ff;
}

static bool belongs(int vcpu_fd, uint32_t index)
{
    uint64_t value = 0;
    if (index == MSR_TSC || index == MSR_TSC_DEADLINE || is_counter(index) || is_hyperv(index))
        return false;
    /* The old numbers of the paravirtual clock are aliases of the new ones, which are listed too;
     * writing both would let the one that is written last win. */
    if (index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_SYSTEM_TIME)
        return false;
    return msr_read(vcpu_fd, index, &value) == 0 && msr_write(vcpu_fd, index, value) == 0;
}

/* MTRRs: KVM keeps them and does not list them. A guest that reads back what it wrote must find it
 * after a failover as well. Returns the new count. */
static uint32_t add_memory_types(uint32_t *indices, uint32_t count)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x200, 0x20f}, {0x250, 0x250}, {0x258, 0x259}, {0x268, 0x26f}, {0x2ff, 0x2ff}};
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        for (uint32_t n = ranges[i].first; n <= ranges[i].last && count < MSR_COUNT_MAX; n++)
            indices[count++] = n;
    return count;
}

int msr_list_probe(const struct kvm_host *host, int vcpu_fd, struct msr_list *out,
                   struct error *err)
{
    struct kvm_msr_list *raw = calloc(1, sizeof(*raw) + MSR_COUNT_MAX * sizeof(uint32_t));
    if (!raw)
        return error_set(err, -ENOMEM, "KVM: out of memory");
    raw->nmsrs = MSR_COUNT_MAX;
    const int rc = kvm_ioctl(host->fd, KVM_GET_MSR_INDEX_LIST, raw, "KVM_GET_MSR_INDEX_LIST", err);
    if (rc < 0) {
        free(raw);
        return rc;
    }
    raw->nmsrs = add_memory_types(raw->indices, raw->nmsrs);
    qsort(raw->indices, raw->nmsrs, sizeof(uint32_t), compare);
    out->count = 0;
    for (uint32_t i = 0; i < raw->nmsrs; i++)
        if ((i == 0 || raw->indices[i] != raw->indices[i - 1]) && belongs(vcpu_fd, raw->indices[i]))
            out->indices[out->count++] = raw->indices[i];
    free(raw);
    return 0;
}
