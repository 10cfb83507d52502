/* The stage: one epoch while it arrives, held in staging memory until it is whole.
 *
 *   EMPTY ──begin──► FILLING ──finish: counts, digest, state decoded──► whole: moved out, EMPTY
 *                       └──drop (link lost, protocol error)───────────► EMPTY
 *
 * Nothing of an incremental epoch touches guest memory before it is whole, verified and taken out
 * by the applier. Pages of a full synchronisation are written at once, since there is no committed
 * state to protect: the standby can't be promoted until the incremental epoch after it is whole.
 *
 * Encoded pages are decoded once on arrival, into nothing, so that what can't be decoded, or would
 * give other contents than the primary has, is found before the acknowledgement.
 *
 * An oversize epoch, beyond what the slab can hold, goes on in memory of its own, at most
 * SESSION_SPILL_BATCHES chunks of it, so that a burst of the guest costs a longer pause and not the
 * ability to take over.
 *
 * Owned by the receiving thread. No I/O: frames come in decoded, with their payload in a chunk. */
#ifndef KEMARI_SECONDARY_STAGE_H
#define KEMARI_SECONDARY_STAGE_H

#include "base/section.h"
#include "checkpoint/disk_ops.h"
#include "checkpoint/slab.h"
#include "gmem/gmem.h"
#include "transport/message.h"

struct stage;

/* An epoch that is whole. Plain data; the owner returns chunks and set with epoch_recycle(). */
struct staged_epoch {
    epoch_t epoch;
    enum message_epoch_kind kind;
    nsec_t received_at; /* clock_now() at END */
    uint64_t pages;
    struct section_set *state; /* INCREMENTAL only, else NULL */
    size_t batch_count;
    struct staged_batch {
        uint8_t *chunk;
        uint32_t size;
        bool spilled; /* `chunk` is not the slab's, but malloc()ed */
    } * batches;      /* verified: neither decoding nor applying them can fail */
};

/* `settle` is called before pages are decoded that depend on what memory holds: when it returns,
 * all epochs that were whole before are in memory. NULL: they always are. Disk payloads are handed
 * to `disks` as they arrive: staged for their commit in an incremental epoch, committed at once in
 * a full synchronisation. Its other calls are the standby's. */
int stage_create(struct gmem *memory, struct slab *slab, void (*settle)(void *context),
                 void *context, const struct checkpoint_disks *disks, struct stage **out,
                 struct error *err);
void stage_destroy(struct stage **stage);

/* True between begin and finish or drop. */
bool stage_is_filling(const struct stage *stage);
epoch_t stage_epoch(const struct stage *stage);
enum message_epoch_kind stage_kind(const struct stage *stage);

/* -EPROTO when one is filling already. */
int stage_begin(struct stage *stage, epoch_t epoch, enum message_epoch_kind kind,
                struct error *err);

/* A verified frame (its digest was right) with its payload in `chunk`, which the stage takes over
 * in every case. -EPROTO: no epoch, another epoch than begun; -EBADMSG: malformed; -ENOBUFS: above
 * the cap of batches; others from the disks. */
int stage_add(struct stage *stage, const struct frame *frame, uint8_t *chunk, struct error *err);

/* Compares with what the primary says it sent and decodes the state. On success the epoch is moved
 * to *out and the stage is empty. -EBADMSG otherwise: drop it. */
int stage_finish(struct stage *stage, epoch_t epoch, const struct message_epoch_end *end,
                 struct staged_epoch *out, struct error *err);

void stage_drop(struct stage *stage);

/* A new link: what came on the one before is no reference any more. The stage is empty. */
void stage_begin_link(struct stage *stage);

/* Writes the pages of a whole epoch into guest memory. */
void staged_epoch_apply(const struct staged_epoch *epoch, struct gmem *memory);
void staged_epoch_recycle(struct staged_epoch *epoch, struct slab *slab);

#endif
