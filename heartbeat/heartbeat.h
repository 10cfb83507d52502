/* The heartbeat: a thread that sends beats on every path, hears the peer's, and runs the detector.
 *
 * Threads. The callbacks run on a second thread, one at a time, in order, without a lock held; an
 * owner that takes its time delays its own news, never a beat. They may call every function here
 * except heartbeat_destroy(). All functions may be called from any thread.
 *
 * The beating thread asks for real-time priority and locked memory and goes on without them; the
 * snapshot tells what was granted. */
#ifndef KEMARI_HEARTBEAT_HEARTBEAT_H
#define KEMARI_HEARTBEAT_HEARTBEAT_H

#include "base/error.h"
#include "base/types.h"
#include "heartbeat/address.h"
#include "heartbeat/detector.h"
#include "heartbeat/packet.h"

struct heartbeat;

struct heartbeat_path {
    const char *bind; /* own address of this path, "10.0.1.1:7400" */
    const char *peer; /* the peer's */
};

/* Everything is copied or used up by heartbeat_create(). */
struct heartbeat_config {
    const char *vm;     /* name of the VM, the same on both hosts */
    const void *secret; /* of the pair; a key is derived from it */
    size_t secret_size;
    const struct heartbeat_path *paths;
    size_t path_count;      /* 1 .. PACKET_PATH_MAX */
    nsec_t interval;        /* 0: DETECTOR_INTERVAL_DEFAULT */
    unsigned multiplier;    /* 0: DETECTOR_MULTIPLIER_DEFAULT */
    nsec_t stall_threshold; /* 0: see detector.h */
    bool eof_is_suspicion; /* false: the heartbeat must agree with the end of the data connection */
    bool realtime;         /* ask for SCHED_FIFO */
    bool lock_memory;      /* ask for mlock of the thread's stack and state */
    bool last_words;       /* leave the news of this process's end with quick_exit_say() */
    unsigned speaker;      /* as there; of each heartbeat of the process its own */
};

/* What this side tells in each beat. */
struct heartbeat_local {
    enum packet_role role;
    term_t term;
    epoch_t epoch;    /* last committed */
    bool guest_alive; /* the guest made progress lately; an idle guest is alive */
};

/* What the peer's newest beat told. */
struct heartbeat_peer {
    uint64_t instance; /* 0: never heard */
    enum packet_role role;
    term_t term;
    epoch_t epoch;
    bool guest_alive;
    bool stopping;
};

/* Each may be NULL. */
struct heartbeat_ops {
    /* The peer is suspected (DETECTOR_SUSPECT was entered). `at`: monotonic time of the decision.
     */
    void (*suspect)(void *owner, enum detector_reason reason, nsec_t at);
    /* The peer is alive: first heard, or a suspicion is revoked. */
    void (*alive)(void *owner, enum detector_reason reason);
    /* The peer went, or goes, on purpose. Not a suspicion. */
    void (*peer_stopping)(void *owner, enum detector_reason reason);
    /* This process was not scheduled for that long; it accused nobody and started its timers anew.
     * The owner should check whether it still holds its term. */
    void (*stalled)(void *owner, nsec_t stalled_for);
    /* The peer's process, term, role, guest_alive or stopping changed. A term above the own one
     * means that the peer was granted ownership (DESIGN §6: wakes to a higher term: stops). */
    void (*peer_changed)(void *owner, const struct heartbeat_peer *peer);
};

/* Binds every path. On failure nothing is left open and the sentence names the path. */
int heartbeat_create(const struct heartbeat_config *config, const struct heartbeat_ops *ops,
                     void *owner, struct heartbeat **out, struct error *err);

/* Starts the thread; at most once. Beats carry what heartbeat_set_local() said last; that must have
 * been called before. */
int heartbeat_start(struct heartbeat *heartbeat, struct error *err);

/* Ends the thread and closes the sockets; to the peer this looks like a crash unless
 * heartbeat_announce_stop() was called before. No callback runs after the return. */
void heartbeat_destroy(struct heartbeat **heartbeat);

/* Cheap (one short lock); carried by the next beat. */
void heartbeat_set_local(struct heartbeat *heartbeat, const struct heartbeat_local *local);

/* As above and sends a beat on every path at once: for a new term or role. */
void heartbeat_set_local_now(struct heartbeat *heartbeat, const struct heartbeat_local *local);

/* Tells the peer that this side stops by an operator's will; returns when three such beats have
 * left on every path (or failed to). Every later beat says so too. */
void heartbeat_announce_stop(struct heartbeat *heartbeat);

/* What happened to the data connection; wakes the thread. See enum detector_event_kind for the
 * meaning of each. */
void heartbeat_hint_session(struct heartbeat *heartbeat);
void heartbeat_hint_eof(struct heartbeat *heartbeat);
void heartbeat_hint_reset(struct heartbeat *heartbeat);
void heartbeat_hint_goodbye(struct heartbeat *heartbeat);
void heartbeat_hint_exit(struct heartbeat *heartbeat);

struct heartbeat_path_status {
    char bind[ADDRESS_TEXT_MAX];
    char peer[ADDRESS_TEXT_MAX];
    bool heard;         /* within the detection time */
    bool peer_hears_us; /* the peer's beats show that ours arrive */
    nsec_t last_heard;  /* monotonic, 0 = never */
    nsec_t round_trip;  /* smoothed, 0 = unknown; without the peer's holding time */
    uint64_t sent;
    uint64_t send_failed;
    int send_errno;     /* of the last send, 0 = it worked */
    uint64_t received;  /* believed */
    uint64_t lost;      /* sequence numbers of the peer that never came */
    uint64_t late;      /* overtaken by newer ones */
    uint64_t replayed;  /* duplicates, too old, reflected */
    uint64_t unproven;  /* of an unknown process that did not echo our challenge */
    uint64_t bad_mac;   /* wrong key, or altered */
    uint64_t bad_other; /* size, magic, version, fields, another VM */
};

struct heartbeat_status {
    enum detector_state state;
    enum detector_reason reason;
    nsec_t since; /* monotonic time of entering `state` */
    nsec_t detection_time;
    uint64_t suspicions;
    uint64_t stalls;
    nsec_t worst_stall;
    bool realtime;      /* SCHED_FIFO was granted */
    bool memory_locked; /* mlock was granted */
    struct heartbeat_peer peer;
    size_t path_count;
    struct heartbeat_path_status paths[PACKET_PATH_MAX];
};

/* Since when this process has been running without a gap in which the peer could have suspected it
 * by silence; now, when it may have been in such a gap until this very moment. What was learnt from
 * the peer before is not to be trusted: it may have taken over meanwhile (DESIGN §6, either process
 * frozen, then awake). Any thread, never blocks. */
nsec_t heartbeat_awake_since(struct heartbeat *heartbeat);

/* A moment such that the peer, when it answers a question that was put after it, has not suspected
 * us before it answered, or had no time yet to act on it: we have been awake since, and either the
 * peer is known to have heard us all the time since, by our beats that came back in its own, or the
 * question is younger than the silence that makes it suspicious. What answers an older question may
 * have been under way while the peer took over: a network delays what it does not lose. Any thread,
 * never blocks. */
nsec_t heartbeat_trusted_since(struct heartbeat *heartbeat);

void heartbeat_snapshot(struct heartbeat *heartbeat, struct heartbeat_status *out);

#endif
