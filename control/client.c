#include "control/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

struct control_client {
    int fd;
    uint8_t *buffer; /* CONTROL_REPLY_MAX bytes */
};

int control_client_connect(const char *path, struct control_client **out, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "%s: the name is too long for a socket", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = 0;
    if (fd < 0)
        rc = error_set(err, -errno, "%s: %s", path, strerror(errno));
    else if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        rc = 0;
    else if (errno == ENOENT || errno == ECONNREFUSED)
        rc = error_set(err, -errno, "no kemarid serves %s", path);
    else if (errno == EACCES)
        rc = error_set(err, -EACCES, "%s is for root and the control-group only", path);
    else
        rc = error_set(err, -errno, "%s: %s", path, strerror(errno));
    struct control_client *client = rc == 0 ? calloc(1, sizeof(*client)) : NULL;
    uint8_t *buffer = client ? malloc(CONTROL_REPLY_MAX) : NULL;
    if (rc == 0 && !buffer)
        rc = error_set(err, -ENOMEM, "out of memory");
    if (rc < 0) {
        free(client);
        fd_close(&fd);
        return rc;
    }
    *client = (struct control_client){.fd = fd, .buffer = buffer};
    *out = client;
    return 0;
}

void control_client_close(struct control_client **client)
{
    if (!*client)
        return;
    fd_close(&(*client)->fd);
    free((*client)->buffer);
    free(*client);
    *client = NULL;
}

/* Waits for input until `deadline`; 0: for ever. */
static int wait_readable(int fd, nsec_t deadline)
{
    for (;;) {
        int limit_ms = -1;
        if (deadline) {
            const nsec_t left = deadline - clock_now();
            limit_ms = left <= 0 ? 0 : (int)((left + MSEC(1) - 1) / MSEC(1));
        }
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        const int n = poll(&readable, 1, limit_ms);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int read_exactly(int fd, uint8_t *bytes, size_t size, nsec_t deadline)
{
    while (size) {
        const int rc = wait_readable(fd, deadline);
        if (rc < 0)
            return rc;
        const ssize_t n = recv(fd, bytes, size, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -ECONNRESET;
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int explain(int rc, struct error *err)
{
    if (rc == -ETIMEDOUT)
        return error_set(err, rc, "kemarid does not answer");
    if (rc == -ECONNRESET)
        return error_set(err, rc, "kemarid closed the connection");
    return error_set(err, rc, "reading from kemarid: %s", strerror(-rc));
}

int control_client_next(struct control_client *client, nsec_t timeout, struct control_reply *reply,
                        struct error *err)
{
    const nsec_t deadline = timeout > 0 ? clock_now() + timeout : 0;
    uint8_t prefix[CONTROL_PREFIX_SIZE];
    int rc = read_exactly(client->fd, prefix, sizeof(prefix), deadline);
    if (rc < 0)
        return explain(rc, err);
    const size_t length = control_frame_length(prefix, CONTROL_REPLY_MAX);
    if (!length)
        return error_set(err, -EBADMSG, "the reply's length is impossible; is this a kemarid?");
    rc = read_exactly(client->fd, client->buffer, length, deadline);
    if (rc < 0)
        return explain(rc, err);
    return control_reply_decode(client->buffer, length, reply, err);
}

int control_client_call(struct control_client *client, const struct control_request *request,
                        nsec_t timeout, struct control_reply *reply, struct error *err)
{
    uint8_t *frame;
    size_t size;
    if (control_request_encode(request, &frame, &size) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    /* A daemon that refuses us has said so and hung up already: the answer is there to be read even
     * if this fails. Requests are far smaller than a socket's buffer. */
    const ssize_t ignored = send(client->fd, frame, size, MSG_NOSIGNAL);
    (void)ignored;
    free(frame);
    return control_client_next(client, timeout, reply, err);
}
