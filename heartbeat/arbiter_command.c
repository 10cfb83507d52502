/* A command decides, usually a wrapper around a fence agent of the cluster: it makes sure that the
 * other host can't run the guest any more, and says so by its exit status.
 *
 *   environment  KEMARI_VM, KEMARI_WHO, KEMARI_PURPOSE (promote, solo, start), KEMARI_WHY,
 *                KEMARI_TERM (expected), KEMARI_NEXT_TERM, added to the daemon's own
 *   input        /dev/null; output and errors go to the daemon's standard error
 *   exit 0       granted: the other side is fenced
 *   exit 10      refused: the other side lives and keeps the guest
 *   else         no answer: another exit status, a signal, the time limit (then the whole process
 *                group is killed); the command is run again
 *
 * It must be idempotent: it may be run again after a run whose answer was lost. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "heartbeat/arbiter_kind.h"

#define EXIT_REFUSED 10
#define VARIABLES    6
#define PREFIX       "KEMARI_"

struct command {
    char **argv; /* NULL terminated */
};

static void command_destroy(void *state)
{
    struct command *c = state;
    for (char **arg = c->argv; arg && *arg; arg++)
        free(*arg);
    free(c->argv);
    free(c);
}

static int command_create(const struct arbiter_config *config, void **state, struct error *err)
{
    const char *const *argv = config->command;
    if (!argv || !argv[0] || argv[0][0] != '/')
        return error_set(err, -EINVAL, "arbiter command: needs a program with its whole path");
    if (access(argv[0], X_OK) < 0)
        return error_set(err, -errno, "arbiter command %s: %s", argv[0], strerror(errno));
    size_t count = 0;
    while (argv[count])
        count++;
    struct command *c = calloc(1, sizeof(*c));
    if (c)
        c->argv = calloc(count + 1, sizeof(*c->argv));
    bool complete = c && c->argv;
    for (size_t i = 0; complete && i < count; i++)
        complete = (c->argv[i] = strdup(argv[i])) != NULL;
    if (!complete) {
        if (c)
            command_destroy(c);
        return error_set(err, -ENOMEM, "arbiter command: out of memory");
    }
    *state = c;
    return 0;
}

/* ---- One run ----------------------------------------------------------------------------- */

struct environment {
    char *own[VARIABLES];
    char **all; /* own ones first, then the daemon's, NULL terminated */
};

static void environment_free(struct environment *e)
{
    for (size_t i = 0; i < VARIABLES; i++)
        free(e->own[i]);
    free(e->all);
}

static bool format_variable(char **out, const char *name, const char *text, term_t number)
{
    const int rc = text ? asprintf(out, PREFIX "%s=%s", name, text)
                        : asprintf(out, PREFIX "%s=%llu", name, (unsigned long long)number);
    if (rc < 0)
        *out = NULL;
    return rc >= 0;
}

static bool environment_make(struct environment *e, const struct arbiter_request *r)
{
    size_t inherited = 0;
    while (environ[inherited])
        inherited++;
    *e = (struct environment){.all = calloc(VARIABLES + inherited + 1, sizeof(char *))};
    if (!e->all || !format_variable(&e->own[0], "VM", r->vm, 0) ||
        !format_variable(&e->own[1], "WHO", r->who, 0) ||
        !format_variable(&e->own[2], "WHY", r->why, 0) ||
        !format_variable(&e->own[3], "PURPOSE", arbiter_purpose_name(r->purpose), 0) ||
        !format_variable(&e->own[4], "TERM", NULL, r->expected) ||
        !format_variable(&e->own[5], "NEXT_TERM", NULL, r->next))
        return false;
    size_t used = 0;
    for (; used < VARIABLES; used++)
        e->all[used] = e->own[used];
    for (size_t i = 0; i < inherited; i++)
        if (strncmp(environ[i], PREFIX, strlen(PREFIX)) != 0)
            e->all[used++] = environ[i];
    return true;
}

/* Own process group, no signal blocked or ignored, no input, output to standard error. */
static int spawn(const struct command *c, char **environment, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    const int rc = posix_spawn(pid, c->argv[0], &files, &attr, c->argv, environment);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Waits for the end within the attempt's limits, kills the group otherwise. */
static siginfo_t collect(pid_t pid, const struct arbiter_attempt *attempt, bool *in_time)
{
    int fd = pidfd_open(pid, 0);
    *in_time = fd >= 0 && arbiter_wait(attempt, fd);
    if (!*in_time)
        kill(-pid, SIGKILL);
    fd_close(&fd);
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR)
        ;
    return info;
}

static void judge(const char *program, const struct arbiter_request *request, const siginfo_t *info,
                  bool in_time, struct arbiter_answer *answer)
{
    const bool exited = in_time && info->si_code == CLD_EXITED;
    if (exited && info->si_status == 0) {
        answer->result = ARBITER_GRANTED;
        answer->term = request->next;
        snprintf(answer->text, sizeof(answer->text), "granted by %s", program);
    } else if (exited && info->si_status == EXIT_REFUSED) {
        answer->result = ARBITER_REFUSED;
        answer->term = request->expected;
        snprintf(answer->text, sizeof(answer->text), "refused by %s", program);
    } else if (!in_time) {
        snprintf(answer->text, sizeof(answer->text), "%s did not end in time", program);
    } else {
        snprintf(answer->text, sizeof(answer->text), "%s failed with %s %d", program,
                 exited ? "exit status" : "signal", info->si_status);
    }
}

static void command_ask(void *state, const struct arbiter_attempt *attempt,
                        struct arbiter_answer *answer)
{
    const struct command *c = state;
    struct environment environment;
    pid_t pid;
    const bool made = environment_make(&environment, &attempt->request);
    const int rc = made ? spawn(c, environment.all, &pid) : ENOMEM;
    environment_free(&environment);
    if (rc) {
        snprintf(answer->text, sizeof(answer->text), "%s: cannot start: %s", c->argv[0],
                 strerror(rc));
        return;
    }
    bool in_time;
    const siginfo_t info = collect(pid, attempt, &in_time);
    judge(c->argv[0], &attempt->request, &info, in_time, answer);
}

const struct arbiter_kind arbiter_kind_command = {
    .name = "command",
    .attempt_timeout = SEC(60),
    .create = command_create,
    .ask = command_ask,
    .destroy = command_destroy,
};
