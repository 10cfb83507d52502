/* Two live heartbeats (test/support/beat_pair.h). Waits are for conditions; deadlines are generous
 * and only end a test that has failed. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/quick_exit.h"
#include "test/support/beat_pair.h"

static void two_sides_hear_each_other_and_tell_what_they_know(void)
{
    struct beat_pair *p = beat_pair_alive(2);
    BEAT_WAIT(&p->a, status.paths[0].peer_hears_us && status.paths[0].round_trip > 0);
    struct heartbeat_status now;
    heartbeat_snapshot(p->a.heartbeat, &now);
    CU_ASSERT_EQUAL(now.state, DETECTOR_ALIVE);
    CU_ASSERT_EQUAL(now.path_count, 2);
    CU_ASSERT_EQUAL(now.peer.role, PACKET_ROLE_SECONDARY);
    CU_ASSERT_EQUAL(now.peer.term, 4);
    CU_ASSERT_TRUE(now.peer.guest_alive);
    CU_ASSERT_EQUAL(now.detection_time, 100 * BEAT_INTERVAL);
    CU_ASSERT_EQUAL(now.paths[1].bad_mac, 0);
    CU_ASSERT_STRING_EQUAL(now.paths[1].bind, p->a.bind[1]);
    const struct heartbeat_local local = {
        .role = PACKET_ROLE_PRIMARY, .term = 5, .epoch = 1234, .guest_alive = false};
    heartbeat_set_local_now(p->b.heartbeat, &local);
    BEAT_WAIT(&p->a, p->a.told.term == 5);
    CU_ASSERT_FALSE(p->a.told.guest_alive);
    CU_ASSERT_EQUAL(p->a.told.epoch, 1234);
    CU_ASSERT_EQUAL(p->a.suspected, 0);
    beat_pair_destroy(p);
}

static void a_side_that_vanishes_is_suspected(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    heartbeat_destroy(&p->b.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 1);
    CU_ASSERT_EQUAL(p->a.reason, DETECTOR_REASON_SILENCE);
    beat_pair_destroy(p);
}

static void a_side_that_stops_on_purpose_is_not_suspected(void)
{
    struct beat_pair *p = beat_pair_alive(2);
    heartbeat_announce_stop(p->b.heartbeat);
    heartbeat_destroy(&p->b.heartbeat);
    BEAT_WAIT(&p->a, p->a.stopping == 1);
    CU_ASSERT_TRUE(p->a.told.stopping);
    heartbeat_hint_eof(p->a.heartbeat);
    BEAT_WAIT(&p->a,
              !status.paths[0].heard && !status.paths[1].heard); /* its silence was noticed */
    CU_ASSERT_EQUAL(p->a.suspected, 0);
    beat_pair_destroy(p);
}

static void the_end_of_data_is_suspicion_at_once_and_revoked_by_beats(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    heartbeat_hint_eof(p->a.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 1 && p->a.alive == 2);
    CU_ASSERT_EQUAL(p->a.reason, DETECTOR_REASON_RESUMED);
    heartbeat_hint_reset(p->a.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 2);
    heartbeat_hint_session(p->a.heartbeat);
    BEAT_WAIT(&p->a, p->a.alive == 3);
    heartbeat_hint_exit(p->a.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 3);
    heartbeat_hint_goodbye(p->a.heartbeat);
    BEAT_WAIT(&p->a, p->a.stopping == 1);
    beat_pair_destroy(p);
}

static void a_path_that_is_cut_is_seen_and_the_other_keeps_the_peer_alive(void)
{
    struct beat_pair *p = beat_pair_alive(2);
    beat_relay_drop(&p->relay, 0, true);
    beat_relay_drop(&p->relay, 1, true);
    BEAT_WAIT(&p->a, !status.paths[0].heard && status.paths[1].heard);
    beat_relay_drop(&p->relay, 0, false);
    beat_relay_drop(&p->relay, 1, false);
    BEAT_WAIT(&p->a, status.paths[0].heard && status.paths[0].lost > 0);
    CU_ASSERT_EQUAL(p->a.suspected, 0);
    CU_ASSERT_EQUAL(p->b.suspected, 0);
    beat_pair_destroy(p);
}

/* What B says while one of them can't hear the other arrives late by another way, perhaps after B
 * took over: `lane` 1 is what A hears, 0 what B does. */
static void check_trust_after_silence(size_t lane)
{
    struct beat_pair *p = beat_pair_alive(1);
    const nsec_t alive = clock_now();
    BEAT_WAIT(&p->a, heartbeat_trusted_since(p->a.heartbeat) <= alive);
    beat_relay_drop(&p->relay, lane, true);
    const nsec_t cut = clock_now();
    CU_ASSERT(heartbeat_trusted_since(p->a.heartbeat) <= cut);
    struct beat_side *deaf = lane ? &p->a : &p->b;
    /* Twice the detection time: a beat from before the end of the silence may be late at the relay,
     * and go through after it. */
    BEAT_WAIT(deaf, deaf->suspected == 1 && clock_now() - cut >= 200 * BEAT_INTERVAL);
    BEAT_WAIT(&p->a, heartbeat_trusted_since(p->a.heartbeat) > cut);
    CU_ASSERT(heartbeat_trusted_since(p->a.heartbeat) < clock_now());
    const nsec_t healed = clock_now();
    beat_relay_drop(&p->relay, lane, false);
    BEAT_WAIT(deaf, deaf->alive == 2);
    BEAT_WAIT(&p->a, heartbeat_trusted_since(p->a.heartbeat) >= healed);
    CU_ASSERT_EQUAL(p->a.suspected + p->b.suspected, 1);
    beat_pair_destroy(p);
}

static void after_a_silence_older_questions_are_not_trusted(void)
{
    check_trust_after_silence(1);
    check_trust_after_silence(0);
}

static void a_path_cut_one_way_is_told_apart(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    BEAT_WAIT(&p->a, status.paths[0].peer_hears_us);
    beat_relay_drop(&p->relay, 0, true); /* B no longer hears A */
    BEAT_WAIT(&p->b, p->b.suspected == 1);
    BEAT_WAIT(&p->a, status.paths[0].heard && !status.paths[0].peer_hears_us);
    CU_ASSERT_EQUAL(p->a.suspected, 0);
    beat_relay_drop(&p->relay, 0, false);
    BEAT_WAIT(&p->b, p->b.alive == 2);
    CU_ASSERT_EQUAL(p->b.reason, DETECTOR_REASON_RESUMED);
    beat_pair_destroy(p);
}

static void a_peer_that_restarts_is_suspected_and_comes_back_as_a_new_process(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    heartbeat_destroy(&p->b.heartbeat);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->a, p->a.suspected == 1 && p->a.alive == 2);
    CU_ASSERT_EQUAL(p->a.reason, DETECTOR_REASON_BEAT);
    CU_ASSERT_EQUAL(p->a.suspected, 1);
    beat_pair_destroy(p);
}

static void garbage_is_counted_and_ignored(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    const struct beat_lane *lane = &p->relay.lanes[1];
    uint8_t bytes[1500];
    srandom(7);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random();
    for (size_t size = 0; size < sizeof(bytes); size += 13)
        sendto(lane->fd, bytes, size, 0, &lane->to.any, lane->to.size);
    BEAT_WAIT(&p->a, status.paths[0].bad_other >= 100);
    /* A genuine beat, altered in one bit. */
    pthread_mutex_lock(&p->relay.lock);
    memcpy(bytes, p->relay.record[0].bytes, PACKET_SIZE);
    pthread_mutex_unlock(&p->relay.lock);
    bytes[60] ^= 1;
    sendto(lane->fd, bytes, PACKET_SIZE, 0, &lane->to.any, lane->to.size);
    BEAT_WAIT(&p->a, status.paths[0].bad_mac == 1);
    CU_ASSERT_EQUAL(p->a.suspected, 0);
    CU_ASSERT_EQUAL(p->a.alive, 1);
    beat_pair_destroy(p);
}

static void a_peer_with_another_secret_is_never_heard(void)
{
    struct beat_pair *p = beat_pair_create(1);
    p->b.secret = "another secret";
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 1);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 1);
    BEAT_WAIT(&p->a, status.paths[0].bad_mac >= 10);
    CU_ASSERT_EQUAL(p->a.alive, 0);
    CU_ASSERT_EQUAL(p->a.changed, 0);
    beat_pair_destroy(p);
}

static void a_recording_does_not_revive_a_dead_peer(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    BEAT_WAIT(&p->a, status.paths[0].received >= 10); /* something worth recording */
    heartbeat_destroy(&p->b.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 1);
    size_t count = beat_relay_replay(&p->relay, 1);
    CU_ASSERT(count > 0);
    BEAT_WAIT(&p->a, status.paths[0].replayed + status.paths[0].unproven >= count);
    CU_ASSERT_EQUAL(p->a.alive, 1);
    /* Nor its successor, when that has died, too. */
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->a, p->a.alive == 2 && status.paths[0].received >= 20);
    heartbeat_destroy(&p->b.heartbeat);
    BEAT_WAIT(&p->a, p->a.suspected == 2);
    count += beat_relay_replay(&p->relay, 1);
    BEAT_WAIT(&p->a, status.paths[0].replayed + status.paths[0].unproven >= count);
    CU_ASSERT_EQUAL(p->a.alive, 2);
    CU_ASSERT_EQUAL(p->a.suspected, 2);
    /* Nor either of them to our own successor. */
    heartbeat_destroy(&p->a.heartbeat);
    p->a.alive = 0;
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
    const size_t again = beat_relay_replay(&p->relay, 1);
    BEAT_WAIT(&p->a, status.paths[0].unproven >= again);
    CU_ASSERT_EQUAL(p->a.alive, 0);
    beat_pair_destroy(p);
}

static void an_owner_that_takes_its_time_does_not_silence_the_beats(void)
{
    struct beat_pair *p = beat_pair_create(1);
    p->a.block_for = SEC(1); /* twice the detection time, in its first callback */
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->a, p->a.alive == 1); /* told after the first callback has returned */
    CU_ASSERT_EQUAL(p->b.suspected, 0);
    beat_pair_destroy(p);
}

/* What a frozen process knew: sent to the parent when it asks. */
struct confession {
    unsigned suspected, stalled; /* what its owner was told */
    uint64_t suspicions;         /* of its detector, told or not */
    nsec_t worst_stall;
    nsec_t awake_since;
};

/* A side that wakes beats before it judges, and its owner is told by another thread: the peer may
 * know that it is back before its owner knows that it was away. */
static struct confession confess(struct beat_side *s)
{
    const nsec_t deadline = clock_now() + BEAT_PATIENCE;
    for (;;) {
        struct heartbeat_status status;
        heartbeat_snapshot(s->heartbeat, &status);
        pthread_mutex_lock(&s->lock);
        const struct confession c = {s->suspected, s->stalled, status.suspicions,
                                     status.worst_stall, heartbeat_awake_since(s->heartbeat)};
        pthread_mutex_unlock(&s->lock);
        if ((c.stalled && c.worst_stall) || clock_now() > deadline)
            return c;
        poll(NULL, 0, 1);
    }
}

/* Side A in a process of its own; reports when the parent writes a byte, then ends. */
static void run_side_a(struct beat_pair *p, int ask_fd, int tell_fd)
{
    char byte;
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
    if (read(ask_fd, &byte, 1) != 1)
        _exit(1);
    const struct confession c = confess(&p->a);
    _exit(fd_write_all(tell_fd, &c, sizeof(c)) == 0 ? 0 : 1);
}

static void a_frozen_side_is_suspected_and_woken_accuses_nobody(void)
{
    struct beat_pair *p = beat_pair_prepare(1);
    int ask[2], tell[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ask), 0);
    CU_ASSERT_EQUAL_FATAL(pipe(tell), 0);
    const pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0)
        run_side_a(p, ask[0], tell[1]);
    beat_relay_start(&p->relay);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->b, p->b.alive == 1 && status.paths[0].peer_hears_us);
    const nsec_t frozen = clock_now();
    CU_ASSERT_EQUAL(kill(child, SIGSTOP), 0);
    /* Beats that were late already may have hastened the suspicion. */
    BEAT_WAIT(&p->b, p->b.suspected == 1 && clock_now() - frozen >= 100 * BEAT_INTERVAL);
    const nsec_t woken = clock_now();
    CU_ASSERT_EQUAL(kill(child, SIGCONT), 0);
    BEAT_WAIT(&p->b, p->b.alive >= 2 && p->b.reason == DETECTOR_REASON_RESUMED);
    struct confession c;
    CU_ASSERT_EQUAL(fd_write_all(ask[1], "?", 1), 0);
    CU_ASSERT_EQUAL(fd_read_all(tell[0], &c, sizeof(c)), 0);
    CU_ASSERT_EQUAL(c.suspected, 0);
    CU_ASSERT_EQUAL(c.suspicions, 0);
    CU_ASSERT(c.stalled >= 1);
    CU_ASSERT(c.worst_stall >= 99 * BEAT_INTERVAL);
    CU_ASSERT(c.awake_since >= woken);
    CU_ASSERT_EQUAL(waitpid(child, NULL, 0), child);
    for (int i = 0; i < 2; i++) {
        fd_close(&ask[i]);
        fd_close(&tell[i]);
    }
    beat_pair_destroy(p);
}

/* With a detection time of seconds, only the last word of the dead process can be the reason. */
static void a_killed_process_is_told_of_by_what_outlives_it(void)
{
    struct beat_pair *p = beat_pair_prepare(2);
    p->a.multiplier = p->b.multiplier = DETECTOR_MULTIPLIER_MAX;
    p->a.interval = p->b.interval = MSEC(50);
    p->a.eof_is_suspicion = p->b.eof_is_suspicion = true;
    p->a.last_words = true;
    const pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        struct error err = {0};
        if (quick_exit_arm(&err) < 0)
            _exit(1);
        beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
        for (;;)
            pause();
    }
    beat_relay_start(&p->relay);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->b, p->b.alive == 1 && status.paths[0].peer_hears_us);
    CU_ASSERT_EQUAL(p->b.suspected, 0);
    CU_ASSERT_EQUAL(kill(child, SIGKILL), 0);
    BEAT_WAIT(&p->b, p->b.suspected == 1);
    CU_ASSERT_EQUAL(p->b.reason, DETECTOR_REASON_EXIT);
    CU_ASSERT_EQUAL(waitpid(child, NULL, 0), child);
    /* Its last word again, recorded on the way, says nothing of its successor. */
    p->a.last_words = false;
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
    BEAT_WAIT(&p->b, p->b.alive == 2);
    const size_t count = beat_relay_replay(&p->relay, 0);
    BEAT_WAIT(&p->b, status.paths[0].replayed + status.paths[0].unproven >= count);
    CU_ASSERT_EQUAL(p->b.suspected, 1);
    beat_pair_destroy(p);
}

static void an_occupied_address_is_refused_with_one_sentence(void)
{
    struct beat_pair *p = beat_pair_create(1);
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(beat_side_create(&p->a, NULL), 0);
    strcpy(p->b.bind[0], p->a.bind[0]);
    CU_ASSERT_EQUAL(beat_side_create(&p->b, &err), -EADDRINUSE);
    CU_ASSERT_PTR_NULL(p->b.heartbeat);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, p->a.bind[0]));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "in use"));
    beat_pair_destroy(p);
}

static void wrong_configurations_are_refused_with_one_sentence(void)
{
    static const struct {
        const char *bind, *peer, *says;
    } rows[] = {
        {"192.0.2.77:7400", "192.0.2.78:7400", "no interface of this host has this address"},
        {"127.0.0.1", "127.0.0.2:7400", "port is missing"},
        {"127.0.0.1:7400", "127.0.0.2:0", "number from 1 to 65535"},
        {"127.0.0.1:7400", "[::1]:7400", "not of one IP version"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct beat_pair *p = beat_pair_create(1);
        struct error err = {0};
        strcpy(p->a.bind[0], rows[i].bind);
        strcpy(p->a.peer[0], rows[i].peer);
        CU_ASSERT(beat_side_create(&p->a, &err) < 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, rows[i].says));
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "heartbeat path 0"));
        beat_pair_destroy(p);
    }
    struct beat_pair *p = beat_pair_create(1);
    p->a.multiplier = 101;
    CU_ASSERT_EQUAL(beat_side_create(&p->a, NULL), -EINVAL);
    p->a.multiplier = 3;
    p->a.secret = "";
    CU_ASSERT_EQUAL(beat_side_create(&p->a, NULL), -EINVAL);
    beat_pair_destroy(p);
}

/* Everything a thread may call at any time, many times. */
static void *hammer(void *argument)
{
    struct beat_side *s = argument;
    struct heartbeat_status status;
    for (epoch_t epoch = 1; epoch <= 2000; epoch++) {
        const struct heartbeat_local local = {
            .role = PACKET_ROLE_PRIMARY, .term = 4, .epoch = epoch, .guest_alive = true};
        heartbeat_set_local(s->heartbeat, &local);
        if (epoch % 100 == 0)
            heartbeat_hint_session(s->heartbeat);
        heartbeat_snapshot(s->heartbeat, &status);
        CU_ASSERT_EQUAL(status.path_count, 1);
    }
    return NULL;
}

static void any_thread_may_call_at_any_time(void)
{
    struct beat_pair *p = beat_pair_alive(1);
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_create(&threads[i], NULL, hammer, &p->a);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    BEAT_WAIT(&p->b, status.peer.epoch == 2000);
    CU_ASSERT_EQUAL(p->b.suspected, 0);
    beat_pair_destroy(p);
}

static const struct test_case cases[] = {
    {"two sides hear each other and tell what they know",
     two_sides_hear_each_other_and_tell_what_they_know},
    {"a side that vanishes is suspected", a_side_that_vanishes_is_suspected},
    {"a side that stops on purpose is not suspected",
     a_side_that_stops_on_purpose_is_not_suspected},
    {"the end of data is suspicion at once and revoked by beats",
     the_end_of_data_is_suspicion_at_once_and_revoked_by_beats},
    {"a path that is cut is seen and the other keeps the peer alive",
     a_path_that_is_cut_is_seen_and_the_other_keeps_the_peer_alive},
    {"after a silence older questions are not trusted",
     after_a_silence_older_questions_are_not_trusted},
    {"a path cut one way is told apart", a_path_cut_one_way_is_told_apart},
    {"a peer that restarts is suspected and comes back as a new process",
     a_peer_that_restarts_is_suspected_and_comes_back_as_a_new_process},
    {"garbage is counted and ignored", garbage_is_counted_and_ignored},
    {"a peer with another secret is never heard", a_peer_with_another_secret_is_never_heard},
    {"a recording does not revive a dead peer", a_recording_does_not_revive_a_dead_peer},
    {"an owner that takes its time does not silence the beats",
     an_owner_that_takes_its_time_does_not_silence_the_beats},
    {"a frozen side is suspected, and woken accuses nobody",
     a_frozen_side_is_suspected_and_woken_accuses_nobody},
    {"a killed process is told of by what outlives it",
     a_killed_process_is_told_of_by_what_outlives_it},
    {"an occupied address is refused with one sentence",
     an_occupied_address_is_refused_with_one_sentence},
    {"wrong configurations are refused with one sentence",
     wrong_configurations_are_refused_with_one_sentence},
    {"any thread may call at any time", any_thread_may_call_at_any_time},
};

TEST_MAIN("heartbeat", cases)
