/* Pending changes of shared disks and what the standby retains of them, against arrays of bytes:
 * what the guest reads at every step, and what a crash at every step leaves, with every change that
 * was under way half done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/pending.h"
#include "disk/retained.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"

#define SECTORS 24u
#define SIZE    (SECTORS * DISK_SECTOR)
#define DISKS   2u
#define ROUNDS  60
#define STEPS   120
#define BEGUN   8

struct payload {
    size_t size;
    bool commit; /* or this instead: what was staged is committed */
    uint8_t bytes[DISK_RECORD_HEADER_SIZE * 40 + 40 * DISK_SECTOR * 8];
};

/* One disk per array; both are written by one history. */
typedef uint8_t contents[DISKS][SIZE];

static struct pending list;
static contents image, believed, committed, cut; /* by the medium; by the guest; at epochs */
static uint64_t cut_number, released;            /* the last change of the epoch in flight */
static bool in_flight, fresh;
static struct pending_change *begun[BEGUN];
static unsigned begun_count;
static struct payload *history[STEPS * 2 + 2]; /* of the link */
static unsigned history_count;
static uint32_t seed;

static unsigned dice(unsigned sides)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % sides;
}

/* ---- the model ---- */

static void write_bytes(contents to, const struct disk_record *r, uint64_t sectors)
{
    const uint64_t size = sectors * DISK_SECTOR < r->length ? sectors * DISK_SECTOR : r->length;
    if (r->op == DISK_WRITE)
        memcpy(to[r->disk] + r->offset, r->data, size);
    else
        memset(to[r->disk] + r->offset, 0, size);
}

static void guest_changes(void)
{
    struct disk_record r = {.disk = dice(DISKS), .op = (enum disk_op)(DISK_WRITE + dice(4))};
    if (dice(3))
        r.op = DISK_WRITE;
    if (r.op != DISK_FLUSH) {
        const unsigned first = dice(SECTORS);
        const unsigned most = SECTORS - first < 7 ? SECTORS - first : 7;
        r.offset = first * DISK_SECTOR;
        r.length = (1 + dice(most)) * DISK_SECTOR;
    }
    if (r.op == DISK_WRITE) {
        uint8_t *data = malloc(r.length);
        for (uint64_t i = 0; i < r.length; i++)
            data[i] = (uint8_t)dice(256);
        r.data = data;
        write_bytes(believed, &r, SECTORS);
    } else if (r.op != DISK_FLUSH) {
        write_bytes(believed, &r, SECTORS);
    }
    pending_add(&list, &r);
}

static void guest_reads(void)
{
    struct pending_set set;
    uint8_t data[SIZE];
    const unsigned disk = dice(DISKS), first = dice(SECTORS), count = 1 + dice(SECTORS - first);
    const uint64_t offset = first * DISK_SECTOR, size = count * DISK_SECTOR;
    pending_look(&list, disk, offset, size, &set);
    memcpy(data, image[disk] + offset, size);
    pending_patch(&set, offset, size, data);
    pending_drop(&set);
    CU_ASSERT_EQUAL_FATAL(memcmp(data, believed[disk] + offset, size), 0);
}

/* ---- the wire ---- */

static struct payload *add_payload(void)
{
    struct payload *p = calloc(1, sizeof(*p));
    history[history_count++] = p;
    return p;
}

static void put(struct payload *p, const void *bytes, size_t size)
{
    CU_ASSERT_FATAL(p->size + size <= sizeof(p->bytes));
    memcpy(p->bytes + p->size, bytes, size);
    p->size += size;
}

static void cut_epoch(void)
{
    struct pending_set set;
    struct payload *p = add_payload();
    struct disk_mark mark = {.fresh = fresh, .applied = list.retired};
    uint8_t header[DISK_RECORD_HEADER_SIZE];
    pending_take(&list, &set);
    mark.first = set.count ? set.changes[0]->number : list.last_number + 1;
    disk_mark_encode(&mark, header);
    put(p, header, sizeof(header));
    for (size_t i = 0; i < set.count; i++) {
        const struct disk_record *r = &set.changes[i]->record;
        put(p, set.changes[i]->header, sizeof(header));
        if (r->op == DISK_WRITE)
            put(p, r->data, r->length);
    }
    pending_drop(&set);
    fresh = false;
    in_flight = true;
    cut_number = list.last_number;
    memcpy(cut, believed, sizeof(cut));
}

static void commit_epoch(void)
{
    add_payload()->commit = true;
    memcpy(committed, cut, sizeof(cut));
    in_flight = false;
    while (released < cut_number)
        CU_ASSERT_PTR_NOT_NULL_FATAL(pending_release(&list, ++released));
}

/* The link is lost, and another one begins: its first epoch tells all that is pending, and counts
 * when it has committed. Until then nobody can be promoted. */
static void begin_link(void)
{
    while (history_count)
        free(history[--history_count]);
    pending_tell_again(&list);
    fresh = true;
    in_flight = false;
}

/* ---- the medium ---- */

static void begin_one(void)
{
    struct pending_change *c = begun_count < BEGUN ? pending_next(&list) : NULL;
    if (!c)
        return;
    pending_begin(c);
    begun[begun_count++] = c;
}

static void end_one(void)
{
    if (!begun_count)
        return;
    const unsigned which = dice(begun_count);
    struct pending_change *c = begun[which];
    begun[which] = begun[--begun_count];
    const bool fails = c->record.op != DISK_FLUSH && dice(5) == 0;
    if (c->record.op != DISK_FLUSH)
        write_bytes(image, &c->record, fails ? dice(8) : SECTORS);
    if (fails)
        pending_failed(c);
    else
        pending_done(&list, c);
}

/* ---- the crash ---- */

static void check_promoted(const contents found)
{
    struct memory_disk disks[DISKS];
    struct disk_volume *volumes[DISKS] = {NULL};
    struct disk_retained *retained = NULL;
    for (unsigned i = 0; i < DISKS; i++) {
        memory_disk_init(&disks[i], SIZE);
        memcpy(disks[i].bytes, found[i], SIZE);
        const struct disk_volume_config config = {.image = memory_disk_image(&disks[i]),
                                                  .index = i};
        CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &volumes[i], NULL), 0);
    }
    const struct disk_retained_config config = {.volumes = volumes, .count = DISKS, .cap = 1 << 20};
    CU_ASSERT_EQUAL_FATAL(disk_retained_create(&config, &retained, NULL), 0);
    for (unsigned i = 0; i < history_count; i++)
        if (history[i]->commit)
            disk_retained_commit(retained);
        else
            CU_ASSERT_EQUAL(
                disk_retained_stage(retained, history[i]->bytes, history[i]->size, NULL), 0);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), 0);
    for (unsigned i = 0; i < DISKS; i++)
        CU_ASSERT_EQUAL_FATAL(memcmp(disks[i].bytes, committed[i], SIZE), 0);
    disk_retained_destroy(&retained);
    for (unsigned i = 0; i < DISKS; i++) {
        disk_volume_destroy(&volumes[i]);
        memory_disk_free(&disks[i]);
    }
}

static void crash(void)
{
    contents found;
    memcpy(found, image, sizeof(found));
    for (unsigned i = 0; i < begun_count; i++)
        if (begun[i]->record.op != DISK_FLUSH)
            write_bytes(found, &begun[i]->record, dice(8));
    check_promoted((const uint8_t(*)[SIZE])found);
}

static bool link_has_committed(void)
{
    for (unsigned i = 0; i < history_count; i++)
        if (history[i]->commit)
            return true;
    return false;
}

static void step(void)
{
    switch (dice(10)) {
    case 0:
        if (!in_flight)
            cut_epoch();
        break;
    case 1:
        if (in_flight)
            commit_epoch();
        break;
    case 2:
    case 3:
        begin_one();
        break;
    case 4:
    case 5:
        end_one();
        break;
    case 6:
        if (dice(12) == 0)
            begin_link();
        break;
    default:
        guest_changes();
        break;
    }
    guest_reads();
    if (link_has_committed())
        crash();
}

static void a_crash_at_every_point_leaves_the_committed_state(void)
{
    unsigned most = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        seed = round + 1;
        pending_init(&list);
        memset(image, 0, sizeof(image));
        memset(believed, 0, sizeof(believed));
        cut_number = released = 0;
        begin_link();
        for (unsigned i = 0; i < STEPS; i++) {
            step();
            most = begun_count > most ? begun_count : most;
        }
        while (begun_count)
            pending_failed(begun[--begun_count]);
        pending_clear(&list);
    }
    CU_ASSERT(most > 2); /* several were under way at once */
    begin_link();
}

/* ---- the order of the image ---- */

static struct pending_change *add(enum disk_op op, unsigned sector)
{
    const struct disk_record r = {.op = op,
                                  .offset = op == DISK_FLUSH ? 0 : sector * DISK_SECTOR,
                                  .length = op == DISK_FLUSH ? 0 : DISK_SECTOR,
                                  .data = op == DISK_WRITE ? calloc(1, DISK_SECTOR) : NULL};
    return pending_add(&list, &r);
}

static void release_all(void)
{
    for (uint64_t i = 1; i <= list.last_number; i++)
        pending_release(&list, i);
}

static struct pending_change *begin_next(void)
{
    struct pending_change *c = pending_next(&list);
    if (c)
        pending_begin(c);
    return c;
}

static void what_overlaps_goes_in_turn_and_a_flush_parts(void)
{
    pending_init(&list);
    struct pending_change *a = add(DISK_WRITE, 1), *b = add(DISK_WRITE, 2), *c = add(DISK_WRITE, 1);
    struct pending_change *flush = add(DISK_FLUSH, 0), *d = add(DISK_DISCARD, 5);
    CU_ASSERT_PTR_NULL(pending_next(&list));
    pending_release(&list, 2);
    CU_ASSERT_PTR_NULL(pending_next(&list)); /* not before the first */
    release_all();
    CU_ASSERT_PTR_EQUAL(begin_next(), a);
    CU_ASSERT_PTR_EQUAL(begin_next(), b);
    CU_ASSERT_PTR_NULL(begin_next());
    pending_done(&list, b);
    CU_ASSERT_EQUAL(list.retired, 0);
    CU_ASSERT_EQUAL(pending_count(&list, 0), 5);
    CU_ASSERT_PTR_NULL(begin_next());
    pending_done(&list, a);
    CU_ASSERT_EQUAL(list.retired, 2);
    CU_ASSERT_PTR_EQUAL(begin_next(), c);
    CU_ASSERT_PTR_NULL(begin_next());
    pending_done(&list, c);
    CU_ASSERT_PTR_EQUAL(begin_next(), flush);
    CU_ASSERT_PTR_NULL(begin_next());
    pending_done(&list, flush);
    CU_ASSERT_TRUE(pending_is_moving(&list));
    CU_ASSERT_PTR_EQUAL(begin_next(), d);
    pending_failed(d);
    CU_ASSERT_PTR_EQUAL(begin_next(), d);
    pending_done(&list, d);
    CU_ASSERT_FALSE(pending_is_moving(&list));
    CU_ASSERT_EQUAL(list.cost, 0);
    CU_ASSERT_EQUAL(list.retired, list.last_number);
}

static void a_withdrawn_change_was_never_there(void)
{
    pending_init(&list);
    add(DISK_WRITE, 1);
    struct pending_change *b = add(DISK_WRITE, 1), *c = add(DISK_WRITE, 3);
    release_all();
    pending_withdraw(&list, b);
    pending_withdraw(&list, c);
    CU_ASSERT_EQUAL(list.cost, PENDING_COST + DISK_SECTOR);
    CU_ASSERT_EQUAL(list.untold_cost, list.cost);
    add(DISK_WRITE, 4);
    CU_ASSERT_EQUAL(pending_count(&list, 0), 2);
    struct pending_set set;
    pending_take(&list, &set);
    CU_ASSERT_EQUAL(set.count, 2);
    CU_ASSERT_EQUAL(list.untold_cost, 0);
    pending_clear(&list);
    CU_ASSERT_EQUAL(set.changes[1]->number, 4); /* kept by the set */
    pending_drop(&set);
}

/* ---- what the standby takes ---- */

static struct memory_disk disk;
static struct disk_volume *volume;
static struct disk_retained *retained;

static void start(size_t cap)
{
    struct disk_volume *volumes[2] = {NULL};
    memory_disk_init(&disk, SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&disk), .index = 1};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &volume, NULL), 0);
    volumes[1] = volume;
    const struct disk_retained_config taking = {.volumes = volumes, .count = 2, .cap = cap};
    CU_ASSERT_EQUAL_FATAL(disk_retained_create(&taking, &retained, NULL), 0);
}

static void stop(void)
{
    disk_retained_destroy(&retained);
    disk_volume_destroy(&volume);
    memory_disk_free(&disk);
}

static size_t make(struct disk_mark mark, unsigned records, uint8_t fill, uint8_t *out)
{
    size_t size = DISK_RECORD_HEADER_SIZE;
    disk_mark_encode(&mark, out);
    for (unsigned i = 0; i < records; i++) {
        uint8_t data[DISK_SECTOR];
        const struct disk_record r = {.op = DISK_WRITE,
                                      .disk = 1,
                                      .offset = i * DISK_SECTOR,
                                      .length = DISK_SECTOR,
                                      .data = data};
        disk_record_encode(&r, out + size);
        memset(out + size + DISK_RECORD_HEADER_SIZE, fill, DISK_SECTOR);
        size += disk_record_size(&r);
    }
    return size;
}

static int stage(struct disk_mark mark, unsigned records, uint8_t fill)
{
    uint8_t bytes[8192];
    struct error err = {0};
    return disk_retained_stage(retained, bytes, make(mark, records, fill, bytes), &err);
}

static uint64_t retained_bytes(void)
{
    struct disk_retained_stats stats;
    disk_retained_snapshot(retained, &stats);
    return stats.retained_bytes;
}

static void a_mark_frees_what_is_in_the_image(void)
{
    start(1 << 20);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 5, 4}, 2, 1), 0);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 7, 4}, 1, 2), 0);
    CU_ASSERT_EQUAL(retained_bytes(), 0);
    disk_retained_commit(retained);
    const uint64_t three = retained_bytes();
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 8, 5}, 0, 0), 0);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(retained_bytes(), three); /* one of a payload isn't there yet */
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 8, 6}, 0, 0), 0);
    disk_retained_drop(retained);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(retained_bytes(), three);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 8, 6}, 1, 3), 0);
    disk_retained_commit(retained);
    CU_ASSERT(retained_bytes() < three);
    CU_ASSERT_EQUAL(disk.done, 0);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), 0);
    CU_ASSERT_EQUAL(disk.bytes[0], 3);
    CU_ASSERT_EQUAL(disk.bytes[DISK_SECTOR], 0); /* that one was the primary's to write */
    CU_ASSERT_EQUAL(retained_bytes(), 0);
    stop();
}

static void another_link_begins_anew(void)
{
    start(1 << 20);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 100, 0}, 4, 1), 0);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 103, 0}, 1, 2), -EBADMSG);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 1, 0}, 1, 2), 0); /* another primary */
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), 0);
    CU_ASSERT(disk.bytes[0] == 2 && disk.bytes[DISK_SECTOR] == 0);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 2, 0}, 1, 3), 0);
    disk_retained_commit(retained);
    disk_retained_forget(retained); /* this host was outrun, and must not be promoted */
    CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), -ENODATA);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 8, 7}, 1, 4), 0);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), 0);
    CU_ASSERT_EQUAL(disk.bytes[0], 4);
    stop();
}

static void what_outgrows_the_memory_is_refused(void)
{
    start(4096);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 1, 0}, 4, 1), 0);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 5, 0}, 4, 1), -ENOBUFS);
    CU_ASSERT_EQUAL(stage((struct disk_mark){false, 5, 0}, 3, 1), 0);
    disk_retained_drop(retained);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 5, 4}, 6, 1), 0); /* in place of the others */
    stop();
}

static void an_image_that_fails_is_told_and_may_be_tried_again(void)
{
    struct error err = {0};
    start(1 << 20);
    CU_ASSERT_EQUAL(stage((struct disk_mark){true, 1, 0}, 4, 7), 0);
    disk_retained_commit(retained);
    memory_disk_fail(&disk, 2 * DISK_SECTOR, 3 * DISK_SECTOR, -ENOSPC);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, &err), -ENOSPC);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "disk 1: 512 bytes at 1024"));
    memory_disk_fail(&disk, 0, 0, 0);
    CU_ASSERT_EQUAL(disk_retained_finish(retained, &err), 0);
    CU_ASSERT_EQUAL(disk.bytes[3 * DISK_SECTOR], 7);
    stop();
}

static void what_is_malformed_is_refused(void)
{
    uint8_t bytes[8192], broken[8192];
    struct error err = {0};
    start(1 << 20);
    const size_t size = make((struct disk_mark){true, 9, 3}, 2, 1, bytes);
    for (size_t i = 0; i < size; i++) {
        const bool whole =
            i >= DISK_RECORD_HEADER_SIZE &&
            (i - DISK_RECORD_HEADER_SIZE) % (DISK_RECORD_HEADER_SIZE + DISK_SECTOR) == 0;
        CU_ASSERT_EQUAL(disk_retained_stage(retained, bytes, i, &err), whole ? 0 : -EBADMSG);
    }
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 4}, {0, 6},     {1, 2},  {2, 1},  {7, 1},
               {8, 3}, {15, 0x80}, {16, 9}, {24, 5}, {26, 0}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        memcpy(broken, bytes, size);
        broken[bad[i].at] = bad[i].value;
        CU_ASSERT_EQUAL(disk_retained_stage(retained, broken, size, &err), -EBADMSG);
    }
    static const uint8_t golden[DISK_RECORD_HEADER_SIZE] = {5, 1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0,
                                                            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0};
    CU_ASSERT_EQUAL(memcmp(bytes, golden, sizeof(golden)), 0);
    stop();
}

static const struct test_case cases[] = {
    {"a crash at every point leaves the committed state",
     a_crash_at_every_point_leaves_the_committed_state},
    {"what overlaps goes in turn, and a flush parts", what_overlaps_goes_in_turn_and_a_flush_parts},
    {"a withdrawn change was never there", a_withdrawn_change_was_never_there},
    {"a mark frees what is in the image", a_mark_frees_what_is_in_the_image},
    {"another link begins anew", another_link_begins_anew},
    {"what outgrows the memory is refused", what_outgrows_the_memory_is_refused},
    {"an image that fails is told, and may be tried again",
     an_image_that_fails_is_told_and_may_be_tried_again},
    {"what is malformed is refused", what_is_malformed_is_refused},
};

TEST_MAIN("pending changes", cases)
