/* state: fills the machine's registers with values it knows and looks for one that changed.
 *
 *   vcpus=N   (1)
 *   report=N  prints "round=R time=T" every N rounds of vCPU 0; 0: never (0)
 *   turns=N   how long a round holds the values, in loop turns (20000)
 *
 * Every vCPU, every round: general, x87, SSE and (where the CPU has it) AVX registers at CPL 3, and
 * FS and GS by what they point at. Every 16th round at CPL 0: what state_system.c lists. Values
 * differ from round to round and from vCPU to vCPU, so that stale and swapped ones show: "LOST
 * ...". */
#include "test/guest/state.h"

#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

#define GENERAL          16
#define VECTORS          16
#define X87              8

#define RCX              1 /* counts the turns */
#define RSP              4 /* points to the image */

#define CONTROL_DEFAULT  0x037f /* x87: all exceptions masked, extended precision */
#define CONTROL_ROUNDING 0x0c00
#define MXCSR_DEFAULT    0x1f80
#define MXCSR_ROUNDING   0x6000
#define SYSTEM_ROUNDS    16 /* of which one looks at CPL 0 */

/* Offsets are used by state_registers.S. */
struct register_image {
    uint64_t general[GENERAL];
    struct {
        uint64_t mantissa;
        uint16_t exponent;
        uint16_t unused[3];
    } x87[X87];
    uint64_t vector[VECTORS][4];
    uint32_t control, mxcsr;
    uint64_t saved_rsp, use_avx;
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct register_image, x87) == 128, "state_registers.S");
_Static_assert(offsetof(struct register_image, vector) == 256, "state_registers.S");
_Static_assert(offsetof(struct register_image, control) == 768, "state_registers.S");
_Static_assert(offsetof(struct register_image, use_avx) == 784, "state_registers.S");

void registers_hold(struct register_image *image, uint64_t turns, uint64_t use_avx);

static struct register_image images[GUEST_VCPUS_MAX], wanted[GUEST_VCPUS_MAX];
static unsigned vcpus;
static volatile unsigned ready;
static uint64_t turns, report;

static void fill(struct register_image *image, unsigned cpu, uint64_t round, bool avx)
{
    for (unsigned i = 0; i < GENERAL; i++)
        image->general[i] = state_value(cpu, round, i);
    for (unsigned i = 0; i < X87; i++) {
        image->x87[i].mantissa = state_value(cpu, round, 100 + i) | 1ull << 63;
        image->x87[i].exponent = (uint16_t)(0x3fff + i);
    }
    for (unsigned i = 0; i < VECTORS; i++)
        for (unsigned part = 0; part < (avx ? 4u : 2u); part++)
            image->vector[i][part] = state_value(cpu, round, 200 + 4 * i + part);
    image->control = CONTROL_DEFAULT | (round & 3) * (CONTROL_ROUNDING / 3);
    image->mxcsr = MXCSR_DEFAULT | (uint32_t)(round & 3) * (MXCSR_ROUNDING / 3);
}

static void compare(const struct register_image *want, const struct register_image *is,
                    unsigned cpu, uint64_t round)
{
    const uint64_t *a = (const uint64_t *)want, *b = (const uint64_t *)is;
    const unsigned words = offsetof(struct register_image, saved_rsp) / 8;
    for (unsigned i = 0; i < words; i++)
        if (i != RCX && i != RSP && a[i] != b[i])
            state_lost("register word", i, cpu, round, b[i], a[i]);
}

static void check_pointers(unsigned cpu, uint64_t round)
{
    uint64_t fs, gs;
    __asm__ volatile("mov %%fs:0, %0; mov %%gs:0, %1" : "=r"(fs), "=r"(gs));
    const struct state_pointers *want = state_pointers(cpu);
    if (fs != want->fs || gs != want->gs)
        state_lost("FS or GS base", 0, cpu, round, fs, want->fs);
}

static void run_rounds(void *argument)
{
    const unsigned cpu = (unsigned)(uintptr_t)argument;
    const bool avx = state_has_avx();
    uint64_t time = 0;
    for (uint64_t round = 1;; round++) {
        fill(&wanted[cpu], cpu, round, avx);
        images[cpu] = wanted[cpu];
        registers_hold(&images[cpu], turns, avx);
        compare(&wanted[cpu], &images[cpu], cpu, round);
        check_pointers(cpu, round);
        if (round % SYSTEM_ROUNDS == 0)
            supervisor_call(state_system_round, round << 8 | cpu);
        if (round == SYSTEM_ROUNDS && __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST) == vcpus)
            serial_print("ready vcpus=%u avx=%u\n", (uint64_t)vcpus, (uint64_t)avx);
        if (cpu == 0 && report && round % report == 0) {
            const uint64_t now = clock_ns();
            if (now < time)
                serial_print("BACKWARDS from=%u to=%u\n", time, now);
            time = now;
            serial_print("round=%u time=%u\n", round, now);
        }
    }
}

static void __attribute__((noreturn)) start_vcpu(unsigned cpu)
{
    state_system_prepare(cpu);
    runtime_user(cpu, run_rounds, (void *)(uintptr_t)cpu);
}

void guest_main(void)
{
    vcpus = (unsigned)args_number("vcpus", 1);
    report = args_number("report", 0);
    turns = args_number("turns", 20000);
    if (!vcpus || vcpus > GUEST_VCPUS_MAX || !turns)
        runtime_fail("vcpus or turns is out of range");
    clock_init();
    state_devices_prepare();
    runtime_start_vcpus(vcpus, start_vcpu);
    start_vcpu(0);
}
