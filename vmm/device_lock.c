/* A queue of tickets under a mutex: the mutex is held for a few instructions only, a turn for as
 * long as the lock is. First come, first served: the I/O thread, which under load takes the lock
 * again the moment it gave it up, must not keep a vCPU or a park waiting while those are still
 * waking up. */
#include "vmm/device_lock.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/types.h"

struct device_lock {
    pthread_mutex_t mutex;
    pthread_cond_t turn;    /* `serving` went on */
    pthread_cond_t changed; /* device_lock_notify() */

    /* protected by mutex */
    uint64_t next;    /* ticket of who comes next */
    uint64_t serving; /* ticket of the holder; equal to `next` while there is none */
};

struct device_lock *device_lock_create(void)
{
    struct device_lock *lock = calloc(1, sizeof(*lock));
    if (!lock)
        return NULL;
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->turn, NULL);
    pthread_cond_init(&lock->changed, NULL);
    return lock;
}

void device_lock_destroy(struct device_lock **lock)
{
    if (!*lock)
        return;
    pthread_cond_destroy(&(*lock)->changed);
    pthread_cond_destroy(&(*lock)->turn);
    pthread_mutex_destroy(&(*lock)->mutex);
    free(*lock);
    *lock = NULL;
}

static void take(struct device_lock *lock)
{
    const uint64_t ticket = lock->next++;
    while (ticket != lock->serving)
        pthread_cond_wait(&lock->turn, &lock->mutex);
}

static void give_up(struct device_lock *lock)
{
    assert(lock->serving != lock->next);
    lock->serving++;
    if (lock->serving != lock->next)
        pthread_cond_broadcast(&lock->turn);
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
    give_up(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void device_lock_wait(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    give_up(lock);
    pthread_cond_wait(&lock->changed, &lock->mutex);
    take(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void device_lock_notify(struct device_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    assert(lock->serving != lock->next);
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
}
