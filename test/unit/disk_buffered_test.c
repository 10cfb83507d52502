/* The buffered mode: what the guest is told at once, what it reads, when the image is written, and
 * what becomes of it with room, alone, with a failing image and at the end. The outbox that holds
 * is a list of tickets here, the standby another volume. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/mode_buffered.h"
#include "disk/pending.h"
#include "disk/retained.h"
#include "disk/store.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"

#define SIZE   (64u << 10)
#define SECTOR DISK_SECTOR
#define MANY   512

static struct memory_disk disk;
static struct disk_volume *v;
static struct disk_buffered *mode;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t tickets[MANY];
static unsigned held, let_out;
static bool alone; /* nothing is held any more */
static struct disk_request *order[MANY];
static unsigned submitted, ended, wakes, failures, recoveries;
static char failure[256];

/* A guest that runs alone: all goes through at once. */
static void on_open(void *context, uint64_t ticket)
{
    (void)context;
    disk_buffered_release(mode, ticket);
}

static void on_hold(void *context, uint64_t ticket)
{
    pthread_mutex_lock(&lock);
    const bool open = alone;
    if (!open)
        tickets[held++] = ticket;
    pthread_mutex_unlock(&lock);
    if (open)
        on_open(context, ticket);
}

static void on_wake(void *context)
{
    (void)context;
    wakes++;
}

static void on_failed(void *context, unsigned index, const char *text)
{
    (void)context;
    CU_ASSERT_EQUAL(index, 1);
    pthread_mutex_lock(&lock);
    failures += text != NULL;
    recoveries += !text;
    snprintf(failure, sizeof(failure), "%s", text ? text : "");
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void start_with(size_t cap, void (*hold)(void *, uint64_t))
{
    alone = false;
    held = let_out = submitted = ended = wakes = failures = recoveries = 0;
    memory_disk_init(&disk, SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&disk), .index = 1};
    const struct disk_buffered_config buffered = {.cap = cap, .wake = on_wake, .failed = on_failed};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &v, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(disk_buffered_create(&buffered, &mode, NULL), 0);
    disk_volume_set_mode(v, &disk_mode_buffered_ops, mode);
    disk_buffered_begin(mode, hold, NULL);
}

static void start(void)
{
    start_with(1 << 20, on_hold);
}

static void forget_requests(void)
{
    for (unsigned i = 0; i < ended; i++) {
        free(order[i]->io.data);
        free(order[i]);
    }
    ended = 0;
}

static void stop(void)
{
    disk_buffered_end(mode);
    disk_volume_destroy(&v);
    disk_buffered_destroy(&mode);
    memory_disk_free(&disk);
    forget_requests();
}

static void on_done(struct disk_request *r)
{
    pthread_mutex_lock(&lock);
    order[ended++] = r;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static struct disk_request *submit(enum disk_op op, unsigned sector, unsigned count, int fill)
{
    struct disk_request *r = calloc(1, sizeof(*r));
    r->io = (struct disk_io){
        .op = op, .offset = (uint64_t)sector * SECTOR, .size = (uint64_t)count * SECTOR};
    r->done = on_done;
    if (op == DISK_WRITE || op == DISK_READ) {
        r->io.data = malloc(count * SECTOR);
        memset(r->io.data, fill, count * SECTOR);
    }
    submitted++;
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

/* Up to a number of them. */
static void release(unsigned count)
{
    for (; let_out < count; let_out++) {
        pthread_mutex_lock(&lock);
        const uint64_t ticket = tickets[let_out];
        pthread_mutex_unlock(&lock);
        disk_buffered_release(mode, ticket);
    }
}

static unsigned count_held(void)
{
    pthread_mutex_lock(&lock);
    const unsigned count = held;
    pthread_mutex_unlock(&lock);
    return count;
}

static void release_all(void)
{
    while (let_out < count_held())
        release(count_held());
}

static void wait_quiet(void)
{
    while (!disk_buffered_is_quiet(mode))
        sched_yield();
}

/* Those that wait for room are left out: the caller knows how many there are. */
static uint8_t *read_among(unsigned waiting, unsigned sector, unsigned count)
{
    wait_for(&ended, submitted - waiting);
    struct disk_request *r = submit(DISK_READ, sector, count, 0xee);
    wait_for(&ended, submitted - waiting);
    CU_ASSERT_EQUAL(r->io.result, 0);
    return r->io.data;
}

static uint8_t *read_now(unsigned sector, unsigned count)
{
    return read_among(0, sector, count);
}

/* ---- protected ---- */

static void the_guest_goes_on_and_the_image_waits(void)
{
    start();
    memset(disk.bytes, 9, SIZE);
    submit(DISK_WRITE, 2, 4, 1);
    submit(DISK_WRITE, 3, 1, 2);
    submit(DISK_WRITE_ZEROES, 5, 2, 0);
    submit(DISK_DISCARD, 8, 1, 0);
    submit(DISK_FLUSH, 0, 0, 0);
    CU_ASSERT_EQUAL(count_ended(), 5);
    CU_ASSERT_EQUAL(disk.done, 0);
    CU_ASSERT_EQUAL(disk_buffered_held(mode, v), 5);
    CU_ASSERT_TRUE(disk_buffered_is_quiet(mode));
    static const uint8_t sees[] = {9, 9, 1, 2, 1, 0, 0, 9, 0, 9};
    const uint8_t *data = read_now(0, sizeof(sees));
    for (size_t i = 0; i < sizeof(sees); i++)
        CU_ASSERT(data[i * SECTOR] == sees[i] && data[i * SECTOR + SECTOR - 1] == sees[i]);
    data = read_now(4, 2); /* in the midst of some */
    CU_ASSERT(data[0] == 1 && data[SECTOR] == 0);
    CU_ASSERT_EQUAL(disk.bytes[2 * SECTOR], 9);
    release_all();
    wait_quiet();
    for (size_t i = 0; i < sizeof(sees); i++)
        CU_ASSERT_EQUAL(disk.bytes[i * SECTOR], sees[i]);
    CU_ASSERT_EQUAL(disk.flushes, 2); /* zeroes and the discard: a write is durable anyway */
    CU_ASSERT_EQUAL(disk_buffered_held(mode, v), 0);
    stop();
}

static void a_read_does_not_wait_for_what_is_under_way(void)
{
    start();
    memory_disk_hold(&disk, true);
    submit(DISK_WRITE, 0, 1, 1);
    CU_ASSERT_EQUAL(disk_buffered_writing(mode, v), 0);
    release_all();
    memory_disk_wait_busy(&disk, 1);
    submit(DISK_WRITE, 0, 1, 2);
    CU_ASSERT_EQUAL(count_ended(), 2);
    CU_ASSERT_FALSE(disk_buffered_is_quiet(mode));
    CU_ASSERT_EQUAL(disk_buffered_writing(mode, v), 1);
    CU_ASSERT_EQUAL(disk_buffered_held(mode, v), 2);
    memory_disk_hold(&disk, false);
    CU_ASSERT_EQUAL(read_now(0, 1)[0], 2);
    wait_quiet();
    CU_ASSERT_EQUAL(disk_buffered_writing(mode, v), 0);
    CU_ASSERT_EQUAL(disk.bytes[0], 1);
    CU_ASSERT_EQUAL(read_now(0, 1)[0], 2);
    stop();
}

static void a_read_error_is_the_guests(void)
{
    start();
    submit(DISK_WRITE, 0, 1, 2);
    memory_disk_fail(&disk, 0, SECTOR, -EIO);
    struct disk_request *r = submit(DISK_READ, 0, 1, 0);
    wait_for(&ended, 2);
    CU_ASSERT_EQUAL(r->io.result, -EIO);
    memory_disk_fail(&disk, 0, 0, 0);
    stop();
}

/* ---- room ---- */

#define COST (PENDING_COST + SECTOR)

static void who_finds_no_room_waits_and_wakes(void)
{
    start_with(8 * COST, on_hold); /* four, and four more in a drain */
    disk_buffered_start(mode);
    submit(DISK_WRITE, 0, 1, 1);
    CU_ASSERT_EQUAL(wakes, 0);
    submit(DISK_WRITE, 1, 1, 1);
    CU_ASSERT_EQUAL(wakes, 1);
    CU_ASSERT_TRUE(disk_buffered_is_pressing(mode));
    for (unsigned i = 2; i < 6; i++)
        submit(DISK_WRITE, i, 1, 1);
    CU_ASSERT_EQUAL(count_ended(), 4);
    CU_ASSERT_FALSE(disk_buffered_is_full(mode));
    CU_ASSERT_EQUAL(read_among(2, 5, 1)[0], 0); /* it has not happened */
    disk_buffered_drain(mode, true);
    CU_ASSERT_EQUAL(count_ended(), 7);
    disk_buffered_drain(mode, false);
    CU_ASSERT_TRUE(disk_buffered_is_full(mode)); /* the guest is not to run */
    struct disk_buffered_batch *batch = disk_buffered_take(mode);
    CU_ASSERT_FALSE(disk_buffered_is_pressing(mode));
    CU_ASSERT_EQUAL(wakes, 1);
    submit(DISK_WRITE, 6, 1, 1);
    submit(DISK_WRITE, 6, 1, 2); /* behind it, since they overlap */
    CU_ASSERT_EQUAL(count_ended(), 7);
    CU_ASSERT_EQUAL(wakes, 1); /* no cut would help: it is the image that makes room */
    disk_buffered_drop(mode, batch);
    release_all();
    wait_for(&ended, 9);
    CU_ASSERT_EQUAL(read_now(6, 1)[0], 2);
    CU_ASSERT_FALSE(disk_buffered_is_full(mode));
    CU_ASSERT(wakes > 1); /* and somebody is told that it may */
    stop();
}

static void what_the_standby_could_not_take_is_kept_all_the_same(void)
{
    struct iovec parts[4];
    start_with(4 * COST, on_hold);
    disk_buffered_start(mode);
    disk_buffered_drain(mode, true);
    for (unsigned i = 0; i < 6; i++)
        submit(DISK_WRITE, i, 1, 1);
    disk_buffered_drain(mode, false);
    CU_ASSERT_EQUAL(count_ended(), 6);
    struct disk_buffered_batch *batch = disk_buffered_take(mode);
    CU_ASSERT_EQUAL(disk_buffered_payload(batch, parts, 4), -ENOBUFS);
    disk_buffered_drop(mode, batch);
    disk_buffered_stop(mode);
    disk_buffered_start(mode); /* another standby is told of everything */
    batch = disk_buffered_take(mode);
    CU_ASSERT_EQUAL(disk_buffered_payload(batch, parts, 4), 4);
    disk_buffered_drop(mode, batch);
    release_all();
    wait_quiet();
    CU_ASSERT_EQUAL(disk.bytes[5 * SECTOR], 1);
    stop();
}

/* ---- alone ---- */

static void alone_the_guest_waits_for_the_medium_and_hears_of_errors(void)
{
    start_with(1 << 20, on_open);
    memory_disk_hold(&disk, true);
    struct disk_request *w = submit(DISK_WRITE, 0, 1, 1);
    submit(DISK_FLUSH, 0, 0, 0);
    memory_disk_wait_busy(&disk, 1);
    CU_ASSERT_EQUAL(count_ended(), 0);
    memory_disk_hold(&disk, false);
    wait_for(&ended, 2);
    CU_ASSERT_PTR_EQUAL(order[0], w);
    CU_ASSERT_EQUAL(disk.bytes[0], 1);
    memory_disk_fail(&disk, 0, SECTOR, -ENOSPC);
    struct disk_request *bad = submit(DISK_WRITE, 0, 1, 2);
    wait_for(&ended, 3);
    CU_ASSERT_EQUAL(bad->io.result, -ENOSPC);
    memory_disk_fail(&disk, 0, 0, 0);
    CU_ASSERT_EQUAL(read_now(0, 1)[0], 1); /* as if it had never been */
    CU_ASSERT_EQUAL(failures, 0);
    struct disk_volume_stats stats;
    disk_volume_snapshot(v, &stats);
    CU_ASSERT_EQUAL(stats.write_errors, 1);
    stop();
}

static void who_is_granted_goes_on_with_what_is_pending(void)
{
    start();
    submit(DISK_WRITE, 0, 1, 1);
    submit(DISK_WRITE, 1, 1, 1);
    memory_disk_hold(&disk, true);
    disk_buffered_stop(mode);
    release_all(); /* the outbox is opened */
    alone = true;
    submit(DISK_WRITE, 0, 1, 3);
    CU_ASSERT_EQUAL(count_ended(), 2);
    memory_disk_hold(&disk, false);
    wait_for(&ended, 3);
    CU_ASSERT(disk.bytes[0] == 3 && disk.bytes[SECTOR] == 1);
    stop();
}

/* ---- an image that fails ---- */

static void what_the_guest_believes_done_is_tried_until_it_is(void)
{
    start();
    memory_disk_fail(&disk, 0, SECTOR, -ENOSPC);
    submit(DISK_WRITE, 0, 1, 1);
    submit(DISK_FLUSH, 0, 0, 0);
    submit(DISK_WRITE, 1, 1, 1);
    release_all();
    wait_for(&failures, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure, "512 bytes at 0, which the guest was told are written"));
    CU_ASSERT_FALSE(disk_buffered_is_quiet(mode));
    submit(DISK_WRITE, 2, 1, 1); /* buffered as before */
    wait_for(&ended, 4);
    struct disk_buffered_stats stats;
    disk_buffered_snapshot(mode, &stats);
    CU_ASSERT_TRUE(stats.failing);
    release_all();
    disk_buffered_end(mode); /* there is no more to wait for */
    CU_ASSERT_EQUAL(failures, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure, "3 changes that the guest was told are done are lost"));
    CU_ASSERT_EQUAL(disk.bytes[SECTOR], 0); /* nothing behind a flush came before */
    disk_buffered_begin(mode, on_open, NULL);
    struct disk_request *w = submit(DISK_WRITE, 0, 1, 4);
    wait_for(&ended, 5);
    CU_ASSERT_EQUAL(w->io.result, -ENOSPC);
    memory_disk_fail(&disk, 0, 0, 0);
    stop();
}

static void an_image_that_recovers_gets_all_in_order(void)
{
    start();
    memory_disk_fail(&disk, 0, SECTOR, -EIO);
    submit(DISK_WRITE, 0, 1, 1);
    submit(DISK_WRITE, 0, 1, 2);
    release_all();
    wait_for(&failures, 1);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    memory_disk_fail(&disk, 0, 0, 0);
    wait_for(&recoveries, 1);
    wait_quiet();
    CU_ASSERT_EQUAL(disk.bytes[0], 2);
    CU_ASSERT_EQUAL(failures, 1);
    stop();
}

static void who_is_alone_hears_that_the_image_fails(void)
{
    start();
    memory_disk_fail(&disk, 0, SECTOR, -EIO);
    submit(DISK_WRITE, 0, 1, 1);
    release_all();
    wait_for(&failures, 1);
    disk_buffered_stop(mode);
    alone = true;
    struct disk_request *w = submit(DISK_WRITE, 9, 1, 1), *flush = submit(DISK_FLUSH, 0, 0, 0);
    wait_for(&ended, 3);
    CU_ASSERT(w->io.result == -EIO && flush->io.result == -EIO);
    CU_ASSERT_EQUAL(read_now(9, 1)[0], 0);
    memory_disk_fail(&disk, 0, 0, 0);
    wait_for(&recoveries, 1);
    w = submit(DISK_WRITE, 9, 1, 1);
    wait_for(&ended, 5);
    CU_ASSERT(w->io.result == 0 && disk.bytes[0] == 1 && disk.bytes[9 * SECTOR] == 1);
    stop();
}

/* ---- the end ---- */

static void what_is_not_let_out_is_forgotten_at_the_end(void)
{
    start();
    submit(DISK_WRITE, 0, 1, 1);
    release_all();
    submit(DISK_WRITE, 1, 1, 1);
    disk_buffered_end(mode);
    CU_ASSERT(disk.bytes[0] == 1 && disk.bytes[SECTOR] == 0);
    CU_ASSERT_EQUAL(failures, 0);
    struct disk_request *late = submit(DISK_WRITE, 0, 1, 5);
    CU_ASSERT_EQUAL(late->io.result, -ECANCELED);
    disk_buffered_begin(mode, on_hold, NULL);
    stop();
}

static void a_fenced_host_begins_nothing_more(void)
{
    start();
    memory_disk_hold(&disk, true);
    submit(DISK_WRITE, 0, 1, 1);
    submit(DISK_WRITE, 0, 1, 2);
    release_all();
    memory_disk_wait_busy(&disk, 1);
    disk_buffered_halt(mode);
    memory_disk_hold(&disk, false);
    disk_buffered_end(mode);
    CU_ASSERT_EQUAL(disk.bytes[0], 1); /* that was on its way */
    CU_ASSERT_EQUAL(failures, 0);
    stop();
}

/* ---- epochs, and a crash ---- */

static struct memory_disk other;
static struct disk_volume *other_volume;
static struct disk_retained *retained;

static unsigned dice(unsigned *random, unsigned sides)
{
    *random = *random * 1664525u + 1013904223u;
    return (*random >> 8) % sides;
}

/* What an epoch tells, in payloads of few parts. */
static void stage_epoch(unsigned *random)
{
    static uint8_t payload[DISK_PAYLOAD_MAX];
    struct disk_buffered_batch *batch = disk_buffered_take(mode);
    struct iovec parts[8];
    int count;
    while (batch && (count = disk_buffered_payload(batch, parts, 2 + (int)dice(random, 7))) > 0) {
        size_t size = 0;
        for (int i = 0; i < count; size += parts[i++].iov_len)
            memcpy(payload + size, parts[i].iov_base, parts[i].iov_len);
        CU_ASSERT_EQUAL(disk_retained_stage(retained, payload, size, NULL), 0);
    }
    disk_buffered_drop(mode, batch);
}

static void open_standby(void)
{
    struct disk_volume *volumes[2] = {NULL};
    memory_disk_init(&other, SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&other), .index = 1};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &other_volume, NULL), 0);
    volumes[1] = other_volume;
    const struct disk_retained_config taking = {
        .volumes = volumes, .count = 2, .cap = DISK_RETAINED_CAP};
    CU_ASSERT_EQUAL_FATAL(disk_retained_create(&taking, &retained, NULL), 0);
}

static void close_standby(void)
{
    disk_retained_destroy(&retained);
    disk_volume_destroy(&other_volume);
    memory_disk_free(&other);
}

static void change(unsigned *random, uint8_t *believed, unsigned number)
{
    const unsigned sector = dice(random, 100), count = 1 + dice(random, 28);
    const bool write = dice(random, 3) > 0;
    memset(believed + sector * SECTOR, write ? (int)(number % 255) + 1 : 0, count * SECTOR);
    submit(write ? DISK_WRITE : DISK_WRITE_ZEROES, sector, count, (int)(number % 255) + 1);
    if (dice(random, 8) == 0)
        submit(DISK_FLUSH, 0, 0, 0);
}

static void check_reads(unsigned *random, const uint8_t *believed)
{
    const unsigned sector = dice(random, 100), count = 1 + dice(random, 28);
    CU_ASSERT_EQUAL(memcmp(read_now(sector, count), believed + sector * SECTOR, count * SECTOR), 0);
}

/* The image goes on while epochs are cut and committed, until the host dies in the midst of it. */
static void the_promoted_image_is_that_of_the_committed_state(void)
{
    static uint8_t believed[SIZE], cut[SIZE], committed[SIZE];
    for (unsigned round = 0; round < 80; round++) {
        unsigned random = round + 1;
        memset(believed, 0, SIZE);
        memset(committed, 0, SIZE);
        start();
        open_standby();
        disk_buffered_start(mode);
        stage_epoch(&random);
        disk_retained_commit(retained);
        for (unsigned epoch = 0, number = 0, epochs = dice(&random, 12); epoch < epochs; epoch++) {
            for (unsigned i = dice(&random, 12); i; i--)
                change(&random, believed, number++);
            check_reads(&random, believed);
            wait_for(&ended, submitted); /* a cut waits for the guest's requests */
            stage_epoch(&random);
            const unsigned last = count_held();
            memcpy(cut, believed, SIZE);
            for (unsigned i = dice(&random, 5); i; i--)
                change(&random, believed, number++);
            wait_for(&ended, submitted);
            disk_retained_commit(retained);
            memcpy(committed, cut, SIZE);
            release(last);
        }
        memory_disk_hold(&disk, true); /* the host dies: what is inside of the disk is lost */
        pthread_mutex_lock(&disk.lock);
        memcpy(other.bytes, disk.bytes, SIZE);
        pthread_mutex_unlock(&disk.lock);
        CU_ASSERT_EQUAL(disk_retained_finish(retained, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(memcmp(other.bytes, committed, SIZE), 0);
        memory_disk_hold(&disk, false);
        close_standby();
        stop();
    }
}

static uint64_t retained_bytes(void)
{
    struct disk_retained_stats stats;
    disk_retained_snapshot(retained, &stats);
    return stats.retained_bytes;
}

static void the_standby_forgets_what_is_in_the_image(void)
{
    unsigned random = 1;
    start();
    open_standby();
    CU_ASSERT_PTR_NULL(disk_buffered_take(mode)); /* no standby is there */
    submit(DISK_WRITE, 0, 1, 1);
    disk_buffered_start(mode);
    stage_epoch(&random);
    disk_retained_commit(retained);
    CU_ASSERT(retained_bytes() > 0); /* what was pending before the link came */
    CU_ASSERT_PTR_NULL(disk_buffered_take(mode));
    release_all();
    wait_quiet();
    stage_epoch(&random);
    disk_retained_commit(retained);
    CU_ASSERT_EQUAL(retained_bytes(), 0);
    CU_ASSERT_PTR_NULL(disk_buffered_take(mode));
    disk_buffered_stop(mode);
    CU_ASSERT_PTR_NULL(disk_buffered_take(mode));
    close_standby();
    stop();
}

/* ---- the store ---- */

static void a_store_whose_cuts_drain_buffers_its_shared_disks(void)
{
    struct memory_disk one;
    memory_disk_init(&one, SIZE);
    const struct disk_store_config config = {
        .count = 2,
        .disks = {{.image = memory_disk_image(&one), .protection = DISK_PLAIN},
                  {.image = NULL, .protection = DISK_SHARED}},
        .cuts_drain = true};
    struct disk_store_config both = config;
    struct disk_store *store = NULL;
    struct iovec parts[4];
    start(); /* for its disk alone */
    disk_buffered_end(mode);
    disk_volume_destroy(&v);
    both.disks[1].image = memory_disk_image(&disk);
    CU_ASSERT_EQUAL_FATAL(disk_store_open(&both, &store, NULL), 0);
    CU_ASSERT_TRUE(disk_store_travels(store));
    disk_store_hold(store, on_hold, NULL);
    disk_store_start(store, NULL, NULL);
    v = disk_store_volume(store, 1);
    CU_ASSERT_STRING_EQUAL(disk_volume_mode_name(v), "shared");
    submit(DISK_WRITE, 0, 1, 6);
    CU_ASSERT_EQUAL(count_ended(), 1);
    CU_ASSERT_EQUAL(disk_store_held(store, 1), 1);
    struct disk_store_batch *batch = disk_store_take(store);
    CU_ASSERT_EQUAL(disk_store_payload(batch, parts, 4), 2);
    CU_ASSERT_EQUAL(disk_store_stage(store, parts[1].iov_base, SECTOR, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(disk_store_payload(batch, parts, 4), 0);
    disk_store_release(store, batch);
    disk_store_emit(store, tickets[0]);
    disk_store_close(&store); /* waits for what was let out */
    CU_ASSERT_EQUAL(disk.bytes[0], 6);
    forget_requests();
    disk_buffered_destroy(&mode);
    memory_disk_free(&disk);
    memory_disk_free(&one);
}

static const struct test_case cases[] = {
    {"the guest goes on and the image waits", the_guest_goes_on_and_the_image_waits},
    {"a read does not wait for what is under way", a_read_does_not_wait_for_what_is_under_way},
    {"a read error is the guest's", a_read_error_is_the_guests},
    {"who finds no room waits and wakes", who_finds_no_room_waits_and_wakes},
    {"what the standby could not take is kept all the same",
     what_the_standby_could_not_take_is_kept_all_the_same},
    {"alone the guest waits for the medium and hears of errors",
     alone_the_guest_waits_for_the_medium_and_hears_of_errors},
    {"who is granted goes on with what is pending", who_is_granted_goes_on_with_what_is_pending},
    {"what the guest believes done is tried until it is",
     what_the_guest_believes_done_is_tried_until_it_is},
    {"an image that recovers gets all in order", an_image_that_recovers_gets_all_in_order},
    {"who is alone hears that the image fails", who_is_alone_hears_that_the_image_fails},
    {"what is not let out is forgotten at the end", what_is_not_let_out_is_forgotten_at_the_end},
    {"a fenced host begins nothing more", a_fenced_host_begins_nothing_more},
    {"the promoted image is that of the committed state",
     the_promoted_image_is_that_of_the_committed_state},
    {"the standby forgets what is in the image", the_standby_forgets_what_is_in_the_image},
    {"a store whose cuts drain buffers its shared disks",
     a_store_whose_cuts_drain_buffers_its_shared_disks},
};

TEST_MAIN("buffered disks", cases)
