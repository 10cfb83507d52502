/* The replica: nothing before the commit, everything after it, and what a failing disk means. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/replica.h"
#include "disk/store.h"
#include "test/support/memory_disk.h"
#include "test/support/memory_map.h"
#include "test/support/runner.h"

#define SIZE (1u << 20)
#define CAP  ((size_t)64 << 10)

static struct memory_disk disks[2];
static struct disk_volume *volumes[2];
static struct disk_replica *r;
static unsigned failures;

static void on_failed(void *context, const struct error *why)
{
    (void)context;
    CU_ASSERT(why->code < 0);
    failures++;
}

static void start(void)
{
    failures = 0;
    for (unsigned i = 0; i < 2; i++) {
        memory_disk_init(&disks[i], SIZE);
        const struct disk_volume_config config = {.image = memory_disk_image(&disks[i]),
                                                  .index = i};
        CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &volumes[i], NULL), 0);
    }
    const struct disk_replica_config config = {
        .volumes = volumes, .count = 2, .cap = CAP, .failed = on_failed};
    CU_ASSERT_EQUAL_FATAL(disk_replica_create(&config, &r, NULL), 0);
}

static void stop(void)
{
    disk_replica_destroy(&r);
    for (unsigned i = 0; i < 2; i++) {
        disk_volume_destroy(&volumes[i]);
        memory_disk_free(&disks[i]);
    }
}

/* Stages one record, filled with `fill`. */
static int stage(enum disk_op op, unsigned disk, uint64_t offset, uint64_t length, int fill)
{
    const struct disk_record record = {.op = op, .disk = disk, .offset = offset, .length = length};
    uint8_t *payload = malloc(disk_record_size(&record));
    disk_record_encode(&record, payload);
    memset(payload + DISK_RECORD_HEADER_SIZE, fill,
           disk_record_size(&record) - DISK_RECORD_HEADER_SIZE);
    const int rc = disk_replica_stage(r, payload, disk_record_size(&record), NULL);
    free(payload);
    return rc;
}

static void nothing_is_applied_before_its_commit(void)
{
    start();
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 512, 1), 0);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT_EQUAL(disks[0].bytes[0], 0);
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 512, 2), 0); /* of the next epoch */
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT_EQUAL(disks[0].bytes[0], 1);
    disk_replica_drop(r); /* a promotion in the middle of it */
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT_EQUAL(disks[0].bytes[0], 1);
    stop();
}

static void records_are_applied_in_order(void)
{
    start();
    disks[0].step_max = 100; /* short writes */
    disks[1].no_holes = true;
    for (int i = 1; i <= 50; i++)
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 512, 512, i), 0);
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 1, 0, 4096, 9), 0);
    CU_ASSERT_EQUAL(stage(DISK_DISCARD, 1, 512, 512, 0), 0);
    CU_ASSERT_EQUAL(stage(DISK_WRITE_ZEROES, 1, 1024, 512, 0), 0);
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 1, 1024, 512, 8), 0);
    CU_ASSERT_EQUAL(stage(DISK_FLUSH, 1, 0, 0, 0), 0);
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT(disks[0].bytes[512] == 50 && disks[0].bytes[1023] == 50);
    CU_ASSERT(disks[1].bytes[511] == 9 && disks[1].bytes[512] == 0);
    CU_ASSERT(disks[1].bytes[1023] == 0 && disks[1].bytes[1024] == 8);
    CU_ASSERT(disks[1].flushes == 1 && disks[0].flushes == 0);
    stop();
}

static void flushes_of_an_epoch_are_one_behind_it(void)
{
    start();
    for (int i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 512, i), 0);
        CU_ASSERT_EQUAL(stage(DISK_FLUSH, 0, 0, 0, 0), 0);
    }
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT_EQUAL(disks[0].flushes, 1);
    stop();
}

static void bad_payloads_are_refused_whole(void)
{
    start();
    uint8_t payload[2 * (24 + 512)] = {0};
    const struct disk_record good = {.op = DISK_WRITE, .length = 512};
    disk_record_encode(&good, payload);
    memset(payload + 24, 1, 512);
    const struct disk_record bad = {.op = DISK_WRITE, .offset = SIZE, .length = 512};
    disk_record_encode(&bad, payload + 24 + 512);
    CU_ASSERT_EQUAL(disk_replica_stage(r, payload, sizeof(payload), NULL), -EBADMSG);
    CU_ASSERT_EQUAL(disk_replica_stage(r, payload, 24 + 511, NULL), -EBADMSG);
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    CU_ASSERT_EQUAL(disks[0].bytes[0], 0);
    stop();
}

static void a_failure_is_final_until_a_restart(void)
{
    static const int errors[] = {-EIO, -ENOSPC};
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        start();
        memory_disk_fail(&disks[0], 4096, 8192, errors[i]);
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 512, 1), 0);
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 4096, 512, 2), 0);
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 512, 512, 3), 0);
        disk_replica_commit(r);
        struct error err = {0};
        CU_ASSERT_EQUAL(disk_replica_finish(r, &err), errors[i]);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "disk 0"));
        CU_ASSERT_EQUAL(failures, 1);
        CU_ASSERT_EQUAL(disks[0].bytes[0], 1);
        CU_ASSERT_EQUAL(disks[0].bytes[512], 0); /* nothing passes the failed one */
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 512, 4), -EIO);
        memory_disk_fail(&disks[0], 0, 0, 0); /* the cause goes, the failure stays */
        CU_ASSERT_EQUAL(disk_replica_check(r, NULL), errors[i]);
        disk_replica_restart(r);
        CU_ASSERT_EQUAL(disk_replica_check(r, NULL), 0);
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 4096, 512, 5), 0);
        disk_replica_commit(r);
        CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
        CU_ASSERT_EQUAL(disks[0].bytes[4096], 5);
        CU_ASSERT_EQUAL(failures, 1);
        stop();
    }
}

static void a_failing_flush_is_a_failure(void)
{
    start();
    memory_disk_fail_flush(&disks[1], -EIO);
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 1, 0, 512, 1), 0);
    CU_ASSERT_EQUAL(stage(DISK_FLUSH, 1, 0, 0, 0), 0);
    disk_replica_commit(r);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), -EIO);
    struct disk_replica_stats stats;
    disk_replica_snapshot(r, &stats);
    CU_ASSERT_TRUE(stats.failed);
    CU_ASSERT_PTR_NOT_NULL(strstr(stats.why, "disk 1: flushing"));
    stop();
}

static void an_epoch_larger_than_the_cap_is_refused(void)
{
    start();
    int rc = 0;
    unsigned count = 0;
    for (; rc == 0 && count < 100; count++)
        rc = stage(DISK_WRITE, 0, 0, 4096, 1);
    CU_ASSERT_EQUAL(rc, -ENOBUFS);
    CU_ASSERT_EQUAL(count, CAP / (4096 + 24) + 1);
    disk_replica_drop(r);
    CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, 0, 4096, 1), 0);
    stop();
}

static void *release_main(void *context)
{
    (void)context;
    struct disk_replica_stats stats;
    do
        disk_replica_snapshot(r, &stats);
    while (stats.waits == 0);
    memory_disk_hold(&disks[0], false);
    return NULL;
}

/* A slow disk slows the link down; the memory stays within its cap. */
static void a_lagging_disk_makes_the_receiver_wait(void)
{
    start();
    memory_disk_hold(&disks[0], true);
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, release_main, NULL), 0);
    for (unsigned i = 0; i < 40; i++) {
        CU_ASSERT_EQUAL(stage(DISK_WRITE, 0, i * 4096, 4096, (int)i + 1), 0);
        disk_replica_commit(r);
        struct disk_replica_stats stats;
        disk_replica_snapshot(r, &stats);
        CU_ASSERT(stats.staged_bytes + stats.pending_bytes <= CAP);
    }
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(disk_replica_finish(r, NULL), 0);
    for (unsigned i = 0; i < 40; i++)
        CU_ASSERT_EQUAL(disks[0].bytes[i * 4096], i + 1);
    stop();
}

/* ---- the store ---- */

static void on_store_failed(void *context, const struct error *why)
{
    (void)context;
    CU_ASSERT_EQUAL(why->code, -EIO);
    failures++;
}

static void on_store_event(void *context, enum disk_store_event event, const char *text)
{
    unsigned *told = context;
    CU_ASSERT_EQUAL(event, DISK_STORE_REPLICA_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "disk 0: applying"));
    CU_ASSERT_EQUAL(failures, 1); /* the standby is none any more when anybody reads of it */
    ++*told;
}

static void a_failure_is_known_to_the_standby_before_it_is_told(void)
{
    static struct memory_map map;
    unsigned told = 0;
    failures = 0;
    memory_disk_init(&disks[0], SIZE);
    memory_disk_fail(&disks[0], 0, 512, -EIO);
    const struct disk_store_config config = {.count = 1,
                                             .disks = {{.image = memory_disk_image(&disks[0]),
                                                        .map = memory_map_io(&map),
                                                        .protection = DISK_REPLICATED}},
                                             .vm = "vm",
                                             .event = on_store_event,
                                             .context = &told};
    struct disk_store *store = NULL;
    CU_ASSERT_EQUAL_FATAL(disk_store_open(&config, &store, NULL), 0);
    disk_store_watch(store, on_store_failed, NULL);
    const struct disk_record record = {.op = DISK_WRITE, .disk = 0, .offset = 0, .length = 512};
    uint8_t payload[DISK_RECORD_HEADER_SIZE + 512] = {0};
    disk_record_encode(&record, payload);
    CU_ASSERT_EQUAL(disk_store_stage(store, payload, sizeof(payload), NULL), 0);
    disk_store_commit(store);
    CU_ASSERT_EQUAL(disk_store_finish(store, NULL), -EIO);
    disk_store_watch(store, NULL, NULL);
    disk_store_close(&store);
    CU_ASSERT_EQUAL(told, 1);
    memory_disk_free(&disks[0]);
}

static const struct test_case cases[] = {
    {"nothing is applied before its commit", nothing_is_applied_before_its_commit},
    {"records are applied in order", records_are_applied_in_order},
    {"flushes of an epoch are one behind it", flushes_of_an_epoch_are_one_behind_it},
    {"bad payloads are refused whole", bad_payloads_are_refused_whole},
    {"a failure is final until a restart", a_failure_is_final_until_a_restart},
    {"a failing flush is a failure", a_failing_flush_is_a_failure},
    {"an epoch larger than the cap is refused", an_epoch_larger_than_the_cap_is_refused},
    {"a lagging disk makes the receiver wait", a_lagging_disk_makes_the_receiver_wait},
    {"a failure is known to the standby before it is told",
     a_failure_is_known_to_the_standby_before_it_is_told},
};

TEST_MAIN("disk replica", cases)
