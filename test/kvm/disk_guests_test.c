/* Guests with a disk: carried with requests in flight, failed over at each step of the protocol, on
 * disks that fail or lag. The guest judges itself: what it reads must be what its memory believes
 * to have written (CORRUPT), so disk and memory are of one moment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/blk_volume.h"
#include "base/clock.h"
#include "base/log.h"
#include "test/support/failover_pair.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define MEMORY    ((uint64_t)32 << 20)
#define DISK_SIZE ((uint64_t)2 << 20)
#define HOPS      15
#define LATER     5 /* an epoch after the first commit */

static const struct failover_pair_config writer = {.program = "diskwriter",
                                                   .arguments = "report=200 rate=4000",
                                                   .memory = MEMORY,
                                                   .vcpus = 1,
                                                   .policy = {.kind = POLICY_PIPELINED,
                                                              .interval = MSEC(5),
                                                              .max_interval = MSEC(10),
                                                              .window = 2,
                                                              .dirty_budget = 1024,
                                                              .staging_cap = SLAB_SIZE_MAX},
                                                   .disk_size = DISK_SIZE};

static void wait_until(bool (*condition)(void *context), void *context)
{
    const nsec_t deadline = clock_now() + SEC(60);
    while (!condition(context) && clock_now() < deadline) {
        const struct timespec pace = {.tv_nsec = 500000};
        nanosleep(&pace, NULL);
    }
    CU_ASSERT_TRUE_FATAL(condition(context));
}

/* ---- carried by hand ---- */

static struct disk_volume *next_volume; /* of the machine that is made next */

static void add_disk(struct machine_config *config)
{
    config->disk_count = 1;
    config->disks[0] = blk_volume_backend(next_volume);
}

struct host {
    struct memory_disk disk;
    struct disk_volume *volume;
    struct guest *guest;
};

static const struct guest_config carried = {
    .program = "diskwriter", .arguments = "report=100 depth=12", .adjust = add_disk};

static struct host *make_host(struct world *world)
{
    struct host *host = calloc(1, sizeof(*host));
    CU_ASSERT_PTR_NOT_NULL_FATAL(host);
    memory_disk_init(&host->disk, DISK_SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&host->disk)};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &host->volume, NULL), 0);
    next_volume = host->volume;
    host->guest = guest_check_create(&carried, world);
    return host;
}

static void free_host(struct host *host)
{
    memory_disk_hold(&host->disk, false);
    guest_destroy(&host->guest);
    disk_volume_destroy(&host->volume);
    memory_disk_free(&host->disk);
    free(host);
}

static bool has_requests(void *context)
{
    struct memory_disk *disk = context;
    pthread_mutex_lock(&disk->lock);
    const bool has = disk->busy >= 4;
    pthread_mutex_unlock(&disk->lock);
    return has;
}

/* The disk of the old host keeps its requests: the new one's has nothing of them. */
static void requests_in_flight_go_on_in_another_machine(void)
{
    struct world *world = world_create();
    struct host *host = make_host(world);
    CU_ASSERT_EQUAL_FATAL(guest_boot(host->guest, NULL), 0);
    for (unsigned i = 0; i < HOPS; i++) {
        guest_check_lines(world, "ops=", 2);
        struct host *to = make_host(world);
        memory_disk_hold(&host->disk, true);
        wait_until(has_requests, &host->disk);
        struct error err = {0};
        CU_ASSERT_EQUAL_FATAL(guest_transfer(host->guest, to->guest, NULL, &err), 0);
        memcpy(to->disk.bytes, host->disk.bytes, DISK_SIZE);
        free_host(host);
        guest_resume(to->guest);
        host = to;
    }
    guest_check_lines(world, "ops=", 3);
    guest_check_no_complaint(world);
    free_host(host);
    world_destroy(&world);
}

/* ---- failover ---- */

static bool is_hit(void *fault)
{
    return protocol_fault_hit(fault) > 0;
}

static void disk_writers_survive_every_step(void)
{
    static const struct protocol_step steps[] = {
        {PROTOCOL_EPOCH_FIRST, PROTOCOL_ACK, 1},
        {LATER, PROTOCOL_BEGIN, 1},
        {LATER, PROTOCOL_DISK, 1},
        {LATER, PROTOCOL_STATE, 1},
        {LATER, PROTOCOL_END, 1},
        {LATER, PROTOCOL_ACK, 1},
    };
    /* Few blocks, each read often, and epochs long enough for requests to begin and end in one. */
    struct failover_pair_config config = writer;
    config.arguments = "report=2000 journal=0 blocks=32 depth=3";
    config.policy.max_interval = MSEC(30);
    struct failover_pair *pair = failover_pair_create(&config);
    struct world *world = failover_pair_world(pair);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        struct protocol_fault fault = {.step = steps[i % ARRAY_SIZE(steps)],
                                       .kind = FAULT_CUT,
                                       .at_byte = i % 3 * FRAME_HEADER_SIZE / 2,
                                       .primary_side = i % 2};
        failover_pair_protect(pair, &fault);
        wait_until(is_hit, &fault);
        struct standby_takeover takeover;
        failover_pair_kill_primary(pair);
        failover_pair_promote(pair, &takeover);
        CU_ASSERT(takeover.epoch > 0);
        guest_check_lines(world, "ops=", 3);
        guest_check_no_complaint(world);
    }
    failover_pair_destroy(&pair);
}

/* As one would wish of any replication: nothing differs when nobody writes. */
static void both_images_are_equal_when_the_guest_stands_still(void)
{
    struct failover_pair *pair = failover_pair_create(&writer);
    failover_pair_protect(pair, NULL);
    guest_check_lines(failover_pair_world(pair), "journal=", 30);
    guest_check_lines(failover_pair_world(pair), "ops=", 5);
    failover_pair_settle(pair);
    const struct memory_disk *a = failover_pair_disk(pair), *b = failover_pair_standby_disk(pair);
    for (uint64_t at = 0; at < DISK_SIZE; at += 4096)
        if (memcmp(a->bytes + at, b->bytes + at, 4096) != 0) {
            printf("  the images differ at %llu\n", (unsigned long long)at);
            CU_FAIL("the images differ");
            break;
        }
    failover_pair_destroy(&pair);
}

/* ---- disks that fail or lag ---- */

static bool is_not_replicating(void *pair)
{
    struct engine_stats *stats = malloc(sizeof(*stats));
    failover_pair_engine_stats(pair, stats);
    const bool lost = stats->state == ENGINE_HOLDING;
    free(stats);
    return lost;
}

static bool is_not_promotable(void *pair)
{
    struct standby_stats stats;
    failover_pair_standby_stats(pair, &stats);
    return !stats.promotable;
}

static void a_standby_whose_disk_fails_says_so_and_is_none(void)
{
    static const int errors[] = {-EIO, -ENOSPC};
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        struct failover_pair *pair = failover_pair_create(&writer);
        failover_pair_protect(pair, NULL);
        struct standby_stats stats;
        failover_pair_standby_stats(pair, &stats);
        CU_ASSERT_TRUE(stats.promotable);
        memory_disk_fail(failover_pair_standby_disk(pair), 0, DISK_SIZE, errors[i]);
        wait_until(is_not_promotable, pair);
        wait_until(is_not_replicating, pair); /* the primary was told */
        failover_pair_destroy(&pair);
    }
}

static bool is_waiting(void *pair)
{
    struct disk_store_stats stats;
    failover_pair_disk_stats(pair, &stats);
    return stats.waiting > 0;
}

static void a_standby_whose_disk_lags_slows_the_guest_and_fails_nothing(void)
{
    struct failover_pair_config config = writer;
    config.arguments = "report=200 depth=15";
    struct failover_pair *pair = failover_pair_create(&config);
    struct world *world = failover_pair_world(pair);
    failover_pair_protect(pair, NULL);
    memory_disk_hold(failover_pair_standby_disk(pair), true);
    wait_until(is_waiting, pair);
    struct disk_store_stats stats;
    failover_pair_disk_stats(pair, &stats);
    CU_ASSERT(stats.log.used_bytes <= DISK_LOG_CAP);
    memory_disk_hold(failover_pair_standby_disk(pair), false);
    guest_check_lines(world, "ops=", 20);
    guest_check_no_complaint(world);
    failover_pair_disk_stats(pair, &stats);
    CU_ASSERT(stats.log.refusals > 0);
    failover_pair_destroy(&pair);
}

static const struct test_case cases[] = {
    {"requests in flight go on in another machine", requests_in_flight_go_on_in_another_machine},
    {"disk writers survive every step", disk_writers_survive_every_step},
    {"both images are equal when the guest stands still",
     both_images_are_equal_when_the_guest_stands_still},
    {"a standby whose disk fails says so and is none",
     a_standby_whose_disk_fails_says_so_and_is_none},
    {"a standby whose disk lags slows the guest and fails nothing",
     a_standby_whose_disk_lags_slows_the_guest_and_fails_nothing},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    log_set_level(LOG_LEVEL_ERROR);
    return test_run(argc, argv, "guests with disks", cases, ARRAY_SIZE(cases));
}
