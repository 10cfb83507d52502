#include "dirtylog/sweep.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/prompt.h"

/* 64 MiB: a few hundred microseconds. A multiple of the pages that a word of a dirty set's summary
 * stands for. */
#define BLOCK_PAGES 16384u
_Static_assert(BLOCK_PAGES % (64 * 64) == 0, "blocks share no word of a summary");

/* With less for each thread, waking it costs more than it saves (docs/qemu.md). */
#define BYTES_PER_WORKER ((uint64_t)256 << 20)

struct sweep {
    /* set at creation */
    struct extents extents;
    uint64_t block_count;
    unsigned worker_count; /* with the one that asks */

    pthread_t threads[SWEEP_WORKERS_MAX];
    unsigned thread_count;

    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* protected by lock */
    sweep_fn *fn;
    void *context;
    struct dirty_set *set;
    uint64_t next;    /* the first block that nobody has taken; block_count between runs */
    unsigned at_work; /* workers that have one */
    unsigned named;   /* threads that know their number */
    int rc;
    struct error err;
    bool stop;
};

unsigned sweep_workers_for(uint64_t bytes)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t workers = bytes / BYTES_PER_WORKER;
    if (processors > 0 && workers > (uint64_t)processors)
        workers = (uint64_t)processors;
    if (workers > SWEEP_WORKERS_MAX)
        workers = SWEEP_WORKERS_MAX;
    return workers ? (unsigned)workers : 1;
}

unsigned sweep_workers(const struct sweep *sweep)
{
    return sweep->worker_count;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int do_block(const struct sweep *s, uint64_t block, unsigned worker, struct error *err)
{
    const uint64_t from = block * BLOCK_PAGES * PAGE_SIZE;
    const uint64_t to = from + BLOCK_PAGES * PAGE_SIZE;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->extents.count; i++) {
        const struct extent *e = &s->extents.items[i];
        const uint64_t first = larger(from, e->offset);
        const uint64_t end = smaller(to, e->offset + e->size);
        if (first >= end)
            continue;
        const struct sweep_piece piece = {e->start + (first - e->offset), end - first,
                                          first >> PAGE_SHIFT};
        rc = s->fn(s->context, worker, &piece, s->set, err);
    }
    return rc;
}

/* With the lock held: takes blocks while there are any. */
static void work(struct sweep *s, unsigned worker)
{
    while (s->next < s->block_count) {
        const uint64_t block = s->next++;
        struct error err = {0};
        s->at_work++;
        pthread_mutex_unlock(&s->lock);
        const int rc = do_block(s, block, worker, &err);
        pthread_mutex_lock(&s->lock);
        s->at_work--;
        if (rc < 0 && s->rc == 0) {
            s->rc = rc;
            s->err = err;
        }
        if (rc < 0)
            s->next = s->block_count;
    }
}

static void *thread_main(void *context)
{
    struct sweep *s = context;
    prompt_thread("dirty");
    pthread_mutex_lock(&s->lock);
    const unsigned worker = ++s->named;
    while (!s->stop) {
        work(s, worker);
        if (s->at_work == 0)
            pthread_cond_signal(&s->done);
        if (!s->stop)
            pthread_cond_wait(&s->work, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int sweep_create(const struct extents *extents, unsigned workers, struct sweep **out,
                 struct error *err)
{
    assert(workers >= 1 && workers <= SWEEP_WORKERS_MAX);
    *out = NULL;
    struct sweep *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    s->extents = *extents;
    s->worker_count = workers;
    for (size_t i = 0; i < extents->count; i++) {
        const uint64_t end = extents->items[i].offset + extents->items[i].size;
        const uint64_t block_size = (uint64_t)BLOCK_PAGES * PAGE_SIZE;
        s->block_count = larger(s->block_count, (end + block_size - 1) / block_size);
    }
    s->next = s->block_count;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->done, NULL);
    for (; s->thread_count < workers - 1; s->thread_count++)
        if (pthread_create(&s->threads[s->thread_count], NULL, thread_main, s) != 0) {
            sweep_destroy(&s);
            return error_set(err, -EAGAIN, "dirty log: can't start a thread");
        }
    *out = s;
    return 0;
}

void sweep_destroy(struct sweep **sweep)
{
    struct sweep *s = *sweep;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->thread_count; i++)
        pthread_join(s->threads[i], NULL);
    pthread_cond_destroy(&s->done);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *sweep = NULL;
}

int sweep_run(struct sweep *sweep, sweep_fn *fn, void *context, struct dirty_set *set,
              struct error *err)
{
    pthread_mutex_lock(&sweep->lock);
    assert(sweep->next == sweep->block_count && sweep->at_work == 0);
    sweep->fn = fn;
    sweep->context = context;
    sweep->set = set;
    sweep->rc = 0;
    sweep->next = 0;
    if (sweep->block_count > 1)
        pthread_cond_broadcast(&sweep->work);
    work(sweep, 0);
    while (sweep->at_work > 0)
        pthread_cond_wait(&sweep->done, &sweep->lock);
    const int rc = sweep->rc;
    if (rc < 0 && err)
        *err = sweep->err;
    pthread_mutex_unlock(&sweep->lock);
    return rc;
}
