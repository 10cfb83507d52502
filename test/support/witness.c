#include "test/support/witness.h"

#include <time.h>

#include "base/clock.h"

#define FOR_EVER SEC(60)

void witness_init(struct witness *w)
{
    *w = (struct witness){.seen = 0};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&w->lock, NULL);
}

void witness_fini(struct witness *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

void witness_see(void *witness, uint64_t step)
{
    struct witness *w = witness;
    pthread_mutex_lock(&w->lock);
    w->backwards = w->backwards || step <= w->seen;
    w->seen = step;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

uint64_t witness_seen(struct witness *w)
{
    pthread_mutex_lock(&w->lock);
    const uint64_t step = w->seen;
    pthread_mutex_unlock(&w->lock);
    return step;
}

bool witness_wait_seen(struct witness *w, uint64_t step)
{
    const struct timespec until = clock_to_timespec(clock_now() + FOR_EVER);
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    while (w->seen < step && rc == 0)
        rc = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    const bool reached = w->seen >= step;
    pthread_mutex_unlock(&w->lock);
    return reached;
}

void witness_count(struct witness *w, unsigned *counter)
{
    pthread_mutex_lock(&w->lock);
    ++*counter;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool witness_wait_count(struct witness *w, const unsigned *counter, unsigned value)
{
    const struct timespec until = clock_to_timespec(clock_now() + FOR_EVER);
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    while (*counter < value && rc == 0)
        rc = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    const bool reached = *counter >= value;
    pthread_mutex_unlock(&w->lock);
    return reached;
}
