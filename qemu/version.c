#include "qemu/version.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define ANSWER_TIMEOUT SEC(5)
#define ANSWER_MAX     512

int qemu_version_decode(const char *text, struct qemu_version *out, struct error *err)
{
    if (sscanf(text, "QEMU emulator version %3u.%3u.%3u", &out->major, &out->minor, &out->micro) ==
        3)
        return 0;
    return error_set(err, -EBADMSG, "it is no QEMU: to --version it says \"%.*s\"",
                     (int)strnlen(text, strcspn(text, "\r\n") < 80 ? strcspn(text, "\r\n") : 80),
                     text);
}

bool qemu_version_is_old(const struct qemu_version *v)
{
    return v->major < QEMU_VERSION_MIN_MAJOR ||
           (v->major == QEMU_VERSION_MIN_MAJOR && v->minor < QEMU_VERSION_MIN_MINOR);
}

static int start(const char *program, int out_fd, pid_t *pid)
{
    char *const arguments[] = {(char *)(uintptr_t)program, "--version", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int rc = posix_spawnp(pid, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* Until its end, or as much as there is room for. Whoever says nothing has said "". */
static void hear(int fd, char *text, size_t room)
{
    const nsec_t deadline = clock_now() + ANSWER_TIMEOUT;
    size_t used = 0;
    while (used + 1 < room) {
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        const nsec_t left = deadline - clock_now();
        if (left <= 0 || poll(&waiting, 1, (int)(left / MSEC(1)) + 1) <= 0)
            break;
        const ssize_t count = read(fd, text + used, room - 1 - used);
        if (count <= 0)
            break;
        used += (size_t)count;
    }
    text[used] = '\0';
}

int qemu_version_ask(const char *program, struct qemu_version *out, struct error *err)
{
    int ends[2];
    pid_t pid;
    char text[ANSWER_MAX];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "%s", strerror(errno));
    const int rc = start(program, ends[1], &pid);
    fd_close(&ends[1]);
    if (rc == 0) {
        hear(ends[0], text, sizeof(text));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    fd_close(&ends[0]);
    if (rc < 0)
        return error_set(err, -ENOENT, "%.200s can't be run: %s", program, strerror(-rc));
    return qemu_version_decode(text, out, err);
}
