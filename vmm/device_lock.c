/* A flag under a mutex: the mutex is held for a few instructions only, the flag for as long as the
 * lock is. */
#include "vmm/device_lock.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct device_lock {
    pthread_mutex_t mutex;
    pthread_cond_t free;    /* `held` became false */
    pthread_cond_t changed; /* device_lock_notify() */
    bool held;              /* protected by mutex */
};

struct device_lock *device_lock_create(void)
{
    struct device_lock *lock = calloc(1, sizeof(*lock));
    if (!lock)
        return NULL;
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->free, NULL);
    pthread_cond_init(&lock->changed, NULL);
    return lock;
}

void device_lock_destroy(struct device_lock **lock)
{
    if (!*lock)
        return;
    pthread_cond_destroy(&(*lock)->changed);
    pthread_cond_destroy(&(*lock)->free);
    pthread_mutex_destroy(&(*lock)->mutex);
    free(*lock);
    *lock = NULL;
}

static void take(struct device_lock *lock)
{
    while (lock->held)
        pthread_cond_wait(&lock->free, &lock->mutex);
    lock->held = true;
}

void device_lock_acquire(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    take(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void device_lock_release(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    assert(lock->held);
    lock->held = false;
    pthread_cond_signal(&lock->free);
    pthread_mutex_unlock(&lock->mutex);
}

void device_lock_wait(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    assert(lock->held);
    lock->held = false;
    pthread_cond_signal(&lock->free);
    pthread_cond_wait(&lock->changed, &lock->mutex);
    take(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void device_lock_notify(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    assert(lock->held);
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
}
