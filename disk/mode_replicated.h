/* The replicated mode (DESIGN §5): a change goes to the local image at once, and is in the log of
 * the epoch before the guest learns that it is done. So the state of an epoch never believes in a
 * write that its records lack. A request under way at a cut may be in the log or not: the machine's
 * state has it as not done, and it is done again.
 *
 * A failed change is not logged: the guest knows of the failure, and what the range holds is
 * undefined then; the watch's mark on it stays (volume.h).
 *
 * Thread safe, as a mode must be. */
#ifndef KEMARI_DISK_MODE_REPLICATED_H
#define KEMARI_DISK_MODE_REPLICATED_H

#include "disk/log.h"
#include "disk/volume.h"

extern const struct disk_mode_ops disk_mode_replicated_ops; /* of a struct disk_replicated */

struct disk_replicated;

/* All volumes of a machine share the mode and its log: order over disks is kept, too. The log is
 * borrowed; its room() callback must lead to disk_replicated_room(). */
int disk_replicated_create(struct disk_log *log, struct disk_replicated **out, struct error *err);
/* No volume uses it any more. */
void disk_replicated_destroy(struct disk_replicated **mode);

/* The log has room again: requests that wait go on. */
void disk_replicated_room(struct disk_replicated *mode);

/* Waits until every change that began while the log was off has ended: from then on each change is
 * in the log or, complete, in the image. Before a copy is read. */
void disk_replicated_settle(struct disk_replicated *mode);

unsigned disk_replicated_waiting(struct disk_replicated *mode); /* requests without room */

#endif
