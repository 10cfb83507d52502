#include "app/peer_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define ANSWER_MAX ((size_t)4 << 20)

int peer_command_parse(const char *command, struct peer_command *peer, struct error *err)
{
    *peer = (struct peer_command){.text = strdup(command)};
    char *rest = peer->text;
    for (char *word; rest && (word = strsep(&rest, " \t"));) {
        if (!*word)
            continue;
        if (peer->count == PEER_COMMAND_WORDS_MAX) {
            peer_command_free(peer);
            return error_set(err, -E2BIG, "--peer has more than %d words", PEER_COMMAND_WORDS_MAX);
        }
        peer->words[peer->count++] = word;
    }
    return peer->count ? 0 : error_set(err, -EINVAL, "--peer names no command");
}

void peer_command_free(struct peer_command *peer)
{
    free(peer->text);
    *peer = (struct peer_command){0};
}

static void become_command(const struct peer_command *peer, const char *const *words, int output)
{
    char *argv[PEER_COMMAND_WORDS_MAX + 16] = {0};
    unsigned count = 0;
    for (; count < peer->count; count++)
        argv[count] = peer->words[count];
    for (; *words && count < ARRAY_SIZE(argv) - 1; words++)
        argv[count++] = (char *)*words;
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(null, STDERR_FILENO) >= 0)
        execvp(argv[0], argv);
    _exit(127);
}

/* All there is until the end of the stream, or NULL when that is too late or too much. */
static char *read_until_end(int fd, nsec_t deadline)
{
    char *text = calloc(1, ANSWER_MAX + 1);
    size_t used = 0;
    while (text && used < ANSWER_MAX) {
        const nsec_t left = deadline - clock_now();
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&readable, 1, (int)(left / MSEC(1)) + 1) == 0)
            break;
        const ssize_t n = read(fd, text + used, ANSWER_MAX - used);
        if (n == 0)
            return text;
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    free(text);
    return NULL;
}

int peer_command_start(const struct peer_command *peer, const char *const *words,
                       struct peer_process *out, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child == 0)
        become_command(peer, words, ends[1]);
    fd_close(&ends[1]);
    if (child < 0) {
        fd_close(&ends[0]);
        return error_set(err, -EAGAIN, "%s can't be started", peer->words[0]);
    }
    *out = (struct peer_process){.pid = child, .output = ends[0]};
    return 0;
}

bool peer_process_line(const struct peer_process *process, nsec_t timeout, char *line, size_t size)
{
    const nsec_t deadline = clock_now() + timeout;
    for (size_t used = 0; used < size; used++) {
        const nsec_t left = deadline - clock_now();
        struct pollfd readable = {.fd = process->output, .events = POLLIN};
        if (left <= 0 || poll(&readable, 1, (int)(left / MSEC(1)) + 1) != 1 ||
            read(process->output, line + used, 1) != 1)
            return false;
        if (line[used] == '\n') {
            line[used] = '\0';
            return true;
        }
    }
    return false;
}

void peer_process_end(struct peer_process *process)
{
    fd_close(&process->output);
    if (process->pid > 0) {
        kill(process->pid, SIGTERM);
        waitpid(process->pid, NULL, 0);
    }
    process->pid = 0;
}

char *peer_command_run(const struct peer_command *peer, const char *const *words, nsec_t timeout,
                       int *exit_status)
{
    struct peer_process process;
    if (peer_command_start(peer, words, &process, NULL) < 0)
        return NULL;
    char *text = read_until_end(process.output, clock_now() + timeout);
    fd_close(&process.output);
    int status = 0;
    if (!text)
        kill(process.pid, SIGKILL);
    const bool ended = waitpid(process.pid, &status, 0) == process.pid && WIFEXITED(status);
    if (!ended || (!exit_status && WEXITSTATUS(status) != 0)) {
        free(text);
        text = NULL;
    } else if (exit_status) {
        *exit_status = WEXITSTATUS(status);
    }
    return text;
}
