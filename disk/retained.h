/* What a standby retains of buffered disks (mode_buffered.h): the committed changes that the
 * primary has not said to be in the image, which both hosts have.
 *
 *   payload ──stage: checked, copied──► staged epoch ──commit──► retained ──mark: applied──► freed
 *                                            └──drop                 └──finish: promotion ──► image
 *
 * Nothing of it touches the image while the primary is the one that writes. A promotion, which may
 * only come when that host writes nothing any more (docs/disks.md, "Fencing"), carries out all of
 * it, in order, each durably. What the primary had done already is done again: the changes are in
 * one piece, without a gap, and end with the committed state, so the image has that state then,
 * whichever of them it had before.
 *
 * Memory: the primary keeps a change in its own, whose cap is DISK_LOG_CAP, until it is in the
 * image; the mark of an epoch frees here what was there when the epoch before was cut. So there is
 * never more than two of those caps, and an epoch that outgrows `cap` is refused.
 *
 * Threads: snapshot from any; the rest from one at a time. */
#ifndef KEMARI_DISK_RETAINED_H
#define KEMARI_DISK_RETAINED_H

#include "disk/log.h"
#include "disk/volume.h"

#define DISK_RETAINED_CAP (2 * DISK_LOG_CAP)

struct disk_retained;

struct disk_retained_config {
    struct disk_volume *const *volumes; /* by index, copied; NULL: takes no records */
    unsigned count;
    size_t cap; /* bytes staged and retained */
};

struct disk_retained_stats {
    uint64_t staged_bytes;
    uint64_t retained_bytes;
    uint64_t finished; /* records carried out at promotions */
};

int disk_retained_create(const struct disk_retained_config *config, struct disk_retained **out,
                         struct error *err);
void disk_retained_destroy(struct disk_retained **retained);

/* Takes a payload (record.h: a mark and records), which it copies, after checking all of it.
 * -EBADMSG; -ENOBUFS; -ENOMEM. */
int disk_retained_stage(struct disk_retained *retained, const uint8_t *payload, size_t size,
                        struct error *err);
/* What was staged belongs to a whole epoch, which is acknowledged next; or is forgotten. */
void disk_retained_commit(struct disk_retained *retained);
void disk_retained_drop(struct disk_retained *retained);

/* The guest went on elsewhere: finish() fails until a link has begun anew (-ENODATA). */
void disk_retained_forget(struct disk_retained *retained);

/* Promotion: 0 when everything is on the medium. Otherwise what failed, on which disk; all is
 * retained still, and this may be called again. Waits for disk I/O. */
int disk_retained_finish(struct disk_retained *retained, struct error *err);

void disk_retained_snapshot(struct disk_retained *retained, struct disk_retained_stats *out);

#endif
