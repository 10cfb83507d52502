/* State of the virtio devices: what is saved loads elsewhere and goes on there; what is damaged is
 * refused, or is a legal state that saves as the very bytes that were loaded. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "app/blk_volume.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define NET     0
#define BLK     1
#define CONSOLE 2
#define RNG     3
#define DEVICES 4
#define BYTES   32768
#define BIT(n)  (1ull << (n))
#define EVENTS  BIT(VIRTIO_RING_F_EVENT_IDX)

static const uint8_t slots[DEVICES] = {1, 9, 25, 26};

struct host {
    struct vd_machine m;
    struct device devices[DEVICES];
    struct vd_driver drivers[DEVICES];
    struct memory_disk disk;
    struct disk_volume *volume;
};

static struct host a, b; /* primary and standby */
static struct section_set *set;

static void create(struct host *h)
{
    vd_machine_create(&h->m);
    memory_disk_init(&h->disk, 32 * 512);
    const struct disk_volume_config volume = {.image = memory_disk_image(&h->disk)};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&volume, &h->volume, NULL), 0);
    const struct virtio_net_options net = {.slot = slots[NET],
                                           .mac = {2, 0, 0, 0, 0, 1},
                                           .output = &vd_output,
                                           .output_context = &h->m};
    const struct virtio_blk_options blk = {.slot = slots[BLK],
                                           .backend = blk_volume_backend(h->volume)};
    const struct virtio_console_options console = {
        .slot = slots[CONSOLE], .output = &vd_output, .output_context = &h->m};
    CU_ASSERT_EQUAL_FATAL(virtio_net_create(&h->m.env, h->m.host, &net, &h->devices[NET], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(virtio_blk_create(&h->m.env, h->m.host, &blk, &h->devices[BLK], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(
        virtio_console_create(&h->m.env, h->m.host, &console, &h->devices[CONSOLE], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(
        virtio_rng_create(&h->m.env, h->m.host, slots[RNG], &h->devices[RNG], NULL), 0);
}

static void destroy(struct host *h)
{
    for (unsigned i = 0; i < DEVICES; i++)
        vd_device_destroy(&h->devices[i]);
    vd_machine_destroy(&h->m);
    disk_volume_destroy(&h->volume);
    memory_disk_free(&h->disk);
}

static void quiesce(struct host *h)
{
    for (unsigned i = 0; i < DEVICES; i++)
        if (h->devices[i].ops->quiesce)
            h->devices[i].ops->quiesce(h->devices[i].context);
}

static void resume(struct host *h)
{
    for (unsigned i = 0; i < DEVICES; i++)
        h->devices[i].ops->resume(h->devices[i].context);
}

static int save(const struct host *h, struct section_set *out)
{
    section_set_reset(out);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < DEVICES; i++)
        rc = h->devices[i].ops->save(h->devices[i].context, h->devices[i].instance, out, NULL);
    return rc;
}

static int check(const struct host *h, const struct section_set *in, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < DEVICES; i++)
        rc = h->devices[i].ops->check(h->devices[i].context, h->devices[i].instance, in, err);
    return rc;
}

static void load(struct host *h, const struct section_set *in)
{
    for (unsigned i = 0; i < DEVICES; i++)
        h->devices[i].ops->load(h->devices[i].context, h->devices[i].instance, in);
}

/* Saves into bytes; returns how many. */
static size_t save_bytes(const struct host *h, uint8_t *out)
{
    struct section_set *s = section_set_create();
    CU_ASSERT_EQUAL(save(h, s), 0);
    const int size = section_set_encode(s, out, BYTES);
    CU_ASSERT_FATAL(size > 0);
    section_set_destroy(&s);
    return (size_t)size;
}

/* Both hosts exist; the drivers of `a` have been at work and left every device with some past. */
static void start(void)
{
    set = section_set_create();
    create(&a);
    create(&b);
    const unsigned queues[DEVICES] = {2, 1, 2, 1};
    for (unsigned i = 0; i < DEVICES; i++) {
        vd_probe(&a.drivers[i], &a.m, slots[i]);
        vd_start(&a.drivers[i], i % 2 ? EVENTS : 0, queues[i], 8);
    }
    for (unsigned i = 0; i < 3; i++) {
        const struct vd_buffer in = {vd_alloc(&a.m, 64), 64, true};
        vd_offer(&a.drivers[RNG], 0, &in, 1);
        vd_kick(&a.drivers[RNG], 0);
        const struct vd_buffer out = {vd_alloc(&a.m, 64), 64, false};
        vd_offer(&a.drivers[NET], 1, &out, 1);
        vd_kick(&a.drivers[NET], 1);
    }
    virtio_console_input(&a.devices[CONSOLE], (const uint8_t *)"typed", 5);
    quiesce(&a);
}

static void stop(void)
{
    section_set_destroy(&set);
    destroy(&a);
    destroy(&b);
}

static void copy_memory(void)
{
    memcpy(gmem_view(b.m.env.memory, 0, VD_MEMORY_SIZE),
           gmem_view(a.m.env.memory, 0, VD_MEMORY_SIZE), VD_MEMORY_SIZE);
    memcpy(b.drivers, a.drivers, sizeof(b.drivers));
    for (unsigned i = 0; i < DEVICES; i++)
        b.drivers[i].machine = &b.m;
    b.m.next = a.m.next;
}

static void two_saves_of_an_unchanged_machine_are_equal(void)
{
    start();
    static uint8_t first[BYTES], second[BYTES];
    const size_t size = save_bytes(&a, first);
    CU_ASSERT_EQUAL(save_bytes(&a, second), size);
    CU_ASSERT_EQUAL(memcmp(first, second, size), 0);
    stop();
}

static void loaded_state_saves_as_the_same_bytes(void)
{
    start();
    static uint8_t first[BYTES], second[BYTES];
    const size_t size = save_bytes(&a, first);
    CU_ASSERT_EQUAL(section_set_decode(set, first, size, NULL), 0);
    struct error err = {0};
    CU_ASSERT_EQUAL(check(&b, set, &err), 0);
    load(&b, set);
    CU_ASSERT_EQUAL(save_bytes(&b, second), size);
    CU_ASSERT_EQUAL(memcmp(first, second, size), 0);
    load(&b, set); /* over a state that is not fresh */
    CU_ASSERT_EQUAL(save_bytes(&b, second), size);
    CU_ASSERT_EQUAL(memcmp(first, second, size), 0);
    stop();
}

static void the_loaded_machine_goes_on_where_the_other_stopped(void)
{
    start();
    /* Offered before the cut, notified never: the new host must find them by itself. */
    const struct vd_buffer entropy = {vd_alloc(&a.m, 32), 32, true};
    vd_offer(&a.drivers[RNG], 0, &entropy, 1);
    const struct vd_buffer frame = {vd_alloc(&a.m, 64), 64, false};
    vd_offer(&a.drivers[NET], 1, &frame, 1);
    const struct vd_buffer input = {vd_alloc(&a.m, 16), 16, true};
    vd_offer(&a.drivers[CONSOLE], 0, &input, 1);
    const gpa_t header = vd_alloc(&a.m, 16), data = vd_alloc(&a.m, 513);
    const struct virtio_blk_outhdr read = {.type = VIRTIO_BLK_T_IN};
    memcpy(gmem_view(a.m.env.memory, header, 16), &read, 16);
    const struct vd_buffer request[] = {{header, 16, false}, {data, 513, true}};
    vd_offer(&a.drivers[BLK], 0, request, 2);
    CU_ASSERT_EQUAL(save(&a, set), 0);
    copy_memory();
    load(&b, set);
    uint32_t id, length;
    vd_pump(&b.m);
    CU_ASSERT_EQUAL(virtio_console_input(&b.devices[CONSOLE], (const uint8_t *)"x", 1), 1);
    const struct {
        unsigned device, queue, before, length;
    } expected[] = {{RNG, 0, 3, 32}, {NET, 1, 3, 0}, {CONSOLE, 0, 0, 6}, {BLK, 0, 0, 513}};
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        struct vd_driver *d = &b.drivers[expected[i].device];
        for (unsigned k = 0; k < expected[i].before; k++)
            CU_ASSERT_TRUE(vd_take(d, expected[i].queue, &id, &length));
        CU_ASSERT_FALSE(vd_take(d, expected[i].queue, &id, &length)); /* not before resume */
    }
    resume(&b);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        CU_ASSERT_TRUE(vd_wait(&b.drivers[expected[i].device], expected[i].queue, &id, &length));
        CU_ASSERT_EQUAL(length, expected[i].length);
    }
    CU_ASSERT_EQUAL(b.m.frame_count, 1);
    /* MSI-X moved along; the entropy driver asked (used_event) for no interrupt at its fourth. */
    CU_ASSERT_EQUAL(b.m.message_count, 3);
    stop();
}

static void missing_and_truncated_sections_are_refused(void)
{
    start();
    CU_ASSERT_EQUAL(save(&a, set), 0);
    struct section_set *damaged = section_set_create();
    const size_t count = section_set_count(set);
    CU_ASSERT_EQUAL(count, 11); /* net, blk and console have three each, the entropy source two */
    for (size_t victim = 0; victim < count; victim++)
        for (unsigned way = 0; way < 4; way++) {
            section_set_reset(damaged);
            for (size_t i = 0; i < count; i++) {
                const struct section *s = section_set_at(set, i);
                const bool here = i == victim;
                if (here && way == 0)
                    continue;
                const uint32_t version = s->version + (here && way == 1);
                const size_t size = s->size - (here && way == 2) + (here && way == 3);
                uint8_t *out = section_set_add(damaged, s->name, s->instance, version, size);
                memcpy(out, section_set_data(set, s), size < s->size ? size : s->size);
            }
            struct error err = {0};
            CU_ASSERT_EQUAL(check(&b, damaged, &err), way == 0 ? -ENOENT : -EPROTONOSUPPORT);
            CU_ASSERT_PTR_NOT_NULL(strstr(err.text, section_set_at(set, victim)->name));
        }
    section_set_destroy(&damaged);
    stop();
}

/* Every byte of every section in turn takes several values. check() must either refuse, or the
 * state loads and is taken over exactly. */
static void any_damaged_byte_is_refused_or_taken_over_exactly(void)
{
    start();
    static uint8_t good[BYTES], bytes[BYTES], again[BYTES];
    const size_t size = save_bytes(&a, good);
    size_t payload = size;
    CU_ASSERT_EQUAL(save(&a, set), 0);
    for (size_t i = 0; i < section_set_count(set); i++)
        payload -= section_set_at(set, i)->size;
    const uint8_t masks[] = {0x01, 0x02, 0x10, 0x80, 0xff};
    unsigned refused = 0, taken = 0;
    for (size_t at = payload; at < size; at++)
        for (size_t k = 0; k < ARRAY_SIZE(masks); k++) {
            memcpy(bytes, good, size);
            bytes[at] ^= masks[k];
            CU_ASSERT_EQUAL_FATAL(section_set_decode(set, bytes, size, NULL), 0);
            struct error err = {0};
            if (check(&b, set, &err) < 0) {
                refused++;
                CU_ASSERT(err.text[0] != '\0');
                continue;
            }
            taken++;
            load(&b, set);
            CU_ASSERT_EQUAL(save_bytes(&b, again), size);
            CU_ASSERT_EQUAL_FATAL(memcmp(bytes, again, size), 0);
        }
    CU_ASSERT(refused > 4000 && taken > 1000);
    stop();
}

/* Changes `width` bytes at `offset` of section `name` and expects check() to refuse. */
static void expect_refusal(const char *name, size_t offset, size_t width, uint64_t value)
{
    CU_ASSERT_EQUAL(save(&a, set), 0);
    const struct section *s = section_set_find(set, name, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_FATAL(offset + width <= s->size);
    uint8_t *data = (uint8_t *)(uintptr_t)section_set_data(set, s);
    for (size_t i = 0; i < width; i++)
        data[offset + i] = (uint8_t)(value >> (8 * i));
    struct error err = {0};
    CU_ASSERT_EQUAL(check(&b, set, &err), -EINVAL);
    CU_ASSERT(err.text[0] != '\0');
}

/* Offsets in "<device>.virtio", version 1: fixed part, then arrays over two queues. */
enum {
    AT_FEATURES = 0,
    AT_CONFIG_VECTOR = 18,
    AT_STATUS = 20,
    AT_ISR = 21,
    AT_DESC = 22,
    AT_DRIVER = 38,
    AT_DEVICE = 54,
    AT_SIZE = 70,
    AT_VECTOR = 74,
    AT_NEXT_AVAIL = 78,
    AT_NEXT_USED = 82,
    AT_ENABLED = 86,
    AT_KICKS_OFF = 88,
};

static void impossible_transport_state_is_refused(void)
{
    start();
    const struct {
        size_t at, width;
        uint64_t value;
    } bad[] = {
        {AT_FEATURES, 8, UINT64_MAX}, /* not offered */
        {AT_FEATURES, 8, 0},          /* not modern */
        {AT_CONFIG_VECTOR, 2, 3},     /* there are 0..2 */
        {AT_STATUS, 1, 0x20},         /* no such bit */
        {AT_STATUS, 1, 0x04},         /* DRIVER_OK without FEATURES_OK */
        {AT_ISR, 1, 4},
        {AT_DESC, 8, VD_MEMORY_SIZE},
        {AT_DESC, 8, 0x10008},
        {AT_DESC, 8, UINT64_MAX & ~15ull},
        {AT_DRIVER, 8, VD_MEMORY_SIZE - 2},
        {AT_DRIVER, 8, 0x10001},
        {AT_DEVICE, 8, 0xc0000000},
        {AT_DEVICE, 8, 0x10002},
        {AT_SIZE, 2, 0},
        {AT_SIZE, 2, 7},
        {AT_SIZE, 2, 512},
        {AT_VECTOR, 2, 9},
        {AT_NEXT_AVAIL, 2, 9}, /* more in flight than the ring holds */
        {AT_NEXT_USED, 2, 1},
        {AT_ENABLED, 1, 2},
        {AT_KICKS_OFF, 1, 2},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_refusal("virtio-net.virtio", bad[i].at, bad[i].width, bad[i].value);
    expect_refusal("virtio-blk.virtio", AT_SIZE + 2, 2, 8); /* its second queue does not exist */
    expect_refusal("virtio-blk.virtio", AT_ENABLED + 1, 1, 1);
    expect_refusal("virtio-net.virtio", AT_ENABLED + 1, 1, 0); /* off, but it has a position */
    stop();
}

static void state_of_another_configuration_is_refused(void)
{
    start();
    expect_refusal("virtio-net", 0, 1, 0xee);       /* MAC */
    expect_refusal("virtio-blk", 0, 8, 33 * 512);   /* size */
    expect_refusal("virtio-blk", 8, 1, 1);          /* read-only */
    expect_refusal("virtio-console", 0, 2, 1025);   /* more input than fits */
    expect_refusal("virtio-net.pci", 0, 2, 0x8086); /* another device */
    stop();
}

static void a_failed_check_changes_nothing(void)
{
    start();
    static uint8_t before[BYTES], after[BYTES];
    const size_t size = save_bytes(&b, before);
    expect_refusal("virtio-net.virtio", AT_STATUS, 1, 0x20);
    CU_ASSERT_EQUAL(save_bytes(&b, after), size);
    CU_ASSERT_EQUAL(memcmp(before, after, size), 0);
    stop();
}

static const struct test_case cases[] = {
    {"two saves of an unchanged machine are equal", two_saves_of_an_unchanged_machine_are_equal},
    {"loaded state saves as the same bytes", loaded_state_saves_as_the_same_bytes},
    {"the loaded machine goes on where the other stopped",
     the_loaded_machine_goes_on_where_the_other_stopped},
    {"missing and truncated sections are refused", missing_and_truncated_sections_are_refused},
    {"any damaged byte is refused or taken over exactly",
     any_damaged_byte_is_refused_or_taken_over_exactly},
    {"impossible transport state is refused", impossible_transport_state_is_refused},
    {"state of another configuration is refused", state_of_another_configuration_is_refused},
    {"a failed check changes nothing", a_failed_check_changes_nothing},
};

TEST_MAIN("virtio-state", cases)
