/* See blk_image.h. */
#include "vmm/blk_image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static int check_kind(int fd, const char *path, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "disk image %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL, "disk image %s: neither a file nor a block device", path);
    return 0;
}

static int find_size(struct blk_image *image, const char *path, struct error *err)
{
    const off_t end = lseek(image->fd, 0, SEEK_END); /* block devices answer too */
    if (end < 0)
        return error_set(err, -errno, "disk image %s: can't find its size: %s", path,
                         strerror(errno));
    if (end == 0 || end % BLK_SECTOR)
        return error_set(err, -EINVAL,
                         "disk image %s: %llu bytes, but it must be a multiple of %d and not empty",
                         path, (unsigned long long)end, BLK_SECTOR);
    image->size = (uint64_t)end;
    return 0;
}

int blk_image_open(struct blk_image *image, const char *path, bool read_only, struct error *err)
{
    *image = (struct blk_image){.fd = -1};
    /* Non-blocking: opening a FIFO by mistake must not hang. It means nothing to files and disks.
     */
    image->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (image->fd < 0)
        return error_set(err, -errno, "disk image %s: can't open for %s: %s", path,
                         read_only ? "reading" : "writing", strerror(errno));
    int rc = check_kind(image->fd, path, err);
    if (rc == 0)
        rc = find_size(image, path, err);
    if (rc < 0)
        blk_image_close(image);
    return rc;
}

void blk_image_close(struct blk_image *image)
{
    fd_close(&image->fd);
}

/* Drops `done` bytes from the front. */
static void advance(struct iovec **parts, unsigned *count, size_t done)
{
    while (*count && done >= (*parts)->iov_len) {
        done -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (done) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + done;
        (*parts)->iov_len -= done;
    }
}

static int transfer(struct blk_image *image, ssize_t (*step)(int, const struct iovec *, int, off_t),
                    struct iovec *parts, unsigned count, uint64_t offset)
{
    while (count) {
        const ssize_t done = step(image->fd, parts, (int)count, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        if (done == 0) /* the file was cut short behind our back */
            return -EIO;
        offset += (uint64_t)done;
        advance(&parts, &count, (size_t)done);
    }
    return 0;
}

int blk_image_read(struct blk_image *image, struct iovec *parts, unsigned count, uint64_t offset)
{
    return transfer(image, preadv, parts, count, offset);
}

int blk_image_write(struct blk_image *image, struct iovec *parts, unsigned count, uint64_t offset)
{
    return transfer(image, pwritev, parts, count, offset);
}

int blk_image_flush(struct blk_image *image)
{
    return fdatasync(image->fd) < 0 ? -errno : 0;
}
