#include "qemu/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define GREETING_TIMEOUT SEC(20) /* a QEMU that starts on a busy machine */

struct qmp {
    struct qmp_config config;
    unsigned unanswered;
    char *prepared; /* what was sent without its last byte, or NULL */
    size_t used;    /* bytes in `line` */
    char line[QMP_LINE_MAX];
};

int qmp_decode(const char *line, size_t size, struct qmp_message *out, struct error *err)
{
    json_error_t why;
    *out = (struct qmp_message){0};
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, &why);
    const char *event = json_string_value(json_object_get(json, "event"));
    const json_t *error = json_object_get(json, "error");
    const char *description = json_string_value(json_object_get(error, "desc"));
    json_t *value = json_object_get(json, "return");
    if (json_object_get(json, "QMP")) {
        out->kind = QMP_GREETING;
    } else if (event) {
        out->kind = QMP_EVENT;
        out->text = event;
        out->data = json_object_get(json, "data");
    } else if (value) {
        out->kind = QMP_RETURN;
        out->data = value;
    } else if (description) {
        out->kind = QMP_ERROR;
        out->text = description;
    } else {
        json_decref(json);
        return error_set(err, -EBADMSG, "QMP: a line of %zu bytes is no message: %.60s", size,
                         json ? "neither greeting, answer, error nor event" : why.text);
    }
    out->json = json;
    return 0;
}

/* Waits until the socket can be read, or written: 0, -ETIMEDOUT, -errno. */
static int wait_for(const struct qmp *qmp, short what, nsec_t deadline)
{
    for (;;) {
        const nsec_t left = deadline - clock_now();
        const struct timespec time = {.tv_sec = left > 0 ? left / SEC(1) : 0,
                                      .tv_nsec = left > 0 ? left % SEC(1) : 0};
        struct pollfd poll_fd = {.fd = qmp->config.fd, .events = what};
        const int count = ppoll(&poll_fd, 1, &time, NULL);
        if (count > 0)
            return 0;
        if (count == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

/* More bytes: 0, -EAGAIN when there are none, or -errno. */
static int fill(struct qmp *qmp, struct error *err)
{
    if (qmp->used == sizeof(qmp->line))
        return error_set(err, -EBADMSG, "QMP: a line of more than %u bytes", QMP_LINE_MAX);
    const ssize_t count =
        read(qmp->config.fd, qmp->line + qmp->used, sizeof(qmp->line) - qmp->used);
    if (count > 0) {
        qmp->used += (size_t)count;
        return 0;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    return error_set(err, -ECONNRESET, "QMP: QEMU has closed the connection");
}

/* The next message in the buffer: 1, 0 when there is no whole line, or negative. */
static int next_message(struct qmp *qmp, struct qmp_message *out, struct error *err)
{
    const char *end = memchr(qmp->line, '\n', qmp->used);
    if (!end)
        return 0;
    const size_t size = (size_t)(end - qmp->line) + 1;
    const int rc = qmp_decode(qmp->line, size, out, err);
    qmp->used -= size;
    memmove(qmp->line, qmp->line + size, qmp->used);
    return rc < 0 ? rc : 1;
}

/* The next message that is no event. `deadline` < 0: doesn't wait, and -EAGAIN when there is none.
 */
static int receive(struct qmp *qmp, struct qmp_message *out, nsec_t deadline, const bool *flag,
                   struct error *err)
{
    for (;;) {
        int rc = next_message(qmp, out, err);
        if (rc > 0 && out->kind == QMP_EVENT) {
            qmp->config.event(qmp->config.context, out->text, out->data);
            json_decref(out->json);
            if (flag && *flag)
                return -EAGAIN;
            continue;
        }
        if (rc != 0)
            return rc < 0 ? rc : 0;
        rc = fill(qmp, err);
        if (rc == -EAGAIN && deadline >= 0) {
            rc = wait_for(qmp, POLLIN, deadline);
            if (rc == -ETIMEDOUT)
                return error_set(err, rc, "QMP: QEMU does not answer");
            if (rc < 0)
                return error_set(err, rc, "QMP: %s", strerror(-rc));
        } else if (rc < 0) {
            return rc;
        }
    }
}

int qmp_open(const struct qmp_config *config, struct qmp **out, struct error *err)
{
    *out = NULL;
    struct qmp *qmp = malloc(sizeof(*qmp));
    if (!qmp) {
        close(config->fd);
        return error_set(err, -ENOMEM, "QMP: out of memory");
    }
    qmp->config = *config;
    qmp->unanswered = 0;
    qmp->prepared = NULL;
    qmp->used = 0;
    struct qmp_message message = {0};
    int rc = receive(qmp, &message, clock_now() + GREETING_TIMEOUT, NULL, err);
    if (rc == 0 && message.kind != QMP_GREETING)
        rc = error_set(err, -EPROTO, "QMP: QEMU does not begin with a greeting");
    json_decref(message.json);
    if (rc == 0)
        rc = qmp_call(qmp, "qmp_capabilities", NULL, NULL, GREETING_TIMEOUT, err);
    if (rc < 0)
        qmp_close(&qmp);
    *out = qmp;
    return rc;
}

void qmp_close(struct qmp **qmp)
{
    if (!*qmp)
        return;
    fd_close(&(*qmp)->config.fd);
    free((*qmp)->prepared);
    free(*qmp);
    *qmp = NULL;
}

int qmp_fd(const struct qmp *qmp)
{
    return qmp->config.fd;
}

/* One send(), with a copy of a descriptor unless `fd` is negative. */
static ssize_t send_some(const struct qmp *qmp, const char *bytes, size_t size, int fd)
{
    struct iovec part = {(char *)(uintptr_t)bytes, size};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(fd))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    return sendmsg(qmp->config.fd, &message, MSG_NOSIGNAL);
}

/* A descriptor goes with the first byte. */
static int write_all(struct qmp *qmp, const char *bytes, size_t size, int fd, struct error *err)
{
    const nsec_t deadline = clock_now() + GREETING_TIMEOUT;
    while (size) {
        const ssize_t count = send_some(qmp, bytes, size, fd);
        if (count > 0) {
            bytes += count;
            size -= (size_t)count;
            fd = -1;
        } else if (errno != EINTR && errno != EAGAIN) {
            return error_set(err, -ECONNRESET, "QMP: QEMU has closed the connection");
        } else if (wait_for(qmp, POLLOUT, deadline) < 0) {
            return error_set(err, -ETIMEDOUT, "QMP: QEMU takes no commands");
        }
    }
    return 0;
}

/* Complete at its last byte; the caller's. */
static int make_text(const char *command, json_t *arguments, char **out, struct error *err)
{
    json_t *json = arguments ? json_pack("{s:s, s:o}", "execute", command, "arguments", arguments)
                             : json_pack("{s:s}", "execute", command);
    *out = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return *out ? 0 : error_set(err, -ENOMEM, "QMP: out of memory");
}

/* Ends what was prepared as a command that QEMU refuses, for a member that it doesn't know. */
static int withdraw(struct qmp *qmp, struct error *err)
{
    static const char end[] = ",\"withdrawn\":true}";
    if (!qmp->prepared)
        return 0;
    free(qmp->prepared);
    qmp->prepared = NULL;
    if (qmp->unanswered)
        return error_set(err, -EPROTO, "QMP: a prepared command can't be taken back now");
    int rc = write_all(qmp, end, sizeof(end) - 1, -1, err);
    if (rc == 0) {
        qmp->unanswered++;
        rc = qmp_receive(qmp, NULL, GREETING_TIMEOUT, err);
    }
    if (rc == 0)
        rc = error_set(err, -EPROTO, "QMP: a command that was taken back was carried out");
    return rc == -EIO ? 0 : rc;
}

int qmp_prepare(struct qmp *qmp, const char *command, json_t *arguments, struct error *err)
{
    char *text;
    int rc = make_text(command, arguments, &text, err);
    if (rc == 0)
        rc = withdraw(qmp, err);
    if (rc == 0)
        rc = write_all(qmp, text, strlen(text) - 1, -1, err);
    if (rc < 0) {
        free(text);
        return error_prefix(err, "%s", command);
    }
    qmp->prepared = text;
    return 0;
}

int qmp_send_fd(struct qmp *qmp, const char *command, json_t *arguments, int fd, struct error *err)
{
    char *text;
    size_t there = 0;
    int rc = make_text(command, arguments, &text, err);
    if (rc == 0 && qmp->prepared && strcmp(qmp->prepared, text) == 0) {
        there = strlen(text) - 1;
        free(qmp->prepared);
        qmp->prepared = NULL;
    }
    if (rc == 0)
        rc = withdraw(qmp, err);
    if (rc == 0)
        rc = write_all(qmp, text + there, strlen(text) - there, fd, err);
    free(text);
    qmp->unanswered += rc == 0;
    return rc < 0 ? error_prefix(err, "%s", command) : 0;
}

int qmp_send(struct qmp *qmp, const char *command, json_t *arguments, struct error *err)
{
    return qmp_send_fd(qmp, command, arguments, -1, err);
}

int qmp_receive(struct qmp *qmp, json_t **result, nsec_t timeout, struct error *err)
{
    struct qmp_message message;
    int rc = receive(qmp, &message, clock_now() + timeout, NULL, err);
    if (rc < 0)
        return rc;
    if (message.kind == QMP_GREETING || !qmp->unanswered)
        rc = error_set(err, -EPROTO, "QMP: an answer to nothing");
    else if (message.kind == QMP_ERROR)
        rc = error_set(err, -EIO, "QEMU refuses: %.300s", message.text);
    qmp->unanswered -= qmp->unanswered > 0;
    if (rc == 0 && result)
        *result = json_incref(message.data);
    json_decref(message.json);
    return rc;
}

int qmp_call(struct qmp *qmp, const char *command, json_t *arguments, json_t **result,
             nsec_t timeout, struct error *err)
{
    int rc = qmp_send(qmp, command, arguments, err);
    if (rc == 0) {
        rc = qmp_receive(qmp, result, timeout, err);
        if (rc < 0)
            error_prefix(err, "%s", command);
    }
    return rc;
}

static int take(struct qmp *qmp, nsec_t deadline, const bool *flag, struct error *err)
{
    struct qmp_message message;
    const int rc = receive(qmp, &message, deadline, flag, err);
    if (rc == -EAGAIN)
        return 0;
    if (rc < 0)
        return rc;
    json_decref(message.json);
    return error_set(err, -EPROTO, "QMP: an answer to nothing");
}

int qmp_take_events(struct qmp *qmp, struct error *err)
{
    return take(qmp, -1, NULL, err);
}

int qmp_wait_event(struct qmp *qmp, const bool *flag, nsec_t timeout, struct error *err)
{
    return *flag ? 0 : take(qmp, clock_now() + timeout, flag, err);
}
