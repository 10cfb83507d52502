/* The log of the gathering epoch: order, cap, what happens to an epoch that isn't sent. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/log.h"
#include "test/support/runner.h"

#define CAP ((size_t)64 << 10)

static struct disk_log *l;
static unsigned rooms, presses;

static void on_room(void *context)
{
    (void)context;
    rooms++;
}

static void on_press(void *context)
{
    (void)context;
    presses++;
}

static void start(void)
{
    const struct disk_log_config config = {.cap = CAP, .room = on_room, .press = on_press};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&config, &l, NULL), 0);
    disk_log_start(l);
    rooms = presses = 0;
}

static void put(uint64_t offset, size_t length)
{
    CU_ASSERT_EQUAL_FATAL(disk_log_reserve(l, length), DISK_LOG_PROMISED);
    uint8_t *data = malloc(length);
    memset(data, (int)(offset / 512), length);
    const struct disk_record r = {
        .op = DISK_WRITE, .disk = 1, .offset = offset, .length = length, .data = data};
    disk_log_put(l, &r);
}

struct seen {
    unsigned count;
    uint64_t offsets[64];
};

static void see(void *context, const struct disk_record *record)
{
    struct seen *seen = context;
    seen->offsets[seen->count++ % 64] = record->offset;
}

static uint64_t used(void)
{
    struct disk_log_stats stats;
    disk_log_snapshot(l, &stats);
    return stats.used_bytes;
}

static void a_log_that_is_off_keeps_nothing(void)
{
    start();
    disk_log_stop(l);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 512), DISK_LOG_OFF);
    CU_ASSERT_PTR_NULL(disk_log_take(l));
    disk_log_destroy(&l);
}

static void a_cut_takes_what_was_put_in_order(void)
{
    start();
    for (unsigned i = 0; i < 10; i++)
        put((9 - i) * 512, 512);
    struct disk_batch *batch = disk_log_take(l);
    CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
    CU_ASSERT_PTR_NULL(disk_log_take(l));
    struct seen seen = {0};
    disk_batch_visit(batch, see, &seen);
    CU_ASSERT_EQUAL(seen.count, 10);
    for (unsigned i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(seen.offsets[i], (9 - i) * 512);
    CU_ASSERT(used() >= 5120); /* in flight counts */
    disk_batch_release(l, batch);
    CU_ASSERT_EQUAL(used(), 0);
    disk_log_destroy(&l);
}

/* The epoch was not sent: its writes come before those that were made since. */
static void a_batch_given_back_comes_first(void)
{
    start();
    put(0, 512);
    put(512, 512);
    struct disk_batch *batch = disk_log_take(l);
    put(1024, 512);
    disk_log_give_back(l, batch);
    put(1536, 512);
    batch = disk_log_take(l);
    struct seen seen = {0};
    disk_batch_visit(batch, see, &seen);
    CU_ASSERT_EQUAL(seen.count, 4);
    for (unsigned i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(seen.offsets[i], i * 512);
    disk_log_give_back(l, batch); /* nothing newer */
    batch = disk_log_take(l);
    disk_batch_release(l, batch);
    CU_ASSERT_EQUAL(used(), 0);
    disk_log_destroy(&l);
}

static void payloads_hold_whole_records_in_order(void)
{
    start();
    for (unsigned i = 0; i < 20; i++)
        put(i * 512, 512);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 0), DISK_LOG_PROMISED);
    disk_log_put(l, &(struct disk_record){.op = DISK_FLUSH, .disk = 1});
    struct disk_batch *batch = disk_log_take(l);
    const struct disk_geometry geometry = {.count = 2, .sizes = {0, 1 << 20}};
    for (unsigned round = 0; round < 2; round++) {
        uint64_t expected = 0;
        unsigned flushes = 0;
        struct iovec parts[7];
        int count;
        while ((count = disk_batch_payload(batch, parts, ARRAY_SIZE(parts))) > 0) {
            uint8_t payload[8192];
            size_t size = 0;
            for (int i = 0; i < count; i++) {
                memcpy(payload + size, parts[i].iov_base, parts[i].iov_len);
                size += parts[i].iov_len;
            }
            struct disk_record r;
            size_t at = 0;
            CU_ASSERT(disk_payload_check(payload, size, &geometry, NULL) > 0);
            while (disk_record_next(payload, size, &at, &geometry, &r, NULL) == 1) {
                flushes += r.op == DISK_FLUSH;
                if (r.op == DISK_WRITE) {
                    CU_ASSERT_EQUAL(r.offset, expected);
                    CU_ASSERT_EQUAL(r.data[511], expected / 512);
                    expected += 512;
                }
            }
        }
        CU_ASSERT_EQUAL(expected, 20 * 512);
        CU_ASSERT_EQUAL(flushes, 1);
        disk_batch_rewind(batch);
    }
    disk_batch_release(l, batch);
    disk_log_destroy(&l);
}

static void large_records_fill_payloads_of_bounded_size(void)
{
    const struct disk_log_config config = {.cap = DISK_LOG_CAP, .room = on_room, .press = on_press};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&config, &l, NULL), 0);
    disk_log_start(l);
    for (unsigned i = 0; i < 5; i++)
        put(i * (uint64_t)DISK_DATA_MAX, DISK_DATA_MAX);
    struct disk_batch *batch = disk_log_take(l);
    struct iovec parts[100];
    unsigned payloads = 0;
    int count;
    while ((count = disk_batch_payload(batch, parts, 100)) > 0) {
        size_t size = 0;
        for (int i = 0; i < count; i++)
            size += parts[i].iov_len;
        CU_ASSERT(size <= DISK_PAYLOAD_MAX);
        payloads++;
    }
    CU_ASSERT_EQUAL(payloads, 5); /* two of them and two headers would be too much */
    disk_batch_release(l, batch);
    disk_log_destroy(&l);
}

static void a_full_log_refuses_presses_and_has_room_again(void)
{
    start();
    unsigned count = 0;
    while (used() < CAP / 2 - 8192) {
        put(count++ * 4096, 4096);
        CU_ASSERT_FALSE(disk_log_is_pressing(l));
    }
    put(count++ * 4096, 4096);
    put(count++ * 4096, 4096);
    CU_ASSERT_TRUE(disk_log_is_pressing(l));
    CU_ASSERT_EQUAL(presses, 1);
    enum disk_log_answer answer;
    while ((answer = disk_log_reserve(l, 4096)) == DISK_LOG_PROMISED)
        count++;
    CU_ASSERT_EQUAL(answer, DISK_LOG_FULL);
    CU_ASSERT(used() <= CAP);
    CU_ASSERT_EQUAL(rooms, 0);
    struct disk_batch *batch = disk_log_take(l);
    CU_ASSERT_FALSE(disk_log_is_pressing(l));
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_FULL); /* a cut makes no room */
    disk_batch_release(l, batch);
    CU_ASSERT_EQUAL(rooms, 1);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_PROMISED);
    CU_ASSERT_EQUAL(presses, 1);
    disk_log_destroy(&l);
}

/* What waits may not fit although less than half of the cap gathers: promises take the rest. */
static void a_refusal_presses_when_something_gathers(void)
{
    start();
    put(0, 4096);
    CU_ASSERT_EQUAL(disk_log_reserve(l, CAP - 8192), DISK_LOG_PROMISED);
    CU_ASSERT_EQUAL(presses, 0);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_FULL);
    CU_ASSERT_EQUAL(presses, 1);
    CU_ASSERT_TRUE(disk_log_is_pressing(l));
    disk_log_cancel(l, CAP - 8192);
    CU_ASSERT_EQUAL(rooms, 1);
    disk_log_destroy(&l);
}

static void a_stop_drops_what_gathers_and_lets_waiters_go(void)
{
    start();
    put(0, 4096);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 1024), DISK_LOG_PROMISED);
    struct disk_batch *batch = disk_log_take(l);
    put(4096, 4096);
    while (disk_log_reserve(l, 4096) == DISK_LOG_PROMISED)
        ;
    disk_log_stop(l);
    CU_ASSERT_EQUAL(rooms, 1);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_OFF);
    const struct disk_record late = {.op = DISK_WRITE, .length = 1024, .data = malloc(1024)};
    disk_log_put(l, &late); /* promised before: free, and dropped */
    CU_ASSERT_PTR_NULL(disk_log_take(l));
    const uint64_t before = used();
    disk_log_give_back(l, batch); /* nobody wants it */
    CU_ASSERT(used() < before);
    CU_ASSERT_PTR_NULL(disk_log_take(l));
    disk_log_destroy(&l);
}

/* Of a machine whose cut waits for its requests. */
static void start_with_room_for_cuts(void)
{
    const struct disk_log_config config = {
        .cap = CAP, .cut_room = CAP / 2, .room = on_room, .press = on_press};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&config, &l, NULL), 0);
    disk_log_start(l);
    rooms = presses = 0;
}

static void a_drain_has_room_of_its_own(void)
{
    start_with_room_for_cuts();
    for (unsigned i = 0; i < 7; i++)
        put(i * 4096, 4096);
    CU_ASSERT_EQUAL(presses, 1); /* half of what may be used */
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_FULL);
    disk_log_drain(l, true);
    CU_ASSERT_EQUAL(rooms, 1);
    for (unsigned i = 7; i < 14; i++)
        put(i * 4096, 4096);
    disk_log_drain(l, false);
    CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_FULL);
    struct disk_batch *batch = disk_log_take(l);
    struct seen seen = {0};
    struct iovec parts[64];
    disk_batch_visit(batch, see, &seen);
    CU_ASSERT_EQUAL(seen.count, 14);
    CU_ASSERT_EQUAL(disk_batch_payload(batch, parts, 64), 28);
    disk_batch_release(l, batch);
    CU_ASSERT_EQUAL(used(), 0);
    disk_log_destroy(&l);
}

/* The guest's requests end in any case; the standby is what is given up. */
static void an_epoch_that_lacks_a_record_is_not_sent(void)
{
    struct disk_log_stats stats;
    struct iovec parts[64];
    for (unsigned first = 0; first < 2; first++) {
        start_with_room_for_cuts();
        disk_log_drain(l, true);
        if (first)
            put(0, 4096);
        struct disk_batch *batch = disk_log_take(l); /* in flight, and not committed */
        while (disk_log_reserve(l, 4096) == DISK_LOG_PROMISED)
            ;
        CU_ASSERT(used() <= CAP);
        CU_ASSERT_EQUAL(disk_log_reserve(l, 4096), DISK_LOG_OFF);
        disk_log_drain(l, false);
        disk_log_snapshot(l, &stats);
        CU_ASSERT_EQUAL(stats.losses, 2);
        disk_batch_release(l, batch);
        for (unsigned i = 0; i < 2; i++) {
            batch = disk_log_take(l);
            CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
            CU_ASSERT_EQUAL(disk_batch_payload(batch, parts, 64), -ENOBUFS);
            disk_log_give_back(l, batch);
        }
        disk_log_stop(l);
        disk_log_start(l); /* another standby */
        CU_ASSERT_PTR_NULL(disk_log_take(l));
        disk_log_destroy(&l);
    }
}

static const struct test_case cases[] = {
    {"a log that is off keeps nothing", a_log_that_is_off_keeps_nothing},
    {"a cut takes what was put, in order", a_cut_takes_what_was_put_in_order},
    {"a batch given back comes first", a_batch_given_back_comes_first},
    {"payloads hold whole records in order", payloads_hold_whole_records_in_order},
    {"large records fill payloads of bounded size", large_records_fill_payloads_of_bounded_size},
    {"a full log refuses, presses and has room again",
     a_full_log_refuses_presses_and_has_room_again},
    {"a refusal presses when something gathers", a_refusal_presses_when_something_gathers},
    {"a stop drops what gathers and lets waiters go",
     a_stop_drops_what_gathers_and_lets_waiters_go},
    {"a drain has room of its own", a_drain_has_room_of_its_own},
    {"an epoch that lacks a record is not sent", an_epoch_that_lacks_a_record_is_not_sent},
};

TEST_MAIN("disk log", cases)
