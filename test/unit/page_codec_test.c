/* Batches of pages: golden bytes, and everything a hostile peer could put in their place. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/page_codec.h"
#include "test/support/runner.h"

#define HOLE_GFN  (GMEM_HOLE_START >> PAGE_SHIFT)
#define HIGH_GFN  (GMEM_HOLE_END >> PAGE_SHIFT)
#define HIGH_SIZE ((uint64_t)2 << 20)
#define END_GFN   (HIGH_GFN + (HIGH_SIZE >> PAGE_SHIFT))

static struct gmem *memory; /* RAM on both sides of the hole; untouched pages cost nothing */

static void make_memory(void)
{
    const struct gmem_config config = {.size = GMEM_HOLE_START + HIGH_SIZE};
    if (gmem_create(&config, &memory, NULL) < 0)
        abort();
}

/* A batch under construction: entries of one's choice, `raw` pages behind them. */
struct batch_bytes {
    uint8_t bytes[PAGE_BATCH_HEADER_MAX + 8 + 4 * PAGE_SIZE];
    size_t size;
};

static void build(struct batch_bytes *b, uint32_t count, uint32_t reserved, const uint64_t *entries,
                  size_t entry_count, size_t raw)
{
    struct wire_writer w = {.bytes = b->bytes, .size = sizeof(b->bytes)};
    wire_put_u32(&w, count);
    wire_put_u32(&w, reserved);
    for (size_t i = 0; i < entry_count; i++)
        wire_put_u64(&w, entries[i]);
    memset(b->bytes + w.used, 0xa5, raw * PAGE_SIZE);
    b->size = w.used + raw * PAGE_SIZE;
}

static int decode(const struct batch_bytes *b)
{
    struct page_batch batch;
    return page_batch_decode(&batch, b->bytes, b->size, memory, false, 0, NULL);
}

static int decode_two(uint64_t first, uint64_t second, size_t raw)
{
    struct batch_bytes b;
    build(&b, 2, 0, (const uint64_t[]){first, second}, 2, raw);
    return decode(&b);
}

#define RAW(gfn)  ((uint64_t)(gfn) << PAGE_SHIFT | PAGE_ENCODING_RAW)
#define ZERO(gfn) ((uint64_t)(gfn) << PAGE_SHIFT | PAGE_ENCODING_ZERO)

static void the_header_is_these_bytes(void)
{
    static const uint8_t golden[] = {
        2, 0,    0,    0,    0, 0, 0, 0, /* count, reserved */
        1, 0x50, 0x34, 0x12, 0, 0, 0, 0, /* gfn 0x12345, raw */
        2, 0,    0,    0,    1, 0, 0, 0, /* gfn 0x100000, zero */
    };
    const gfn_t gfns[] = {0x12345, 0x100000};
    const uint8_t encodings[] = {PAGE_ENCODING_RAW, PAGE_ENCODING_ZERO};
    uint8_t out[PAGE_BATCH_HEADER_MAX];
    CU_ASSERT_EQUAL(page_batch_encode_header(gfns, encodings, 2, out), sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(out, golden, sizeof(golden)), 0);
}

static void a_batch_arrives_as_it_was_sent(void)
{
    struct batch_bytes b;
    const uint64_t entries[] = {RAW(0), ZERO(7), RAW(HIGH_GFN)};
    build(&b, 3, 0, entries, 3, 2);
    memset(b.bytes + b.size - PAGE_SIZE, 0x5a, PAGE_SIZE);
    memset(gmem_page(memory, 7), 0xff, PAGE_SIZE);
    memset(gmem_page(memory, 8), 0xee, PAGE_SIZE);
    struct page_batch batch;
    CU_ASSERT_EQUAL_FATAL(page_batch_decode(&batch, b.bytes, b.size, memory, false, 0, NULL), 0);
    CU_ASSERT_EQUAL(batch.count, 3);
    CU_ASSERT_EQUAL(batch.last, HIGH_GFN);
    CU_ASSERT_EQUAL(page_batch_zero_count(&batch), 1);
    page_batch_apply(&batch, memory);
    CU_ASSERT_EQUAL(gmem_page(memory, 0)[0], 0xa5);
    CU_ASSERT_EQUAL(gmem_page(memory, 0)[PAGE_SIZE - 1], 0xa5);
    CU_ASSERT_TRUE(page_is_zero(gmem_page(memory, 7)));
    CU_ASSERT_EQUAL(gmem_page(memory, 8)[0], 0xee);
    CU_ASSERT_EQUAL(gmem_page(memory, HIGH_GFN)[PAGE_SIZE - 1], 0x5a);
}

static void every_truncation_and_every_excess_is_refused(void)
{
    struct batch_bytes b;
    build(&b, 2, 0, (const uint64_t[]){RAW(1), RAW(2)}, 2, 2);
    const size_t whole = b.size;
    CU_ASSERT_EQUAL(decode(&b), 0);
    unsigned refused = 0;
    /* In a buffer of exactly that size, so that a sanitizer sees a read beyond it. */
    for (size_t size = 0; size < whole; size++) {
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, b.bytes, size);
        struct page_batch batch;
        refused += page_batch_decode(&batch, exact, size, memory, false, 0, NULL) == -EBADMSG;
        free(exact);
    }
    CU_ASSERT_EQUAL(refused, whole);
    b.size = whole + 1;
    CU_ASSERT_EQUAL(decode(&b), -EBADMSG);
}

static void counts_out_of_range_are_refused(void)
{
    static const uint32_t counts[] = {0, PAGE_BATCH_MAX + 1, 0x80000000, UINT32_MAX};
    uint64_t entries[PAGE_BATCH_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
        entries[i] = ZERO(i);
    struct batch_bytes b;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        build(&b, counts[i], 0, entries, counts[i] ? ARRAY_SIZE(entries) : 0, 0);
        CU_ASSERT_EQUAL(decode(&b), -EBADMSG);
    }
    build(&b, PAGE_BATCH_MAX, 0, entries, PAGE_BATCH_MAX, 0);
    CU_ASSERT_EQUAL(decode(&b), 0);
    build(&b, 1, 1, entries, 1, 0);
    CU_ASSERT_EQUAL(decode(&b), -EBADMSG);
}

static void unknown_encodings_are_refused(void)
{
    struct batch_bytes b;
    for (uint64_t encoding = 0; encoding < PAGE_SIZE; encoding++) {
        const uint64_t entry = (uint64_t)5 << PAGE_SHIFT | encoding;
        build(&b, 1, 0, &entry, 1, encoding == PAGE_ENCODING_RAW);
        const bool known = encoding == PAGE_ENCODING_RAW || encoding == PAGE_ENCODING_ZERO;
        if ((decode(&b) == 0) != known)
            CU_FAIL("an unknown encoding was taken");
    }
}

static void pages_must_ascend(void)
{
    CU_ASSERT_EQUAL(decode_two(RAW(4), RAW(5), 2), 0);
    CU_ASSERT_EQUAL(decode_two(RAW(5), RAW(5), 2), -EBADMSG);
    CU_ASSERT_EQUAL(decode_two(RAW(5), ZERO(5), 1), -EBADMSG);
    CU_ASSERT_EQUAL(decode_two(RAW(5), RAW(4), 2), -EBADMSG);
}

static void pages_must_ascend_from_batch_to_batch(void)
{
    struct batch_bytes b;
    struct page_batch batch;
    build(&b, 1, 0, (const uint64_t[]){ZERO(9)}, 1, 0);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b.bytes, b.size, memory, true, 8, NULL), 0);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b.bytes, b.size, memory, true, 9, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b.bytes, b.size, memory, true, 10, NULL), -EBADMSG);
    build(&b, 1, 0, (const uint64_t[]){ZERO(0)}, 1, 0);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b.bytes, b.size, memory, true, 0, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(page_batch_decode(&batch, b.bytes, b.size, memory, false, 0, NULL), 0);
}

static void pages_outside_of_memory_are_refused(void)
{
    static const gfn_t outside[] = {HOLE_GFN, HIGH_GFN - 1, END_GFN, UINT64_MAX >> PAGE_SHIFT};
    static const gfn_t inside[] = {0, HOLE_GFN - 1, HIGH_GFN, END_GFN - 1};
    struct batch_bytes b;
    for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
        build(&b, 1, 0, (const uint64_t[]){ZERO(outside[i])}, 1, 0);
        CU_ASSERT_EQUAL(decode(&b), -EBADMSG);
        build(&b, 1, 0, (const uint64_t[]){ZERO(inside[i])}, 1, 0);
        CU_ASSERT_EQUAL(decode(&b), 0);
    }
}

static void raw_pages_must_be_as_many_as_announced(void)
{
    CU_ASSERT_EQUAL(decode_two(RAW(1), ZERO(2), 1), 0);
    CU_ASSERT_EQUAL(decode_two(RAW(1), ZERO(2), 0), -EBADMSG);
    CU_ASSERT_EQUAL(decode_two(RAW(1), ZERO(2), 2), -EBADMSG);
    CU_ASSERT_EQUAL(decode_two(ZERO(1), ZERO(2), 1), -EBADMSG);
}

static void a_single_bit_anywhere_makes_a_page_not_zero(void)
{
    static uint8_t page[PAGE_SIZE];
    CU_ASSERT_TRUE(page_is_zero(page));
    bool noticed = true;
    for (size_t i = 0; i < PAGE_SIZE; i++) {
        page[i] = 0x10;
        noticed = noticed && !page_is_zero(page);
        page[i] = 0;
    }
    CU_ASSERT_TRUE(noticed);
}

static const struct test_case cases[] = {
    {"the header is these bytes", the_header_is_these_bytes},
    {"a batch arrives as it was sent", a_batch_arrives_as_it_was_sent},
    {"every truncation and every excess is refused", every_truncation_and_every_excess_is_refused},
    {"counts out of range are refused", counts_out_of_range_are_refused},
    {"unknown encodings are refused", unknown_encodings_are_refused},
    {"pages must ascend", pages_must_ascend},
    {"pages must ascend from batch to batch", pages_must_ascend_from_batch_to_batch},
    {"pages outside of memory are refused", pages_outside_of_memory_are_refused},
    {"raw pages must be as many as announced", raw_pages_must_be_as_many_as_announced},
    {"a single bit anywhere makes a page not zero", a_single_bit_anywhere_makes_a_page_not_zero},
};

int main(int argc, char **argv)
{
    make_memory();
    const int status = test_run(argc, argv, "page-codec", cases, ARRAY_SIZE(cases));
    gmem_destroy(&memory);
    return status;
}
