/* What a guest does to its own life while it is protected: each kind of reset, a panic, a
 * power-off, with the primary killed right after it, and later. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "test/support/failover_pair.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define WAIT_MS 60000
#define ROUNDS  3

static const struct failover_pair_config config = {.program = "power",
                                                   .arguments = "",
                                                   .memory = (uint64_t)32 << 20,
                                                   .vcpus = 1,
                                                   .policy = {.kind = POLICY_PIPELINED,
                                                              .interval = MSEC(5),
                                                              .max_interval = MSEC(10),
                                                              .window = 2,
                                                              .dirty_budget = 1024,
                                                              .staging_cap = SLAB_SIZE_MAX}};

static void fail_over(struct failover_pair *pair)
{
    struct standby_takeover takeover;
    failover_pair_kill_primary(pair);
    failover_pair_promote(pair, &takeover);
    CU_ASSERT(takeover.epoch > 0);
}

/* Typed again and again: a guest that still has its reset before it takes what was typed with it.
 */
static void expect_answers(struct failover_pair *pair, size_t *seen)
{
    const nsec_t deadline = clock_now() + SEC(60);
    bool answered = false;
    /* What was answered before does not count. */
    *seen = world_console_size(failover_pair_world(pair));
    while (!answered && clock_now() < deadline) {
        failover_pair_type(pair, 'x');
        answered = world_wait_console(failover_pair_world(pair), "input=x", seen, 100);
    }
    CU_ASSERT_TRUE_FATAL(answered);
}

/* `at_once`: the primary is killed when the guest has reset, whether or not that is committed. */
static void survive_resets(char order, bool at_once)
{
    struct failover_pair *pair = failover_pair_create(&config);
    struct world *world = failover_pair_world(pair);
    size_t seen = 0;
    unsigned resets = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        failover_pair_protect(pair, NULL);
        expect_answers(pair, &seen);
        failover_pair_type(pair, order);
        CU_ASSERT_TRUE_FATAL(world_wait_event(world, MACHINE_EVENT_RESET, ++resets, WAIT_MS));
        if (!at_once)
            CU_ASSERT_TRUE_FATAL(world_wait_console(world, "ready boot", &seen, WAIT_MS));
        static struct engine_stats stats;
        engine_snapshot(failover_pair_engine(pair), &stats);
        CU_ASSERT_EQUAL(stats.state, ENGINE_REPLICATING);
        CU_ASSERT_EQUAL(stats.overflows, 0);
        fail_over(pair);
        expect_answers(pair, &seen);
        guest_check_no_complaint(world);
        /* One that was not committed happens once more. */
        while (world_wait_event(world, MACHINE_EVENT_RESET, resets + 1, 0))
            resets++;
    }
    failover_pair_destroy(&pair);
}

static void a_reset_is_committed_like_anything_else(void)
{
    survive_resets('r', false);
    survive_resets('k', false);
    survive_resets('t', false);
    survive_resets('c', false);
}

static void a_death_right_after_a_reset_loses_nothing(void)
{
    survive_resets('r', true);
    survive_resets('k', true);
    survive_resets('t', true);
    survive_resets('c', true);
}

/* What is committed is that the guest is off: whoever takes over must find it so, and say so. */
static void stay_off(char order, enum machine_panic_policy on_panic, unsigned panics)
{
    struct failover_pair_config mortal = config;
    mortal.on_panic = on_panic;
    struct failover_pair *pair = failover_pair_create(&mortal);
    struct world *world = failover_pair_world(pair);
    size_t seen = 0;
    failover_pair_protect(pair, NULL);
    expect_answers(pair, &seen);
    failover_pair_type(pair, order);
    CU_ASSERT_TRUE_FATAL(world_wait_event(world, MACHINE_EVENT_POWER_OFF, 1, WAIT_MS));
    CU_ASSERT_TRUE(world_wait_event(world, MACHINE_EVENT_PANICKED, panics, 0));
    failover_pair_settle(pair);
    const size_t said = world_console_size(world);
    fail_over(pair);
    CU_ASSERT_TRUE(world_wait_event(world, MACHINE_EVENT_POWER_OFF, 2, WAIT_MS));
    failover_pair_type(pair, 'x');
    CU_ASSERT_FALSE(world_wait_event(world, MACHINE_EVENT_RESET, 1, 100));
    CU_ASSERT_EQUAL(world_console_size(world), said);
    failover_pair_destroy(&pair);
}

static void a_guest_that_is_off_stays_off(void)
{
    stay_off('p', MACHINE_PANIC_RESTART, 0);
}

static void a_panic_can_be_the_end(void)
{
    stay_off('c', MACHINE_PANIC_STOP, 1);
}

/* Restarted twice, as configured, and not for ever. */
static void a_guest_that_panics_whenever_it_starts_is_stopped(void)
{
    struct failover_pair_config mortal = config;
    mortal.panic_limit = (struct panic_limit){.restarts = 2, .window = SEC(3600)};
    struct failover_pair *pair = failover_pair_create(&mortal);
    struct world *world = failover_pair_world(pair);
    size_t seen = 0;
    failover_pair_protect(pair, NULL);
    for (unsigned restarts = 1; restarts <= 2; restarts++) {
        expect_answers(pair, &seen);
        failover_pair_type(pair, 'c');
        CU_ASSERT_TRUE_FATAL(world_wait_event(world, MACHINE_EVENT_RESET, restarts, WAIT_MS));
        CU_ASSERT_TRUE_FATAL(world_wait_console(world, "ready boot", &seen, WAIT_MS));
    }
    expect_answers(pair, &seen);
    failover_pair_type(pair, 'c');
    CU_ASSERT_TRUE_FATAL(world_wait_event(world, MACHINE_EVENT_POWER_OFF, 1, WAIT_MS));
    CU_ASSERT_TRUE(world_wait_event(world, MACHINE_EVENT_PANICKED, 3, 0));
    CU_ASSERT_FALSE(world_wait_event(world, MACHINE_EVENT_RESET, 3, 0));
    failover_pair_destroy(&pair);
}

/* A crash kernel is left to its work whatever the policy. */
static void a_crash_kernel_goes_on(void)
{
    struct failover_pair *pair = failover_pair_create(&config);
    struct world *world = failover_pair_world(pair);
    size_t seen = 0;
    failover_pair_protect(pair, NULL);
    expect_answers(pair, &seen);
    failover_pair_type(pair, 'l');
    CU_ASSERT_TRUE_FATAL(world_wait_event(world, MACHINE_EVENT_CRASH_LOADED, 1, WAIT_MS));
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "crash kernel", &seen, WAIT_MS));
    fail_over(pair);
    expect_answers(pair, &seen);
    CU_ASSERT_FALSE(world_wait_event(world, MACHINE_EVENT_RESET, 1, 0));
    CU_ASSERT_FALSE(world_wait_event(world, MACHINE_EVENT_PANICKED, 1, 0));
    failover_pair_destroy(&pair);
}

/* Nothing to say, and a longest interval that never passes here: no epoch is cut, the guest stays
 * protected, and goes on where it stood. */
static void a_silent_guest_costs_no_epochs(void)
{
    struct failover_pair_config silent = config;
    silent.policy.max_interval = SEC(60);
    struct failover_pair *pair = failover_pair_create(&silent);
    static struct engine_stats before, after;
    size_t seen = 0;
    failover_pair_protect(pair, NULL);
    expect_answers(pair, &seen);
    /* The last answers may still be on their way. */
    const nsec_t deadline = clock_now() + SEC(60);
    bool silence = false;
    while (!silence && clock_now() < deadline) {
        engine_snapshot(failover_pair_engine(pair), &before);
        world_wait_console(failover_pair_world(pair), "ready boot", &seen, 1000);
        engine_snapshot(failover_pair_engine(pair), &after);
        silence = after.next_epoch == before.next_epoch;
    }
    CU_ASSERT_TRUE(silence);
    CU_ASSERT_EQUAL(after.state, ENGINE_REPLICATING);
    CU_ASSERT_EQUAL(after.throttle_percent, 0);
    fail_over(pair);
    expect_answers(pair, &seen);
    failover_pair_destroy(&pair);
}

static const struct test_case cases[] = {
    {"a reset is committed like anything else", a_reset_is_committed_like_anything_else},
    {"a death right after a reset loses nothing", a_death_right_after_a_reset_loses_nothing},
    {"a guest that is off stays off", a_guest_that_is_off_stays_off},
    {"a panic can be the end", a_panic_can_be_the_end},
    {"a guest that panics whenever it starts is stopped",
     a_guest_that_panics_whenever_it_starts_is_stopped},
    {"a crash kernel goes on", a_crash_kernel_goes_on},
    {"a silent guest costs no epochs", a_silent_guest_costs_no_epochs},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "life", cases, ARRAY_SIZE(cases));
}
