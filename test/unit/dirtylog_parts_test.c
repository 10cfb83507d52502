/* The parts of the logs of another process that need no other process: entries of a pagemap, lines
 * of its mappings, and a walk shared by several threads. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "dirtylog/extents.h"
#include "dirtylog/pagemap_entry.h"
#include "dirtylog/sweep.h"
#include "test/support/runner.h"

/* ---- entries ---- */

/* As Linux 6.1 gives them for a page of a shared file. */
static void an_entry_says_whether_its_page_was_written(void)
{
    static const struct {
        uint64_t entry;
        bool there, written;
    } golden[] = {
        {0xa100000000000000, true, false}, /* present, file, exclusive, frame hidden */
        {0xa180000000000000, true, true},  /* and soft-dirty */
        {0xa000000000123456, true, false}, /* mapped twice, with its frame */
        {0xa080000000123456, true, true},
        {0x6000000000000abc, true, false}, /* on its way to another frame */
        {0x6080000000000abc, true, true},
        {0x0000000000000000, false, true}, /* not in the page table */
        {0x0080000000000000, false, true}, /* not in it either, in a new mapping */
        {0x2000000000000000, false, true}, /* an unknown bit makes no page */
    };
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        CU_ASSERT_EQUAL(pagemap_entry_is_there(golden[i].entry), golden[i].there);
        CU_ASSERT_EQUAL(pagemap_entry_written(golden[i].entry), golden[i].written);
    }
}

/* ---- mappings ---- */

static const char line[] = "7f3a40000000-7f3a48000000 rw-s 04000000 00:0a 4242                   "
                           "   /memfd:kemari-guest (deleted)\n";

static struct stat file_of(unsigned major_number, unsigned minor_number, uint64_t inode)
{
    return (struct stat){.st_dev = makedev(major_number, minor_number), .st_ino = inode};
}

static void a_mapping_of_the_file_is_found(void)
{
    const struct stat file = file_of(0, 10, 4242);
    struct extent e = {0};
    CU_ASSERT_TRUE(extents_parse(line, &file, &e));
    CU_ASSERT_EQUAL(e.start, 0x7f3a40000000);
    CU_ASSERT_EQUAL(e.size, 0x8000000);
    CU_ASSERT_EQUAL(e.offset, 0x4000000);
}

static void other_mappings_are_left_alone(void)
{
    const struct stat files[] = {file_of(0, 10, 4243), file_of(0, 11, 4242), file_of(1, 10, 4242)};
    const struct stat file = file_of(0, 10, 4242);
    struct extent e = {.size = 77};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        CU_ASSERT_FALSE(extents_parse(line, &files[i], &e));
    CU_ASSERT_FALSE(extents_parse("1000-2000 r--s 00000000 00:0a 4242 /x\n", &file, &e));
    CU_ASSERT_FALSE(extents_parse("1000-2000 ---p 00000000 00:0a 4242\n", &file, &e));
    CU_ASSERT_FALSE(extents_parse("1000-2000 rw-p 00000000 00:00 0\n", &file, &e));
    CU_ASSERT_FALSE(extents_parse("", &file, &e));
    CU_ASSERT_FALSE(extents_parse("VmFlags: rd wr sh\n", &file, &e));
    CU_ASSERT_EQUAL(e.size, 77);
}

static void a_line_that_ends_early_is_no_mapping(void)
{
    const struct stat file = file_of(0, 10, 4242);
    const size_t whole = (size_t)(strstr(line, "4242") + 4 - line);
    for (size_t length = 0; length < whole; length++) {
        char part[sizeof(line)] = {0};
        struct extent e;
        memcpy(part, line, length);
        CU_ASSERT_FALSE(extents_parse(part, &file, &e));
    }
}

/* ---- the walk ---- */

#define MIB          ((uint64_t)1 << 20)
#define WALK_BYTES   (1000 * MIB + 12 * PAGE_SIZE)
#define WALK_REPEATS 50
#define WALK_FAILS   (700 * MIB)

struct walk {
    uint64_t pages;
    unsigned *visits;        /* of each page */
    _Atomic unsigned calls;  /* that are under way, by worker */
    _Atomic bool overlapped; /* a worker in two calls at once */
    bool fail;
};

static struct extents three_pieces(void)
{
    return (struct extents){
        .count = 3,
        .items = {{0x10000000, 5 * PAGE_SIZE, 0},
                  {0x7f0000000000, 800 * MIB, 5 * PAGE_SIZE},
                  {0x20000000, 200 * MIB + 7 * PAGE_SIZE, 800 * MIB + 5 * PAGE_SIZE}}};
}

/* Where the page would be in the other process. */
static uint64_t address_of(uint64_t index)
{
    const struct extents extents = three_pieces();
    const uint64_t offset = index << PAGE_SHIFT;
    for (size_t i = 0; i < extents.count; i++)
        if (offset - extents.items[i].offset < extents.items[i].size)
            return extents.items[i].start + offset - extents.items[i].offset;
    return 0;
}

static int visit(void *context, unsigned worker, const struct sweep_piece *piece,
                 struct dirty_set *set, struct error *err)
{
    struct walk *walk = context;
    if (atomic_fetch_or(&walk->calls, 1u << worker) & (1u << worker))
        walk->overlapped = true;
    int rc = 0;
    for (uint64_t i = 0; i < piece->size >> PAGE_SHIFT; i++) {
        walk->visits[piece->index + i]++;
        if (address_of(piece->index + i) != piece->start + (i << PAGE_SHIFT))
            walk->overlapped = true;
        if ((piece->index + i) % 3 == 0)
            dirty_set_add(set, piece->index + i);
    }
    if (walk->fail && piece->index << PAGE_SHIFT >= WALK_FAILS)
        rc = error_set(err, -EIO, "the walk was told to fail");
    atomic_fetch_and(&walk->calls, ~(1u << worker));
    return rc;
}

static void walk_by(unsigned workers)
{
    const struct extents extents = three_pieces();
    struct walk walk = {.pages = WALK_BYTES >> PAGE_SHIFT};
    struct dirty_set set;
    struct sweep *sweep = NULL;
    struct error err = {0};
    walk.visits = calloc(walk.pages, sizeof(*walk.visits));
    CU_ASSERT_PTR_NOT_NULL_FATAL(walk.visits);
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&set, walk.pages), 0);
    CU_ASSERT_EQUAL_FATAL(sweep_create(&extents, workers, &sweep, &err), 0);
    CU_ASSERT_EQUAL(sweep_workers(sweep), workers);
    for (unsigned i = 1; i <= WALK_REPEATS; i++) {
        dirty_set_clear(&set);
        CU_ASSERT_EQUAL(sweep_run(sweep, visit, &walk, &set, &err), 0);
        bool once = true;
        for (uint64_t page = 0; page < walk.pages; page++)
            once = once && walk.visits[page] == i;
        CU_ASSERT_TRUE(once);
        CU_ASSERT_EQUAL(dirty_set_count(&set), (walk.pages + 2) / 3);
    }
    CU_ASSERT_FALSE(walk.overlapped);
    walk.fail = true;
    CU_ASSERT_EQUAL(sweep_run(sweep, visit, &walk, &set, &err), -EIO);
    CU_ASSERT_STRING_EQUAL(err.text, "the walk was told to fail");
    walk.fail = false;
    CU_ASSERT_EQUAL(sweep_run(sweep, visit, &walk, &set, &err), 0);
    sweep_destroy(&sweep);
    CU_ASSERT_PTR_NULL(sweep);
    dirty_set_free(&set);
    free(walk.visits);
}

static void each_page_is_visited_once_by_any_number_of_threads(void)
{
    for (unsigned workers = 1; workers <= SWEEP_WORKERS_MAX; workers++)
        walk_by(workers);
}

static void a_walk_that_is_never_made_can_be_destroyed(void)
{
    const struct extents extents = three_pieces();
    struct sweep *sweep = NULL;
    CU_ASSERT_EQUAL_FATAL(sweep_create(&extents, SWEEP_WORKERS_MAX, &sweep, NULL), 0);
    sweep_destroy(&sweep);
    sweep_destroy(&sweep);
}

static void small_memory_is_walked_by_one_thread(void)
{
    CU_ASSERT_EQUAL(sweep_workers_for(2 * MIB), 1);
    CU_ASSERT(sweep_workers_for((uint64_t)1 << 40) <= SWEEP_WORKERS_MAX);
    CU_ASSERT(sweep_workers_for((uint64_t)1 << 40) >= 1);
}

static const struct test_case cases[] = {
    {"an entry says whether its page was written", an_entry_says_whether_its_page_was_written},
    {"a mapping of the file is found", a_mapping_of_the_file_is_found},
    {"other mappings are left alone", other_mappings_are_left_alone},
    {"a line that ends early is no mapping", a_line_that_ends_early_is_no_mapping},
    {"each page is visited once by any number of threads",
     each_page_is_visited_once_by_any_number_of_threads},
    {"a walk that is never made can be destroyed", a_walk_that_is_never_made_can_be_destroyed},
    {"small memory is walked by one thread", small_memory_is_walked_by_one_thread},
};

TEST_MAIN("dirtylog-parts", cases)
