/* The engine: runs the epochs of one guest on the side that executes it.
 *
 *                          protect(link)               first commit
 *      HOLDING ────────────────────────► SYNCHRONISING ─────────────► REPLICATING
 *       │  ▲ ▲                                 │ link lost                │ link lost
 *       │  │ └─────────────────────────────────┴──────────────────────────┘
 *  open │  │  (from OPEN, too: output is held from the first cut on)
 *       ▼  │ protect: first cut
 *      OPEN ── protect(link) ──► SYNCHRONISING          any ── fence ──► FENCED, for good
 *
 * HOLDING      the guest may run; nothing it says leaves
 * SYNCHRONISING memory is being copied while the guest runs; ends with the first commit
 * REPLICATING  epochs are cut by policy; every commit releases output
 * OPEN         the arbiter granted running alone: output leaves at once
 * FENCED       this side lost: guest parked for good, output discarded
 *
 * Threads: one of its own (the machine's controlling thread) and, while there is a link, one that
 * receives acknowledgements and releases output. The functions below may be called from any thread
 * except from inside callbacks, and do not block unless stated.
 *
 * Lock order: the machine's device lock, then the engine's, then the outbox's. The engine never
 * calls the machine with its own lock held; output wakes the engine after the outbox's lock is
 * given up. */
#ifndef KEMARI_CHECKPOINT_ENGINE_H
#define KEMARI_CHECKPOINT_ENGINE_H

#include "base/histogram.h"
#include "checkpoint/machine_ops.h"
#include "checkpoint/outbox.h"
#include "checkpoint/page_encoder.h"
#include "checkpoint/policy.h"
#include "checkpoint/slab.h"
#include "transport/link.h"
#include "transport/message.h"

struct engine;

enum engine_state {
    ENGINE_HOLDING,
    ENGINE_SYNCHRONISING,
    ENGINE_REPLICATING,
    ENGINE_OPEN,
    ENGINE_FENCED,
};

enum engine_event {
    ENGINE_EVENT_PROTECTED,  /* the first commit of a link */
    ENGINE_EVENT_LINK_LOST,  /* the link failed or was dropped; `why` says how. Output is held, or
                                still open if no epoch with state had been sent */
    ENGINE_EVENT_GOODBYE,    /* the standby left in an orderly way; otherwise as LINK_LOST */
    ENGINE_EVENT_SUPERSEDED, /* the standby says that it owns a higher term; otherwise as LINK_LOST
                              */
    ENGINE_EVENT_OFFERED,    /* engine_hand_over(): TAKE was sent, the guest is the standby's now */
    ENGINE_EVENT_TAKEN,      /* the standby runs it; see engine_take_handed() */
};

struct engine_config {
    struct checkpoint_machine machine; /* borrowed, parked */
    struct slab *slab;                 /* borrowed staging memory */
    size_t outbox_cap;                 /* bytes */
    struct policy policy;
    enum page_encoder_mode encoding;
    size_t encoding_cache; /* bytes; 0: PAGE_CACHE_SIZE_DEFAULT */
    epoch_t first_epoch;   /* 1, or the one after the last that a promoted standby holds */
    bool open;             /* starts OPEN (granted) instead of HOLDING */
    bool realtime;         /* the throttle asks for real-time priority */
    /* Longest time without a frame to a standby that has a complete state; 0: no limit. */
    nsec_t alive_interval;
    /* Longest time that the standby may keep the guest stopped, or be late with an acknowledgement,
     * before the link is given up; 0: no limit. See engine_watch.c. */
    nsec_t stall_cap;
    /* Acknowledgements of epochs cut before this moment release nothing: they may have been under
     * way, or waited for this process to wake, while the standby took over. On the receiving
     * thread; NULL: never. */
    nsec_t (*trusted_since)(void *context);
    /* REQUEST, PREPARED or RELEASED of the standby, on the receiving thread: must only take note.
     */
    void (*switchover)(void *context, const struct message_switchover *step);
    /* On the engine's thread, no locks held. `why` may be NULL. */
    void (*event)(void *context, enum engine_event event, const struct error *why);
    void *context;
};

struct engine_stats {
    enum engine_state state;
    bool parked;               /* the guest is stopped outside of a cut (throttle, full outbox) */
    unsigned throttle_percent; /* of its time that is taken from the guest; 100: it is stopped */
    epoch_t committed;         /* last acknowledged epoch with state; 0 when none */
    nsec_t committed_cut;      /* clock_now() of its cut; 0 when none */
    epoch_t next_epoch;        /* the one that is gathering */
    unsigned in_flight;
    uint64_t epochs_committed;
    uint64_t epochs_aborted;
    uint64_t pages_sent;
    uint64_t zero_pages;
    uint64_t bytes_sent; /* payloads of pages, state and disk writes */
    uint64_t disk_bytes_sent;
    uint64_t epoch_bytes; /* of bytes_sent, those of epochs with state: what dirty_total took */
    uint64_t dirty_total; /* pages of all committed or sent epochs */
    uint64_t dirty_last;
    uint64_t stale_acks; /* that released nothing: see trusted_since */
    uint64_t overflows;  /* dirty sets that exceeded the staging memory of a protected guest */
    uint64_t oversize;   /* epochs that exceeded it and were sent with the guest parked */
    nsec_t throttled;    /* total time parked for throttling, ns */
    uint64_t triggers[POLICY_TRIGGER_COUNT];
    uint64_t sync_done_pages; /* of the running or last synchronisation */
    uint64_t sync_total_pages;
    nsec_t sync_started;     /* clock_now(), 0 when none ever ran */
    nsec_t handover_pause;   /* of the guest that was taken over by agreement, ns; 0: it was not */
    struct histogram pause;  /* ns, park to resume of a cut */
    struct histogram commit; /* ns, park of the cut to acknowledgement */
    struct histogram dirty;  /* pages of an epoch */
    struct policy policy;
    enum page_encoder_mode encoding; /* what is used on this link */
    struct page_encoder_stats encodings;
};

int engine_create(const struct engine_config *config, struct engine **out, struct error *err);

/* Parks the guest, ends the threads, closes the link, frees. */
void engine_destroy(struct engine **engine);

/* Where the machine puts its output: creation told it so, destruction takes it back. */
struct outbox *engine_outbox(struct engine *engine);

/* Lets the guest run. Once. */
void engine_start_guest(struct engine *engine);

/* Parks the guest for good: the operator stops it. Nothing is discarded; see engine_flush(). */
void engine_stop_guest(struct engine *engine);

/* Without a link: parks the guest for as long as it is `paused`; output that is held stays held. */
void engine_pause_guest(struct engine *engine, bool paused);

/* Protects the guest through this connected link, whose handshake is done. Takes over the link.
 * `staging_cap` is the peer's, bytes; `capabilities` those of the session. -EBUSY when there is a
 * link, -EPERM when fenced: the link stays the caller's then. */
int engine_protect(struct engine *engine, struct link *link, term_t term, uint64_t staging_cap,
                   uint64_t capabilities, struct error *err);

/* ---- planned switchover (docs/protocol.md) ---- */

/* Sends one step to the standby. -ENOTCONN without a link. */
int engine_send_switchover(struct engine *engine, const struct message_switchover *step,
                           struct error *err);

/* Stops the guest, commits and releases all it has said, and offers it to the standby as the owner
 * of `term`: OFFERED follows, then TAKEN, or LINK_LOST at any time. The guest stays parked until
 * engine_take_back(). With a standby only. */
void engine_hand_over(struct engine *engine, term_t term);

/* The guest goes on here. True when it had not been offered yet; else the caller must have lost the
 * link before, and holds the outcome of the offer to be unknown. Any state. */
bool engine_take_back(struct engine *engine);

/* What is left after TAKEN: the link, on which the standby is the primary from now on, and the
 * state of the parked guest at the end of `epoch`, which is what the standby went on from. */
struct engine_handed {
    struct link *link;         /* the caller's */
    struct section_set *state; /* likewise */
    epoch_t epoch;
    struct policy policy;
    uint64_t staging_cap;  /* the peer's, bytes */
    uint64_t capabilities; /* of both */
    nsec_t pause;          /* of the guest, as the new primary measured it */
};
int engine_take_handed(struct engine *engine, struct engine_handed *out, struct error *err);

/* The other side of it: the machine holds the guest at the end of epoch first_epoch - 1 and so does
 * the peer, which is the standby from now on. Runs the guest, says TAKEN in `offered_term`, and
 * protects it without a synchronisation. Before engine_start_guest(), instead of engine_protect().
 * `stood_since`: when the guest was stopped, clock_now(). */
struct engine_heritage {
    term_t offered_term;
    nsec_t stood_since;
};
int engine_protect_taken(struct engine *engine, struct link *link, term_t term,
                         uint64_t staging_cap, uint64_t capabilities,
                         const struct engine_heritage *heritage, struct error *err);

/* How long the guest stood still, ns; 0 before it runs. */
nsec_t engine_handover_pause(struct engine *engine);

/* Gives the link up because of `why` (suspicion); LINK_LOST follows unless it was lost already. */
void engine_drop_link(struct engine *engine, const char *why);

/* Output may leave without a standby: the caller holds a grant for it, already durable. Only
 * after LINK_LOST or before any link: -EBUSY otherwise. */
int engine_open(struct engine *engine, struct error *err);

/* This side lost the term. When it returns no further output leaves; the guest is parked soon. */
void engine_fence(struct engine *engine);

/* The state of a fenced guest, for post-mortem: waits until it is parked for good. -EBUSY when it
 * is not fenced, -ETIMEDOUT. From then on guest memory is still. One caller at a time; any thread.
 */
int engine_save_fenced(struct engine *engine, struct section_set *set, nsec_t deadline,
                       struct error *err);

/* Asks for a checkpoint now. */
void engine_request_checkpoint(struct engine *engine);

/* The standby could take over now. */
bool engine_is_replicating(struct engine *engine);

/* Waits until everything the guest has said is committed and released (or `deadline`,
 * clock_now()): 0, -ETIMEDOUT, or -ENOTCONN when there is nothing to commit to. */
int engine_flush(struct engine *engine, nsec_t deadline);

/* Bytes that have come from the standby over the present link, 0 without one: as long as this grows
 * the standby lives. */
uint64_t engine_bytes_received(struct engine *engine);

/* Last words on a live link: that this side ends in an orderly way, and why. It is the standby that
 * closes the link then: closed here, what it is still acknowledging would meet a connection that is
 * gone, and it would take us for dead before it has read them. Waits for that until `deadline`
 * (clock_now()) at most. Not on the engine's threads. */
void engine_say_goodbye(struct engine *engine, const char *text, nsec_t deadline);

/* Holds from the next look at the policy on, never inside of a cut, and is told to the standby with
 * the next epoch, which is asked for. The caller has checked it: policy_check(). */
void engine_set_policy(struct engine *engine, const struct policy *policy);
struct policy engine_policy(struct engine *engine);
void engine_snapshot(struct engine *engine, struct engine_stats *out);
/* Empties the histograms: for benchmarks. */
void engine_reset_histograms(struct engine *engine);

const char *engine_state_name(enum engine_state state);

#endif
