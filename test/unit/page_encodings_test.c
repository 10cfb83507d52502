/* Fewer bytes for pages: deltas, encoded batches, what is known of the standby, and the choice. */
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/delta.h"
#include "checkpoint/page_cache.h"
#include "checkpoint/page_encoder.h"
#include "test/support/page_samples.h"
#include "test/support/runner.h"

/* ---- deltas ---- */

static void a_delta_is_these_bytes(void)
{
    uint8_t before[200] = {0};
    uint8_t after[200] = {0};
    after[0] = 7;
    after[150] = 1; /* 151 to 153 are equal: a gap that is worth no run of its own */
    after[154] = 2;
    after[199] = 9;
    static const uint8_t golden[] = {0, 1, 7, 0x95, 0x01, 5, 1, 0, 0, 0, 2, 44, 1, 9};
    uint8_t out[64];
    CU_ASSERT_EQUAL(delta_encode(before, after, sizeof(after), out, sizeof(out)), sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(out, golden, sizeof(golden)), 0);
    delta_apply(out, sizeof(golden), before, sizeof(before));
    CU_ASSERT_EQUAL(memcmp(before, after, sizeof(after)), 0);
    CU_ASSERT_EQUAL(delta_encode(before, after, sizeof(after), out, sizeof(out)), 0);
}

static void any_two_pages_have_a_delta(void)
{
    uint8_t before[PAGE_SIZE + 8], after[PAGE_SIZE + 8], out[2 * PAGE_SIZE];
    for (unsigned round = 0; round < 4000; round++) {
        const size_t size = PAGE_SIZE + 8 - page_samples_draw() % 100;
        page_samples_random(before);
        page_samples_random(before + 8);
        memcpy(after, before, sizeof(after));
        for (uint64_t runs = page_samples_draw() % 60; runs; runs--) {
            const size_t at = page_samples_draw() % size;
            const size_t length = 1 + page_samples_draw() % (1 + page_samples_draw() % 100);
            for (size_t i = at; i < at + length && i < size; i++)
                after[i] = (uint8_t)page_samples_draw();
        }
        const int found = delta_encode(before, after, size, out, sizeof(out));
        CU_ASSERT_TRUE_FATAL(found >= 0);
        CU_ASSERT_EQUAL(found == 0, memcmp(before, after, size) == 0);
        CU_ASSERT_EQUAL_FATAL(delta_check(out, (size_t)found, size, NULL), 0);
        delta_apply(out, (size_t)found, before, size);
        CU_ASSERT_EQUAL_FATAL(memcmp(before, after, size), 0);
        if (found > 0)
            CU_ASSERT_EQUAL(delta_encode(before, before, size, out, 0), 0);
    }
}

static void a_delta_without_room_says_so(void)
{
    uint8_t before[PAGE_SIZE] = {0};
    uint8_t after[PAGE_SIZE], out[PAGE_SIZE];
    page_samples_random(after);
    for (size_t room = 0; room < 200; room++) {
        uint8_t *exact = malloc(room ? room : 1);
        CU_ASSERT_EQUAL(delta_encode(before, after, PAGE_SIZE, exact, room), -ENOSPC);
        free(exact);
    }
    CU_ASSERT_EQUAL(delta_encode(before, after, PAGE_SIZE, out, PAGE_BODY_MAX), -ENOSPC);
}

static void malformed_deltas_are_refused(void)
{
    static const struct {
        uint8_t bytes[8];
        size_t size;
    } wrong[] = {
        {{0}, 1},                            /* no length */
        {{0, 0}, 2},                         /* an empty run */
        {{0, 2, 1}, 3},                      /* too few bytes */
        {{100, 1, 1}, 3},                    /* beyond the end */
        {{99, 2, 1, 1}, 4},                  /* over the end */
        {{0x80, 0x80, 0x80, 0x80, 1}, 5},    /* a varint of five bytes */
        {{0, 1, 1, 99, 1, 1}, 6},            /* the second run */
        {{0xff, 0xff, 0xff, 0x7f, 1, 1}, 6}, /* far beyond */
        {{0, 0xff, 0xff, 0xff, 0x7f}, 5},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        CU_ASSERT_EQUAL(delta_check(wrong[i].bytes, wrong[i].size, 100, NULL), -EBADMSG);
    const uint8_t whole[] = {99, 1, 1};
    CU_ASSERT_EQUAL(delta_check(whole, 3, 100, NULL), 0);
    CU_ASSERT_EQUAL(delta_check(whole, 3, 99, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(delta_check(whole, 0, 100, NULL), 0);
}

/* ---- encoded batches ---- */

/* A batch of one page of this encoding with this body. */
static void build(struct page_samples_batch *out, gfn_t gfn, uint8_t encoding, const void *body,
                  size_t size, const uint8_t content[DIGEST_128_SIZE])
{
    out->size = page_batch_encode_header_encoded(&gfn, &encoding, 1, PAGE_SAMPLES_SEED, content,
                                                 out->bytes);
    if (size) {
        out->bytes[out->size++] = (uint8_t)size;
        out->bytes[out->size++] = (uint8_t)(size >> 8);
        memcpy(out->bytes + out->size, body, size);
        out->size += size;
    }
}

/* Decode, verify, apply. */
static int take(const struct page_samples_batch *b, struct gmem *memory)
{
    struct page_batch batch;
    int rc = page_batch_decode(&batch, b->bytes, b->size, memory, false, 0, NULL);
    if (rc == 0)
        rc = page_batch_verify(&batch, memory, NULL);
    if (rc == 0)
        page_batch_apply(&batch, memory);
    return rc;
}

static const uint8_t no_content[DIGEST_128_SIZE];

static void the_encoded_header_is_these_bytes(void)
{
    static const uint8_t golden[] = {
        2,    0,    0,    0,    1,    0,    0,    0,    /* count, format */
        0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, /* seed */
        0,    1,    2,    3,    4,    5,    6,    7,    /* content */
        8,    9,    10,   11,   12,   13,   14,   15,   /**/
        3,    0x50, 0x34, 0x12, 0,    0,    0,    0,    /* gfn 0x12345, same */
        5,    0,    0,    0,    1,    0,    0,    0,    /* gfn 0x100000, delta */
    };
    uint8_t content[DIGEST_128_SIZE];
    for (size_t i = 0; i < sizeof(content); i++)
        content[i] = (uint8_t)i;
    const gfn_t gfns[] = {0x12345, 0x100000};
    const uint8_t encodings[] = {PAGE_ENCODING_SAME, PAGE_ENCODING_DELTA};
    uint8_t out[PAGE_BATCH_HEADER_MAX];
    CU_ASSERT_EQUAL(
        page_batch_encode_header_encoded(gfns, encodings, 2, PAGE_SAMPLES_SEED, content, out),
        sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(out, golden, sizeof(golden)), 0);
}

static void the_content_digest_is_these_bytes(void)
{
    /* XXH3-128 with the seed of XXH3-128 with the seed of a page of zeroes. */
    struct gmem *memory = page_samples_memory();
    uint8_t page[PAGE_SIZE] = {0}, inner[DIGEST_128_SIZE], outer[DIGEST_128_SIZE];
    digest_of_128(page, PAGE_SIZE, PAGE_SAMPLES_SEED, inner);
    digest_of_128(inner, sizeof(inner), PAGE_SAMPLES_SEED, outer);
    struct page_samples_batch *b = malloc(sizeof(*b));
    build(b, 3, PAGE_ENCODING_SAME, NULL, 0, outer);
    CU_ASSERT_EQUAL(take(b, memory), 0);
    gmem_page(memory, 3)[4095] = 1; /* this host holds something else */
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    free(b);
    gmem_destroy(&memory);
}

/* A batch with every encoding in it; *memory is what it refers to. */
static void make_every_encoding(struct page_samples_batch *out, struct gmem **memory,
                                struct gmem **expected)
{
    struct gmem *source = page_samples_memory();
    *memory = page_samples_memory();
    *expected = source;
    struct page_encoder *encoder = page_samples_encoder(PAGE_ENCODER_SMALLEST, source);
    static uint8_t pages[6 * PAGE_SIZE];
    const gfn_t gfns[] = {1, 2, 3, 4, 5, 6};
    struct encoded_batch batch;
    for (size_t i = 0; i < 6; i++)
        page_samples_random(pages + i * PAGE_SIZE);
    page_encoder_encode(encoder, gfns, pages, 6, false, &batch);
    page_samples_gather(&batch, out);
    CU_ASSERT_EQUAL(take(out, *memory), 0);
    memset(pages + PAGE_SIZE, 0, PAGE_SIZE);                /* 2: zero */
    page_samples_random(pages);                             /* 1: raw; 3: same */
    page_samples_text(pages + 3 * PAGE_SIZE);               /* 4: lz4 */
    pages[4 * PAGE_SIZE + 100] ^= 1;                        /* 5: delta */
    memset(pages + 5 * PAGE_SIZE, 0x55, PAGE_SIZE / 4 * 3); /* 6: delta-lz4 */
    page_encoder_encode(encoder, gfns, pages, 6, false, &batch);
    page_samples_gather(&batch, out);
    for (size_t i = 0; i < 6; i++)
        memcpy(gmem_page(source, gfns[i]), pages + i * PAGE_SIZE, PAGE_SIZE);
    page_encoder_destroy(&encoder);
}

static void every_encoding_arrives_as_it_was_sent(void)
{
    struct page_samples_batch *b = malloc(sizeof(*b));
    struct gmem *memory, *expected;
    make_every_encoding(b, &memory, &expected);
    struct page_batch batch;
    CU_ASSERT_EQUAL_FATAL(page_batch_decode(&batch, b->bytes, b->size, memory, false, 0, NULL), 0);
    for (int kind = PAGE_ENCODING_RAW; kind < PAGE_ENCODING_COUNT; kind++)
        CU_ASSERT_EQUAL(batch.per_kind[kind], 1);
    CU_ASSERT_TRUE(page_batch_depends(&batch));
    CU_ASSERT_EQUAL_FATAL(page_batch_verify(&batch, memory, NULL), 0);
    page_batch_apply(&batch, memory);
    for (gfn_t gfn = 1; gfn <= 6; gfn++)
        CU_ASSERT_EQUAL(memcmp(gmem_page(memory, gfn), gmem_page(expected, gfn), PAGE_SIZE), 0);
    gmem_destroy(&memory);
    gmem_destroy(&expected);
    free(b);
}

static void every_truncation_of_an_encoded_batch_is_refused(void)
{
    struct page_samples_batch *b = malloc(sizeof(*b));
    struct gmem *memory, *expected;
    make_every_encoding(b, &memory, &expected);
    struct page_batch batch;
    unsigned refused = 0;
    for (size_t size = 0; size < b->size; size++) {
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, b->bytes, size);
        refused += page_batch_decode(&batch, exact, size, memory, false, 0, NULL) == -EBADMSG;
        free(exact);
    }
    CU_ASSERT_EQUAL(refused, b->size);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b->bytes, b->size + 1, memory, false, 0, NULL),
                    -EBADMSG);
    gmem_destroy(&memory);
    gmem_destroy(&expected);
    free(b);
}

/* Whatever a changed byte makes of it: refused, or decoded within its pages. */
static void no_changed_byte_reaches_beyond_its_page(void)
{
    struct page_samples_batch *b = malloc(sizeof(*b));
    struct gmem *memory, *expected;
    make_every_encoding(b, &memory, &expected);
    uint8_t content[DIGEST_128_SIZE];
    unsigned accepted = 0;
    for (size_t at = 0; at < b->size; at++) {
        const uint8_t was = b->bytes[at];
        b->bytes[at] ^= (uint8_t)(1u << page_samples_draw() % 8);
        struct page_batch batch;
        if (page_batch_decode(&batch, b->bytes, b->size, memory, false, 0, NULL) == 0 &&
            page_batch_content(&batch, memory, content, NULL) == 0) {
            page_batch_apply(&batch, memory);
            accepted++;
        }
        b->bytes[at] = was;
    }
    CU_ASSERT(accepted > 4000); /* the raw page alone has so many */
    CU_ASSERT_TRUE(page_is_zero(gmem_page(memory, 0)));
    gmem_destroy(&memory);
    gmem_destroy(&expected);
    free(b);
}

static void bodies_that_are_no_page_are_refused(void)
{
    struct gmem *memory = page_samples_memory();
    struct page_samples_batch *b = malloc(sizeof(*b));
    uint8_t page[PAGE_SIZE + 1] = {0};
    uint8_t packed[256];
    for (size_t size = PAGE_SIZE - 1; size <= PAGE_SIZE + 1; size++) {
        const int n = LZ4_compress_default((const char *)page, (char *)packed, (int)size, 256);
        build(b, 3, PAGE_ENCODING_LZ4, packed, (size_t)n, no_content);
        CU_ASSERT_EQUAL(take(b, memory), size == PAGE_SIZE ? 0 : -EBADMSG);
    }
    const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff};
    build(b, 3, PAGE_ENCODING_LZ4, garbage, sizeof(garbage), no_content);
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    build(b, 3, PAGE_ENCODING_DELTA, garbage, sizeof(garbage), no_content);
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    build(b, 3, PAGE_ENCODING_DELTA_LZ4, garbage, sizeof(garbage), no_content);
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    /* A delta that unpacks to more than a page, and a size of zero. */
    uint8_t long_delta[2 * PAGE_SIZE] = {0};
    const int n = LZ4_compress_default((const char *)long_delta, (char *)packed,
                                       (int)sizeof(long_delta), 256);
    build(b, 3, PAGE_ENCODING_DELTA_LZ4, packed, (size_t)n, no_content);
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    build(b, 3, PAGE_ENCODING_DELTA, garbage, 1, no_content);
    b->bytes[b->size - 3] = 0;
    b->size--;
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    /* A plain batch has neither. */
    build(b, 3, PAGE_ENCODING_SAME, NULL, 0, no_content);
    const gfn_t gfn = 3;
    const uint8_t same = PAGE_ENCODING_SAME;
    b->size = page_batch_encode_header(&gfn, &same, 1, b->bytes);
    CU_ASSERT_EQUAL(take(b, memory), -EBADMSG);
    free(b);
    gmem_destroy(&memory);
}

/* ---- what is known of the standby ---- */

static void a_cache_remembers_versions_and_digests_until_told_to_forget(void)
{
    struct page_cache *cache;
    CU_ASSERT_EQUAL(page_cache_create(PAGE_CACHE_SIZE_MIN - 1, PAGE_SAMPLES, &cache, NULL),
                    -EINVAL);
    CU_ASSERT_EQUAL_FATAL(page_cache_create(PAGE_CACHE_SIZE_MIN, PAGE_SAMPLES, &cache, NULL), 0);
    page_cache_forget(cache, PAGE_SAMPLES_SEED);
    uint8_t page[PAGE_SIZE], digest[DIGEST_128_SIZE];
    page_samples_random(page);
    digest_of_128(page, PAGE_SIZE, PAGE_SAMPLES_SEED, digest);
    CU_ASSERT_PTR_NULL(page_cache_version(cache, 7));
    CU_ASSERT_FALSE(page_cache_holds(cache, 7, digest));
    page_cache_put(cache, 7, page, digest, false);
    CU_ASSERT_PTR_NULL(page_cache_version(cache, 7));
    CU_ASSERT_TRUE(page_cache_holds(cache, 7, digest));
    CU_ASSERT_FALSE(page_cache_holds(cache, 8, digest));
    page_cache_put(cache, 7, page, digest, true);
    const uint8_t *version = page_cache_version(cache, 7);
    CU_ASSERT_PTR_NOT_NULL_FATAL(version);
    CU_ASSERT_EQUAL(memcmp(version, page, PAGE_SIZE), 0);
    page_cache_drop(cache, 7);
    CU_ASSERT_PTR_NULL(page_cache_version(cache, 7));
    CU_ASSERT_FALSE(page_cache_holds(cache, 7, digest));
    page_cache_put(cache, 7, page, digest, true);
    page_cache_put(cache, 9, page, digest, false);
    page_cache_forget(cache, PAGE_SAMPLES_SEED + 1);
    CU_ASSERT_PTR_NULL(page_cache_version(cache, 7));
    CU_ASSERT_FALSE(page_cache_holds(cache, 9, digest));
    page_cache_destroy(&cache);
}

static void a_version_that_leaves_the_cache_leaves_its_digest(void)
{
    /* Room for some 200 versions of 4000 pages that are seen once each, then again. */
    struct page_cache *cache;
    CU_ASSERT_EQUAL_FATAL(page_cache_create(PAGE_CACHE_SIZE_MIN, 4000, &cache, NULL), 0);
    page_cache_forget(cache, PAGE_SAMPLES_SEED);
    uint8_t page[PAGE_SIZE], digest[DIGEST_128_SIZE];
    page_samples_random(page);
    size_t versions = 0, digests = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (gfn_t gfn = 0; gfn < 4000; gfn++) {
            memcpy(page, &gfn, sizeof(gfn));
            digest_of_128(page, PAGE_SIZE, PAGE_SAMPLES_SEED, digest);
            page_cache_put(cache, gfn, page, digest, true);
        }
    }
    for (gfn_t gfn = 0; gfn < 4000; gfn++) {
        memcpy(page, &gfn, sizeof(gfn));
        digest_of_128(page, PAGE_SIZE, PAGE_SAMPLES_SEED, digest);
        const uint8_t *version = page_cache_version(cache, gfn);
        CU_ASSERT(!version || memcmp(version, page, PAGE_SIZE) == 0);
        versions += version != NULL;
        digests += !version && page_cache_holds(cache, gfn, digest);
    }
    CU_ASSERT(versions >= 150 && versions <= 250);
    CU_ASSERT(versions + digests == 4000);
    page_cache_destroy(&cache);
}

/* ---- the choice ---- */

/* Bytes per page of the batches that `rounds` over 200 such pages make on a link of that cost. */
static size_t bytes_per_page(double ns_per_byte, void (*change)(uint8_t *page), unsigned rounds)
{
    struct gmem *memory = page_samples_memory();
    struct page_encoder *encoder = page_samples_encoder(PAGE_ENCODER_AUTO, memory);
    static uint8_t pages[200 * PAGE_SIZE];
    gfn_t gfns[200];
    size_t bytes = 0;
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < 200; i++) {
            gfns[i] = i;
            change(pages + i * PAGE_SIZE);
        }
        *page_encoder_link_cost(encoder) = (struct link_cost){.sending = ns_per_byte};
        struct encoded_batch batch;
        page_encoder_encode(encoder, gfns, pages, 200, false, &batch);
        bytes = 0;
        for (int i = 0; i < batch.part_count; i++)
            bytes += batch.parts[i].iov_len;
    }
    page_encoder_destroy(&encoder);
    gmem_destroy(&memory);
    return bytes / 200;
}

static void change_a_word(uint8_t *page)
{
    page[16] = (uint8_t)(page[16] + 1);
    page[2000] = 1;
}

static void auto_follows_the_link(void)
{
    /* A byte on the slowest takes a millisecond; on the fastest it is nearly free. No host is
     * between. */
    const double slow = 1e6, fast = 1e-6;
    CU_ASSERT(bytes_per_page(slow, page_samples_text, 40) < PAGE_SIZE / 2);
    CU_ASSERT(bytes_per_page(fast, page_samples_text, 40) > PAGE_SIZE / 10 * 9);
    CU_ASSERT(bytes_per_page(slow, change_a_word, 40) < 40);
    CU_ASSERT(bytes_per_page(fast, change_a_word, 40) > PAGE_SIZE / 10 * 9);
    CU_ASSERT(bytes_per_page(slow, page_samples_random, 40) <= PAGE_SIZE + 16);
}

static void a_link_costs_what_its_dearer_view_says(void)
{
    struct link_cost cost = {0};
    CU_ASSERT(link_cost_per_byte(&cost) > 7 && link_cost_per_byte(&cost) < 9);
    link_cost_sent(&cost, 100, SEC(1)); /* too little to tell */
    CU_ASSERT(link_cost_per_byte(&cost) > 7);
    link_cost_sent(&cost, 100000, 100000);
    CU_ASSERT(link_cost_per_byte(&cost) > 1.9 && link_cost_per_byte(&cost) < 2.1);
    link_cost_acknowledged(&cost, 1000, USEC(200)); /* a small epoch takes so long */
    link_cost_acknowledged(&cost, 100000, USEC(200) + 100000 * 5);
    CU_ASSERT(link_cost_per_byte(&cost) > 4.9 && link_cost_per_byte(&cost) < 5.1);
    for (unsigned i = 0; i < 100; i++) { /* it became better */
        link_cost_sent(&cost, 100000, 100000 / 4);
        link_cost_acknowledged(&cost, 100000, USEC(200));
    }
    CU_ASSERT(link_cost_per_byte(&cost) > 0.4 && link_cost_per_byte(&cost) < 0.6);
}

static void a_plain_standby_gets_plain_batches(void)
{
    struct gmem *memory = page_samples_memory();
    struct page_encoder *encoder = page_samples_encoder(PAGE_ENCODER_SMALLEST, memory);
    page_encoder_begin_link(encoder, false, PAGE_SAMPLES_SEED);
    static uint8_t pages[2 * PAGE_SIZE];
    page_samples_text(pages);
    const gfn_t gfns[] = {1, 2};
    struct encoded_batch batch;
    struct page_samples_batch *b = malloc(sizeof(*b));
    for (unsigned round = 0; round < 2; round++) {
        page_encoder_encode(encoder, gfns, pages, 2, false, &batch);
        page_samples_gather(&batch, b);
        CU_ASSERT_EQUAL(b->size, 8 + 2 * 8 + PAGE_SIZE);
        CU_ASSERT_EQUAL(b->bytes[4], 0);
        CU_ASSERT_EQUAL(take(b, memory), 0);
    }
    CU_ASSERT_EQUAL(memcmp(gmem_page(memory, 1), pages, PAGE_SIZE), 0);
    free(b);
    page_encoder_destroy(&encoder);
    gmem_destroy(&memory);
}

static const struct test_case cases[] = {
    {"a delta is these bytes", a_delta_is_these_bytes},
    {"any two pages have a delta", any_two_pages_have_a_delta},
    {"a delta without room says so", a_delta_without_room_says_so},
    {"malformed deltas are refused", malformed_deltas_are_refused},
    {"the encoded header is these bytes", the_encoded_header_is_these_bytes},
    {"the content digest is these bytes", the_content_digest_is_these_bytes},
    {"every encoding arrives as it was sent", every_encoding_arrives_as_it_was_sent},
    {"every truncation of an encoded batch is refused",
     every_truncation_of_an_encoded_batch_is_refused},
    {"no changed byte reaches beyond its page", no_changed_byte_reaches_beyond_its_page},
    {"bodies that are no page are refused", bodies_that_are_no_page_are_refused},
    {"a cache remembers versions and digests until told to forget",
     a_cache_remembers_versions_and_digests_until_told_to_forget},
    {"a version that leaves the cache leaves its digest",
     a_version_that_leaves_the_cache_leaves_its_digest},
    {"auto follows the link", auto_follows_the_link},
    {"a link costs what its dearer view says", a_link_costs_what_its_dearer_view_says},
    {"a plain standby gets plain batches", a_plain_standby_gets_plain_batches},
};

TEST_MAIN("page encodings", cases)
