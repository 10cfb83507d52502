/* The standby: follows a primary epoch by epoch, and becomes the guest when told.
 *
 *   receiving thread:  frames ─► stage ─► verify ─► prove loadable ─► ack(n) ─► queue
 *   applying thread:                                                            queue ─► memory
 *
 * ack(n) is a promise: epoch n is complete in this host's memory, its digest was checked and the
 * machine said that it can load the state (DESIGN §4.4). Application to guest memory happens later,
 * in order, off the critical path.
 *
 * The standby is *promotable* when the last whole thing it received is an acknowledged epoch with
 * state: not before the first commit, and not during a full synchronisation. It stays promotable
 * when the link is lost in mid-epoch: what is unfinished is dropped. It is not promotable any more
 * when the primary goes on alone on purpose and says so on the link (RELEASE), nor when a disk of
 * this host fails to take what was committed: it tells the primary (Resync) and its owner (UNFIT),
 * and only a new full synchronisation begins anew.
 *
 * Threads: the functions belong to one owner (the role's thread) except the snapshot. */
#ifndef KEMARI_SECONDARY_STANDBY_H
#define KEMARI_SECONDARY_STANDBY_H

#include "checkpoint/machine_ops.h"
#include "checkpoint/policy.h"
#include "checkpoint/slab.h"
#include "transport/link.h"
#include "transport/message.h"

struct standby;

enum standby_event {
    STANDBY_EVENT_READY,     /* the first commit of this link: promotable */
    STANDBY_EVENT_NOT_READY, /* a full synchronisation began on a promotable standby, or the
                                primary told it to give up what it holds: `why` */
    STANDBY_EVENT_UNFIT,     /* what was committed can't be applied to a disk of this host: `why` */
    STANDBY_EVENT_CLOSED,    /* the peer closed without goodbye (EOF) */
    STANDBY_EVENT_BROKEN,    /* the link failed or the peer broke the protocol: `why` */
    STANDBY_EVENT_GOODBYE,   /* an orderly end by the primary: `why` */
};

struct standby_config {
    struct checkpoint_machine machine; /* borrowed, never run, parked */
    struct slab *slab;                 /* borrowed staging memory */
    /* On the receiving thread or one of the disks', without locks that matter to the owner; must
     * not call back into the standby. */
    void (*event)(void *context, enum standby_event event, const struct error *why);
    /* Likewise: REFUSED, PREPARE or TAKE of a planned switchover (docs/protocol.md); NULL: none is
     * taken part in. After TAKE, which is of the committed epoch, nothing more is received: the
     * link waits for standby_take_link(). */
    void (*switchover)(void *context, const struct message_switchover *step);
    void *context;
};

struct standby_stats {
    bool following; /* a link is up */
    bool promotable;
    bool synchronising;
    epoch_t committed; /* last acknowledged epoch with state; 0 when none */
    epoch_t applied;
    uint64_t epochs;
    uint64_t pages;
    uint64_t bytes;
    uint64_t sync_pages;  /* received by the running or last full synchronisation */
    nsec_t last_frame;    /* clock_now() of the last frame received, 0 when none */
    size_t staging_used;  /* bytes */
    bool has_policy;      /* the primary has told one with an epoch that was committed */
    struct policy policy; /* that one */
};

/* Where the time of a promotion went, ns. */
struct standby_takeover {
    epoch_t epoch; /* the guest continues from the end of this one */
    nsec_t drop;   /* link closed, unfinished epoch dropped */
    nsec_t apply;  /* committed epochs applied */
    nsec_t load;   /* machine state loaded */
};

int standby_create(const struct standby_config *config, struct standby **out, struct error *err);
/* Ends the threads and closes the link. */
void standby_destroy(struct standby **standby);

/* Follows the primary behind this link, whose handshake is done, in `term`. Takes over the link in
 * every case. The link before must be gone: see standby_unfollow(). */
int standby_follow(struct standby *standby, struct link *link, term_t term, struct error *err);

/* Follows a host that has just taken the guest over from this one: memory holds it at the end of
 * `epoch`, and `state` (taken over in every case) is what was saved there. Promotable at once;
 * expects the epochs after it without a synchronisation. */
int standby_follow_heir(struct standby *standby, struct link *link, term_t term,
                        struct section_set *state, epoch_t epoch, const struct policy *policy,
                        struct error *err);

/* The link on which TAKE came, alive; it is the caller's. */
struct link *standby_take_link(struct standby *standby);

/* Sends a step to the primary. -ENOTCONN without a link. */
int standby_send_switchover(struct standby *standby, const struct message_switchover *step,
                            struct error *err);

/* Closes the link, waits for its thread, drops the unfinished epoch. No event comes afterwards.
 * Idempotent. */
void standby_unfollow(struct standby *standby);

/* Last words on a live link: that this side ends in an orderly way, and why. It is the primary that
 * closes the link then, as its senders would meet a closed connection before it has read them;
 * waits for that until `until` (monotonic) at most. The owner's thread. */
void standby_say_goodbye(struct standby *standby, const char *text, nsec_t until);

/* P1, before this side speaks: a primary that lives may still be letting out what was acknowledged
 * a moment ago. It is told on the link, if there is one, that the guest is ours, and closes the
 * link once all of that has left; this waits for it, until `until` (monotonic) at most: a primary
 * that is silent so long says nothing any more, see heartbeat_trusted_since(). The owner's thread.
 */
void standby_supersede(struct standby *standby, nsec_t until);

/* Before a grant is used: from now on what is held stays. A full synchronisation that begins is
 * refused (its link ends), so that the grant is never spent on a memory that is being overwritten.
 * False when there is nothing to keep, now. Idempotent. */
bool standby_keep(struct standby *standby);
/* The grant came to nothing: synchronisations are welcome again. */
void standby_let_go(struct standby *standby);

/* Turns the standby into the guest as of its last committed epoch: unfollow, apply what is
 * committed, load the state. The caller holds the grant, already durable (DESIGN §6); the guest
 * does not run yet. -ENODATA when not promotable. After another error the machine is unusable. */
int standby_promote(struct standby *standby, struct standby_takeover *out, struct error *err);

void standby_snapshot(struct standby *standby, struct standby_stats *out);

#endif
