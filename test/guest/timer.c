/* timer: lives on interrupts, at CPL 0, and sleeps between them.
 *
 *   hz=N      ticks per second of the LAPIC timer (every vCPU) and of the PIT (100)
 *   vcpus=N   (1)
 *   report=N  prints "tick lapic=L pit=P ipi=I time=T" every N LAPIC ticks of vCPU 0 (100)
 *
 * Says "ready" once both timers have ticked. The PIT arrives through the IOAPIC; every tick of vCPU
 * 0 sends each other vCPU an interprocessor interrupt unless one is unanswered; a received serial
 * byte interrupts and is answered by "input=C".
 *
 * On every wake time and TSC are compared with the last ones of that vCPU: "BACKWARDS ...". A
 * source that is silent while another one ticks SILENCE times has lost its interrupt: "LOST ...".
 */
#include "test/guest/lib/apic.h"
#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/ioapic.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

#define VECTOR_LAPIC  (VECTOR_IRQ_BASE + 0)
#define VECTOR_PIT    (VECTOR_IRQ_BASE + 1)
#define VECTOR_SERIAL (VECTOR_IRQ_BASE + 2)
#define VECTOR_IPI    (VECTOR_IRQ_BASE + 3)

#define PIN_SERIAL    4
/* Machines wire the PIT to pin 2 (with an override in the MADT) or to pin 0. */
#define PIN_PIT          2
#define PIN_PIT_IDENTITY 0

#define PIT_HZ           1193182u
#define PIT_DATA         0x40
#define PIT_MODE         0x43
#define PIT_RATE_MODE    0x34 /* channel 0, both bytes, rate generator */
#define PIC_MASK_1       0x21
#define PIC_MASK_2       0xa1

/* Ticks of one source without any of another. A KVM PIT makes up for ticks it could not deliver, in
 * a burst as long as the guest stood still: this is 20 s at 100 Hz. */
#define SILENCE 2000

struct vcpu {
    volatile uint64_t lapic;           /* ticks */
    uint64_t tsc, time;                /* last seen */
    volatile uint64_t asked, answered; /* interprocessor interrupts */
    uint64_t unanswered;               /* ticks of vCPU 0 since `asked` was last answered */
} __attribute__((aligned(64)));

static struct vcpu state[GUEST_VCPUS_MAX];
static volatile uint64_t pit, input;
static uint64_t lapic_at_pit, pit_at_lapic; /* counts of the other when one last ticked */
static unsigned vcpus;
static uint64_t hz, report;

static unsigned this_vcpu(void)
{
    return apic_read(APIC_ID) >> 24;
}

static void on_lapic(struct trap_frame *frame)
{
    (void)frame;
    const unsigned self = this_vcpu();
    state[self].lapic++;
    if (self == 0)
        pit_at_lapic = pit;
    apic_end();
}

static void on_pit(struct trap_frame *frame)
{
    (void)frame;
    pit++;
    lapic_at_pit = state[0].lapic;
    apic_end();
}

static void on_ipi(struct trap_frame *frame)
{
    (void)frame;
    struct vcpu *vcpu = &state[this_vcpu()];
    vcpu->answered = vcpu->asked;
    apic_end();
}

static void on_serial(struct trap_frame *frame)
{
    (void)frame;
    for (int c = serial_get(); c >= 0; c = serial_get())
        input = input << 8 | (uint8_t)c | 1ull << 63;
    apic_end();
}

static void start_lapic_timer(void)
{
    apic_enable();
    apic_start_timer(VECTOR_LAPIC, 1000000000 / hz);
}

static void start_pit(void)
{
    const uint32_t divisor = (uint32_t)(PIT_HZ / hz);
    port_out8(PIC_MASK_1, 0xff); /* the IOAPIC alone */
    port_out8(PIC_MASK_2, 0xff);
    port_out8(PIT_MODE, PIT_RATE_MODE);
    port_out8(PIT_DATA, (uint8_t)divisor);
    port_out8(PIT_DATA, (uint8_t)(divisor >> 8));
    ioapic_route(PIN_PIT, VECTOR_PIT, 0);
    ioapic_route(PIN_PIT_IDENTITY, VECTOR_PIT, 0);
}

static void check_time(struct vcpu *vcpu)
{
    const uint64_t tsc = tsc_read(), time = clock_ns();
    if (tsc < vcpu->tsc || time < vcpu->time) {
        serial_print("BACKWARDS vcpu=%u tsc=%u after %u time=%u after %u\n",
                     (uint64_t)(vcpu - state), tsc, vcpu->tsc, time, vcpu->time);
        runtime_fail("time went back");
    }
    vcpu->tsc = tsc;
    vcpu->time = time;
}

static void check_sources(void)
{
    if (pit - pit_at_lapic > SILENCE || state[0].lapic - lapic_at_pit > SILENCE) {
        serial_print("LOST timer: lapic=%u pit=%u\n", state[0].lapic, pit);
        runtime_fail("a timer does not interrupt any more");
    }
}

static void ask_others(void)
{
    for (unsigned cpu = 1; cpu < vcpus; cpu++) {
        struct vcpu *other = &state[cpu];
        if (other->answered == other->asked) {
            other->asked++;
            other->unanswered = 0;
            apic_send(cpu, VECTOR_IPI);
        } else if (++other->unanswered > SILENCE) {
            serial_print("LOST interprocessor interrupt to vcpu=%u\n", (uint64_t)cpu);
            runtime_fail("a vCPU does not answer");
        }
    }
}

static void sleep(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void run_vcpu(unsigned cpu)
{
    start_lapic_timer();
    for (;;) {
        sleep();
        check_time(&state[cpu]);
    }
}

static void report_progress(void)
{
    uint64_t answered = 0;
    for (unsigned cpu = 1; cpu < vcpus; cpu++)
        answered += state[cpu].answered;
    serial_print("tick lapic=%u pit=%u ipi=%u time=%u\n", state[0].lapic, pit, answered,
                 state[0].time);
}

static void __attribute__((noreturn)) run_first_vcpu(void)
{
    bool ready = false;
    for (uint64_t seen = 0;;) {
        sleep();
        check_time(&state[0]);
        check_sources();
        if (input) {
            char text[2] = {(char)(input & 0x7f), '\0'};
            input = 0;
            serial_print("input=%s\n", text);
        }
        if (state[0].lapic == seen)
            continue;
        seen = state[0].lapic;
        ask_others();
        if (!ready && pit) {
            ready = true;
            serial_print("ready vcpus=%u kvmclock=%u\n", (uint64_t)vcpus,
                         (uint64_t)clock_is_kvmclock());
        }
        if (report && seen % report == 0)
            report_progress();
    }
}

void guest_main(void)
{
    hz = args_number("hz", 100);
    vcpus = (unsigned)args_number("vcpus", 1);
    report = args_number("report", 100);
    if (!hz || hz > 10000 || !vcpus || vcpus > GUEST_VCPUS_MAX)
        runtime_fail("hz or vcpus is out of range");
    runtime_set_handler(VECTOR_LAPIC, on_lapic);
    runtime_set_handler(VECTOR_PIT, on_pit);
    runtime_set_handler(VECTOR_SERIAL, on_serial);
    runtime_set_handler(VECTOR_IPI, on_ipi);
    clock_init();
    runtime_start_vcpus(vcpus, run_vcpu);
    start_lapic_timer();
    start_pit();
    ioapic_route(PIN_SERIAL, VECTOR_SERIAL, 0);
    serial_enable_interrupt();
    run_first_vcpu();
}
