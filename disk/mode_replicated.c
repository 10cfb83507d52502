#include "disk/mode_replicated.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct disk_replicated {
    struct disk_log *log; /* set at creation */

    pthread_mutex_t lock; /* protects all below; taken before the log's */
    pthread_cond_t settled;
    struct disk_request *first; /* wait for room, in order */
    struct disk_request **last;
    unsigned waiting;
    unsigned unlogged; /* changes under way that began while the log was off */
};

static size_t data_size(const struct disk_request *r)
{
    return r->io.op == DISK_WRITE ? (size_t)r->io.size : 0;
}

/* With the lock held: false when it must wait. */
static bool promise(struct disk_replicated *m, struct disk_request *r)
{
    const enum disk_log_answer answer = disk_log_reserve(m->log, data_size(r));
    if (answer == DISK_LOG_FULL)
        return false;
    r->mode_flag = answer == DISK_LOG_PROMISED;
    m->unlogged += !r->mode_flag;
    return true;
}

static bool admit(void *mode, struct disk_request *r)
{
    struct disk_replicated *m = mode;
    pthread_mutex_lock(&m->lock);
    /* Nobody overtakes: a large write would starve behind small ones. */
    const bool go = !m->first && promise(m, r);
    if (!go) {
        r->mode_next = NULL;
        *m->last = r;
        m->last = &r->mode_next;
        m->waiting++;
    }
    pthread_mutex_unlock(&m->lock);
    return go;
}

static struct disk_request *take_one(struct disk_replicated *m)
{
    pthread_mutex_lock(&m->lock);
    struct disk_request *r = m->first;
    if (r && promise(m, r)) {
        m->first = r->mode_next;
        if (!m->first)
            m->last = &m->first;
        m->waiting--;
    } else {
        r = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    return r;
}

void disk_replicated_room(struct disk_replicated *mode)
{
    struct disk_request *r;
    while ((r = take_one(mode)))
        disk_volume_go(r);
}

static void settle(void *mode, struct disk_request *r)
{
    struct disk_replicated *m = mode;
    if (!r->mode_flag) {
        pthread_mutex_lock(&m->lock);
        if (--m->unlogged == 0)
            pthread_cond_broadcast(&m->settled);
        pthread_mutex_unlock(&m->lock);
        return;
    }
    if (r->io.result < 0) {
        disk_log_cancel(m->log, data_size(r));
        return;
    }
    const struct disk_record record = {.op = r->io.op,
                                       .may_unmap = r->io.may_unmap,
                                       .disk = disk_volume_index(r->volume),
                                       .offset = r->io.offset,
                                       .length = r->io.size,
                                       .data = r->io.op == DISK_WRITE ? r->io.data : NULL};
    if (record.data)
        r->io.data = NULL;
    disk_log_put(m->log, &record);
}

const struct disk_mode_ops disk_mode_replicated_ops = {
    .name = "replicated", .admit = admit, .settle = settle};

int disk_replicated_create(struct disk_log *log, struct disk_replicated **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return error_set(err, -ENOMEM, "replicated disks: out of memory");
    (*out)->log = log;
    (*out)->last = &(*out)->first;
    pthread_mutex_init(&(*out)->lock, NULL);
    pthread_cond_init(&(*out)->settled, NULL);
    return 0;
}

void disk_replicated_destroy(struct disk_replicated **mode)
{
    if (!*mode)
        return;
    pthread_cond_destroy(&(*mode)->settled);
    pthread_mutex_destroy(&(*mode)->lock);
    free(*mode);
    *mode = NULL;
}

void disk_replicated_settle(struct disk_replicated *mode)
{
    pthread_mutex_lock(&mode->lock);
    while (mode->unlogged)
        pthread_cond_wait(&mode->settled, &mode->lock);
    pthread_mutex_unlock(&mode->lock);
}

unsigned disk_replicated_waiting(struct disk_replicated *mode)
{
    pthread_mutex_lock(&mode->lock);
    const unsigned waiting = mode->waiting;
    pthread_mutex_unlock(&mode->lock);
    return waiting;
}
