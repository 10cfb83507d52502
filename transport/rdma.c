/* RDMA: addresses and connections, by the connection manager. The device, its port and the GID are
 * those that own the address, on InfiniBand, RoCE and soft-RoCE alike. The bytes are rdma_link.c's;
 * with the scheme rdma+tls they are records of TLS, tls_link.c's. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "transport/carrier.h"
#include "transport/rdma_internal.h"
#include "transport/rdma_wire.h"
#include "transport/tls.h"
#include "transport/waiting.h"

#define BACKLOG          16
#define ADDRESS_TEXT_MAX 72
/* 4.096 us << 16 = 0.27 s until a packet is sent again, seven times: a peer whose host is gone is
 * noticed in some two seconds even without heartbeats. */
#define ACK_TIMEOUT 16

struct rdma_listener {
    struct listener base; /* first member */
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    const struct tls_credentials *tls; /* NULL: not encrypted */
    int wake_fd;                       /* readable once shut down */
};

static const char *scheme_of(const struct tls_credentials *tls)
{
    return tls ? "rdma+tls" : "rdma";
}

/* Of a link that has just been made: with TLS on top if there is any. */
static int finish_link(struct rdma_link *rdma, bool accepted, const struct tls_credentials *tls,
                       struct link **out, struct error *err)
{
    struct link *link = rdma_link_base(rdma);
    if (tls)
        return tls_link_create_over(link, link_peer_name(link), accepted, tls, out, err);
    *out = link;
    return 0;
}

/* "192.0.2.7:7700", "[2001:db8::7]:7700" */
static void format_address(const struct sockaddr *address, uint16_t port, char *out)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host, port);
        return;
    }
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
    snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, port);
}

static int open_events(const char *text, struct rdma_event_channel **out, struct error *err)
{
    *out = rdma_create_event_channel();
    if (*out)
        return 0;
    const int rc = errno ? -errno : -ENODEV;
    if (rc == -EACCES || rc == -EPERM)
        return error_set(err, rc, "address \"%s\": no permission for /dev/infiniband/rdma_cm",
                         text);
    return error_set(err, rc,
                     "address \"%s\": this host has no RDMA (%s): load the device's driver and "
                     "rdma_ucm, or use tls://",
                     text, strerror(-rc));
}

static int resolve(const struct uri *uri, const char *text, bool passive,
                   struct rdma_addrinfo **out, struct error *err)
{
    const struct rdma_addrinfo hints = {.ai_flags = passive ? RAI_PASSIVE : 0,
                                        .ai_port_space = RDMA_PS_TCP};
    if (rdma_getaddrinfo(uri->host, uri->port, &hints, out) == 0)
        return 0;
    return error_set(err, -EADDRNOTAVAIL, "address \"%s\": host %s can't be resolved", text,
                     uri->host);
}

static void set_ack_timeout(struct rdma_cm_id *id)
{
    uint8_t timeout = ACK_TIMEOUT;
    /* Refused by old kernels: then the connection manager's own, longer one holds. */
    (void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                          sizeof(timeout));
}

/* The next event, which the caller acknowledges; -ETIMEDOUT, -ECANCELED, or -errno. */
static int next_event(struct rdma_event_channel *events, nsec_t deadline, int cancel_fd,
                      struct rdma_cm_event **out)
{
    const int rc = waiting_for(events->fd, POLLIN, deadline, cancel_fd);
    if (rc < 0)
        return rc;
    return rdma_get_cm_event(events, out) < 0 ? -errno : 0;
}

/* --- connecting --- */

static int connect_failed(const char *text, int rc, unsigned timeout_ms, struct error *err)
{
    if (rc == -ENODEV)
        return error_set(err, rc, "\"%s\": no RDMA device of this host reaches it", text);
    return waiting_connect_failed(text, rc, timeout_ms, err);
}

struct attempt {
    const struct tls_credentials *tls;
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    nsec_t deadline;
    int cancel_fd;
};

/* A listener of ours that does not want us, not a port where nobody listens. */
static bool says_more(const struct rdma_conn_param *conn)
{
    static const uint8_t nothing[RDMA_OFFER_SIZE];
    return conn->private_data && conn->private_data_len >= RDMA_OFFER_SIZE &&
           memcmp(conn->private_data, nothing, sizeof(nothing)) != 0;
}

/* Waits for `wanted`: 0, or why it did not come. `offer` (NULL: not asked for) gets what
 * rdma_offer_check() says of the event's private data, which a refusal may have, too. */
static int expect_event(const struct attempt *a, enum rdma_cm_event_type wanted, int *offer,
                        struct error *err)
{
    struct rdma_cm_event *event;
    int rc = next_event(a->events, a->deadline, a->cancel_fd, &event);
    if (rc < 0)
        return rc;
    const bool refused = event->event == RDMA_CM_EVENT_REJECTED;
    const struct rdma_conn_param *conn = &event->param.conn;
    if (offer && (event->event == wanted || (refused && says_more(conn))))
        *offer = rdma_offer_check(conn->private_data, conn->private_data_len, a->tls, err);
    if (event->event == wanted) {
        rc = 0;
    } else if (refused) {
        rc = -ECONNREFUSED;
    } else if (event->event == RDMA_CM_EVENT_UNREACHABLE ||
               event->event == RDMA_CM_EVENT_ADDR_ERROR ||
               event->event == RDMA_CM_EVENT_ROUTE_ERROR) {
        rc = event->status == -ETIMEDOUT ? -ETIMEDOUT : -EHOSTUNREACH;
    } else {
        rc = -EPROTO;
    }
    rdma_ack_cm_event(event);
    return rc;
}

static int left_ms(const struct attempt *a)
{
    const nsec_t left = (a->deadline - clock_now()) / MSEC(1);
    return left > 1 ? (int)left : 1;
}

static int find_way(const struct attempt *a, struct sockaddr *address)
{
    if (rdma_resolve_addr(a->id, NULL, address, left_ms(a)) < 0)
        return -errno;
    int rc = expect_event(a, RDMA_CM_EVENT_ADDR_RESOLVED, NULL, NULL);
    if (rc < 0)
        return rc;
    set_ack_timeout(a->id);
    if (rdma_resolve_route(a->id, left_ms(a)) < 0)
        return -errno;
    return expect_event(a, RDMA_CM_EVENT_ROUTE_RESOLVED, NULL, NULL);
}

static int shake_hands(const struct attempt *a, struct rdma_link *link, int *offer,
                       struct error *err)
{
    struct rdma_conn_param parameters = rdma_link_parameters(link);
    if (rdma_connect(a->id, &parameters) < 0)
        return -errno;
    return expect_event(a, RDMA_CM_EVENT_ESTABLISHED, offer, err);
}

/* On success the attempt's id and channel belong to the link. */
static int connect_link(const struct attempt *a, const struct rdma_addrinfo *info, const char *text,
                        unsigned timeout_ms, struct rdma_link **out, struct error *err)
{
    int rc = find_way(a, info->ai_dst_addr);
    if (rc < 0)
        return connect_failed(text, rc, timeout_ms, err);
    char address[ADDRESS_TEXT_MAX], name[LINK_PEER_MAX];
    format_address(rdma_get_peer_addr(a->id), ntohs(rdma_get_dst_port(a->id)), address);
    snprintf(name, sizeof(name), "%s %s", scheme_of(a->tls), address);
    struct rdma_link *link = NULL;
    rc = rdma_link_create(a->id, a->events, a->tls != NULL, name, &link, err);
    if (rc < 0)
        return rc;
    int offer = 0;
    rc = shake_hands(a, link, &offer, err);
    if (offer < 0)
        rc = offer;
    else if (rc < 0)
        rc = connect_failed(text, rc, timeout_ms, err);
    if (rc == 0)
        rc = rdma_link_start(link, true, err);
    if (rc < 0)
        rdma_link_abandon(link);
    else
        *out = link;
    return rc;
}

static int rdma_carrier_connect(const struct uri *uri, const char *text,
                                const struct tls_credentials *tls, unsigned timeout_ms,
                                int cancel_fd, struct link **out, struct error *err)
{
    struct attempt a = {
        .tls = tls, .deadline = clock_now() + MSEC(timeout_ms), .cancel_fd = cancel_fd};
    struct rdma_link *link = NULL;
    struct rdma_addrinfo *info = NULL;
    int rc = open_events(text, &a.events, err);
    if (rc < 0)
        return rc;
    rc = resolve(uri, text, false, &info, err);
    if (rc == 0 && rdma_create_id(a.events, &a.id, NULL, RDMA_PS_TCP) < 0)
        rc = connect_failed(text, -errno, timeout_ms, err);
    if (rc == 0)
        rc = connect_link(&a, info, text, timeout_ms, &link, err);
    if (info)
        rdma_freeaddrinfo(info);
    if (rc < 0) {
        if (a.id)
            rdma_destroy_id(a.id);
        rdma_destroy_event_channel(a.events);
        return rc;
    }
    return finish_link(link, false, tls, out, err);
}

/* --- listening --- */

/* Gives the visitor a channel of its own and accepts. On failure the caller destroys `id`. */
static int accept_visitor(struct rdma_cm_id *id, const struct tls_credentials *tls,
                          struct rdma_link **out, struct error *err)
{
    char address[ADDRESS_TEXT_MAX], name[LINK_PEER_MAX];
    format_address(rdma_get_peer_addr(id), ntohs(rdma_get_dst_port(id)), address);
    snprintf(name, sizeof(name), "%s %s", scheme_of(tls), address);
    struct rdma_event_channel *events = rdma_create_event_channel();
    if (!events)
        return error_set(err, -errno, "%s: no event channel: %s", name, strerror(errno));
    struct rdma_link *link = NULL;
    int rc = rdma_migrate_id(id, events) < 0
                 ? error_set(err, -errno, "%s: %s", name, strerror(errno))
                 : rdma_link_create(id, events, tls != NULL, name, &link, err);
    if (rc < 0) {
        rdma_destroy_event_channel(events);
        return rc;
    }
    set_ack_timeout(id);
    struct rdma_conn_param parameters = rdma_link_parameters(link);
    if (rdma_accept(id, &parameters) < 0)
        rc = error_set(err, -errno, "%s: can't be accepted: %s", name, strerror(errno));
    if (rc == 0)
        rc = rdma_link_start(link, false, err);
    if (rc < 0) {
        rdma_link_abandon(link);
        /* The channel goes with the id, which must go first: the caller's listener destroys it. */
        rdma_migrate_id(id, NULL);
        rdma_destroy_event_channel(events);
        return rc;
    }
    *out = link;
    return 0;
}

/* With what this side offers, so that the other one can say what is wrong. */
static void refuse_visitor(struct rdma_cm_id *id, const struct tls_credentials *tls)
{
    uint8_t offer[RDMA_OFFER_SIZE];
    rdma_offer_encode(tls != NULL, offer);
    rdma_reject(id, offer, sizeof(offer));
    rdma_destroy_id(id);
}

/* One event: -EAGAIN when it made no link. What is wrong with a visitor is no error of ours. */
static int visitor(struct rdma_listener *l, nsec_t deadline, struct link **out, struct error *err)
{
    struct rdma_cm_event *event;
    int rc = next_event(l->events, deadline, l->wake_fd, &event);
    if (rc < 0)
        return waiting_listener_failed(l->base.uri, rc, err);
    const bool asks = event->event == RDMA_CM_EVENT_CONNECT_REQUEST;
    const bool fits =
        asks && rdma_offer_check(event->param.conn.private_data, event->param.conn.private_data_len,
                                 l->tls, err) == 0;
    struct rdma_cm_id *id = event->id;
    rdma_ack_cm_event(event);
    if (!asks)
        return -EAGAIN;
    struct rdma_link *link = NULL;
    if (fits && accept_visitor(id, l->tls, &link, err) == 0)
        return finish_link(link, true, l->tls, out, err) == 0 ? 0 : -EAGAIN;
    refuse_visitor(id, l->tls);
    return -EAGAIN;
}

static int rdma_listener_accept(struct listener *listener, unsigned timeout_ms, struct link **out,
                                struct error *err)
{
    const nsec_t deadline = timeout_ms ? clock_now() + MSEC(timeout_ms) : 0;
    int rc;
    do
        rc = visitor((struct rdma_listener *)listener, deadline, out, err);
    while (rc == -EAGAIN);
    return rc;
}

static void rdma_listener_shutdown(struct listener *listener)
{
    waiting_cancel(((struct rdma_listener *)listener)->wake_fd);
}

static void rdma_listener_destroy(struct listener *listener)
{
    struct rdma_listener *l = (struct rdma_listener *)listener;
    if (l->id)
        rdma_destroy_id(l->id);
    if (l->events)
        rdma_destroy_event_channel(l->events);
    fd_close(&l->wake_fd);
    free(l);
}

static const struct listener_ops listener_ops = {
    .accept = rdma_listener_accept,
    .shutdown = rdma_listener_shutdown,
    .destroy = rdma_listener_destroy,
};

static int bind_and_listen(struct rdma_listener *l, const struct rdma_addrinfo *info,
                           const char *text, struct error *err)
{
    if (rdma_create_id(l->events, &l->id, NULL, RDMA_PS_TCP) < 0 ||
        rdma_bind_addr(l->id, info->ai_src_addr) < 0) {
        if (errno == EADDRINUSE)
            return error_set(err, -errno, "address \"%s\" is in use by another program", text);
        if (errno == EADDRNOTAVAIL || errno == ENODEV)
            return error_set(err, -errno,
                             "address \"%s\" does not belong to an RDMA device of this host", text);
        return error_set(err, -errno, "can't listen on \"%s\": %s", text, strerror(errno));
    }
    if (rdma_listen(l->id, BACKLOG) < 0)
        return error_set(err, -errno,
                         errno == EADDRINUSE ? "address \"%s\" is in use by another program"
                                             : "can't listen on \"%s\"",
                         text);
    char address[ADDRESS_TEXT_MAX];
    format_address(rdma_get_local_addr(l->id), ntohs(rdma_get_src_port(l->id)), address);
    snprintf(l->base.uri, sizeof(l->base.uri), "%s://%s", scheme_of(l->tls), address);
    return 0;
}

static int rdma_carrier_listen(const struct uri *uri, const char *text,
                               const struct tls_credentials *tls, struct listener **out,
                               struct error *err)
{
    struct rdma_listener *l = calloc(1, sizeof(*l));
    if (!l)
        return error_set(err, -ENOMEM, "listener: out of memory");
    l->base.ops = &listener_ops;
    l->tls = tls;
    l->wake_fd = waiting_create_cancel();
    struct rdma_addrinfo *info = NULL;
    int rc = l->wake_fd < 0 ? error_set(err, l->wake_fd, "listener: %s", strerror(-l->wake_fd))
                            : open_events(text, &l->events, err);
    if (rc == 0)
        rc = resolve(uri, text, true, &info, err);
    if (rc == 0)
        rc = bind_and_listen(l, info, text, err);
    if (info)
        rdma_freeaddrinfo(info);
    if (rc < 0) {
        rdma_listener_destroy(&l->base);
        return rc;
    }
    *out = &l->base;
    return 0;
}

const struct carrier rdma_carrier = {
    .scheme = "rdma",
    .listen = rdma_carrier_listen,
    .connect = rdma_carrier_connect,
};

const struct carrier rdma_tls_carrier = {
    .scheme = "rdma+tls",
    .secured = true,
    .listen = rdma_carrier_listen,
    .connect = rdma_carrier_connect,
};
