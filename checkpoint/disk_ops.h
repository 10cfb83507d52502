/* The disks of a machine, as the engine and the standby know them: bytes of FRAME_DISK payloads
 * that belong to an epoch, and nothing else. What is in them is the affair of those who stand
 * behind the table on the two hosts (disk/, connected by app/); tests bring a fake.
 *
 * A machine without disks that need this has no table.
 *
 * Threads: the upper half is called by the engine's thread and, release(), by the one that receives
 * acknowledgements; the lower half by the standby's receiving thread and, when that has ended, its
 * owner. None of the engine's or standby's locks is held. */
#ifndef KEMARI_CHECKPOINT_DISK_OPS_H
#define KEMARI_CHECKPOINT_DISK_OPS_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

/* What happens to the writes of an epoch that was sent. */
enum checkpoint_disk_end {
    CHECKPOINT_DISK_COMMITTED, /* the standby holds them */
    CHECKPOINT_DISK_SENT,      /* as part of a synchronisation, which is not complete yet */
    CHECKPOINT_DISK_ABORTED,   /* the link was lost; the standby may have them or not */
};

/* Messages between the two sides of a synchronisation of disks, and what else the executing side
 * needs meanwhile. Valid for the call that it is given to. */
struct checkpoint_disk_channel {
    const struct checkpoint_disk_channel_ops *ops;
    void *context;
};

#define CHECKPOINT_DISK_MESSAGE_MAX ((64u << 10) + 64) /* bytes */

struct checkpoint_disk_channel_ops {
    /* 0, or -errno: the link is of no use any more. */
    int (*send)(void *channel, const uint8_t *payload, size_t size, struct error *err);

    /* The rest is the executing side's. Waits for the next message, at most `size` bytes: how many
     * it has, or -EPIPE when the link was lost. */
    int (*receive)(void *channel, uint8_t *payload, size_t size, struct error *err);
    /* Sends what take() gives. */
    int (*drain)(void *channel, struct error *err);
    /* Does nothing until `until` (clock_now()): 0 or -EPIPE. */
    int (*pause)(void *channel, nsec_t until, struct error *err);
};

struct checkpoint_disk_ops {
    /* ---- the executing side ---- */

    /* The guest is about to run here in `term`, or to go on without a standby: what it writes from
     * now on is known on this host alone. Not after a hand-over by agreement. On the role's thread;
     * doesn't wait. */
    void (*own)(void *disks, term_t term);
    /* A newer state exists elsewhere, under `term` at least: what is here must not be used any
     * more. Durable when it returns. On either side's role's thread. */
    void (*outdate)(void *disks, term_t term);

    /* A standby is there: from now on every write is kept for it. The first copy is read next,
     * unless the standby has the same images already (a switchover). May wait for disk I/O. `wake`
     * is called (any thread) when so much is kept that a cut should come soon. */
    int (*start)(void *disks, void (*wake)(void *context), void *context, struct error *err);
    /* It is gone; every batch has been released before. */
    void (*stop)(void *disks);

    /* Should a cut come soon, to make room? */
    bool (*pressing)(void *disks);
    /* Is so much kept that the guest should stand still until there is room? Then `wake` is called
     * when there is some. NULL: never. */
    bool (*full)(void *disks);

    /* Moves out what was written since the last time, in order; NULL: nothing. At a cut it is
     * called parked, after the state was saved: what the state believes to be written is in it. */
    void *(*take)(void *disks);
    /* The next payload of a batch, as at most `max` parts (at least 2), valid until the release:
     * their number, 0 at the end. -ENOBUFS: more was written than could be kept, and the standby
     * has to be given up. */
    int (*payload)(void *disks, void *batch, struct iovec *parts, int max);
    void (*release)(void *disks, void *batch, enum checkpoint_disk_end end);

    /* Makes the standby's disks equal to these, while the guest runs: when all that take() gives
     * after this has been applied there, they are. Between two calls of drain() nothing that take()
     * would give is sent. Waits for disk I/O and for the standby. */
    int (*synchronise)(void *disks, const struct checkpoint_disk_channel *channel,
                       struct error *err);
    /* After that, the first state was acknowledged. Doesn't wait. */
    void (*in_step)(void *disks);

    /* ---- the standby ---- */

    /* `failed` (any thread) tells that what was committed can't be applied: check() fails from then
     * on until restart(). NULL: nobody listens; returns when nobody is being told any more. */
    void (*watch)(void *disks, void (*failed)(void *context, const struct error *why),
                  void *context);

    /* A synchronisation begins: what came before is applied or forgotten. May wait for disk I/O. */
    void (*restart)(void *disks);
    /* Takes a payload of the epoch that arrives, after checking it; may wait for disk I/O. -EBADMSG
     * for what is malformed, others when it can't be kept. */
    int (*stage)(void *disks, const uint8_t *payload, size_t size, struct error *err);
    /* All that was staged will be applied, in order, off this thread; or is forgotten. */
    void (*commit)(void *disks);
    void (*drop)(void *disks);
    /* A message of the primary's synchronise(); waits for disk I/O. */
    int (*receive)(void *disks, const uint8_t *payload, size_t size,
                   const struct checkpoint_disk_channel *channel, struct error *err);
    /* The first state after a synchronisation is whole, and its writes are committed: waits until
     * all is applied and durable. Only after this may the state be promoted. */
    int (*follow)(void *disks, term_t term, struct error *err);
    /* 0 while everything committed is, or can still be, applied. */
    int (*check)(void *disks, struct error *err);
    /* Promotion: waits until everything committed is applied; the guest may use the disks then. */
    int (*finish)(void *disks, struct error *err);
};

struct checkpoint_disks {
    const struct checkpoint_disk_ops *ops; /* NULL: none */
    void *context;
};

#endif
