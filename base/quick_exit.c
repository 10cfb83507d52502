#include "base/quick_exit.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define STACK_SIZE (64 * 1024)
#define IDLE_NICE  19

static pid_t holder;
static void *stack;
static int news_fd = -1; /* eventfd, which the holder has, too: `wards` are others */

static struct speaker {
    struct quick_exit_words slots[2]; /* one is read by the holder, the other one is written */
    _Atomic unsigned said;            /* 0: nothing, else the slot's number + 1 */
} speakers[QUICK_EXIT_SPEAKERS_MAX];

static struct ward {
    _Atomic pid_t pid; /* 0: none */
    /* the holder's */
    pid_t known; /* what `fd` is of; 0: of nothing */
    int fd;
} wards[QUICK_EXIT_WARDS_MAX];

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

/* While the parent lives: its child's number can't become a stranger's before it is taken out. */
static void look_at_wards(void)
{
    for (unsigned i = 0; i < QUICK_EXIT_WARDS_MAX; i++) {
        struct ward *w = &wards[i];
        const pid_t pid = atomic_load(&w->pid);
        if (pid == w->known)
            continue;
        if (w->known)
            raw_call(SYS_close, w->fd, 0, 0);
        w->known = 0;
        const long fd = pid ? raw_call(SYS_pidfd_open, pid, 0, 0) : -1;
        if (fd < 0)
            continue;
        if (atomic_load(&w->pid) == pid) {
            w->known = pid;
            w->fd = (int)fd;
        } else {
            raw_call(SYS_close, fd, 0, 0); /* there are more news */
        }
    }
}

static void end_wards(void)
{
    for (unsigned i = 0; i < QUICK_EXIT_WARDS_MAX; i++) {
        const struct ward *w = &wards[i];
        if (!w->known || raw_call6(SYS_pidfd_send_signal, w->fd, 0, 0, 0, 0, 0) < 0)
            continue;
        raw_call(SYS_setpriority, PRIO_PGRP, w->known, IDLE_NICE);
        raw_call6(SYS_pidfd_send_signal, w->fd, SIGKILL, 0, 0, 0, 0);
    }
}

/* Until the parent has ended: a death signal of it would come too early, when its main thread ends.
 * A pidfd becomes readable when the last thread has, which closed the descriptors before. */
static void watch(int parent_fd)
{
    struct pollfd fds[] = {{.fd = parent_fd, .events = POLLIN}, {.fd = news_fd, .events = POLLIN}};
    do {
        uint64_t count;
        fds[0].revents = fds[1].revents = 0;
        raw_call(SYS_poll, pointer(fds), 2, -1);
        if (!fds[0].revents && fds[1].revents) {
            raw_call(SYS_read, news_fd, pointer(&count), sizeof(count));
            look_at_wards();
        }
    } while (!fds[0].revents);
}

/* Runs in the shared memory with descriptors of its own, of which it keeps one, and with every
 * signal blocked. */
static int holder_main(void *context)
{
    const long parent = (long)(intptr_t)context;
    if (news_fd > 0)
        raw_call(SYS_close_range, 0, news_fd - 1, 0);
    raw_call(SYS_close_range, news_fd + 1, (long)~0u, 0);
    const int parent_fd = (int)raw_call(SYS_pidfd_open, parent, 0, 0);
    /* Otherwise the parent is gone already, and the descriptor may be a stranger's. */
    if (parent_fd >= 0 && raw_call(SYS_getppid, 0, 0, 0) == parent) {
        watch(parent_fd);
        send_last_words();
        end_wards();
    }
    /* The last one to have the memory frees it. */
    raw_call(SYS_setpriority, PRIO_PROCESS, 0, IDLE_NICE);
    return 0;
}

static void give_up(void)
{
    holder = 0;
    fd_close(&news_fd);
    munmap(stack, STACK_SIZE);
    stack = NULL;
}

int quick_exit_arm(struct error *err)
{
    stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        stack = NULL;
        return error_set(err, -ENOMEM, "quick exit: out of memory");
    }
    for (unsigned i = 0; i < QUICK_EXIT_WARDS_MAX; i++)
        wards[i] = (struct ward){0};
    news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (news_fd < 0) {
        const int rc = error_set(err, -errno, "quick exit: no eventfd: %s", strerror(errno));
        give_up();
        return rc;
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
    give_up();
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

bool quick_exit_is_armed(void)
{
    return holder != 0;
}

static void replace_ward(pid_t from, pid_t to)
{
    const uint64_t one = 1;
    for (unsigned i = 0; i < QUICK_EXIT_WARDS_MAX; i++) {
        pid_t expected = from;
        if (!atomic_compare_exchange_strong(&wards[i].pid, &expected, to))
            continue;
        const ssize_t ignored = write(news_fd, &one, sizeof(one)); /* EAGAIN: awake already */
        (void)ignored;
        return;
    }
    assert(!to); /* no room */
}

void quick_exit_take_along(pid_t pid)
{
    if (holder)
        replace_ward(0, pid);
}

void quick_exit_leave_alone(pid_t pid)
{
    if (holder && pid > 0)
        replace_ward(pid, 0);
}

void quick_exit_disarm(void)
{
    if (!holder)
        return;
    kill(holder, SIGKILL);
    waitpid(holder, NULL, (int)__WCLONE);
    give_up();
}
