/* A capture: what one epoch carries, copied out of the guest inside the pause, kept until the epoch
 * is acknowledged or aborted.
 *
 * Owned by one thread at a time: the engine fills and sends it, then it waits in the in-flight
 * queue, then it is recycled. */
#ifndef KEMARI_CHECKPOINT_CAPTURE_H
#define KEMARI_CHECKPOINT_CAPTURE_H

#include "base/section.h"
#include "checkpoint/disk_ops.h"
#include "checkpoint/epoch_digest.h"
#include "checkpoint/page_encoder.h"
#include "checkpoint/slab.h"
#include "checkpoint/state_codec.h"
#include "dirtylog/dirty_set.h"
#include "gmem/gmem.h"
#include "transport/link.h"

struct capture {
    epoch_t epoch;
    nsec_t cut_at;             /* clock_now() when the guest was parked for it */
    struct section_set *state; /* empty for a full synchronisation */
    void *disk_batch;          /* of the machine's disks; NULL: nothing was written */
    gfn_t *gfns;               /* page_count of them, ascending */
    size_t page_count;
    size_t page_capacity;
    uint8_t **chunks; /* of the slab, PAGE_BATCH_MAX pages in each */
    size_t chunk_count;
    size_t chunk_capacity;
};

struct capture_sent {
    uint64_t pages;
    uint64_t zero_pages;
    uint64_t frames;
    uint64_t bytes;      /* of payloads */
    uint64_t disk_bytes; /* of them, of disk frames */
    nsec_t sending;      /* in the link, the rest is encoding */
};

/* Room for captures of up to `max_chunks` chunks. NULL when out of memory. */
struct capture *capture_create(size_t max_chunks);
/* The chunks must have been given back. */
void capture_destroy(struct capture **capture);

/* Chunks needed for `pages` pages. */
size_t capture_chunks_for(uint64_t pages);

/* Copies the pages of `set` from index *next on, until the set ends or `max_chunks` are used, and
 * moves *next behind the last one copied; the guest may be `running`. Fails with -ENOBUFS when the
 * slab runs out; what was copied stays. */
int capture_pages(struct capture *capture, struct gmem *memory, const struct dirty_set *set,
                  uint64_t *next, size_t max_chunks, bool running, struct slab *slab);

/* Encodes and sends the pages, adding each frame to `digest`; `passing` as in page_encoder.h. After
 * an error the encoder assumes more of the standby than is true: the link must be given up. */
int capture_send_pages(const struct capture *capture, struct page_encoder *encoder, bool passing,
                       struct link *link, term_t term, struct epoch_digest *digest,
                       struct capture_sent *sent, struct error *err);

/* Sends the state sections the same way; so does an error. */
int capture_send_state(const struct capture *capture, struct state_encoder *encoder,
                       struct link *link, term_t term, struct epoch_digest *digest,
                       struct capture_sent *sent, uint64_t *state_bytes, struct error *err);

/* Sends all payloads of a batch of disk writes the same way. */
int capture_send_disks(const struct checkpoint_disks *disks, void *batch, struct link *link,
                       term_t term, epoch_t epoch, struct epoch_digest *digest,
                       struct capture_sent *sent, struct error *err);
/* One payload. */
int capture_send_disk_parts(const struct iovec *parts, int count, struct link *link, term_t term,
                            epoch_t epoch, struct epoch_digest *digest, struct capture_sent *sent,
                            struct error *err);

/* Gives the pages back to a dirty set: the epoch was aborted (DESIGN §4). */
void capture_give_back(const struct capture *capture, const struct gmem *memory,
                       struct dirty_set *set);

/* Empties it and returns its chunks. */
void capture_recycle(struct capture *capture, struct slab *slab);

#endif
