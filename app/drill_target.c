#include "app/drill_target.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define PROC_FILE_MAX (1u << 20)
#define WORDS_MAX     1024

/* ---- finding ---- */

static int find_process(const char *path, pid_t *pid, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "%s: the name is too long for a socket", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        rc = -errno;
    if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        rc = -errno;
    fd_close(&fd);
    if (rc < 0)
        return error_set(err, rc, "no kemarid serves %s: %s", path, strerror(-rc));
    *pid = peer.pid;
    return 0;
}

static int open_proc(pid_t pid, const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, flags | O_CLOEXEC);
}

/* Zero-terminated strings, one after the other; *bytes and the list are to be freed. */
static int read_strings(pid_t pid, const char *name, char **bytes, char ***list, struct error *err)
{
    int fd = open_proc(pid, name, O_RDONLY);
    char *text = calloc(1, PROC_FILE_MAX + 1);
    char **words = calloc(WORDS_MAX + 1, sizeof(*words));
    size_t used = 0, count = 0;
    ssize_t n = 0;
    while (fd >= 0 && text && used < PROC_FILE_MAX &&
           (n = read(fd, text + used, PROC_FILE_MAX - used)) > 0)
        used += (size_t)n;
    const int rc = fd < 0 || n < 0 ? -errno : 0;
    fd_close(&fd);
    if (rc < 0 || !text || !words) {
        free(text);
        free(words);
        return error_set(err, rc ? rc : -ENOMEM, "can't read /proc/%d/%s: %s", (int)pid, name,
                         strerror(rc ? -rc : ENOMEM));
    }
    for (size_t at = 0; at < used && count < WORDS_MAX; at += strlen(text + at) + 1)
        words[count++] = text + at;
    *bytes = text;
    *list = words;
    return 0;
}

static bool has_variable(char *const *environment, const char *name)
{
    for (; *environment; environment++)
        if (strncmp(*environment, name, strlen(name)) == 0)
            return true;
    return false;
}

/* The unit of a line of /proc/PID/cgroup, "ID:CONTROLLERS:PATH" (cgroups(7)): the path's last part,
 * in the hierarchy that systemd keeps its units in. NULL: none. */
static const char *unit_of_line(char *line)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path = '\0';
    const bool unified = strcmp(line, "0:") == 0, named = strcmp(controllers, ":name=systemd") == 0;
    const char *slash = strrchr(path + 1, '/');
    const char *end = slash ? strstr(slash, ".service") : NULL;
    return (unified || named) && end && end[strlen(".service")] == '\0' ? slash + 1 : NULL;
}

/* A service that tells systemd of itself. */
static void find_unit(struct drill_target *t)
{
    if (!has_variable(t->envp, "NOTIFY_SOCKET="))
        return;
    char text[4096] = "";
    int fd = open_proc(t->pid, "cgroup", O_RDONLY);
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    char *rest = text;
    for (char *line; !t->unit[0] && rest && (line = strsep(&rest, "\n"));) {
        const char *unit = unit_of_line(line);
        if (unit)
            snprintf(t->unit, sizeof(t->unit), "%s", unit);
    }
}

/* Its own words, read as itself would: relative names are of its directory. */
static int read_its_config(struct drill_target *t, struct error *err)
{
    int argc = 0;
    while (t->argv[argc])
        argc++;
    int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum config_action action = CONFIG_EXIT;
    int rc = home < 0 || chdir(t->cwd) < 0
                 ? error_set(err, -errno, "can't enter %s: %s", t->cwd, strerror(errno))
                 : config_read(argc, t->argv, stdout, &t->config, &action, err);
    if (home >= 0 && fchdir(home) < 0 && rc == 0)
        rc = error_set(err, -errno, "can't come back: %s", strerror(errno));
    fd_close(&home);
    if (rc == 0 && action != CONFIG_RUN)
        rc = error_set(err, -EINVAL, "process %d is no running kemarid", (int)t->pid);
    const bool absolute = rc == 0 && t->config.state_dir[0] == '/';
    if (rc == 0 &&
        (size_t)snprintf(t->state_dir, sizeof(t->state_dir), "%s%s%s", absolute ? "" : t->cwd,
                         absolute ? "" : "/", t->config.state_dir) >= sizeof(t->state_dir))
        rc = error_set(err, -ENAMETOOLONG, "the name of the state directory is too long");
    return rc;
}

int drill_target_open(const char *socket, struct drill_target *out, struct error *err)
{
    struct drill_target *t = out;
    *t = (struct drill_target){.pidfd = -1, .netns = -1, .exe = -1, .out = -1, .err = -1};
    snprintf(t->socket, sizeof(t->socket), "%s", socket);
    int rc = find_process(socket, &t->pid, err);
    if (rc < 0)
        return rc;
    t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
    t->netns = open_proc(t->pid, "ns/net", O_RDONLY);
    t->exe = open_proc(t->pid, "exe", O_RDONLY);
    t->out = open_proc(t->pid, "fd/1", O_WRONLY | O_APPEND);
    t->err = open_proc(t->pid, "fd/2", O_WRONLY | O_APPEND);
    char link[64];
    snprintf(link, sizeof(link), "/proc/%d/cwd", (int)t->pid);
    const ssize_t length = readlink(link, t->cwd, sizeof(t->cwd) - 1);
    if (t->pidfd < 0 || t->netns < 0 || t->exe < 0 || length < 0)
        rc = error_set(err, -errno, "process %d of %s can't be examined (a drill needs root): %s",
                       (int)t->pid, socket, strerror(errno));
    if (rc == 0)
        rc = read_strings(t->pid, "cmdline", &t->words, &t->argv, err);
    if (rc == 0)
        rc = read_strings(t->pid, "environ", &t->environment, &t->envp, err);
    if (rc == 0)
        rc = read_its_config(t, err);
    if (rc == 0)
        find_unit(t);
    else
        drill_target_close(t);
    return rc;
}

void drill_target_close(struct drill_target *t)
{
    fd_close(&t->pidfd);
    fd_close(&t->netns);
    fd_close(&t->exe);
    fd_close(&t->out);
    fd_close(&t->err);
    free(t->argv);
    free(t->envp);
    free(t->words);
    free(t->environment);
    config_free(&t->config);
    t->argv = t->envp = NULL;
    t->words = t->environment = NULL;
}

/* ---- striking ---- */

int drill_target_signal(const struct drill_target *t, int number, struct error *err)
{
    if (syscall(SYS_pidfd_send_signal, t->pidfd, number, NULL, 0) < 0)
        return error_set(err, -errno, "signal %d to process %d: %s", number, (int)t->pid,
                         strerror(errno));
    return 0;
}

bool drill_target_wait_end(const struct drill_target *t, nsec_t timeout)
{
    struct pollfd ended = {.fd = t->pidfd, .events = POLLIN};
    return poll(&ended, 1, (int)(timeout / MSEC(1))) == 1;
}

/* ---- bringing back ---- */

int drill_target_check(const struct drill_target *t, struct error *err)
{
    if (t->unit[0] && t->config.role != CONFIG_ROLE_AUTO)
        return error_set(err, -EINVAL,
                         "%s can't come back as the other host's secondary: its configuration does "
                         "not say role = auto",
                         t->unit);
    return 0;
}

/* Its words with the role of one that comes back; `list` holds WORDS_MAX + 3. */
static void make_words(const struct drill_target *t, char **list)
{
    size_t count = 0;
    const bool keep = t->config.role == CONFIG_ROLE_AUTO;
    for (char **word = t->argv; *word; word++) {
        if (!keep && strcmp(*word, "--role") == 0 && word[1])
            word++;
        else if (keep || strncmp(*word, "--role=", strlen("--role=")) != 0)
            list[count++] = *word;
    }
    if (!keep) {
        list[count++] = (char *)"--role";
        list[count++] = (char *)"secondary";
    }
    list[count] = NULL;
}

static void become_daemon(const struct drill_target *t, char **words)
{
    sigset_t none;
    sigemptyset(&none);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    if (fork() != 0)
        _exit(0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (setns(t->netns, CLONE_NEWNET) < 0 || chdir(t->cwd) < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(t->out >= 0 ? t->out : null, STDOUT_FILENO) < 0 ||
        dup2(t->err >= 0 ? t->err : null, STDERR_FILENO) < 0)
        _exit(127);
    fexecve(t->exe, words, t->envp);
    _exit(127);
}

static int wait_for(pid_t child, const char *what, struct error *err)
{
    int status = 0;
    if (child < 0)
        return error_set(err, -errno, "can't start %s: %s", what, strerror(errno));
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, -EIO, "%s failed", what);
    return 0;
}

static int run_systemctl(const struct drill_target *t, const char *verb, const char *what,
                         struct error *err)
{
    char *const argv[] = {(char *)"systemctl", (char *)verb, (char *)t->unit, NULL};
    const pid_t child = fork();
    if (child == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    return wait_for(child, what, err);
}

int drill_target_restart(const struct drill_target *t, struct error *err)
{
    if (t->unit[0]) {
        /* Drills are no reason to give the unit up after some (StartLimitBurst=). */
        (void)run_systemctl(t, "reset-failed", "systemctl reset-failed", NULL);
        return run_systemctl(t, "restart", "systemctl restart", err);
    }
    char **words = calloc(WORDS_MAX + 3, sizeof(*words));
    if (!words)
        return error_set(err, -ENOMEM, "out of memory");
    make_words(t, words);
    const pid_t child = fork();
    if (child == 0)
        become_daemon(t, words);
    free(words);
    return wait_for(child, "kemarid", err);
}
