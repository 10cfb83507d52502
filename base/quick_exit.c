#include "base/quick_exit.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024)

static pid_t holder;
static void *stack;

/* A system call that doesn't touch errno, which belongs to the thread that we share memory with. */
static long raw_call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

/* Runs in the shared memory with descriptors of its own, all of which it drops, and with every
 * signal blocked. A parent's death signal would come too early, when its main thread ends: a pidfd
 * becomes readable when the last thread has ended, and that one has closed the descriptors before.
 */
static int holder_main(void *context)
{
    const long parent = (long)(intptr_t)context;
    raw_call(SYS_close_range, 0, (long)~0u, 0);
    struct pollfd ended = {.fd = (int)raw_call(SYS_pidfd_open, parent, 0, 0), .events = POLLIN};
    /* Otherwise the parent is gone already, and the descriptor may be a stranger's. */
    if (ended.fd >= 0 && raw_call(SYS_getppid, 0, 0, 0) == parent)
        while (raw_call(SYS_poll, (long)(intptr_t)&ended, 1, -1) == -EINTR)
            ;
    return 0;
}

int quick_exit_arm(struct error *err)
{
    stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        stack = NULL;
        return error_set(err, -ENOMEM, "quick exit: out of memory");
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    holder = clone(holder_main, (char *)stack + STACK_SIZE, CLONE_VM, (void *)(intptr_t)getpid());
    const int failure = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (holder > 0)
        return 0;
    holder = 0;
    munmap(stack, STACK_SIZE);
    stack = NULL;
    return error_set(err, -failure, "quick exit: can't start the holding process: %s",
                     strerror(failure));
}

void quick_exit_disarm(void)
{
    if (!holder)
        return;
    kill(holder, SIGKILL);
    waitpid(holder, NULL, (int)__WCLONE);
    holder = 0;
    munmap(stack, STACK_SIZE);
    stack = NULL;
}
