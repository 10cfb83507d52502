/* One piece of work on an image, and the pure rules of carrying it out in steps.
 *
 * The kernel may do less than asked (short transfers), be interrupted, or not know an operation (a
 * file system without holes). So an engine asks disk_io_step() what to do next, does it, and tells
 * disk_io_advance() what came of it, until that says the work is done. No engine has rules of its
 * own, and the rules are tested without I/O.
 *
 * After a discard the range reads as zeroes, as after write-zeroes: what a discarded block holds is
 * the device's choice (virtio 1.2 §5.2.6), and two images that shall be equal must choose alike. */
#ifndef KEMARI_DISK_IO_H
#define KEMARI_DISK_IO_H

#include "base/types.h"

#define DISK_SECTOR   512
#define DISK_DATA_MAX (512u << 10) /* bytes that one read or write moves at most */

enum disk_op {
    DISK_WRITE = 1, /* the first four are the codes on the wire, see record.h */
    DISK_DISCARD,
    DISK_WRITE_ZEROES,
    DISK_FLUSH,
    DISK_READ,
};

struct disk_io {
    /* the submitter's, unchanged until done, except that `result` is set */
    enum disk_op op;
    bool may_unmap;  /* DISK_WRITE_ZEROES: the range may become a hole */
    bool durable;    /* a change: it isn't done before it is on the medium */
    uint64_t offset; /* bytes; offset and size are multiples of DISK_SECTOR, 0 of a flush */
    uint64_t size;
    uint8_t *data; /* DISK_READ and DISK_WRITE: `size` bytes */
    int result;    /* 0 or -errno; after a failed write the range may hold anything */
    /* Once, on a thread of the image, which it must not block for long; may free the io and submit
     * others. */
    void (*done)(struct disk_io *io);
    void *context;

    /* the image's */
    uint64_t moved; /* bytes of it that are done */
    bool by_hand;   /* zeroes are written, since the file knows no better way */
    bool syncing;   /* all of it is done, and is being made durable */
    struct disk_io *next;
};

enum disk_step_kind {
    DISK_STEP_READ,
    DISK_STEP_WRITE,
    DISK_STEP_PUNCH,
    DISK_STEP_ZERO,
    DISK_STEP_SYNC
};

/* What to do next: read or write `data`, punch a hole (FALLOC_FL_PUNCH_HOLE), zero the range
 * (FALLOC_FL_ZERO_RANGE), both keeping the size, or synchronise the data. */
struct disk_step {
    enum disk_step_kind kind;
    uint64_t offset;
    uint64_t size;
    uint8_t *data; /* of a write it is only read */
};

/* True when the io lies inside an image of that size and an engine may take it. */
bool disk_io_is_valid(const struct disk_io *io, uint64_t image_size);

/* Forgets progress: before the first step. */
void disk_io_begin(struct disk_io *io);

struct disk_step disk_io_step(const struct disk_io *io);

/* `outcome` of the last step: bytes moved, 0 of an operation without bytes, or -errno. True when
 * the io is done and its result set. */
bool disk_io_advance(struct disk_io *io, long outcome);

#endif
