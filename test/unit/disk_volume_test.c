/* Volumes: order of overlapping changes, modes, watches, and the replicated mode with its log. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/mode_replicated.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"

#define SIZE (1u << 20)
#define CAP  ((size_t)64 << 10)

static struct memory_disk disk;
static struct disk_volume *v;
static struct disk_log *disk_log;
static struct disk_replicated *mode;
static unsigned failures, presses;

static void on_failed(void *context, unsigned index, const char *text)
{
    (void)context;
    CU_ASSERT_EQUAL(index, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "failed"));
    failures++;
}

static void on_room(void *context)
{
    (void)context;
    disk_replicated_room(mode);
}

static void on_press(void *context)
{
    (void)context;
    presses++;
}

static void start(void)
{
    failures = presses = 0;
    memory_disk_init(&disk, SIZE);
    const struct disk_volume_config config = {
        .image = memory_disk_image(&disk), .index = 2, .failed = on_failed};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &v, NULL), 0);
}

static void start_replicated(void)
{
    start();
    const struct disk_log_config config = {.cap = CAP, .room = on_room, .press = on_press};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&config, &disk_log, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(disk_replicated_create(disk_log, &mode, NULL), 0);
    disk_volume_set_mode(v, &disk_mode_replicated_ops, mode);
}

static void stop(void)
{
    if (disk_log)
        disk_log_stop(disk_log);
    disk_volume_destroy(&v);
    disk_replicated_destroy(&mode);
    disk_log_destroy(&disk_log);
    memory_disk_free(&disk);
}

/* ---- requests ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned ended;
static struct disk_request *order[64];

static void on_done(struct disk_request *r)
{
    pthread_mutex_lock(&lock);
    order[ended++ % 64] = r;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static unsigned count_ended(void)
{
    pthread_mutex_lock(&lock);
    const unsigned count = ended;
    pthread_mutex_unlock(&lock);
    return count;
}

static void wait_ended(unsigned count)
{
    pthread_mutex_lock(&lock);
    while (ended < count)
        pthread_cond_wait(&changed, &lock);
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

static void forget(struct disk_request *r)
{
    free(r->io.data);
    free(r);
}

static void end_all(void)
{
    for (unsigned i = 0; i < ended; i++)
        forget(order[i]);
    ended = 0;
}

static void many_requests_are_under_way_at_once(void)
{
    start();
    memory_disk_hold(&disk, true);
    for (unsigned i = 0; i < 20; i++)
        submit(i % 2 ? DISK_READ : DISK_WRITE, i * 512, 512, 1);
    submit(DISK_FLUSH, 0, 0, 0);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 21));
    struct disk_volume_stats stats;
    disk_volume_snapshot(v, &stats);
    CU_ASSERT_EQUAL(stats.under_way, 21);
    memory_disk_hold(&disk, false);
    wait_ended(21);
    disk_volume_snapshot(v, &stats);
    CU_ASSERT(stats.reads == 10 && stats.writes == 10 && stats.flushes == 1);
    CU_ASSERT(stats.bytes_read == 5120 && stats.bytes_written == 5120 && stats.under_way == 0);
    CU_ASSERT_STRING_EQUAL(disk_volume_mode_name(v), "plain");
    end_all();
    stop();
}

static void changes_that_overlap_keep_their_order(void)
{
    start();
    memory_disk_hold(&disk, true);
    submit(DISK_WRITE, 0, 4096, 1);
    submit(DISK_WRITE, 3584, 1024, 2);    /* waits for the first */
    submit(DISK_DISCARD, 4096, 4096, 0);  /* waits for the second */
    submit(DISK_READ, 0, 512, 0);         /* waits for nobody */
    submit(DISK_WRITE, 8192, 512, 3);     /* likewise */
    submit(DISK_WRITE_ZEROES, 0, 512, 0); /* waits for the first */
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 3));
    memory_disk_hold(&disk, false);
    wait_ended(6);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    CU_ASSERT_EQUAL(disk.bytes[512], 1);
    CU_ASSERT_EQUAL(disk.bytes[3583], 1);
    CU_ASSERT_EQUAL(disk.bytes[3584], 2);
    CU_ASSERT_EQUAL(disk.bytes[4095], 2);
    CU_ASSERT_EQUAL(disk.bytes[4096], 0); /* the second wrote it before it was discarded */
    CU_ASSERT_EQUAL(disk.bytes[8192], 3);
    end_all();
    stop();
}

static void a_failed_write_is_told_and_harms_no_other(void)
{
    start();
    memory_disk_fail(&disk, 4096, 8192, -EIO);
    struct disk_request *bad = submit(DISK_WRITE, 4096, 512, 1);
    wait_ended(1);
    struct disk_request *good = submit(DISK_WRITE, 0, 512, 2);
    wait_ended(2);
    CU_ASSERT_EQUAL(bad->io.result, -EIO);
    CU_ASSERT_EQUAL(good->io.result, 0);
    struct disk_volume_stats stats;
    disk_volume_snapshot(v, &stats);
    CU_ASSERT(stats.write_errors == 1 && stats.read_errors == 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(stats.last_error, "writing 512 bytes at 4096"));
    CU_ASSERT_EQUAL(failures, 1);
    end_all();
    stop();
}

/* ---- watches ---- */

static struct disk_request *kept;
static bool keep;
static unsigned befores, afters;

static bool before(void *watch, struct disk_request *r)
{
    (void)watch;
    befores++;
    if (keep)
        kept = r;
    return !keep;
}

static void after(void *watch, struct disk_request *r)
{
    (void)watch;
    (void)r;
    afters++;
}

static void a_watch_sees_every_change_and_may_keep_it(void)
{
    static const struct disk_watch_ops ops = {before, after};
    start();
    disk_volume_set_watch(v, &ops, NULL);
    befores = afters = 0;
    keep = true;
    submit(DISK_WRITE, 0, 512, 7);
    submit(DISK_READ, 512, 512, 0);
    wait_ended(1); /* the read */
    CU_ASSERT_EQUAL(befores, 1);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    disk_volume_go(kept);
    wait_ended(2);
    CU_ASSERT_EQUAL(disk.bytes[0], 7);
    CU_ASSERT_EQUAL(afters, 1);
    submit(DISK_WRITE, 0, 512, 8);
    disk_volume_end(kept, -ENOSPC); /* it could not note the change */
    wait_ended(3);
    CU_ASSERT_EQUAL(order[2]->io.result, -ENOSPC);
    CU_ASSERT_EQUAL(disk.bytes[0], 7);
    keep = false;
    struct disk_request peer = {.io = {.op = DISK_WRITE_ZEROES, .offset = 0, .size = 512}};
    CU_ASSERT_EQUAL(disk_volume_perform(v, &peer), 0);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    CU_ASSERT(befores == 3 && afters == 3);
    end_all();
    stop();
}

/* ---- the replicated mode ---- */

static void collect(void *context, const struct disk_record *r)
{
    char *text = context;
    char item[64];
    snprintf(item, sizeof(item), "%d:%llu+%llu%s ", (int)r->op, (unsigned long long)r->offset,
             (unsigned long long)r->length, r->disk == 2 ? "" : "?");
    strcat(text, item);
}

static void expect_records(const char *expected)
{
    char text[1024] = "";
    struct disk_batch *batch = disk_log_take(disk_log);
    if (batch)
        disk_batch_visit(batch, collect, text);
    disk_batch_release(disk_log, batch);
    CU_ASSERT_STRING_EQUAL(text, expected);
}

static void what_completes_is_in_the_log(void)
{
    start_replicated();
    submit(DISK_WRITE, 0, 512, 1);
    wait_ended(1);
    CU_ASSERT_PTR_NOT_NULL(order[0]->io.data); /* the log is off: not taken */
    disk_log_start(disk_log);
    submit(DISK_WRITE, 512, 1024, 2);
    wait_ended(2);
    CU_ASSERT_PTR_NULL(order[1]->io.data);
    submit(DISK_FLUSH, 0, 0, 0);
    wait_ended(3);
    submit(DISK_DISCARD, 4096, 4096, 0);
    wait_ended(4);
    submit(DISK_READ, 0, 512, 0);
    wait_ended(5);
    expect_records("1:512+1024 4:0+0 2:4096+4096 ");
    end_all();
    stop();
}

static void a_write_that_fails_is_not_logged(void)
{
    start_replicated();
    disk_log_start(disk_log);
    memory_disk_fail(&disk, 0, 512, -ENOSPC);
    submit(DISK_WRITE, 0, 512, 1);
    wait_ended(1);
    expect_records("");
    struct disk_log_stats stats;
    disk_log_snapshot(disk_log, &stats);
    CU_ASSERT_EQUAL(stats.used_bytes, 0);
    end_all();
    stop();
}

static void a_full_log_makes_writes_wait_and_fails_none(void)
{
    start_replicated();
    disk_log_start(disk_log);
    for (unsigned i = 0; i < 40; i++)
        submit(DISK_WRITE, i * 4096, 4096, (int)i + 1);
    submit(DISK_READ, 0, 512, 0);
    while (disk_replicated_waiting(mode) || count_ended() < 41) {
        struct disk_log_stats stats;
        disk_log_snapshot(disk_log, &stats);
        CU_ASSERT(stats.used_bytes <= CAP);
        disk_batch_release(disk_log, disk_log_take(disk_log)); /* a cut and its commit */
    }
    CU_ASSERT(presses >= 1);
    for (unsigned i = 0; i < 41; i++)
        CU_ASSERT_EQUAL(order[i]->io.result, 0);
    for (unsigned i = 0; i < 40; i++)
        CU_ASSERT_EQUAL(disk.bytes[i * 4096], i + 1);
    end_all();
    stop();
}

static void waiting_writes_go_on_when_the_standby_is_lost(void)
{
    start_replicated();
    disk_log_start(disk_log);
    for (unsigned i = 0; i < 40; i++)
        submit(DISK_WRITE, i * 4096, 4096, (int)i + 1);
    CU_ASSERT(disk_replicated_waiting(mode) > 0);
    disk_log_stop(disk_log);
    wait_ended(40);
    CU_ASSERT_EQUAL(disk_replicated_waiting(mode), 0);
    end_all();
    stop();
}

/* A machine that can't be stopped before its requests have ended. */
static void a_drain_lets_waiting_writes_end_without_a_cut(void)
{
    start_replicated();
    disk_log_start(disk_log);
    for (unsigned i = 0; i < 40; i++)
        submit(DISK_WRITE, i * 4096, 4096, (int)i + 1);
    CU_ASSERT(disk_replicated_waiting(mode) > 0);
    disk_log_drain(disk_log, true);
    wait_ended(40);
    CU_ASSERT_EQUAL(disk_replicated_waiting(mode), 0);
    for (unsigned i = 0; i < 40; i++)
        CU_ASSERT(order[i]->io.result == 0 && disk.bytes[i * 4096] == i + 1);
    disk_log_drain(disk_log, false);
    struct iovec parts[4];
    struct disk_batch *batch = disk_log_take(disk_log);
    CU_ASSERT_EQUAL(disk_batch_payload(batch, parts, 4), -ENOBUFS); /* they were too many */
    disk_batch_release(disk_log, batch);
    end_all();
    stop();
}

static void *settle_main(void *context)
{
    disk_replicated_settle(mode);
    __atomic_store_n((bool *)context, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* A write that began before the log was on is in no log: a copy must not be read before it is done.
 */
static void a_copy_waits_for_writes_that_are_in_no_log(void)
{
    start_replicated();
    memory_disk_hold(&disk, true);
    submit(DISK_WRITE, 0, 512, 1);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 1));
    disk_log_start(disk_log);
    submit(DISK_WRITE, 4096, 512, 1);
    bool settled = false;
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, settle_main, &settled), 0);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 2));
    CU_ASSERT_FALSE(__atomic_load_n(&settled, __ATOMIC_SEQ_CST));
    memory_disk_hold(&disk, false);
    pthread_join(thread, NULL);
    CU_ASSERT_TRUE(settled);
    CU_ASSERT_EQUAL(disk.bytes[0], 1);
    wait_ended(2);
    expect_records("1:4096+512 ");
    end_all();
    stop();
}

static const struct test_case cases[] = {
    {"many requests are under way at once", many_requests_are_under_way_at_once},
    {"changes that overlap keep their order", changes_that_overlap_keep_their_order},
    {"a failed write is told and harms no other", a_failed_write_is_told_and_harms_no_other},
    {"a watch sees every change and may keep it", a_watch_sees_every_change_and_may_keep_it},
    {"what completes is in the log", what_completes_is_in_the_log},
    {"a write that fails is not logged", a_write_that_fails_is_not_logged},
    {"a full log makes writes wait and fails none", a_full_log_makes_writes_wait_and_fails_none},
    {"a drain lets waiting writes end without a cut",
     a_drain_lets_waiting_writes_end_without_a_cut},
    {"waiting writes go on when the standby is lost",
     waiting_writes_go_on_when_the_standby_is_lost},
    {"a copy waits for writes that are in no log", a_copy_waits_for_writes_that_are_in_no_log},
};

TEST_MAIN("disk volumes", cases)
