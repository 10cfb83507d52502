#include "disk/mode_shared.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* What a request is in the list, kept in its `mode_state`. */
enum { HELD, RELEASED, WAITING_FLUSH, GOING_FLUSH };

struct disk_shared {
    pthread_mutex_t lock; /* protects all below; not held while others are called */
    pthread_cond_t changed;
    void (*hold)(void *context, uint64_t ticket); /* NULL: nobody to tell */
    void *context;
    struct disk_request *first; /* admitted and not settled, in order */
    struct disk_request **last;
    uint64_t last_ticket;
    unsigned telling; /* calls of hold() that have not returned */
    unsigned held;
    unsigned released; /* and not settled */
};

/* ---- the list, with the lock held ---- */

static void append(struct disk_shared *m, struct disk_request *r, int state)
{
    r->mode_state = state;
    r->mode_next = NULL;
    *m->last = r;
    m->last = &r->mode_next;
}

static void take_out(struct disk_shared *m, struct disk_request *r)
{
    struct disk_request **at = &m->first;
    while (*at != r)
        at = &(*at)->mode_next;
    *at = r->mode_next;
    if (!*at)
        m->last = at;
}

static struct disk_request *find_held(struct disk_shared *m, uint64_t ticket)
{
    struct disk_request *r = m->first;
    while (r && !(r->mode_state == HELD && r->mode_ticket == ticket))
        r = r->mode_next;
    return r;
}

/* A flush that has no change before it. */
static struct disk_request *due_flush(struct disk_shared *m)
{
    for (struct disk_request *r = m->first; r; r = r->mode_next) {
        if (r->mode_state == HELD || r->mode_state == RELEASED)
            return NULL;
        if (r->mode_state == WAITING_FLUSH)
            return r;
    }
    return NULL;
}

/* ---- the table ---- */

static bool admit_flush(struct disk_shared *m, struct disk_request *r)
{
    pthread_mutex_lock(&m->lock);
    append(m, r, GOING_FLUSH);
    const bool go = m->held + m->released == 0;
    if (!go)
        r->mode_state = WAITING_FLUSH;
    pthread_mutex_unlock(&m->lock);
    return go;
}

static bool admit(void *mode, struct disk_request *r)
{
    struct disk_shared *m = mode;
    if (r->io.op == DISK_FLUSH)
        return admit_flush(m, r);
    /* A write is durable by how the image was opened. */
    r->io.durable = r->io.op != DISK_WRITE;
    pthread_mutex_lock(&m->lock);
    const uint64_t ticket = r->mode_ticket = ++m->last_ticket;
    void (*const hold)(void *, uint64_t) = m->hold;
    void *const context = m->context;
    append(m, r, hold ? HELD : RELEASED);
    m->held += hold != NULL;
    m->released += hold == NULL;
    m->telling += hold != NULL;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (!hold) { /* the ring of a guest that is gone: nobody would ever let it out */
        disk_volume_end(r, -ECANCELED);
        return false;
    }
    hold(context, ticket); /* the request may be gone when it returns */
    pthread_mutex_lock(&m->lock);
    m->telling--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return false;
}

static void settle(void *mode, struct disk_request *r)
{
    struct disk_shared *m = mode;
    pthread_mutex_lock(&m->lock);
    take_out(m, r);
    m->released -= r->mode_state == RELEASED;
    pthread_cond_broadcast(&m->changed);
    struct disk_request *flush;
    while ((flush = due_flush(m))) {
        flush->mode_state = GOING_FLUSH;
        pthread_mutex_unlock(&m->lock);
        disk_volume_go(flush);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
}

const struct disk_mode_ops disk_mode_shared_ops = {
    .name = "shared", .admit = admit, .settle = settle, .orders_reads = true};

/* ---- for those who hold ---- */

void disk_shared_begin(struct disk_shared *mode, void (*hold)(void *context, uint64_t ticket),
                       void *context)
{
    pthread_mutex_lock(&mode->lock);
    assert(!mode->hold && !mode->held);
    mode->hold = hold;
    mode->context = context;
    pthread_mutex_unlock(&mode->lock);
}

/* With the lock held. */
static void mark_released(struct disk_shared *m, struct disk_request *r)
{
    r->mode_state = RELEASED;
    m->held--;
    m->released++;
}

void disk_shared_release(struct disk_shared *mode, uint64_t ticket)
{
    pthread_mutex_lock(&mode->lock);
    struct disk_request *r = find_held(mode, ticket);
    if (r)
        mark_released(mode, r);
    pthread_mutex_unlock(&mode->lock);
    if (r)
        disk_volume_go(r);
}

static struct disk_request *any_held(struct disk_shared *m)
{
    struct disk_request *r = m->first;
    while (r && r->mode_state != HELD)
        r = r->mode_next;
    return r;
}

void disk_shared_end(struct disk_shared *mode)
{
    pthread_mutex_lock(&mode->lock);
    mode->hold = NULL;
    /* Each that ends may let another one begin, which overlaps it. */
    while (mode->first || mode->telling) {
        struct disk_request *r = any_held(mode);
        if (!r) {
            pthread_cond_wait(&mode->changed, &mode->lock);
            continue;
        }
        mark_released(mode, r);
        pthread_mutex_unlock(&mode->lock);
        disk_volume_end(r, -ECANCELED);
        pthread_mutex_lock(&mode->lock);
    }
    pthread_mutex_unlock(&mode->lock);
}

bool disk_shared_is_quiet(struct disk_shared *mode)
{
    pthread_mutex_lock(&mode->lock);
    const bool quiet = mode->released == 0;
    pthread_mutex_unlock(&mode->lock);
    return quiet;
}

static unsigned count(struct disk_shared *m, const struct disk_volume *volume, int state)
{
    unsigned found = 0;
    pthread_mutex_lock(&m->lock);
    for (const struct disk_request *r = m->first; r; r = r->mode_next)
        found += r->mode_state == state && r->volume == volume;
    pthread_mutex_unlock(&m->lock);
    return found;
}

unsigned disk_shared_held(struct disk_shared *mode, const struct disk_volume *volume)
{
    return count(mode, volume, HELD);
}

unsigned disk_shared_writing(struct disk_shared *mode, const struct disk_volume *volume)
{
    return count(mode, volume, RELEASED);
}

/* ---- life ---- */

int disk_shared_create(struct disk_shared **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return error_set(err, -ENOMEM, "shared disks: out of memory");
    (*out)->last = &(*out)->first;
    pthread_mutex_init(&(*out)->lock, NULL);
    pthread_cond_init(&(*out)->changed, NULL);
    return 0;
}

void disk_shared_destroy(struct disk_shared **mode)
{
    if (!*mode)
        return;
    pthread_cond_destroy(&(*mode)->changed);
    pthread_mutex_destroy(&(*mode)->lock);
    free(*mode);
    *mode = NULL;
}
