/* What virtio-blk needs of a disk. Declared by the consumer: app/ puts the volumes of disk/ behind
 * it, tests what they like.
 *
 * Data passes through buffers of the host, never through guest memory, so that guest memory is
 * still while the machine is parked although a slow disk goes on working (vmm/virtio_blk.c). */
#ifndef KEMARI_VMM_BLK_BACKEND_H
#define KEMARI_VMM_BLK_BACKEND_H

#include "base/types.h"

#define BLK_SECTOR   512
#define BLK_DATA_MAX (512u << 10) /* bytes that one io reads or writes at most */

enum blk_op { BLK_READ, BLK_WRITE, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_FLUSH };

struct blk_io {
    enum blk_op op;
    bool may_unmap;  /* BLK_WRITE_ZEROES: the range may be deallocated */
    uint64_t offset; /* bytes; offset and size are whole sectors inside the disk, 0 of a flush */
    uint64_t size;
    /* malloc()ed, aligned to BLK_SECTOR. BLK_READ: `size` bytes to fill, the device's. BLK_WRITE:
     * `size` bytes that are the backend's from submit() on: it frees them. Otherwise NULL. */
    uint8_t *data;
    /* 0 or -errno, set before done(). -ECANCELED: given up with the guest, which never learns. */
    int result;
    /* Called by the backend once, on any thread; from inside submit() only with -ECANCELED. Doesn't
     * block. */
    void (*done)(struct blk_io *io);
};

struct blk_backend_ops {
    /* Changes of ranges that overlap are carried out in the order they were submitted; a flush
     * makes durable what was done before it was submitted. Called with the device lock held: must
     * not wait for a disk. */
    void (*submit)(void *backend, struct blk_io *io);
};

/* Borrowed by the device; outlives it. */
struct blk_backend {
    const struct blk_backend_ops *ops;
    void *context;
    uint64_t size; /* bytes, a multiple of BLK_SECTOR, not 0 */
    bool read_only;
};

#endif
