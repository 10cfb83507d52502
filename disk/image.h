/* An image: a raw file or a block device of this host, with many requests under way at once.
 *
 * Two engines do the work, io_uring and a few threads; the image probes at run time which the host
 * allows. Requests are carried out in no particular order: whoever needs one (volume.h) submits the
 * second when the first is done. A flush makes durable what was done before it was submitted.
 *
 * A writable image is locked (an open file description lock) so that no other Kemari on this host
 * writes it.
 *
 * A shared one, which several hosts open, isn't; and no host may keep anything of it for itself: it
 * is read and written past the page cache (O_DIRECT), so that who takes over reads what the dead
 * host wrote, and a write is done when it is on the medium (O_DSYNC).
 *
 * Threads: submit from any, also from inside done(); close from one, when nobody submits. */
#ifndef KEMARI_DISK_IMAGE_H
#define KEMARI_DISK_IMAGE_H

#include "base/error.h"
#include "disk/io.h"

struct disk_image;

enum disk_engine {
    DISK_ENGINE_AUTO,  /* io_uring, threads where it is refused; the environment variable
                          KEMARI_DISK_ENGINE=io_uring|threads decides otherwise */
    DISK_ENGINE_URING, /* or fail */
    DISK_ENGINE_THREADS,
};

struct disk_image_config {
    const char *path;
    bool read_only;
    bool shared; /* writable; several hosts, or several daemons of this one, open it on purpose */
    enum disk_engine engine;
};

/* What carries out requests; tests bring their own. */
struct disk_engine_ops {
    const char *name;
    /* Takes a begun, valid io; calls its done() later, never before returning. */
    void (*submit)(void *engine, struct disk_io *io);
    /* Waits until every io is done, and frees the engine. */
    void (*close)(void *engine);
};

/* One sentence says whether the image is missing, forbidden, a directory, empty, of an odd size or
 * in use. */
int disk_image_open(const struct disk_image_config *config, struct disk_image **out,
                    struct error *err);

/* An image of `size` bytes behind an engine of the caller's, which it takes over in every case. */
int disk_image_create(const struct disk_engine_ops *ops, void *engine, uint64_t size,
                      bool read_only, struct disk_image **out, struct error *err);

/* Waits for what is under way. */
void disk_image_close(struct disk_image **image);

uint64_t disk_image_size(const struct disk_image *image); /* bytes, a multiple of DISK_SECTOR */
bool disk_image_is_read_only(const struct disk_image *image);
const char *disk_image_engine_name(const struct disk_image *image); /* "io_uring", "threads" */

/* The io must be valid for the image (asserted), and writable if it changes anything. Of a shared
 * image `data` is aligned to DISK_SECTOR. */
void disk_image_submit(struct disk_image *image, struct disk_io *io);

/* Submits and waits: for those who have a thread to spare. Returns the result. Not from done(). */
int disk_image_perform(struct disk_image *image, struct disk_io *io);

/* The engines, for image.c. Both take over `fd`; -errno without a word when the host refuses. */
int disk_engine_uring_create(int fd, const struct disk_engine_ops **ops, void **engine);
int disk_engine_threads_create(int fd, const struct disk_engine_ops **ops, void **engine);

#endif
