/* Two live heartbeats over loopback UDP for tests, with a relay between them that can drop, record
 * and replay. */
#ifndef KEMARI_TEST_SUPPORT_BEAT_PAIR_H
#define KEMARI_TEST_SUPPORT_BEAT_PAIR_H

#include <poll.h>
#include <pthread.h>

#include "base/clock.h"
#include "heartbeat/heartbeat.h"
#include "test/support/runner.h"

#define BEAT_PATIENCE   SEC(30) /* only ends a test that has failed */
#define BEAT_INTERVAL   MSEC(5)
#define BEAT_PATHS_MAX  2
#define BEAT_RECORD_MAX 4096

struct beat_side {
    struct heartbeat *heartbeat;
    char bind[BEAT_PATHS_MAX][40];
    char peer[BEAT_PATHS_MAX][40];
    size_t path_count;
    const char *secret;
    unsigned multiplier;
    nsec_t interval; /* 0: BEAT_INTERVAL */
    bool eof_is_suspicion;
    bool last_words;

    pthread_mutex_t lock;
    /* Protected by lock: what the owner was told. */
    unsigned suspected, alive, stopping, stalled, changed;
    enum detector_reason reason; /* of the last of the first three */
    struct heartbeat_peer told;
    nsec_t block_for; /* the next peer_changed blocks that long */
};

/* One direction of one path: a socket that the sender takes for its peer. */
struct beat_lane {
    int fd;
    struct address to;
};

struct beat_relay {
    struct beat_lane lanes[2 * BEAT_PATHS_MAX]; /* 2i: from A to B on path i, 2i + 1: from B to A */
    size_t lane_count;
    int quit_pipe[2];
    pthread_t thread;

    pthread_mutex_t lock;
    /* Protected by lock. */
    bool drop[2 * BEAT_PATHS_MAX];
    size_t recorded;
    struct {
        size_t lane;
        size_t size;
        uint8_t bytes[PACKET_SIZE];
    } record[BEAT_RECORD_MAX];
};

struct beat_pair {
    struct beat_side a, b;
    struct beat_relay relay;
};

/* Addresses of the loopback network that no other run of this test uses at the same time; nothing
 * is started. Each side's peer is the relay. */
struct beat_pair *beat_pair_prepare(size_t path_count);
/* And the relay is started. */
struct beat_pair *beat_pair_create(size_t path_count);
/* And both sides are, and hear each other on all paths. */
struct beat_pair *beat_pair_alive(size_t path_count);
/* The relay must have been started. */
void beat_pair_destroy(struct beat_pair *p);

int beat_side_create(struct beat_side *s, struct error *err);
void beat_side_start(struct beat_side *s, enum packet_role role, term_t term);

void beat_relay_start(struct beat_relay *r);
void beat_relay_drop(struct beat_relay *r, size_t lane, bool drop);
/* Sends everything that went over `lane` again; returns how much that was. */
size_t beat_relay_replay(struct beat_relay *r, size_t lane);

/* Evaluates `condition` on a fresh snapshot and under the side's lock until it holds. */
#define BEAT_WAIT(s, condition)                                                                    \
    do {                                                                                           \
        const nsec_t deadline_ = clock_now() + BEAT_PATIENCE;                                      \
        bool holds_ = false;                                                                       \
        while (!holds_ && clock_now() < deadline_) {                                               \
            struct heartbeat_status status;                                                        \
            heartbeat_snapshot((s)->heartbeat, &status);                                           \
            pthread_mutex_lock(&(s)->lock);                                                        \
            holds_ = (condition);                                                                  \
            pthread_mutex_unlock(&(s)->lock);                                                      \
            if (!holds_)                                                                           \
                poll(NULL, 0, 1);                                                                  \
        }                                                                                          \
        CU_ASSERT_TRUE_FATAL(holds_ &&#condition);                                                 \
    } while (0)

#endif
