#include "base/prompt.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"

#define NICE (-15)

void prompt_thread(const char *name)
{
    char kept[16];
    snprintf(kept, sizeof(kept), "%s", name);
    pthread_setname_np(pthread_self(), kept);
    /* On Linux 0 is the calling thread, not its process (setpriority(2), "C library differences").
     */
    if (setpriority(PRIO_PROCESS, 0, NICE) < 0)
        log_debug("base", "thread %s stays at ordinary priority: %s", kept, strerror(errno));
}

void prompt_realtime(void)
{
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK,
                           &(struct sched_param){.sched_priority = 1}) < 0)
        log_debug("base", "a thread stays without real-time priority: %s", strerror(errno));
}

void prompt_raise(pid_t thread)
{
    setpriority(PRIO_PROCESS, (id_t)thread, NICE);
}

void prompt_lower(int nice)
{
    setpriority(PRIO_PROCESS, 0, nice);
}
