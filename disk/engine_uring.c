/* The engine on io_uring: submitters fill the ring under a lock, one thread reaps.
 *
 * At most DEPTH requests are with the kernel, so that the completion ring can't overflow; what
 * exceeds that waits in a list. A no-operation without an io behind it wakes the reaper to end. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/fd.h"
#include "disk/image.h"

#define DEPTH 128

struct engine {
    int fd;
    pthread_t reaper;

    pthread_mutex_t lock; /* protects all below, but the completion side of the ring */
    pthread_cond_t idle;
    struct io_uring ring;
    unsigned flying;
    struct disk_io *first; /* waiting for a place */
    struct disk_io **last;
};

static void prepare(const struct engine *e, struct io_uring_sqe *sqe, const struct disk_step *s)
{
    const unsigned size = (unsigned)(s->size < INT32_MAX ? s->size : INT32_MAX);
    switch (s->kind) {
    case DISK_STEP_READ:
        io_uring_prep_read(sqe, e->fd, s->data, size, s->offset);
        break;
    case DISK_STEP_WRITE:
        io_uring_prep_write(sqe, e->fd, s->data, size, s->offset);
        break;
    case DISK_STEP_PUNCH:
        io_uring_prep_fallocate(sqe, e->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)s->offset, (off_t)s->size);
        break;
    case DISK_STEP_ZERO:
        io_uring_prep_fallocate(sqe, e->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)s->offset, (off_t)s->size);
        break;
    case DISK_STEP_SYNC:
        io_uring_prep_fsync(sqe, e->fd, IORING_FSYNC_DATASYNC);
        break;
    }
}

/* With the lock held. The kernel may be out of resources for a moment: it takes the entry later,
 * with the next one, so nothing is lost, and the reaper tries again. */
static void launch(struct engine *e, struct disk_io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);
    while (!sqe) {
        io_uring_submit(&e->ring);
        sqe = io_uring_get_sqe(&e->ring);
    }
    if (io) {
        const struct disk_step step = disk_io_step(io);
        prepare(e, sqe, &step);
    } else {
        io_uring_prep_nop(sqe);
    }
    io_uring_sqe_set_data(sqe, io);
    int rc;
    do
        rc = io_uring_submit(&e->ring);
    while (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
}

static void submit(void *engine, struct disk_io *io)
{
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    if (e->flying < DEPTH) {
        e->flying++;
        launch(e, io);
    } else {
        *e->last = io;
        e->last = &io->next;
    }
    pthread_mutex_unlock(&e->lock);
}

/* The place of a finished io goes to the next one. */
static void hand_on_place(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct disk_io *next = e->first;
    if (next) {
        e->first = next->next;
        if (!e->first)
            e->last = &e->first;
        launch(e, next);
    } else if (--e->flying == 0) {
        pthread_cond_broadcast(&e->idle);
    }
    pthread_mutex_unlock(&e->lock);
}

static void *reaper_main(void *context)
{
    struct engine *e = context;
    for (;;) {
        struct io_uring_cqe *cqe = NULL;
        if (io_uring_wait_cqe(&e->ring, &cqe) < 0)
            continue; /* interrupted */
        struct disk_io *io = io_uring_cqe_get_data(cqe);
        const long outcome = cqe->res;
        io_uring_cqe_seen(&e->ring, cqe);
        if (!io)
            return NULL;
        pthread_mutex_lock(&e->lock); /* what the submitter wrote is seen */
        const bool done = disk_io_advance(io, outcome);
        if (!done)
            launch(e, io);
        pthread_mutex_unlock(&e->lock);
        if (done) {
            io->done(io); /* before its place is free: close() waits for that */
            hand_on_place(e);
        }
    }
}

static void close_engine(void *engine)
{
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    while (e->flying)
        pthread_cond_wait(&e->idle, &e->lock);
    launch(e, NULL);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->reaper, NULL);
    io_uring_queue_exit(&e->ring);
    pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->lock);
    fd_close(&e->fd);
    free(e);
}

static const struct disk_engine_ops engine_ops = {
    .name = "io_uring", .submit = submit, .close = close_engine};

/* Knows the kernel what we need? Old ones have the ring but not all operations. */
static bool is_able(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    const bool able = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
                      io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
                      io_uring_opcode_supported(probe, IORING_OP_FSYNC) &&
                      io_uring_opcode_supported(probe, IORING_OP_FALLOCATE);
    if (probe)
        io_uring_free_probe(probe);
    return able;
}

int disk_engine_uring_create(int fd, const struct disk_engine_ops **ops, void **engine)
{
    struct engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->fd = fd;
    e->last = &e->first;
    int rc = io_uring_queue_init(2 * DEPTH, &e->ring, 0);
    if (rc < 0) {
        free(e);
        return rc;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->idle, NULL);
    rc = is_able(&e->ring) ? 0 : -ENOSYS;
    if (rc == 0) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = -pthread_create(&e->reaper, NULL, reaper_main, e);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (rc < 0) {
        io_uring_queue_exit(&e->ring);
        pthread_cond_destroy(&e->idle);
        pthread_mutex_destroy(&e->lock);
        free(e);
        return rc;
    }
    *ops = &engine_ops;
    *engine = e;
    return 0;
}
