/* The primary's side of a disk synchronisation: makes the secondary's image equal to its own, while
 * the guest runs and writes.
 *
 *   ask ─► what the other side has ─► decide (pairing.h) ─► durably mark the union ─► start
 *   for the marked blocks, some at a time:
 *       read ─► digests ═► which differ? ─► digests of 4 KiB pieces ═► which differ? ─► data ═►
 *       then: hand over what the guest has written meanwhile
 *   every so often: both sides make it durable, and the blocks are unmarked
 *
 * Why this is right while the guest writes: every write that ends after the synchronisation began
 * is in the log (mode_replicated.h), and the log is handed over between two batches, never within
 * one. Take any sector of a block read at time t. A write that ended before the read began may have
 * been handed over before, and the read has it. Every other write, even one that the read caught
 * half done, is handed over behind the block's data and is carried out on top of it. An equal
 * digest says the same as data would. So when the log up to the end of the synchronisation has been
 * applied, the images are equal; and not before: the standby has no state until an epoch behind all
 * this commits.
 *
 * What is left marked when it is cut off is what the next one compares: the marks are durable.
 *
 * Threads: run() on one; the others any. */
#ifndef KEMARI_DISK_SYNC_SOURCE_H
#define KEMARI_DISK_SYNC_SOURCE_H

#include "disk/divergence.h"
#include "disk/sync_channel.h"
#include "disk/volume.h"

struct sync_source;

struct sync_source_config {
    struct disk_volume *volume;
    struct divergence *divergence;
    uint64_t rate; /* most bytes of disk compared per second; 0: no limit */
};

/* Both are borrowed. 0 or -ENOMEM. */
int sync_source_create(const struct sync_source_config *config, struct sync_source **out,
                       struct error *err);
void sync_source_destroy(struct sync_source **source);

/* The whole of it. -ESTALE when the table refuses (an operator must decide); -EPROTO, -EBADMSG when
 * the other side doesn't keep to the protocol; errors of the channel and the image. On success a
 * round of the divergence map is running: sync_source_finish() once the standby holds a complete
 * state, sync_source_abandon() when the link was lost before. */
int sync_source_run(struct sync_source *source, const struct sync_channel *channel,
                    struct error *err);
int sync_source_finish(struct sync_source *source, struct error *err);
void sync_source_abandon(struct sync_source *source);

struct sync_progress {
    bool active;
    bool full;            /* everything is compared */
    uint64_t bytes_total; /* of disk, to be compared */
    uint64_t bytes_done;
    uint64_t bytes_differed; /* sent as data or zeroes */
    uint64_t bytes_sent;     /* on the wire, in all */
    nsec_t started;          /* clock_now() */
    char why[128];           /* a full comparison, or a refusal */
};

void sync_source_snapshot(struct sync_source *source, struct sync_progress *out);

#endif
