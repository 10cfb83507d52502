/* The failure detector on a clock of the test's own: every transition, every reason, and what must
 * never be suspicion. */
#include <stdlib.h>
#include <string.h>

#include "heartbeat/detector.h"
#include "test/support/runner.h"

#define PEER     UINT64_C(0x1111)
#define OTHER    UINT64_C(0x2222)
#define INTERVAL MSEC(10)
#define DETECT   MSEC(30)

/* A detector and its clock. */
struct world {
    struct detector d;
    nsec_t now;
    unsigned changes; /* how often the owner was told of a new state */
    unsigned stalls;
    nsec_t stalled_for;
};

static struct world world_with(unsigned paths, bool eof_is_suspicion)
{
    struct world w = {.now = SEC(1000)};
    const struct detector_config config = {.path_count = paths,
                                           .interval = INTERVAL,
                                           .multiplier = 3,
                                           .eof_is_suspicion = eof_is_suspicion};
    CU_ASSERT_TRUE_FATAL(detector_config_valid(&config));
    detector_init(&w.d, &config, w.now);
    return w;
}

static void step(struct world *w, const struct detector_event *event)
{
    const struct detector_actions actions = detector_step(&w->d, event, w->now);
    w->changes += actions.changed;
    w->stalls += actions.stalled;
    if (actions.stalled)
        w->stalled_for = actions.stalled_for;
}

static void event(struct world *w, enum detector_event_kind kind)
{
    step(w, &(struct detector_event){.kind = kind});
}

static void beat_of(struct world *w, unsigned path, uint64_t instance)
{
    step(w, &(struct detector_event){.kind = DETECTOR_EVENT_BEAT,
                                     .path = path,
                                     .instance = instance,
                                     .interval = INTERVAL});
}

static void beat(struct world *w, unsigned path)
{
    beat_of(w, path, PEER);
}

static void beat_stopping(struct world *w, uint64_t instance)
{
    step(w, &(struct detector_event){.kind = DETECTOR_EVENT_BEAT,
                                     .instance = instance,
                                     .interval = INTERVAL,
                                     .stopping = true});
}

/* Lets time pass as a scheduled thread sees it: a tick whenever the detector wants one. */
static void pass(struct world *w, nsec_t duration)
{
    const nsec_t end = w->now + duration;
    while (w->now < end) {
        const nsec_t next = detector_next_tick(&w->d);
        CU_ASSERT_FATAL(next > w->now);
        w->now = next < end ? next : end;
        event(w, DETECTOR_EVENT_TICK);
    }
}

/* Beats on `path` at the peer's interval for `duration`. */
static void pass_with_beats(struct world *w, unsigned path, uint64_t instance, nsec_t duration)
{
    for (nsec_t t = 0; t < duration; t += INTERVAL) {
        pass(w, INTERVAL);
        beat_of(w, path, instance);
    }
}

#define EXPECT(w, st, why)                                                                         \
    do {                                                                                           \
        CU_ASSERT_EQUAL((w)->d.state, DETECTOR_##st);                                              \
        CU_ASSERT_EQUAL((w)->d.reason, DETECTOR_REASON_##why);                                     \
    } while (0)

/* A world brought into `state` the shortest way. */
static struct world world_in(enum detector_state state, bool eof_is_suspicion)
{
    struct world w = world_with(1, eof_is_suspicion);
    if (state != DETECTOR_UNHEARD)
        beat(&w, 0);
    if (state == DETECTOR_SUSPECT)
        pass(&w, DETECT);
    if (state == DETECTOR_STOPPED)
        beat_stopping(&w, PEER);
    CU_ASSERT_EQUAL_FATAL(w.d.state, state);
    w.changes = 0;
    return w;
}

static void every_event_in_every_state_leads_where_the_table_says(void)
{
    static const struct {
        const char *what;
        enum detector_state expect[4]; /* from UNHEARD, ALIVE, SUSPECT (by silence), STOPPED */
    } rows[] = {
        {"beat", {DETECTOR_ALIVE, DETECTOR_ALIVE, DETECTOR_ALIVE, DETECTOR_STOPPED}},
        {"new process", {DETECTOR_ALIVE, DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_ALIVE}},
        {"stopping", {DETECTOR_STOPPED, DETECTOR_STOPPED, DETECTOR_STOPPED, DETECTOR_STOPPED}},
        {"goodbye", {DETECTOR_STOPPED, DETECTOR_STOPPED, DETECTOR_STOPPED, DETECTOR_STOPPED}},
        {"silence", {DETECTOR_UNHEARD, DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_STOPPED}},
        {"eof", {DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_STOPPED}},
        {"reset", {DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_STOPPED}},
        {"exit", {DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_SUSPECT, DETECTOR_STOPPED}},
        {"session", {DETECTOR_UNHEARD, DETECTOR_ALIVE, DETECTOR_UNHEARD, DETECTOR_UNHEARD}},
    };
    for (size_t row = 0; row < ARRAY_SIZE(rows); row++) {
        for (int from = DETECTOR_UNHEARD; from <= DETECTOR_STOPPED; from++) {
            struct world w = world_in((enum detector_state)from, true);
            switch (row) {
            case 0:
                beat(&w, 0);
                break;
            case 1:
                beat_of(&w, 0, OTHER);
                break;
            case 2:
                beat_stopping(&w, PEER);
                break;
            case 3:
                event(&w, DETECTOR_EVENT_GOODBYE);
                break;
            case 4:
                pass(&w, 10 * DETECT);
                break;
            case 5:
                event(&w, DETECTOR_EVENT_EOF);
                break;
            case 6:
                event(&w, DETECTOR_EVENT_RESET);
                break;
            case 7:
                event(&w, DETECTOR_EVENT_EXIT);
                break;
            case 8:
                event(&w, DETECTOR_EVENT_SESSION);
                break;
            }
            CU_ASSERT_EQUAL(w.d.state, rows[row].expect[from]);
            CU_ASSERT_EQUAL(w.changes, rows[row].expect[from] != (enum detector_state)from);
        }
    }
}

static void each_end_of_data_is_recorded_as_what_it_was(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_EOF);
    EXPECT(&w, SUSPECT, EOF);
    event(&w, DETECTOR_EVENT_EXIT);
    EXPECT(&w, SUSPECT, EOF); /* the first reason stays */
    CU_ASSERT_EQUAL(w.changes, 1);
    w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_RESET);
    EXPECT(&w, SUSPECT, RESET);
    w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_EXIT);
    EXPECT(&w, SUSPECT, EXIT);
}

static void a_peer_never_heard_is_not_suspected_however_long(void)
{
    struct world w = world_with(2, true);
    pass(&w, SEC(5));
    EXPECT(&w, UNHEARD, START);
    CU_ASSERT_EQUAL(w.changes, 0);
}

static void silence_is_suspicion_exactly_at_the_detection_time(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    pass(&w, DETECT - 1);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, 1);
    EXPECT(&w, SUSPECT, SILENCE);
    CU_ASSERT_EQUAL(w.d.since, w.now);
    CU_ASSERT_EQUAL(w.d.suspicions, 1);
    pass(&w, SEC(1));
    CU_ASSERT_EQUAL(w.d.suspicions, 1);
}

static void one_path_that_is_heard_is_enough(void)
{
    struct world w = world_with(3, true);
    for (unsigned i = 0; i < 3; i++)
        beat(&w, i);
    pass_with_beats(&w, 2, PEER, SEC(1));
    EXPECT(&w, ALIVE, BEAT);
    CU_ASSERT_FALSE(w.d.paths[0].heard);
    CU_ASSERT_FALSE(w.d.paths[1].heard);
    CU_ASSERT_TRUE(w.d.paths[2].heard);
    pass(&w, DETECT);
    EXPECT(&w, SUSPECT, SILENCE);
}

static void paths_that_lose_beats_in_turn_keep_the_peer_alive(void)
{
    struct world w = world_with(2, true);
    beat(&w, 0);
    for (int i = 0; i < 100; i++) {
        pass(&w, DETECT - MSEC(1));
        beat(&w, (unsigned)i % 2);
    }
    EXPECT(&w, ALIVE, BEAT);
    CU_ASSERT_EQUAL(w.d.suspicions, 0);
}

static void duplicates_change_nothing(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    const nsec_t due = detector_next_tick(&w.d);
    beat(&w, 0);
    beat(&w, 0);
    CU_ASSERT_EQUAL(detector_next_tick(&w.d), due);
    CU_ASSERT_EQUAL(w.changes, 0);
}

static void a_beat_revokes_suspicion_by_silence_at_once(void)
{
    struct world w = world_in(DETECTOR_SUSPECT, true);
    beat(&w, 0);
    EXPECT(&w, ALIVE, RESUMED);
}

static void a_beat_under_way_does_not_revoke_suspicion_by_eof(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_EOF);
    beat(&w, 0);
    pass(&w, MSEC(1));
    beat(&w, 0);
    EXPECT(&w, SUSPECT, EOF);
    pass(&w, SEC(1));
    EXPECT(&w, SUSPECT, EOF);
}

static void beats_for_a_detection_time_revoke_suspicion_by_eof(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_EOF);
    pass_with_beats(&w, 0, PEER, DETECT);
    EXPECT(&w, SUSPECT, EOF);
    pass_with_beats(&w, 0, PEER, INTERVAL);
    EXPECT(&w, ALIVE, RESUMED);
}

static void a_gap_in_the_beats_begins_the_probation_anew(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_RESET);
    pass_with_beats(&w, 0, PEER, DETECT);
    pass(&w, DETECT + 1);
    pass_with_beats(&w, 0, PEER, DETECT);
    EXPECT(&w, SUSPECT, RESET);
}

static void eof_after_silence_needs_more_than_one_beat_to_recover(void)
{
    struct world w = world_in(DETECTOR_SUSPECT, true);
    event(&w, DETECTOR_EVENT_EOF);
    beat(&w, 0);
    EXPECT(&w, SUSPECT, SILENCE);
}

static void a_restarted_peer_is_suspected_then_alive_as_a_new_process(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    beat_of(&w, 0, OTHER);
    EXPECT(&w, SUSPECT, RESTARTED);
    pass_with_beats(&w, 0, OTHER, 2 * DETECT);
    EXPECT(&w, ALIVE, BEAT); /* not RESUMED: this process holds nothing of the guest */
}

static void a_new_process_after_silence_does_not_look_like_the_old_one(void)
{
    struct world w = world_in(DETECTOR_SUSPECT, true);
    beat_of(&w, 0, OTHER);
    EXPECT(&w, SUSPECT, SILENCE);
    pass_with_beats(&w, 0, OTHER, 2 * DETECT);
    EXPECT(&w, ALIVE, BEAT);
}

static void a_stop_is_never_suspicion(void)
{
    for (int goodbye = 0; goodbye < 2; goodbye++) {
        struct world w = world_in(DETECTOR_ALIVE, true);
        if (goodbye)
            event(&w, DETECTOR_EVENT_GOODBYE);
        else
            beat_stopping(&w, PEER);
        beat(&w, 0); /* overtaken by the announcement */
        event(&w, DETECTOR_EVENT_EOF);
        event(&w, DETECTOR_EVENT_EXIT);
        pass(&w, SEC(2));
        CU_ASSERT_EQUAL(w.d.state, DETECTOR_STOPPED);
        CU_ASSERT_EQUAL(w.d.suspicions, 0);
        beat_of(&w, 0, OTHER);
        EXPECT(&w, ALIVE, BEAT);
    }
}

static void a_path_without_carrier_is_silent_at_once(void)
{
    struct world w = world_with(2, false);
    beat(&w, 0);
    beat(&w, 1);
    EXPECT(&w, ALIVE, BEAT);
    step(&w, &(struct detector_event){.kind = DETECTOR_EVENT_DEAF, .path = 1});
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, ALIVE, BEAT); /* the other path is heard */
    beat(&w, 1);             /* the carrier is back */
    step(&w, &(struct detector_event){.kind = DETECTOR_EVENT_DEAF, .path = 0});
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, ALIVE, BEAT);
    step(&w, &(struct detector_event){.kind = DETECTOR_EVENT_DEAF, .path = 1});
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, SUSPECT, SILENCE);
    beat(&w, 0);
    EXPECT(&w, ALIVE, RESUMED);
    /* Of a peer that was never heard it says nothing. */
    struct world fresh = world_with(1, true);
    step(&fresh, &(struct detector_event){.kind = DETECTOR_EVENT_DEAF});
    event(&fresh, DETECTOR_EVENT_TICK);
    CU_ASSERT_EQUAL(fresh.d.state, DETECTOR_UNHEARD);
}

static void a_new_session_forgets_the_beats_of_the_dead_process(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    event(&w, DETECTOR_EVENT_EOF);
    event(&w, DETECTOR_EVENT_SESSION);
    EXPECT(&w, UNHEARD, SESSION);
    CU_ASSERT_FALSE(w.d.paths[0].heard);
    pass(&w, SEC(1)); /* nothing heard of the new one yet: no suspicion */
    EXPECT(&w, UNHEARD, SESSION);
    beat_of(&w, 0, OTHER);
    EXPECT(&w, ALIVE, BEAT);
}

static void without_the_knob_eof_needs_the_heartbeat_to_agree(void)
{
    struct world w = world_in(DETECTOR_ALIVE, false);
    event(&w, DETECTOR_EVENT_EOF);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, INTERVAL * 3 / 2 - 1);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, 1);
    EXPECT(&w, SUSPECT, EOF);
}

static void without_the_knob_a_peer_that_beats_on_stays_alive(void)
{
    struct world w = world_in(DETECTOR_ALIVE, false);
    event(&w, DETECTOR_EVENT_RESET);
    pass_with_beats(&w, 0, PEER, SEC(1));
    EXPECT(&w, ALIVE, BEAT);
    /* The end of data is long ago: the full detection time counts again, and it is silence. */
    pass(&w, DETECT - 1);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, 1);
    EXPECT(&w, SUSPECT, SILENCE);
}

static void without_the_knob_eof_of_a_peer_never_heard_is_not_agreed(void)
{
    struct world w = world_with(1, false);
    event(&w, DETECTOR_EVENT_EOF);
    pass(&w, SEC(1));
    EXPECT(&w, UNHEARD, START);
}

static void a_new_session_ends_the_wait_that_eof_had_shortened(void)
{
    struct world w = world_in(DETECTOR_ALIVE, false);
    event(&w, DETECTOR_EVENT_EOF);
    event(&w, DETECTOR_EVENT_SESSION);
    pass(&w, DETECT - 1);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, 1);
    EXPECT(&w, SUSPECT, SILENCE);
}

static void a_detector_that_slept_accuses_nobody(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    w.now += SEC(10);
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, ALIVE, BEAT);
    CU_ASSERT_EQUAL(w.stalls, 1);
    CU_ASSERT_EQUAL(w.stalled_for, SEC(10));
    /* And then judges as ever, from the moment it woke. */
    pass(&w, DETECT - 1);
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, 1);
    EXPECT(&w, SUSPECT, SILENCE);
}

static void a_short_delay_is_no_stall(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    w.now += w.d.config.stall_threshold;
    event(&w, DETECTOR_EVENT_TICK);
    CU_ASSERT_EQUAL(w.stalls, 0);
    w.now += w.d.config.stall_threshold + 1;
    event(&w, DETECTOR_EVENT_TICK);
    CU_ASSERT_EQUAL(w.stalls, 1);
}

static void eof_read_right_after_a_stall_needs_the_heartbeat_to_agree(void)
{
    /* The peer took us for dead and closed: woken, we must not take it for dead. */
    struct world w = world_in(DETECTOR_ALIVE, true);
    w.now += SEC(10);
    event(&w, DETECTOR_EVENT_EOF);
    EXPECT(&w, ALIVE, BEAT);
    pass_with_beats(&w, 0, PEER, 3 * DETECT);
    EXPECT(&w, ALIVE, BEAT);
    /* With the peer silent, it counts. */
    w.now += SEC(10);
    event(&w, DETECTOR_EVENT_EOF);
    pass(&w, DETECT);
    EXPECT(&w, SUSPECT, EOF);
}

static void eof_after_a_stall_of_a_peer_never_heard_counts_after_the_doubt(void)
{
    struct world w = world_with(1, true);
    w.now += SEC(10);
    event(&w, DETECTOR_EVENT_EOF);
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, UNHEARD, START);
    pass(&w, DETECT);
    EXPECT(&w, SUSPECT, EOF);
}

static void a_tick_is_wanted_when_a_doubtful_eof_comes_to_count(void)
{
    struct world w = {.now = SEC(1000)};
    const struct detector_config config = {.path_count = 1,
                                           .interval = INTERVAL,
                                           .multiplier = 3,
                                           .eof_is_suspicion = true,
                                           .stall_threshold = SEC(10)};
    detector_init(&w.d, &config, w.now);
    w.now += SEC(11);
    event(&w, DETECTOR_EVENT_EOF);
    CU_ASSERT_EQUAL(detector_next_tick(&w.d), w.now + DETECT);
    pass(&w, DETECT);
    EXPECT(&w, SUSPECT, EOF);
}

static void a_clock_that_goes_back_is_held(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    pass(&w, MSEC(20));
    const nsec_t before = w.now;
    w.now -= SEC(5);
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, ALIVE, BEAT);
    CU_ASSERT_EQUAL(w.stalls, 0);
    w.now = before;
    pass(&w, MSEC(10));
    EXPECT(&w, SUSPECT, SILENCE);
}

static void a_clock_that_jumps_ahead_accuses_nobody(void)
{
    struct world w = world_in(DETECTOR_ALIVE, true);
    w.now += SEC(86400) * 365;
    beat(&w, 0);
    event(&w, DETECTOR_EVENT_TICK);
    EXPECT(&w, ALIVE, BEAT);
    CU_ASSERT_EQUAL(w.d.suspicions, 0);
}

static void a_peer_that_sends_slowly_is_judged_slowly(void)
{
    struct world w = world_with(1, true);
    step(&w, &(struct detector_event){
                 .kind = DETECTOR_EVENT_BEAT, .instance = PEER, .interval = MSEC(100)});
    CU_ASSERT_EQUAL(detector_detection_time(&w.d), MSEC(300));
    pass(&w, MSEC(299));
    EXPECT(&w, ALIVE, BEAT);
    pass(&w, MSEC(1));
    EXPECT(&w, SUSPECT, SILENCE);
}

static void a_peer_that_claims_an_absurd_interval_is_bounded(void)
{
    struct world w = world_with(1, true);
    step(&w, &(struct detector_event){
                 .kind = DETECTOR_EVENT_BEAT, .instance = PEER, .interval = INT64_MAX});
    CU_ASSERT_EQUAL(detector_detection_time(&w.d), 3 * DETECTOR_INTERVAL_MAX);
}

static void configurations_out_of_range_are_refused(void)
{
    const struct detector_config good = {.path_count = 1, .interval = INTERVAL, .multiplier = 3};
    struct detector_config c = good;
    CU_ASSERT_TRUE(detector_config_valid(&c));
    c.path_count = 0;
    CU_ASSERT_FALSE(detector_config_valid(&c));
    c.path_count = DETECTOR_PATH_MAX + 1;
    CU_ASSERT_FALSE(detector_config_valid(&c));
    c = good;
    c.interval = DETECTOR_INTERVAL_MIN - 1;
    CU_ASSERT_FALSE(detector_config_valid(&c));
    c.interval = DETECTOR_INTERVAL_MAX + 1;
    CU_ASSERT_FALSE(detector_config_valid(&c));
    c = good;
    c.multiplier = 0;
    CU_ASSERT_FALSE(detector_config_valid(&c));
    c = good;
    c.stall_threshold = -1;
    CU_ASSERT_FALSE(detector_config_valid(&c));
}

/* What must hold after any history. `heard_at`: when the last beat of any path came. */
static void check_invariants(const struct world *w, enum detector_state before, nsec_t heard_at)
{
    const struct detector *d = &w->d;
    if (before == DETECTOR_STOPPED)
        CU_ASSERT_NOT_EQUAL(d->state, DETECTOR_SUSPECT);
    if (d->state == DETECTOR_SUSPECT && d->reason == DETECTOR_REASON_SILENCE && d->since == w->now)
        CU_ASSERT(w->now - heard_at >= DETECT);
    if (d->state != DETECTOR_ALIVE)
        return;
    bool heard = false;
    for (unsigned i = 0; i < d->config.path_count; i++)
        heard |= d->paths[i].heard;
    CU_ASSERT_TRUE(heard);
}

static void any_history_keeps_the_invariants(void)
{
    struct world w = world_with(3, true);
    enum detector_state before = w.d.state;
    nsec_t heard_at = 0;
    srandom(20240607);
    for (int i = 0; i < 200000; i++) {
        const long dice = random() % 100;
        before = w.d.state;
        w.now += random() % (dice == 99 ? SEC(1) : MSEC(12));
        if (dice < 40) {
            heard_at = w.now;
            beat_of(&w, (unsigned)random() % 3, dice < 37 ? PEER : OTHER);
        } else if (dice < 42) {
            beat_stopping(&w, PEER);
            heard_at = w.now;
        } else if (dice < 50) {
            event(&w, (enum detector_event_kind)(DETECTOR_EVENT_SESSION + random() % 5));
        }
        event(&w, DETECTOR_EVENT_TICK);
        check_invariants(&w, before, heard_at);
    }
    CU_ASSERT(w.d.suspicions > 100);
}

static void states_and_reasons_have_names(void)
{
    CU_ASSERT_STRING_EQUAL(detector_state_name(DETECTOR_SUSPECT), "suspect");
    for (int i = 0; i < DETECTOR_REASON_COUNT; i++)
        CU_ASSERT(strlen(detector_reason_text((enum detector_reason)i)) > 0);
}

static const struct test_case cases[] = {
    {"every event in every state leads where the table says",
     every_event_in_every_state_leads_where_the_table_says},
    {"each end of data is recorded as what it was", each_end_of_data_is_recorded_as_what_it_was},
    {"a peer never heard is not suspected however long",
     a_peer_never_heard_is_not_suspected_however_long},
    {"silence is suspicion exactly at the detection time",
     silence_is_suspicion_exactly_at_the_detection_time},
    {"one path that is heard is enough", one_path_that_is_heard_is_enough},
    {"paths that lose beats in turn keep the peer alive",
     paths_that_lose_beats_in_turn_keep_the_peer_alive},
    {"duplicates change nothing", duplicates_change_nothing},
    {"a beat revokes suspicion by silence at once", a_beat_revokes_suspicion_by_silence_at_once},
    {"a beat under way does not revoke suspicion by EOF",
     a_beat_under_way_does_not_revoke_suspicion_by_eof},
    {"beats for a detection time revoke suspicion by EOF",
     beats_for_a_detection_time_revoke_suspicion_by_eof},
    {"a gap in the beats begins the probation anew", a_gap_in_the_beats_begins_the_probation_anew},
    {"EOF after silence needs more than one beat to recover",
     eof_after_silence_needs_more_than_one_beat_to_recover},
    {"a restarted peer is suspected, then alive as a new process",
     a_restarted_peer_is_suspected_then_alive_as_a_new_process},
    {"a new process after silence does not look like the old one",
     a_new_process_after_silence_does_not_look_like_the_old_one},
    {"a stop is never suspicion", a_stop_is_never_suspicion},
    {"a path without carrier is silent at once", a_path_without_carrier_is_silent_at_once},
    {"a new session forgets the beats of the dead process",
     a_new_session_forgets_the_beats_of_the_dead_process},
    {"without the knob EOF needs the heartbeat to agree",
     without_the_knob_eof_needs_the_heartbeat_to_agree},
    {"without the knob a peer that beats on stays alive",
     without_the_knob_a_peer_that_beats_on_stays_alive},
    {"without the knob EOF of a peer never heard is not agreed",
     without_the_knob_eof_of_a_peer_never_heard_is_not_agreed},
    {"a new session ends the wait that EOF had shortened",
     a_new_session_ends_the_wait_that_eof_had_shortened},
    {"a detector that slept accuses nobody", a_detector_that_slept_accuses_nobody},
    {"a short delay is no stall", a_short_delay_is_no_stall},
    {"EOF read right after a stall needs the heartbeat to agree",
     eof_read_right_after_a_stall_needs_the_heartbeat_to_agree},
    {"EOF after a stall of a peer never heard counts after the doubt",
     eof_after_a_stall_of_a_peer_never_heard_counts_after_the_doubt},
    {"a tick is wanted when a doubtful EOF comes to count",
     a_tick_is_wanted_when_a_doubtful_eof_comes_to_count},
    {"a clock that goes back is held", a_clock_that_goes_back_is_held},
    {"a clock that jumps ahead accuses nobody", a_clock_that_jumps_ahead_accuses_nobody},
    {"a peer that sends slowly is judged slowly", a_peer_that_sends_slowly_is_judged_slowly},
    {"a peer that claims an absurd interval is bounded",
     a_peer_that_claims_an_absurd_interval_is_bounded},
    {"configurations out of range are refused", configurations_out_of_range_are_refused},
    {"any history keeps the invariants", any_history_keeps_the_invariants},
    {"states and reasons have names", states_and_reasons_have_names},
};

TEST_MAIN("detector", cases)
