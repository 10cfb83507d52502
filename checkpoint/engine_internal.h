/* Inside of the engine, shared by engine.c (life, commands), engine_link.c, engine_epoch.c (cut,
 * send, commit), engine_pace.c (throttle), engine_sync.c (full synchronisation) and
 * engine_handover.c (planned switchover). */
#ifndef KEMARI_CHECKPOINT_ENGINE_INTERNAL_H
#define KEMARI_CHECKPOINT_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "checkpoint/capture.h"
#include "checkpoint/engine.h"
#include "checkpoint/throttle.h"

/* Those in flight, one more that the receiver has in hand, and the one that is being filled. */
#define CAPTURES (POLICY_WINDOW_MAX + 2)

struct in_flight {
    struct capture *capture;
    bool commits;   /* carries state: its acknowledgement is a commit */
    bool end_sent;  /* an acknowledgement before END is a protocol violation */
    uint64_t bytes; /* sent for it */
    nsec_t on_wire; /* when its first byte was sent, had encoding taken no time */
    uint64_t pages; /* that were dirty */
    nsec_t pushed_at;
    nsec_t end_at; /* when END was about to be sent; 0: not yet */
};

/* How much the guest may run between cuts. */
struct pace {
    struct throttle throttle;
    struct throttle_levels levels; /* under the policy */
    nsec_t running_since;          /* 0 while the guest is parked */
    nsec_t ran;                    /* in all, up to running_since */
    nsec_t ran_looked;             /* `ran` at the last look */
    nsec_t ran_paced;              /* `ran` when the credit was counted */
    uint64_t fresh;                /* pages that became dirty since the last look */
    nsec_t look_at;                /* when the dirty log is to be read again */
    nsec_t at;                     /* the credit is counted up to here */
    nsec_t slice;                  /* a throttled guest runs for about so long at a time */
    double credit;                 /* ns that the guest may run */
    nsec_t parked_since;           /* parked by the throttle; 0: not */
    uint64_t budget;               /* pages that are worth a cut: the engine's thread is told */
    bool told;                     /* since the last cut */
    bool linked;                   /* there is somebody to synchronise or replicate to */
    bool frozen;                   /* a cut has the guest parked: not to be touched */
    bool asleep;                   /* the pacing thread, until it is woken */
    bool synchronising;            /* the share is that of the synchronisation */
};

struct engine {
    /* set at creation */
    struct engine_config config;
    const struct checkpoint_machine_ops *ops;
    void *machine;
    struct gmem *memory;
    struct checkpoint_disks disks;
    struct outbox *outbox;
    pthread_t thread;
    bool thread_started;

    /* Whose turn it is with the machine and all below, down to `lock`: the engine's thread has it,
     * and lends it to the pacing one while it sends or waits. Taken before every other lock. */
    pthread_mutex_t turn;
    pthread_cond_t paced; /* the pacing thread should look again */
    pthread_t pacer;
    bool pacer_started;
    bool pacer_stop;

    struct dirty_set pending; /* dirty and in no capture */
    bool tracking;            /* dirty tracking is on */
    bool peer_spills;         /* the standby takes oversize epochs */
    bool disks_started;       /* writes to disks are kept for the standby */
    bool guest_started;
    bool parked;           /* by us, outside or inside of a cut */
    struct policy current; /* of the epoch that is gathering: changes between cuts only */
    struct policy told;    /* the last one that the standby was told of */
    bool policy_told;      /* on this link */
    bool was_open;         /* OPEN when this link came, and no epoch with state has been sent */
    nsec_t last_cut;
    nsec_t last_sent; /* end of an epoch, or sign of life */
    uint64_t pending_count;
    struct pace pace;
    size_t peer_chunks; /* staging memory of the standby */
    size_t chunk_cap;   /* of one epoch: what both sides can stage under the policy */
    struct epoch_digest *digest;
    struct page_encoder *encoder;
    struct state_encoder *state_encoder;
    pthread_t receiver;

    /* thread that handles acknowledgements only */
    nsec_t releasing_cut_at; /* when the epoch that is being released was cut */

    _Atomic bool mute;         /* the link has failed: what was acknowledged on it is held */
    _Atomic nsec_t stopped_at; /* a guest that had begun was parked then; 0: it runs */
    pthread_t watch;
    nsec_t linked_at;
    bool watching;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t watch_wake;
    bool watch_stop;
    pthread_cond_t changed;
    uint64_t generation; /* counts everything that may change what the thread would do */
    bool stop;
    bool want_start;
    bool still;  /* fenced, and the guest has been parked: nobody touches the machine any more */
    bool halted; /* the guest stays parked: an operator stopped it, or it is handed over */
    struct engine_handover {
        enum { HANDOVER_NONE, HANDOVER_WANTED, HANDOVER_OFFERED, HANDOVER_TAKEN } step;
        term_t term;       /* that is handed over */
        epoch_t last;      /* of the last cut; 0: to be made */
        nsec_t stopped;    /* when the guest was parked; 0: it runs */
        nsec_t pause;      /* as the new primary says */
        struct link *link; /* after TAKEN, until it is fetched */
    } handover;
    struct engine_heritage heritage; /* of the offered link; offered_term 0: none */
    bool paused;                     /* the guest is to be parked while there is no link */
    bool want_open;
    bool want_checkpoint;
    struct link *offered; /* by engine_protect(), not yet taken up */
    uint64_t offered_staging;
    uint64_t offered_capabilities;
    uint64_t acked_bytes; /* what the last commit measured of the link; 0: nothing new */
    nsec_t acked_took;
    term_t term;
    struct link *link;
    unsigned link_users; /* other threads that are sending on it */
    bool link_failed;
    enum engine_event ending; /* which event the end of this link is */
    struct error link_error;  /* a goodbye, or the first reason of link_failed */
    struct in_flight flight[POLICY_WINDOW_MAX + 1]; /* oldest first */
    size_t flight_count;
    struct capture *idle[CAPTURES];
    size_t idle_count;
    struct sync_word { /* messages of a disk synchronisation that nobody has read */
        struct sync_word *next;
        size_t size;
        uint8_t bytes[];
    } * words, **last_word;
    unsigned word_count;
    bool disks_synchronised; /* on this link, and no state was acknowledged since */
    epoch_t next_epoch;
    double drain;      /* pages a second that link and standby take; 0: not known */
    nsec_t drained_at; /* the last acknowledgement */
    epoch_t acked;     /* last acknowledged epoch of this link, with or without state */
    struct policy policy;
    struct engine_stats stats;
};

/* engine.c */
/* With the lock held: something changed that the engine's thread or a waiter should look at. */
void engine_signal(struct engine *e);
/* With the lock held: the one place where the state changes. FENCED is for good. */
void engine_set_state(struct engine *e, enum engine_state next, const char *why);
void engine_park_guest(struct engine *e);
void engine_resume_guest(struct engine *e);
/* Records the first reason and makes everybody leave the link. */
void engine_fail_link(struct engine *e, const struct error *why);
void engine_fail_link_locked(struct engine *e, const struct error *why);
/* True when the current activity should be given up: stop, fence or a failed link. */
bool engine_interrupted(struct engine *e);
bool engine_interrupted_locked(const struct engine *e); /* with the lock held */
/* Sends one message on the link, if there is one, from any thread: -ENOTCONN without. */
int engine_send_words(struct engine *e, const struct message *message, struct error *err);
/* Waits for the acknowledgement of `epoch`: 0 or -EPIPE when interrupted. */
int engine_wait_acked(struct engine *e, epoch_t epoch);

/* From now on writes to disks are kept for the standby: before the guest runs, or before a copy. */
int engine_start_disks(struct engine *e, struct error *err);
/* engine_pace.c; with the turn. */
int engine_pace_start(struct engine *e, struct error *err); /* without it */
void engine_pace_end(struct engine *e);                     /* without it */
/* A link begins, of whose standby and whose guest nothing is known, or ends. */
void engine_pace_link(struct engine *e, bool linked);
/* Told of every park and resume. */
void engine_pace_running(struct engine *e, bool running);
/* Is so much of the guest's output held, or its writes kept, that it should stand still? With a
 * link up. */
bool engine_is_full(struct engine *e);
/* Parks or resumes the guest outside of cuts: parks it if it is to `stop`, else as the throttle
 * wants it. */
void engine_pace(struct engine *e, bool stop);
/* The guest is parked for something else, or no longer. */
void engine_pace_freeze(struct engine *e, bool frozen);
/* Gives the turn to the pacing thread, and takes it back. */
void engine_lend_turn(struct engine *e);
void engine_regain_turn(struct engine *e);

/* engine_epoch.c. 0, or negative after which the caller fails the link with `err`. */
struct capture *engine_take_capture(struct engine *e);
void engine_push_flight(struct engine *e, struct capture *capture, uint64_t pages, bool commits);
int engine_send_begin(struct engine *e, epoch_t epoch, enum message_epoch_kind kind,
                      struct error *err);
int engine_send_end(struct engine *e, epoch_t epoch, const struct capture_sent *sent,
                    uint64_t state_bytes, struct error *err);
int engine_collect(struct engine *e, struct error *err);
/* Staging memory that may be taken now under the policy, in chunks. */
size_t engine_room(struct engine *e);
/* Waits until the staging memory has room for `chunks` or every capture has given its memory back:
 * 0, or -ENOBUFS, also when interrupted. */
int engine_wait_for_room(struct engine *e, size_t chunks);
/* Gives the disk writes of a capture back to their owner. Without the lock. */
void engine_end_disks(struct engine *e, struct capture *capture, enum checkpoint_disk_end end);
int engine_cut_and_send(struct engine *e, enum policy_trigger trigger, struct error *err);
/* Called by the receiver: 0 or -EPROTO. */
int engine_acknowledged(struct engine *e, epoch_t epoch, struct error *err);
/* outbox_config.may_emit; the context is the engine. */
bool engine_may_emit(void *context);

/* engine_link.c */
/* With the lock held, between two cuts: the policy that an operator set last holds from here on. */
void engine_adopt_policy(struct engine *e);
/* Takes up the offered link. False when its receiver can't be started. */
bool engine_adopt_link(struct engine *e);
/* The standby is the primary now: the link goes to whoever follows it. */
void engine_hand_over_link(struct engine *e);
/* The link is gone: gives back what was not acknowledged, holds (or stays open), tells the owner.
 */
void engine_close_link(struct engine *e, bool receiver_runs);
/* config.event, on the engine's thread with no lock held. */
void engine_tell(struct engine *e, enum engine_event event, const struct error *why);

/* engine_disks.c */
/* Sends what was written to the disks since the last time, as part of `epoch`. */
int engine_send_disk_writes(struct engine *e, epoch_t epoch, struct capture_sent *sent,
                            struct error *err);
/* Makes the standby's disks equal, as part of `epoch`. */
int engine_synchronise_disks(struct engine *e, epoch_t epoch, struct capture_sent *sent,
                             struct error *err);
/* A message of the standby about that: 0 or -errno. Called by the receiver. */
int engine_hear_disks(struct engine *e, struct link *link, const struct frame *frame,
                      struct error *err);
/* Messages nobody will read any more. */
void engine_forget_words(struct engine *e);

/* engine_handover.c */
/* With the link up and a hand-over wanted or offered: replaces the policy's work. As
 * replicate_step(). */
nsec_t engine_handover_step(struct engine *e, struct error *err);
/* A step of the standby: 0, -EPROTO, or 1 when the link is not ours to read any more. */
int engine_handle_switchover(struct engine *e, const struct message_switchover *step,
                             struct error *err);
/* Parks a guest that is halted. `handing`: a hand-over was under way when that was seen, and when
 * it comes to nothing engine_settle_handover() lets the guest go again, however early it ended. */
void engine_park_halted(struct engine *e, bool handing);
/* Carries out engine_take_back(): without a hand-over nothing happens. */
void engine_settle_handover(struct engine *e);
/* Instead of a synchronisation: see engine_protect_taken(). */
int engine_inherit(struct engine *e, const struct engine_heritage *heritage, struct error *err);

/* engine_watch.c: while there is a link, sees to it that the standby keeps config.stall_cap. */
void engine_watch_start(struct engine *e);
void engine_watch_stop(struct engine *e);

/* engine_sync.c: sends `pending`, and with_disks a copy of the disks before it, as an epoch without
 * state; on success `pending` holds what was dirtied meanwhile. With the guest parked it stays
 * parked and one round is enough. */
int engine_synchronise(struct engine *e, bool with_disks, struct error *err);

#endif
