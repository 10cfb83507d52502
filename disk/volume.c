#include "disk/volume.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a request is. QUEUED waits for one that overlaps; whoever makes it BEGUN, under the lock,
 * carries it on. */
enum step { STEP_QUEUED, STEP_BEGUN, STEP_MODE, STEP_WATCH, STEP_IMAGE };

struct disk_volume {
    /* set at creation, or while nothing is under way */
    struct disk_volume_config config;
    struct disk_image *image;
    const struct disk_mode_ops *mode_ops;
    void *mode;
    const struct disk_watch_ops *watch_ops;
    void *watch;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t idle;
    struct disk_request *first; /* everything that has not ended, in the order it came */
    struct disk_request *last;
    unsigned queued; /* of them, waiting for one that overlaps */
    struct disk_volume_stats stats;
};

static bool is_change(const struct disk_io *io)
{
    return io->op == DISK_WRITE || io->op == DISK_DISCARD || io->op == DISK_WRITE_ZEROES;
}

static bool overlap(const struct disk_io *a, const struct disk_io *b)
{
    return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* Is `r` of the kind that waits for changes which it overlaps? */
static bool keeps_order(const struct disk_request *r)
{
    const struct disk_mode_ops *mode = r->volume->mode_ops;
    return is_change(&r->io) ||
           (r->io.op == DISK_READ && !r->from_peer && mode && mode->orders_reads);
}

/* ---- the list, with the lock held ---- */

static void append(struct disk_volume *v, struct disk_request *r)
{
    r->next = NULL;
    r->prev = v->last;
    if (v->last)
        v->last->next = r;
    else
        v->first = r;
    v->last = r;
    v->stats.under_way += !r->from_peer;
}

static void take_out(struct disk_volume *v, struct disk_request *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else
        v->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        v->last = r->prev;
    v->stats.under_way -= !r->from_peer;
    if (!v->first)
        pthread_cond_broadcast(&v->idle);
}

static bool may_begin(const struct disk_request *r)
{
    if (!keeps_order(r))
        return true;
    for (const struct disk_request *before = r->prev; before; before = before->prev)
        if (is_change(&before->io) && overlap(&before->io, &r->io))
            return false;
    return true;
}

static void account(struct disk_volume *v, const struct disk_request *r)
{
    struct disk_volume_stats *s = &v->stats;
    const struct disk_io *io = &r->io;
    if (r->from_peer) {
        s->peer_writes += is_change(io);
        return;
    }
    if (io->result == -ECANCELED)
        return;
    if (io->result < 0) {
        s->read_errors += io->op == DISK_READ;
        s->write_errors += io->op != DISK_READ;
        return;
    }
    s->reads += io->op == DISK_READ;
    s->writes += io->op == DISK_WRITE;
    s->discards += io->op == DISK_DISCARD || io->op == DISK_WRITE_ZEROES;
    s->flushes += io->op == DISK_FLUSH;
    s->bytes_read += io->op == DISK_READ ? io->size : 0;
    s->bytes_written += io->op == DISK_WRITE ? io->size : 0;
}

/* ---- a request's way ---- */

static void on_image_done(struct disk_io *io)
{
    disk_volume_end(io->context, io->result);
}

static bool has_mode(const struct disk_request *r)
{
    const struct disk_mode_ops *mode = r->volume->mode_ops;
    return mode && !r->from_peer && (r->io.op != DISK_READ || mode->sees_reads);
}

/* Carries the request through its steps until somebody keeps it. The one who calls owns the step.
 */
static void proceed(struct disk_request *r)
{
    struct disk_volume *v = r->volume;
    if (r->step < STEP_MODE) {
        r->step = STEP_MODE;
        if (has_mode(r) && !v->mode_ops->admit(v->mode, r))
            return;
    }
    if (r->step < STEP_WATCH) {
        r->step = STEP_WATCH;
        if (is_change(&r->io) && v->watch_ops && !v->watch_ops->before(v->watch, r))
            return;
    }
    r->step = STEP_IMAGE;
    r->io.done = on_image_done;
    r->io.context = r;
    disk_image_submit(v->image, &r->io);
}

void disk_volume_go(struct disk_request *request)
{
    proceed(request);
}

/* Begins what waited for others that overlap. Few requests overlap, and few are under way: looking
 * at all of them costs less than an index. */
static void begin_waiting(struct disk_volume *v)
{
    for (;;) {
        pthread_mutex_lock(&v->lock);
        struct disk_request *r = v->first;
        while (r && !(r->step == STEP_QUEUED && may_begin(r)))
            r = r->next;
        if (r) {
            r->step = STEP_BEGUN;
            v->queued--;
        }
        pthread_mutex_unlock(&v->lock);
        if (!r)
            return;
        proceed(r);
    }
}

static const char *op_name(enum disk_op op)
{
    static const char *const names[] = {
        [DISK_WRITE] = "writing",  [DISK_DISCARD] = "discarding", [DISK_WRITE_ZEROES] = "zeroing",
        [DISK_FLUSH] = "flushing", [DISK_READ] = "reading",
    };
    return names[op];
}

static void describe(const struct disk_io *io, char *text, size_t size)
{
    if (io->op == DISK_FLUSH)
        snprintf(text, size, "flushing failed: %s", strerror(-io->result));
    else
        snprintf(text, size, "%s %llu bytes at %llu failed: %s", op_name(io->op),
                 (unsigned long long)io->size, (unsigned long long)io->offset,
                 strerror(-io->result));
}

void disk_volume_end(struct disk_request *request, int result)
{
    struct disk_volume *v = request->volume;
    request->io.result = result;
    if (request->step >= STEP_WATCH && is_change(&request->io) && v->watch_ops)
        v->watch_ops->after(v->watch, request);
    if (has_mode(request))
        v->mode_ops->settle(v->mode, request);
    char text[sizeof(v->stats.last_error)] = "";
    const bool failed = result < 0 && result != -ECANCELED;
    if (failed)
        describe(&request->io, text, sizeof(text));
    const bool tell = failed && !request->from_peer && v->config.failed;
    pthread_mutex_lock(&v->lock);
    account(v, request);
    if (failed)
        memcpy(v->stats.last_error, text, sizeof(text));
    const bool others = v->queued > 0;
    take_out(v, request);
    pthread_mutex_unlock(&v->lock);
    if (others)
        begin_waiting(v);
    if (tell)
        v->config.failed(v->config.context, v->config.index, text);
    request->done(request);
}

void disk_volume_submit(struct disk_volume *volume, struct disk_request *request)
{
    request->volume = volume;
    request->step = STEP_QUEUED;
    pthread_mutex_lock(&volume->lock);
    append(volume, request);
    const bool begin = may_begin(request);
    if (begin)
        request->step = STEP_BEGUN;
    else
        volume->queued++;
    pthread_mutex_unlock(&volume->lock);
    if (begin)
        proceed(request);
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct disk_request *request)
{
    struct waiter *w = request->context;
    pthread_mutex_lock(&w->mutex);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

int disk_volume_perform(struct disk_volume *volume, struct disk_request *request)
{
    struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    request->from_peer = true;
    request->done = wake;
    request->context = &w;
    disk_volume_submit(volume, request);
    pthread_mutex_lock(&w.mutex);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    return request->io.result;
}

/* ---- life ---- */

int disk_volume_create(const struct disk_volume_config *config, struct disk_volume **out,
                       struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out) {
        struct disk_image *image = config->image;
        disk_image_close(&image);
        return error_set(err, -ENOMEM, "disk %u: out of memory", config->index);
    }
    (*out)->config = *config;
    (*out)->image = config->image;
    pthread_mutex_init(&(*out)->lock, NULL);
    pthread_cond_init(&(*out)->idle, NULL);
    return 0;
}

void disk_volume_destroy(struct disk_volume **volume)
{
    struct disk_volume *v = *volume;
    if (!v)
        return;
    pthread_mutex_lock(&v->lock);
    while (v->first)
        pthread_cond_wait(&v->idle, &v->lock);
    pthread_mutex_unlock(&v->lock);
    disk_image_close(&v->image); /* returns when the last callback has */
    pthread_cond_destroy(&v->idle);
    pthread_mutex_destroy(&v->lock);
    free(v);
    *volume = NULL;
}

void disk_volume_set_mode(struct disk_volume *volume, const struct disk_mode_ops *ops, void *mode)
{
    assert(!volume->first);
    volume->mode_ops = ops;
    volume->mode = mode;
}

void disk_volume_set_watch(struct disk_volume *volume, const struct disk_watch_ops *ops,
                           void *watch)
{
    assert(!volume->first);
    volume->watch_ops = ops;
    volume->watch = watch;
}

struct disk_image *disk_volume_image(struct disk_volume *volume)
{
    return volume->image;
}

unsigned disk_volume_index(const struct disk_volume *volume)
{
    return volume->config.index;
}

const char *disk_volume_mode_name(const struct disk_volume *volume)
{
    return volume->mode_ops ? volume->mode_ops->name : "plain";
}

void disk_volume_snapshot(struct disk_volume *volume, struct disk_volume_stats *out)
{
    pthread_mutex_lock(&volume->lock);
    *out = volume->stats;
    pthread_mutex_unlock(&volume->lock);
}
