/* Collects answers of one arbiter. */
#ifndef KEMARI_TEST_SUPPORT_ARBITER_LISTENER_H
#define KEMARI_TEST_SUPPORT_ARBITER_LISTENER_H

#include <pthread.h>

#include "heartbeat/arbiter.h"

struct listener {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned count;
    struct arbiter_answer last;
    pthread_t thread; /* on which the last answer came */
};

#define LISTENER_INIT                                                                              \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, {0}, 0                             \
    }

/* An arbiter_callback; the owner is the listener. */
void listen_to(void *owner, const struct arbiter_answer *answer);

/* Waits until `count` answers have come; returns how many have. */
unsigned wait_for(struct listener *l, unsigned count);

#endif
