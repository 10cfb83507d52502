#include "app/drill_healer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/drill_filter.h"
#include "app/drill_view.h"
#include "base/clock.h"
#include "base/fd.h"
#include "control/client.h"

#define ORDER_PATIENCE SEC(120) /* for a daemon to obey, or a command to end */
#define START_PATIENCE SEC(20)  /* for a daemon that was started to answer */
#define END_PATIENCE   SEC(20)  /* for one that was stopped to end */
#define LOOK_PERIOD    MSEC(50)
#define LOOK_PATIENCE  SEC(2)

struct work {
    const struct drill_scenario *scenario;
    const struct drill_target *target;
    unsigned seconds;
    int orders;
    int news;
};

static void tell(const struct work *w, enum drill_news_kind kind, nsec_t at, const char *text)
{
    struct drill_news news = {.kind = kind, .at = at};
    snprintf(news.text, sizeof(news.text), "%s", text);
    /* Nobody may be left to read it. */
    (void)fd_write_all(w->news, &news, sizeof(news));
}

static void wait_a_little(void)
{
    const struct timespec period = {.tv_nsec = LOOK_PERIOD};
    nanosleep(&period, NULL);
}

/* ---- making the fault ---- */

static int order(const struct work *w, const struct control_request *request, struct error *err)
{
    struct control_client *client = NULL;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    int rc = reply ? control_client_connect(w->target->socket, &client, err) : -ENOMEM;
    if (rc == 0)
        rc = control_client_call(client, request, ORDER_PATIENCE, reply, err);
    if (rc == 0 && reply->kind == CONTROL_REPLY_REFUSED)
        rc = error_set(err, reply->code < 0 ? reply->code : -EIO, "refused: %s", reply->text);
    control_client_close(&client);
    free(reply);
    return rc;
}

static bool stands_still(pid_t pid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    fd_close(&fd);
    const char *end = n > 0 ? strrchr(text, ')') : NULL;
    return end && end[1] == ' ' && end[2] == 'T';
}

static int freeze(const struct work *w, struct error *err)
{
    const struct control_request request = {.verb = CONTROL_VERB_FREEZE,
                                            .duration_ns = (uint64_t)SEC(w->seconds)};
    const int rc = order(w, &request, err);
    const nsec_t limit = clock_now() + SEC(1);
    while (rc == 0 && !stands_still(w->target->pid) && clock_now() < limit)
        sched_yield();
    return rc;
}

static int arm_filter(const struct work *w, struct error *err)
{
    char *program = NULL;
    size_t size;
    FILE *stream = open_memstream(&program, &size);
    int rc = stream ? drill_filter_write(&w->target->config, w->scenario, w->seconds, stream, err)
                    : error_set(err, -ENOMEM, "out of memory");
    if (stream)
        fclose(stream);
    if (rc == 0)
        rc = drill_filter_run(w->target->netns, program, err);
    free(program);
    return rc;
}

/* The owner's own command, which speaks to the terminal if it wants to; 0 when it says success. */
static int run_command(const struct config_words *command, const char *what, struct error *err)
{
    const pid_t child = fork();
    if (child == 0) {
        const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (dup2(null, STDIN_FILENO) >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
            execv(command->list[0], command->list);
        _exit(127);
    }
    int status = 0;
    int pidfd = child < 0 ? -1 : (int)syscall(SYS_pidfd_open, child, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    const bool late = pidfd >= 0 && poll(&ended, 1, (int)(ORDER_PATIENCE / MSEC(1))) == 0;
    if (late)
        kill(child, SIGKILL);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return error_set(err, -EIO, "%s: %s can't be started", what, command->list[0]);
    fd_close(&pidfd);
    if (late)
        return error_set(err, -ETIMEDOUT, "%s: %s does not end", what, command->list[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, -EIO, "%s: %s ended with %s %d", what, command->list[0],
                         WIFEXITED(status) ? "exit status" : "signal",
                         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return 0;
}

static int strike(const struct work *w, struct error *err)
{
    switch (w->scenario->kind) {
    case DRILL_KILL:
        return drill_target_signal(w->target, SIGKILL, err);
    case DRILL_FREEZE:
        return freeze(w, err);
    case DRILL_CUT:
    case DRILL_SLOW:
    case DRILL_CORRUPT:
        return arm_filter(w, err);
    case DRILL_POWER_OFF:
        return run_command(&w->target->config.power_off, "power-off", err);
    case DRILL_SWITCHOVER:
        break;
    }
    return order(w, &(struct control_request){.verb = CONTROL_VERB_SWITCHOVER}, err);
}

/* ---- taking it back ---- */

static void disarm_filter(const struct work *w)
{
    char *program = NULL;
    size_t size;
    FILE *stream = open_memstream(&program, &size);
    if (!stream)
        return; /* the kernel takes the fault back by itself */
    drill_filter_write_end(&w->target->config, stream);
    fclose(stream);
    (void)drill_filter_run(w->target->netns, program, NULL);
    free(program);
}

static int heal(const struct work *w, struct error *err)
{
    if (w->scenario->kind == DRILL_FREEZE)
        (void)drill_target_signal(w->target, SIGCONT, NULL);
    else if (w->scenario->wires)
        disarm_filter(w);
    else if (w->scenario->kind == DRILL_POWER_OFF && w->target->config.power_on.list[0])
        return run_command(&w->target->config.power_on, "power-on", err);
    return 0;
}

/* A daemon that lost the guest for good ends when it is told to, in an orderly way. */
static int end_fenced(const struct work *w, struct error *err)
{
    const int rc = order(w, &(struct control_request){.verb = CONTROL_VERB_STOP}, err);
    if (rc == 0 && !drill_target_wait_end(w->target, END_PATIENCE))
        return error_set(err, -ETIMEDOUT, "the stopped daemon does not end");
    return rc;
}

/* Until this host is in its pair again. */
static int bring_back(const struct work *w, struct error *err)
{
    const nsec_t limit = clock_now() + drill_patience(w->scenario);
    nsec_t started = 0;
    struct drill_view view = {0};
    int rc = 0;
    while (rc == 0 && clock_now() < limit) {
        drill_view_local(w->target->socket, LOOK_PATIENCE, &view);
        const bool ended = drill_target_wait_end(w->target, 0);
        if (view.there && view.protected)
            return 0;
        if (view.there && strcmp(view.state, "stopped") == 0 && !ended)
            rc = end_fenced(w, err);
        else if (!view.there && ended && !started) {
            rc = drill_target_restart(w->target, err);
            started = clock_now();
        } else if (!view.there && started && clock_now() - started > START_PATIENCE) {
            rc =
                error_set(err, -ETIMEDOUT,
                          "this host's daemon was started again and does not come up: see its log");
        }
        wait_a_little();
    }
    return rc < 0 ? rc
                  : error_set(err, -ETIMEDOUT, "this host is not in its pair again: %s",
                              view.there ? view.reason : "no daemon answers");
}

/* Until somebody says so, the time is over, or nobody is there to say it. */
static void wait_for_order(const struct work *w)
{
    struct pollfd told = {.fd = w->orders, .events = POLLIN};
    const nsec_t limit = clock_now() + SEC(w->seconds);
    for (nsec_t left = SEC(w->seconds); left > 0; left = limit - clock_now())
        if (poll(&told, 1, (int)(left / MSEC(1)) + 1) > 0)
            return;
}

static void work(const struct work *w)
{
    struct error err = {0};
    nsec_t at = clock_now();
    if (strike(w, &err) < 0) {
        tell(w, DRILL_NEWS_REFUSED, at, err.text);
        return;
    }
    if (w->scenario->kind == DRILL_FREEZE)
        at = clock_now();
    tell(w, DRILL_NEWS_STRUCK, at, "");
    if (w->scenario->kind != DRILL_SWITCHOVER)
        wait_for_order(w);
    const int healed = heal(w, &err);
    tell(w, DRILL_NEWS_HEALED, clock_now(), "");
    if (healed < 0 || bring_back(w, &err) < 0)
        tell(w, DRILL_NEWS_FAILED, clock_now(), err.text);
    else
        tell(w, DRILL_NEWS_BACK, clock_now(), "");
}

/* ---- the parent's side ---- */

int drill_healer_start(const struct drill_scenario *scenario, const struct drill_target *target,
                       unsigned seconds, struct drill_healer *out, struct error *err)
{
    int orders[2], news[2];
    if (pipe2(orders, O_CLOEXEC) < 0)
        return error_set(err, -errno, "pipe: %s", strerror(errno));
    if (pipe2(news, O_CLOEXEC) < 0) {
        const int rc = error_set(err, -errno, "pipe: %s", strerror(errno));
        fd_close(&orders[0]);
        fd_close(&orders[1]);
        return rc;
    }
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        setsid();
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
        fd_close(&orders[1]);
        fd_close(&news[0]);
        work(&(struct work){scenario, target, seconds, orders[0], news[1]});
        _exit(0);
    }
    fd_close(&orders[0]);
    fd_close(&news[1]);
    *out = (struct drill_healer){.pid = child, .orders = orders[1], .news = news[0]};
    if (child > 0)
        return 0;
    const int rc = error_set(err, -errno, "can't start the drill: %s", strerror(errno));
    fd_close(&out->orders);
    fd_close(&out->news);
    return rc;
}

void drill_healer_heal(struct drill_healer *healer)
{
    fd_close(&healer->orders);
}

bool drill_healer_next(struct drill_healer *healer, nsec_t timeout, struct drill_news *news)
{
    struct pollfd readable = {.fd = healer->news, .events = POLLIN};
    return poll(&readable, 1, (int)(timeout / MSEC(1))) > 0 &&
           fd_read_all(healer->news, news, sizeof(*news)) == 0;
}

void drill_healer_end(struct drill_healer *healer)
{
    fd_close(&healer->orders);
    fd_close(&healer->news);
    if (healer->pid > 0)
        waitpid(healer->pid, NULL, 0);
    healer->pid = 0;
}
