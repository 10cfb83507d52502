/* The CPL 0 half of the state guest: control, debug and model-specific registers, the local APIC,
 * and, on vCPU 0, the devices that keep what is written to them.
 *
 * Each item is written with a value of its own, read back, and the value *read* is what must be
 * found later: what a register does not keep from the start is none of our business. MSRs that
 * fault are skipped from then on. */
#include "test/guest/state.h"

#include "test/guest/lib/apic.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/ioapic.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

#define CR4_OSFXSR         (1u << 9)
#define CR4_OSXMMEXCPT     (1u << 10)
#define CR4_OSXSAVE        (1u << 18)

#define CR4_DE             (1u << 3)
#define CPUID_1_XSAVE      (1u << 26)
#define CPUID_1_AVX        (1u << 28)
#define XCR0_AVX           7u

#define VECTOR_GP          13

#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define CANONICAL          0x00007fffffffffffull
#define APIC_LVT_FREE_BITS 0xffu /* the vector */

struct item {
    const char *name;
    uint64_t (*get)(uint32_t index);
    void (*set)(uint32_t index, uint64_t value);
    uint32_t index;
    uint64_t fixed;  /* bits always set */
    uint64_t free;   /* bits that take any value */
    bool first_only; /* one for the whole machine: vCPU 0 looks after it */
};

static bool avx_enabled;
static volatile bool faulted[GUEST_VCPUS_MAX];
static struct state_pointers pointers[GUEST_VCPUS_MAX];

static unsigned this_vcpu(void)
{
    return apic_read(APIC_ID) >> 24;
}

/* rdmsr and wrmsr are two bytes long: step over the one that faulted. */
static void on_protection_fault(struct trap_frame *frame)
{
    const uint8_t *code = (const uint8_t *)frame->rip;
    if (frame->cs != SELECTOR_KERNEL_CODE || code[0] != 0x0f ||
        (code[1] != 0x30 && code[1] != 0x32)) {
        serial_break_lock();
        serial_print("\nEXCEPTION vector=%u error=%x rip=%x\n", frame->vector, frame->error,
                     frame->rip);
        cpu_stop();
    }
    faulted[this_vcpu()] = true;
    frame->rip += 2;
}

static uint64_t get_cr(uint32_t index)
{
    uint64_t value;
    switch (index) {
    case 0:
        __asm__ volatile("mov %%cr0, %0" : "=r"(value));
        break;
    case 2:
        __asm__ volatile("mov %%cr2, %0" : "=r"(value));
        break;
    default:
        __asm__ volatile("mov %%cr4, %0" : "=r"(value));
        break;
    }
    return value;
}

static void set_cr(uint32_t index, uint64_t value)
{
    switch (index) {
    case 0:
        __asm__ volatile("mov %0, %%cr0" : : "r"(value));
        break;
    case 2:
        __asm__ volatile("mov %0, %%cr2" : : "r"(value));
        break;
    default:
        __asm__ volatile("mov %0, %%cr4" : : "r"((get_cr(4) & ~(uint64_t)CR4_DE) | value));
        break;
    }
}

static uint64_t get_dr(uint32_t index)
{
    uint64_t value;
    switch (index) {
    case 0:
        __asm__ volatile("mov %%dr0, %0" : "=r"(value));
        break;
    case 1:
        __asm__ volatile("mov %%dr1, %0" : "=r"(value));
        break;
    case 2:
        __asm__ volatile("mov %%dr2, %0" : "=r"(value));
        break;
    default:
        __asm__ volatile("mov %%dr3, %0" : "=r"(value));
        break;
    }
    return value;
}

static void set_dr(uint32_t index, uint64_t value)
{
    switch (index) {
    case 0:
        __asm__ volatile("mov %0, %%dr0" : : "r"(value));
        break;
    case 1:
        __asm__ volatile("mov %0, %%dr1" : : "r"(value));
        break;
    case 2:
        __asm__ volatile("mov %0, %%dr2" : : "r"(value));
        break;
    default:
        __asm__ volatile("mov %0, %%dr3" : : "r"(value));
        break;
    }
}

static uint64_t get_apic(uint32_t index)
{
    return apic_read(index);
}

static void set_apic(uint32_t index, uint64_t value)
{
    apic_write(index, (uint32_t)value);
}

static uint64_t get_ioapic(uint32_t index)
{
    return ioapic_read(index);
}

static void set_ioapic(uint32_t index, uint64_t value)
{
    ioapic_write(index, (uint32_t)value);
}

static uint64_t get_port(uint32_t index)
{
    return port_in8((uint16_t)index);
}

static void set_port(uint32_t index, uint64_t value)
{
    port_out8((uint16_t)index, (uint8_t)value);
}

#define MSR(n, index, free)                                                                        \
    {                                                                                              \
        n, msr_read, msr_write, index, 0, free, false                                              \
    }
#define APIC(n, index, fix, free)                                                                  \
    {                                                                                              \
        n, get_apic, set_apic, index, fix, free, false                                             \
    }
#define PIN(n)                                                                                     \
    {"IOAPIC entry", get_ioapic, set_ioapic, IOAPIC_ENTRY(n), IOAPIC_MASKED, 0xff, true},          \
    {                                                                                              \
        "IOAPIC target", get_ioapic, set_ioapic, IOAPIC_ENTRY(n) + 1, 0, 0xff000000, true          \
    }

static const struct item items[] = {
    {"CR2", get_cr, set_cr, 2, 0, CANONICAL, false},
    {"CR4", get_cr, set_cr, 4, 0, CR4_DE, false},
    {"DR0", get_dr, set_dr, 0, 0, CANONICAL, false},
    {"DR1", get_dr, set_dr, 1, 0, CANONICAL, false},
    {"DR2", get_dr, set_dr, 2, 0, CANONICAL, false},
    {"DR3", get_dr, set_dr, 3, 0, CANONICAL, false},
    MSR("SYSENTER_CS", 0x174, 0xfffc),
    MSR("SYSENTER_ESP", 0x175, 0x7fffffff), /* AMD keeps 32 bits */
    MSR("SYSENTER_EIP", 0x176, 0x7fffffff),
    MSR("STAR", 0xc0000081, 0xfffcfffc00000000),
    MSR("LSTAR", 0xc0000082, CANONICAL),
    MSR("CSTAR", 0xc0000083, CANONICAL),
    MSR("SFMASK", 0xc0000084, 0x47700),
    MSR("KERNEL_GS_BASE", 0xc0000102, CANONICAL),
    MSR("TSC_AUX", 0xc0000103, 0xffffffff),
    MSR("PAT", 0x277, 0x0101010101010101), /* each type 0 or 1 */
    MSR("MTRR fixed 64K", 0x250, 0x0404040404040404),
    APIC("APIC task priority", APIC_TASK_PRIORITY, 0, 0xf0),
    APIC("APIC logical id", APIC_LOGICAL_ID, 0, 0xff000000),
    APIC("APIC spurious", APIC_SPURIOUS, 0x10f, 0xf0),
    APIC("APIC LINT0", APIC_LINT0, APIC_MASKED | 0x10, APIC_LVT_FREE_BITS),
    APIC("APIC LINT1", APIC_LINT1, APIC_MASKED | 0x10, APIC_LVT_FREE_BITS),
    APIC("APIC error", APIC_ERROR, APIC_MASKED | 0x10, APIC_LVT_FREE_BITS),
    APIC("APIC timer", APIC_TIMER, APIC_MASKED | 0x10, APIC_LVT_FREE_BITS | APIC_TIMER_PERIODIC),
    APIC("APIC divide", APIC_TIMER_DIVIDE, 0, 0xb),
    APIC("APIC command", APIC_COMMAND_HIGH, 0, 0xff000000),
    PIN(16),
    PIN(19),
    PIN(23),
    {"PIC 1 mask", get_port, set_port, 0x21, 0, 0xff, true},
    {"PIC 2 mask", get_port, set_port, 0xa1, 0, 0xff, true},
    {"serial scratch", get_port, set_port, SERIAL_PORT + 7, 0, 0xff, true},
    {"serial modem control", get_port, set_port, SERIAL_PORT + 4, 0, 0x07, true},
};

#define ITEMS (sizeof(items) / sizeof(items[0]))

static struct expectation {
    uint64_t value;
    bool known, absent;
} expected[GUEST_VCPUS_MAX][ITEMS];

uint64_t state_value(unsigned cpu, uint64_t round, unsigned place)
{
    uint64_t x = round * 0x9e3779b97f4a7c15ull + ((uint64_t)cpu << 32 | place) + 1;
    x ^= x >> 31;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 29;
}

void state_lost(const char *what, uint64_t index, unsigned cpu, uint64_t round, uint64_t is,
                uint64_t want)
{
    serial_print("LOST %s index=%x vcpu=%u round=%u is=%x want=%x\n", what, index, (uint64_t)cpu,
                 round, is, want);
    runtime_fail("a register has changed");
}

bool state_has_avx(void)
{
    return avx_enabled;
}

const struct state_pointers *state_pointers(unsigned cpu)
{
    return &pointers[cpu];
}

void state_devices_prepare(void)
{
    runtime_set_handler(VECTOR_GP, on_protection_fault);
    const uint32_t features = cpuid(1, 0).ecx;
    avx_enabled = args_number("avx", 1) && (features & CPUID_1_XSAVE) && (features & CPUID_1_AVX);
}

void state_system_prepare(unsigned cpu)
{
    apic_enable();
    uint64_t cr0 = get_cr(0);
    cr0 = (cr0 & ~(uint64_t)0xc) | 0x22; /* no TS, no EM; MP, NE */
    set_cr(0, cr0);
    const uint64_t cr4 = get_cr(4) | CR4_OSFXSR | CR4_OSXMMEXCPT | (avx_enabled ? CR4_OSXSAVE : 0);
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
    if (avx_enabled)
        __asm__ volatile("xsetbv" : : "c"(0), "a"(XCR0_AVX), "d"(0));
    state_system_round(cpu);
}

static void point_segments(unsigned cpu, uint64_t round)
{
    struct state_pointers *p = &pointers[cpu];
    p->fs = state_value(cpu, round, 300);
    p->gs = state_value(cpu, round, 301);
    msr_write(MSR_FS_BASE, (uint64_t)&p->fs);
    msr_write(MSR_GS_BASE, (uint64_t)&p->gs);
}

uint64_t state_system_round(uint64_t argument)
{
    const unsigned cpu = argument & 0xff;
    const uint64_t round = argument >> 8;
    for (unsigned i = 0; i < ITEMS; i++) {
        const struct item *item = &items[i];
        struct expectation *e = &expected[cpu][i];
        if (e->absent || (item->first_only && cpu != 0))
            continue;
        const uint64_t is = e->known ? item->get(item->index) : 0;
        if (e->known && is != e->value)
            state_lost(item->name, item->index, cpu, round, is, e->value);
        faulted[cpu] = false;
        item->set(item->index, item->fixed | (state_value(cpu, round, 400 + i) & item->free));
        e->value = item->get(item->index);
        e->known = true;
        e->absent = faulted[cpu];
    }
    point_segments(cpu, round);
    return 0;
}
