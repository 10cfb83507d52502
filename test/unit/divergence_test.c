/* The divergence map: blocks that differ are marked, whatever crashes when and whatever happens to
 * the file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "disk/divergence.h"
#include "test/support/runner.h"

#define DISK_SIZE  (300 * BLOCK_SIZE) /* five extents */
#define FILE_MAX   (16u << 10)
#define ACTION_MAX 256

/* ---- a file that remembers every step ---- */

enum action_kind { ACTION_WRITE, ACTION_SYNC, ACTION_IMAGE, ACTION_EQUAL };

/* What happened, in order: to the file, to the image, and to the other side's point. */
struct action {
    enum action_kind kind;
    uint64_t offset; /* or the block of the image */
    size_t size;
    uint8_t bytes[4096];
    uint64_t point; /* EQUAL: the other side's from now on, beside the one before */
};

struct fake {
    uint8_t bytes[FILE_MAX];
    bool removed;
    int write_error;
    int remove_error;
    unsigned syncs;
    struct action *actions; /* NULL: not recorded */
    size_t action_count;
};

static void record(struct fake *f, const struct action *action)
{
    if (!f->actions)
        return;
    if (f->action_count == ACTION_MAX)
        abort();
    f->actions[f->action_count++] = *action;
}

static int fake_read(void *io, uint64_t offset, uint8_t *bytes, size_t size)
{
    const struct fake *f = io;
    if (offset + size > FILE_MAX)
        return -EIO;
    memcpy(bytes, f->bytes + offset, size);
    return 0;
}

static int fake_write(void *io, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct fake *f = io;
    if (f->write_error)
        return f->write_error;
    if (offset + size > FILE_MAX)
        return -EIO;
    memcpy(f->bytes + offset, bytes, size);
    struct action a = {.kind = ACTION_WRITE, .offset = offset, .size = size};
    memcpy(a.bytes, bytes, size);
    record(f, &a);
    return 0;
}

static int fake_sync(void *io)
{
    struct fake *f = io;
    f->syncs++;
    record(f, &(struct action){.kind = ACTION_SYNC});
    return 0;
}

static int fake_reserve(void *io, uint64_t size)
{
    (void)io;
    return size > FILE_MAX ? -ENOSPC : 0;
}

static int fake_remove(void *io)
{
    struct fake *f = io;
    if (f->remove_error)
        return f->remove_error;
    f->removed = true;
    memset(f->bytes, 0, sizeof(f->bytes));
    return 0;
}

static void fake_close(void *io)
{
    (void)io;
}

static const struct divergence_io_ops fake_ops = {.read = fake_read,
                                                  .write = fake_write,
                                                  .sync = fake_sync,
                                                  .reserve = fake_reserve,
                                                  .remove = fake_remove,
                                                  .close = fake_close};

static const struct image_stamp stamp = {.inode = 17, .modified_s = 100, .modified_ns = 5};

static struct divergence *open_as(struct fake *f, const struct image_stamp *found)
{
    const struct divergence_config config = {.vm = "web",
                                             .index = 0,
                                             .size = DISK_SIZE,
                                             .stamp = *found,
                                             .io = {.ops = &fake_ops, .context = f}};
    struct divergence *d;
    CU_ASSERT_EQUAL_FATAL(divergence_open(&config, &d, NULL), 0);
    return d;
}

static struct divergence *open_map(struct fake *f)
{
    return open_as(f, &stamp);
}

static void write_block(struct divergence *d, uint64_t block)
{
    if (!divergence_write_begin(d, block * BLOCK_SIZE, 512))
        CU_ASSERT_EQUAL(divergence_wait(d, block * BLOCK_SIZE, 512), 0);
}

static bool is_marked(struct divergence *d, uint64_t block)
{
    struct block_map map;
    CU_ASSERT_EQUAL_FATAL(block_map_init(&map, DISK_SIZE / BLOCK_SIZE), 0);
    divergence_marks(d, &map);
    const bool marked = block_map_has(&map, block);
    block_map_free(&map);
    return marked;
}

static struct divergence_status status_of(struct divergence *d)
{
    struct divergence_status s;
    divergence_snapshot(d, &s);
    return s;
}

static enum pairing meet(struct divergence *primary, struct divergence *secondary)
{
    struct lineage p;
    struct lineage s;
    const struct pairing_side a = divergence_side(primary, &p);
    const struct pairing_side b = divergence_side(secondary, &s);
    return pairing_decide(&a, &b, NULL);
}

/* Both in step, with nothing marked. */
static void pair_up(struct divergence *p, struct divergence *s)
{
    struct lineage told;
    divergence_own(p, 1);
    CU_ASSERT_EQUAL(divergence_source(p, NULL, &told, NULL), 0);
    CU_ASSERT_EQUAL(divergence_target(s, &told, NULL), 0);
    divergence_round_begin(p);
    CU_ASSERT_EQUAL(divergence_round_end(p, told.next_point, NULL), 0);
    CU_ASSERT_EQUAL(divergence_in_step(s, 1, NULL), 0);
}

/* ---- tests ---- */

static void what_is_written_is_marked_before_and_after_a_crash(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    CU_ASSERT_FALSE(status_of(d).known);
    divergence_own(d, 1);
    CU_ASSERT_FALSE(divergence_write_begin(d, 70 * BLOCK_SIZE, 512));
    CU_ASSERT_EQUAL(divergence_wait(d, 70 * BLOCK_SIZE, 512), 0);
    CU_ASSERT_TRUE(status_of(d).known);
    CU_ASSERT_EQUAL(status_of(d).lineage.state, IMAGE_OWNER);
    CU_ASSERT_EQUAL(status_of(d).marked, 1);
    divergence_close(&d, NULL); /* as a crash leaves it */
    d = open_map(&f);
    CU_ASSERT_TRUE(status_of(d).known);
    CU_ASSERT_TRUE(status_of(d).trusted);
    CU_ASSERT_TRUE(is_marked(d, 70));
    CU_ASSERT_EQUAL(status_of(d).marked, DIVERGENCE_EXTENT_BLOCKS); /* its extent */
    divergence_close(&d, NULL);
}

static void only_the_first_write_to_an_extent_costs_a_sync(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 0);
    const unsigned before = f.syncs;
    for (uint64_t b = 1; b < DIVERGENCE_EXTENT_BLOCKS; b++)
        CU_ASSERT_TRUE(divergence_write_begin(d, b * BLOCK_SIZE, BLOCK_SIZE));
    CU_ASSERT_EQUAL(f.syncs, before);
    write_block(d, DIVERGENCE_EXTENT_BLOCKS);
    CU_ASSERT_EQUAL(f.syncs, before + 1);
    /* One write over the rest: still one. */
    const uint64_t at = 2 * DIVERGENCE_EXTENT_BLOCKS * BLOCK_SIZE;
    CU_ASSERT_FALSE(divergence_write_begin(d, at, DISK_SIZE - at));
    CU_ASSERT_EQUAL(divergence_wait(d, at, DISK_SIZE - at), 0);
    CU_ASSERT_EQUAL(f.syncs, before + 2);
    divergence_close(&d, NULL);
}

static void tidying_leaves_the_exact_marks(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 70);
    CU_ASSERT_EQUAL(divergence_tidy(d), 0);
    divergence_close(&d, NULL);
    d = open_map(&f);
    CU_ASSERT_EQUAL(status_of(d).marked, 1);
    CU_ASSERT_TRUE(is_marked(d, 70));
    /* The extent is cold again. */
    divergence_own(d, 1);
    CU_ASSERT_FALSE(divergence_write_begin(d, 71 * BLOCK_SIZE, 512));
    divergence_close(&d, NULL);
}

static void a_pair_counts_from_a_common_point(void)
{
    static struct fake fp;
    static struct fake fs;
    fp = fs = (struct fake){0};
    struct divergence *p = open_map(&fp);
    struct divergence *s = open_map(&fs);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_FULL);
    pair_up(p, s);
    CU_ASSERT_EQUAL(status_of(p).marked, 0);
    CU_ASSERT_EQUAL(status_of(s).lineage.state, IMAGE_FOLLOWER);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_MARKED);
    write_block(p, 5);
    /* The standby takes over and writes; the old primary comes back as its standby. */
    divergence_own(s, 2);
    write_block(s, 9);
    divergence_close(&p, NULL);
    p = open_map(&fp);
    CU_ASSERT_EQUAL(meet(s, p), PAIRING_MARKED);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_REFUSE_NEWER);
    CU_ASSERT_TRUE(is_marked(p, 5));
    CU_ASSERT_TRUE(is_marked(s, 9));
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
}

static void the_source_keeps_all_marks_until_the_round_ends(void)
{
    static struct fake fp;
    static struct fake fs;
    fp = fs = (struct fake){0};
    struct divergence *p = open_map(&fp);
    struct divergence *s = open_map(&fs);
    pair_up(p, s);
    struct block_map theirs;
    struct lineage told;
    CU_ASSERT_EQUAL_FATAL(block_map_init(&theirs, DISK_SIZE / BLOCK_SIZE), 0);
    block_map_set(&theirs, 200, 2);
    write_block(p, 5);
    CU_ASSERT_EQUAL(divergence_source(p, &theirs, &told, NULL), 0);
    CU_ASSERT_EQUAL(divergence_target(s, &told, NULL), 0);
    CU_ASSERT_EQUAL(divergence_round_begin(p), 3);
    write_block(p, 5);
    divergence_unmark(p, 5, 1);   /* written again since: stays */
    divergence_unmark(p, 200, 1); /* equal now */
    CU_ASSERT_TRUE(is_marked(p, 5));
    CU_ASSERT_FALSE(is_marked(p, 200));
    divergence_round_drop(p); /* the link was cut */
    CU_ASSERT_EQUAL(status_of(p).marked, 2);
    divergence_close(&p, NULL);
    p = open_map(&fp);
    CU_ASSERT_TRUE(is_marked(p, 201));
    CU_ASSERT_EQUAL(status_of(s).lineage.state, IMAGE_SYNCING);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_MARKED); /* it goes on where it was */
    block_map_free(&theirs);
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
}

static void a_standby_that_wrote_nothing_has_nothing_marked_after_a_crash(void)
{
    static struct fake fp;
    static struct fake fs;
    fp = fs = (struct fake){0};
    struct divergence *p = open_map(&fp);
    struct divergence *s = open_map(&fs);
    pair_up(p, s);
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
    p = open_map(&fp);
    s = open_map(&fs);
    CU_ASSERT_EQUAL(status_of(p).marked, 0);
    CU_ASSERT_EQUAL(status_of(s).marked, 0);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_MARKED);
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
}

static void an_older_copy_of_a_map_is_recognised(void)
{
    static struct fake fp;
    static struct fake fs;
    static struct fake old;
    fp = fs = (struct fake){0};
    struct divergence *p = open_map(&fp);
    struct divergence *s = open_map(&fs);
    pair_up(p, s);
    write_block(p, 5);
    old = fp;
    /* Two rounds later. */
    for (uint64_t point = 1001; point <= 1002; point++) {
        write_block(p, 6);
        divergence_round_begin(p);
        CU_ASSERT_EQUAL(divergence_points(s, status_of(p).lineage.point, point, NULL), 0);
        CU_ASSERT_EQUAL(meet(p, s), PAIRING_MARKED);
        CU_ASSERT_EQUAL(divergence_round_end(p, point, NULL), 0);
        CU_ASSERT_EQUAL(meet(p, s), PAIRING_MARKED);
    }
    divergence_close(&p, NULL);
    p = open_map(&old);
    CU_ASSERT_TRUE(status_of(p).trusted);
    CU_ASSERT_EQUAL(meet(p, s), PAIRING_FULL);
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
}

static void a_changed_or_replaced_image_is_noticed(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 1);
    divergence_close(&d, &stamp);
    d = open_map(&f);
    CU_ASSERT_TRUE(status_of(d).trusted);
    divergence_close(&d, &stamp);
    struct image_stamp touched = stamp;
    touched.modified_ns++;
    const struct fake saved = f;
    d = open_as(&f, &touched);
    CU_ASSERT_FALSE(status_of(d).trusted);
    divergence_close(&d, NULL);
    /* Still not, at the next start, when nothing of it is to be seen any more. */
    struct lineage now;
    d = open_as(&f, &touched);
    divergence_side(d, &now);
    struct lineage then;
    CU_ASSERT_EQUAL(lineage_decode(saved.bytes, LINEAGE_SIZE, &then, NULL), 0);
    CU_ASSERT_NOT_EQUAL(now.point, then.point);
    divergence_close(&d, NULL);
    struct image_stamp other = stamp;
    other.inode++;
    f = saved;
    d = open_as(&f, &other);
    CU_ASSERT_FALSE(status_of(d).trusted);
    divergence_close(&d, NULL);
    /* After a crash the time of the image tells nothing, and is not asked. */
    f = saved;
    d = open_map(&f);
    write_block(d, 1);
    divergence_close(&d, NULL);
    d = open_as(&f, &touched);
    CU_ASSERT_TRUE(status_of(d).trusted);
    divergence_close(&d, NULL);
}

static void the_map_of_another_disk_tells_nothing(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 1);
    divergence_close(&d, NULL);
    const struct divergence_config config = {.vm = "web",
                                             .index = 1,
                                             .size = DISK_SIZE,
                                             .stamp = stamp,
                                             .io = {.ops = &fake_ops, .context = &f}};
    CU_ASSERT_EQUAL_FATAL(divergence_open(&config, &d, NULL), 0);
    CU_ASSERT_FALSE(status_of(d).known);
    divergence_close(&d, NULL);
}

static void outdated_is_remembered_and_stays_until_in_step(void)
{
    static struct fake fp;
    static struct fake fs;
    fp = fs = (struct fake){0};
    struct divergence *p = open_map(&fp);
    struct divergence *s = open_map(&fs);
    pair_up(p, s);
    CU_ASSERT_EQUAL(divergence_outdate(s, 2, NULL), 0);
    divergence_close(&s, NULL);
    s = open_map(&fs);
    CU_ASSERT_EQUAL(status_of(s).lineage.state, IMAGE_OUTDATED);
    const struct divergence_status behind = status_of(s);
    CU_ASSERT_EQUAL(pairing_may_start(&behind.lineage, 9, "i", "m", NULL), -ESTALE);
    struct lineage told;
    CU_ASSERT_EQUAL(divergence_source(p, NULL, &told, NULL), 0);
    CU_ASSERT_EQUAL(divergence_target(s, &told, NULL), 0);
    CU_ASSERT_EQUAL(divergence_outdate(s, 3, NULL), 0); /* no better than it is */
    CU_ASSERT_EQUAL(status_of(s).lineage.state, IMAGE_SYNCING);
    CU_ASSERT_EQUAL(divergence_in_step(s, 2, NULL), 0);
    CU_ASSERT_EQUAL(status_of(s).lineage.state, IMAGE_FOLLOWER);
    divergence_close(&p, NULL);
    divergence_close(&s, NULL);
}

static void a_file_that_cannot_be_written_is_removed(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 1);
    f.write_error = -EIO;
    write_block(d, 100);
    CU_ASSERT_TRUE(f.removed);
    CU_ASSERT_TRUE(status_of(d).failed);
    CU_ASSERT_FALSE(status_of(d).trusted);
    CU_ASSERT_PTR_NOT_NULL(strstr(status_of(d).trouble, "can't be written"));
    CU_ASSERT_TRUE(divergence_write_begin(d, 200 * BLOCK_SIZE, 512)); /* goes on at full speed */
    divergence_close(&d, &stamp);
    d = open_map(&f);
    CU_ASSERT_FALSE(status_of(d).known);
    divergence_close(&d, NULL);
}

static void when_it_cannot_even_be_removed_writes_fail(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 1);
    f.write_error = -EIO;
    f.remove_error = -EROFS;
    CU_ASSERT_FALSE(divergence_write_begin(d, 100 * BLOCK_SIZE, 512));
    CU_ASSERT_EQUAL(divergence_wait(d, 100 * BLOCK_SIZE, 512), -EIO);
    divergence_close(&d, NULL);
}

/* ---- damage at every byte ---- */

static void check_damaged(const struct fake *damaged)
{
    static struct fake f;
    f = *damaged;
    struct divergence *d = open_map(&f);
    const struct divergence_status s = status_of(d);
    if (s.known && s.trusted && !(is_marked(d, 3) && is_marked(d, 250)))
        CU_FAIL("a damaged map was believed");
    divergence_close(&d, NULL);
}

static struct fake damaged_sample(void)
{
    static struct fake f;
    f = (struct fake){0};
    struct divergence *d = open_map(&f);
    divergence_own(d, 1);
    write_block(d, 3);
    write_block(d, 250);
    divergence_tidy(d);
    divergence_own(d, 2); /* a second header */
    write_block(d, 3);
    divergence_close(&d, NULL);
    return f;
}

static void a_byte_changed_anywhere_is_never_believed(void)
{
    const struct fake whole = damaged_sample();
    for (size_t i = 0; i < FILE_MAX; i++) {
        struct fake damaged = whole;
        damaged.bytes[i] ^= 0x81;
        check_damaged(&damaged);
    }
}

static void a_file_cut_anywhere_is_never_believed(void)
{
    const struct fake whole = damaged_sample();
    for (size_t i = 0; i < FILE_MAX; i++) {
        struct fake damaged = whole;
        memset(damaged.bytes + i, 0, FILE_MAX - i);
        check_damaged(&damaged);
    }
}

/* ---- a crash at every step ---- */

static void image_write(struct fake *f, struct divergence *d, uint64_t block)
{
    write_block(d, block);
    record(f, &(struct action){.kind = ACTION_IMAGE, .offset = block});
}

/* A round: the other side accepts `point`; then what was written before is equal. */
static void round_of(struct fake *f, struct divergence *d, uint64_t point, uint64_t meanwhile)
{
    divergence_round_begin(d);
    image_write(f, d, meanwhile);
    /* Blocks written since the round began still differ: said again after EQUAL. */
    record(f, &(struct action){.kind = ACTION_EQUAL, .point = point});
    record(f, &(struct action){.kind = ACTION_IMAGE, .offset = meanwhile});
    CU_ASSERT_EQUAL(divergence_round_end(d, point, NULL), 0);
}

static void play(struct fake *f)
{
    struct lineage told;
    struct divergence *d = open_map(f);
    divergence_own(d, 1);
    CU_ASSERT_EQUAL(divergence_source(d, NULL, &told, NULL), 0);
    divergence_round_begin(d);
    record(f, &(struct action){.kind = ACTION_EQUAL, .point = told.point});
    record(f, &(struct action){.kind = ACTION_EQUAL, .point = told.next_point});
    CU_ASSERT_EQUAL(divergence_round_end(d, told.next_point, NULL), 0);
    image_write(f, d, 1);
    image_write(f, d, 130);
    divergence_tidy(d);
    image_write(f, d, 2);
    round_of(f, d, 0x501, 131);
    image_write(f, d, 299);
    divergence_tidy(d);
    divergence_own(d, 2);
    image_write(f, d, 64);
    round_of(f, d, 0x502, 3);
    divergence_close(&d, &stamp);
    d = open_map(f);
    divergence_own(d, 3);
    image_write(f, d, 200);
    divergence_close(&d, NULL);
}

/* The file after a crash behind action `upto`: what was synced is there; of what was not, the
 * writes that `survive` names (one bit each), and of the last one `torn` bytes. */
static struct fake crash(const struct fake *played, size_t upto, unsigned survive, size_t torn)
{
    static struct fake f;
    f = (struct fake){0};
    size_t synced = 0;
    for (size_t i = 0; i < upto; i++)
        if (played->actions[i].kind == ACTION_SYNC)
            synced = i;
    unsigned unsynced = 0;
    for (size_t i = 0; i < upto; i++) {
        const struct action *a = &played->actions[i];
        if (a->kind != ACTION_WRITE)
            continue;
        if (i > synced && !(survive >> unsynced++ & 1))
            continue;
        const size_t size = i == upto - 1 && torn < a->size ? torn : a->size;
        memcpy(f.bytes + a->offset, a->bytes, size);
    }
    return f;
}

static void check_crash(const struct fake *played, size_t upto, unsigned survive, size_t torn)
{
    struct fake f = crash(played, upto, survive, torn);
    struct block_map differ;
    uint64_t points[2] = {0, 0};
    CU_ASSERT_EQUAL_FATAL(block_map_init(&differ, DISK_SIZE / BLOCK_SIZE), 0);
    block_map_fill(&differ); /* nothing is known to be equal at first */
    for (size_t i = 0; i < upto; i++) {
        const struct action *a = &played->actions[i];
        if (a->kind == ACTION_IMAGE)
            block_map_set(&differ, a->offset, 1);
        if (a->kind == ACTION_EQUAL) {
            points[0] = points[1];
            points[1] = a->point;
            if (points[0])
                block_map_empty(&differ);
        }
    }
    struct divergence *d = open_map(&f);
    const struct divergence_status s = status_of(d);
    const bool believed = s.known && s.trusted && s.lineage.point &&
                          (s.lineage.point == points[0] || s.lineage.point == points[1]);
    for (uint64_t b = 0; believed && b < differ.count; b++)
        if (block_map_has(&differ, b) && !is_marked(d, b)) {
            fprintf(stderr, "crash behind action %zu, %x, torn at %zu: block %llu\n", upto, survive,
                    torn, (unsigned long long)b);
            CU_FAIL("a block that differs is not marked");
            break;
        }
    divergence_close(&d, NULL);
    block_map_free(&differ);
}

static void a_crash_at_any_step_leaves_every_differing_block_marked(void)
{
    static struct fake f;
    static const size_t tears[] = {0, 1, 100, 511, 512, 2048, 4095, 4096};
    f = (struct fake){.actions = calloc(ACTION_MAX, sizeof(*f.actions))};
    CU_ASSERT_PTR_NOT_NULL_FATAL(f.actions);
    play(&f);
    CU_ASSERT_TRUE(f.action_count > 40);
    for (size_t upto = 0; upto <= f.action_count; upto++)
        for (unsigned survive = 0; survive < 8; survive++)
            for (size_t t = 0; t < ARRAY_SIZE(tears); t++)
                check_crash(&f, upto, survive, tears[t]);
    free(f.actions);
}

/* ---- a real file ---- */

static void a_real_file_keeps_a_map(void)
{
    char path[] = "/tmp/kemari-map-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    struct image_stamp found;
    CU_ASSERT_EQUAL(divergence_stamp(fd, &found), 0);
    CU_ASSERT_NOT_EQUAL(found.inode, 0);
    fd_close(&fd);
    unlink(path);
    struct divergence_config config = {
        .vm = "web", .index = 0, .size = (uint64_t)10 << 30, .stamp = stamp};
    struct divergence *d;
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(divergence_file_open(path, &config.io, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(divergence_open(&config, &d, NULL), 0);
        CU_ASSERT_EQUAL(status_of(d).known, i == 1);
        divergence_own(d, 1);
        write_block(d, 40000 + i);
        struct lineage told;
        CU_ASSERT_EQUAL(divergence_source(d, NULL, &told, NULL), 0);
        divergence_round_begin(d);
        CU_ASSERT_EQUAL(divergence_round_end(d, told.next_point, NULL), 0);
        write_block(d, 50000);
        divergence_close(&d, &stamp);
    }
    struct stat st;
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    CU_ASSERT_EQUAL_FATAL(divergence_file_open(path, &config.io, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(divergence_open(&config, &d, NULL), 0);
    CU_ASSERT_TRUE(status_of(d).trusted);
    CU_ASSERT_EQUAL(status_of(d).marked, 1);
    divergence_close(&d, NULL);
    unlink(path);
    CU_ASSERT_EQUAL(divergence_file_open("/nonexistent/x", &config.io, NULL), -ENOENT);
}

static const struct test_case cases[] = {
    {"what is written is marked before and after a crash",
     what_is_written_is_marked_before_and_after_a_crash},
    {"only the first write to an extent costs a sync",
     only_the_first_write_to_an_extent_costs_a_sync},
    {"tidying leaves the exact marks", tidying_leaves_the_exact_marks},
    {"a pair counts from a common point", a_pair_counts_from_a_common_point},
    {"the source keeps all marks until the round ends",
     the_source_keeps_all_marks_until_the_round_ends},
    {"a standby that wrote nothing has nothing marked after a crash",
     a_standby_that_wrote_nothing_has_nothing_marked_after_a_crash},
    {"an older copy of a map is recognised", an_older_copy_of_a_map_is_recognised},
    {"a changed or replaced image is noticed", a_changed_or_replaced_image_is_noticed},
    {"the map of another disk tells nothing", the_map_of_another_disk_tells_nothing},
    {"outdated is remembered and stays until in step",
     outdated_is_remembered_and_stays_until_in_step},
    {"a file that cannot be written is removed", a_file_that_cannot_be_written_is_removed},
    {"when it cannot even be removed writes fail", when_it_cannot_even_be_removed_writes_fail},
    {"a byte changed anywhere is never believed", a_byte_changed_anywhere_is_never_believed},
    {"a file cut anywhere is never believed", a_file_cut_anywhere_is_never_believed},
    {"a crash at any step leaves every differing block marked",
     a_crash_at_any_step_leaves_every_differing_block_marked},
    {"a real file keeps a map", a_real_file_keeps_a_map},
};

TEST_MAIN("divergence", cases)
