/* The failure detector: a pure function (state, event, now) -> (state, actions).
 *
 * It owns no clock, no socket and no thread: heartbeat.c feeds it, tests feed it with a clock of
 * their own. `now` is monotonic; a `now` before the last one is taken as the last one.
 *
 * Suspicion authorises nobody (DESIGN §6): it only lets the owner ask the arbiter.
 *
 *                              beat
 *              ┌─────────┐ ───────────────────────────► ┌─────────┐
 *      start ─►│ UNHEARD │                              │  ALIVE  │◄──────────────┐
 *              └────┬────┘ ◄─────────────────────────── └──┬─┬─┬──┘               │
 *                   │        session, no path heard        │ │ │ every path       │
 *      EOF, reset,  │                                      │ │ │ silent, EOF,     │ beats resumed,
 *      peer exit    │      ┌───────────────────────────────┘ │ │ reset, exit,     │ session
 *                   │      │                   stop announced│ │ restart          │
 *                   ▼      ▼                                 ▼ └────────┐         │
 *              ┌─────────┐        stop announced        ┌─────────┐     │         │
 *              │ SUSPECT │ ───────────────────────────► │ STOPPED │─────┼─────────┤
 *              └────┬────┘                              └─────────┘     │  beat of a new process,
 *                   │  ▲                                                │  session
 *                   │  └────────────────────────────────────────────────┘         │
 *                   └─────────────────────────────────────────────────────────────┘
 *
 * UNHEARD  never heard since start or since a new session. Silence accuses nobody here.
 * ALIVE    at least one path was heard within the detection time.
 * SUSPECT  thought to have failed, for the recorded reason.
 * STOPPED  went on purpose. Nothing that follows from that (silence, EOF) is suspicion.
 *
 * Timing. A path is silent when nothing was heard on it for
 *
 *     detection time = multiplier × max(own interval, interval the peer announces)
 *
 * (the rule of BFD, RFC 5880 §6.8.4: who sends slowly is judged slowly). Suspicion needs every
 * path to be silent. The end of the data connection, with eof_is_suspicion, is suspicion at once;
 * without, it shortens the detection time to 1.5 intervals, because the heartbeat must agree.
 *
 * Beats after a suspicion by silence revoke it at once. A suspicion by EOF, reset, exit or restart
 * is revoked only when beats keep coming for a whole detection time: a beat that was under way
 * when the peer died proves nothing.
 *
 * Own stall. Every call says when the detector ran last. If that is longer ago than
 * stall_threshold, silence may be our own deafness: all timers start anew, and for one detection
 * time the end of the data connection needs the heartbeat's agreement too. */
#ifndef KEMARI_HEARTBEAT_DETECTOR_H
#define KEMARI_HEARTBEAT_DETECTOR_H

#include "base/types.h"

#define DETECTOR_PATH_MAX           8
#define DETECTOR_INTERVAL_DEFAULT   MSEC(10)
#define DETECTOR_INTERVAL_MIN       MSEC(1)
#define DETECTOR_INTERVAL_MAX       SEC(60)
#define DETECTOR_MULTIPLIER_DEFAULT 3u
#define DETECTOR_MULTIPLIER_MAX     100u

enum detector_state { DETECTOR_UNHEARD, DETECTOR_ALIVE, DETECTOR_SUSPECT, DETECTOR_STOPPED };

/* Why the detector is in its state. */
enum detector_reason {
    DETECTOR_REASON_START,     /* nothing happened yet */
    DETECTOR_REASON_SESSION,   /* the owner began a new session with the peer */
    DETECTOR_REASON_BEAT,      /* first beat of this peer */
    DETECTOR_REASON_RESUMED,   /* beats came back */
    DETECTOR_REASON_SILENCE,   /* every path silent for the detection time */
    DETECTOR_REASON_EOF,       /* data connection closed without goodbye */
    DETECTOR_REASON_RESET,     /* data connection reset or timed out */
    DETECTOR_REASON_EXIT,      /* the peer's process is known to have ended */
    DETECTOR_REASON_RESTARTED, /* the peer's process is another one than before */
    DETECTOR_REASON_GOODBYE,   /* data connection ended with a goodbye */
    DETECTOR_REASON_STOPPING,  /* the peer announced an administrative stop */
    DETECTOR_REASON_COUNT,
};

enum detector_event_kind {
    DETECTOR_EVENT_TICK,    /* time passed; also what a late wake-up sends */
    DETECTOR_EVENT_BEAT,    /* an authentic, fresh beat came in on `path` */
    DETECTOR_EVENT_SESSION, /* a data connection was established: forget what was suspected */
    DETECTOR_EVENT_EOF,     /* an established data connection ended without goodbye */
    DETECTOR_EVENT_RESET,   /* the same by an error */
    DETECTOR_EVENT_GOODBYE, /* it ended after a goodbye message */
    DETECTOR_EVENT_EXIT,    /* hint: the peer's process has ended */
};

struct detector_event {
    enum detector_event_kind kind;
    unsigned path;     /* BEAT: 0 .. path_count - 1 */
    uint64_t instance; /* BEAT: the peer's process, not 0 */
    nsec_t interval;   /* BEAT: at which the peer sends, > 0 */
    bool stopping;     /* BEAT: carries the announcement of an administrative stop */
};

struct detector_config {
    unsigned path_count;    /* 1 .. DETECTOR_PATH_MAX */
    nsec_t interval;        /* DETECTOR_INTERVAL_MIN .. _MAX */
    unsigned multiplier;    /* 1 .. DETECTOR_MULTIPLIER_MAX */
    bool eof_is_suspicion;  /* else the heartbeat must agree */
    nsec_t stall_threshold; /* 0: half the detection time, at least 2 intervals */
};

/* What the owner must do, in this order. */
struct detector_actions {
    bool stalled; /* tell: we were not scheduled for `stalled_for` and accused nobody */
    nsec_t stalled_for;
    bool changed;      /* state and/or reason are new: tell, see detector.state and .reason */
    bool path_changed; /* some path went silent or came back: tell in status */
};

struct detector_path {
    bool heard;        /* within the detection time; silent or never heard otherwise */
    nsec_t last_heard; /* time of the last beat, 0 = never */
    nsec_t deadline;   /* while heard: goes silent at this time unless a beat comes */
};

/* Read it freely, write it never. */
struct detector {
    struct detector_config config; /* stall_threshold filled in */
    enum detector_state state;
    enum detector_reason reason;
    nsec_t since;           /* when `state` was entered */
    nsec_t last_run;        /* `now` of the last call */
    nsec_t peer_interval;   /* as announced, 0 = unknown */
    uint64_t instance;      /* the peer's process, 0 = unknown */
    uint64_t gone_instance; /* process that announced its stop: its late beats revive nobody */
    bool data_ended;        /* the data connection ended; shortens the wait */
    enum detector_reason data_reason; /* EOF, RESET or EXIT while data_ended */
    nsec_t trust_eof_from; /* after an own stall: before this time EOF alone is no suspicion */
    uint64_t suspicions;   /* counted since creation */
    uint64_t stalls;
    struct detector_path paths[DETECTOR_PATH_MAX];
};

/* True when every number is in its range. */
bool detector_config_valid(const struct detector_config *config);

/* `config` must be valid. */
void detector_init(struct detector *detector, const struct detector_config *config, nsec_t now);

/* One step. Events of a burst are fed in the order of their arrival, the TICK last, so that beats
 * that waited in the socket are heard before silence is judged. */
struct detector_actions detector_step(struct detector *detector, const struct detector_event *event,
                                      nsec_t now);

/* When the next TICK is needed at the latest: the earliest time at which a path goes silent, and
 * often enough to notice an own stall. */
nsec_t detector_next_tick(const struct detector *detector);

/* The detection time as it stands now (see Timing). */
nsec_t detector_detection_time(const struct detector *detector);

const char *detector_state_name(enum detector_state state);    /* "alive" */
const char *detector_reason_text(enum detector_reason reason); /* "data connection closed" */

#endif
