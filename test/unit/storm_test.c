/* A storm: everything that can be done to an engine and its standby, in random order and on two
 * threads, with links that break, stall and dawdle. Nothing may hang, every link ends with exactly
 * one event, and at the end of each life the standby holds what was seen.
 *
 * KEMARI_TEST_SEED gives a seed, KEMARI_STORM_LIVES a number of lives: a minute or more by hand. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
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

#define TERM           7
#define STAGING        SLAB_SIZE_MIN
#define MEMORY         ((uint64_t)16 << 20) /* more than an epoch may stage: overflows happen */
#define LIVES          25
#define DEEDS          25         /* of a life */
#define FAULT_BYTE_MAX (1u << 20) /* where in a link's life a fault may lie */

struct pair {
    struct witness witness; /* its lock protects what is counted, too */
    unsigned protections;
    unsigned ends; /* of links, whatever the reason */

    struct slab *slabs[2];
    struct fake_machine *machines[2];
    struct engine *engine;
    struct standby *standby;

    /* the test's thread */
    unsigned random;
    unsigned links;                 /* given to the engine */
    unsigned protections_when_open; /* when it was last let go alone */
    bool was_open;

    /* the other thread */
    pthread_t meddler;
    atomic_bool stop;
};

static unsigned dice(unsigned *random, unsigned sides)
{
    return (unsigned)rand_r(random) % sides;
}

static void note_engine(void *context, enum engine_event event, const struct error *why)
{
    struct pair *p = context;
    (void)why;
    pthread_mutex_lock(&p->witness.lock);
    p->protections += event == ENGINE_EVENT_PROTECTED;
    p->ends += event != ENGINE_EVENT_PROTECTED;
    pthread_cond_broadcast(&p->witness.changed);
    pthread_mutex_unlock(&p->witness.lock);
}

static void note_standby(void *context, enum standby_event event, const struct error *why)
{
    (void)context;
    (void)event;
    (void)why;
}

/* ---- deeds ---- */

static struct policy random_policy(unsigned *random)
{
    return (struct policy){.kind = (enum policy_kind)dice(random, 3),
                           .interval = USEC(100 + dice(random, 5000)),
                           .max_interval = MSEC(1 + dice(random, 20)),
                           .window = 1 + dice(random, POLICY_WINDOW_MAX),
                           .dirty_budget = dice(random, 4) ? 1 + dice(random, 300) : 1u << 24,
                           .staging_cap = SLAB_SIZE_MAX};
}

static void random_faults(struct pair *p, struct link **end)
{
    *end = fault_link_wrap(end, 1 + dice(&p->random, 1000));
    for (unsigned i = dice(&p->random, 3); i > 0; i--)
        fault_link_add(
            *end, (struct fault_rule){.direction = dice(&p->random, 2) ? FAULT_SEND : FAULT_RECEIVE,
                                      .kind = (enum fault_kind)dice(&p->random, FAULT_DELAY + 1),
                                      .at_byte = dice(&p->random, FAULT_BYTE_MAX),
                                      .delay_ms = dice(&p->random, 2)});
}

/* The link before is over on both sides before the next one comes. */
static void drop(struct pair *p)
{
    engine_drop_link(p->engine, "dropped by the test");
    standby_unfollow(p->standby);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p->witness, &p->ends, p->links));
}

static void connect_pair(struct pair *p, bool healthy)
{
    drop(p);
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("storm", ends, NULL), 0);
    for (int i = 0; i < 2; i++) {
        if (healthy)
            continue;
        random_faults(p, &ends[i]);
        link_set_timeouts(ends[i], dice(&p->random, 2) ? 0 : 5, 0);
    }
    CU_ASSERT_EQUAL_FATAL(standby_follow(p->standby, ends[1], TERM, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(engine_protect(p->engine, ends[0], TERM, STAGING,
                                         SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, NULL),
                          0);
    p->links++;
}

static void let_go_alone(struct pair *p)
{
    if (engine_open(p->engine, NULL) < 0)
        return;
    pthread_mutex_lock(&p->witness.lock);
    p->protections_when_open = p->protections;
    pthread_mutex_unlock(&p->witness.lock);
    p->was_open = true;
}

static void do_something(struct pair *p)
{
    const struct policy policy = random_policy(&p->random);
    switch (dice(&p->random, 9)) {
    case 0:
    case 1:
    case 2:
        connect_pair(p, dice(&p->random, 2));
        break;
    case 3:
        drop(p);
        break;
    case 4:
        standby_unfollow(p->standby);
        break;
    case 5:
        let_go_alone(p);
        break;
    case 6:
        engine_set_policy(p->engine, &policy);
        break;
    case 7:
        engine_drop_link(p->engine, "suspected by the test");
        break;
    default:
        engine_flush(p->engine, clock_now() + MSEC(dice(&p->random, 5)));
        break;
    }
    const struct timespec pace = {.tv_nsec = (long)dice(&p->random, 2000000)};
    nanosleep(&pace, NULL);
}

/* What others do meanwhile: operators, status, suspicion. */
static void *meddler_main(void *context)
{
    struct pair *p = context;
    unsigned random = p->random + 1;
    struct engine_stats *stats = malloc(sizeof(*stats));
    while (!atomic_load(&p->stop)) {
        const struct policy policy = random_policy(&random);
        switch (dice(&random, 5)) {
        case 0:
            engine_set_policy(p->engine, &policy);
            break;
        case 1:
            engine_request_checkpoint(p->engine);
            break;
        case 2:
            engine_flush(p->engine, clock_now() + USEC(dice(&random, 3000)));
            break;
        default:
            engine_snapshot(p->engine, stats);
            CU_ASSERT(stats->in_flight <= POLICY_WINDOW_MAX + 1);
            break;
        }
        const struct timespec pace = {.tv_nsec = (long)dice(&random, 1000000)};
        nanosleep(&pace, NULL);
    }
    free(stats);
    return NULL;
}

/* ---- a life ---- */

static void pair_start(struct pair *p, unsigned seed)
{
    memset(p, 0, sizeof(*p));
    p->random = seed;
    witness_init(&p->witness);
    const struct fake_machine_config machine = {.memory = MEMORY,
                                                .output_every = 1 + dice(&p->random, 20),
                                                .output_size = 8 + dice(&p->random, 4000),
                                                .step_usec = dice(&p->random, 4) ? 1 : 0,
                                                .visible = witness_see,
                                                .context = &p->witness};
    for (int i = 0; i < 2; i++) {
        p->machines[i] = fake_machine_create(&machine);
        CU_ASSERT_EQUAL_FATAL(slab_create(STAGING, &p->slabs[i], NULL), 0);
    }
    const struct engine_config engine = {.machine = fake_machine_ops(p->machines[0]),
                                         .slab = p->slabs[0],
                                         .outbox_cap = OUTBOX_CAP_MIN,
                                         .policy = random_policy(&p->random),
                                         .first_epoch = 1 + dice(&p->random, 1000),
                                         .event = note_engine,
                                         .context = p};
    CU_ASSERT_EQUAL_FATAL(engine_create(&engine, &p->engine, NULL), 0);
    const struct standby_config standby = {.machine = fake_machine_ops(p->machines[1]),
                                           .slab = p->slabs[1],
                                           .event = note_standby,
                                           .context = p};
    CU_ASSERT_EQUAL_FATAL(standby_create(&standby, &p->standby, NULL), 0);
    engine_start_guest(p->engine);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&p->meddler, NULL, meddler_main, p), 0);
}

/* Whatever happened before, a healthy link protects the guest. */
static void must_be_protectable(struct pair *p)
{
    drop(p);
    pthread_mutex_lock(&p->witness.lock);
    const unsigned before = p->protections;
    pthread_mutex_unlock(&p->witness.lock);
    connect_pair(p, true);
    const bool became = witness_wait_count(&p->witness, &p->protections, before + 1);
    if (!became) {
        struct engine_stats stats;
        engine_snapshot(p->engine, &stats);
        printf("  hangs: %s, parked %d, in flight %u, next epoch %llu, ends %u of %u\n",
               engine_state_name(stats.state), stats.parked, stats.in_flight,
               (unsigned long long)stats.next_epoch, p->ends, p->links);
    }
    CU_ASSERT_TRUE_FATAL(became);
}

static void pair_judge(struct pair *p)
{
    struct standby_stats stats;
    drop(p);
    engine_fence(p->engine);
    standby_snapshot(p->standby, &stats);
    CU_ASSERT_FALSE(p->witness.backwards);
    const bool outdated = p->was_open && p->protections_when_open >= p->protections;
    if (!stats.promotable || outdated)
        return;
    struct standby_takeover takeover;
    CU_ASSERT_EQUAL(standby_promote(p->standby, &takeover, NULL), 0);
    const uint64_t done = fake_machine_steps(p->machines[1]);
    CU_ASSERT(done >= p->witness.seen);
    CU_ASSERT_TRUE(fake_machine_memory_is_right(p->machines[1], done));
}

static void pair_end(struct pair *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->meddler, NULL);
    engine_destroy(&p->engine);
    standby_destroy(&p->standby);
    CU_ASSERT_EQUAL(p->ends, p->links);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(slab_free_count(p->slabs[i]), slab_chunk_count(p->slabs[i]));
        slab_destroy(&p->slabs[i]);
        fake_machine_destroy(&p->machines[i]);
    }
    witness_fini(&p->witness);
}

static unsigned from_environment(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void nothing_hangs_and_nothing_is_lost(void)
{
    unsigned seed = from_environment("KEMARI_TEST_SEED", 20100);
    printf("seed %u ", seed);
    for (unsigned life = from_environment("KEMARI_STORM_LIVES", LIVES); life > 0; life--) {
        struct pair p;
        pair_start(&p, (unsigned)rand_r(&seed));
        for (unsigned i = 0; i < DEEDS; i++)
            do_something(&p);
        if (life % 3 == 0)
            must_be_protectable(&p);
        pair_judge(&p);
        pair_end(&p);
    }
}

/* The end may come at any moment, also in the middle of a synchronisation, a stall or a flush. */
static void it_can_be_destroyed_at_any_moment(void)
{
    unsigned seed = from_environment("KEMARI_TEST_SEED", 20100);
    for (unsigned life = 0; life < LIVES; life++) {
        struct pair p;
        pair_start(&p, (unsigned)rand_r(&seed));
        connect_pair(&p, dice(&p.random, 2));
        const struct timespec pace = {.tv_nsec = (long)dice(&p.random, 20000000)};
        nanosleep(&pace, NULL);
        atomic_store(&p.stop, true);
        pthread_join(p.meddler, NULL);
        if (dice(&p.random, 2))
            engine_fence(p.engine);
        engine_destroy(&p.engine);
        standby_destroy(&p.standby);
        for (int i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(slab_free_count(p.slabs[i]), slab_chunk_count(p.slabs[i]));
            slab_destroy(&p.slabs[i]);
            fake_machine_destroy(&p.machines[i]);
        }
        witness_fini(&p.witness);
    }
}

static const struct test_case cases[] = {
    {"nothing hangs and nothing is lost", nothing_hangs_and_nothing_is_lost},
    {"it can be destroyed at any moment", it_can_be_destroyed_at_any_moment},
};

int main(int argc, char **argv)
{
    /* What the peer's faults do to a link is no error of this test. */
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "storm", cases, ARRAY_SIZE(cases));
}
