/* virtio-blk on a volume whose disk is memory. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "app/blk_volume.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT    9
#define SECTORS 64
#define BIT(n)  (1ull << (n))
#define FLUSH   BIT(VIRTIO_BLK_F_FLUSH)

static struct vd_machine m;
static struct device blk;
static struct vd_driver d;
static struct memory_disk disk;
static struct disk_volume *volume;

static void create_blk(bool read_only)
{
    struct blk_backend backend = blk_volume_backend(volume);
    backend.read_only = read_only;
    const struct virtio_blk_options options = {.index = 3, .slot = SLOT, .backend = backend};
    CU_ASSERT_EQUAL_FATAL(virtio_blk_create(&m.env, m.host, &options, &blk, NULL), 0);
}

/* A disk in which every byte of sector s is s + 1. */
static void create_disk(void)
{
    memory_disk_init(&disk, SECTORS * 512);
    for (unsigned s = 0; s < SECTORS; s++)
        memset(disk.bytes + s * 512, (int)s + 1, 512);
    const struct disk_volume_config config = {.image = memory_disk_image(&disk), .index = 3};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &volume, NULL), 0);
}

static void start(bool read_only, uint64_t features)
{
    create_disk();
    vd_machine_create(&m);
    create_blk(read_only);
    vd_probe(&d, &m, SLOT);
    vd_start(&d, features, 1, 64);
}

static void stop(void)
{
    memory_disk_hold(&disk, false);
    vd_device_destroy(&blk);
    vd_machine_destroy(&m);
    disk_volume_destroy(&volume);
    memory_disk_free(&disk);
}

struct request {
    gpa_t header;
    gpa_t data;
    gpa_t status;
    uint32_t used; /* length the device reported */
};

/* Puts a request with one data buffer into the ring. Data is read by the device for T_OUT. */
static struct request submit(uint32_t type, uint64_t sector, uint32_t size)
{
    const struct request r = {
        .header = vd_alloc(&m, 16), .data = vd_alloc(&m, size + 1), .status = vd_alloc(&m, 1)};
    const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
    memcpy(gmem_view(m.env.memory, r.header, 16), &header, 16);
    *gmem_view(m.env.memory, r.status, 1) = 0xaa;
    const bool in = type != VIRTIO_BLK_T_OUT;
    const struct vd_buffer parts[] = {
        {r.header, 16, false}, {r.data, size, in}, {r.status, 1, true}};
    vd_offer(&d, 0, parts, 3);
    return r;
}

static uint8_t status_of(const struct request *r)
{
    return *gmem_view(m.env.memory, r->status, 1);
}

static struct request perform(uint32_t type, uint64_t sector, uint32_t size)
{
    struct request r = submit(type, sector, size);
    vd_kick(&d, 0);
    uint32_t id;
    CU_ASSERT_TRUE_FATAL(vd_wait(&d, 0, &id, &r.used));
    return r;
}

static void reads_fill_the_buffer_and_mark_it_dirty(void)
{
    start(false, FLUSH);
    uint64_t bitmap[VD_MEMORY_SIZE / PAGE_SIZE / 64] = {0};
    gmem_take_marks(m.env.memory, bitmap);
    const struct request r = perform(VIRTIO_BLK_T_IN, 5, 1024);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_EQUAL(r.used, 1025);
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, r.data, 1), 6);
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, r.data + 1023, 1), 7);
    memset(bitmap, 0, sizeof(bitmap));
    gmem_take_marks(m.env.memory, bitmap);
    const uint64_t data = r.data >> PAGE_SHIFT, status = r.status >> PAGE_SHIFT;
    CU_ASSERT_TRUE(bitmap[data / 64] >> (data % 64) & 1);
    CU_ASSERT_TRUE(bitmap[status / 64] >> (status % 64) & 1);
    CU_ASSERT_EQUAL(m.message_count, 1);
    stop();
}

static void writes_reach_the_image(void)
{
    for (unsigned round = 0; round < 2; round++) {
        start(false, round ? FLUSH : 0); /* write-back and write-through */
        struct request r = submit(VIRTIO_BLK_T_OUT, 7, 1024);
        memset(gmem_view(m.env.memory, r.data, 1024), 0xe7, 1024);
        vd_kick(&d, 0);
        uint32_t id;
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &r.used));
        CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
        CU_ASSERT_EQUAL(r.used, 1);
        CU_ASSERT_EQUAL(disk.flushes, round ? 0 : 1);
        const uint8_t *bytes = disk.bytes + 6 * 512;
        CU_ASSERT_EQUAL(bytes[511], 7);
        CU_ASSERT_EQUAL(bytes[512], 0xe7);
        CU_ASSERT_EQUAL(bytes[1535], 0xe7);
        CU_ASSERT_EQUAL(bytes[1536], 10);
        stop();
    }
}

static void a_flush_and_an_identity_are_answered(void)
{
    start(false, FLUSH);
    struct request r = perform(VIRTIO_BLK_T_FLUSH, 0, 0);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_EQUAL(r.used, 1);
    r = perform(VIRTIO_BLK_T_GET_ID, 0, 20);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_STRING_EQUAL((const char *)gmem_view(m.env.memory, r.data, 20), "kemari-disk3");
    r = perform(VIRTIO_BLK_T_GET_ID, 0, 6);
    CU_ASSERT_EQUAL(r.used, 7);
    CU_ASSERT_STRING_EQUAL((const char *)gmem_view(m.env.memory, r.data, 7), "kemari");
    r = perform(4711, 0, 20);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_UNSUPP);
    stop();
}

static void requests_outside_the_disk_fail_alone(void)
{
    start(false, FLUSH);
    const struct {
        uint64_t sector;
        uint32_t size;
    } bad[] = {{SECTORS, 512},    {SECTORS - 1, 1024},
               {UINT64_MAX, 512}, {UINT64_MAX / 512, 512},
               {1ull << 55, 512}, {0, 511},
               {0, 513}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct request r = perform(VIRTIO_BLK_T_IN, bad[i].sector, bad[i].size);
        CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_IOERR);
        r = perform(VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].size);
        CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_IOERR);
    }
    const struct request r = perform(VIRTIO_BLK_T_IN, SECTORS - 1, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    stop();
}

static void a_failing_host_disk_is_reported_to_the_guest(void)
{
    start(false, FLUSH);
    memory_disk_fail(&disk, 4 * 512, disk.size, -EIO);
    struct request r = perform(VIRTIO_BLK_T_IN, 3, 1024);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_IOERR);
    CU_ASSERT_EQUAL(r.used, 1);
    r = perform(VIRTIO_BLK_T_IN, 0, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    stop();
}

static void a_read_only_disk_refuses_writes(void)
{
    start(true, FLUSH | BIT(VIRTIO_BLK_F_RO));
    struct request r = perform(VIRTIO_BLK_T_OUT, 0, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_IOERR);
    r = perform(VIRTIO_BLK_T_IN, 0, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    stop();
}

static void header_data_and_status_may_be_cut_anywhere(void)
{
    start(false, FLUSH | BIT(VIRTIO_RING_F_INDIRECT_DESC));
    const gpa_t out = vd_alloc(&m, 16), in = vd_alloc(&m, 513);
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = 2};
    memcpy(gmem_view(m.env.memory, out, 16), &header, 16);
    const struct vd_buffer parts[] = {{out, 3, false}, {out + 3, 12, false},  {out + 15, 1, false},
                                      {in, 100, true}, {in + 100, 412, true}, {in + 512, 1, true}};
    vd_offer_indirect(&d, 0, parts, 6);
    const struct vd_buffer joined[] = {{out, 16, false}, {in, 513, true}};
    vd_offer(&d, 0, joined, 2);
    vd_kick(&d, 0);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t id, length;
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
        CU_ASSERT_EQUAL(length, 513);
        CU_ASSERT_EQUAL(*gmem_view(m.env.memory, in + 511, 1), 3);
        CU_ASSERT_EQUAL(*gmem_view(m.env.memory, in + 512, 1), VIRTIO_BLK_S_OK);
    }
    stop();
}

static void a_request_without_header_or_status_breaks_the_device(void)
{
    const struct vd_buffer bad[] = {
        {0x10000, 15, false}, {0x10000, 64, true}, {0x10000, 64, false}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        start(false, FLUSH);
        vd_offer(&d, 0, &bad[i], 1);
        vd_kick(&d, 0);
        CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
        vd_start(&d, FLUSH, 1, 64);
        const struct request r = perform(VIRTIO_BLK_T_IN, 0, 512);
        CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
        stop();
    }
}

static void a_queue_full_of_requests_is_under_way_at_once(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    struct request r[20];
    for (unsigned i = 0; i < 20; i++)
        r[i] = submit(VIRTIO_BLK_T_IN, i, 512);
    vd_kick(&d, 0);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 20));
    memory_disk_hold(&disk, false);
    uint64_t seen = 0;
    for (unsigned i = 0; i < 20; i++) {
        uint32_t id;
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &r[i].used));
        seen |= 1ull << id;
        CU_ASSERT_EQUAL(r[i].used, 513);
    }
    for (unsigned i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL(*gmem_view(m.env.memory, r[i].data, 1), i + 1);
        CU_ASSERT_TRUE(seen >> (3 * i % 64) & 1);
    }
    stop();
}

/* A chain may be larger than any buffer: it is carried out in pieces. */
static void a_large_request_is_carried_out_in_pieces(void)
{
    memory_disk_init(&disk, 4u << 20);
    const struct disk_volume_config config = {.image = memory_disk_image(&disk), .index = 3};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &volume, NULL), 0);
    vd_machine_create(&m);
    create_blk(false);
    vd_probe(&d, &m, SLOT);
    vd_start(&d, FLUSH, 1, 64);
    const uint32_t size = 2 * BLK_DATA_MAX + 512;
    struct request r = submit(VIRTIO_BLK_T_OUT, 8, size);
    uint8_t *data = gmem_view(m.env.memory, r.data, size);
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i / 512 + i);
    vd_kick(&d, 0);
    uint32_t id;
    CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &r.used));
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_EQUAL(memcmp(disk.bytes + 8 * 512, data, size), 0);
    CU_ASSERT_EQUAL(disk.done, 3);
    CU_ASSERT_EQUAL(disk.busy_max, 1);
    const struct request in = perform(VIRTIO_BLK_T_IN, 8, size);
    CU_ASSERT_EQUAL(in.used, size + 1);
    CU_ASSERT_EQUAL(memcmp(gmem_view(m.env.memory, in.data, size), data, size), 0);
    stop();
}

/* ---- discard and write zeroes ---- */

static uint8_t ranges(uint32_t type, const struct virtio_blk_discard_write_zeroes *list,
                      uint32_t bytes)
{
    const gpa_t header_at = vd_alloc(&m, 16), list_at = vd_alloc(&m, bytes + 1);
    const gpa_t status_at = vd_alloc(&m, 1);
    const struct virtio_blk_outhdr header = {.type = type};
    memcpy(gmem_view(m.env.memory, header_at, 16), &header, 16);
    memcpy(gmem_view(m.env.memory, list_at, bytes), list, bytes);
    const struct vd_buffer parts[] = {
        {header_at, 16, false}, {list_at, bytes, false}, {status_at, 1, true}};
    vd_offer(&d, 0, parts, 3);
    vd_kick(&d, 0);
    uint32_t id, used;
    CU_ASSERT_TRUE_FATAL(vd_wait(&d, 0, &id, &used));
    CU_ASSERT_EQUAL(used, 1);
    return *gmem_view(m.env.memory, status_at, 1);
}

#define RANGES (FLUSH | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))

static void ranges_are_discarded_and_zeroed(void)
{
    start(false, RANGES);
    const struct virtio_blk_discard_write_zeroes two[] = {{2, 3, 0}, {10, 1, 0}};
    CU_ASSERT_EQUAL(ranges(VIRTIO_BLK_T_DISCARD, two, sizeof(two)), VIRTIO_BLK_S_OK);
    const struct virtio_blk_discard_write_zeroes last[] = {{SECTORS - 1, 1, 1}, {20, 0, 0}};
    CU_ASSERT_EQUAL(ranges(VIRTIO_BLK_T_WRITE_ZEROES, last, sizeof(last)), VIRTIO_BLK_S_OK);
    for (unsigned s = 0; s < SECTORS; s++) {
        const bool gone = (s >= 2 && s < 5) || s == 10 || s == SECTORS - 1;
        CU_ASSERT_EQUAL(disk.bytes[s * 512], gone ? 0 : s + 1);
        CU_ASSERT_EQUAL(disk.bytes[s * 512 + 511], gone ? 0 : s + 1);
    }
    stop();
}

static void bad_ranges_are_refused_and_nothing_is_done(void)
{
    start(false, RANGES);
    const struct {
        uint32_t type;
        struct virtio_blk_discard_write_zeroes range;
        uint32_t bytes;
        uint8_t status;
    } bad[] = {
        {VIRTIO_BLK_T_DISCARD, {SECTORS, 1, 0}, 16, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, {SECTORS - 1, 2, 0}, 16, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, {UINT64_MAX, 1, 0}, 16, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, {0, UINT32_MAX, 0}, 16, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, {0, 1, 1}, 16, VIRTIO_BLK_S_UNSUPP},
        {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 2}, 16, VIRTIO_BLK_S_UNSUPP},
        {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 0}, 15, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 0}, 8, VIRTIO_BLK_S_IOERR},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CU_ASSERT_EQUAL(ranges(bad[i].type, &bad[i].range, bad[i].bytes), bad[i].status);
    const struct virtio_blk_discard_write_zeroes many[17] = {{0, 1, 0}};
    CU_ASSERT_EQUAL(ranges(VIRTIO_BLK_T_DISCARD, many, sizeof(many)), VIRTIO_BLK_S_IOERR);
    const struct virtio_blk_discard_write_zeroes second[] = {{0, 1, 0}, {SECTORS, 1, 0}};
    CU_ASSERT_EQUAL(ranges(VIRTIO_BLK_T_DISCARD, second, sizeof(second)), VIRTIO_BLK_S_IOERR);
    for (unsigned s = 0; s < SECTORS; s++)
        CU_ASSERT_EQUAL(disk.bytes[s * 512], s + 1);
    stop();
    start(false, FLUSH); /* not negotiated */
    CU_ASSERT_EQUAL(ranges(VIRTIO_BLK_T_DISCARD, many, 16), VIRTIO_BLK_S_UNSUPP);
    stop();
}

/* ---- checkpoints ---- */

static void a_cut_waits_for_no_disk_and_memory_stays_still(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    const struct request in = submit(VIRTIO_BLK_T_IN, 0, 512);
    submit(VIRTIO_BLK_T_OUT, 5, 512);
    submit(VIRTIO_BLK_T_FLUSH, 0, 0);
    vd_kick(&d, 0);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 3));
    blk.ops->quiesce(blk.context); /* would not return if it waited */
    memory_disk_hold(&disk, false);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 0)); /* all is done, and nobody is told */
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, in.data, 1), 0);
    CU_ASSERT_EQUAL(status_of(&in), 0xaa);
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 2), 0);
    blk.ops->resume(blk.context);
    uint32_t id, length;
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, in.data, 1), 1);
    CU_ASSERT_EQUAL(disk.done, 3); /* each once */
    stop();
}

/* What another host would do that gets the state of a cut with requests in flight. */
static void requests_in_flight_are_done_again_by_another_host(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    const struct request out = submit(VIRTIO_BLK_T_OUT, 5, 512);
    memset(gmem_view(m.env.memory, out.data, 512), 0x5a, 512);
    const struct request over = submit(VIRTIO_BLK_T_OUT, 5, 512); /* the same place, later */
    memset(gmem_view(m.env.memory, over.data, 512), 0xa5, 512);
    const struct request in = submit(VIRTIO_BLK_T_IN, 7, 512);
    submit(VIRTIO_BLK_T_FLUSH, 0, 0);
    vd_kick(&d, 0);
    blk.ops->quiesce(blk.context);
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0);
    blk.ops->load(blk.context, 3, set); /* forgets its own, as another host never had them */
    struct section_set *again = section_set_create(); /* a state before the first resume */
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, again, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, again, NULL), 0);
    section_set_destroy(&again);
    memory_disk_hold(&disk, false);
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 0));
    memset(disk.bytes + 5 * 512, 0, 512); /* the other host's disk has nothing of it */
    const unsigned before = disk.done, flushes = disk.flushes;
    blk.ops->resume(blk.context);
    uint32_t id, length;
    for (unsigned i = 0; i < 4; i++)
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(disk.done, before + 4);
    CU_ASSERT_EQUAL(disk.flushes, flushes + 1);
    CU_ASSERT_EQUAL(disk.bytes[5 * 512], 0xa5);
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, in.data, 1), 8);
    CU_ASSERT(status_of(&in) == VIRTIO_BLK_S_OK && status_of(&out) == VIRTIO_BLK_S_OK);
    vd_pump(&m);
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 2), 4); /* each once */
    section_set_destroy(&set);
    stop();
}

static void a_request_that_outlasts_cuts_completes_once(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    submit(VIRTIO_BLK_T_FLUSH, 0, 0);
    vd_kick(&d, 0);
    for (unsigned cut = 0; cut < 3; cut++) {
        blk.ops->quiesce(blk.context);
        blk.ops->resume(blk.context);
    }
    memory_disk_hold(&disk, false);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(disk.flushes, 1);
    struct section_set *set = section_set_create(); /* nothing of it is left in the state */
    blk.ops->quiesce(blk.context);
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0);
    blk.ops->load(blk.context, 3, set);
    blk.ops->resume(blk.context);
    const struct request r = perform(VIRTIO_BLK_T_IN, 0, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_EQUAL(disk.flushes, 1);
    section_set_destroy(&set);
    stop();
}

/* Section "virtio-blk": size, read-only, count, heads. */
static void states_with_impossible_requests_are_refused(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    submit(VIRTIO_BLK_T_IN, 0, 512);
    submit(VIRTIO_BLK_T_IN, 1, 512);
    vd_kick(&d, 0);
    blk.ops->quiesce(blk.context);
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    const struct section *s = section_set_find(set, "virtio-blk", 3);
    CU_ASSERT_EQUAL(s->size, 8 + 1 + 2 + 512);
    uint8_t *bytes = (uint8_t *)(uintptr_t)section_set_data(set, s);
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {
        {9, 0},   /* fewer than the queue's counters say */
        {9, 3},   /* more: and its head is one that is there */
        {10, 2},  /* far more than there can be */
        {13, 0},  /* one head twice */
        {12, 1},  /* no such descriptor */
        {15, 40}, /* a head behind the count */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const uint8_t before = bytes[bad[i].at];
        bytes[bad[i].at] = bad[i].value;
        CU_ASSERT(blk.ops->check(blk.context, 3, set, NULL) < 0);
        bytes[bad[i].at] = before;
    }
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0);
    section_set_destroy(&set);
    stop();
}

/* The guest wrote over a descriptor that the device still owned. */
static void a_chain_that_was_destroyed_in_flight_breaks_the_device(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    submit(VIRTIO_BLK_T_IN, 0, 512);
    vd_kick(&d, 0);
    blk.ops->quiesce(blk.context);
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    memset(gmem_view(m.env.memory, d.queues[0].desc, 16), 0xff, 16);
    blk.ops->load(blk.context, 3, set);
    blk.ops->resume(blk.context);
    CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
    section_set_reset(set);
    blk.ops->quiesce(blk.context);
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0); /* can be carried on */
    blk.ops->resume(blk.context);
    section_set_destroy(&set);
    stop();
}

/* Else its state would name the chain twice, and no standby takes such a state. */
static void a_request_that_is_offered_twice_breaks_the_device(void)
{
    start(false, FLUSH);
    memory_disk_hold(&disk, true);
    submit(VIRTIO_BLK_T_IN, 0, 512);
    submit(VIRTIO_BLK_T_IN, 1, 512);
    vd_publish(&d, 0, 3); /* the second once more: its chain begins behind three descriptors */
    vd_kick(&d, 0);
    CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
    struct section_set *set = section_set_create();
    blk.ops->quiesce(blk.context);
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0); /* can be carried on */
    blk.ops->resume(blk.context);
    section_set_destroy(&set);
    /* After a reset it serves again, the same chains too. */
    memory_disk_hold(&disk, false);
    m.next = 0x10000;
    vd_start(&d, FLUSH, 1, 64);
    const struct request r = perform(VIRTIO_BLK_T_IN, 2, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    stop();
}

static void a_reset_in_the_middle_of_a_request_is_clean(void)
{
    start(false, FLUSH);
    for (unsigned round = 0; round < 50; round++) {
        m.next = 0x10000;
        vd_start(&d, FLUSH, 1, 64);
        memory_disk_hold(&disk, round % 3 == 0);
        submit(VIRTIO_BLK_T_IN, 0, 512);
        submit(VIRTIO_BLK_T_FLUSH, 0, 0);
        vd_kick(&d, 0);
        if (round % 2)
            vd_set_status(&d, 0);
        else
            blk.ops->reset(blk.context);
        vd_pump(&m);
        memory_disk_hold(&disk, false);
        vd_pump(&m);
        CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 2), 0);
    }
    stop();
}

static const struct test_case cases[] = {
    {"reads fill the buffer and mark it dirty", reads_fill_the_buffer_and_mark_it_dirty},
    {"writes reach the image", writes_reach_the_image},
    {"a flush and an identity are answered", a_flush_and_an_identity_are_answered},
    {"requests outside the disk fail alone", requests_outside_the_disk_fail_alone},
    {"a failing host disk is reported to the guest", a_failing_host_disk_is_reported_to_the_guest},
    {"a read-only disk refuses writes", a_read_only_disk_refuses_writes},
    {"header, data and status may be cut anywhere", header_data_and_status_may_be_cut_anywhere},
    {"a request without header or status breaks the device",
     a_request_without_header_or_status_breaks_the_device},
    {"a queue full of requests is under way at once",
     a_queue_full_of_requests_is_under_way_at_once},
    {"a request that is offered twice breaks the device",
     a_request_that_is_offered_twice_breaks_the_device},
    {"a large request is carried out in pieces", a_large_request_is_carried_out_in_pieces},
    {"ranges are discarded and zeroed", ranges_are_discarded_and_zeroed},
    {"bad ranges are refused and nothing is done", bad_ranges_are_refused_and_nothing_is_done},
    {"a cut waits for no disk and memory stays still",
     a_cut_waits_for_no_disk_and_memory_stays_still},
    {"requests in flight are done again by another host",
     requests_in_flight_are_done_again_by_another_host},
    {"a request that outlasts cuts completes once", a_request_that_outlasts_cuts_completes_once},
    {"states with impossible requests are refused", states_with_impossible_requests_are_refused},
    {"a chain that was destroyed in flight breaks the device",
     a_chain_that_was_destroyed_in_flight_breaks_the_device},
    {"a reset in the middle of a request is clean", a_reset_in_the_middle_of_a_request_is_clean},
};

TEST_MAIN("virtio-blk", cases)
