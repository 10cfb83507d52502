/* Driver of one virtio 1.x block device: up to BLK_SLOTS requests at once, polled; one vCPU. */
#ifndef KEMARI_GUEST_VIRTIO_BLK_H
#define KEMARI_GUEST_VIRTIO_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLK_SLOTS  16
#define BLK_SECTOR 512

enum blk_request {
    BLK_READ = 0, /* virtio 1.2 §5.2.6 */
    BLK_WRITE = 1,
    BLK_FLUSH = 4,
    BLK_DISCARD = 11,
    BLK_WRITE_ZEROES = 13,
};

/* Finds and starts the `nth` block device, with flush, discard and write-zeroes if it has them;
 * false when there is none. */
bool blk_init(unsigned nth);

uint64_t blk_sectors(void);
/* Does the device take such requests? */
bool blk_can(enum blk_request request);

/* Submits in a slot (0..BLK_SLOTS-1) that is free. `data` lies in memory of the program and is the
 * device's until the request is done; not used of a flush, a discard and write-zeroes. */
void blk_submit(unsigned slot, enum blk_request request, uint64_t sector, uint32_t sectors,
                void *data);

/* True when a request is done: its slot is free again; `ok` is false when it failed. */
bool blk_poll(unsigned *slot, bool *ok);

#endif
