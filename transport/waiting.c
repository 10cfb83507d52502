/* See transport/waiting.h. */
#include "transport/waiting.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

int waiting_for(int fd, short events, nsec_t deadline, int cancel_fd)
{
    struct pollfd fds[2] = {{.fd = cancel_fd, .events = POLLIN}, {.fd = fd, .events = events}};
    for (;;) {
        struct timespec left = {0};
        if (deadline) {
            const nsec_t ns = deadline - clock_now();
            left = clock_to_timespec(ns > 0 ? ns : 0);
        }
        const int n = ppoll(fds, 2, deadline ? &left : NULL, NULL);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -ETIMEDOUT;
        if (n > 0)
            return fds[0].revents ? -ECANCELED : 0;
    }
}

int waiting_create_cancel(void)
{
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void waiting_cancel(int cancel_fd)
{
    const uint64_t one = 1;
    /* Can fail only when the counter is full, that is, when it is readable anyway. */
    (void)!write(cancel_fd, &one, sizeof(one));
}

int waiting_listener_failed(const char *uri, int rc, struct error *err)
{
    switch (-rc) {
    case ECANCELED:
        return error_set(err, rc, "%s: no longer listening", uri);
    case ETIMEDOUT:
        return error_set(err, rc, "%s: nobody connected in time", uri);
    }
    return error_set(err, rc, "%s: accept: %s", uri, strerror(-rc));
}

int waiting_connect_failed(const char *text, int rc, unsigned timeout_ms, struct error *err)
{
    switch (-rc) {
    case ECANCELED:
        return error_set(err, rc, "connecting to \"%s\" was cancelled", text);
    case ETIMEDOUT:
        return error_set(err, rc, "\"%s\" did not answer within %u ms", text, timeout_ms);
    case ECONNREFUSED:
        return error_set(err, rc, "nobody listens on \"%s\"", text);
    }
    return error_set(err, rc, "\"%s\" can't be reached: %s", text, strerror(-rc));
}
