/* What an epoch is kept in: sets of dirty pages, staging memory, captures, the epoch's digest. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/capture.h"
#include "checkpoint/page_codec.h"
#include "test/support/runner.h"
#include "transport/inproc.h"

#define MEMORY ((uint64_t)8 << 20)
#define TERM   3

/* ---- dirty sets ---- */

static void a_set_knows_its_members(void)
{
    static const uint64_t members[] = {0, 1, 63, 64, 127, 128, 129};
    struct dirty_set set;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&set, 130), 0);
    CU_ASSERT_EQUAL(dirty_set_next(&set, 0), 130);
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        dirty_set_add(&set, members[i]);
        dirty_set_add(&set, members[i]);
    }
    CU_ASSERT_EQUAL(dirty_set_count(&set), ARRAY_SIZE(members));
    uint64_t at = 0;
    for (size_t i = 0; i < ARRAY_SIZE(members); i++, at++) {
        at = dirty_set_next(&set, at);
        CU_ASSERT_EQUAL(at, members[i]);
        CU_ASSERT_TRUE(dirty_set_has(&set, at));
    }
    CU_ASSERT_EQUAL(dirty_set_next(&set, at), 130);
    CU_ASSERT_EQUAL(dirty_set_next(&set, 130), 130);
    CU_ASSERT_EQUAL(dirty_set_next(&set, UINT64_MAX), 130);
    CU_ASSERT_FALSE(dirty_set_has(&set, 2));
    CU_ASSERT_FALSE(dirty_set_has(&set, 130));
    dirty_set_clear(&set);
    CU_ASSERT_EQUAL(dirty_set_count(&set), 0);
    dirty_set_free(&set);
}

static void a_full_set_has_no_page_too_many(void)
{
    static const uint64_t sizes[] = {1, 63, 64, 65, 128, 130};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct dirty_set set;
        CU_ASSERT_EQUAL_FATAL(dirty_set_init(&set, sizes[i]), 0);
        dirty_set_fill(&set);
        CU_ASSERT_EQUAL(dirty_set_count(&set), sizes[i]);
        CU_ASSERT_EQUAL(dirty_set_next(&set, sizes[i] - 1), sizes[i] - 1);
        dirty_set_free(&set);
    }
}

static void merging_keeps_both(void)
{
    struct dirty_set a, b;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&a, 100) | dirty_set_init(&b, 100), 0);
    dirty_set_add(&a, 3);
    dirty_set_add(&b, 3);
    dirty_set_add(&b, 99);
    dirty_set_merge(&a, &b);
    CU_ASSERT_EQUAL(dirty_set_count(&a), 2);
    CU_ASSERT_TRUE(dirty_set_has(&a, 99));
    CU_ASSERT_EQUAL(dirty_set_count(&b), 2);
    dirty_set_free(&a);
    dirty_set_free(&b);
}

/* Large enough for more than one word of the summary; compared with a plain bitmap, whatever is
 * done. */
#define LARGE_WORDS ((size_t)(2 * 64 + 3))
#define LARGE_PAGES (LARGE_WORDS * 64 - 5)

static void expect_bitmap(const struct dirty_set *set, const uint64_t *wanted)
{
    uint64_t count = 0;
    uint64_t next = dirty_set_next(set, 0);
    for (uint64_t page = 0; page < LARGE_PAGES; page++) {
        const bool member = wanted[page / 64] >> (page % 64) & 1;
        CU_ASSERT_EQUAL_FATAL(dirty_set_has(set, page), member);
        if (!member)
            continue;
        count++;
        CU_ASSERT_EQUAL_FATAL(next, page);
        next = dirty_set_next(set, page + 1);
    }
    CU_ASSERT_EQUAL(next, LARGE_PAGES);
    CU_ASSERT_EQUAL(dirty_set_count(set), count);
}

static void a_large_sparse_set_forgets_nothing(void)
{
    uint64_t wanted[LARGE_WORDS] = {0};
    struct dirty_set set, other;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&set, LARGE_PAGES) | dirty_set_init(&other, LARGE_PAGES),
                          0);
    unsigned random = 7;
    for (unsigned round = 0; round < 200; round++) {
        random = random * 1103515245u + 12345u;
        const uint64_t page = (random >> 8) % LARGE_PAGES;
        const uint64_t bit = 1ull << (page % 64);
        if (round % 50 == 49) {
            dirty_set_clear(&set);
            memset(wanted, 0, sizeof(wanted));
        } else if (round % 3 == 0) {
            dirty_set_add(&set, page);
        } else if (round % 3 == 1) {
            dirty_set_clear(&other);
            dirty_set_add(&other, page);
            dirty_set_merge(&set, &other);
        } else {
            const uint64_t run[] = {0, bit, 0};
            const size_t first = page / 64 ? page / 64 - 1 : 0;
            dirty_set_or(&set, first, run + (page / 64 == 0), page / 64 == 0 ? 1 : 2);
        }
        if (round % 50 != 49)
            wanted[page / 64] |= bit;
        expect_bitmap(&set, wanted);
    }
    dirty_set_free(&set);
    dirty_set_free(&other);
}

/* ---- staging memory ---- */

static void the_slab_gives_each_chunk_once(void)
{
    struct slab *slab;
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN + SLAB_CHUNK_SIZE / 2, &slab, NULL), 0);
    CU_ASSERT_EQUAL(slab_chunk_count(slab), 8);
    uint8_t *chunks[8];
    for (size_t i = 0; i < 8; i++) {
        chunks[i] = slab_take(slab);
        CU_ASSERT_PTR_NOT_NULL_FATAL(chunks[i]);
        CU_ASSERT_EQUAL((uintptr_t)chunks[i] % PAGE_SIZE, 0);
        memset(chunks[i], (int)i, SLAB_CHUNK_SIZE);
    }
    CU_ASSERT_PTR_NULL(slab_take(slab));
    for (size_t i = 0; i < 8; i++)
        CU_ASSERT_TRUE(chunks[i][0] == i && chunks[i][SLAB_CHUNK_SIZE - 1] == i);
    slab_give(slab, chunks[5]);
    CU_ASSERT_EQUAL(slab_free_count(slab), 1);
    CU_ASSERT_PTR_EQUAL(slab_take(slab), chunks[5]); /* the last given is the first taken */
    for (size_t i = 0; i < 8; i++)
        slab_give(slab, chunks[i]);
    CU_ASSERT_EQUAL(slab_free_count(slab), 8);
    slab_destroy(&slab);
    CU_ASSERT_PTR_NULL(slab);
}

static void a_slab_of_no_sensible_size_is_refused(void)
{
    struct slab *slab;
    CU_ASSERT_EQUAL(slab_create(SLAB_SIZE_MIN - 1, &slab, NULL), -EINVAL);
    CU_ASSERT_PTR_NULL(slab);
    CU_ASSERT_EQUAL(slab_create(SLAB_SIZE_MAX + 1, &slab, NULL), -EINVAL);
}

static void *take_waiting(void *slab)
{
    return slab_take_wait(slab);
}

static void waiting_for_a_chunk_ends_with_one_or_with_cancel(void)
{
    struct slab *slab;
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN, &slab, NULL), 0);
    uint8_t *chunks[8];
    for (size_t i = 0; i < 8; i++)
        chunks[i] = slab_take_wait(slab);
    pthread_t waiter;
    void *got = NULL;
    pthread_create(&waiter, NULL, take_waiting, slab);
    slab_give(slab, chunks[2]);
    pthread_join(waiter, &got);
    CU_ASSERT_PTR_EQUAL(got, chunks[2]);
    pthread_create(&waiter, NULL, take_waiting, slab);
    slab_cancel(slab);
    pthread_join(waiter, &got);
    CU_ASSERT_PTR_NULL(got);
    slab_rearm(slab);
    slab_give(slab, chunks[7]);
    CU_ASSERT_PTR_EQUAL(slab_take_wait(slab), chunks[7]);
    slab_destroy(&slab);
}

/* ---- captures ---- */

struct scene {
    struct gmem *memory;
    struct slab *slab;
    struct capture *capture;
    struct dirty_set set;
    struct link *ends[2];
    struct epoch_digest *digest;
    struct page_encoder *encoder; /* of plain batches */
};

static void scene_start(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    CU_ASSERT_EQUAL_FATAL(gmem_create(&(struct gmem_config){.size = MEMORY}, &s->memory, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN, &s->slab, NULL), 0);
    s->capture = capture_create(slab_chunk_count(s->slab));
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->capture);
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&s->set, gmem_page_count(s->memory)), 0);
    CU_ASSERT_EQUAL_FATAL(inproc_pair("capture", s->ends, NULL), 0);
    s->digest = epoch_digest_create();
    const struct page_encoder_config config = {.mode = PAGE_ENCODER_RAW, .memory = s->memory};
    CU_ASSERT_EQUAL_FATAL(page_encoder_create(&config, &s->encoder, NULL), 0);
    s->capture->epoch = 9;
}

static void scene_end(struct scene *s)
{
    capture_recycle(s->capture, s->slab);
    CU_ASSERT_EQUAL(slab_free_count(s->slab), slab_chunk_count(s->slab));
    capture_destroy(&s->capture);
    epoch_digest_destroy(&s->digest);
    page_encoder_destroy(&s->encoder);
    link_destroy(&s->ends[0]);
    link_destroy(&s->ends[1]);
    dirty_set_free(&s->set);
    slab_destroy(&s->slab);
    gmem_destroy(&s->memory);
}

static void an_aborted_capture_gives_its_pages_back(void)
{
    struct scene s;
    scene_start(&s);
    static const uint64_t pages[] = {0, 17, 18, 255, 2047};
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
        dirty_set_add(&s.set, pages[i]);
    uint64_t next = 0;
    CU_ASSERT_EQUAL(capture_pages(s.capture, s.memory, &s.set, &next, 8, false, s.slab), 0);
    CU_ASSERT_EQUAL(next, s.set.page_count);
    CU_ASSERT_EQUAL(s.capture->page_count, ARRAY_SIZE(pages));
    dirty_set_clear(&s.set);
    dirty_set_add(&s.set, 4); /* dirtied since */
    capture_give_back(s.capture, s.memory, &s.set);
    CU_ASSERT_EQUAL(dirty_set_count(&s.set), ARRAY_SIZE(pages) + 1);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
        CU_ASSERT_TRUE(dirty_set_has(&s.set, pages[i]));
    scene_end(&s);
}

static void a_capture_stops_at_its_chunks_and_goes_on_where_it_stopped(void)
{
    struct scene s;
    scene_start(&s);
    dirty_set_fill(&s.set);
    uint64_t next = 0;
    uint64_t total = 0;
    for (int rounds = 0; next < s.set.page_count && rounds < 100; rounds++) {
        const uint64_t before = next;
        CU_ASSERT_EQUAL(capture_pages(s.capture, s.memory, &s.set, &next, 2, true, s.slab), 0);
        CU_ASSERT_EQUAL(s.capture->gfns[0], before);
        total += s.capture->page_count;
        capture_recycle(s.capture, s.slab);
    }
    CU_ASSERT_EQUAL(total, s.set.page_count);
    CU_ASSERT_EQUAL(capture_chunks_for(0), 0);
    CU_ASSERT_EQUAL(capture_chunks_for(PAGE_BATCH_MAX), 1);
    CU_ASSERT_EQUAL(capture_chunks_for(PAGE_BATCH_MAX + 1), 2);
    scene_end(&s);
}

static void a_capture_that_finds_no_staging_memory_says_where(void)
{
    struct scene s;
    scene_start(&s);
    dirty_set_fill(&s.set);
    uint8_t *taken[6];
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
        taken[i] = slab_take(s.slab);
    uint64_t next = 0;
    CU_ASSERT_EQUAL(capture_pages(s.capture, s.memory, &s.set, &next, 8, false, s.slab), -ENOBUFS);
    CU_ASSERT_EQUAL(next, 2 * PAGE_BATCH_MAX);
    CU_ASSERT_EQUAL(s.capture->page_count, 2 * PAGE_BATCH_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
        slab_give(s.slab, taken[i]);
    scene_end(&s);
}

/* Receives one PAGES frame of at most a chunk and decodes it. */
static void receive_batch(struct scene *s, uint8_t *buffer, struct frame *frame,
                          struct page_batch *batch)
{
    CU_ASSERT_EQUAL_FATAL(link_receive_header(s->ends[1], frame, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(link_receive_payload(s->ends[1], buffer, frame->size, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(page_batch_decode(batch, buffer, frame->size, s->memory, false, 0, NULL),
                          0);
}

static void zero_pages_travel_as_marks(void)
{
    struct scene s;
    scene_start(&s);
    /* raw 1, zero 2, raw 3 and 4 (neighbours in the chunk), zero 5 */
    for (uint64_t page = 1; page <= 5; page++) {
        dirty_set_add(&s.set, page);
        memset(gmem_page(s.memory, page), page == 2 || page == 5 ? 0 : (int)page, PAGE_SIZE);
    }
    uint64_t next = 0;
    CU_ASSERT_EQUAL(capture_pages(s.capture, s.memory, &s.set, &next, 8, false, s.slab), 0);
    memset(gmem_page(s.memory, 3), 0xff, PAGE_SIZE); /* after the cut: not in this epoch */
    struct capture_sent sent = {0};
    CU_ASSERT_EQUAL(
        capture_send_pages(s.capture, s.encoder, false, s.ends[0], TERM, s.digest, &sent, NULL), 0);
    CU_ASSERT_EQUAL(sent.pages, 5);
    CU_ASSERT_EQUAL(sent.zero_pages, 2);
    CU_ASSERT_EQUAL(sent.frames, 1);
    CU_ASSERT_EQUAL(sent.bytes, 8 + 5 * 8 + 3 * PAGE_SIZE);

    uint8_t *buffer = slab_take(s.slab);
    struct frame frame;
    struct page_batch batch;
    receive_batch(&s, buffer, &frame, &batch);
    CU_ASSERT_EQUAL(frame.type, FRAME_PAGES);
    CU_ASSERT_EQUAL(frame.term, TERM);
    CU_ASSERT_EQUAL(frame.epoch, 9);
    CU_ASSERT_EQUAL(frame.size, sent.bytes);
    for (uint64_t page = 1; page <= 5; page++)
        memset(gmem_page(s.memory, page), 0x77, PAGE_SIZE);
    page_batch_apply(&batch, s.memory);
    for (uint64_t page = 1; page <= 5; page++)
        CU_ASSERT_EQUAL(gmem_page(s.memory, page)[100], page == 2 || page == 5 ? 0 : page);
    slab_give(s.slab, buffer);

    /* Whoever receives computes the same digest of the epoch. */
    struct epoch_digest *theirs = epoch_digest_create();
    epoch_digest_add(theirs, &frame);
    uint8_t a[MESSAGE_DIGEST_SIZE], b[MESSAGE_DIGEST_SIZE];
    epoch_digest_result(s.digest, a);
    epoch_digest_result(theirs, b);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof(a)), 0);
    epoch_digest_destroy(&theirs);
    scene_end(&s);
}

static void sending_to_a_dead_link_fails(void)
{
    struct scene s;
    scene_start(&s);
    dirty_set_add(&s.set, 1);
    uint64_t next = 0;
    CU_ASSERT_EQUAL(capture_pages(s.capture, s.memory, &s.set, &next, 8, false, s.slab), 0);
    link_shutdown(s.ends[0]);
    struct capture_sent sent = {0};
    CU_ASSERT(capture_send_pages(s.capture, s.encoder, false, s.ends[0], TERM, s.digest, &sent,
                                 NULL) < 0);
    CU_ASSERT_EQUAL(sent.frames, 0);
    scene_end(&s);
}

/* ---- the digest ---- */

static const struct frame one = {.type = FRAME_PAGES, .size = 100, .digest = 0x1122334455667788};
static const struct frame two = {.type = FRAME_STATE, .size = 7, .digest = 42};

static void list_digest(const struct frame *const *frames, size_t count,
                        uint8_t out[MESSAGE_DIGEST_SIZE])
{
    struct epoch_digest *digest = epoch_digest_create();
    epoch_digest_add(digest, &two);
    epoch_digest_reset(digest); /* forgets it */
    for (size_t i = 0; i < count; i++)
        epoch_digest_add(digest, frames[i]);
    epoch_digest_result(digest, out);
    epoch_digest_destroy(&digest);
}

static void the_digest_knows_order_number_and_kind_of_frames(void)
{
    struct frame other_type = one, other_size = one, other_digest = one;
    other_type.type = FRAME_STATE;
    other_size.size++;
    other_digest.digest++;
    const struct {
        const struct frame *frames[3];
        size_t count;
    } lists[] = {
        {{0}, 0},          {{&one}, 1},        {{&one, &one}, 2},  {{&one, &two}, 2},
        {{&two, &one}, 2}, {{&other_type}, 1}, {{&other_size}, 1}, {{&other_digest}, 1},
    };
    uint8_t digests[ARRAY_SIZE(lists)][MESSAGE_DIGEST_SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        list_digest(lists[i].frames, lists[i].count, digests[i]);
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_NOT_EQUAL(memcmp(digests[i], digests[j], MESSAGE_DIGEST_SIZE), 0);
    }
    /* Term and epoch are the stage's to compare. */
    struct frame elsewhere = one;
    elsewhere.term = 5;
    elsewhere.epoch = 6;
    uint8_t same[MESSAGE_DIGEST_SIZE];
    list_digest((const struct frame *[]){&elsewhere}, 1, same);
    CU_ASSERT_EQUAL(memcmp(same, digests[1], sizeof(same)), 0);
    /* XXH3-128 of nothing, seed 0, canonical: any implementation gives these bytes. */
    static const uint8_t empty[] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                    0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
    CU_ASSERT_EQUAL(memcmp(digests[0], empty, sizeof(empty)), 0);
}

static const struct test_case cases[] = {
    {"a set knows its members", a_set_knows_its_members},
    {"a full set has no page too many", a_full_set_has_no_page_too_many},
    {"merging keeps both", merging_keeps_both},
    {"a large sparse set forgets nothing", a_large_sparse_set_forgets_nothing},
    {"the slab gives each chunk once", the_slab_gives_each_chunk_once},
    {"a slab of no sensible size is refused", a_slab_of_no_sensible_size_is_refused},
    {"waiting for a chunk ends with one, or with cancel",
     waiting_for_a_chunk_ends_with_one_or_with_cancel},
    {"an aborted capture gives its pages back", an_aborted_capture_gives_its_pages_back},
    {"a capture stops at its chunks and goes on where it stopped",
     a_capture_stops_at_its_chunks_and_goes_on_where_it_stopped},
    {"a capture that finds no staging memory says where",
     a_capture_that_finds_no_staging_memory_says_where},
    {"zero pages travel as marks", zero_pages_travel_as_marks},
    {"sending to a dead link fails", sending_to_a_dead_link_fails},
    {"the digest knows order, number and kind of frames",
     the_digest_knows_order_number_and_kind_of_frames},
};

TEST_MAIN("staging", cases)
