/* Address decoding: ranges, their edges, and accesses nobody claims. */
#include <errno.h>
#include <string.h>

#include "test/support/runner.h"
#include "vmm/bus.h"

/* Remembers the last access. */
struct probe {
    uint64_t offset;
    uint32_t size;
    unsigned reads, writes;
};

static void probe_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct probe *p = context;
    p->offset = offset;
    p->size = size;
    p->reads++;
    memset(data, 0x11, size);
}

static void probe_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)data;
    struct probe *p = context;
    p->offset = offset;
    p->size = size;
    p->writes++;
}

static const struct bus_ops ops = {.read = probe_read, .write = probe_write};

static void an_access_reaches_its_range_with_a_relative_offset(void)
{
    struct bus *bus = bus_create();
    struct probe a = {0}, b = {0};
    CU_ASSERT_EQUAL(bus_claim(bus, "b", 0x200, 0x10, &ops, &b, NULL), 0);
    CU_ASSERT_EQUAL(bus_claim(bus, "a", 0x100, 0x100, &ops, &a, NULL), 0);
    uint8_t data[8];
    bus_read(bus, 0x1fc, data, 4);
    CU_ASSERT(a.reads == 1 && a.offset == 0xfc && a.size == 4 && b.reads == 0);
    CU_ASSERT_EQUAL(data[3], 0x11);
    bus_write(bus, 0x200, data, 8);
    CU_ASSERT(b.writes == 1 && b.offset == 0 && b.size == 8);
    bus_destroy(&bus);
}

static void an_access_nobody_claims_reads_ones(void)
{
    struct bus *bus = bus_create();
    struct probe p = {0};
    CU_ASSERT_EQUAL(bus_claim(bus, "p", 0x100, 4, &ops, &p, NULL), 0);
    static const struct {
        uint64_t address;
        uint32_t size;
    } outside[] = {{0, 1}, {0xff, 1}, {0xfe, 4}, {0xff, 2}, {0x102, 4}, {0x104, 1}, {~0ull, 1}};
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        uint8_t data[8] = {0};
        bus_read(bus, outside[i].address, data, outside[i].size);
        CU_ASSERT_EQUAL(data[outside[i].size - 1], 0xff);
        bus_write(bus, outside[i].address, data, outside[i].size);
    }
    CU_ASSERT(p.reads == 0 && p.writes == 0);
    bus_destroy(&bus);
}

static void ranges_may_touch_but_not_overlap(void)
{
    struct bus *bus = bus_create();
    struct probe p = {0};
    struct error err;
    CU_ASSERT_EQUAL(bus_claim(bus, "first", 0x100, 0x10, &ops, &p, &err), 0);
    CU_ASSERT_EQUAL(bus_claim(bus, "below", 0xf0, 0x10, &ops, &p, &err), 0);
    CU_ASSERT_EQUAL(bus_claim(bus, "above", 0x110, 1, &ops, &p, &err), 0);
    CU_ASSERT_EQUAL(bus_claim(bus, "tail", 0x10f, 1, &ops, &p, &err), -EEXIST);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "first"));
    CU_ASSERT_EQUAL(bus_claim(bus, "around", 0, 0x1000, &ops, &p, &err), -EEXIST);
    CU_ASSERT_EQUAL(bus_claim(bus, "empty", 0x2000, 0, &ops, &p, &err), -EINVAL);
    CU_ASSERT_EQUAL(bus_claim(bus, "wraps", ~0ull, 2, &ops, &p, &err), -EINVAL);
    CU_ASSERT_EQUAL(bus_claim(bus, "top", ~0ull, 1, &ops, &p, &err), 0);
    bus_destroy(&bus);
}

static void a_released_range_can_be_claimed_again(void)
{
    struct bus *bus = bus_create();
    struct probe p = {0}, q = {0};
    CU_ASSERT_EQUAL(bus_claim(bus, "p", 0x100, 0x10, &ops, &p, NULL), 0);
    bus_release(bus, 0x101); /* not its start: nothing happens */
    uint8_t data[1];
    bus_read(bus, 0x101, data, 1);
    CU_ASSERT_EQUAL(p.reads, 1);
    bus_release(bus, 0x100);
    CU_ASSERT_EQUAL(bus_claim(bus, "q", 0x108, 0x10, &ops, &q, NULL), 0);
    bus_read(bus, 0x108, data, 1);
    CU_ASSERT(p.reads == 1 && q.reads == 1);
    bus_destroy(&bus);
}

static void a_hundred_ranges_are_all_found(void)
{
    struct bus *bus = bus_create();
    struct probe probes[100] = {0};
    for (unsigned i = 0; i < 100; i++) { /* 37 is coprime to 100: every one, in scattered order */
        const unsigned k = i * 37 % 100;
        CU_ASSERT_EQUAL(bus_claim(bus, "p", k * 16, 8, &ops, &probes[k], NULL), 0);
    }
    uint8_t data[1];
    for (unsigned i = 0; i < 100; i++) {
        bus_read(bus, i * 16 + 7, data, 1);
        bus_read(bus, i * 16 + 8, data, 1);
        CU_ASSERT(probes[i].reads == 1 && probes[i].offset == 7);
    }
    bus_destroy(&bus);
}

static const struct test_case cases[] = {
    {"an access reaches its range with a relative offset",
     an_access_reaches_its_range_with_a_relative_offset},
    {"an access nobody claims reads ones", an_access_nobody_claims_reads_ones},
    {"ranges may touch but not overlap", ranges_may_touch_but_not_overlap},
    {"a released range can be claimed again", a_released_range_can_be_claimed_again},
    {"a hundred ranges are all found", a_hundred_ranges_are_all_found},
};

TEST_MAIN("bus", cases)
