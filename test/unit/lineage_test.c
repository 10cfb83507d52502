/* The durable record of a disk image, the pages of its map, and the table of what to do when two
 * copies meet. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk/lineage.h"
#include "disk/map_page.h"
#include "disk/pairing.h"
#include "test/support/runner.h"

static struct lineage sample(void)
{
    return (struct lineage){
        .vm = "web",
        .index = 3,
        .size = 5 * BLOCK_SIZE + 512,
        .disk = {1, 2, 3},
        .state = IMAGE_OWNER,
        .term = 7,
        .point = 0x1111,
        .next_point = 0x2222,
        .generations = {0xa2, 0xa1},
        .nonce = 99,
        .sequence = 4,
        .stamp = {.inode = 42, .closed = true, .modified_s = -5, .modified_ns = 999999999},
    };
}

static bool equal(const struct lineage *a, const struct lineage *b)
{
    uint8_t x[LINEAGE_SIZE];
    uint8_t y[LINEAGE_SIZE];
    lineage_encode(a, x);
    lineage_encode(b, y);
    return memcmp(x, y, sizeof(x)) == 0;
}

static void a_record_comes_back_as_it_was(void)
{
    const struct lineage l = sample();
    uint8_t bytes[LINEAGE_SIZE];
    struct lineage back;
    lineage_encode(&l, bytes);
    CU_ASSERT_EQUAL(lineage_decode(bytes, sizeof(bytes), &back, NULL), 0);
    CU_ASSERT_TRUE(equal(&l, &back));
    CU_ASSERT_EQUAL(back.stamp.modified_s, -5);
    CU_ASSERT_STRING_EQUAL(back.vm, "web");
}

static void a_record_begins_with_its_golden_bytes(void)
{
    static const uint8_t golden[] = {'K', 'M', 'R', 'I', 'd', 'm', 'a', 'p', 1,   0,
                                     0,   0,   16,  0,   0,   0,   'w', 'e', 'b', 0};
    const struct lineage l = sample();
    uint8_t bytes[LINEAGE_SIZE];
    lineage_encode(&l, bytes);
    CU_ASSERT_EQUAL(memcmp(bytes, golden, sizeof(golden)), 0);
    CU_ASSERT_EQUAL(bytes[80], 3);  /* index */
    CU_ASSERT_EQUAL(bytes[84], 1);  /* state */
    CU_ASSERT_EQUAL(bytes[112], 7); /* term */
}

static void a_record_with_any_byte_changed_or_missing_is_refused(void)
{
    const struct lineage l = sample();
    uint8_t bytes[LINEAGE_SIZE];
    struct lineage back;
    lineage_encode(&l, bytes);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        CU_ASSERT_EQUAL(lineage_decode(bytes, i, &back, NULL), -EBADMSG);
        bytes[i] ^= 0x10;
        CU_ASSERT_EQUAL(lineage_decode(bytes, sizeof(bytes), &back, NULL), -EBADMSG);
        bytes[i] ^= 0x10;
    }
    CU_ASSERT_EQUAL(lineage_decode(bytes, sizeof(bytes), &back, NULL), 0);
}

static void generations_go_in_front_and_the_oldest_is_forgotten(void)
{
    struct lineage l = sample();
    for (uint64_t g = 1; g <= LINEAGE_GENERATIONS; g++)
        lineage_begin(&l, g);
    CU_ASSERT_EQUAL(l.generations[0], LINEAGE_GENERATIONS);
    CU_ASSERT_TRUE(lineage_has(&l, 1));
    CU_ASSERT_FALSE(lineage_has(&l, 0xa2));
    CU_ASSERT_FALSE(lineage_has(&l, 0));
}

static void a_page_with_any_byte_changed_marks_all_its_blocks(void)
{
    struct block_map map;
    struct block_map back;
    uint8_t bytes[MAP_PAGE_SIZE];
    CU_ASSERT_EQUAL_FATAL(block_map_init(&map, MAP_PAGE_BLOCKS + 100), 0);
    CU_ASSERT_EQUAL_FATAL(block_map_init(&back, MAP_PAGE_BLOCKS + 100), 0);
    block_map_set(&map, MAP_PAGE_BLOCKS + 7, 3);
    map_page_encode(&map, 1, 5, bytes);
    CU_ASSERT_TRUE(map_page_decode(&back, 1, 5, bytes));
    CU_ASSERT_EQUAL(block_map_population(&back), 3);
    CU_ASSERT_EQUAL(block_map_next(&back, 0), MAP_PAGE_BLOCKS + 7);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] ^= 1;
        block_map_empty(&back);
        CU_ASSERT_FALSE(map_page_decode(&back, 1, 5, bytes));
        CU_ASSERT_EQUAL(block_map_population(&back), 100);
        bytes[i] ^= 1;
    }
    block_map_empty(&back);
    CU_ASSERT_FALSE(map_page_decode(&back, 1, 6, bytes)); /* of another map */
    CU_ASSERT_FALSE(map_page_decode(&back, 0, 5, bytes)); /* another page of it */
    CU_ASSERT_EQUAL(block_map_population(&back), MAP_PAGE_BLOCKS + 100);
    block_map_free(&map);
    block_map_free(&back);
}

/* ---- the table ---- */

static enum pairing decide(const struct lineage *p, const struct lineage *s)
{
    const struct pairing_side primary = {.lineage = p, .trusted = true};
    const struct pairing_side secondary = {.lineage = s, .trusted = true};
    struct error why = {0};
    const enum pairing result = pairing_decide(&primary, &secondary, &why);
    CU_ASSERT_NOT_EQUAL(why.text[0], '\0');
    return result;
}

#define GENERATIONS(l, ...)                                                                        \
    do {                                                                                           \
        static const uint64_t list[] = {__VA_ARGS__};                                              \
        memset((l).generations, 0, sizeof((l).generations));                                       \
        memcpy((l).generations, list, sizeof(list));                                               \
    } while (0)

static void what_two_copies_do_when_they_meet(void)
{
    static const struct {
        const char *what;
        uint64_t primary[3], secondary[3];
        enum pairing with_point, without_point;
    } cases[] = {
        {"equal", {5, 4}, {5, 4}, PAIRING_MARKED, PAIRING_FULL},
        {"the primary went on", {6, 5, 4}, {5, 4}, PAIRING_MARKED, PAIRING_FULL},
        {"twice", {7, 6, 5}, {5, 4}, PAIRING_MARKED, PAIRING_FULL},
        {"the secondary went on", {5, 4}, {6, 5, 4}, PAIRING_REFUSE_NEWER, PAIRING_REFUSE_NEWER},
        {"both went on", {6, 5}, {7, 5}, PAIRING_REFUSE_SPLIT, PAIRING_REFUSE_SPLIT},
        {"strangers", {6, 5}, {8, 7}, PAIRING_FULL, PAIRING_FULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lineage p = sample();
        struct lineage s = sample();
        memset(p.generations, 0, sizeof(p.generations));
        memset(s.generations, 0, sizeof(s.generations));
        memcpy(p.generations, cases[i].primary, sizeof(cases[i].primary));
        memcpy(s.generations, cases[i].secondary, sizeof(cases[i].secondary));
        if (decide(&p, &s) != cases[i].with_point)
            CU_FAIL(cases[i].what);
        s.point = 0x77;
        s.next_point = 0x78;
        if (decide(&p, &s) != cases[i].without_point)
            CU_FAIL(cases[i].what);
    }
}

static void a_point_that_one_side_has_and_the_other_expects_is_in_common(void)
{
    struct lineage p = sample();
    struct lineage s = sample();
    p.point = 10;
    p.next_point = 0;
    s.point = 9;
    s.next_point = 10;
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_MARKED);
    p.point = 9;
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_MARKED);
    p.point = 11;
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_FULL);
    p.next_point = s.next_point = 0; /* none is no point in common */
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_FULL);
}

static void what_cannot_be_believed_is_compared_whole(void)
{
    const struct lineage l = sample();
    const struct pairing_side good = {.lineage = &l, .trusted = true};
    const struct pairing_side doubtful = {.lineage = &l, .trusted = false};
    const struct pairing_side none = {.lineage = NULL, .trusted = false};
    CU_ASSERT_EQUAL(pairing_decide(&good, &good, NULL), PAIRING_MARKED);
    CU_ASSERT_EQUAL(pairing_decide(&good, &doubtful, NULL), PAIRING_FULL);
    CU_ASSERT_EQUAL(pairing_decide(&doubtful, &good, NULL), PAIRING_FULL);
    CU_ASSERT_EQUAL(pairing_decide(&good, &none, NULL), PAIRING_FULL);
    CU_ASSERT_EQUAL(pairing_decide(&none, &good, NULL), PAIRING_FULL);
    CU_ASSERT_EQUAL(pairing_decide(&none, &none, NULL), PAIRING_FULL);
    struct lineage other = l;
    other.disk[15] = 1;
    CU_ASSERT_EQUAL(decide(&l, &other), PAIRING_FULL);
    other = l;
    other.size += 512;
    CU_ASSERT_EQUAL(decide(&l, &other), PAIRING_REFUSE_SIZE);
}

static void a_doubtful_map_does_not_hide_that_its_copy_has_gone_on(void)
{
    struct lineage p = sample();
    struct lineage s = sample();
    GENERATIONS(p, 5, 4);
    GENERATIONS(s, 6, 5, 4);
    const struct pairing_side primary = {.lineage = &p, .trusted = false};
    const struct pairing_side secondary = {.lineage = &s, .trusted = false};
    CU_ASSERT_EQUAL(pairing_decide(&primary, &secondary, NULL), PAIRING_REFUSE_NEWER);
}

static void no_copy_is_made_of_an_unusable_one(void)
{
    struct lineage p = sample();
    struct lineage s = sample();
    for (enum image_state state = IMAGE_OWNER; state <= IMAGE_OUTDATED; state++) {
        s.state = state; /* a target may be in any */
        CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_MARKED);
    }
    p.state = IMAGE_FOLLOWER; /* promoted, and nothing written yet */
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_MARKED);
    p.state = IMAGE_OUTDATED;
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_REFUSE_SOURCE);
    p.state = IMAGE_SYNCING;
    CU_ASSERT_EQUAL(decide(&p, &s), PAIRING_REFUSE_SOURCE);
}

static void a_guest_starts_only_from_a_copy_that_is_its_own(void)
{
    struct lineage l = sample();
    struct error err = {0};
    CU_ASSERT_EQUAL(pairing_may_start(NULL, 0, "i", "m", NULL), 0);
    CU_ASSERT_EQUAL(pairing_may_start(&l, 1, "i", "m", NULL), 0);
    l.state = IMAGE_FOLLOWER;
    CU_ASSERT_EQUAL(pairing_may_start(&l, 7, "i", "m", NULL), -ESTALE);
    CU_ASSERT_EQUAL(pairing_may_start(&l, 8, "i", "m", NULL), 0); /* promoted in term 8 */
    l.state = IMAGE_SYNCING;
    CU_ASSERT_EQUAL(pairing_may_start(&l, 8, "i", "m", NULL), -ESTALE);
    l.state = IMAGE_OUTDATED;
    CU_ASSERT_EQUAL(pairing_may_start(&l, 8, "/img", "/map", &err), -ESTALE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "disk image /img is outdated"));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "remove /map"));
}

static const struct test_case cases[] = {
    {"a record comes back as it was", a_record_comes_back_as_it_was},
    {"a record begins with its golden bytes", a_record_begins_with_its_golden_bytes},
    {"a record with any byte changed or missing is refused",
     a_record_with_any_byte_changed_or_missing_is_refused},
    {"generations go in front and the oldest is forgotten",
     generations_go_in_front_and_the_oldest_is_forgotten},
    {"a page with any byte changed marks all its blocks",
     a_page_with_any_byte_changed_marks_all_its_blocks},
    {"what two copies do when they meet", what_two_copies_do_when_they_meet},
    {"a point that one side has and the other expects is in common",
     a_point_that_one_side_has_and_the_other_expects_is_in_common},
    {"what cannot be believed is compared whole", what_cannot_be_believed_is_compared_whole},
    {"a doubtful map does not hide that its copy has gone on",
     a_doubtful_map_does_not_hide_that_its_copy_has_gone_on},
    {"no copy is made of an unusable one", no_copy_is_made_of_an_unusable_one},
    {"a guest starts only from a copy that is its own",
     a_guest_starts_only_from_a_copy_that_is_its_own},
};

TEST_MAIN("lineage", cases)
