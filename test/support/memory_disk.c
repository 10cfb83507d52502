#include "test/support/memory_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void memory_disk_init(struct memory_disk *disk, uint64_t size)
{
    *disk = (struct memory_disk){.size = size};
    disk->bytes = calloc(1, size);
    if (!disk->bytes)
        abort();
    disk->last = &disk->first;
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->changed, NULL);
}

void memory_disk_free(struct memory_disk *disk)
{
    pthread_cond_destroy(&disk->changed);
    pthread_mutex_destroy(&disk->lock);
    free(disk->bytes);
}

static bool touches(const struct memory_disk *d, const struct disk_step *s)
{
    if (s->kind == DISK_STEP_SYNC)
        return d->bad_flush;
    return s->offset < d->bad_to && d->bad_from < s->offset + s->size;
}

/* With the lock held. */
static long carry_out(struct memory_disk *d, struct disk_step *s)
{
    const bool moves = s->kind == DISK_STEP_READ || s->kind == DISK_STEP_WRITE;
    if (moves && d->step_max && s->size > d->step_max)
        s->size = d->step_max;
    if (d->error && touches(d, s))
        return d->error;
    switch (s->kind) {
    case DISK_STEP_READ:
        memcpy(s->data, d->bytes + s->offset, s->size);
        return (long)s->size;
    case DISK_STEP_WRITE:
        memcpy(d->bytes + s->offset, s->data, s->size);
        return (long)s->size;
    case DISK_STEP_PUNCH:
    case DISK_STEP_ZERO:
        if (d->no_holes)
            return -EOPNOTSUPP;
        memset(d->bytes + s->offset, 0, s->size);
        return 0;
    case DISK_STEP_SYNC:
        d->flushes++;
        return 0;
    }
    return -EINVAL;
}

static void *worker_main(void *context)
{
    struct memory_disk *d = context;
    pthread_mutex_lock(&d->lock);
    while (!d->closing || d->first) {
        if (!d->first || (d->held && !d->closing)) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        struct disk_io *io = d->first;
        d->first = io->next;
        if (!d->first)
            d->last = &d->first;
        struct disk_step step;
        do
            step = disk_io_step(io);
        while (!disk_io_advance(io, carry_out(d, &step)));
        d->busy--;
        d->done++;
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
        io->done(io);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void submit(void *engine, struct disk_io *io)
{
    struct memory_disk *d = engine;
    pthread_mutex_lock(&d->lock);
    *d->last = io;
    d->last = &io->next;
    d->busy++;
    if (d->busy > d->busy_max)
        d->busy_max = d->busy;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void close_engine(void *engine)
{
    struct memory_disk *d = engine;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->worker, NULL);
    d->closing = false;
}

struct disk_image *memory_disk_image(struct memory_disk *disk)
{
    static const struct disk_engine_ops ops = {
        .name = "memory", .submit = submit, .close = close_engine};
    struct disk_image *image = NULL;
    if (pthread_create(&disk->worker, NULL, worker_main, disk) != 0 ||
        disk_image_create(&ops, disk, disk->size, disk->read_only, &image, NULL) < 0)
        abort();
    return image;
}

void memory_disk_hold(struct memory_disk *disk, bool held)
{
    pthread_mutex_lock(&disk->lock);
    disk->held = held;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
}

void memory_disk_fail(struct memory_disk *disk, uint64_t from, uint64_t to, int error)
{
    pthread_mutex_lock(&disk->lock);
    disk->error = error;
    disk->bad_from = from;
    disk->bad_to = to;
    disk->bad_flush = false;
    pthread_mutex_unlock(&disk->lock);
}

void memory_disk_fail_flush(struct memory_disk *disk, int error)
{
    pthread_mutex_lock(&disk->lock);
    disk->error = error;
    disk->bad_from = disk->bad_to = 0;
    disk->bad_flush = true;
    pthread_mutex_unlock(&disk->lock);
}

bool memory_disk_wait_busy(struct memory_disk *disk, unsigned count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    int rc = 0;
    pthread_mutex_lock(&disk->lock);
    while (disk->busy != count && rc == 0)
        rc = pthread_cond_timedwait(&disk->changed, &disk->lock, &until);
    pthread_mutex_unlock(&disk->lock);
    return rc == 0;
}
