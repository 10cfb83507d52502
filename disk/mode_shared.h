/* The shared mode (DESIGN §5): both hosts see one image, so a change of it is output. It is held
 * until the epoch in which the guest asked for it has committed, then carried out, and the guest
 * learns of its end after that.
 *
 *   admit ──► HELD ──hold(ticket)──► (the outbox) ──release(ticket)──► image, durably ──► settle
 *               └──end(): the guest is gone──► -ECANCELED, never carried out
 *
 * Why a failover is right at every point: the image holds only changes of committed epochs. A
 * committed state has each of them either as done, and then it was on the medium before the guest
 * learnt of it (image.h: a shared image is written with O_DSYNC), or as under way, and then whoever
 * loads that state does it again, from the same bytes in guest memory. What the guest asked for
 * later was not let out. Doing it again is harmless as long as the dead host does nothing any more:
 * that is what fencing is for (docs/failure.md).
 *
 * Order: reads of the guest wait for earlier changes that they overlap
 * (disk_mode_ops.orders_reads), so that nobody sees bytes that a failover could take back: those of
 * a change that a reset made the device forget, for example. A flush waits for all changes before
 * it. It isn't held itself: it shows nothing to the outside.
 *
 * Threads: any, except begin() and end(), which come with the guest parked, alternating. */
#ifndef KEMARI_DISK_MODE_SHARED_H
#define KEMARI_DISK_MODE_SHARED_H

#include "disk/volume.h"

extern const struct disk_mode_ops disk_mode_shared_ops; /* of a struct disk_shared */

struct disk_shared;

/* All shared volumes of a machine have one mode. Before begin() and after end() every change is
 * given up at once, with -ECANCELED. */
int disk_shared_create(struct disk_shared **out, struct error *err);
/* No volume uses it any more. */
void disk_shared_destroy(struct disk_shared **mode);

/* From now on `hold` is told of each change, on any thread, without locks held. It leads to
 * disk_shared_release() with that ticket when the change may become visible, perhaps at once, or
 * never. It must not wait for a disk. */
void disk_shared_begin(struct disk_shared *mode, void (*hold)(void *context, uint64_t ticket),
                       void *context);

/* Carries out the change. A ticket that is not held any more is ignored. */
void disk_shared_release(struct disk_shared *mode, uint64_t ticket);

/* The guest goes on elsewhere, or ends: nobody will release anything. Ends what is held with
 * -ECANCELED, and waits for what is being carried out. hold() is not called any more. */
void disk_shared_end(struct disk_shared *mode);

/* True when nothing that was released is still being carried out. */
bool disk_shared_is_quiet(struct disk_shared *mode);

/* Changes of one volume that are held. */
unsigned disk_shared_held(struct disk_shared *mode, const struct disk_volume *volume);
/* Changes of one volume that were released and are still being carried out. */
unsigned disk_shared_writing(struct disk_shared *mode, const struct disk_volume *volume);

#endif
