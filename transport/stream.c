/* Stream sockets as a carrier: see transport/stream.h. */
#include "transport/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "transport/link_backend.h"

#define WAIT_UNSET (-1) /* no time-out has been given to the socket yet */

struct stream {
    struct link link; /* first member */
    int fd;           /* set at creation */

    /* owned by the sender */
    int64_t send_wait_us; /* what SO_SNDTIMEO holds, to set it only when it changes */

    /* owned by the receiver */
    int64_t receive_wait_us;
    size_t start, end; /* bytes [start, end) of `ahead` are not consumed yet */
    uint8_t ahead[STREAM_READ_AHEAD];
};

/* How long the next call may block, in µs; 0: for ever; -ETIMEDOUT when it is too late already. */
static int64_t allowed_us(const struct link_wait *wait)
{
    int64_t us = (int64_t)wait->idle_ms * 1000;
    if (wait->deadline) {
        const int64_t left = (wait->deadline - clock_now()) / USEC(1);
        if (left <= 0)
            return -ETIMEDOUT;
        if (us == 0 || left < us)
            us = left;
    }
    return us;
}

/* Gives the socket its time-out for the next call: 0 or -errno. */
static int arm(int fd, int option, int64_t *current, const struct link_wait *wait)
{
    const int64_t us = allowed_us(wait);
    if (us < 0)
        return (int)us;
    if (us == *current)
        return 0;
    const struct timeval tv = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    if (setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv)) < 0)
        return -errno;
    *current = us;
    return 0;
}

/* Turns errno after a failed call into the errors of link.h. */
static int call_failed(struct error *err)
{
    if (errno == EAGAIN)
        return error_set(err, -ETIMEDOUT, "no progress in time");
    return error_set(err, -errno, "%s", strerror(errno));
}

/* Drops the first `bytes` from the message's parts. */
static void advance(struct msghdr *message, size_t bytes)
{
    while (message->msg_iovlen && bytes >= message->msg_iov->iov_len) {
        bytes -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (message->msg_iovlen) {
        message->msg_iov->iov_base = (uint8_t *)message->msg_iov->iov_base + bytes;
        message->msg_iov->iov_len -= bytes;
    }
}

static int stream_send(struct link *link, struct iovec *parts, int count,
                       const struct link_wait *wait, struct error *err)
{
    struct stream *s = (struct stream *)link;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    while (message.msg_iovlen) {
        const int rc = arm(s->fd, SO_SNDTIMEO, &s->send_wait_us, wait);
        if (rc < 0)
            return error_set(err, rc, "%s", strerror(-rc));
        const ssize_t sent = sendmsg(s->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return call_failed(err);
        advance(&message, (size_t)sent);
    }
    return 0;
}

static size_t take_ahead(struct stream *s, uint8_t *out, size_t size)
{
    const size_t n = s->end - s->start < size ? s->end - s->start : size;
    memcpy(out, s->ahead + s->start, n);
    s->start += n;
    return n;
}

/* One system call: fills `out` first, then the read-ahead, which is empty. Bytes read or -errno. */
static ssize_t read_more(struct stream *s, uint8_t *out, size_t size, const struct link_wait *wait,
                         struct error *err)
{
    const int rc = arm(s->fd, SO_RCVTIMEO, &s->receive_wait_us, wait);
    if (rc < 0)
        return error_set(err, rc, "%s", strerror(-rc));
    struct iovec parts[2] = {{out, size}, {s->ahead, sizeof(s->ahead)}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;
    do
        n = recvmsg(s->fd, &message, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return call_failed(err);
    if (n == 0)
        return error_set(err, -EPIPE, "the peer closed the connection");
    return n;
}

static int stream_receive(struct link *link, void *buffer, size_t size, size_t *got,
                          const struct link_wait *wait, struct error *err)
{
    struct stream *s = (struct stream *)link;
    uint8_t *out = buffer;
    *got = take_ahead(s, out, size);
    while (*got < size) {
        const size_t missing = size - *got;
        const ssize_t n = read_more(s, out + *got, missing, wait, err);
        if (n < 0)
            return (int)n;
        s->start = 0;
        s->end = (size_t)n > missing ? (size_t)n - missing : 0;
        *got += (size_t)n - s->end;
    }
    return 0;
}

static void stream_shutdown(struct link *link)
{
    shutdown(((struct stream *)link)->fd, SHUT_RDWR);
}

static void stream_destroy(struct link *link)
{
    struct stream *s = (struct stream *)link;
    fd_close(&s->fd);
    free(s);
}

static const struct link_ops stream_ops = {
    .send = stream_send,
    .receive = stream_receive,
    .shutdown = stream_shutdown,
    .destroy = stream_destroy,
};

int stream_create(int fd, const char *peer, struct link **out, struct error *err)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fd_close(&fd);
        return error_set(err, -ENOMEM, "%s: out of memory for a link", peer);
    }
    s->fd = fd;
    s->send_wait_us = s->receive_wait_us = WAIT_UNSET;
    link_init(&s->link, &stream_ops, peer);
    *out = &s->link;
    return 0;
}
