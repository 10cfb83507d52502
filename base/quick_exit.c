#include "base/quick_exit.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024)

static pid_t holder;
static void *stack;

static struct speaker {
    struct quick_exit_words slots[2]; /* one is read by the holder, the other one is written */
    _Atomic unsigned said;            /* 0: nothing, else the slot's number + 1 */
} speakers[QUICK_EXIT_SPEAKERS_MAX];

/* A system call that doesn't touch errno, which belongs to the thread that we share memory with. */
static long raw_call6(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long raw_call(long number, long a, long b, long c)
{
    return raw_call6(number, a, b, c, 0, 0, 0);
}

static long pointer(const void *address)
{
    return (long)(intptr_t)address;
}

/* Sent from the same address, so that it takes the same way; if that fails, from any. */
static void send_word(const struct quick_exit_word *word)
{
    struct sockaddr_storage from = word->from;
    if (from.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)&from)->sin6_port = 0;
    else
        ((struct sockaddr_in *)(void *)&from)->sin_port = 0;
    const long fd = raw_call(SYS_socket, from.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    raw_call(SYS_bind, fd, pointer(&from), word->from_size);
    raw_call6(SYS_sendto, fd, pointer(word->bytes), (long)word->size, MSG_NOSIGNAL,
              pointer(&word->to), word->to_size);
    raw_call(SYS_close, fd, 0, 0);
}

static void send_last_words(void)
{
    for (unsigned s = 0; s < QUICK_EXIT_SPEAKERS_MAX; s++) {
        const unsigned slot = atomic_load(&speakers[s].said);
        const struct quick_exit_words *words = slot ? &speakers[s].slots[slot - 1] : NULL;
        for (size_t i = 0; words && i < words->count; i++)
            send_word(&words->words[i]);
    }
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
    if (ended.fd >= 0 && raw_call(SYS_getppid, 0, 0, 0) == parent) {
        while (raw_call(SYS_poll, pointer(&ended), 1, -1) == -EINTR)
            ;
        send_last_words();
    }
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

void quick_exit_say(unsigned speaker, const struct quick_exit_words *words)
{
    struct speaker *s = &speakers[speaker];
    const unsigned slot = atomic_load(&s->said) == 1 ? 1 : 0;
    s->slots[slot] = *words;
    atomic_store(&s->said, slot + 1);
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
