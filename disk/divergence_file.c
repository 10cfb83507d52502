/* The file of a divergence map, and what identifies an image. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "disk/divergence.h"

struct map_file {
    int fd;
    char *path;
};

static int file_read(void *io, uint64_t offset, uint8_t *bytes, size_t size)
{
    const struct map_file *f = io;
    memset(bytes, 0, size);
    size_t done = 0;
    while (done < size) {
        const ssize_t n = pread(f->fd, bytes + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        done += (size_t)n;
    }
    return 0;
}

static int file_write(void *io, uint64_t offset, const uint8_t *bytes, size_t size)
{
    const struct map_file *f = io;
    size_t done = 0;
    while (done < size) {
        const ssize_t n = pwrite(f->fd, bytes + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

static int file_sync(void *io)
{
    return fdatasync(((const struct map_file *)io)->fd) < 0 ? -errno : 0;
}

static int file_reserve(void *io, uint64_t size)
{
    const struct map_file *f = io;
    const int rc = posix_fallocate(f->fd, 0, (off_t)size);
    return rc ? -rc : fsync(f->fd) < 0 ? -errno : 0;
}

/* Of the name, so that it is found after a power failure, or is not. */
static int sync_directory(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    fd_close(&fd);
    free(copy);
    return rc;
}

static int file_remove(void *io)
{
    const struct map_file *f = io;
    if (unlink(f->path) < 0 && errno != ENOENT)
        return -errno;
    return sync_directory(f->path);
}

static void file_close(void *io)
{
    struct map_file *f = io;
    fd_close(&f->fd);
    free(f->path);
    free(f);
}

int divergence_file_open(const char *path, struct divergence_io *out, struct error *err)
{
    static const struct divergence_io_ops ops = {
        .read = file_read,
        .write = file_write,
        .sync = file_sync,
        .reserve = file_reserve,
        .remove = file_remove,
        .close = file_close,
    };
    struct map_file *f = calloc(1, sizeof(*f));
    if (!f)
        return error_set(err, -ENOMEM, "divergence map: out of memory");
    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = f->fd < 0 ? -errno : 0;
    if (rc == 0 && flock(f->fd, LOCK_EX | LOCK_NB) < 0)
        rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (rc == 0) {
        f->path = strdup(path);
        rc = f->path ? sync_directory(path) : -ENOMEM;
    }
    if (rc < 0) {
        file_close(f);
        return error_set(err, rc, "divergence map %s: can't be opened: %s", path, strerror(-rc));
    }
    *out = (struct divergence_io){.ops = &ops, .context = f};
    return 0;
}

int divergence_stamp(int fd, struct image_stamp *out)
{
    struct stat st;
    *out = (struct image_stamp){0};
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return 0;
    out->inode = st.st_ino;
    out->modified_s = st.st_mtim.tv_sec;
    out->modified_ns = st.st_mtim.tv_nsec;
    return 0;
}
