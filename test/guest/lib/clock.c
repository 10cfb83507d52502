#include "test/guest/lib/clock.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"

/* Linux Documentation/virt/kvm/x86/{cpuid,msr}.rst */
#define KVM_LEAF_SIGNATURE 0x40000000u
#define KVM_LEAF_FEATURES  0x40000001u
#define KVM_CLOCKSOURCE2   (1u << 3)
#define MSR_KVM_CLOCK      0x4b564d01u

struct __attribute__((packed, aligned(64))) clock_page {
    uint32_t version; /* odd while KVM writes */
    uint32_t reserved;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul; /* 32.32 fixed point */
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t reserved2[2];
};

static volatile struct clock_page page;
static bool is_kvmclock;

void clock_init(void)
{
    if (!args_number("kvmclock", 1))
        return;
    const struct cpuid signature = cpuid(KVM_LEAF_SIGNATURE, 0);
    if (signature.ebx != 0x4b4d564b || !(cpuid(KVM_LEAF_FEATURES, 0).eax & KVM_CLOCKSOURCE2))
        return;
    msr_write(MSR_KVM_CLOCK, (uint64_t)&page | 1);
    is_kvmclock = page.tsc_to_system_mul != 0;
}

bool clock_is_kvmclock(void)
{
    return is_kvmclock;
}

uint64_t clock_ns(void)
{
    if (!is_kvmclock)
        return tsc_read();
    uint32_t version;
    uint64_t now;
    do {
        version = page.version & ~1u;
        barrier();
        const uint64_t tsc = tsc_read();
        /* Another socket's TSC may lag the timestamp a little: that is no time at all. */
        uint64_t delta = tsc > page.tsc_timestamp ? tsc - page.tsc_timestamp : 0;
        delta = page.tsc_shift < 0 ? delta >> -page.tsc_shift : delta << page.tsc_shift;
        now = page.system_time +
              (uint64_t)(((unsigned __int128)delta * page.tsc_to_system_mul) >> 32);
        barrier();
    } while (version != page.version);
    return now;
}
