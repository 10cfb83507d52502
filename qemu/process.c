#include "qemu/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* Its number in the process, which doesn't know of it. */
#define LEASH_FD QEMU_FD_END
/* Above every number that is given to the process. */
#define FD_ASIDE 64

_Static_assert(LEASH_FD < FD_ASIDE, "descriptors are moved aside first");

/* In the child: SIGKILL when the parent's end is closed, or has been. */
static bool tie(const int leash[2])
{
    close(leash[1]);
    struct pollfd parent = {.fd = leash[0]};
    return fcntl(leash[0], F_SETOWN, getpid()) == 0 && fcntl(leash[0], F_SETSIG, SIGKILL) == 0 &&
           fcntl(leash[0], F_SETFL, O_ASYNC) == 0 && poll(&parent, 1, 0) == 0;
}

/* In the child, where only what is safe after fork() is done. Doesn't return. */
static void become(const struct process_config *config, char *const *environment, int status_fd,
                   const int leash[2])
{
    const bool tied = tie(leash);
    int aside[QEMU_FD_END];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* a Ctrl-C at the terminal is for us to deal with */
    const int status = fcntl(status_fd, F_DUPFD_CLOEXEC, FD_ASIDE);
    const int leash_aside = fcntl(leash[0], F_DUPFD_CLOEXEC, FD_ASIDE);
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
    if (tied && dup2(leash_aside, LEASH_FD) == LEASH_FD)
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

int process_start(const struct process_config *config, struct process *process, struct error *err)
{
    int status[2], leash[2];
    *process = (struct process)PROCESS_NONE;
    char **environment = join_environment(config->environment);
    if (!environment || pipe2(status, O_CLOEXEC) < 0) {
        free(environment);
        return error_set(err, -ENOMEM, "QEMU can't be started: %s", strerror(errno));
    }
    if (pipe2(leash, O_CLOEXEC) < 0) {
        const int rc = error_set(err, -errno, "QEMU can't be started: %s", strerror(errno));
        fd_close(&status[0]);
        fd_close(&status[1]);
        free(environment);
        return rc;
    }
    process->pid = fork();
    if (process->pid == 0)
        become(config, environment, status[1], leash);
    const int fork_errno = errno;
    free(environment);
    fd_close(&status[1]);
    fd_close(&leash[0]);
    process->leash_fd = leash[1];
    int code = 0;
    if (process->pid < 0) {
        fd_close(&status[0]);
        process->pid = 0;
        process_end(process);
        return error_set(err, -fork_errno, "QEMU can't be started: %s", strerror(fork_errno));
    }
    /* Ends without a byte when exec() succeeds. */
    const bool failed = fd_read_all(status[0], &code, sizeof(code)) == 0;
    fd_close(&status[0]);
    process->pid_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (!failed && process->pid_fd >= 0)
        return 0;
    code = failed ? code : errno;
    process_end(process);
    return error_set(err, -code, "%.200s can't be started: %s", config->arguments[0],
                     strerror(code));
}

static void let_go(struct process *process)
{
    process->pid = 0;
    fd_close(&process->pid_fd);
    fd_close(&process->leash_fd);
}

void process_end(struct process *process)
{
    if (process->pid > 0) {
        kill(process->pid, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    let_go(process);
}

void process_describe_end(struct process *process, char *out, size_t size)
{
    int status = 0;
    if (process->pid <= 0 || waitpid(process->pid, &status, 0) != process->pid)
        snprintf(out, size, "QEMU is gone");
    else if (WIFSIGNALED(status))
        snprintf(out, size, "QEMU was ended by signal %d", WTERMSIG(status));
    else
        snprintf(out, size, "QEMU ended with status %d", WEXITSTATUS(status));
    let_go(process);
}
