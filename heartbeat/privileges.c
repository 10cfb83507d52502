#include "heartbeat/privileges.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

int privileges_take_realtime(void)
{
    const struct sched_param wanted = {.sched_priority = HEARTBEAT_PRIORITY};
    return sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &wanted) == 0 ? 0 : -errno;
}

static void *take(void *result)
{
    *(int *)result = privileges_take_realtime();
    return NULL;
}

int privileges_try_realtime(void)
{
    /* A thread of its own: what it got ends with it. */
    pthread_t thread;
    int result = 0;
    const int rc = pthread_create(&thread, NULL, take, &result);
    if (rc)
        return -rc;
    pthread_join(thread, NULL);
    return result;
}

int privileges_try_lock(unsigned threads)
{
    const size_t size = (size_t)threads * (HEARTBEAT_STACK_SIZE + HEARTBEAT_STATE_MAX);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    const int rc = mlock(memory, size) == 0 ? 0 : -errno;
    munmap(memory, size);
    return rc;
}
