/* The payload of a PAGES frame: up to PAGE_BATCH_MAX pages of one epoch.
 *
 * Little-endian:
 *   u32 count      1..PAGE_BATCH_MAX
 *   u32 format     0: plain, 1: encoded
 *   encoded only:
 *     u64 seed        of the digests
 *     u8 content[16]  digest of the pages that depend on what the standby holds; see below
 *   count times u64: gfn << 12 | encoding, strictly ascending by gfn
 *   for each page, in that order:
 *     RAW                     its 4096 bytes
 *     ZERO, SAME              nothing
 *     LZ4, DELTA, DELTA_LZ4   u16 size, 1..4095, and so many bytes (encoded only)
 *
 * SAME, DELTA and DELTA_LZ4 say what a page is by what the standby holds of it when everything that
 * was sent on this link before has been applied. `content` proves that both sides mean the same: it
 * is the XXH3-128, with the seed, of the XXH3-128s, with the seed, of those pages as they are after
 * this batch, in order. The secondary compares before it acknowledges.
 *
 * Pure: no allocation, no I/O. */
#ifndef KEMARI_CHECKPOINT_PAGE_CODEC_H
#define KEMARI_CHECKPOINT_PAGE_CODEC_H

#include "base/error.h"
#include "base/types.h"
#include "gmem/gmem.h"
#include "transport/digest.h"

/* So many pages and their entries fit in one slab chunk of 1 MiB. */
#define PAGE_BATCH_MAX         254
#define PAGE_BATCH_HEADER_MAX  (8 + 8 + DIGEST_128_SIZE + 8 * PAGE_BATCH_MAX)
#define PAGE_BATCH_PAYLOAD_MAX (PAGE_BATCH_HEADER_MAX + PAGE_BATCH_MAX * PAGE_SIZE)

/* Numbers of the wire. */
enum page_encoding {
    PAGE_ENCODING_RAW = 1,
    PAGE_ENCODING_ZERO = 2,
    PAGE_ENCODING_SAME = 3,      /* as it was */
    PAGE_ENCODING_LZ4 = 4,       /* an LZ4 block of the page */
    PAGE_ENCODING_DELTA = 5,     /* checkpoint/delta.h against what it was */
    PAGE_ENCODING_DELTA_LZ4 = 6, /* the same, as an LZ4 block */
    PAGE_ENCODING_COUNT,
};

/* Size and bytes of an encoded page together: what a raw page would take is no gain. */
#define PAGE_BODY_PREFIX 2
#define PAGE_BODY_MAX    (PAGE_SIZE - 1 - PAGE_BODY_PREFIX)

/* True when all 4096 bytes are zero. */
bool page_is_zero(const uint8_t *page);

/* "raw", "zero", "same", "lz4", "delta", "delta-lz4"; "?". Static. */
const char *page_encoding_name(enum page_encoding encoding);

/* Writes the header of a plain batch of `count` pages into `out` (PAGE_BATCH_HEADER_MAX bytes) and
 * returns its size; the caller sends the RAW pages after it. */
size_t page_batch_encode_header(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                uint8_t *out);

/* The same for an encoded batch. */
size_t page_batch_encode_header_encoded(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                        uint64_t seed, const uint8_t content[DIGEST_128_SIZE],
                                        uint8_t *out);

/* A batch whose frame is right; borrows the payload. */
struct page_batch {
    size_t count;
    bool encoded;
    uint64_t seed;
    const uint8_t *content; /* encoded only */
    const uint8_t *entries;
    const uint8_t *bodies;
    size_t bodies_size;
    gfn_t last;                           /* gfn of the last page */
    size_t per_kind[PAGE_ENCODING_COUNT]; /* pages, by encoding */
};

/* Checks counts, sizes, encodings, that every gfn is guest RAM and that they ascend, also beyond
 * `after` when `has_after` (the last gfn of the epoch's previous batch), so that no page comes
 * twice in an epoch. -EBADMSG with a phrase. */
int page_batch_decode(struct page_batch *batch, const uint8_t *payload, size_t size,
                      const struct gmem *memory, bool has_after, gfn_t after, struct error *err);

/* Does it need what is in memory? */
bool page_batch_depends(const struct page_batch *batch);

/* Checks that every page decodes to exactly PAGE_SIZE bytes, and computes the content digest that
 * the dependent pages would have if the batch were applied to `memory` as it is now. -EBADMSG.
 * Nobody may be writing the pages named. */
int page_batch_content(const struct page_batch *batch, const struct gmem *memory,
                       uint8_t content[DIGEST_128_SIZE], struct error *err);

/* page_batch_content() and compares: -EBADMSG. After it page_batch_apply() cannot fail as long as
 * memory doesn't change. */
int page_batch_verify(const struct page_batch *batch, const struct gmem *memory, struct error *err);

size_t page_batch_zero_count(const struct page_batch *batch);

/* Writes the pages of a verified batch into guest memory. Doesn't mark them dirty: a standby has
 * nobody to tell. */
void page_batch_apply(const struct page_batch *batch, const struct gmem *memory);

#endif
