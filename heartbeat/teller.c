#include "heartbeat/teller.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX 32

_Static_assert(QUEUE_MAX > TELLING_COUNT, "a full queue holds two of some kind");

struct teller {
    /* Set at creation. */
    struct heartbeat_ops ops;
    void *owner;
    int priority;
    bool started;
    pthread_t thread;

    pthread_mutex_t lock; /* inherits priority: the beating thread posts under it */
    pthread_cond_t news;
    /* Protected by lock. */
    bool quit;
    size_t count;
    struct telling queue[QUEUE_MAX]; /* oldest first */
};

static void tell(const struct teller *t, const struct telling *telling)
{
    switch (telling->kind) {
    case TELLING_SUSPECT:
        if (t->ops.suspect)
            t->ops.suspect(t->owner, telling->reason, telling->at);
        break;
    case TELLING_ALIVE:
        if (t->ops.alive)
            t->ops.alive(t->owner, telling->reason);
        break;
    case TELLING_STOPPING:
        if (t->ops.peer_stopping)
            t->ops.peer_stopping(t->owner, telling->reason);
        break;
    case TELLING_STALLED:
        if (t->ops.stalled)
            t->ops.stalled(t->owner, telling->stalled_for);
        break;
    case TELLING_PEER:
        if (t->ops.peer_changed)
            t->ops.peer_changed(t->owner, &telling->peer);
        break;
    case TELLING_COUNT:
        break;
    }
}

static void remove_at(struct teller *t, size_t index)
{
    t->count--;
    memmove(&t->queue[index], &t->queue[index + 1], (t->count - index) * sizeof(t->queue[0]));
}

static void *run(void *argument)
{
    struct teller *t = argument;
    pthread_setname_np(pthread_self(), "heartbeat-tell");
    if (t->priority)
        sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK,
                           &(struct sched_param){.sched_priority = t->priority});
    pthread_mutex_lock(&t->lock);
    while (!t->quit) {
        if (!t->count) {
            pthread_cond_wait(&t->news, &t->lock);
            continue;
        }
        const struct telling telling = t->queue[0];
        remove_at(t, 0);
        pthread_mutex_unlock(&t->lock);
        tell(t, &telling);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int teller_create(const struct heartbeat_ops *ops, void *owner, struct teller **out,
                  struct error *err)
{
    struct teller *t = calloc(1, sizeof(*t));
    *out = t;
    if (!t)
        return error_set(err, -ENOMEM, "heartbeat: out of memory");
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&t->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_cond_init(&t->news, NULL);
    t->ops = *ops;
    t->owner = owner;
    return 0;
}

int teller_start(struct teller *t, int priority, struct error *err)
{
    sigset_t all, before;
    t->priority = priority;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return error_set(err, -rc, "heartbeat: no thread: %s", strerror(rc));
    t->started = true;
    return 0;
}

/* The oldest entry of which a newer one of the same kind waits; there is one when all are in use.
 */
static size_t overtaken(const struct teller *t)
{
    for (size_t i = 0; i < t->count; i++)
        for (size_t j = i + 1; j < t->count; j++)
            if (t->queue[i].kind == t->queue[j].kind)
                return i;
    return 0;
}

void teller_post(struct teller *t, const struct telling *telling)
{
    pthread_mutex_lock(&t->lock);
    if (t->count == QUEUE_MAX)
        remove_at(t, overtaken(t));
    t->queue[t->count++] = *telling;
    pthread_cond_signal(&t->news);
    pthread_mutex_unlock(&t->lock);
}

void teller_destroy(struct teller **teller)
{
    struct teller *t = *teller;
    if (!t)
        return;
    *teller = NULL;
    if (t->started) {
        pthread_mutex_lock(&t->lock);
        t->quit = true;
        pthread_cond_signal(&t->news);
        pthread_mutex_unlock(&t->lock);
        pthread_join(t->thread, NULL);
    }
    pthread_cond_destroy(&t->news);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
