/* One QEMU process and everything that connects us to it. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "qemu/firmware.h"
#include "qemu/internal.h"

#define SERIAL_BYTES   4096
#define END_TIMEOUT_MS 2000

/* ---- what the guest says ---- */

static void drain_net(struct qemu_machine *m, unsigned index)
{
    static const uint8_t header[QEMU_FRAME_HEADER];
    for (;;) {
        const ssize_t size = recv(m->session.net_fds[index], m->frame, sizeof(m->frame), 0);
        if (size <= 0)
            return;
        const struct iovec parts[] = {{(void *)(uintptr_t)header, sizeof(header)},
                                      {m->frame, (size_t)size}};
        m->config.output->network(m->config.context, index, parts, 2);
    }
}

static void drain_serial(struct qemu_machine *m)
{
    uint8_t bytes[SERIAL_BYTES];
    for (;;) {
        const ssize_t size = read(m->session.serial_fd, bytes, sizeof(bytes));
        if (size <= 0)
            return;
        m->config.output->console(m->config.context, bytes, (size_t)size);
    }
}

void session_drain(struct qemu_machine *m)
{
    pthread_mutex_lock(&m->drain_lock);
    for (unsigned i = 0; i < m->config.command.net_count; i++)
        drain_net(m, i);
    drain_serial(m);
    pthread_mutex_unlock(&m->drain_lock);
}

static void on_output(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    session_drain(context);
}

/* ---- what QEMU tells ---- */

void session_note_migration(struct qemu_session *s, const char *status)
{
    s->migration_failed = strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0;
    s->migration_ended = s->migration_failed || strcmp(status, "completed") == 0;
}

static void on_control_event(void *context, const char *name, const json_t *data)
{
    struct qemu_session *s = context;
    const char *status = json_string_value(json_object_get(data, "status"));
    const char *reason = json_string_value(json_object_get(data, "reason"));
    const char *action = json_string_value(json_object_get(data, "action"));
    if (strcmp(name, "SHUTDOWN") == 0)
        s->off = reason && strcmp(reason, "guest-shutdown") == 0;
    else if (strcmp(name, "RESET") == 0)
        s->off = s->panicked = s->kept = false;
    else if (strcmp(name, "GUEST_PANICKED") == 0) {
        s->off = action && strcmp(action, "pause") == 0;
        s->panicked = !s->off;
    } else if (strcmp(name, "MIGRATION") == 0 && status)
        session_note_migration(s, status);
}

/* They are heard on another connection. */
static void on_saver_event(void *context, const char *name, const json_t *data)
{
    (void)context, (void)name, (void)data;
}

static void tell(struct qemu_machine *m, enum qemu_event event, const char *detail)
{
    m->config.output->event(m->config.context, event, detail);
}

void session_panicked(struct qemu_machine *m)
{
    const enum qemu_panic_policy policy = m->config.on_panic;
    char text[PANIC_TEXT_SIZE];
    pthread_mutex_lock(&m->lock);
    const bool restart =
        policy == QEMU_PANIC_RESTART && panic_count_restart(&m->panics, clock_now());
    const bool too_often = policy == QEMU_PANIC_RESTART && !restart;
    if (restart || too_often)
        m->due = restart ? "system_reset" : "stop";
    m->given_up |= too_often;
    pthread_mutex_unlock(&m->lock);
    panic_limit_describe(&m->config.panic_limit, text);
    tell(m, QEMU_EVENT_PANICKED, too_often ? text : NULL);
    if (too_often || policy == QEMU_PANIC_STOP)
        tell(m, QEMU_EVENT_POWER_OFF, "the guest panicked and is stopped");
}

/* As with our own machine: a guest may repeat itself until it is reset, and each counts once. */
static void on_event(void *context, const char *name, const json_t *data)
{
    struct qemu_machine *m = context;
    const char *reason = json_string_value(json_object_get(data, "reason"));
    struct qemu_session *s = &m->session;
    if (strcmp(name, "RESET") == 0)
        s->panic_counted = s->crash_was_told = false;
    if (strcmp(name, "SHUTDOWN") == 0 && reason && strcmp(reason, "guest-shutdown") == 0)
        tell(m, QEMU_EVENT_POWER_OFF, NULL);
    else if (strcmp(name, "RESET") == 0 && reason && strcmp(reason, "guest-reset") == 0)
        tell(m, QEMU_EVENT_RESET, NULL);
    else if (strcmp(name, "GUEST_PANICKED") == 0 && !s->panic_counted) {
        s->panic_counted = true;
        s->panics_heard++;
    } else if (strcmp(name, "GUEST_CRASHLOADED") == 0 && !s->crash_was_told) {
        s->crash_was_told = true;
        tell(m, QEMU_EVENT_CRASH_LOADED, NULL);
    }
}

/* Was there an order to give? A guest that is parked gets it when it goes on. */
static bool obey_panic_policy(struct qemu_machine *m)
{
    struct error err = {0};
    pthread_mutex_lock(&m->lock);
    const char *order = m->parked ? NULL : m->due;
    if (order) {
        m->due = NULL;
        if (qmp_call(m->session.events, order, NULL, NULL, QEMU_ANSWER_TIMEOUT, &err) < 0)
            log_error("qemu", "%s", err.text);
    }
    pthread_mutex_unlock(&m->lock);
    return order != NULL;
}

void session_continued(struct qemu_machine *m)
{
    if (m->due)
        event_active(m->session.told, EV_READ, 0);
}

static void on_told(evutil_socket_t fd, short what, void *context)
{
    struct qemu_machine *m = context;
    struct error err = {0};
    (void)fd, (void)what;
    /* Once more after an order: what QEMU told next may have come with its answer. */
    do {
        /* The end of the connection is the end of the process, which is heard of elsewhere. */
        if (qmp_take_events(m->session.events, &err) < 0) {
            event_del(m->session.told);
            return;
        }
        for (; m->session.panics_heard; m->session.panics_heard--)
            session_panicked(m);
    } while (obey_panic_policy(m));
}

static void on_process_ended(evutil_socket_t fd, short what, void *context)
{
    struct qemu_machine *m = context;
    (void)fd, (void)what;
    pthread_mutex_lock(&m->lock);
    const bool executing = m->executing;
    pthread_mutex_unlock(&m->lock);
    if (executing)
        tell(m, QEMU_EVENT_LOST, "the QEMU process has ended");
    else
        log_warning("qemu", "the waiting QEMU process has ended");
}

static bool has_ended(const struct qemu_session *s, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = s->process.pid_fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) > 0;
}

bool session_is_alive(const struct qemu_session *s)
{
    return s->process.pid > 0 && !has_ended(s, 0);
}

/* ---- building ---- */

/* The process inherits the nice value of the thread that starts it: that is always the one inside.
 */
struct start_job {
    const struct process_config *config;
    struct qemu_session *session;
    int rc;
    bool done;
    struct error err;
};

static void on_start(evutil_socket_t fd, short what, void *context)
{
    struct qemu_machine *m = context;
    (void)fd, (void)what;
    pthread_mutex_lock(&m->lock);
    struct start_job *job = m->job;
    job->rc = process_start(job->config, &job->session->process, &job->err);
    job->done = true;
    pthread_cond_signal(&m->started);
    pthread_mutex_unlock(&m->lock);
}

static int start_inside(struct qemu_machine *m, const struct process_config *config,
                        struct error *err)
{
    static const struct timeval now;
    struct start_job job = {.config = config, .session = &m->session};
    pthread_mutex_lock(&m->lock);
    m->job = &job;
    if (event_base_once(m->base, -1, EV_TIMEOUT, on_start, m, &now) < 0)
        job = (struct start_job){.rc = error_set(&job.err, -ENOMEM, "out of memory"), .done = true};
    while (!job.done)
        pthread_cond_wait(&m->started, &m->lock);
    m->job = NULL;
    pthread_mutex_unlock(&m->lock);
    if (job.rc < 0 && err)
        *err = job.err;
    return job.rc;
}

/* Ours is non-blocking, QEMU's (`theirs`) is as QEMU makes it. */
static int make_pair(int type, int *ours, int *theirs)
{
    int ends[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    *ours = ends[0];
    *theirs = ends[1];
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_file(const char *name, int *out)
{
    *out = memfd_create(name, MFD_CLOEXEC);
    return *out < 0 ? -errno : 0;
}

struct ends {
    int control, saver, events; /* ours */
    int theirs[QEMU_FD_END];    /* owned ones only */
};

static int make_disk_ends(struct qemu_machine *m, struct ends *ends, struct error *err)
{
    int *theirs = ends->theirs;
    if (m->config.command.disk_count == 0 || m->config.command.trial)
        return 0;
    theirs[QEMU_FD_BELL] = m->config.open_disk(m->config.context, QEMU_BELL, err);
    int rc = theirs[QEMU_FD_BELL];
    for (unsigned i = 0; rc >= 0 && i < m->config.command.disk_count; i++)
        rc = theirs[QEMU_FD_DISK + i] = m->config.open_disk(m->config.context, i, err);
    return rc < 0 ? rc : 0;
}

static int make_ends(struct qemu_machine *m, struct ends *ends, struct error *err)
{
    struct qemu_session *s = &m->session;
    int rc = make_pair(SOCK_STREAM, &ends->control, &ends->theirs[QEMU_FD_CONTROL]);
    if (rc == 0)
        rc = make_pair(SOCK_STREAM, &ends->saver, &ends->theirs[QEMU_FD_SAVER]);
    if (rc == 0)
        rc = make_pair(SOCK_STREAM, &ends->events, &ends->theirs[QEMU_FD_EVENTS]);
    if (rc == 0)
        rc = make_pair(SOCK_STREAM, &s->serial_fd, &ends->theirs[QEMU_FD_SERIAL]);
    for (unsigned i = 0; rc == 0 && i < m->config.command.net_count; i++)
        rc = make_pair(SOCK_DGRAM, &s->net_fds[i], &ends->theirs[QEMU_FD_NET + i]);
    if (rc == 0)
        rc = make_file("kemari-state-out", &s->saved_fd);
    if (rc == 0)
        rc = make_file("kemari-firmware", &s->firmware_fd);
    if (rc == 0)
        rc = make_file("kemari-state-in", &s->incoming_fd);
    if (rc < 0)
        return error_set(err, rc, "QEMU can't be started: %s", strerror(-rc));
    return make_disk_ends(m, ends, err);
}

static int start_process(struct qemu_machine *m, const struct ends *ends, struct error *err)
{
    char **arguments = qemu_command_arguments(&m->config.command, m->session.incoming);
    if (!arguments)
        return error_set(err, -ENOMEM, "out of memory");
    struct process_config config = {.arguments = arguments,
                                    .environment = m->config.environment,
                                    .messages_fd = m->config.messages_fd};
    memcpy(config.fds, ends->theirs, sizeof(config.fds));
    config.fds[QEMU_FD_MEMORY] = gmem_fd(m->config.memory);
    config.fds[QEMU_FD_SAVED] = m->session.saved_fd;
    config.fds[QEMU_FD_FIRMWARE] = m->session.firmware_fd;
    config.fds[QEMU_FD_INCOMING] = m->session.incoming_fd;
    config.fds[QEMU_FD_PRELOAD] = m->config.preload_fd;
    const int rc = start_inside(m, &config, err);
    qemu_command_free(&arguments);
    return rc;
}

/* Takes over the descriptors. A process that doesn't get so far has said why on stderr. */
static int open_monitors(struct qemu_machine *m, struct ends *ends, struct error *err)
{
    struct qemu_session *s = &m->session;
    const struct qmp_config control = {ends->control, on_control_event, s};
    const struct qmp_config saver = {ends->saver, on_saver_event, NULL};
    const struct qmp_config events = {ends->events, on_event, m};
    ends->control = -1;
    int rc = qmp_open(&control, &s->control, err);
    if (rc == 0) {
        ends->saver = -1;
        rc = qmp_open(&saver, &s->saver, err);
    }
    if (rc == 0) {
        ends->events = -1;
        rc = qmp_open(&events, &s->events, err);
    }
    if (rc == 0)
        rc = qmp_call(
            s->control, "migrate-set-capabilities",
            json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events", "state", 1), NULL,
            QEMU_START_TIMEOUT, err);
    /* A process that ends closes its connections first. */
    if (rc != -ECONNRESET || !has_ended(s, END_TIMEOUT_MS))
        return rc;
    char end[64];
    process_describe_end(&s->process, end, sizeof(end));
    return error_set(err, -ECHILD, "%s while it started: its own message is above", end);
}

/* `*answer` is a string, the caller's. */
static int ask_monitor(struct qemu_machine *m, const char *command, json_t **answer,
                       struct error *err)
{
    const int rc =
        qmp_call(m->session.control, "human-monitor-command",
                 json_pack("{s:s}", "command-line", command), answer, QEMU_START_TIMEOUT, err);
    return rc < 0 || json_is_string(*answer)
               ? rc
               : error_set(err, -EBADMSG, "%s: the answer is no text", command);
}

static int check_memory(struct qemu_machine *m, struct error *err)
{
    json_t *answer = NULL;
    int rc = ask_monitor(m, "info ramblock", &answer, err);
    if (rc == 0)
        rc = ram_blocks_read(json_string_value(answer), gmem_size(m->config.memory),
                             &m->session.blocks, err);
    json_decref(answer);
    return rc;
}

int session_ask_firmware(struct qemu_machine *m, struct error *err)
{
    const size_t size = m->firmware_size;
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", QEMU_FD_FIRMWARE);
    return qmp_send(m->session.control, "pmemsave",
                    json_pack("{s:I, s:I, s:s}", "val", (json_int_t)(FIRMWARE_END - size), "size",
                              (json_int_t)size, "filename", path),
                    err);
}

int session_take_firmware(struct qemu_machine *m, uint8_t *out, struct error *err)
{
    const size_t size = m->firmware_size;
    return pread(m->session.firmware_fd, out, size, 0) == (ssize_t)size
               ? 0
               : error_set(err, -EIO, "the firmware of %zu bytes can't be read back", size);
}

static int judge_firmware(struct qemu_machine *m, struct error *err)
{
    json_t *answer = NULL;
    int rc = ask_monitor(m, "info roms", &answer, err);
    if (rc == 0)
        rc = firmware_is_writable(json_string_value(answer), m->firmware_size,
                                  &m->firmware_writable, err);
    if (rc == 0 && m->firmware_writable && m->firmware_size > SECTION_SIZE_MAX)
        rc = error_set(err, -ENOTSUP,
                       "the guest can write its firmware of %zu bytes, of which a checkpoint has "
                       "up to %u: use a smaller one",
                       m->firmware_size, SECTION_SIZE_MAX);
    json_decref(answer);
    return rc;
}

int session_read_firmware(struct qemu_machine *m, struct error *err)
{
    m->firmware_size = m->session.blocks.firmware;
    m->firmware = malloc(m->firmware_size + 1);
    if (!m->firmware)
        return error_set(err, -ENOMEM, "out of memory");
    if (!m->firmware_size)
        return 0;
    /* A migration carries it. */
    int rc = m->session.blocks.own ? 0 : judge_firmware(m, err);
    if (rc == 0)
        rc = session_ask_firmware(m, err);
    if (rc == 0)
        rc = qmp_receive(m->session.control, NULL, QEMU_START_TIMEOUT, err);
    return rc == 0 ? session_take_firmware(m, m->firmware, err) : rc;
}

static struct event *watch(struct qemu_machine *m, int fd, event_callback_fn callback)
{
    struct event *event = event_new(m->base, fd, EV_READ | EV_PERSIST, callback, m);
    if (event && event_add(event, NULL) == 0)
        return event;
    if (event)
        event_free(event);
    return NULL;
}

static int watch_all(struct qemu_machine *m, struct error *err)
{
    struct qemu_session *s = &m->session;
    s->process_ended = event_new(m->base, s->process.pid_fd, EV_READ, on_process_ended, m);
    s->told = watch(m, qmp_fd(s->events), on_told);
    s->typed = watch(m, s->serial_fd, on_output);
    bool whole = s->process_ended && event_add(s->process_ended, NULL) == 0 && s->told && s->typed;
    for (unsigned i = 0; whole && i < m->config.command.net_count; i++) {
        s->sent[i] = watch(m, s->net_fds[i], on_output);
        whole = s->sent[i] != NULL;
    }
    return whole ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int session_open(struct qemu_machine *m, bool incoming, struct error *err)
{
    struct ends ends = {.control = -1, .saver = -1, .events = -1};
    m->session = (struct qemu_session){.incoming = incoming,
                                       .saved_fd = -1,
                                       .firmware_fd = -1,
                                       .incoming_fd = -1,
                                       .serial_fd = -1,
                                       .process = PROCESS_NONE};
    for (int i = 0; i < QEMU_FD_END; i++)
        ends.theirs[i] = -1;
    for (unsigned i = 0; i < QEMU_NETS_MAX; i++)
        m->session.net_fds[i] = -1;
    m->open = true;
    int rc = make_ends(m, &ends, err);
    if (rc == 0)
        rc = start_process(m, &ends, err);
    for (int i = 0; i < QEMU_FD_END; i++)
        fd_close(&ends.theirs[i]);
    if (rc == 0)
        rc = open_monitors(m, &ends, err);
    fd_close(&ends.control);
    fd_close(&ends.saver);
    fd_close(&ends.events);
    if (rc == 0)
        rc = check_memory(m, err);
    if (rc == 0)
        rc = cut_open(m, err);
    if (rc == 0)
        rc = watch_all(m, err);
    if (rc < 0)
        session_close(m);
    return rc;
}

static void unwatch(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

void session_close(struct qemu_machine *m)
{
    struct qemu_session *s = &m->session;
    if (!m->open)
        return;
    m->open = false;
    m->saving = false;
    unwatch(&s->process_ended);
    unwatch(&s->told);
    unwatch(&s->typed);
    for (unsigned i = 0; i < QEMU_NETS_MAX; i++)
        unwatch(&s->sent[i]);
    process_end(&s->process);
    qmp_close(&s->control);
    qmp_close(&s->saver);
    qmp_close(&s->events);
    fd_close(&s->saved_fd);
    fd_close(&s->firmware_fd);
    fd_close(&s->incoming_fd);
    fd_close(&s->serial_fd);
    /* Frames for the guest may be on their way in. */
    pthread_mutex_lock(&m->drain_lock);
    for (unsigned i = 0; i < QEMU_NETS_MAX; i++)
        fd_close(&s->net_fds[i]);
    pthread_mutex_unlock(&m->drain_lock);
}
