#include "qemu/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/quick_exit.h"

/* Above every number that is given to the process. */
#define FD_ASIDE 64

_Static_assert(QEMU_FD_END < FD_ASIDE, "descriptors are moved aside first");

/* In the child, where only what is safe after fork() is done. Doesn't return. */
static void become(const struct process_config *config, char *const *environment, int status_fd,
                   int death_signal)
{
    int aside[QEMU_FD_END];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, death_signal);
    setpgid(0, 0); /* a Ctrl-C at the terminal is for us to deal with */
    const int status = fcntl(status_fd, F_DUPFD_CLOEXEC, FD_ASIDE);
    if (config->messages_fd > 0)
        dup2(config->messages_fd, STDERR_FILENO);
    for (int i = QEMU_FD_MEMORY; i < QEMU_FD_END; i++)
        aside[i] = config->fds[i] < 0 ? -1 : fcntl(config->fds[i], F_DUPFD_CLOEXEC, FD_ASIDE);
    for (int i = QEMU_FD_MEMORY; i < QEMU_FD_END; i++) {
        close(i);
        if (aside[i] >= 0)
            dup2(aside[i], i);
    }
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execvpe(config->arguments[0], config->arguments, environment);
    const int code = errno;
    (void)!write(status, &code, sizeof(code));
    _exit(127);
}

static char **join_environment(const char *const *more)
{
    size_t own = 0, added = 0;
    while (environ[own])
        own++;
    while (more[added])
        added++;
    char **all = calloc(own + added + 1, sizeof(*all));
    if (all) {
        memcpy(all, environ, own * sizeof(*all));
        memcpy(all + own, more, added * sizeof(*all));
    }
    return all;
}

int process_start(const struct process_config *config, pid_t *pid, int *pid_fd, struct error *err)
{
    int status[2];
    char **environment = join_environment(config->environment);
    if (!environment || pipe2(status, O_CLOEXEC) < 0) {
        free(environment);
        return error_set(err, -ENOMEM, "QEMU can't be started: %s", strerror(errno));
    }
    /* Killed by the death of a thread, it would free its memory before our other threads have come
     * to their ends; stopped, it waits for what kills it. Should that have been killed, too: the
     * kernel tells a stopped group that is orphaned to hang up and go on, and QEMU ends by itself.
     */
    const bool followed = quick_exit_is_armed();
    *pid = fork();
    if (*pid == 0)
        become(config, environment, status[1], followed ? SIGSTOP : SIGKILL);
    const int fork_errno = errno;
    if (*pid > 0 && followed)
        quick_exit_take_along(*pid);
    free(environment);
    fd_close(&status[1]);
    int code = 0;
    if (*pid < 0) {
        fd_close(&status[0]);
        *pid = 0;
        return error_set(err, -fork_errno, "QEMU can't be started: %s", strerror(fork_errno));
    }
    /* Ends without a byte when exec() succeeds. */
    const bool failed = fd_read_all(status[0], &code, sizeof(code)) == 0;
    fd_close(&status[0]);
    *pid_fd = (int)syscall(SYS_pidfd_open, *pid, 0);
    if (!failed && *pid_fd >= 0)
        return 0;
    code = failed ? code : errno;
    process_end(pid, pid_fd);
    return error_set(err, -code, "%.200s can't be started: %s", config->arguments[0],
                     strerror(code));
}

void process_end(pid_t *pid, int *pid_fd)
{
    if (*pid > 0) {
        quick_exit_leave_alone(*pid);
        kill(*pid, SIGKILL);
        while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    *pid = 0;
    fd_close(pid_fd);
}

void process_describe_end(pid_t *pid, int *pid_fd, char *out, size_t size)
{
    int status = 0;
    quick_exit_leave_alone(*pid);
    if (*pid <= 0 || waitpid(*pid, &status, 0) != *pid)
        snprintf(out, size, "QEMU is gone");
    else if (WIFSIGNALED(status))
        snprintf(out, size, "QEMU was ended by signal %d", WTERMSIG(status));
    else
        snprintf(out, size, "QEMU ended with status %d", WEXITSTATUS(status));
    *pid = 0;
    fd_close(pid_fd);
}
