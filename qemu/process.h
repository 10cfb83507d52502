/* A QEMU process: started, watched, ended.
 *
 * It ends with this process, however that ends: killed by whoever outlives it (base/quick_exit.h),
 * if somebody does, or by the death of the thread that started it: start it on one that lives as
 * long as the machine. */
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

/* `*pid_fd` becomes readable when the process has ended. */
int process_start(const struct process_config *config, pid_t *pid, int *pid_fd, struct error *err);

/* Kills it, waits, and resets both. */
void process_end(pid_t *pid, int *pid_fd);

/* What became of a process that has ended by itself: a phrase in `out`. Reaps it. */
void process_describe_end(pid_t *pid, int *pid_fd, char *out, size_t size);

#endif
