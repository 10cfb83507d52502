/* See transport/socket_io.h. */
#include "transport/socket_io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/fd.h"

#define WAIT_UNSET (-1) /* no time-out has been given to the socket yet */

void socket_io_open(struct socket_io *io, int fd)
{
    *io = (struct socket_io){fd, WAIT_UNSET, WAIT_UNSET};
}

void socket_io_close(struct socket_io *io)
{
    fd_close(&io->fd);
}

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

int socket_io_send(struct socket_io *io, struct iovec *parts, size_t count,
                   const struct link_wait *wait, struct error *err)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    while (message.msg_iovlen) {
        const int rc = arm(io->fd, SO_SNDTIMEO, &io->send_wait_us, wait);
        if (rc < 0)
            return error_set(err, rc, "%s", strerror(-rc));
        const ssize_t sent = sendmsg(io->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return call_failed(err);
        advance(&message, (size_t)sent);
    }
    return 0;
}

ssize_t socket_io_receive(struct socket_io *io, struct iovec *parts, size_t count,
                          const struct link_wait *wait, struct error *err)
{
    const int rc = arm(io->fd, SO_RCVTIMEO, &io->receive_wait_us, wait);
    if (rc < 0)
        return error_set(err, rc, "%s", strerror(-rc));
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n;
    do
        n = recvmsg(io->fd, &message, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return call_failed(err);
    if (n == 0)
        return error_set(err, -EPIPE, "the peer closed the connection");
    return n;
}
