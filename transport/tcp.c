/* TCP, plain or under TLS: sockets, their options and addresses. What happens on a connected socket
 * is transport/stream.c's and transport/tls_link.c's.
 *
 * Options: no Nagle delay, because a frame is sent by one call and the peer waits for it; a dead
 * peer is noticed by the kernel within TCP_DEAD_MS even if the heartbeat isn't configured. Buffer
 * sizes are left to the kernel's own tuning: larger fixed ones were measured to be slower
 * (bench-link), as they fall out of the cache, and smaller ones would limit a long fat path. What
 * limits no path is how much the kernel takes that it can't send yet, as the window is full or the
 * sending paced: beyond TCP_UNSENT_MAX it only lies there, copied early and out of the cache when
 * its turn comes, and makes a link look faster than it is to who measures it (link_cost.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "transport/carrier.h"
#include "transport/stream.h"
#include "transport/tcp.h"
#include "transport/tls.h"
#include "transport/waiting.h"

#define TCP_BACKLOG      64
#define TCP_DEAD_MS      3000 /* unacknowledged data or unanswered keep-alives: the peer is dead */
#define TCP_PROBE_SEC    1    /* between keep-alives on an idle connection */
#define TCP_PROBES       5
#define ADDRESS_TEXT_MAX 72 /* "[v6%scope]:port" */

struct tcp_listener {
    struct listener base; /* first member */
    int fd;
    int wake_fd;                       /* readable once shut down */
    const struct tls_credentials *tls; /* NULL: plain */
};

static const char *scheme_of(const struct tls_credentials *tls)
{
    return tls ? "tls" : "tcp";
}

static int set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value));
}

/* None of these can be refused by a kernel that we run on, so none is worth failing for. */
static void set_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP_UNSENT_MAX);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_DEAD_MS);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, TCP_PROBE_SEC);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, TCP_PROBE_SEC);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, TCP_PROBES);
}

/* "192.0.2.7:7700", "[2001:db8::7]:7700" */
static void format_address(const struct sockaddr_storage *address, socklen_t length, char *out)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1] = "?";
    char port[URI_PORT_MAX] = "?";
    getnameinfo((const struct sockaddr *)address, length, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, ADDRESS_TEXT_MAX, address->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
}

static int resolve(const struct uri *uri, const char *text, int flags, struct addrinfo **out,
                   struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    const int rc = getaddrinfo(uri->host, uri->port, &hints, out);
    if (rc == 0)
        return 0;
    return error_set(err, rc == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL,
                     "address \"%s\": host %s can't be resolved: %s", text, uri->host,
                     rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
}

/* Connects a link to the socket, which it takes over. */
static int make_link(int fd, bool accepted, const struct tls_credentials *tls,
                     const struct sockaddr_storage *peer, socklen_t length, struct link **out,
                     struct error *err)
{
    set_options(fd);
    char address[ADDRESS_TEXT_MAX];
    char name[LINK_PEER_MAX];
    format_address(peer, length, address);
    snprintf(name, sizeof(name), "%s %s", scheme_of(tls), address);
    return tls ? tls_link_create(fd, name, accepted, tls, out, err)
               : stream_create(fd, name, out, err);
}

/* --- listening --- */

/* Errors of accept that belong to the connection that went away, not to the listener
 * (accept(2), "Error handling"). */
static bool visitor_vanished(int error)
{
    switch (error) {
    case EAGAIN:
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:
        return true;
    }
    return false;
}

static int tcp_accept(struct listener *listener, unsigned timeout_ms, struct link **out,
                      struct error *err)
{
    struct tcp_listener *l = (struct tcp_listener *)listener;
    const nsec_t deadline = timeout_ms ? clock_now() + MSEC(timeout_ms) : 0;
    for (;;) {
        const int rc = waiting_for(l->fd, POLLIN, deadline, l->wake_fd);
        if (rc < 0)
            return waiting_listener_failed(l->base.uri, rc, err);
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof(peer);
        const int fd = accept4(l->fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);
        if (fd >= 0)
            return make_link(fd, true, l->tls, &peer, length, out, err);
        if (!visitor_vanished(errno))
            return waiting_listener_failed(l->base.uri, -errno, err);
    }
}

static void tcp_listener_shutdown(struct listener *listener)
{
    waiting_cancel(((struct tcp_listener *)listener)->wake_fd);
}

static void tcp_listener_destroy(struct listener *listener)
{
    struct tcp_listener *l = (struct tcp_listener *)listener;
    fd_close(&l->fd);
    fd_close(&l->wake_fd);
    free(l);
}

static const struct listener_ops tcp_listener_ops = {
    .accept = tcp_accept,
    .shutdown = tcp_listener_shutdown,
    .destroy = tcp_listener_destroy,
};

/* A listening socket on one address, or -errno. */
static int listen_on(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->ai_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, TCP_BACKLOG) < 0) {
        const int rc = -errno;
        fd_close(&fd);
        return rc;
    }
    return fd;
}

/* Takes over `fd`. */
static int make_listener(int fd, const struct tls_credentials *tls, struct listener **out,
                         struct error *err)
{
    struct tcp_listener *l = calloc(1, sizeof(*l));
    const int wake_fd = waiting_create_cancel();
    if (!l || wake_fd < 0) {
        const int rc = l ? wake_fd : -ENOMEM;
        free(l);
        close(fd);
        if (wake_fd >= 0)
            close(wake_fd);
        return error_set(err, rc, "listener: %s", strerror(-rc));
    }
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    getsockname(fd, (struct sockaddr *)&address, &length);
    char text[ADDRESS_TEXT_MAX];
    format_address(&address, length, text);
    *l = (struct tcp_listener){{&tcp_listener_ops, ""}, fd, wake_fd, tls};
    snprintf(l->base.uri, sizeof(l->base.uri), "%s://%s", scheme_of(tls), text);
    *out = &l->base;
    return 0;
}

static int tcp_carrier_listen(const struct uri *uri, const char *text,
                              const struct tls_credentials *tls, struct listener **out,
                              struct error *err)
{
    struct addrinfo *list = NULL;
    int rc = resolve(uri, text, AI_PASSIVE, &list, err);
    if (rc < 0)
        return rc;
    int fd = -EADDRNOTAVAIL;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    freeaddrinfo(list);
    if (fd == -EADDRINUSE)
        return error_set(err, fd, "address \"%s\" is in use by another program", text);
    if (fd == -EADDRNOTAVAIL)
        return error_set(err, fd, "address \"%s\" does not belong to this host", text);
    if (fd < 0)
        return error_set(err, fd, "can't listen on \"%s\": %s", text, strerror(-fd));
    return make_listener(fd, tls, out, err);
}

/* --- connecting --- */

/* Waits for a non-blocking connect to finish: 0 or -errno of the attempt, -ETIMEDOUT, -ECANCELED.
 */
static int wait_connected(int fd, nsec_t deadline, int cancel_fd)
{
    const int rc = waiting_for(fd, POLLOUT, deadline, cancel_fd);
    if (rc < 0)
        return rc;
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return -error;
}

/* TCP lets a socket that tries its own ephemeral port connect to itself: nobody listens then. */
static bool connected_to_itself(int fd)
{
    struct sockaddr_storage here = {0};
    struct sockaddr_storage there = {0};
    socklen_t here_length = sizeof(here);
    socklen_t there_length = sizeof(there);
    return getsockname(fd, (struct sockaddr *)&here, &here_length) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_length) == 0 &&
           here_length == there_length && memcmp(&here, &there, here_length) == 0;
}

/* A connected, blocking socket, or -errno. */
static int connect_to(const struct addrinfo *address, nsec_t deadline, int cancel_fd)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int rc = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? -errno : 0;
    if (rc == -EINPROGRESS)
        rc = wait_connected(fd, deadline, cancel_fd);
    if (rc == 0 && connected_to_itself(fd))
        rc = -ECONNREFUSED;
    int off = 0;
    if (rc == 0 && ioctl(fd, FIONBIO, &off) < 0)
        rc = -errno;
    if (rc < 0) {
        fd_close(&fd);
        return rc;
    }
    return fd;
}

static int tcp_carrier_connect(const struct uri *uri, const char *text,
                               const struct tls_credentials *tls, unsigned timeout_ms,
                               int cancel_fd, struct link **out, struct error *err)
{
    const nsec_t deadline = clock_now() + MSEC(timeout_ms);
    struct addrinfo *list = NULL;
    const int rc = resolve(uri, text, 0, &list, err);
    if (rc < 0)
        return rc;
    int fd = -EADDRNOTAVAIL;
    struct sockaddr_storage peer = {0};
    socklen_t length = 0;
    for (const struct addrinfo *a = list; a && fd < 0 && fd != -ECANCELED; a = a->ai_next) {
        fd = connect_to(a, deadline, cancel_fd);
        length = a->ai_addrlen;
        memcpy(&peer, a->ai_addr, length);
    }
    freeaddrinfo(list);
    if (fd < 0)
        return waiting_connect_failed(text, fd, timeout_ms, err);
    return make_link(fd, false, tls, &peer, length, out, err);
}

const struct carrier tcp_carrier = {
    .scheme = "tcp",
    .listen = tcp_carrier_listen,
    .connect = tcp_carrier_connect,
};

const struct carrier tls_carrier = {
    .scheme = "tls",
    .secured = true,
    .listen = tcp_carrier_listen,
    .connect = tcp_carrier_connect,
};
