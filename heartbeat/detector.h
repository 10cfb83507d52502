/* The failure detector: a pure function (state, event, now) -> (state, actions).
 *
 * It owns no clock, no socket and no thread: heartbeat.c feeds it, tests feed it with a clock of
 * their own. `now` is monotonic; a `now` before the last one is taken as the last one.
 *
 * Suspicion authorises nobody (DESIGN §6): it only lets the owner ask the arbiter.
 *
 *               beat            silence, end of data, restart
 *   UNHEARD ───────────► ALIVE ───────────────────────────────► SUSPECT
 *      ▲                  │ ▲  ◄─────────────────────────────── │    │
 *      │             stop │ │             beats resumed         │    │
 *      │                  ▼ │ new process                  stop │    │
 *      ├──────────────── STOPPED ◄──────────────────────────────┘    │
 *      │     session                                                 │
 *      └─────────────────────────────────────────────────────────────┘
 *   also UNHEARD ── stop ──► STOPPED and UNHEARD ── end of data ──► SUSPECT
 *
 *   state    beat   new process  resumed  stop     silence  end of data  session
 *   UNHEARD  ALIVE  ALIVE        -        STOPPED  -        SUSPECT      -
 *   ALIVE    -      SUSPECT      -        STOPPED  SUSPECT  SUSPECT      -
 *   SUSPECT  -      -            ALIVE    STOPPED  -        -            UNHEARD
 *   STOPPED  -      ALIVE        -        -        -        -            UNHEARD
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
 * path to be silent; one whose interface lost its carrier is silent at once, until a beat comes on
 * it. The end of data (EOF, reset, peer's exit), with eof_is_suspicion, is suspicion
 * at once; without, the heartbeat must agree: for one detection time, 1.5 intervals without a beat
 * are silence enough.
 *
 * Beats after a suspicion by silence revoke it at once. Any other suspicion is revoked only when
 * beats keep coming for a whole detection time: a beat that was under way when the peer died proves
 * nothing. The reason tells RESUMED (the same process) from BEAT (a new process, which holds
 * nothing of the guest).
 *
 * Own stall. Every step knows when the last one was. If that is longer ago than stall_threshold,
 * silence may be our own deafness: all timers start anew, and for one detection time the end of
 * data needs the heartbeat's agreement too. */
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
    DETECTOR_REASON_BEAT,      /* first beats of this process of the peer */
    DETECTOR_REASON_RESUMED,   /* the process that was suspected beats again */
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
    DETECTOR_EVENT_TICK,    /* time passed: judge silence */
    DETECTOR_EVENT_BEAT,    /* an authentic, fresh beat came in on `path` */
    DETECTOR_EVENT_SESSION, /* a data connection was established: what was suspected is past */
    DETECTOR_EVENT_EOF,     /* an established data connection ended without goodbye */
    DETECTOR_EVENT_RESET,   /* the same by an error */
    DETECTOR_EVENT_GOODBYE, /* it ended after a goodbye message */
    DETECTOR_EVENT_EXIT,    /* hint: the peer's process has ended */
    DETECTOR_EVENT_DEAF,    /* hint: nothing can be heard on `path` for now */
};

struct detector_event {
    enum detector_event_kind kind;
    unsigned path;     /* BEAT, DEAF: 0 .. path_count - 1 */
    uint64_t instance; /* BEAT: the peer's process, not 0 */
    nsec_t interval;   /* BEAT: at which the peer sends, > 0 */
    bool stopping;     /* BEAT: carries the announcement of an administrative stop */
};

struct detector_config {
    unsigned path_count;    /* 1 .. DETECTOR_PATH_MAX */
    nsec_t interval;        /* DETECTOR_INTERVAL_MIN .. _MAX */
    unsigned multiplier;    /* 1 .. DETECTOR_MULTIPLIER_MAX */
    bool eof_is_suspicion;  /* EOF, reset and exit accuse at once; else the heartbeat must agree */
    nsec_t stall_threshold; /* 0: half the detection time, at least 2 intervals */
};

/* What the owner must tell, in this order. */
struct detector_actions {
    bool stalled; /* we were not scheduled for `stalled_for`, and accused nobody for it */
    nsec_t stalled_for;
    bool changed; /* detector.state is new; .reason says why */
};

struct detector_path {
    bool heard;        /* within the detection time; else silent or never heard */
    nsec_t last_heard; /* time of the last beat, 0 = never */
    nsec_t timer;      /* silence is measured from here: a beat, a session, the end of a stall */
};

/* Read it freely, write it never. */
struct detector {
    struct detector_config config; /* stall_threshold filled in */
    enum detector_state state;
    enum detector_reason reason;
    nsec_t since;    /* when `state` was entered */
    nsec_t last_run; /* `now` of the last call */
    uint64_t suspicions;
    uint64_t stalls;

    /* The peer. */
    uint64_t instance;    /* its process, 0 = unknown */
    nsec_t peer_interval; /* as announced, 0 = unknown */
    struct detector_path paths[DETECTOR_PATH_MAX];

    /* The end of the data connection, while it is not (yet) suspicion by itself. */
    bool data_ended;
    enum detector_reason data_reason; /* EOF, RESET or EXIT */
    nsec_t data_ended_at;
    nsec_t distrust_until; /* after an own stall: the heartbeat must agree until then */

    /* SUSPECT: the way back. */
    bool probation;        /* beats must go on for a detection time */
    bool replaced;         /* they come from a new process */
    nsec_t probation_from; /* when they began, 0 = not yet */
    nsec_t probation_last; /* last of them */
};

/* True when every number is in its range. */
bool detector_config_valid(const struct detector_config *config);

/* `config` must be valid. */
void detector_init(struct detector *detector, const struct detector_config *config, nsec_t now);

/* One step. Events of a burst are fed in the order of their arrival and a TICK last: only a TICK
 * judges silence, after the beats that waited in the socket were heard. */
struct detector_actions detector_step(struct detector *detector, const struct detector_event *event,
                                      nsec_t now);

/* When the next TICK is due at the latest: the earliest time at which a path goes silent, and often
 * enough to notice an own stall. */
nsec_t detector_next_tick(const struct detector *detector);

/* multiplier × max(own, peer's interval), as it stands now. */
nsec_t detector_detection_time(const struct detector *detector);

const char *detector_state_name(enum detector_state state);    /* "alive" */
const char *detector_reason_text(enum detector_reason reason); /* "data connection closed" */

#endif
