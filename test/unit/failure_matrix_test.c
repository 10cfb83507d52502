/* The failure matrix: {what happens to the link} x {at which step of the protocol} x {on which
 * host}, with a machine whose exact memory is known.
 *
 * After each of them output is held, the standby either can't be promoted (nothing was committed,
 * so nothing was seen) or holds exact memory that contains everything that was seen, and a new link
 * makes the pair whole again. */
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
#include "test/support/protocol_fault.h"
#include "test/support/runner.h"
#include "test/support/witness.h"
#include "transport/inproc.h"
#include "transport/session.h"

#define TERM    7
#define STAGING SLAB_SIZE_MIN
#define MEMORY  ((uint64_t)2 << 20)

#define FULL    PROTOCOL_EPOCH_FULL
#define FIRST   PROTOCOL_EPOCH_FIRST
#define LATER   4

static const struct protocol_step steps[] = {
    {FULL, PROTOCOL_BEGIN, 1},  {FULL, PROTOCOL_PAGES, 1},  {FULL, PROTOCOL_PAGES, 2},
    {FULL, PROTOCOL_END, 1},    {FULL, PROTOCOL_ACK, 1},    {FIRST, PROTOCOL_BEGIN, 1},
    {FIRST, PROTOCOL_PAGES, 1}, {FIRST, PROTOCOL_STATE, 1}, {FIRST, PROTOCOL_END, 1},
    {FIRST, PROTOCOL_ACK, 1},   {LATER, PROTOCOL_BEGIN, 1}, {LATER, PROTOCOL_PAGES, 1},
    {LATER, PROTOCOL_STATE, 1}, {LATER, PROTOCOL_END, 1},   {LATER, PROTOCOL_ACK, 1},
};

struct fault {
    const char *name;
    enum fault_kind kind;
    uint64_t at_byte; /* of the frame */
};

static const struct fault faults[] = {
    {"cut before the frame", FAULT_CUT, 0},
    {"cut inside the header", FAULT_CUT, FRAME_HEADER_SIZE / 2},
    {"cut before the payload's end", FAULT_CUT, FRAME_HEADER_SIZE + 1},
    {"a bit of the header flips", FAULT_FLIP, 17},
    {"a bit of the payload flips", FAULT_FLIP, FRAME_HEADER_SIZE + 1},
    {"silence", FAULT_STALL, 0},
};

struct pair {
    struct witness witness; /* its lock protects what is counted, too */
    unsigned engine_events[8];
    unsigned standby_events[8];

    struct slab *slabs[2];
    struct fake_machine *machines[2];
    struct engine *engine;
    struct standby *standby;
};

/* ---- what everybody sees ---- */

static void note_engine(void *context, enum engine_event event, const struct error *why)
{
    (void)why;
    witness_count(&((struct pair *)context)->witness,
                  &((struct pair *)context)->engine_events[event]);
}

static void note_standby(void *context, enum standby_event event, const struct error *why)
{
    (void)why;
    witness_count(&((struct pair *)context)->witness,
                  &((struct pair *)context)->standby_events[event]);
}

/* ---- life ---- */

static void pair_start(struct pair *p, struct slab *const slabs[2])
{
    memset(p, 0, sizeof(*p));
    witness_init(&p->witness);
    for (int i = 0; i < 2; i++) {
        const struct fake_machine_config config = {.memory = MEMORY,
                                                   .output_every = 2,
                                                   .step_usec = 1,
                                                   .visible = witness_see,
                                                   .context = &p->witness};
        p->machines[i] = fake_machine_create(&config);
        p->slabs[i] = slabs[i];
    }
    const struct engine_config engine = {.machine = fake_machine_ops(p->machines[0]),
                                         .slab = p->slabs[0],
                                         .outbox_cap = OUTBOX_CAP_MIN,
                                         .policy = {.kind = POLICY_PIPELINED,
                                                    .interval = MSEC(20),
                                                    .max_interval = MSEC(20),
                                                    .window = 2,
                                                    .dirty_budget = 256,
                                                    .staging_cap = SLAB_SIZE_MAX},
                                         .first_epoch = 1,
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

static void pair_connect(struct pair *p, struct link *ends[2])
{
    CU_ASSERT_EQUAL_FATAL(standby_follow(p->standby, ends[1], TERM, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(engine_protect(p->engine, ends[0], TERM, STAGING,
                                         SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, NULL),
                          0);
}

static void pair_end(struct pair *p)
{
    engine_destroy(&p->engine);
    standby_destroy(&p->standby);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(slab_free_count(p->slabs[i]), slab_chunk_count(p->slabs[i]));
        fake_machine_destroy(&p->machines[i]);
    }
    witness_fini(&p->witness);
}

/* ---- the judgement ---- */

/* The guest goes on and nothing of what it says is seen. */
static void output_is_held(struct pair *p)
{
    const uint64_t before = witness_seen(&p->witness);
    struct outbox_stats stats;
    outbox_snapshot(engine_outbox(p->engine), &stats);
    const size_t held = stats.held_items;
    const nsec_t deadline = clock_now() + SEC(60);
    while (stats.held_items <= held && stats.dropped_items == 0 && clock_now() < deadline)
        outbox_snapshot(engine_outbox(p->engine), &stats);
    CU_ASSERT_EQUAL(stats.mode, OUTBOX_HOLDING);
    CU_ASSERT(stats.held_items > held || stats.dropped_items > 0);
    CU_ASSERT_EQUAL(witness_seen(&p->witness), before);
}

static void promoted_standby_is_right(struct pair *p)
{
    struct standby_takeover takeover;
    CU_ASSERT_EQUAL(standby_promote(p->standby, &takeover, NULL), 0);
    engine_fence(p->engine);
    const uint64_t done = fake_machine_steps(p->machines[1]);
    CU_ASSERT(done >= witness_seen(&p->witness));
    CU_ASSERT_TRUE(fake_machine_memory_is_right(p->machines[1], done));
}

static void promotion_is_refused(struct pair *p)
{
    struct standby_takeover takeover;
    CU_ASSERT_EQUAL(standby_promote(p->standby, &takeover, NULL), -ENODATA);
    CU_ASSERT_EQUAL(witness_seen(&p->witness), 0);
}

static void a_new_link_makes_it_whole(struct pair *p)
{
    const unsigned protections = p->engine_events[ENGINE_EVENT_PROTECTED];
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("again", ends, NULL), 0);
    standby_unfollow(p->standby);
    pair_connect(p, ends);
    CU_ASSERT_TRUE(witness_wait_count(&p->witness, &p->engine_events[ENGINE_EVENT_PROTECTED],
                                      protections + 1));
    CU_ASSERT_TRUE(witness_wait_seen(&p->witness, witness_seen(&p->witness) + 1));
    engine_drop_link(p->engine, "killed by the test");
}

/* ---- the matrix ---- */

static void suffer(struct pair *p, struct protocol_fault *fault)
{
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("matrix", ends, NULL), 0);
    protocol_fault_wrap(fault, &ends[fault->primary_side ? 0 : 1]);
    pair_connect(p, ends);
    if (fault->kind == FAULT_STALL) {
        CU_ASSERT_TRUE(fault_link_wait_stalled(fault->link, 60000));
        engine_drop_link(p->engine, "suspected by the test");
    }
    CU_ASSERT_TRUE(witness_wait_count(&p->witness, &p->engine_events[ENGINE_EVENT_LINK_LOST], 1));
    standby_unfollow(p->standby);
}

static void run_cell(const struct protocol_step *step, const struct fault *what, bool primary_side,
                     bool reconnect, struct slab *const slabs[2])
{
    struct protocol_fault fault = {
        .step = *step, .kind = what->kind, .at_byte = what->at_byte, .primary_side = primary_side};
    struct pair p;
    pair_start(&p, slabs);
    const unsigned failures = CU_get_number_of_failures();
    suffer(&p, &fault);
    const unsigned hit = protocol_fault_hit(&fault);
    CU_ASSERT(hit >= step->epoch);
    output_is_held(&p);
    /* The standby has committed what it has acknowledged, also if the acknowledgement got lost. */
    struct standby_stats stats;
    standby_snapshot(p.standby, &stats);
    CU_ASSERT_EQUAL(stats.promotable, hit > FIRST || (hit == FIRST && step->what == PROTOCOL_ACK));
    if (reconnect)
        a_new_link_makes_it_whole(&p);
    if (reconnect || stats.promotable)
        promoted_standby_is_right(&p);
    else
        promotion_is_refused(&p);
    CU_ASSERT_FALSE(p.witness.backwards);
    pair_end(&p);
    if (CU_get_number_of_failures() != failures)
        printf("  %s, at %s %u of epoch %u on the %s's side\n", what->name,
               protocol_what_name(step->what), step->nth, step->epoch,
               primary_side ? "primary" : "secondary");
}

static void run_matrix(bool primary_side, bool reconnect)
{
    struct slab *slabs[2];
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(slab_create(STAGING, &slabs[i], NULL), 0);
    for (size_t s = 0; s < ARRAY_SIZE(steps); s++)
        for (size_t f = 0; f < ARRAY_SIZE(faults); f++)
            run_cell(&steps[s], &faults[f], primary_side, reconnect, slabs);
    for (int i = 0; i < 2; i++)
        slab_destroy(&slabs[i]);
}

static void the_primarys_end_fails_and_the_standby_goes_on(void)
{
    run_matrix(true, false);
}

static void the_standbys_end_fails_and_the_standby_goes_on(void)
{
    run_matrix(false, false);
}

static void the_primarys_end_fails_and_a_new_link_comes(void)
{
    run_matrix(true, true);
}

static void the_standbys_end_fails_and_a_new_link_comes(void)
{
    run_matrix(false, true);
}

static const struct test_case cases[] = {
    {"the primary's end fails and the standby goes on",
     the_primarys_end_fails_and_the_standby_goes_on},
    {"the standby's end fails and the standby goes on",
     the_standbys_end_fails_and_the_standby_goes_on},
    {"the primary's end fails and a new link comes", the_primarys_end_fails_and_a_new_link_comes},
    {"the standby's end fails and a new link comes", the_standbys_end_fails_and_a_new_link_comes},
};

int main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "failure-matrix", cases, ARRAY_SIZE(cases));
}
