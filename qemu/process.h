/* A QEMU process: started, watched, ended.
 *
 * It ends with this process, however that ends. A death signal (PR_SET_PDEATHSIG) would come with
 * the end of the thread that started it, before the other threads have come to theirs: QEMU would
 * free the guest's memory on a processor that they need, and the peer sees no closed connection
 * until the last one has ended. So QEMU has one end of a pipe which sends it SIGKILL (F_SETSIG)
 * when the other end is closed, and we have that other end, as long as we have any descriptor. */
#ifndef KEMARI_QEMU_PROCESS_H
#define KEMARI_QEMU_PROCESS_H

#include <sys/types.h>

#include "base/error.h"
#include "qemu/command.h"

struct process_config {
    char *const *arguments;         /* ends with NULL; the program is looked for in PATH */
    const char *const *environment; /* "NAME=value" to add, ends with NULL */
    int messages_fd;                /* gets what it says; 0: our own stderr */
    int fds[QEMU_FD_END];           /* what the process has at these numbers; -1: nothing */
};

struct process {
    pid_t pid;    /* 0: there is none */
    int pid_fd;   /* becomes readable when the process has ended */
    int leash_fd; /* the process is killed when this is closed */
};

#define PROCESS_NONE                                                                               \
    {                                                                                              \
        .pid_fd = -1, .leash_fd = -1                                                               \
    }

/* Any thread, whose nice value the process inherits. */
int process_start(const struct process_config *config, struct process *process, struct error *err);

/* Kills it, waits, and makes it PROCESS_NONE. Idempotent. */
void process_end(struct process *process);

/* What became of a process that has ended by itself: a phrase in `out`. Reaps it. */
void process_describe_end(struct process *process, char *out, size_t size);

#endif
