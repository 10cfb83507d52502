#include "disk/image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define ENVIRONMENT "KEMARI_DISK_ENGINE"

struct disk_image {
    const struct disk_engine_ops *ops;
    void *engine;
    uint64_t size;
    bool read_only;
    bool direct;
};

static int check_kind(int fd, const char *path, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "disk image %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL, "disk image %s: neither a file nor a block device", path);
    return 0;
}

static int find_size(int fd, const char *path, uint64_t *size, struct error *err)
{
    const off_t end = lseek(fd, 0, SEEK_END); /* block devices answer too */
    if (end < 0)
        return error_set(err, -errno, "disk image %s: can't find its size: %s", path,
                         strerror(errno));
    if (end == 0 || end % DISK_SECTOR)
        return error_set(err, -EINVAL,
                         "disk image %s: %llu bytes, but it must be a multiple of %d and not empty",
                         path, (unsigned long long)end, DISK_SECTOR);
    *size = (uint64_t)end;
    return 0;
}

/* File systems without locks are taken as they are. */
static int lock(int fd, const char *path, struct error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0 && (errno == EAGAIN || errno == EACCES))
        return error_set(err, -EBUSY,
                         "disk image %s: in use by another process: each host, and each daemon of "
                         "one host, needs its own image",
                         path);
    return 0;
}

static int flags_of(const struct disk_image_config *config)
{
    if (config->read_only)
        return O_RDONLY;
    return config->shared ? O_RDWR | O_DIRECT | O_DSYNC : O_RDWR;
}

/* Some storage takes larger pieces than a guest's sectors only. */
static int try_direct(int fd, const char *path, uint64_t size, struct error *err)
{
    _Alignas(DISK_SECTOR) uint8_t sector[DISK_SECTOR];
    if (pread(fd, sector, sizeof(sector), (off_t)(size - sizeof(sector))) == sizeof(sector))
        return 0;
    return error_set(
        err, -EINVAL,
        "disk image %s: direct I/O, which a shared disk needs, fails for sectors of %d "
        "bytes: %s",
        path, DISK_SECTOR, strerror(errno));
}

static int open_file(const struct disk_image_config *config, uint64_t *size, struct error *err)
{
    const char *path = config->path;
    /* Non-blocking: opening a FIFO by mistake must not hang. It means nothing to files and disks.
     */
    const int flags = flags_of(config);
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EINVAL && flags & O_DIRECT)
        return error_set(err, -EINVAL,
                         "disk image %s: its file system has no direct I/O, which a shared disk "
                         "needs, since a cache of this host would hide what the other one writes",
                         path);
    if (fd < 0)
        return error_set(err, -errno, "disk image %s: can't open for %s: %s", path,
                         config->read_only ? "reading" : "writing", strerror(errno));
    int rc = check_kind(fd, path, err);
    /* From here on it would only make io_uring give up where it should wait. */
    if (rc == 0 && fcntl(fd, F_SETFL, flags & O_DIRECT) < 0)
        rc = error_set(err, -errno, "disk image %s: %s", path, strerror(errno));
    if (rc == 0)
        rc = find_size(fd, path, size, err);
    if (rc == 0 && !config->read_only && !config->shared)
        rc = lock(fd, path, err);
    if (rc == 0 && flags & O_DIRECT)
        rc = try_direct(fd, path, *size, err);
    if (rc < 0)
        fd_close(&fd);
    return rc < 0 ? rc : fd;
}

static enum disk_engine wanted_engine(enum disk_engine configured)
{
    const char *name = configured == DISK_ENGINE_AUTO ? getenv(ENVIRONMENT) : NULL;
    if (!name)
        return configured;
    return strcmp(name, "threads") == 0    ? DISK_ENGINE_THREADS
           : strcmp(name, "io_uring") == 0 ? DISK_ENGINE_URING
                                           : configured;
}

static int create_engine(struct disk_image *image, enum disk_engine wanted, int fd)
{
    int rc = -ENOSYS;
    if (wanted != DISK_ENGINE_THREADS)
        rc = disk_engine_uring_create(fd, &image->ops, &image->engine);
    if (rc < 0 && wanted != DISK_ENGINE_URING)
        rc = disk_engine_threads_create(fd, &image->ops, &image->engine);
    return rc;
}

int disk_image_open(const struct disk_image_config *config, struct disk_image **out,
                    struct error *err)
{
    *out = NULL;
    struct disk_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "disk image %s: out of memory", config->path);
    image->read_only = config->read_only;
    image->direct = config->shared && !config->read_only;
    int fd = open_file(config, &image->size, err);
    if (fd < 0) {
        free(image);
        return fd;
    }
    const int rc = create_engine(image, wanted_engine(config->engine), fd);
    if (rc < 0) {
        fd_close(&fd);
        free(image);
        return error_set(err, rc, "disk image %s: asynchronous I/O is not to be had: %s",
                         config->path, strerror(-rc));
    }
    *out = image;
    return 0;
}

int disk_image_create(const struct disk_engine_ops *ops, void *engine, uint64_t size,
                      bool read_only, struct disk_image **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out) {
        ops->close(engine);
        return error_set(err, -ENOMEM, "disk image: out of memory");
    }
    **out = (struct disk_image){.ops = ops, .engine = engine, .size = size, .read_only = read_only};
    return 0;
}

void disk_image_close(struct disk_image **image)
{
    if (!*image)
        return;
    (*image)->ops->close((*image)->engine);
    free(*image);
    *image = NULL;
}

uint64_t disk_image_size(const struct disk_image *image)
{
    return image->size;
}

bool disk_image_is_read_only(const struct disk_image *image)
{
    return image->read_only;
}

const char *disk_image_engine_name(const struct disk_image *image)
{
    return image->ops->name;
}

void disk_image_submit(struct disk_image *image, struct disk_io *io)
{
    assert(disk_io_is_valid(io, image->size));
    assert(!image->read_only || io->op == DISK_READ || io->op == DISK_FLUSH);
    assert(!image->direct || (uintptr_t)io->data % DISK_SECTOR == 0);
    disk_io_begin(io);
    image->ops->submit(image->engine, io);
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct disk_io *io)
{
    struct waiter *w = io->context;
    pthread_mutex_lock(&w->mutex);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

int disk_image_perform(struct disk_image *image, struct disk_io *io)
{
    struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    io->done = wake;
    io->context = &w;
    disk_image_submit(image, io);
    pthread_mutex_lock(&w.mutex);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    return io->result;
}
