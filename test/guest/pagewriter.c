/* pagewriter: dirties pages in rounds and proves by itself that none was lost.
 *
 *   pages=N     pages stamped per round (256), divided among the vCPUs
 *   static=N    further pages behind them, stamped once and verified one per round (0)
 *   base= stride= fill=   where and how, see lib/stamp.h
 *   vcpus=N     vCPUs that write (1)
 *   rate=N      rounds per second and vCPU; 0: as fast as possible (0)
 *   report=N    prints "round=R time=T" every N rounds of vCPU 0; 0: never (0)
 *
 * Says "ready" when every vCPU has finished round 1. In round r a vCPU finds each of its pages at
 * exactly r-1 before it writes r; after a round it samples its neighbour's pages, which must lie
 * within the rounds the neighbour announced before and after. Anything else is "CORRUPT ...", and
 * that vCPU stops; the others see it and stop as well. Time that goes back is "BACKWARDS ...". */
#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"
#include "test/guest/lib/stamp.h"

#define SAMPLES 4 /* neighbour's pages looked at per round */

struct writer {
    volatile uint64_t round; /* in progress or done */
    uint64_t first, last;    /* its pages */
} __attribute__((aligned(64)));

static struct writer writers[GUEST_VCPUS_MAX];
static unsigned vcpus;
static struct stamp_area area, still;
static uint64_t period_ns, report;
static volatile bool stopped;
static volatile unsigned ready;

static void __attribute__((noreturn)) stop_all(const char *why)
{
    stopped = true;
    runtime_fail(why);
}

/* The neighbour announces a round before it writes its first page, so a page lies between the round
 * before the one announced earlier and the one announced later. */
static void check_neighbour(unsigned self, uint64_t round)
{
    const unsigned neighbour = (self + 1) % vcpus;
    const struct writer *other = &writers[neighbour];
    const uint64_t pages = other->last - other->first;
    for (uint64_t i = 0; vcpus > 1 && pages && i < SAMPLES; i++) {
        const uint64_t page = stamp_page(&area, other->first + (round * SAMPLES + i) % pages);
        const uint64_t before = other->round;
        const uint64_t seen = *(const volatile uint64_t *)page;
        const uint64_t after = other->round;
        if (before > 1 && (seen + 1 < before || seen > after)) {
            serial_print("CORRUPT page=%x of vcpu=%u round=%u want=%u-%u\n", page,
                         (uint64_t)neighbour, seen, before - 1, after);
            stop_all("a neighbour's page is of another moment");
        }
    }
}

static void wait_until(uint64_t *next)
{
    if (!period_ns)
        return;
    *next += period_ns;
    while (clock_ns() < *next && !stopped)
        cpu_relax();
}

static void report_progress(uint64_t round, uint64_t *last_time)
{
    const uint64_t now = clock_ns();
    if (now < *last_time) {
        serial_print("BACKWARDS from=%u to=%u\n", *last_time, now);
        stop_all("time went back");
    }
    *last_time = now;
    if (report && round % report == 0)
        serial_print("round=%u time=%u\n", round, now);
}

static void write_rounds(void *argument)
{
    const unsigned self = (unsigned)(uintptr_t)argument;
    struct writer *writer = &writers[self];
    uint64_t next = clock_ns(), time = 0;
    for (uint64_t i = 0; self == 0 && i < still.count; i++)
        stamp_write(&still, i, 1);
    for (uint64_t round = 1; !stopped; round++) {
        writer->round = round;
        if (!stamp_round(&area, writer->first, writer->last, round))
            stop_all("a page is of another round");
        if (round == 1 && __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST) == vcpus)
            serial_print("ready pages=%u vcpus=%u kvmclock=%u\n", area.count, (uint64_t)vcpus,
                         (uint64_t)clock_is_kvmclock());
        if (self == 0) {
            if (still.count && !stamp_check(&still, round % still.count, 1, 1))
                stop_all("a page nobody writes has changed");
            report_progress(round, &time);
        }
        check_neighbour(self, round);
        wait_until(&next);
    }
    runtime_fail("another vCPU stopped");
}

static void __attribute__((noreturn)) start_vcpu(unsigned cpu)
{
    runtime_user(cpu, write_rounds, (void *)(uintptr_t)cpu);
}

void guest_main(void)
{
    const uint64_t moving = args_number("pages", 256);
    still.count = args_number("static", 0);
    area = stamp_area_from_args(moving + still.count);
    area.count = moving;
    still.base = stamp_page(&area, moving);
    still.stride = area.stride;
    still.fill = area.fill;
    const uint64_t rate = args_number("rate", 0);
    period_ns = rate ? 1000000000 / rate : 0;
    report = args_number("report", 0);
    vcpus = (unsigned)args_number("vcpus", 1);
    if (!vcpus || vcpus > GUEST_VCPUS_MAX)
        runtime_fail("vcpus is out of range");
    for (unsigned cpu = 0; cpu < vcpus; cpu++) {
        writers[cpu].first = moving * cpu / vcpus;
        writers[cpu].last = moving * (cpu + 1) / vcpus;
    }
    clock_init();
    runtime_start_vcpus(vcpus, start_vcpu);
    start_vcpu(0);
}
