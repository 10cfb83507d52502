/* The stage: what a primary may send, and everything else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/epoch_digest.h"
#include "checkpoint/page_codec.h"
#include "secondary/stage.h"
#include "test/support/runner.h"
#include "transport/session.h"

#define MEMORY ((uint64_t)2 << 20)
#define EPOCH  12

/* A stage and the primary's side of the books. */
struct scene {
    struct gmem *memory;
    struct slab *slab;
    struct stage *stage;
    struct epoch_digest *digest;
    struct message_epoch_end end;
};

static void scene_start(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    CU_ASSERT_EQUAL_FATAL(gmem_create(&(struct gmem_config){.size = MEMORY}, &s->memory, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN, &s->slab, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(stage_create(s->memory, s->slab, NULL, NULL,
                                       &(struct checkpoint_disks){0}, &s->stage, NULL),
                          0);
    s->digest = epoch_digest_create();
}

static void scene_end(struct scene *s)
{
    stage_destroy(&s->stage);
    CU_ASSERT_EQUAL(slab_free_count(s->slab), slab_chunk_count(s->slab));
    epoch_digest_destroy(&s->digest);
    slab_destroy(&s->slab);
    gmem_destroy(&s->memory);
}

static void begin(struct scene *s, enum message_epoch_kind kind)
{
    epoch_digest_reset(s->digest);
    memset(&s->end, 0, sizeof(s->end));
    CU_ASSERT_EQUAL(stage_begin(s->stage, EPOCH, kind, NULL), 0);
}

/* Hands over `size` bytes as a frame and keeps the primary's books. */
static int add(struct scene *s, enum frame_type type, epoch_t epoch, const void *bytes, size_t size)
{
    uint8_t *chunk = slab_take(s->slab);
    CU_ASSERT_PTR_NOT_NULL_FATAL(chunk);
    memcpy(chunk, bytes, size);
    const struct iovec part = {chunk, size};
    const struct frame frame = {
        .type = type, .epoch = epoch, .size = (uint32_t)size, .digest = frame_digest(&part, 1)};
    s->end.frames++;
    s->end.bytes += size;
    epoch_digest_add(s->digest, &frame);
    return stage_add(s->stage, &frame, chunk, NULL);
}

/* One raw page, filled with `fill`. */
static int add_page(struct scene *s, gfn_t gfn, uint8_t fill)
{
    static uint8_t bytes[PAGE_BATCH_HEADER_MAX + PAGE_SIZE];
    const uint8_t raw = PAGE_ENCODING_RAW;
    const size_t header = page_batch_encode_header(&gfn, &raw, 1, bytes);
    memset(bytes + header, fill, PAGE_SIZE);
    s->end.pages++;
    return add(s, FRAME_PAGES, EPOCH, bytes, header + PAGE_SIZE);
}

static int add_zero_page(struct scene *s, gfn_t gfn)
{
    uint8_t bytes[PAGE_BATCH_HEADER_MAX];
    const uint8_t zero = PAGE_ENCODING_ZERO;
    s->end.pages++;
    s->end.zero_pages++;
    return add(s, FRAME_PAGES, EPOCH, bytes, page_batch_encode_header(&gfn, &zero, 1, bytes));
}

/* A state of one section, in frames of at most `piece` bytes. */
static int add_state(struct scene *s, size_t piece)
{
    struct section_set *set = section_set_create();
    memset(section_set_add(set, "thing", 0, 1, 100), 0x33, 100);
    uint8_t bytes[512];
    const size_t size = (size_t)section_set_encode(set, bytes, sizeof(bytes));
    section_set_destroy(&set);
    int rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += piece)
        rc = add(s, FRAME_STATE, EPOCH, bytes + at, size - at < piece ? size - at : piece);
    s->end.state_bytes += size;
    return rc;
}

static int finish(struct scene *s, struct staged_epoch *out)
{
    epoch_digest_result(s->digest, s->end.digest);
    return stage_finish(s->stage, EPOCH, &s->end, out, NULL);
}

static void an_epoch_touches_memory_only_when_it_is_applied(void)
{
    struct scene s;
    scene_start(&s);
    memset(gmem_page(s.memory, 4), 0xee, PAGE_SIZE);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    CU_ASSERT_TRUE(stage_is_filling(s.stage));
    CU_ASSERT_EQUAL(stage_epoch(s.stage), EPOCH);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
    CU_ASSERT_EQUAL(add_zero_page(&s, 4), 0);
    CU_ASSERT_EQUAL(add_state(&s, 7), 0);
    CU_ASSERT_TRUE(page_is_zero(gmem_page(s.memory, 3)));
    struct staged_epoch whole;
    CU_ASSERT_EQUAL_FATAL(finish(&s, &whole), 0);
    CU_ASSERT_FALSE(stage_is_filling(s.stage));
    CU_ASSERT_TRUE(page_is_zero(gmem_page(s.memory, 3)));
    CU_ASSERT_EQUAL(whole.epoch, EPOCH);
    CU_ASSERT_EQUAL(whole.pages, 2);
    CU_ASSERT_EQUAL(whole.batch_count, 2);
    const struct section *section = section_set_find(whole.state, "thing", 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(section);
    CU_ASSERT_EQUAL(section->size, 100);
    staged_epoch_apply(&whole, s.memory);
    CU_ASSERT_EQUAL(gmem_page(s.memory, 3)[PAGE_SIZE - 1], 0x11);
    CU_ASSERT_TRUE(page_is_zero(gmem_page(s.memory, 4)));
    staged_epoch_recycle(&whole, s.slab);
    scene_end(&s);
}

static void an_epoch_that_is_dropped_leaves_no_trace(void)
{
    struct scene s;
    scene_start(&s);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
    CU_ASSERT_EQUAL(add_state(&s, 50), 0);
    stage_drop(s.stage);
    CU_ASSERT_EQUAL(slab_free_count(s.slab), slab_chunk_count(s.slab));
    CU_ASSERT_TRUE(page_is_zero(gmem_page(s.memory, 3)));
    /* Nor does it have an order of pages to continue, or state in front of the next one's. */
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    CU_ASSERT_EQUAL(add_page(&s, 1, 0x22), 0);
    CU_ASSERT_EQUAL(add_state(&s, 512), 0);
    struct staged_epoch whole;
    CU_ASSERT_EQUAL_FATAL(finish(&s, &whole), 0);
    CU_ASSERT_EQUAL(section_set_count(whole.state), 1);
    staged_epoch_recycle(&whole, s.slab);
    scene_end(&s);
}

/* SLAB_SIZE_MIN is eight chunks: six batches stay in them, SESSION_SPILL_BATCHES more go on
 * elsewhere, and that is all. */
static void an_oversize_epoch_goes_on_beside_the_staging_memory(void)
{
    struct scene s;
    struct staged_epoch whole;
    scene_start(&s);
    for (unsigned round = 0; round < 2; round++) {
        begin(&s, MESSAGE_EPOCH_INCREMENTAL);
        for (unsigned i = 0; i < 6 + SESSION_SPILL_BATCHES; i++)
            CU_ASSERT_EQUAL_FATAL(add_page(&s, i, (uint8_t)(i + 1)), 0);
        CU_ASSERT_EQUAL(slab_free_count(s.slab), 2);
        if (round == 0) {
            CU_ASSERT_EQUAL(add_page(&s, 6 + SESSION_SPILL_BATCHES, 1), -ENOBUFS);
            stage_drop(s.stage);
            CU_ASSERT_EQUAL(slab_free_count(s.slab), slab_chunk_count(s.slab));
        }
    }
    CU_ASSERT_EQUAL(add_state(&s, 1000), 0);
    CU_ASSERT_EQUAL_FATAL(finish(&s, &whole), 0);
    staged_epoch_apply(&whole, s.memory);
    for (gfn_t i = 0; i < 6 + SESSION_SPILL_BATCHES; i++)
        CU_ASSERT_EQUAL(*(uint8_t *)gmem_page(s.memory, i), i + 1);
    staged_epoch_recycle(&whole, s.slab);
    scene_end(&s);
}

static void a_synchronisation_writes_at_once_and_may_repeat_pages(void)
{
    struct scene s;
    scene_start(&s);
    begin(&s, MESSAGE_EPOCH_FULL);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
    CU_ASSERT_EQUAL(gmem_page(s.memory, 3)[0], 0x11);
    CU_ASSERT_EQUAL(add_page(&s, 2, 0x22), 0);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x33), 0);
    CU_ASSERT_EQUAL(gmem_page(s.memory, 3)[0], 0x33);
    CU_ASSERT_EQUAL(slab_free_count(s.slab), slab_chunk_count(s.slab));
    struct staged_epoch whole;
    CU_ASSERT_EQUAL(finish(&s, &whole), 0);
    CU_ASSERT_PTR_NULL(whole.state);
    CU_ASSERT_EQUAL(whole.batch_count, 0);
    staged_epoch_recycle(&whole, s.slab);
    scene_end(&s);
}

static void frames_outside_of_their_epoch_are_refused(void)
{
    struct scene s;
    scene_start(&s);
    struct staged_epoch whole;
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), -EPROTO); /* before BEGIN */
    CU_ASSERT_EQUAL(finish(&s, &whole), -EPROTO);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    CU_ASSERT_EQUAL(stage_begin(s.stage, EPOCH + 1, MESSAGE_EPOCH_INCREMENTAL, NULL), -EPROTO);
    CU_ASSERT_EQUAL(stage_epoch(s.stage), EPOCH);
    const uint8_t byte = 1;
    CU_ASSERT_EQUAL(add(&s, FRAME_PAGES, EPOCH + 1, &byte, 1), -EPROTO);
    CU_ASSERT_EQUAL(add(&s, FRAME_STATE, EPOCH - 1, &byte, 1), -EPROTO);
    CU_ASSERT_EQUAL(add(&s, FRAME_DISK, EPOCH, &byte, 1), -EPROTO);
    CU_ASSERT_EQUAL(stage_finish(s.stage, EPOCH + 1, &s.end, &whole, NULL), -EPROTO);
    CU_ASSERT_TRUE(stage_is_filling(s.stage));
    scene_end(&s);
}

static void state_inside_a_synchronisation_is_refused(void)
{
    struct scene s;
    scene_start(&s);
    begin(&s, MESSAGE_EPOCH_FULL);
    CU_ASSERT_EQUAL(add_state(&s, 512), -EPROTO);
    scene_end(&s);
}

static void malformed_and_repeated_pages_are_refused(void)
{
    struct scene s;
    scene_start(&s);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    const uint8_t nonsense[40] = {1};
    CU_ASSERT_EQUAL(add(&s, FRAME_PAGES, EPOCH, nonsense, sizeof(nonsense)), -EBADMSG);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x22), -EBADMSG);
    CU_ASSERT_EQUAL(add_page(&s, 2, 0x22), -EBADMSG);
    CU_ASSERT_EQUAL(add_page(&s, MEMORY >> PAGE_SHIFT, 0x22), -EBADMSG);
    scene_end(&s);
}

static void more_state_than_a_machine_can_have_is_refused(void)
{
    struct scene s;
    scene_start(&s);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    uint8_t *megabyte = calloc(1, SLAB_CHUNK_SIZE);
    int rc = 0;
    unsigned taken = 0;
    for (; rc == 0 && taken < 100; taken++)
        rc = add(&s, FRAME_STATE, EPOCH, megabyte, SLAB_CHUNK_SIZE);
    CU_ASSERT_EQUAL(rc, -EBADMSG);
    CU_ASSERT_EQUAL(taken, SECTION_SET_MAX / SLAB_CHUNK_SIZE + 1);
    free(megabyte);
    scene_end(&s);
}

/* ---- END ---- */

static void lie_pages(struct scene *s)
{
    s->end.pages++;
}
static void lie_zero_pages(struct scene *s)
{
    s->end.zero_pages++;
}
static void lie_frames(struct scene *s)
{
    s->end.frames--;
}
static void lie_bytes(struct scene *s)
{
    s->end.bytes ^= 1;
}
static void lie_state_bytes(struct scene *s)
{
    s->end.state_bytes = 0;
}
static void lie_digest_first(struct scene *s)
{
    s->end.digest[0] ^= 1;
}
static void lie_digest_last(struct scene *s)
{
    s->end.digest[MESSAGE_DIGEST_SIZE - 1] ^= 0x80;
}

static void an_end_that_tells_anything_else_is_refused(void)
{
    void (*const lies[])(struct scene *) = {lie_pages,      lie_zero_pages,  lie_frames,
                                            lie_bytes,      lie_state_bytes, lie_digest_first,
                                            lie_digest_last};
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        struct scene s;
        scene_start(&s);
        begin(&s, MESSAGE_EPOCH_INCREMENTAL);
        CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
        CU_ASSERT_EQUAL(add_state(&s, 512), 0);
        epoch_digest_result(s.digest, s.end.digest);
        lies[i](&s);
        struct staged_epoch whole;
        CU_ASSERT_EQUAL(stage_finish(s.stage, EPOCH, &s.end, &whole, NULL), -EBADMSG);
        stage_drop(s.stage);
        CU_ASSERT_EQUAL(slab_free_count(s.slab), slab_chunk_count(s.slab));
        scene_end(&s);
    }
}

static void a_state_that_is_cut_short_or_missing_is_refused(void)
{
    struct scene s;
    scene_start(&s);
    struct staged_epoch whole;
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    CU_ASSERT_EQUAL(add_page(&s, 3, 0x11), 0);
    CU_ASSERT_EQUAL(finish(&s, &whole), -EBADMSG);
    CU_ASSERT_PTR_NULL(whole.state);
    stage_drop(s.stage);
    begin(&s, MESSAGE_EPOCH_INCREMENTAL);
    const uint8_t one_section_announced[] = {1, 0, 0, 0};
    CU_ASSERT_EQUAL(add(&s, FRAME_STATE, EPOCH, one_section_announced, 4), 0);
    s.end.state_bytes = 4;
    CU_ASSERT_EQUAL(finish(&s, &whole), -EBADMSG);
    CU_ASSERT_PTR_NULL(whole.state);
    stage_drop(s.stage);
    scene_end(&s);
}

static const struct test_case cases[] = {
    {"an epoch touches memory only when it is applied",
     an_epoch_touches_memory_only_when_it_is_applied},
    {"an epoch that is dropped leaves no trace", an_epoch_that_is_dropped_leaves_no_trace},
    {"an oversize epoch goes on beside the staging memory",
     an_oversize_epoch_goes_on_beside_the_staging_memory},
    {"a synchronisation writes at once and may repeat pages",
     a_synchronisation_writes_at_once_and_may_repeat_pages},
    {"frames outside of their epoch are refused", frames_outside_of_their_epoch_are_refused},
    {"state inside a synchronisation is refused", state_inside_a_synchronisation_is_refused},
    {"malformed and repeated pages are refused", malformed_and_repeated_pages_are_refused},
    {"more state than a machine can have is refused",
     more_state_than_a_machine_can_have_is_refused},
    {"an end that tells anything else is refused", an_end_that_tells_anything_else_is_refused},
    {"a state that is cut short or missing is refused",
     a_state_that_is_cut_short_or_missing_is_refused},
};

TEST_MAIN("stage", cases)
