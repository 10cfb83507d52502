#include "disk/record.h"

#include <assert.h>
#include <errno.h>

#include "base/wire.h"

#define FLAG_MAY_UNMAP 1u
#define FLAG_FRESH     1u /* of a mark */

void disk_record_encode(const struct disk_record *record, uint8_t out[DISK_RECORD_HEADER_SIZE])
{
    assert(record->op >= DISK_WRITE && record->op <= DISK_FLUSH && record->disk < DISK_COUNT_MAX);
    assert(record->op != DISK_WRITE || record->length <= DISK_DATA_MAX);
    struct wire_writer w = {.bytes = out, .size = DISK_RECORD_HEADER_SIZE};
    const bool unmap = record->op == DISK_WRITE_ZEROES && record->may_unmap;
    wire_put_u8(&w, (uint8_t)record->op);
    wire_put_u8(&w, unmap ? FLAG_MAY_UNMAP : 0);
    wire_put_u16(&w, (uint16_t)record->disk);
    wire_put_u32(&w, 0);
    wire_put_u64(&w, record->offset);
    wire_put_u64(&w, record->length);
    assert(!w.bad && w.used == DISK_RECORD_HEADER_SIZE);
}

size_t disk_record_size(const struct disk_record *record)
{
    return DISK_RECORD_HEADER_SIZE + (record->op == DISK_WRITE ? (size_t)record->length : 0);
}

static int bad(const char *what, size_t at, struct error *err)
{
    return error_set(err, -EBADMSG, "disk record at byte %zu: %s", at, what);
}

static int check_range(const struct disk_record *r, const struct disk_geometry *geometry, size_t at,
                       struct error *err)
{
    if (r->disk >= geometry->count || geometry->sizes[r->disk] == 0)
        return bad("no such writable disk", at, err);
    if (r->op == DISK_FLUSH)
        return r->offset || r->length ? bad("a flush with a range", at, err) : 0;
    const uint64_t size = geometry->sizes[r->disk];
    if (r->length == 0 || r->offset % DISK_SECTOR || r->length % DISK_SECTOR)
        return bad("not whole sectors", at, err);
    if (r->offset > size || r->length > size - r->offset)
        return bad("outside of the disk", at, err);
    if (r->op == DISK_WRITE && r->length > DISK_DATA_MAX)
        return bad("too much data", at, err);
    return 0;
}

int disk_record_next(const uint8_t *payload, size_t size, size_t *used,
                     const struct disk_geometry *geometry, struct disk_record *out,
                     struct error *err)
{
    const size_t at = *used;
    if (at == size)
        return 0;
    struct wire_reader r = {.bytes = payload + at, .size = size - at};
    const uint8_t op = wire_get_u8(&r);
    const uint8_t flags = wire_get_u8(&r);
    *out = (struct disk_record){.disk = wire_get_u16(&r)};
    const uint32_t reserved = wire_get_u32(&r);
    out->offset = wire_get_u64(&r);
    out->length = wire_get_u64(&r);
    if (r.bad)
        return bad("cut off", at, err);
    if (op < DISK_WRITE || op > DISK_FLUSH)
        return bad("unknown operation", at, err);
    out->op = (enum disk_op)op;
    if (reserved || (flags & ~FLAG_MAY_UNMAP) || (flags && out->op != DISK_WRITE_ZEROES))
        return bad("undefined bits", at, err);
    out->may_unmap = flags & FLAG_MAY_UNMAP;
    const int rc = check_range(out, geometry, at, err);
    if (rc < 0)
        return rc;
    if (out->op == DISK_WRITE) {
        out->data = wire_get_view(&r, (size_t)out->length);
        if (!out->data)
            return bad("data cut off", at, err);
    }
    *used = at + r.used;
    return 1;
}

static int check_records(const uint8_t *payload, size_t size, size_t used,
                         const struct disk_geometry *geometry, struct error *err)
{
    int count = 0;
    struct disk_record record;
    int rc;
    while ((rc = disk_record_next(payload, size, &used, geometry, &record, err)) == 1)
        count++;
    return rc < 0 ? rc : count;
}

int disk_payload_check(const uint8_t *payload, size_t size, const struct disk_geometry *geometry,
                       struct error *err)
{
    if (size == 0 || size > DISK_PAYLOAD_MAX)
        return error_set(err, -EBADMSG, "disk payload of %zu bytes, legal are 1..%u", size,
                         DISK_PAYLOAD_MAX);
    return check_records(payload, size, 0, geometry, err);
}

void disk_mark_encode(const struct disk_mark *mark, uint8_t out[DISK_RECORD_HEADER_SIZE])
{
    struct wire_writer w = {.bytes = out, .size = DISK_RECORD_HEADER_SIZE};
    assert(mark->applied < mark->first);
    wire_put_u8(&w, DISK_MARK_OP);
    wire_put_u8(&w, mark->fresh ? FLAG_FRESH : 0);
    wire_put_u16(&w, 0);
    wire_put_u32(&w, 0);
    wire_put_u64(&w, mark->first);
    wire_put_u64(&w, mark->applied);
    assert(!w.bad && w.used == DISK_RECORD_HEADER_SIZE);
}

int disk_mark_check(const uint8_t *payload, size_t size, const struct disk_geometry *geometry,
                    struct disk_mark *out, struct error *err)
{
    struct wire_reader r = {.bytes = payload, .size = size};
    const uint8_t op = wire_get_u8(&r);
    const uint8_t flags = wire_get_u8(&r);
    const uint16_t reserved_16 = wire_get_u16(&r);
    const uint32_t reserved_32 = wire_get_u32(&r);
    out->fresh = flags & FLAG_FRESH;
    out->first = wire_get_u64(&r);
    out->applied = wire_get_u64(&r);
    if (r.bad || size > DISK_PAYLOAD_MAX || op != DISK_MARK_OP)
        return error_set(err, -EBADMSG, "disk payload of %zu bytes that begins with no mark", size);
    if ((flags & ~FLAG_FRESH) || reserved_16 || reserved_32)
        return error_set(err, -EBADMSG, "disk mark: undefined bits");
    if (out->applied >= out->first || out->first > DISK_NUMBER_MAX)
        return error_set(err, -EBADMSG, "disk mark: record %llu comes after %llu were applied",
                         (unsigned long long)out->first, (unsigned long long)out->applied);
    return check_records(payload, size, r.used, geometry, err);
}
