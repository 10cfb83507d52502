/* See transport/bundle.h.
 *
 * The caller of send or receive does the first slice itself and hands each other one to that
 * member's worker, then waits for all: the caller's memory is borrowed no longer than the call. */
#include "transport/bundle.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport/link_backend.h"

struct bundle;

/* One slice, given to a worker. */
struct slice {
    struct link *member;
    bool sending;
    struct iovec parts[LINK_PARTS_MAX + 1]; /* sending */
    int count;
    void *buffer; /* receiving */
    size_t size;
    struct link_wait wait;
    int rc;
    struct error err;
};

struct worker {
    struct bundle *bundle;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* protected by lock; `slice` belongs to the worker while busy, else to the caller */
    bool busy;
    bool stop;
    struct slice slice;
};

/* One direction: used by one thread at a time (link_backend.h). */
struct lane {
    struct worker workers[BUNDLE_MAX]; /* the first is not used */
    struct slice own;
};

struct bundle {
    struct link link; /* first member */
    unsigned count;
    struct link *members[BUNDLE_MAX];
    struct lane sending, receiving;
};

/* --- slices --- */

/* After a failure nothing useful can come on the others. */
static void fail_all(struct bundle *b)
{
    for (unsigned i = 0; i < b->count; i++)
        link_shutdown(b->members[i]);
}

static void carry(struct bundle *b, struct slice *s)
{
    struct link *member = s->member;
    size_t got = 0;
    s->err = (struct error){0};
    s->rc = s->sending ? member->ops->send(member, s->parts, s->count, &s->wait, &s->err)
                       : member->ops->receive(member, s->buffer, s->size, &got, &s->wait, &s->err);
    if (s->rc < 0)
        fail_all(b);
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->busy && !w->stop)
            pthread_cond_wait(&w->changed, &w->lock);
        if (!w->busy)
            break;
        pthread_mutex_unlock(&w->lock);
        carry(w->bundle, &w->slice);
        pthread_mutex_lock(&w->lock);
        w->busy = false;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void hand_over(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->busy = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void wait_idle(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->busy)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static struct slice *slice_of(struct lane *lane, unsigned i)
{
    return i ? &lane->workers[i].slice : &lane->own;
}

/* Carries the first `used` slices of the lane; the first error that isn't a consequence. */
static int carry_all(struct bundle *b, struct lane *lane, unsigned used, struct error *err)
{
    for (unsigned i = 1; i < used; i++)
        hand_over(&lane->workers[i]);
    carry(b, &lane->own);
    for (unsigned i = 1; i < used; i++)
        wait_idle(&lane->workers[i]);
    const struct slice *worst = NULL;
    for (unsigned i = 0; i < used; i++) {
        const struct slice *s = slice_of(lane, i);
        if (s->rc < 0 && (!worst || s->rc == -ETIMEDOUT || s->rc == -EBADMSG))
            worst = s;
    }
    if (!worst)
        return 0;
    if (err)
        *err = worst->err;
    return worst->rc;
}

static size_t slice_size(const struct bundle *b, size_t total)
{
    const size_t even = (total + b->count - 1) / b->count;
    return (even + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
}

/* --- the link --- */

/* Moves the next `size` bytes of the parts from *index and *offset on to `out`. */
static int take_parts(const struct iovec *parts, int *index, size_t *offset, size_t size,
                      struct iovec *out)
{
    int n = 0;
    while (size) {
        const struct iovec *part = &parts[*index];
        const size_t left = part->iov_len - *offset;
        const size_t here = left < size ? left : size;
        out[n++] = (struct iovec){(uint8_t *)part->iov_base + *offset, here};
        size -= here;
        *offset += here;
        if (*offset == part->iov_len) {
            (*index)++;
            *offset = 0;
        }
    }
    return n;
}

static int bundle_send(struct link *link, struct iovec *parts, int count,
                       const struct link_wait *wait, struct error *err)
{
    struct bundle *b = (struct bundle *)link;
    size_t total = 0;
    for (int i = 1; i < count; i++)
        total += parts[i].iov_len;
    assert(parts[0].iov_len == FRAME_HEADER_SIZE);
    if (total < BUNDLE_SLICE_MIN)
        return b->members[0]->ops->send(b->members[0], parts, count, wait, err);
    const size_t each = slice_size(b, total);
    int index = 1;
    size_t offset = 0;
    unsigned used = 0;
    while (total) {
        struct slice *s = slice_of(&b->sending, used);
        const size_t size = total < each ? total : each;
        const int header = used == 0;
        if (header)
            s->parts[0] = parts[0];
        s->count = header + take_parts(parts, &index, &offset, size, s->parts + header);
        s->wait = *wait;
        total -= size;
        used++;
    }
    return carry_all(b, &b->sending, used, err);
}

static int bundle_receive(struct link *link, void *buffer, size_t size, size_t *got,
                          const struct link_wait *wait, struct error *err)
{
    struct bundle *b = (struct bundle *)link;
    if (size < BUNDLE_SLICE_MIN)
        return b->members[0]->ops->receive(b->members[0], buffer, size, got, wait, err);
    const size_t each = slice_size(b, size);
    unsigned used = 0;
    for (size_t from = 0; from < size; from += each) {
        struct slice *s = slice_of(&b->receiving, used++);
        s->buffer = (uint8_t *)buffer + from;
        s->size = size - from < each ? size - from : each;
        s->wait = *wait;
    }
    *got = size; /* a payload, never between frames: how much came doesn't matter */
    return carry_all(b, &b->receiving, used, err);
}

static void bundle_lend(struct link *link, void *base, size_t size)
{
    const struct bundle *b = (const struct bundle *)link;
    for (unsigned i = 0; i < b->count; i++)
        link_lend(b->members[i], base, size);
}

static void bundle_shutdown(struct link *link)
{
    fail_all((struct bundle *)link);
}

static void stop_lane(struct bundle *b, struct lane *lane)
{
    for (unsigned i = 1; i < b->count; i++) {
        struct worker *w = &lane->workers[i];
        if (!w->started)
            continue;
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->changed);
    }
}

static void bundle_destroy(struct link *link)
{
    struct bundle *b = (struct bundle *)link;
    stop_lane(b, &b->sending);
    stop_lane(b, &b->receiving);
    for (unsigned i = 0; i < b->count; i++)
        link_destroy(&b->members[i]);
    free(b);
}

static const struct link_ops bundle_ops = {
    .send = bundle_send,
    .receive = bundle_receive,
    .lend = bundle_lend,
    .shutdown = bundle_shutdown,
    .destroy = bundle_destroy,
};

static int start_lane(struct bundle *b, struct lane *lane, bool sending, struct error *err)
{
    lane->own.sending = sending;
    lane->own.member = b->members[0];
    for (unsigned i = 1; i < b->count; i++) {
        struct worker *w = &lane->workers[i];
        w->bundle = b;
        w->slice.sending = sending;
        w->slice.member = b->members[i];
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->changed, NULL);
        const int rc = -pthread_create(&w->thread, NULL, worker_main, w);
        if (rc < 0) {
            pthread_mutex_destroy(&w->lock);
            pthread_cond_destroy(&w->changed);
            return error_set(err, rc, "no thread for a stream: %s", strerror(-rc));
        }
        w->started = true;
    }
    return 0;
}

int bundle_create(struct link *members[], unsigned count, struct link **out, struct error *err)
{
    assert(count >= 2 && count <= BUNDLE_MAX);
    *out = NULL;
    struct bundle *b = calloc(1, sizeof(*b));
    if (!b) {
        for (unsigned i = 0; i < count; i++)
            link_destroy(&members[i]);
        return error_set(err, -ENOMEM, "no memory for %u streams", count);
    }
    link_init(&b->link, &bundle_ops, link_peer_name(members[0]));
    b->count = count;
    for (unsigned i = 0; i < count; i++) {
        assert(members[i]->established);
        b->members[i] = members[i];
        members[i] = NULL;
    }
    b->link.security = *link_security(b->members[0]);
    b->link.streams = count;
    int rc = start_lane(b, &b->sending, true, err);
    if (rc == 0)
        rc = start_lane(b, &b->receiving, false, err);
    *out = &b->link;
    if (rc < 0)
        link_destroy(out);
    return rc;
}
