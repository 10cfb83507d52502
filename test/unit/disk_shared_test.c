/* The shared mode: nothing of an epoch reaches the image before it is let out, and what reads and
 * flushes may see meanwhile. The outbox that holds is a list of tickets here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/mode_shared.h"
#include "disk/store.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"

#define SIZE (1u << 20)

static struct memory_disk disk;
static struct disk_volume *v;
static struct disk_shared *mode;
static unsigned failures;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t tickets[64];
static unsigned held;
static struct disk_request *order[64];
static unsigned ended;

static void on_failed(void *context, unsigned index, const char *text)
{
    (void)context, (void)index, (void)text;
    failures++;
}

static void on_hold(void *context, uint64_t ticket)
{
    (void)context;
    pthread_mutex_lock(&lock);
    tickets[held++ % ARRAY_SIZE(tickets)] = ticket;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* A guest that runs alone: all goes through at once. */
static void on_open(void *context, uint64_t ticket)
{
    (void)context;
    disk_shared_release(mode, ticket);
}

static void start(void)
{
    held = ended = failures = 0;
    memory_disk_init(&disk, SIZE);
    const struct disk_volume_config config = {
        .image = memory_disk_image(&disk), .index = 1, .failed = on_failed};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &v, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(disk_shared_create(&mode, NULL), 0);
    disk_volume_set_mode(v, &disk_mode_shared_ops, mode);
    disk_shared_begin(mode, on_hold, NULL);
}

static void stop(void)
{
    for (unsigned i = 0; i < ended; i++) {
        free(order[i]->io.data);
        free(order[i]);
    }
    disk_shared_end(mode);
    disk_volume_destroy(&v);
    disk_shared_destroy(&mode);
    memory_disk_free(&disk);
}

static void on_done(struct disk_request *r)
{
    pthread_mutex_lock(&lock);
    order[ended++] = r;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static struct disk_request *submit(enum disk_op op, uint64_t offset, uint64_t size, int fill)
{
    struct disk_request *r = calloc(1, sizeof(*r));
    r->io = (struct disk_io){.op = op, .offset = offset, .size = size};
    r->done = on_done;
    if (op == DISK_WRITE || op == DISK_READ) {
        r->io.data = malloc(size);
        memset(r->io.data, fill, size);
    }
    disk_volume_submit(v, r);
    return r;
}

static void wait_for(const unsigned *counter, unsigned count)
{
    pthread_mutex_lock(&lock);
    while (*counter < count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static unsigned count_ended(void)
{
    pthread_mutex_lock(&lock);
    const unsigned count = ended;
    pthread_mutex_unlock(&lock);
    return count;
}

static void a_change_waits_until_it_is_let_out(void)
{
    start();
    struct disk_request *w = submit(DISK_WRITE, 0, 512, 7);
    submit(DISK_WRITE_ZEROES, 4096, 4096, 0);
    submit(DISK_DISCARD, 65536, 4096, 0);
    CU_ASSERT_EQUAL(held, 3);
    CU_ASSERT_EQUAL(disk_shared_held(mode, v), 3);
    CU_ASSERT_EQUAL(disk.done, 0);
    CU_ASSERT_TRUE(disk_shared_is_quiet(mode));
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 1);
    CU_ASSERT_PTR_EQUAL(order[0], w);
    CU_ASSERT_EQUAL(w->io.result, 0);
    CU_ASSERT_EQUAL(disk.bytes[0], 7);
    CU_ASSERT_EQUAL(disk_shared_held(mode, v), 2);
    disk_shared_release(mode, tickets[0]); /* nobody's any more */
    disk_shared_release(mode, 12345);
    CU_ASSERT_EQUAL(disk.done, 1);
    disk_shared_release(mode, tickets[2]);
    disk_shared_release(mode, tickets[1]);
    wait_for(&ended, 3);
    CU_ASSERT_EQUAL(disk_shared_held(mode, v), 0);
    CU_ASSERT_STRING_EQUAL(disk_volume_mode_name(v), "shared");
    stop();
}

static void zeroes_are_durable_before_the_guest_learns_of_them(void)
{
    start();
    submit(DISK_WRITE_ZEROES, 0, 4096, 0);
    submit(DISK_DISCARD, 8192, 4096, 0);
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 1);
    CU_ASSERT_EQUAL(disk.flushes, 1);
    disk_shared_release(mode, tickets[1]);
    wait_for(&ended, 2);
    CU_ASSERT_EQUAL(disk.flushes, 2);
    disk.no_holes = true; /* by hand, and then durable */
    submit(DISK_DISCARD, 8192, 4096, 0);
    disk_shared_release(mode, tickets[2]);
    wait_for(&ended, 3);
    CU_ASSERT_EQUAL(disk.flushes, 3);
    memory_disk_fail_flush(&disk, -EIO);
    struct disk_request *bad = submit(DISK_DISCARD, 8192, 4096, 0);
    disk_shared_release(mode, tickets[3]);
    wait_for(&ended, 4);
    CU_ASSERT_EQUAL(bad->io.result, -EIO);
    stop();
}

static void a_read_waits_for_a_held_write_of_the_same_bytes(void)
{
    start();
    submit(DISK_WRITE, 4096, 1024, 7);
    struct disk_request *read = submit(DISK_READ, 4608, 1024, 0);
    struct disk_request *other = submit(DISK_READ, 8192, 512, 1);
    wait_for(&ended, 1);
    CU_ASSERT_PTR_EQUAL(order[0], other);
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 3);
    CU_ASSERT_EQUAL(read->io.data[0], 7);
    CU_ASSERT_EQUAL(read->io.data[512], 0);
    stop();
}

static void writes_of_the_same_bytes_are_held_one_after_the_other(void)
{
    start();
    submit(DISK_WRITE, 0, 512, 1);
    submit(DISK_WRITE, 0, 512, 2);
    CU_ASSERT_EQUAL(held, 1); /* the second is not even asked for */
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 1);
    CU_ASSERT_EQUAL(disk.bytes[0], 1);
    wait_for(&held, 2);
    disk_shared_release(mode, tickets[1]);
    wait_for(&ended, 2);
    CU_ASSERT_EQUAL(disk.bytes[0], 2);
    stop();
}

static void a_flush_waits_for_the_changes_before_it_and_for_no_other(void)
{
    start();
    submit(DISK_FLUSH, 0, 0, 0);
    wait_for(&ended, 1); /* nothing before it: nobody is asked */
    CU_ASSERT_EQUAL(held, 0);
    submit(DISK_WRITE, 0, 512, 1);
    submit(DISK_WRITE, 4096, 512, 2);
    struct disk_request *flush = submit(DISK_FLUSH, 0, 0, 0);
    submit(DISK_WRITE, 8192, 512, 3);
    disk_shared_release(mode, tickets[1]);
    wait_for(&ended, 2);
    CU_ASSERT_EQUAL(disk.flushes, 1);
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 4);
    CU_ASSERT_EQUAL(disk.flushes, 2);
    CU_ASSERT_TRUE(order[2] == flush || order[3] == flush);
    CU_ASSERT_EQUAL(disk_shared_held(mode, v), 1);
    disk_shared_release(mode, tickets[2]);
    wait_for(&ended, 5);
    stop();
}

static void it_is_quiet_when_what_was_let_out_has_ended(void)
{
    start();
    submit(DISK_WRITE, 0, 512, 1);
    memory_disk_hold(&disk, true);
    disk_shared_release(mode, tickets[0]);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 1));
    CU_ASSERT_FALSE(disk_shared_is_quiet(mode));
    CU_ASSERT_EQUAL(disk_shared_held(mode, v), 0);
    CU_ASSERT_EQUAL(disk_shared_writing(mode, v), 1);
    memory_disk_hold(&disk, false);
    wait_for(&ended, 1);
    CU_ASSERT_TRUE(disk_shared_is_quiet(mode));
    CU_ASSERT_EQUAL(disk_shared_writing(mode, v), 0);
    stop();
}

/* A host that lost the guest, or gave it away: what is held is never carried out, also not what
 * waited behind it, and it is no error of the image. */
static void what_is_held_when_the_guest_is_gone_is_given_up(void)
{
    start();
    struct disk_request *first = submit(DISK_WRITE, 0, 512, 1);
    struct disk_request *second = submit(DISK_WRITE, 0, 512, 2);
    struct disk_request *read = submit(DISK_READ, 0, 512, 9);
    struct disk_request *flush = submit(DISK_FLUSH, 0, 0, 0);
    disk_shared_end(mode);
    CU_ASSERT_EQUAL(first->io.result, -ECANCELED);
    CU_ASSERT_EQUAL(second->io.result, -ECANCELED);
    wait_for(&ended, 4);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    CU_ASSERT_EQUAL(read->io.data[0], 0);
    CU_ASSERT_EQUAL(flush->io.result, 0);
    struct disk_volume_stats stats;
    disk_volume_snapshot(v, &stats);
    CU_ASSERT(stats.write_errors == 0 && stats.writes == 0 && failures == 0);
    CU_ASSERT_STRING_EQUAL(stats.last_error, "");
    disk_shared_release(mode, tickets[0]); /* late */
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    /* The guest's ring has more of them, which a device finds when it is taken apart. */
    const unsigned told = held;
    struct disk_request *late = submit(DISK_WRITE, 0, 512, 4);
    CU_ASSERT_EQUAL(count_ended(), 5);
    CU_ASSERT_EQUAL(late->io.result, -ECANCELED);
    CU_ASSERT(held == told && disk.bytes[0] == 0);
    /* The guest comes back. */
    disk_shared_begin(mode, on_hold, NULL);
    submit(DISK_WRITE, 0, 512, 3);
    disk_shared_release(mode, tickets[held - 1]);
    wait_for(&ended, 6);
    CU_ASSERT_EQUAL(disk.bytes[0], 3);
    stop();
}

static void alone_a_write_goes_through_at_once(void)
{
    start();
    disk_shared_end(mode);
    disk_shared_begin(mode, on_open, NULL);
    for (unsigned i = 0; i < 10; i++)
        submit(DISK_WRITE, 0, 512, (int)i);
    wait_for(&ended, 10);
    CU_ASSERT_EQUAL(disk.bytes[0], 9);
    stop();
}

static void an_error_of_the_image_is_the_guests(void)
{
    start();
    memory_disk_fail(&disk, 0, 512, -ENOSPC);
    struct disk_request *bad = submit(DISK_WRITE, 0, 512, 1);
    disk_shared_release(mode, tickets[0]);
    wait_for(&ended, 1);
    CU_ASSERT_EQUAL(bad->io.result, -ENOSPC);
    CU_ASSERT_EQUAL(failures, 1);
    CU_ASSERT_TRUE(disk_shared_is_quiet(mode));
    stop();
}

/* Several disks of a machine: one is shared, one is not. */
static void a_store_holds_its_shared_disks_only(void)
{
    struct memory_disk one, two;
    memory_disk_init(&one, SIZE);
    memory_disk_init(&two, SIZE);
    const struct disk_store_config config = {
        .count = 2,
        .disks = {{.image = memory_disk_image(&one), .protection = DISK_SHARED},
                  {.image = memory_disk_image(&two), .protection = DISK_PLAIN}}};
    struct disk_store *store = NULL;
    held = ended = 0;
    CU_ASSERT_EQUAL_FATAL(disk_store_open(&config, &store, NULL), 0);
    CU_ASSERT_FALSE(disk_store_travels(store));
    disk_store_hold(store, on_hold, NULL);
    v = disk_store_volume(store, 1);
    submit(DISK_WRITE, 0, 512, 1);
    wait_for(&ended, 1);
    v = disk_store_volume(store, 0);
    submit(DISK_WRITE, 0, 512, 1);
    CU_ASSERT_EQUAL(count_ended(), 1);
    CU_ASSERT_EQUAL(disk_store_held(store, 0), 1);
    CU_ASSERT_EQUAL(disk_store_held(store, 1), 0);
    disk_store_emit(store, tickets[0]);
    wait_for(&ended, 2);
    CU_ASSERT_TRUE(disk_store_is_quiet(store));
    submit(DISK_WRITE, 0, 512, 2);
    disk_store_close(&store); /* gives it up */
    CU_ASSERT_EQUAL(one.bytes[0], 1);
    for (unsigned i = 0; i < ended; i++) {
        free(order[i]->io.data);
        free(order[i]);
    }
    memory_disk_free(&one);
    memory_disk_free(&two);
}

static const struct test_case cases[] = {
    {"a change waits until it is let out", a_change_waits_until_it_is_let_out},
    {"zeroes are durable before the guest learns of them",
     zeroes_are_durable_before_the_guest_learns_of_them},
    {"a read waits for a held write of the same bytes",
     a_read_waits_for_a_held_write_of_the_same_bytes},
    {"writes of the same bytes are held one after the other",
     writes_of_the_same_bytes_are_held_one_after_the_other},
    {"a flush waits for the changes before it and for no other",
     a_flush_waits_for_the_changes_before_it_and_for_no_other},
    {"it is quiet when what was let out has ended", it_is_quiet_when_what_was_let_out_has_ended},
    {"what is held when the guest is gone is given up",
     what_is_held_when_the_guest_is_gone_is_given_up},
    {"alone a write goes through at once", alone_a_write_goes_through_at_once},
    {"an error of the image is the guest's", an_error_of_the_image_is_the_guests},
    {"a store holds its shared disks only", a_store_holds_its_shared_disks_only},
};

TEST_MAIN("shared disks", cases)
