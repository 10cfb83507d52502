/* The disk of a guest in QEMU at a cut: whatever it was told is written is in the epoch's batch,
 * and nothing else is in the image; a cut waits for the disk, flushes nothing, and no process
 * writes but the one that runs the guest.
 *
 * The guest is a boot sector that writes one sector after the other by the firmware's disk service
 * (int 13h), which knows no flushes: so each write is durable before it is done, and there are as
 * many flushes as writes if QEMU adds none of its own. In software emulation; needs no /dev/kvm. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/qemu_machine.h"
#include "base/clock.h"
#include "dirtylog/dirtylog.h"
#include "test/support/memory_disk.h"
#include "test/support/memory_map.h"
#include "test/support/runner.h"

#define MEMORY   ((uint64_t)32 << 20)
#define SIZE     ((uint64_t)1 << 20)
#define CUTS     25
#define PATIENCE SEC(60)

/* Counts at 0x7e00, and writes what is there to sectors 1 to 8 in turn. */
static const uint8_t boot_sector[] = {
    0x31, 0xc0,                   /* xor ax, ax */
    0x8e, 0xd8,                   /* mov ds, ax */
    0x8e, 0xd0,                   /* mov ss, ax */
    0xbc, 0x00, 0x7c,             /* mov sp, 0x7c00 */
    0x66, 0xff, 0x06, 0x00, 0x7e, /* again: inc dword [0x7e00] */
    0x66, 0xa1, 0x00, 0x7e,       /* mov eax, [0x7e00] */
    0x66, 0x83, 0xe0, 0x07,       /* and eax, 7 */
    0x66, 0x40,                   /* inc eax */
    0x66, 0xa3, 0x48, 0x7c,       /* mov [0x7c48], eax: its sector */
    0xbe, 0x40, 0x7c,             /* mov si, 0x7c40: the request below */
    0xb2, 0x80,                   /* mov dl, 0x80: the first disk */
    0xb8, 0x00, 0x43,             /* mov ax, 0x4300: write */
    0xcd, 0x13,                   /* int 0x13 */
    0xeb, 0xe1,                   /* jmp again */
};
/* 16 bytes long, one sector, from 0:0x7e00, to the sector above. */
static const uint8_t request[] = {0x10, 0, 1, 0, 0x00, 0x7e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

static const char *const words[] = {"qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", NULL};

static struct memory_disk disk;
static struct memory_map map;
static struct disk_store *store;
static struct qemu_adapter *adapter;
static struct checkpoint_machine machine;
static struct section_set *state;
static uint8_t copy[SIZE]; /* the other host's image */

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static int open_network(void *context, unsigned index, struct error *err)
{
    (void)context, (void)index;
    return error_set(err, -ENODEV, "no network");
}

static void on_event(void *context, enum machine_event event, const char *detail)
{
    (void)context, (void)event, (void)detail;
}

static void on_wake(void *context)
{
    (void)context;
}

static void start(void)
{
    struct error err = {0};
    memory_disk_init(&disk, SIZE);
    memcpy(disk.bytes, boot_sector, sizeof(boot_sector));
    memcpy(disk.bytes + 0x40, request, sizeof(request));
    disk.bytes[510] = 0x55;
    disk.bytes[511] = 0xaa;
    memset(&map, 0, sizeof(map));
    const struct disk_store_config disks = {.count = 1,
                                            .disks = {{.path = "memory",
                                                       .protection = DISK_REPLICATED,
                                                       .image = memory_disk_image(&disk),
                                                       .map = memory_map_io(&map)}},
                                            .vm = "test",
                                            .state_dir = "/nonexistent",
                                            .cuts_drain = true};
    require(disk_store_open(&disks, &store, &err), &err);
    const struct qemu_adapter_config config = {
        .command = {.words = words,
                    .vcpus = 1,
                    .disk_device = "virtio-blk-pci,num-queues=1,queue-size=32"},
        .disks = store,
        .memory = {.size = MEMORY},
        .outlet = {.open_network = open_network, .console_fd = -1},
        .event = on_event,
    };
    require(qemu_adapter_create(&config, &adapter, &err), &err);
    machine = qemu_adapter_ops(adapter);
    state = section_set_create();
    memcpy(copy, disk.bytes, SIZE);
    machine.disks.ops->own(machine.disks.context, 1);
    require(machine.disks.ops->start(machine.disks.context, on_wake, NULL, &err), &err);
}

static void stop(void)
{
    qemu_adapter_destroy(&adapter);
    disk_store_close(&store);
    section_set_destroy(&state);
    memory_disk_free(&disk);
}

static uint64_t writes(void)
{
    struct disk_volume_stats stats;
    disk_volume_snapshot(disk_store_volume(store, 0), &stats);
    CU_ASSERT_EQUAL(stats.write_errors, 0);
    return stats.writes;
}

static void wait_writes(uint64_t count)
{
    const nsec_t deadline = clock_now() + PATIENCE;
    while (writes() < count) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        usleep(500);
    }
}

/* The batch of a cut, done on the other host's image as the replica does it. */
static uint64_t apply_batch(void)
{
    static const struct disk_geometry geometry = {.count = 1, .sizes = {SIZE}};
    const struct checkpoint_disks *d = &machine.disks;
    uint64_t records = 0, flushes = 0;
    void *batch = d->ops->take(d->context);
    struct iovec parts[2];
    int count;
    while (batch && (count = d->ops->payload(d->context, batch, parts, 2)) > 0) {
        static uint8_t payload[DISK_PAYLOAD_MAX];
        size_t size = 0, used = 0;
        struct disk_record record;
        for (int i = 0; i < count; size += parts[i++].iov_len)
            memcpy(payload + size, parts[i].iov_base, parts[i].iov_len);
        while (disk_record_next(payload, size, &used, &geometry, &record, NULL) == 1) {
            if (record.op == DISK_WRITE) {
                memcpy(copy + record.offset, record.data, record.length);
                records++;
            } else {
                CU_ASSERT_EQUAL(record.op, DISK_FLUSH);
                flushes++;
            }
        }
    }
    d->ops->release(d->context, batch, CHECKPOINT_DISK_COMMITTED);
    CU_ASSERT_EQUAL(flushes, records);
    return records;
}

static void cut(void)
{
    struct error err = {0};
    const uint64_t before = writes();
    machine.ops->park(machine.context);
    section_set_reset(state);
    require(machine.ops->save(machine.context, state, &err), &err);
    CU_ASSERT_TRUE(apply_batch() > 0 || writes() == before);
    CU_ASSERT_EQUAL(memcmp(copy, disk.bytes, SIZE), 0);
}

static void every_epoch_has_the_writes_that_its_state_believes_in(void)
{
    start();
    for (uint64_t i = 0, done = 0; i < CUTS; i++) {
        machine.ops->resume(machine.context);
        wait_writes(done + 1 + i % 3);
        cut();
        done = writes();
        pthread_mutex_lock(&disk.lock);
        CU_ASSERT_EQUAL(disk.busy, 0);
        CU_ASSERT_EQUAL(disk.flushes, writes());
        pthread_mutex_unlock(&disk.lock);
    }
    stop();
}

static void *park_main(void *context)
{
    (void)context;
    cut();
    return NULL;
}

static void a_cut_waits_for_the_disk(void)
{
    pthread_t thread;
    start();
    machine.ops->resume(machine.context);
    wait_writes(1);
    memory_disk_hold(&disk, true);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 1));
    const uint64_t before = writes();
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, park_main, NULL), 0);
    memory_disk_hold(&disk, false);
    pthread_join(thread, NULL);
    CU_ASSERT(writes() > before); /* what it had begun is done, and in the batch */
    machine.ops->resume(machine.context);
    wait_writes(before + 10); /* and it goes on */
    cut();
    stop();
}

/* The state of one, loaded by another process over the same disk. */
static void another_process_writes_on(void)
{
    struct error err = {0};
    static uint8_t memory[MEMORY];
    start();
    machine.ops->resume(machine.context);
    wait_writes(20);
    cut();
    const struct gmem *g = machine.ops->memory(machine.context);
    for (uint64_t i = 0; i < gmem_page_count(g); i++)
        memcpy(memory + i * PAGE_SIZE, gmem_page(g, gmem_gfn_at(g, i)), PAGE_SIZE);
    const pid_t first = qemu_adapter_process(adapter);
    /* It begins a process that waits, which reads the disk and may not write. */
    require(machine.ops->check(machine.context, state, &err), &err);
    CU_ASSERT_NOT_EQUAL(qemu_adapter_process(adapter), first);
    for (uint64_t i = 0; i < gmem_page_count(g); i++)
        memcpy(gmem_page(g, gmem_gfn_at(g, i)), memory + i * PAGE_SIZE, PAGE_SIZE);
    CU_ASSERT_EQUAL(memcmp(copy, disk.bytes, SIZE), 0);
    require(machine.ops->load(machine.context, state, 0, &err), &err);
    const uint64_t before = writes();
    machine.ops->resume(machine.context);
    wait_writes(before + 20);
    cut();
    stop();
}

static const struct test_case cases[] = {
    {"every epoch has the writes that its state believes in",
     every_epoch_has_the_writes_that_its_state_believes_in},
    {"a cut waits for the disk", a_cut_waits_for_the_disk},
    {"another process writes on", another_process_writes_on},
};

int main(int argc, char **argv)
{
    struct error reason = {0};
    if (dirtylog_pagemap_probe(&reason) < 0)
        test_skip(reason.text);
    return test_run(argc, argv, "qemu-disks", cases, ARRAY_SIZE(cases));
}
