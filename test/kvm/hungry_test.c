/* A guest that dirties memory faster than the link takes it, with staging memory far below its own:
 * it is throttled, stays protected all the time, and gets on. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "test/support/failover_pair.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define MEMORY  ((uint64_t)128 << 20)
#define STAGING ((size_t)32 << 20)

static const struct policy policy = {.kind = POLICY_PIPELINED,
                                     .interval = MSEC(20),
                                     .max_interval = MSEC(100),
                                     .window = 2,
                                     .dirty_budget = 16384,
                                     .staging_cap = SLAB_SIZE_MAX};

static struct engine_stats *snapshot(struct failover_pair *pair)
{
    static struct engine_stats stats;
    engine_snapshot(failover_pair_engine(pair), &stats);
    return &stats;
}

static void a_hungry_guest_stays_protected(const char *arguments, unsigned vcpus, unsigned delay)
{
    const struct failover_pair_config config = {.program = "pagewriter",
                                                .arguments = arguments,
                                                .memory = MEMORY,
                                                .vcpus = vcpus,
                                                .policy = policy,
                                                .staging = STAGING,
                                                .frame_delay_ms = delay};
    struct failover_pair *pair = failover_pair_create(&config);
    struct world *world = failover_pair_world(pair);
    failover_pair_protect(pair, NULL);
    const uint64_t before = snapshot(pair)->epochs_committed;
    const nsec_t deadline = clock_now() + SEC(60);
    unsigned throttled = 0, looks = 0;
    while (snapshot(pair)->epochs_committed < before + 200 && clock_now() < deadline) {
        const struct engine_stats *stats = snapshot(pair);
        CU_ASSERT_EQUAL_FATAL(stats->state, ENGINE_REPLICATING);
        throttled += stats->throttle_percent > 0;
        looks++;
        const struct timespec pace = {.tv_nsec = 1000000};
        nanosleep(&pace, NULL);
    }
    const struct engine_stats *stats = snapshot(pair);
    CU_ASSERT(stats->epochs_committed >= before + 200);
    CU_ASSERT_EQUAL(stats->overflows, 0);
    CU_ASSERT(stats->throttled > 0);
    CU_ASSERT(throttled > looks / 2);
    printf("\n    %s, %u ms a frame: throttled in %u of %u looks, %lld ms in all, %llu epochs of "
           "%llu pages ",
           arguments, delay, throttled, looks, (long long)(stats->throttled / MSEC(1)),
           (unsigned long long)stats->epochs_committed,
           (unsigned long long)(stats->dirty_total / stats->epochs_committed));
    /* Further rounds over all of it: output of the guest, so after commits. */
    guest_check_lines(world, "round=", 2);
    struct standby_takeover takeover;
    failover_pair_kill_primary(pair);
    failover_pair_promote(pair, &takeover);
    guest_check_lines(world, "round=", 2);
    guest_check_no_complaint(world);
    failover_pair_destroy(&pair);
}

static void one_vcpu_behind_a_slow_link(void)
{
    a_hungry_guest_stays_protected("pages=24576 report=1", 1, 10);
}

static void two_vcpus_behind_a_slow_link(void)
{
    a_hungry_guest_stays_protected("pages=24576 vcpus=2 report=1", 2, 5);
}

static const struct test_case cases[] = {
    {"one vCPU behind a slow link", one_vcpu_behind_a_slow_link},
    {"two vCPUs behind a slow link", two_vcpus_behind_a_slow_link},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "hungry", cases, ARRAY_SIZE(cases));
}
