/* The engine for hosts that refuse io_uring: a few threads that take from one queue. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "disk/image.h"

#define THREADS 4

struct engine {
    int fd;
    pthread_t threads[THREADS];
    unsigned started;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    struct disk_io *first;
    struct disk_io **last;
    bool quit; /* when the queue is empty */
};

static long carry_out(int fd, const struct disk_step *s)
{
    long rc = 0;
    const off_t offset = (off_t)s->offset;
    switch (s->kind) {
    case DISK_STEP_READ:
        rc = pread(fd, s->data, s->size, offset);
        break;
    case DISK_STEP_WRITE:
        rc = pwrite(fd, s->data, s->size, offset);
        break;
    case DISK_STEP_PUNCH:
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t)s->size);
        break;
    case DISK_STEP_ZERO:
        rc = fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, (off_t)s->size);
        break;
    case DISK_STEP_SYNC:
        rc = fdatasync(fd);
        break;
    }
    return rc < 0 ? -errno : rc;
}

static struct disk_io *take(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (!e->first && !e->quit)
        pthread_cond_wait(&e->changed, &e->lock);
    struct disk_io *io = e->first;
    if (io) {
        e->first = io->next;
        if (!e->first)
            e->last = &e->first;
    }
    pthread_mutex_unlock(&e->lock);
    return io;
}

static void *thread_main(void *context)
{
    struct engine *e = context;
    struct disk_io *io;
    while ((io = take(e))) {
        struct disk_step step;
        do
            step = disk_io_step(io);
        while (!disk_io_advance(io, carry_out(e->fd, &step)));
        io->done(io);
    }
    return NULL;
}

static void submit(void *engine, struct disk_io *io)
{
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    *e->last = io;
    e->last = &io->next;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void stop(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->quit = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->started; i++)
        pthread_join(e->threads[i], NULL);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
}

static void close_engine(void *engine)
{
    struct engine *e = engine;
    stop(e);
    fd_close(&e->fd);
    free(e);
}

static const struct disk_engine_ops engine_ops = {
    .name = "threads", .submit = submit, .close = close_engine};

int disk_engine_threads_create(int fd, const struct disk_engine_ops **ops, void **engine)
{
    struct engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->fd = fd;
    e->last = &e->first;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    /* They take no signals: those are for the threads that expect them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (; rc == 0 && e->started < THREADS; e->started += rc == 0)
        rc = pthread_create(&e->threads[e->started], NULL, thread_main, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        stop(e);
        free(e);
        return -rc;
    }
    *ops = &engine_ops;
    *engine = e;
    return 0;
}
