/* virtio-blk on an image file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT    9
#define SECTORS 64
#define BIT(n)  (1ull << (n))
#define FLUSH   BIT(VIRTIO_BLK_F_FLUSH)

/* Stands in front of the C library's: flushes wait while the gate is closed. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int flushes; /* that passed the gate */

int fdatasync(int fd)
{
    (void)fd;
    pthread_mutex_lock(&gate);
    flushes++;
    pthread_mutex_unlock(&gate);
    return 0;
}

static struct vd_machine m;
static struct device blk;
static struct vd_driver d;
static char path[] = "/tmp/kemari-blk-XXXXXX";
static int image;

static int create_blk(bool read_only, struct error *err)
{
    const struct virtio_blk_options options = {
        .index = 3, .slot = SLOT, .path = path, .read_only = read_only};
    return virtio_blk_create(&m.env, m.host, &options, &blk, err);
}

/* An image in which every byte of sector s is s + 1. */
static void create_image(void)
{
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    image = mkstemp(path);
    CU_ASSERT_FATAL(image >= 0);
    for (unsigned s = 0; s < SECTORS; s++) {
        uint8_t sector[512];
        memset(sector, (int)s + 1, sizeof(sector));
        CU_ASSERT_EQUAL(write(image, sector, sizeof(sector)), 512);
    }
}

static void start(bool read_only, uint64_t features)
{
    create_image();
    vd_machine_create(&m);
    CU_ASSERT_EQUAL_FATAL(create_blk(read_only, NULL), 0);
    vd_probe(&d, &m, SLOT);
    vd_start(&d, features, 1, 64);
}

static void stop(void)
{
    vd_device_destroy(&blk);
    vd_machine_destroy(&m);
    fd_close(&image);
    unlink(path);
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
        flushes = 0;
        struct request r = submit(VIRTIO_BLK_T_OUT, 7, 1024);
        memset(gmem_view(m.env.memory, r.data, 1024), 0xe7, 1024);
        vd_kick(&d, 0);
        uint32_t id;
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &r.used));
        CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
        CU_ASSERT_EQUAL(r.used, 1);
        CU_ASSERT_EQUAL(flushes, round ? 0 : 1);
        uint8_t bytes[2048];
        CU_ASSERT_EQUAL(pread(image, bytes, sizeof(bytes), 6 * 512), 2048);
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
    struct stat st;
    fstat(image, &st);
    CU_ASSERT_EQUAL(st.st_size, SECTORS * 512);
    const struct request r = perform(VIRTIO_BLK_T_IN, SECTORS - 1, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    stop();
}

static void a_failing_host_disk_is_reported_to_the_guest(void)
{
    start(false, FLUSH);
    CU_ASSERT_EQUAL(ftruncate(image, 4 * 512), 0); /* behind the device's back */
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

static void a_queue_full_of_requests_is_served_in_order(void)
{
    start(false, FLUSH);
    struct request r[20];
    for (unsigned i = 0; i < 20; i++)
        r[i] = submit(VIRTIO_BLK_T_IN, i, 512);
    vd_kick(&d, 0);
    for (unsigned i = 0; i < 20; i++) {
        uint32_t id;
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &r[i].used));
        CU_ASSERT_EQUAL(id, 3 * i % 64);
        CU_ASSERT_EQUAL(*gmem_view(m.env.memory, r[i].data, 1), i + 1);
    }
    stop();
}

static void quiesce_leaves_nothing_in_flight_and_resume_goes_on(void)
{
    start(false, FLUSH);
    for (unsigned i = 0; i < 20; i++)
        submit(VIRTIO_BLK_T_IN, i, 512);
    vd_kick(&d, 0);
    blk.ops->quiesce(blk.context);
    const uint16_t done = vd_get16(&m, d.queues[0].used + 2);
    CU_ASSERT(done >= 1 && done < 20); /* one job: the others are still the guest's */
    vd_pump(&m);
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 2), done);
    blk.ops->resume(blk.context);
    uint32_t id, length;
    for (unsigned i = 0; i < 20; i++)
        CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    stop();
}

static void a_flush_is_not_waited_for_and_done_again_by_another_host(void)
{
    start(false, FLUSH);
    flushes = 0;
    pthread_mutex_lock(&gate);
    submit(VIRTIO_BLK_T_FLUSH, 0, 0);
    submit(VIRTIO_BLK_T_IN, 0, 512);
    vd_kick(&d, 0);
    blk.ops->quiesce(blk.context); /* would not return if it waited */
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    const gpa_t used = d.queues[0].used + 2;
    CU_ASSERT_EQUAL(vd_get16(&m, used), 0);
    blk.ops->resume(blk.context);
    vd_pump(&m);
    CU_ASSERT_EQUAL(vd_get16(&m, used), 0);
    blk.ops->quiesce(blk.context);
    pthread_mutex_unlock(&gate);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0);
    blk.ops->load(blk.context, 3, set); /* drops the first flush, as another host never had it */
    CU_ASSERT_EQUAL(flushes, 1);
    blk.ops->resume(blk.context);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(length, 1);
    CU_ASSERT_EQUAL(flushes, 2);
    CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(length, 513);
    section_set_destroy(&set);
    stop();
}

static void a_flush_that_outlasts_a_cut_completes_once(void)
{
    start(false, FLUSH);
    flushes = 0;
    pthread_mutex_lock(&gate);
    submit(VIRTIO_BLK_T_FLUSH, 0, 0);
    vd_kick(&d, 0);
    for (unsigned cut = 0; cut < 3; cut++) {
        blk.ops->quiesce(blk.context);
        blk.ops->resume(blk.context);
    }
    pthread_mutex_unlock(&gate);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, 0, &id, &length));
    CU_ASSERT_EQUAL(flushes, 1);
    struct section_set *set = section_set_create(); /* nothing of it is left in the state */
    blk.ops->quiesce(blk.context);
    CU_ASSERT_EQUAL(blk.ops->save(blk.context, 3, set, NULL), 0);
    CU_ASSERT_EQUAL(blk.ops->check(blk.context, 3, set, NULL), 0);
    blk.ops->load(blk.context, 3, set);
    blk.ops->resume(blk.context);
    const struct request r = perform(VIRTIO_BLK_T_IN, 0, 512);
    CU_ASSERT_EQUAL(status_of(&r), VIRTIO_BLK_S_OK);
    CU_ASSERT_EQUAL(flushes, 1);
    section_set_destroy(&set);
    stop();
}

static void a_reset_in_the_middle_of_a_request_is_clean(void)
{
    start(false, FLUSH);
    for (unsigned round = 0; round < 50; round++) {
        m.next = 0x10000;
        vd_start(&d, FLUSH, 1, 64);
        submit(VIRTIO_BLK_T_IN, 0, 512);
        submit(VIRTIO_BLK_T_FLUSH, 0, 0);
        vd_kick(&d, 0);
        if (round % 2)
            vd_set_status(&d, 0);
        else
            blk.ops->reset(blk.context);
        vd_pump(&m);
        CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 2), 0);
    }
    stop();
}

static void bad_images_are_refused_with_a_sentence(void)
{
    create_image();
    vd_machine_create(&m);
    const struct {
        const char *path;
        const char *says;
    } bad[] = {
        {"/nonexistent/disk.img", "No such file"}, {"/tmp", "directory"}, {"/dev/null", "neither"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = {0};
        const struct virtio_blk_options options = {.slot = SLOT, .path = bad[i].path};
        CU_ASSERT(virtio_blk_create(&m.env, m.host, &options, &blk, &err) < 0);
        CU_ASSERT(strstr(err.text, bad[i].path) && strstr(err.text, bad[i].says));
    }
    struct error err = {0};
    CU_ASSERT_EQUAL(ftruncate(image, 1000), 0);
    CU_ASSERT_EQUAL(create_blk(false, &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "multiple of 512"));
    CU_ASSERT_EQUAL(ftruncate(image, 0), 0);
    CU_ASSERT_EQUAL(create_blk(false, &err), -EINVAL);
    CU_ASSERT_EQUAL(ftruncate(image, 512), 0);
    CU_ASSERT_EQUAL_FATAL(create_blk(false, &err), 0); /* nothing was left behind in the slot */
    CU_ASSERT_EQUAL(virtio_blk_size(&blk), 512);
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
    {"a queue full of requests is served in order", a_queue_full_of_requests_is_served_in_order},
    {"quiesce leaves nothing in flight and resume goes on",
     quiesce_leaves_nothing_in_flight_and_resume_goes_on},
    {"a flush is not waited for and done again by another host",
     a_flush_is_not_waited_for_and_done_again_by_another_host},
    {"a flush that outlasts a cut completes once", a_flush_that_outlasts_a_cut_completes_once},
    {"a reset in the middle of a request is clean", a_reset_in_the_middle_of_a_request_is_clean},
    {"bad images are refused with a sentence", bad_images_are_refused_with_a_sentence},
};

TEST_MAIN("virtio-blk", cases)
