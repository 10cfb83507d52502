/* Records of a FRAME_DISK: golden bytes, and everything that isn't one. */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "disk/record.h"
#include "test/support/runner.h"

static const struct disk_geometry geometry = {.count = 3, .sizes = {1 << 20, 0, 4096}};

/* A write of a sector of disk 2 at 1024, zeroes on disk 0 that may become a hole, a flush. */
static const uint8_t golden_write[] = {1, 0, 2, 0, 0, 0, 0, 0, 0, 4, 0, 0,
                                       0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0};
static const uint8_t golden_zeroes[] = {3, 1, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0,
                                        0, 0, 0, 0, 0, 0, 1, 0, 0, 0,    0, 0};
static const uint8_t golden_flush[24] = {4, 0, 2};

static uint8_t payload[4096];
static size_t payload_size;

static void make_payload(void)
{
    size_t at = 0;
    memcpy(payload, golden_write, 24);
    memset(payload + 24, 0xd5, 512);
    at = 24 + 512;
    memcpy(payload + at, golden_zeroes, 24);
    memcpy(payload + at + 24, golden_flush, 24);
    payload_size = at + 48;
}

static void records_have_golden_bytes(void)
{
    uint8_t out[DISK_RECORD_HEADER_SIZE];
    struct disk_record r = {.op = DISK_WRITE, .disk = 2, .offset = 1024, .length = 512};
    disk_record_encode(&r, out);
    CU_ASSERT_EQUAL(memcmp(out, golden_write, 24), 0);
    CU_ASSERT_EQUAL(disk_record_size(&r), 24 + 512);
    r = (struct disk_record){
        .op = DISK_WRITE_ZEROES, .may_unmap = true, .offset = 4096, .length = 65536};
    disk_record_encode(&r, out);
    CU_ASSERT_EQUAL(memcmp(out, golden_zeroes, 24), 0);
    CU_ASSERT_EQUAL(disk_record_size(&r), 24);
    r = (struct disk_record){.op = DISK_FLUSH, .disk = 2};
    disk_record_encode(&r, out);
    CU_ASSERT_EQUAL(memcmp(out, golden_flush, 24), 0);
}

static void a_payload_gives_its_records_in_order(void)
{
    make_payload();
    CU_ASSERT_EQUAL(disk_payload_check(payload, payload_size, &geometry, NULL), 3);
    size_t used = 0;
    struct disk_record r;
    CU_ASSERT_EQUAL(disk_record_next(payload, payload_size, &used, &geometry, &r, NULL), 1);
    CU_ASSERT(r.op == DISK_WRITE && r.disk == 2 && r.offset == 1024 && r.length == 512);
    CU_ASSERT_PTR_EQUAL(r.data, payload + 24);
    CU_ASSERT_EQUAL(disk_record_next(payload, payload_size, &used, &geometry, &r, NULL), 1);
    CU_ASSERT(r.op == DISK_WRITE_ZEROES && r.may_unmap && r.length == 65536 && !r.data);
    CU_ASSERT_EQUAL(disk_record_next(payload, payload_size, &used, &geometry, &r, NULL), 1);
    CU_ASSERT(r.op == DISK_FLUSH && r.disk == 2);
    CU_ASSERT_EQUAL(disk_record_next(payload, payload_size, &used, &geometry, &r, NULL), 0);
    CU_ASSERT_EQUAL(used, payload_size);
}

static void a_payload_cut_off_at_any_byte_is_refused(void)
{
    make_payload();
    for (size_t size = 0; size < payload_size; size++) {
        const bool between = size == 24 + 512 || size == 24 + 512 + 24;
        struct error err = {0};
        const int rc = disk_payload_check(payload, size, &geometry, &err);
        CU_ASSERT_EQUAL(rc, !between ? -EBADMSG : size == 24 + 512 ? 1 : 2);
    }
    CU_ASSERT_EQUAL(disk_payload_check(payload, payload_size + 1, &geometry, NULL), -EBADMSG);
}

static int check_with(size_t offset, uint64_t value, size_t width)
{
    uint8_t bytes[24 + 512];
    memcpy(bytes, golden_write, 24);
    for (size_t i = 0; i < width; i++)
        bytes[offset + i] = (uint8_t)(value >> (8 * i));
    return disk_payload_check(bytes, sizeof(bytes), &geometry, NULL);
}

static void illegal_records_are_refused(void)
{
    CU_ASSERT_EQUAL(check_with(0, 1, 1), 1);
    const struct {
        size_t offset;
        uint64_t value;
        size_t width;
    } bad[] = {
        {0, 0, 1},           /* no operation */
        {0, 5, 1},           /* a read */
        {0, 4, 1},           /* a flush with a range */
        {1, 1, 1},           /* a hole by a write */
        {1, 2, 1},           /* an undefined flag */
        {2, 1, 2},           /* a disk that takes no records */
        {2, 3, 2},           /* no such disk */
        {2, 0xffff, 2},      /* likewise */
        {4, 1, 4},           /* reserved */
        {8, 1, 8},           /* not on a sector */
        {8, 4096, 8},        /* behind the end */
        {8, 1ull << 63, 8},  /* far behind */
        {8, UINT64_MAX, 8},  /* wraps */
        {16, 0, 8},          /* nothing */
        {16, 513, 8},        /* not whole sectors */
        {16, 1024, 8},       /* more than came */
        {16, 8192, 8},       /* beyond the end */
        {16, 1ull << 63, 8}, /* wraps */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CU_ASSERT_EQUAL(check_with(bad[i].offset, bad[i].value, bad[i].width), -EBADMSG);
}

static void a_record_has_a_largest_size(void)
{
    static uint8_t big[DISK_PAYLOAD_MAX + 64];
    struct disk_record r = {.op = DISK_WRITE, .length = DISK_DATA_MAX};
    disk_record_encode(&r, big);
    CU_ASSERT_EQUAL(disk_payload_check(big, 24 + DISK_DATA_MAX, &geometry, NULL), 1);
    struct wire_writer w = {.bytes = big + 16, .size = 8};
    wire_put_u64(&w, DISK_DATA_MAX + 512);
    CU_ASSERT_EQUAL(disk_payload_check(big, 24 + DISK_DATA_MAX + 512, &geometry, NULL), -EBADMSG);
    for (size_t at = 0; at + 24 <= sizeof(big); at += 24)
        memcpy(big + at, golden_flush, 24);
    CU_ASSERT(disk_payload_check(big, DISK_PAYLOAD_MAX / 24 * 24, &geometry, NULL) > 0);
    CU_ASSERT_EQUAL(disk_payload_check(big, DISK_PAYLOAD_MAX / 24 * 24 + 24, &geometry, NULL),
                    -EBADMSG);
}

static const struct test_case cases[] = {
    {"records have golden bytes", records_have_golden_bytes},
    {"a payload gives its records in order", a_payload_gives_its_records_in_order},
    {"a payload cut off at any byte is refused", a_payload_cut_off_at_any_byte_is_refused},
    {"illegal records are refused", illegal_records_are_refused},
    {"a record has a largest size", a_record_has_a_largest_size},
};

TEST_MAIN("disk records", cases)
