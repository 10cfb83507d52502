#include "disk/tracker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define TIDY_AFTER SEC(10)

struct disk_tracker {
    struct divergence *map; /* set at creation */
    pthread_t thread;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    struct disk_request *first; /* wait for their marks, in order */
    struct disk_request **last;
    nsec_t tidy_at; /* 0: there is nothing to tidy */
    bool quit;
};

static bool before(void *watch, struct disk_request *r)
{
    struct disk_tracker *t = watch;
    if (r->from_peer || divergence_write_begin(t->map, r->io.offset, r->io.size))
        return true;
    pthread_mutex_lock(&t->lock);
    r->watch_next = NULL;
    *t->last = r;
    t->last = &r->watch_next;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return false;
}

/* The blocks stay marked, also when the write failed: what they hold is not known then. */
static void after(void *watch, struct disk_request *r)
{
    (void)watch;
    (void)r;
}

const struct disk_watch_ops disk_tracker_ops = {.before = before, .after = after};

/* One durable write covers all that wait: every one was marked in memory when it came. */
static void carry_on(struct disk_tracker *t, struct disk_request *r)
{
    while (r) {
        struct disk_request *next = r->watch_next;
        const int rc = divergence_wait(t->map, r->io.offset, r->io.size);
        if (rc < 0)
            disk_volume_end(r, rc);
        else
            disk_volume_go(r);
        r = next;
    }
}

/* With the lock held. */
static void wait_for_work(struct disk_tracker *t)
{
    if (!t->tidy_at) {
        pthread_cond_wait(&t->changed, &t->lock);
        return;
    }
    const struct timespec until = clock_to_timespec(t->tidy_at);
    pthread_cond_timedwait(&t->changed, &t->lock, &until);
}

static void *tracker_main(void *context)
{
    struct disk_tracker *t = context;
    pthread_mutex_lock(&t->lock);
    while (!t->quit || t->first) {
        struct disk_request *work = t->first;
        t->first = NULL;
        t->last = &t->first;
        const bool tidy = !work && t->tidy_at && clock_now() >= t->tidy_at;
        if (!work && !tidy) {
            wait_for_work(t);
            continue;
        }
        t->tidy_at = work && !t->tidy_at ? clock_now() + TIDY_AFTER : tidy ? 0 : t->tidy_at;
        pthread_mutex_unlock(&t->lock);
        carry_on(t, work);
        if (tidy)
            divergence_tidy(t->map);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int disk_tracker_create(struct divergence *map, struct disk_tracker **out, struct error *err)
{
    *out = NULL;
    struct disk_tracker *t = calloc(1, sizeof(*t));
    if (!t)
        return error_set(err, -ENOMEM, "divergence map: out of memory");
    t->map = map;
    t->last = &t->first;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rc = pthread_create(&t->thread, NULL, tracker_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return error_set(err, -rc, "divergence map: can't start its thread: %s", strerror(rc));
    }
    *out = t;
    return 0;
}

void disk_tracker_destroy(struct disk_tracker **tracker)
{
    struct disk_tracker *t = *tracker;
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->quit = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    *tracker = NULL;
}
