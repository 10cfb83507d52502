/* Planned switchover below the roles: a guest with exactly known memory goes from host to host and
 * back, and every way in which the two frames that move it can get lost.
 *
 * The test is the roles: it carries out what primary/handover.c and secondary/handover.c decide. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
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

#define STAGING SLAB_SIZE_MIN
#define MEMORY  ((uint64_t)2 << 20)
#define ROUNDS  6

struct pair;

struct host {
    struct pair *pair;
    struct slab *slab;
    struct fake_machine *machine;
    struct engine *engine;   /* of the one that runs the guest */
    struct standby *standby; /* of the other */
    unsigned events[16];     /* of the engine that is there now */
};

struct pair {
    struct witness witness; /* its lock protects what is counted, too */
    unsigned takes;         /* TAKE received */
    struct message_switchover take;
    term_t term;
    struct host hosts[2];
};

/* ---- what is seen and told ---- */

static void note_engine(void *context, enum engine_event event, const struct error *why)
{
    struct host *host = context;
    (void)why;
    witness_count(&host->pair->witness, &host->events[event]);
}

static void note_standby(void *context, enum standby_event event, const struct error *why)
{
    (void)context, (void)event, (void)why;
}

static void note_step(void *context, const struct message_switchover *step)
{
    struct pair *p = ((struct host *)context)->pair;
    pthread_mutex_lock(&p->witness.lock);
    p->take = *step;
    p->takes++;
    pthread_cond_broadcast(&p->witness.changed);
    pthread_mutex_unlock(&p->witness.lock);
}

/* ---- life ---- */

static void make_engine(struct host *host, epoch_t first_epoch)
{
    const struct engine_config config = {.machine = fake_machine_ops(host->machine),
                                         .slab = host->slab,
                                         .outbox_cap = OUTBOX_CAP_MIN,
                                         .policy = {.kind = POLICY_PIPELINED,
                                                    .interval = MSEC(20),
                                                    .max_interval = MSEC(20),
                                                    .window = 2,
                                                    .dirty_budget = 256,
                                                    .staging_cap = SLAB_SIZE_MAX},
                                         .first_epoch = first_epoch,
                                         .event = note_engine,
                                         .context = host};
    memset(host->events, 0, sizeof(host->events));
    CU_ASSERT_EQUAL_FATAL(engine_create(&config, &host->engine, NULL), 0);
}

static void make_standby(struct host *host)
{
    const struct standby_config config = {.machine = fake_machine_ops(host->machine),
                                          .slab = host->slab,
                                          .event = note_standby,
                                          .switchover = note_step,
                                          .context = host};
    CU_ASSERT_EQUAL_FATAL(standby_create(&config, &host->standby, NULL), 0);
}

static void pair_start(struct pair *p, struct link *ends[2])
{
    memset(p, 0, sizeof(*p));
    witness_init(&p->witness);
    p->term = 1;
    for (int i = 0; i < 2; i++) {
        const struct fake_machine_config config = {.memory = MEMORY,
                                                   .output_every = 2,
                                                   .step_usec = 1,
                                                   .visible = witness_see,
                                                   .context = &p->witness};
        p->hosts[i].pair = p;
        p->hosts[i].machine = fake_machine_create(&config);
        CU_ASSERT_EQUAL_FATAL(slab_create(STAGING, &p->hosts[i].slab, NULL), 0);
    }
    make_engine(&p->hosts[0], 1);
    make_standby(&p->hosts[1]);
    engine_start_guest(p->hosts[0].engine);
    CU_ASSERT_EQUAL_FATAL(standby_follow(p->hosts[1].standby, ends[1], p->term, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(engine_protect(p->hosts[0].engine, ends[0], p->term, STAGING, 0, NULL),
                          0);
    CU_ASSERT_TRUE_FATAL(
        witness_wait_count(&p->witness, &p->hosts[0].events[ENGINE_EVENT_PROTECTED], 1));
    CU_ASSERT_TRUE(witness_wait_seen(&p->witness, 10));
}

static void pair_end(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        struct host *host = &p->hosts[i];
        engine_destroy(&host->engine);
        standby_destroy(&host->standby);
        CU_ASSERT_EQUAL(slab_free_count(host->slab), slab_chunk_count(host->slab));
        fake_machine_destroy(&host->machine);
        slab_destroy(&host->slab);
    }
    CU_ASSERT_FALSE(p->witness.backwards);
    witness_fini(&p->witness);
}

/* ---- the roles ---- */

/* TAKE has come: the guest runs on `to`, its output held. */
static void take(struct pair *p, struct host *to)
{
    struct standby_takeover takeover;
    struct link *link = standby_take_link(to->standby);
    CU_ASSERT_EQUAL_FATAL(standby_promote(to->standby, &takeover, NULL), 0);
    CU_ASSERT(fake_machine_steps(to->machine) >= witness_seen(&p->witness));
    CU_ASSERT_TRUE(fake_machine_memory_is_right(to->machine, fake_machine_steps(to->machine)));
    standby_destroy(&to->standby);
    make_engine(to, takeover.epoch + 1);
    const struct engine_heritage heritage = {.offered_term = p->term, .stood_since = clock_now()};
    CU_ASSERT_EQUAL_FATAL(
        engine_protect_taken(to->engine, link, p->term + 1, STAGING, 0, &heritage, NULL), 0);
}

/* TAKEN has come. */
static void follow(struct pair *p, struct host *from)
{
    struct engine_handed handed;
    CU_ASSERT_EQUAL_FATAL(engine_take_handed(from->engine, &handed, NULL), 0);
    engine_destroy(&from->engine);
    make_standby(from);
    CU_ASSERT_EQUAL_FATAL(standby_follow_heir(from->standby, handed.link, p->term + 1, handed.state,
                                              handed.epoch, &handed.policy, NULL),
                          0);
}

static void switch_over(struct pair *p, struct host *from, struct host *to)
{
    const unsigned takes = p->takes;
    engine_hand_over(from->engine, p->term + 1);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p->witness, &p->takes, takes + 1));
    CU_ASSERT_EQUAL(p->take.term, p->term + 1);
    const uint64_t before = witness_seen(&p->witness);
    take(p, to);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p->witness, &from->events[ENGINE_EVENT_TAKEN], 1));
    CU_ASSERT_EQUAL(witness_seen(&p->witness),
                    before); /* the old primary has not acknowledged anything */
    follow(p, from);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p->witness, &to->events[ENGINE_EVENT_PROTECTED], 1));
    CU_ASSERT_TRUE(witness_wait_seen(&p->witness, witness_seen(&p->witness) + 10));
    p->term++;
}

/* ---- tests ---- */

static void a_guest_goes_back_and_forth_without_a_synchronisation(void)
{
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    pair_start(&p, ends);
    for (int i = 0; i < ROUNDS; i++)
        switch_over(&p, &p.hosts[i % 2], &p.hosts[(i + 1) % 2]);
    static struct engine_stats stats;
    engine_snapshot(p.hosts[ROUNDS % 2].engine, &stats);
    CU_ASSERT_EQUAL(stats.sync_started, 0);
    CU_ASSERT(stats.handover_pause > 0);
    /* The standby of now could go on. */
    struct host *standby = &p.hosts[(ROUNDS + 1) % 2];
    struct standby_takeover takeover;
    engine_fence(p.hosts[ROUNDS % 2].engine);
    CU_ASSERT_EQUAL(standby_promote(standby->standby, &takeover, NULL), 0);
    CU_ASSERT(fake_machine_steps(standby->machine) >= witness_seen(&p.witness));
    CU_ASSERT_TRUE(
        fake_machine_memory_is_right(standby->machine, fake_machine_steps(standby->machine)));
    pair_end(&p);
}

static void an_old_primary_can_take_the_guest_back_at_once(void)
{
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    pair_start(&p, ends);
    engine_hand_over(p.hosts[0].engine, 2);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &p.takes, 1));
    take(&p, &p.hosts[1]);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &p.hosts[0].events[ENGINE_EVENT_TAKEN], 1));
    follow(&p, &p.hosts[0]);
    engine_fence(p.hosts[1].engine); /* dead, whatever it has sent */
    struct standby_takeover takeover;
    CU_ASSERT_EQUAL(standby_promote(p.hosts[0].standby, &takeover, NULL), 0);
    CU_ASSERT(fake_machine_steps(p.hosts[0].machine) >= witness_seen(&p.witness));
    CU_ASSERT_TRUE(
        fake_machine_memory_is_right(p.hosts[0].machine, fake_machine_steps(p.hosts[0].machine)));
    pair_end(&p);
}

static void a_hand_over_is_called_off(void)
{
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    pair_start(&p, ends);
    engine_hand_over(p.hosts[0].engine, 2);
    if (engine_take_back(p.hosts[0].engine)) {
        CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) +
                                                         10)); /* it goes on, still protected */
        switch_over(&p, &p.hosts[0], &p.hosts[1]);
    } else {
        CU_ASSERT_TRUE(witness_wait_count(&p.witness, &p.takes, 1)); /* too late: it was offered */
        struct link *link = standby_take_link(p.hosts[1].standby);
        link_destroy(&link);
    }
    pair_end(&p);
}

/* A write to a shared disk that is on its way: the other host must not write there before it. */
static void a_hand_over_waits_for_output_on_its_way(void)
{
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    pair_start(&p, ends);
    fake_machine_delay_output(p.hosts[0].machine, true);
    engine_hand_over(p.hosts[0].engine, 2);
    CU_ASSERT_TRUE_FATAL(fake_machine_wait_asked(p.hosts[0].machine, 3));
    CU_ASSERT_EQUAL(p.takes, 0);
    fake_machine_delay_output(p.hosts[0].machine, false);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &p.takes, 1));
    take(&p, &p.hosts[1]);
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &p.hosts[0].events[ENGINE_EVENT_TAKEN], 1));
    follow(&p, &p.hosts[0]);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 10));
    pair_end(&p);
}

/* The engine hears of the hand-over when its link is gone already: nothing is offered, and the
 * guest, parked for it, has to go on when it is called off. */
static void a_hand_over_without_a_link_is_called_off(void)
{
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    pair_start(&p, ends);
    struct host *from = &p.hosts[0];
    engine_drop_link(from->engine, "the test");
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &from->events[ENGINE_EVENT_LINK_LOST], 1));
    CU_ASSERT_EQUAL(engine_open(from->engine, NULL), 0);
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 10));
    engine_hand_over(from->engine, 2);
    CU_ASSERT_TRUE(fake_machine_wait_parked(from->machine));
    CU_ASSERT_TRUE(engine_take_back(from->engine));
    CU_ASSERT_TRUE(witness_wait_seen(&p.witness, witness_seen(&p.witness) + 10));
    CU_ASSERT_EQUAL(p.takes, 0);
    pair_end(&p);
}

struct fault {
    const char *name;
    enum fault_kind kind;
    uint64_t at_byte;
    /* inside */
    struct link *link;
    uint64_t frames;
    atomic_bool hit;
};

static const struct fault faults[] = {
    {.name = "cut before the frame", .kind = FAULT_CUT, .at_byte = 0},
    {.name = "cut inside the header", .kind = FAULT_CUT, .at_byte = FRAME_HEADER_SIZE / 2},
    {.name = "cut before the end", .kind = FAULT_CUT, .at_byte = FRAME_HEADER_SIZE + 1},
    {.name = "a bit of the header flips", .kind = FAULT_FLIP, .at_byte = 17},
    {.name = "a bit of the payload flips", .kind = FAULT_FLIP, .at_byte = FRAME_HEADER_SIZE + 1},
    {.name = "silence", .kind = FAULT_STALL, .at_byte = 0},
};

/* At the first switchover message that this end sends. */
static void strike(void *context, enum fault_direction direction, const struct frame *frame,
                   int message)
{
    struct fault *f = context;
    (void)frame;
    if (direction != FAULT_SEND)
        return;
    f->frames++;
    if (message != MESSAGE_SWITCHOVER || f->hit)
        return;
    f->hit = true;
    fault_link_add(f->link, (struct fault_rule){.direction = FAULT_SEND,
                                                .kind = f->kind,
                                                .at_frame = f->frames,
                                                .at_byte = f->at_byte});
}

static void lose_link(struct pair *p, struct host *host, bool stalled)
{
    if (stalled)
        engine_drop_link(host->engine, "overdue");
    CU_ASSERT_TRUE_FATAL(witness_wait_count(&p->witness, &host->events[ENGINE_EVENT_LINK_LOST], 1));
}

/* The guest goes on and nothing of what it says is seen. */
static void output_is_held(struct pair *p, struct host *host)
{
    const uint64_t before = witness_seen(&p->witness);
    const nsec_t deadline = clock_now() + SEC(60);
    struct outbox_stats first, stats;
    outbox_snapshot(engine_outbox(host->engine), &first);
    do
        outbox_snapshot(engine_outbox(host->engine), &stats);
    while (stats.held_items <= first.held_items && !stats.dropped_items && clock_now() < deadline);
    CU_ASSERT(stats.held_items > first.held_items || stats.dropped_items > 0);
    CU_ASSERT_EQUAL(stats.mode, OUTBOX_HOLDING);
    CU_ASSERT_EQUAL(witness_seen(&p->witness), before);
}

/* It won the next term. */
static void go_on_alone(struct pair *p, struct host *host)
{
    CU_ASSERT_EQUAL(engine_open(host->engine, NULL), 0);
    CU_ASSERT_TRUE(witness_wait_seen(&p->witness, witness_seen(&p->witness) + 10));
    engine_stop_guest(host->engine);
}

static void run_fault(const struct fault *what, bool at_take, bool old_one_wins)
{
    struct fault fault = {.kind = what->kind, .at_byte = what->at_byte};
    struct link *ends[2];
    struct pair p;
    CU_ASSERT_EQUAL_FATAL(inproc_pair("switchover", ends, NULL), 0);
    struct link **end = &ends[at_take ? 0 : 1];
    fault.link = *end = fault_link_wrap(end, 7);
    fault_link_set_hook(fault.link, strike, &fault);
    const unsigned failures = CU_get_number_of_failures();
    pair_start(&p, ends);
    struct host *from = &p.hosts[0], *to = &p.hosts[1];
    const bool stalls = what->kind == FAULT_STALL;
    engine_hand_over(from->engine, 2);
    if (!at_take) {
        CU_ASSERT_TRUE_FATAL(witness_wait_count(&p.witness, &p.takes, 1));
        take(&p, to);
    }
    if (stalls) {
        CU_ASSERT_TRUE(fault_link_wait_stalled(fault.link, 60000));
        CU_ASSERT_FALSE(engine_take_back(from->engine)); /* it may have been taken */
    }
    lose_link(&p, from, stalls);
    CU_ASSERT_TRUE(fault.hit);
    (void)engine_take_back(from->engine);
    output_is_held(&p, from);
    if (at_take) {
        CU_ASSERT_EQUAL(p.takes, 0);
        struct standby_stats stats;
        standby_unfollow(to->standby);
        standby_snapshot(to->standby, &stats);
        CU_ASSERT_TRUE(stats.promotable); /* either one may win */
    } else {
        lose_link(&p, to, stalls);
        output_is_held(&p, to);
    }
    if (old_one_wins || at_take) {
        if (to->engine)
            engine_fence(to->engine);
        go_on_alone(&p, from);
    } else {
        engine_fence(from->engine);
        go_on_alone(&p, to);
    }
    CU_ASSERT_FALSE(p.witness.backwards);
    pair_end(&p);
    if (CU_get_number_of_failures() != failures)
        printf("  %s, at %s, the %s host wins\n", what->name, at_take ? "TAKE" : "TAKEN",
               old_one_wins ? "old" : "new");
}

static void take_is_lost_and_the_guest_goes_on_where_it_was(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
        run_fault(&faults[i], true, true);
}

static void taken_is_lost_and_either_goes_on(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        run_fault(&faults[i], false, true);
        run_fault(&faults[i], false, false);
    }
}

static const struct test_case cases[] = {
    {"a guest goes back and forth without a synchronisation",
     a_guest_goes_back_and_forth_without_a_synchronisation},
    {"an old primary can take the guest back at once",
     an_old_primary_can_take_the_guest_back_at_once},
    {"a hand-over is called off", a_hand_over_is_called_off},
    {"a hand-over waits for output on its way", a_hand_over_waits_for_output_on_its_way},
    {"a hand-over without a link is called off", a_hand_over_without_a_link_is_called_off},
    {"TAKE is lost, and the guest goes on where it was",
     take_is_lost_and_the_guest_goes_on_where_it_was},
    {"TAKEN is lost, and either goes on", taken_is_lost_and_either_goes_on},
};

int main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "switchover", cases, ARRAY_SIZE(cases));
}
