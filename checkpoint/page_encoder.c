#include "checkpoint/page_encoder.h"

#include <assert.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoint/delta.h"
#include "checkpoint/page_cache.h"

/* Pages of a region that share what was learnt: 2 MiB. */
#define REGION_SHIFT 9
/* Sizes of a region are kept in units that make a page 255 at most. */
#define SIZE_UNIT (PAGE_SIZE / 255 + 1)
/* One page of so many is timed. */
#define TIMED_EVERY 8
/* A method that isn't worth it is tried for one page of so many all the same. */
#define DELTA_TRIED_EVERY 16
#define LZ4_TRIED_EVERY   64
/* A delta smaller than this is not worth a second pass. */
#define DELTA_LZ4_MIN 256
/* ns per page before anything was timed. */
#define DELTA_GUESS 800.0
#define LZ4_GUESS   8000.0
/* LZ4's own measure of haste: higher is faster and larger. */
#define LZ4_ACCELERATION 1

struct region {
    uint8_t delta; /* what a page took lately, in SIZE_UNITs */
    uint8_t lz4;
    uint8_t delta_passed; /* pages since the method was tried */
    uint8_t lz4_passed;
};

struct page_encoder {
    enum page_encoder_mode mode;
    bool encoded;
    uint64_t seed;
    struct page_cache *cache; /* NULL: the mode needs none */
    struct region *regions;
    uint8_t zero_digest[DIGEST_128_SIZE];
    struct link_cost cost;
    double delta_ns; /* of a page, lately */
    double lz4_ns;
    uint64_t pages; /* counts, for the timing */
    struct page_encoder_stats stats;
    LZ4_stream_t lz4;

    /* the batch at hand */
    bool passing;
    uint8_t *bodies; /* PAGE_BATCH_MAX pages */
    size_t bodies_used;
    uint8_t digests[PAGE_BATCH_MAX * DIGEST_128_SIZE]; /* of the dependent pages */
    size_t digests_used;
};

const char *page_encoder_mode_name(enum page_encoder_mode mode)
{
    static const char *const names[] = {"auto", "raw", "delta", "lz4", "smallest"};
    return names[mode];
}

static bool mode_refers(enum page_encoder_mode mode)
{
    return mode != PAGE_ENCODER_RAW && mode != PAGE_ENCODER_LZ4;
}

static bool mode_compresses(enum page_encoder_mode mode)
{
    return mode != PAGE_ENCODER_RAW && mode != PAGE_ENCODER_DELTA;
}

int page_encoder_create(const struct page_encoder_config *config, struct page_encoder **out,
                        struct error *err)
{
    *out = NULL;
    struct page_encoder *e = calloc(1, sizeof(*e));
    if (!e)
        return error_set(err, -ENOMEM, "page encoder: out of memory");
    const uint64_t pages = gmem_page_count(config->memory);
    const gfn_t last = gmem_gfn_at(config->memory, pages - 1);
    e->mode = config->mode;
    e->regions = calloc((size_t)(last >> REGION_SHIFT) + 1, sizeof(*e->regions));
    e->bodies = malloc(PAGE_BATCH_MAX * PAGE_SIZE);
    int rc = e->regions && e->bodies ? 0 : error_set(err, -ENOMEM, "page encoder: out of memory");
    if (rc == 0 && mode_refers(e->mode))
        rc = page_cache_create(config->cache_size, pages, &e->cache, err);
    if (rc < 0) {
        page_encoder_destroy(&e);
        return rc;
    }
    e->delta_ns = DELTA_GUESS;
    e->lz4_ns = LZ4_GUESS;
    page_encoder_begin_link(e, false, 0);
    *out = e;
    return 0;
}

void page_encoder_destroy(struct page_encoder **encoder)
{
    struct page_encoder *e = *encoder;
    if (!e)
        return;
    page_cache_destroy(&e->cache);
    free(e->regions);
    free(e->bodies);
    free(e);
    *encoder = NULL;
}

void page_encoder_begin_link(struct page_encoder *encoder, bool encoded, uint64_t seed)
{
    static const uint8_t zero[PAGE_SIZE];
    encoder->encoded = encoded && encoder->mode != PAGE_ENCODER_RAW;
    encoder->seed = seed;
    encoder->cost = (struct link_cost){0};
    digest_of_128(zero, PAGE_SIZE, seed, encoder->zero_digest);
    if (encoder->cache)
        page_cache_forget(encoder->cache, seed);
}

struct link_cost *page_encoder_link_cost(struct page_encoder *encoder)
{
    return &encoder->cost;
}

const struct page_encoder_stats *page_encoder_stats(const struct page_encoder *encoder)
{
    return &encoder->stats;
}

/* ---- weighing ---- */

static void learn_size(uint8_t *known, size_t size)
{
    const int sample = (int)((size + SIZE_UNIT - 1) / SIZE_UNIT);
    const int step = sample - *known;
    /* Towards the sample by a quarter, and by one at least. */
    *known = (uint8_t)(*known + step / 4 + (step > 0) - (step < 0));
}

/* A thread that lost its processor in the middle says nothing of the method: better is believed
 * sooner than worse, and never much worse at once. */
static void learn_time(double *known, nsec_t took)
{
    const double sample = (double)took < 4 * *known ? (double)took : 4 * *known;
    *known += (sample - *known) / (sample < *known ? 4 : 64);
}

/* Does a method that takes `ns` and leaves about `size` bytes beat sending the page as it is? */
static bool beats_raw(const struct page_encoder *e, double ns, size_t size)
{
    if (e->mode != PAGE_ENCODER_AUTO)
        return true;
    const double per_byte = link_cost_per_byte(&e->cost);
    return ns + (double)size * per_byte < (double)PAGE_SIZE * per_byte;
}

static bool worth_trying(const struct page_encoder *e, double ns, uint8_t size, uint8_t *passed,
                         unsigned every)
{
    if (beats_raw(e, ns, (size_t)size * SIZE_UNIT))
        *passed = 0;
    else if (++*passed % every)
        return false;
    return true;
}

/* ---- methods; each leaves the body behind bodies_used, its size prefix included ---- */

static uint8_t *body_of(struct page_encoder *e)
{
    return e->bodies + e->bodies_used + PAGE_BODY_PREFIX;
}

/* Compresses `bytes` into the body. The size, or 0 when it isn't below `limit`. */
static size_t compress(struct page_encoder *e, const uint8_t *bytes, size_t size, size_t limit)
{
    const nsec_t start = clock_now();
    const int room = (int)limit - 1;
    const int packed = LZ4_compress_fast_extState(&e->lz4, (const char *)bytes, (char *)body_of(e),
                                                  (int)size, room, LZ4_ACCELERATION);
    if (size == PAGE_SIZE)
        learn_time(&e->lz4_ns, clock_now() - start);
    return packed > 0 ? (size_t)packed : 0;
}

static enum page_encoding pack(struct page_encoder *e, struct region *region, const uint8_t *page,
                               size_t *size)
{
    if (!mode_compresses(e->mode) ||
        !worth_trying(e, e->lz4_ns, region->lz4, &region->lz4_passed, LZ4_TRIED_EVERY))
        return PAGE_ENCODING_RAW;
    *size = compress(e, page, PAGE_SIZE, PAGE_BODY_MAX);
    learn_size(&region->lz4, *size ? *size : PAGE_SIZE);
    return *size ? PAGE_ENCODING_LZ4 : PAGE_ENCODING_RAW;
}

static void note_dependent(struct page_encoder *e, const uint8_t digest[DIGEST_128_SIZE])
{
    memcpy(e->digests + e->digests_used, digest, DIGEST_128_SIZE);
    e->digests_used += DIGEST_128_SIZE;
}

/* Is a second pass over a delta of `size` bytes worth it? LZ4's time goes with the size. */
static bool packs_delta(const struct page_encoder *e, size_t size)
{
    const double ns = e->lz4_ns * (double)size / (double)PAGE_SIZE;
    if (!mode_compresses(e->mode) || size < DELTA_LZ4_MIN)
        return false;
    return e->mode != PAGE_ENCODER_AUTO || ns < (double)(size / 2) * link_cost_per_byte(&e->cost);
}

/* The page against the version that the standby holds, which is brought up to date. */
static enum page_encoding differ(struct page_encoder *e, struct region *region, uint8_t *version,
                                 const uint8_t *page, size_t *size)
{
    uint8_t delta[PAGE_BODY_MAX];
    const int found = delta_encode(version, page, PAGE_SIZE, delta, sizeof(delta));
    learn_size(&region->delta, found < 0 ? PAGE_SIZE : (size_t)found);
    if (found < 0) {
        memcpy(version, page, PAGE_SIZE);
        return pack(e, region, page, size);
    }
    uint8_t digest[DIGEST_128_SIZE];
    digest_of_128(page, PAGE_SIZE, e->seed, digest);
    note_dependent(e, digest);
    if (found == 0)
        return PAGE_ENCODING_SAME;
    delta_apply(delta, (size_t)found, version, PAGE_SIZE);
    *size = packs_delta(e, (size_t)found) ? compress(e, delta, (size_t)found, (size_t)found) : 0;
    if (*size)
        return PAGE_ENCODING_DELTA_LZ4;
    memcpy(body_of(e), delta, (size_t)found);
    *size = (size_t)found;
    return PAGE_ENCODING_DELTA;
}

/* Nothing but its digest may be known of the page. */
static enum page_encoding first_sight(struct page_encoder *e, struct region *region, gfn_t gfn,
                                      const uint8_t *page, size_t *size)
{
    uint8_t digest[DIGEST_128_SIZE];
    digest_of_128(page, PAGE_SIZE, e->seed, digest);
    if (page_cache_holds(e->cache, gfn, digest)) {
        note_dependent(e, digest);
        learn_size(&region->delta, 0);
        return PAGE_ENCODING_SAME;
    }
    page_cache_put(e->cache, gfn, page, digest, !e->passing);
    return pack(e, region, page, size);
}

static enum page_encoding encode_page(struct page_encoder *e, gfn_t gfn, const uint8_t *page,
                                      size_t *size)
{
    struct region *region = &e->regions[gfn >> REGION_SHIFT];
    *size = 0;
    if (page_is_zero(page)) {
        if (e->cache)
            page_cache_put(e->cache, gfn, page, e->zero_digest, false);
        return PAGE_ENCODING_ZERO;
    }
    if (!e->cache)
        return pack(e, region, page, size);
    if (!worth_trying(e, e->delta_ns, region->delta, &region->delta_passed, DELTA_TRIED_EVERY)) {
        page_cache_drop(e->cache, gfn);
        return pack(e, region, page, size);
    }
    const bool timed = e->pages % TIMED_EVERY == 0 || region->delta_passed;
    const nsec_t start = timed ? clock_now() : 0;
    uint8_t *version = page_cache_version(e->cache, gfn);
    if (!version)
        return first_sight(e, region, gfn, page, size);
    const enum page_encoding encoding = differ(e, region, version, page, size);
    if (timed && (encoding == PAGE_ENCODING_SAME || encoding == PAGE_ENCODING_DELTA))
        learn_time(&e->delta_ns, clock_now() - start);
    return encoding;
}

/* ---- batches ---- */

static void add_part(struct encoded_batch *out, uint8_t *bytes, size_t size)
{
    struct iovec *last = &out->parts[out->part_count - 1];
    if (out->part_count > 1 && (uint8_t *)last->iov_base + last->iov_len == bytes)
        last->iov_len += size;
    else
        out->parts[out->part_count++] = (struct iovec){bytes, size};
}

static void add_body(struct page_encoder *e, struct encoded_batch *out, size_t size)
{
    uint8_t *body = e->bodies + e->bodies_used;
    body[0] = (uint8_t)size;
    body[1] = (uint8_t)(size >> 8);
    e->bodies_used += PAGE_BODY_PREFIX + size;
    add_part(out, body, PAGE_BODY_PREFIX + size);
}

static enum page_encoding add_page(struct page_encoder *e, gfn_t gfn, uint8_t *page,
                                   struct encoded_batch *out)
{
    const size_t entry = sizeof(uint64_t);
    const bool timed = e->pages % TIMED_EVERY == 0;
    const nsec_t start = timed ? clock_now() : 0;
    size_t size = 0;
    enum page_encoding encoding;
    if (e->encoded)
        encoding = encode_page(e, gfn, page, &size);
    else
        encoding = page_is_zero(page) ? PAGE_ENCODING_ZERO : PAGE_ENCODING_RAW;
    struct page_encoder_method *method = &e->stats.methods[encoding];
    method->pages++;
    method->bytes += entry;
    if (encoding == PAGE_ENCODING_RAW) {
        add_part(out, page, PAGE_SIZE);
        method->bytes += PAGE_SIZE;
    } else if (size) {
        add_body(e, out, size);
        method->bytes += PAGE_BODY_PREFIX + size;
    }
    if (timed)
        method->time += TIMED_EVERY * (clock_now() - start);
    e->pages++;
    return encoding;
}

void page_encoder_encode(struct page_encoder *encoder, const gfn_t *gfns, uint8_t *pages,
                         size_t count, bool passing, struct encoded_batch *out)
{
    assert(count <= PAGE_BATCH_MAX);
    uint8_t encodings[PAGE_BATCH_MAX];
    encoder->passing = passing;
    encoder->bodies_used = encoder->digests_used = 0;
    out->part_count = 1;
    out->zero_pages = 0;
    for (size_t i = 0; i < count; i++) {
        encodings[i] = (uint8_t)add_page(encoder, gfns[i], pages + i * PAGE_SIZE, out);
        out->zero_pages += encodings[i] == PAGE_ENCODING_ZERO;
    }
    size_t size;
    if (encoder->encoded) {
        uint8_t content[DIGEST_128_SIZE] = {0};
        if (encoder->digests_used)
            digest_of_128(encoder->digests, encoder->digests_used, encoder->seed, content);
        size = page_batch_encode_header_encoded(gfns, encodings, count, encoder->seed, content,
                                                out->header);
    } else {
        size = page_batch_encode_header(gfns, encodings, count, out->header);
    }
    out->parts[0] = (struct iovec){out->header, size};
}
