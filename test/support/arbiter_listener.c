#include "test/support/arbiter_listener.h"

#include <time.h>

#define PATIENCE_S 30

void listen_to(void *owner, const struct arbiter_answer *answer)
{
    struct listener *l = owner;
    pthread_mutex_lock(&l->lock);
    l->count++;
    l->last = *answer;
    l->thread = pthread_self();
    pthread_cond_broadcast(&l->cond);
    pthread_mutex_unlock(&l->lock);
}

unsigned wait_for(struct listener *l, unsigned count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&l->lock);
    int rc = 0;
    while (l->count < count && rc == 0)
        rc = pthread_cond_timedwait(&l->cond, &l->lock, &until);
    const unsigned came = l->count;
    pthread_mutex_unlock(&l->lock);
    return came;
}
