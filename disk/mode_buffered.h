/* The buffered mode: a shared disk of a machine that can't be stopped while its requests wait
 * (qemu/). Both hosts see one image, so a change of it is output, as in mode_shared.h; but the
 * guest isn't kept waiting for the commit, which would wait for it.
 *
 *   guest ─► admit ─► pending (pending.h) ─┬► told to the standby, in the epoch ─► retained.h
 *               │         │                └► hold(ticket) ─► (the outbox) ─► release(ticket)
 *               ▼         └─ released ─► image, in order, durably ─► forgotten on both hosts
 *          the guest goes on; it reads the image and what is pending over it
 *
 * Why a failover is right at every point: nothing of an epoch reaches the image before the epoch
 * has committed, and when it has, the standby holds everything that the image may lack of it. So
 * the image and what is retained, done in order, is the disk of the last committed state. What of
 * the pending changes the image already had makes no difference. It needs a dead host to do nothing
 * any more, as mode_shared.h does: that is what fencing is for.
 *
 * A flush is done for the guest when all before it is pending, for it can't wait for a commit
 * either. What it promises holds over the loss of either host, at any moment: before the commit
 * nobody has heard of it, and a guest that goes on from the state before has not asked for it yet;
 * after it, the other host has everything. The loss of both at once, in the moments between a
 * commit and the image, is a power cut of a disk that had more in its cache than it said: order is
 * kept over flushes, the newest changes are lost.
 *
 * A guest that runs alone, whose output isn't held, is told of the end of a change or flush when
 * everything before it is on the medium, and of its errors.
 *
 * Memory: changes wait for room when half of the cap is pending; the other half is for those that
 * must end while the guest is being stopped (drain(), as log.h); when some of it is used, the guest
 * should not run before the image has caught up (is_full()). What finds no room even then is kept
 * all the same, and the standby is given up, since it could not. Nothing is ever dropped.
 *
 * An error of the image of a change that the guest believes done can't be told to it. It is tried
 * again every second, and nothing after it reaches the image before; reads still see it, changes
 * wait when the room is used up, and who is alone is told that all further ones fail. The first
 * failure, and the end of the trouble, are told to the owner.
 *
 * Threads: any, except begin() and end(), which come with the guest parked, alternating. Callbacks
 * come without locks held. */
#ifndef KEMARI_DISK_MODE_BUFFERED_H
#define KEMARI_DISK_MODE_BUFFERED_H

#include <sys/uio.h>

#include "disk/log.h"
#include "disk/volume.h"

extern const struct disk_mode_ops disk_mode_buffered_ops; /* of a struct disk_buffered */

struct disk_buffered;

struct disk_buffered_config {
    size_t cap; /* bytes pending; half of it is for drain() */
    /* Is it pressing, or not full any more? Once until take(), or until it is full again. Any
     * thread. */
    void (*wake)(void *context);
    /* A change that the guest believes done can't be carried out; or, `text` NULL, it has been. Any
     * thread; must only take note. */
    void (*failed)(void *context, unsigned disk, const char *text);
    void *context;
};

/* All shared volumes of a machine have one mode. Before begin() and after end() every change is
 * given up at once, with -ECANCELED. */
int disk_buffered_create(const struct disk_buffered_config *config, struct disk_buffered **out,
                         struct error *err);
/* No volume uses it any more. */
void disk_buffered_destroy(struct disk_buffered **mode);

/* ---- for those who hold output ---- */

/* From now on `hold` is told of each change, on any thread. It leads to disk_buffered_release()
 * with that ticket when the change may become visible: at once, inside of hold(), if the guest runs
 * alone; later, or never. It must not wait for a disk. */
void disk_buffered_begin(struct disk_buffered *mode, void (*hold)(void *context, uint64_t ticket),
                         void *context);
void disk_buffered_release(struct disk_buffered *mode, uint64_t ticket);

/* The guest goes on elsewhere, or ends: nothing more will be released. Waits until what was
 * released is on the medium, or can't be, which is told; the rest is forgotten. */
void disk_buffered_end(struct disk_buffered *mode);

/* Another host has the guest: nothing more begins to reach the image, whatever was released. */
void disk_buffered_halt(struct disk_buffered *mode);

/* True when nothing that was released is still on its way. */
bool disk_buffered_is_quiet(struct disk_buffered *mode);
/* Changes of one volume that are pending. */
unsigned disk_buffered_held(struct disk_buffered *mode, const struct disk_volume *volume);
/* Of those, the ones that were released and are not in the image yet. */
unsigned disk_buffered_writing(struct disk_buffered *mode, const struct disk_volume *volume);

/* ---- the epochs: as log.h ---- */

/* A link begins: all that is pending is told, before what comes. */
void disk_buffered_start(struct disk_buffered *mode);
void disk_buffered_stop(struct disk_buffered *mode);
void disk_buffered_drain(struct disk_buffered *mode, bool draining);
/* A cut would make room soon. */
bool disk_buffered_is_pressing(struct disk_buffered *mode);
/* More is pending than there is usual room for: a drain let it in. The next one may find none at
 * all, so the guest should stand still until the image has caught up. */
bool disk_buffered_is_full(struct disk_buffered *mode);

/* What an epoch tells the standby: changes, and which of the former ones are in the image. */
struct disk_buffered_batch;

/* NULL: nothing. */
struct disk_buffered_batch *disk_buffered_take(struct disk_buffered *mode);
/* The next payload of the batch, as at most `max` parts (at least 2), valid until it is dropped:
 * their number, 0 at the end, -ENOBUFS when more is pending than the standby could take. */
int disk_buffered_payload(struct disk_buffered_batch *batch, struct iovec *parts, int max);
/* NULL is fine. */
void disk_buffered_drop(struct disk_buffered *mode, struct disk_buffered_batch *batch);

struct disk_buffered_stats {
    bool on;
    uint64_t pending_bytes;
    unsigned waiting; /* requests without room */
    bool failing;     /* the image can't take what is pending */
    uint64_t losses;  /* changes beyond the cap in a drain */
};

void disk_buffered_snapshot(struct disk_buffered *mode, struct disk_buffered_stats *out);

#endif
