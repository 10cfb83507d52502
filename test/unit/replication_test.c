/* Engine and standby, connected, with a machine whose exact memory is known: promises P1 and P3 at
 * whatever moment the primary dies. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/engine.h"
#include "secondary/standby.h"
#include "test/support/fake_machine.h"
#include "test/support/fault_link.h"
#include "test/support/runner.h"
#include "test/support/witness.h"
#include "transport/inproc.h"
#include "transport/session.h"
#include "transport/transport.h"

#define TERM    7
#define STAGING (16 * SLAB_CHUNK_SIZE)

/* Everything that both sides and the world outside share. */
struct pair {
    struct witness witness; /* its lock protects what is counted, too */
    bool gated;             /* what leaves is stuck on its way out, until the gate opens */
    unsigned stuck;
    unsigned events[8]; /* engine's and standby's, counted */
    unsigned standby_events[8];
    struct error why; /* of the engine's last event that had a reason */
    struct error standby_why;
    _Atomic nsec_t trusted_since;

    struct slab *slabs[2];
    struct fake_machine *machines[2];
    struct engine *engine;
    struct standby *standby;
};

static void note_visible(void *context, uint64_t step)
{
    struct pair *p = context;
    witness_see(&p->witness, step);
    pthread_mutex_lock(&p->witness.lock);
    p->stuck += p->gated;
    pthread_cond_broadcast(&p->witness.changed);
    while (p->gated)
        pthread_cond_wait(&p->witness.changed, &p->witness.lock);
    pthread_mutex_unlock(&p->witness.lock);
}

static void note_engine(void *context, enum engine_event event, const struct error *why)
{
    struct pair *p = context;
    pthread_mutex_lock(&p->witness.lock);
    if (why)
        p->why = *why;
    pthread_mutex_unlock(&p->witness.lock);
    witness_count(&p->witness, &p->events[event]);
}

static void note_standby(void *context, enum standby_event event, const struct error *why)
{
    struct pair *p = context;
    pthread_mutex_lock(&p->witness.lock);
    if (why)
        p->standby_why = *why;
    pthread_mutex_unlock(&p->witness.lock);
    witness_count(&p->witness, &p->standby_events[event]);
}

static nsec_t trusted_since(void *context)
{
    struct pair *p = context;
    return p->trusted_since;
}

static const struct policy default_policy = {.kind = POLICY_PIPELINED,
                                             .interval = MSEC(2),
                                             .max_interval = MSEC(20),
                                             .window = 2,
                                             .dirty_budget = 256,
                                             .staging_cap = SLAB_SIZE_MAX};

static unsigned burst; /* of the guests of the next pair */

static void pair_start(struct pair *p, const struct policy *policy, unsigned step_usec)
{
    memset(p, 0, sizeof(*p));
    witness_init(&p->witness);
    for (int i = 0; i < 2; i++) {
        const struct fake_machine_config config = {.memory = 8 << 20,
                                                   .output_every = 3,
                                                   .step_usec = step_usec,
                                                   .burst = burst,
                                                   .visible = note_visible,
                                                   .context = p};
        p->machines[i] = fake_machine_create(&config);
        CU_ASSERT_EQUAL_FATAL(slab_create(STAGING, &p->slabs[i], NULL), 0);
    }
    const struct engine_config engine = {.machine = fake_machine_ops(p->machines[0]),
                                         .slab = p->slabs[0],
                                         .outbox_cap = 4 << 20,
                                         .policy = *policy,
                                         .first_epoch = 1,
                                         .trusted_since = trusted_since,
                                         .event = note_engine,
                                         .context = p};
    CU_ASSERT_EQUAL_FATAL(engine_create(&engine, &p->engine, NULL), 0);
    const struct standby_config standby = {.machine = fake_machine_ops(p->machines[1]),
                                           .slab = p->slabs[1],
                                           .event = note_standby,
                                           .context = p};
    CU_ASSERT_EQUAL_FATAL(standby_create(&standby, &p->standby, NULL), 0);
    engine_start_guest(p->engine);
}

static void pair_join(struct pair *p, struct link *ends[2])
{
    CU_ASSERT_EQUAL_FATAL(standby_follow(p->standby, ends[1], TERM, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(engine_protect(p->engine, ends[0], TERM, STAGING,
                                         SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, NULL),
                          0);
}

static void pair_connect(struct pair *p)
{
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("pair", ends, NULL), 0);
    pair_join(p, ends);
}

/* Where what is under way to a closed end resets the connection. Both ends are slow to read, so
 * that something always is. */
static void pair_connect_by_slow_tcp(struct pair *p)
{
    struct listener *listener;
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(transport_listen("tcp://127.0.0.1:0", NULL, &listener, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(
        transport_connect(listener_uri(listener), NULL, 60000, -1, &ends[0], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, 60000, &ends[1], NULL), 0);
    listener_destroy(&listener);
    for (int i = 0; i < 2; i++) {
        ends[i] = fault_link_wrap(&ends[i], 1);
        fault_link_add(ends[i], (struct fault_rule){.direction = FAULT_RECEIVE,
                                                    .kind = FAULT_DELAY,
                                                    .at_frame = 1,
                                                    .delay_ms = 3});
        CU_ASSERT_EQUAL_FATAL(link_establish(ends[i], NULL), 0);
    }
    pair_join(p, ends);
}

static void pair_end(struct pair *p)
{
    engine_destroy(&p->engine);
    standby_destroy(&p->standby);
    for (int i = 0; i < 2; i++) {
        /* Every chunk came home. */
        CU_ASSERT_EQUAL(slab_free_count(p->slabs[i]), slab_chunk_count(p->slabs[i]));
        slab_destroy(&p->slabs[i]);
        fake_machine_destroy(&p->machines[i]);
    }
    witness_fini(&p->witness);
}

/* The primary dies now; the standby takes over and must know all that was seen. */
static void fail_over_and_judge(struct pair *p)
{
    engine_drop_link(p->engine, "killed by the test");
    struct standby_takeover takeover;
    struct error err = {0};
    CU_ASSERT_EQUAL(standby_promote(p->standby, &takeover, &err), 0);
    engine_fence(p->engine);
    const uint64_t steps = fake_machine_steps(p->machines[1]);
    pthread_mutex_lock(&p->witness.lock);
    CU_ASSERT(steps >= p->witness.seen);
    CU_ASSERT_FALSE(p->witness.backwards);
    pthread_mutex_unlock(&p->witness.lock);
    CU_ASSERT_TRUE(fake_machine_memory_is_right(p->machines[1], steps));
}

static void nothing_is_visible_before_the_first_commit(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 0);
    struct outbox_stats stats;
    do
        outbox_snapshot(engine_outbox(p.engine), &stats);
    while (stats.held_items < 1000);
    CU_ASSERT_EQUAL(witness_seen(&p.witness), 0);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], 1));
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1));
    fail_over_and_judge(&p);
    pair_end(&p);
}

/* A process that was frozen, or whose link was cut for a while, reads acknowledgements of a standby
 * that may have taken over since. */
static void an_acknowledgement_of_old_news_releases_nothing(void)
{
    struct pair p;
    struct engine_stats *stats = malloc(sizeof(*stats));
    pair_start(&p, &default_policy, 0);
    p.trusted_since = INT64_MAX;
    pair_connect(&p);
    do
        engine_snapshot(p.engine, stats);
    while (stats->stale_acks < 10);
    CU_ASSERT_EQUAL(witness_seen(&p.witness), 0);
    p.trusted_since = clock_now();
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1));
    fail_over_and_judge(&p);
    pair_end(&p);
    free(stats);
}

static void what_was_seen_is_never_lost_under_any_policy(void)
{
    for (int kind = POLICY_PIPELINED; kind <= POLICY_INTERVAL; kind++) {
        struct policy policy = default_policy;
        policy.kind = (enum policy_kind)kind;
        for (unsigned run = 0; run < 20; run++) {
            struct pair p;
            pair_start(&p, &policy, run % 3);
            pair_connect(&p);
            CU_ASSERT_TRUE(
                witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_READY], 1));
            CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1 + run * 37));
            fail_over_and_judge(&p);
            pair_end(&p);
        }
    }
}

static void a_standby_that_lost_its_link_synchronises_again(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    for (unsigned round = 1; round <= 5; round++) {
        pair_connect(&p);
        CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], round));
        CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 10));
        if (round == 5)
            break;
        engine_drop_link(p.engine, "cut by the test");
        CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_LINK_LOST], round));
        standby_unfollow(p.standby);
    }
    fail_over_and_judge(&p);
    pair_end(&p);
}

static void a_state_that_a_grant_was_taken_for_is_not_overwritten(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    CU_ASSERT_FALSE(standby_keep(p.standby));
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], 1));
    engine_drop_link(p.engine, "cut by the test");
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_LINK_LOST], 1));
    standby_unfollow(p.standby);
    CU_ASSERT_TRUE(standby_keep(p.standby));

    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_LINK_LOST], 2));
    standby_unfollow(p.standby);
    CU_ASSERT_EQUAL(p.standby_events[STANDBY_EVENT_NOT_READY], 0);
    CU_ASSERT_TRUE(standby_keep(p.standby));

    standby_let_go(p.standby);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], 2));
    CU_ASSERT_EQUAL(p.standby_events[STANDBY_EVENT_NOT_READY], 1);
    fail_over_and_judge(&p);
    pair_end(&p);
}

static void alone_output_flows_until_the_next_standby_commits(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    CU_ASSERT_EQUAL(engine_open(p.engine, NULL), 0);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 30));
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], 1));
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 100));
    fail_over_and_judge(&p);
    pair_end(&p);
}

/* Caps of 8 MiB on each side, of which an epoch may use six, a policy that never cuts for dirt, and
 * 8 MiB of memory of a guest that no throttle catches: it dirties more than the caps before it can
 * be stopped. */
static void start_wild_pair(struct pair *p, uint64_t capabilities)
{
    struct policy policy = default_policy;
    policy.kind = POLICY_INTERVAL;
    policy.interval = MSEC(300);
    policy.dirty_budget = policy.staging_cap >> PAGE_SHIFT;
    burst = 20000;
    pair_start(p, &policy, 0);
    burst = 0;
    slab_destroy(&p->slabs[1]);
    standby_destroy(&p->standby);
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN, &p->slabs[1], NULL), 0);
    const struct standby_config standby = {.machine = fake_machine_ops(p->machines[1]),
                                           .slab = p->slabs[1],
                                           .event = note_standby,
                                           .context = p};
    CU_ASSERT_EQUAL_FATAL(standby_create(&standby, &p->standby, NULL), 0);
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("pair", ends, NULL), 0);
    CU_ASSERT_EQUAL(standby_follow(p->standby, ends[1], TERM, NULL), 0);
    CU_ASSERT_EQUAL(engine_protect(p->engine, ends[0], TERM, SLAB_SIZE_MIN,
                                   SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE | capabilities,
                                   NULL),
                    0);
}

static void a_dirty_set_beyond_the_staging_memory_is_survived(void)
{
    struct pair p;
    start_wild_pair(&p, 0);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_NOT_READY], 2));
    /* One that comes before the primary knows that its guest is protected is not counted. */
    static struct engine_stats stats;
    unsigned ready = 3;
    do {
        CU_ASSERT_TRUE_FATAL(
            witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_READY], ready++));
        engine_snapshot(p.engine, &stats);
    } while (stats.overflows < 2);
    CU_ASSERT_EQUAL(stats.oversize, 0);
    fail_over_and_judge(&p);
    pair_end(&p);
}

/* The same guest, and a standby that keeps elsewhere what its staging memory doesn't take: it is
 * one all the time. */
static void an_oversize_epoch_keeps_the_guest_protected(void)
{
    struct pair p;
    static struct engine_stats stats;
    start_wild_pair(&p, SESSION_CAP_SPILL);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_READY], 1));
    do {
        CU_ASSERT_TRUE_FATAL(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 1000));
        engine_snapshot(p.engine, &stats);
    } while (stats.oversize < 5);
    CU_ASSERT_EQUAL(stats.overflows, 0);
    CU_ASSERT_EQUAL(p.standby_events[STANDBY_EVENT_NOT_READY], 0);
    fail_over_and_judge(&p);
    pair_end(&p);
}

static void a_state_that_would_not_load_is_never_acknowledged(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    fake_machine_refuse_states(p.machines[1]);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_LINK_LOST], 1));
    CU_ASSERT_EQUAL(witness_seen(&p.witness), 0);
    CU_ASSERT_EQUAL(p.events[ENGINE_EVENT_PROTECTED], 0);
    struct standby_takeover takeover;
    struct error err = {0};
    CU_ASSERT_EQUAL(standby_promote(p.standby, &takeover, &err), -ENODATA);
    pair_end(&p);
}

static void a_fenced_guest_says_nothing_more(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    CU_ASSERT_EQUAL(engine_open(p.engine, NULL), 0);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 30));
    engine_fence(p.engine);
    const uint64_t last = witness_seen(&p.witness);
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("late", ends, NULL), 0);
    CU_ASSERT_EQUAL(engine_protect(p.engine, ends[0], TERM, STAGING,
                                   SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, NULL),
                    -EPERM);
    CU_ASSERT_EQUAL(engine_open(p.engine, NULL), -EBUSY);
    link_destroy(&ends[0]);
    link_destroy(&ends[1]);
    engine_destroy(&p.engine);
    CU_ASSERT_EQUAL(witness_seen(&p.witness), last);
    pair_end(&p);
}

/* The standby knows the policy of the epoch that it would continue from. */
static void wait_policy(struct pair *p, const struct policy *policy)
{
    struct standby_stats stats;
    do
        standby_snapshot(p->standby, &stats);
    while (!stats.has_policy || !policy_equal(&stats.policy, policy));
}

static void the_standby_learns_every_change_of_the_policy(void)
{
    struct pair p;
    struct policy policy = default_policy;
    pair_start(&p, &policy, 1);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_READY], 1));
    wait_policy(&p, &policy);
    /* Long periods: only the change itself can be what the next epoch is cut for. */
    policy = (struct policy){.kind = POLICY_INTERVAL,
                             .interval = SEC(60),
                             .max_interval = SEC(60),
                             .window = 1,
                             .dirty_budget = (8 << 20) >> PAGE_SHIFT,
                             .staging_cap = 8 << 20};
    engine_set_policy(p.engine, &policy);
    wait_policy(&p, &policy);
    /* The next standby is told without a change. */
    engine_drop_link(p.engine, "cut by the test");
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_LINK_LOST], 1));
    standby_unfollow(p.standby);
    standby_destroy(&p.standby);
    const struct standby_config config = {.machine = fake_machine_ops(p.machines[1]),
                                          .slab = p.slabs[1],
                                          .event = note_standby,
                                          .context = &p};
    CU_ASSERT_EQUAL_FATAL(standby_create(&config, &p.standby, NULL), 0);
    pair_connect(&p);
    wait_policy(&p, &policy);
    engine_set_policy(p.engine, &default_policy);
    wait_policy(&p, &default_policy);
    fail_over_and_judge(&p);
    pair_end(&p);
}

static void flushing_leaves_nothing_unsaid(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    CU_ASSERT_EQUAL(engine_flush(p.engine, clock_now() + SEC(60)), -ENOTCONN);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_PROTECTED], 1));
    CU_ASSERT_EQUAL(engine_flush(p.engine, clock_now() + SEC(60)), 0);
    engine_say_goodbye(p.engine, "the test ends", clock_now() + SEC(60));
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_GOODBYE], 1));
    pair_end(&p);
}

static void set_gate(struct pair *p, bool gated)
{
    pthread_mutex_lock(&p->witness.lock);
    p->gated = gated;
    pthread_cond_broadcast(&p->witness.changed);
    pthread_mutex_unlock(&p->witness.lock);
}

static void *open_gate(void *context)
{
    set_gate(context, false);
    return NULL;
}

/* A primary lives, and output that was acknowledged is on its way out, when the standby is granted
 * the guest. */
static void a_granted_standby_waits_for_the_last_word_of_a_living_primary(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1));
    set_gate(&p, true);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.stuck, 1));
    const nsec_t until = clock_now() + MSEC(20);
    standby_supersede(p.standby, until); /* in vain, but not for ever */
    CU_ASSERT(clock_now() >= until);
    CU_ASSERT_EQUAL(p.stuck, 1);
    pthread_t opener;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&opener, NULL, open_gate, &p), 0);
    standby_supersede(p.standby, clock_now() + SEC(60));
    pthread_mutex_lock(&p.witness.lock);
    CU_ASSERT_FALSE(p.gated);
    const uint64_t seen = p.witness.seen;
    pthread_mutex_unlock(&p.witness.lock);
    pthread_join(opener, NULL);
    struct standby_takeover takeover;
    CU_ASSERT_EQUAL(standby_promote(p.standby, &takeover, NULL), 0);
    engine_fence(p.engine);
    CU_ASSERT_EQUAL(witness_seen(&p.witness), seen); /* that was it */
    CU_ASSERT(fake_machine_steps(p.machines[1]) >= seen);
    CU_ASSERT_FALSE(p.witness.backwards);
    pair_end(&p);
}

/* The guest goes on while its primary ends: what is on its way then is no reason for anything else
 * than what the goodbye says. */
static void whoever_ends_is_heard_out(void)
{
    for (int i = 0; i < 10; i++) {
        struct pair p;
        pair_start(&p, &default_policy, 1);
        pair_connect_by_slow_tcp(&p);
        CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1));
        if (i % 2) {
            engine_say_goodbye(p.engine, "the test ends", clock_now() + SEC(60));
            engine_destroy(&p.engine);
            CU_ASSERT_TRUE(
                witness_wait_count(&p.witness, &p.standby_events[STANDBY_EVENT_GOODBYE], 1));
            CU_ASSERT_EQUAL(p.standby_events[STANDBY_EVENT_BROKEN], 0);
        } else {
            standby_say_goodbye(p.standby, "the test ends", clock_now() + SEC(60));
            standby_destroy(&p.standby);
            CU_ASSERT_EQUAL(p.standby_why.code, -ECANCELED); /* nobody's death */
            CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_GOODBYE], 1));
            CU_ASSERT_PTR_NOT_NULL(strstr(p.why.text, "the test ends"));
        }
        CU_ASSERT_EQUAL(p.standby_events[STANDBY_EVENT_CLOSED], 0);
        pair_end(&p);
    }
}

/* Whoever is sending may meet the closed connection before the goodbye is read. */
static void a_goodbye_is_the_reason_even_if_sending_failed_first(void)
{
    struct pair p;
    pair_start(&p, &default_policy, 1);
    pair_connect(&p);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, 1));
    set_gate(&p, true); /* the thread that reads acknowledgements lets the output out, too */
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.stuck, 1));
    standby_say_goodbye(p.standby, "the operator stops this host", clock_now() + MSEC(20));
    engine_drop_link(p.engine, "sending: Broken pipe");
    set_gate(&p, false);
    CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.events[ENGINE_EVENT_GOODBYE], 1));
    CU_ASSERT_PTR_NOT_NULL(strstr(p.why.text, "the operator stops this host"));
    CU_ASSERT_EQUAL(p.events[ENGINE_EVENT_LINK_LOST], 0);
    pair_end(&p);
}

static const struct test_case cases[] = {
    {"nothing is visible before the first commit", nothing_is_visible_before_the_first_commit},
    {"an acknowledgement from before the awakening releases nothing",
     an_acknowledgement_of_old_news_releases_nothing},
    {"what was seen is never lost under any policy", what_was_seen_is_never_lost_under_any_policy},
    {"a standby that lost its link synchronises again",
     a_standby_that_lost_its_link_synchronises_again},
    {"a state that a grant was taken for is not overwritten",
     a_state_that_a_grant_was_taken_for_is_not_overwritten},
    {"alone, output flows until the next standby commits",
     alone_output_flows_until_the_next_standby_commits},
    {"a dirty set beyond the staging memory is survived",
     a_dirty_set_beyond_the_staging_memory_is_survived},
    {"an oversize epoch keeps the guest protected", an_oversize_epoch_keeps_the_guest_protected},
    {"a state that would not load is never acknowledged",
     a_state_that_would_not_load_is_never_acknowledged},
    {"a fenced guest says nothing more", a_fenced_guest_says_nothing_more},
    {"the standby learns every change of the policy",
     the_standby_learns_every_change_of_the_policy},
    {"flushing leaves nothing unsaid", flushing_leaves_nothing_unsaid},
    {"a granted standby waits for the last word of a living primary",
     a_granted_standby_waits_for_the_last_word_of_a_living_primary},
    {"whoever ends is heard out", whoever_ends_is_heard_out},
    {"a goodbye is the reason even if sending failed first",
     a_goodbye_is_the_reason_even_if_sending_failed_first},
};

int main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "replication", cases, ARRAY_SIZE(cases));
}
