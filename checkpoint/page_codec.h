/* The payload of a PAGES frame: up to PAGE_BATCH_MAX pages of one epoch.
 *
 * Little-endian:
 *   u32 count      1..PAGE_BATCH_MAX
 *   u32 reserved   0
 *   count times u64: gfn << 12 | encoding, strictly ascending by gfn
 *   for each RAW page, in that order, its 4096 bytes
 *
 * Pure: no allocation, no I/O. */
#ifndef KEMARI_CHECKPOINT_PAGE_CODEC_H
#define KEMARI_CHECKPOINT_PAGE_CODEC_H

#include "base/error.h"
#include "base/types.h"
#include "gmem/gmem.h"

/* So many pages and their entries fit in one slab chunk of 1 MiB. */
#define PAGE_BATCH_MAX         254
#define PAGE_BATCH_HEADER_MAX  (8 + 8 * PAGE_BATCH_MAX)
#define PAGE_BATCH_PAYLOAD_MAX (PAGE_BATCH_HEADER_MAX + PAGE_BATCH_MAX * PAGE_SIZE)

enum page_encoding { PAGE_ENCODING_RAW = 1, PAGE_ENCODING_ZERO = 2 };

/* True when all 4096 bytes are zero. */
bool page_is_zero(const uint8_t *page);

/* Writes the header for `count` pages into `out` (PAGE_BATCH_HEADER_MAX bytes) and returns its
 * size; the caller sends the RAW pages after it. */
size_t page_batch_encode_header(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                uint8_t *out);

/* A validated batch; borrows the payload. */
struct page_batch {
    size_t count;
    const uint8_t *entries;
    const uint8_t *raw;
    gfn_t last; /* gfn of the last page */
};

/* Checks everything: counts, sizes, encodings, that every gfn is guest RAM and that they ascend,
 * also beyond `after` when `has_after` (the last gfn of the epoch's previous batch), so that no
 * page comes twice in an epoch. -EBADMSG with a phrase. */
int page_batch_decode(struct page_batch *batch, const uint8_t *payload, size_t size,
                      const struct gmem *memory, bool has_after, gfn_t after, struct error *err);

size_t page_batch_zero_count(const struct page_batch *batch);

/* Writes the pages of a decoded batch into guest memory. Doesn't mark them dirty: a standby has
 * nobody to tell. */
void page_batch_apply(const struct page_batch *batch, const struct gmem *memory);

#endif
