/* The payload of a FRAME_DISK: one or more records, back to back (docs/protocol.md, "Disk").
 *
 * A record is a header of 24 bytes, little-endian, and, of a write, the data:
 *
 *   offset size field
 *        0    1 op       1 write, 2 discard, 3 write zeroes, 4 flush
 *        1    1 flags    bit 0: the range may become a hole (write zeroes only)
 *        2    2 disk     index
 *        4    4 reserved zero
 *        8    8 offset   bytes; 0 of a flush
 *       16    8 length   bytes; 0 of a flush
 *
 * Records of buffered disks (mode_buffered.h) have frames of their own. These begin with a mark, of
 * the size of a record's header:
 *
 *        0    1 op       5
 *        1    1 flags    bit 0: the first of a link; what is retained of another one is worth
 * nothing 2    6 reserved zero 8    8 first    number of the record that follows, if any; those
 * behind it count up 16    8 applied  all records up to this number are in the image, for good;
 * less than first
 *
 * Pure codec; every byte that comes in is hostile. Nothing is copied. */
#ifndef KEMARI_DISK_RECORD_H
#define KEMARI_DISK_RECORD_H

#include "base/error.h"
#include "disk/io.h"

#define DISK_COUNT_MAX          16
#define DISK_RECORD_HEADER_SIZE 24
#define DISK_PAYLOAD_MAX        (1u << 20) /* bytes of one FRAME_DISK */

struct disk_record {
    enum disk_op op; /* not DISK_READ */
    bool may_unmap;
    unsigned disk;
    uint64_t offset;
    uint64_t length;
    const uint8_t *data; /* DISK_WRITE: `length` bytes, borrowed; else NULL */
};

/* What records may refer to. */
struct disk_geometry {
    unsigned count;
    uint64_t sizes[DISK_COUNT_MAX]; /* bytes; 0: this disk takes no records (read-only) */
};

/* Writes the header alone: the data follows it on the wire. The record must be legal (asserted). */
void disk_record_encode(const struct disk_record *record, uint8_t out[DISK_RECORD_HEADER_SIZE]);

/* Bytes of header and data. */
size_t disk_record_size(const struct disk_record *record);

/* Takes the record at *used and moves *used behind it: 1, 0 at the end of the payload, or -EBADMSG.
 * A record that was taken is legal for this geometry. */
int disk_record_next(const uint8_t *payload, size_t size, size_t *used,
                     const struct disk_geometry *geometry, struct disk_record *out,
                     struct error *err);

/* Proves that the payload is nothing but legal records, at least one. Returns how many, or
 * -EBADMSG. */
int disk_payload_check(const uint8_t *payload, size_t size, const struct disk_geometry *geometry,
                       struct error *err);

#define DISK_MARK_OP    5                   /* the first byte of a mark */
#define DISK_NUMBER_MAX ((uint64_t)1 << 62) /* of `first`: no sum of it overflows */

struct disk_mark {
    bool fresh;
    uint64_t first;
    uint64_t applied;
};

void disk_mark_encode(const struct disk_mark *mark, uint8_t out[DISK_RECORD_HEADER_SIZE]);

/* Proves that the payload is a mark and, behind it, nothing but legal records, perhaps none.
 * Returns how many, or -EBADMSG. */
int disk_mark_check(const uint8_t *payload, size_t size, const struct disk_geometry *geometry,
                    struct disk_mark *out, struct error *err);

#endif
