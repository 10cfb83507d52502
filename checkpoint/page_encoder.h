/* Turns the pages of a capture into the payload of PAGES frames with fewer bytes, after the guest
 * runs on: zero pages, pages that the standby holds already, differences, LZ4, and raw where
 * nothing is gained.
 *
 *   page ─► zero? ─► version known? ─► difference ─► SAME / DELTA / DELTA_LZ4
 *                        │ no             └ too large ─┐
 *                        └─► digest known? ─► SAME     ▼
 *                                 └ no ──────► LZ4 worth trying? ─► LZ4 / RAW
 *
 * AUTO weighs for each page what a method takes against what it saves on this link (link_cost.h),
 * from what it achieved lately in the same 2 MiB of guest memory; what looks hopeless is tried
 * again now and then. The other modes don't weigh.
 *
 * What "the standby holds" means stands in checkpoint/page_cache.h: page_encoder_begin_link() for
 * each link, and everything encoded is sent, in that order, or the link is given up.
 *
 * Owned by one thread. */
#ifndef KEMARI_CHECKPOINT_PAGE_ENCODER_H
#define KEMARI_CHECKPOINT_PAGE_ENCODER_H

#include <sys/uio.h>

#include "checkpoint/link_cost.h"
#include "checkpoint/page_codec.h"

struct page_encoder;

enum page_encoder_mode {
    PAGE_ENCODER_AUTO,
    PAGE_ENCODER_RAW,      /* plain batches: raw and zero */
    PAGE_ENCODER_DELTA,    /* same and delta, else raw */
    PAGE_ENCODER_LZ4,      /* LZ4, else raw */
    PAGE_ENCODER_SMALLEST, /* fewest bytes, whatever it takes */
};

struct page_encoder_config {
    enum page_encoder_mode mode;
    size_t cache_size;         /* bytes of what the standby holds; unused by RAW and LZ4 */
    const struct gmem *memory; /* for its layout */
};

struct page_encoder_stats {
    struct page_encoder_method {
        uint64_t pages;
        uint64_t bytes; /* that they took on the wire, their entries included */
        nsec_t time;    /* of encoding; one page of every few is timed and counts for all */
    } methods[PAGE_ENCODING_COUNT]; /* by encoding */
};

/* A batch ready to send: parts[0] is the header. Borrows pages and encoder. */
struct encoded_batch {
    struct iovec parts[1 + PAGE_BATCH_MAX];
    int part_count;
    size_t zero_pages;
    uint8_t header[PAGE_BATCH_HEADER_MAX];
};

int page_encoder_create(const struct page_encoder_config *config, struct page_encoder **out,
                        struct error *err);
void page_encoder_destroy(struct page_encoder **encoder);

/* A new standby, or the old one again: nothing is known of it. `encoded`: it understands encoded
 * batches. `seed` of the digests: random, so that a guest can't know it. */
void page_encoder_begin_link(struct page_encoder *encoder, bool encoded, uint64_t seed);

/* Encodes `count` <= PAGE_BATCH_MAX pages, which lie one behind the other and have ascending
 * `gfns`. `passing`: part of a whole pass over memory, whose pages aren't worth keeping for the
 * next one. `out` is valid until the next call. */
void page_encoder_encode(struct page_encoder *encoder, const gfn_t *gfns, uint8_t *pages,
                         size_t count, bool passing, struct encoded_batch *out);

/* What the link costs, for AUTO: to be kept up to date by whoever sends. */
struct link_cost *page_encoder_link_cost(struct page_encoder *encoder);

const struct page_encoder_stats *page_encoder_stats(const struct page_encoder *encoder);

const char *page_encoder_mode_name(enum page_encoder_mode mode);

#endif
