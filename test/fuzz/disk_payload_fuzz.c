/* Any bytes as the payload of a DISK frame, with and without a mark. What is accepted lies within
 * the disks, and encodes to the bytes it came from. */
#include <assert.h>
#include <string.h>

#include "disk/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct disk_geometry geometry = {.count = 3, .sizes = {1 << 20, 0, 8192}};

static void look_at(const struct disk_record *r, const uint8_t *at)
{
    assert(r->disk < geometry.count && geometry.sizes[r->disk]);
    assert(r->offset + r->length >= r->offset);
    assert(r->offset + r->length <= geometry.sizes[r->disk]);
    assert((r->op == DISK_WRITE) == (r->data != NULL));
    assert((r->op == DISK_FLUSH) == (r->length == 0));
    uint8_t header[DISK_RECORD_HEADER_SIZE];
    disk_record_encode(r, header);
    assert(memcmp(header, at, sizeof(header)) == 0);
}

static void look_at_all(const uint8_t *data, size_t size, size_t used, int count)
{
    struct disk_record record;
    for (int i = 0; i < count; i++) {
        const uint8_t *at = data + used;
        const int rc = disk_record_next(data, size, &used, &geometry, &record, NULL);
        assert(rc == 1);
        (void)rc;
        look_at(&record, at);
    }
    assert(count < 0 || used == size);
}

static void look_at_marked(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct disk_mark mark;
    uint8_t header[DISK_RECORD_HEADER_SIZE];
    const int count = disk_mark_check(data, size, &geometry, &mark, &err);
    assert(count >= 0 || err.code == count);
    if (count < 0)
        return;
    disk_mark_encode(&mark, header);
    assert(memcmp(header, data, sizeof(header)) == 0);
    look_at_all(data, size, sizeof(header), count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    const int count = disk_payload_check(data, size, &geometry, &err);
    assert(count != 0 && (count > 0 || err.code == count));
    look_at_all(data, size, 0, count);
    look_at_marked(data, size);
    return 0;
}
