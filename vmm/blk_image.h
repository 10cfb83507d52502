/* A raw disk image or block device of the host. No function knows of virtio or guest memory.
 *
 * Threads: reading, writing and flushing may happen on any thread, one at a time per image. */
#ifndef KEMARI_VMM_BLK_IMAGE_H
#define KEMARI_VMM_BLK_IMAGE_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

#define BLK_SECTOR 512

struct blk_image {
    int fd;
    uint64_t size; /* bytes, a multiple of BLK_SECTOR */
};

/* One sentence says whether the image is missing, forbidden, a directory, empty or of an odd size.
 */
int blk_image_open(struct blk_image *image, const char *path, bool read_only, struct error *err);
void blk_image_close(struct blk_image *image);

/* Transfer all of the parts at byte `offset`: 0 or -errno. `parts` is used up. */
int blk_image_read(struct blk_image *image, struct iovec *parts, unsigned count, uint64_t offset);
int blk_image_write(struct blk_image *image, struct iovec *parts, unsigned count, uint64_t offset);

/* Makes every write that returned before durable: 0 or -errno. */
int blk_image_flush(struct blk_image *image);

#endif
