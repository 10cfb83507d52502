/* evhttp has no limit on connections. So this server makes their bufferevents itself and keeps a
 * reference to each: evhttp takes its callbacks off one that it lets go, which tells that the place
 * is free. While all places are taken nobody is accepted, and waits in the kernel's queue. */
#include "control/metrics_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define QUEUE_LENGTH 16
#define LIFE_PERIODS 4 /* a connection's life in idle times */
#define TEXT_AGE_MAX MSEC(100)
#define LOOK_AGAIN   MSEC(100)

struct place {
    struct bufferevent *stream; /* NULL: free */
    nsec_t since;
};

struct metrics_server {
    struct metrics_server_config config;
    struct event_base *base;
    struct evhttp *http;
    struct evconnlistener *listener; /* evhttp's */
    struct event *janitor;
    struct event *stop;
    pthread_t thread;
    bool started;
    /* Owned by the thread. */
    struct place places[METRICS_CONNECTIONS_MAX];
    char *text;
    size_t size;
    nsec_t made;
};

static bool was_let_go(struct bufferevent *stream)
{
    bufferevent_event_cb on_event = NULL;
    bufferevent_getcb(stream, NULL, NULL, &on_event, NULL);
    return !on_event;
}

/* Frees the places of those who have gone; a place of any age that is still free, or NULL. */
static struct place *tidy(struct metrics_server *server)
{
    const nsec_t life = SEC(server->config.idle_seconds) * LIFE_PERIODS;
    struct place *vacant = NULL;
    for (size_t i = 0; i < METRICS_CONNECTIONS_MAX; i++) {
        struct place *place = &server->places[i];
        if (place->stream && was_let_go(place->stream)) {
            bufferevent_decref(place->stream);
            place->stream = NULL;
        }
        if (!place->stream)
            vacant = place;
        else if (clock_now() - place->since > life)
            shutdown(bufferevent_getfd(place->stream), SHUT_RDWR);
    }
    return vacant;
}

static void on_janitor(evutil_socket_t fd, short what, void *context)
{
    struct metrics_server *server = context;
    (void)fd, (void)what;
    if (tidy(server))
        evconnlistener_enable(server->listener);
}

/* evhttp has accepted somebody and sets the socket and the callbacks next. There is a place:
 * otherwise nobody would be accepted. */
static struct bufferevent *on_connection(struct event_base *base, void *context)
{
    struct metrics_server *server = context;
    struct place *place = tidy(server);
    struct bufferevent *stream = bufferevent_socket_new(base, -1, 0);
    if (!place || !stream)
        abort(); /* evhttp would make one of its own, which nobody counts */
    bufferevent_incref(stream);
    /* What is sent while an answer is on its way waits in the socket, not in our memory. */
    bufferevent_setwatermark(stream, EV_READ, 0, 2 * METRICS_REQUEST_MAX);
    *place = (struct place){stream, clock_now()};
    for (size_t i = 0; i < METRICS_CONNECTIONS_MAX; i++)
        if (!server->places[i].stream)
            return stream;
    evconnlistener_disable(server->listener);
    return stream;
}

static bool make_text(struct metrics_server *server)
{
    const nsec_t now = clock_now();
    if (server->text && now - server->made < TEXT_AGE_MAX)
        return true;
    free(server->text);
    server->text = NULL;
    FILE *out = open_memstream(&server->text, &server->size);
    if (!out)
        return false;
    server->config.print(server->config.context, out);
    if (fclose(out) != 0)
        return false;
    server->made = now;
    return true;
}

static void send_text(struct evhttp_request *request, int code, const char *reason,
                      const char *type, const void *text, size_t size)
{
    struct evbuffer *body = evbuffer_new();
    if (!body || evbuffer_add(body, text, size) < 0) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
    } else {
        evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
        evhttp_send_reply(request, code, reason, body);
    }
    if (body)
        evbuffer_free(body);
}

static void on_metrics(struct evhttp_request *request, void *context)
{
    struct metrics_server *server = context;
    if (make_text(server))
        send_text(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", server->text,
                  server->size);
    else
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
}

static void on_other(struct evhttp_request *request, void *context)
{
    static const char text[] = "Kemari's metrics are at /metrics.\n";
    (void)context;
    send_text(request, HTTP_NOTFOUND, "Not Found", "text/plain", text, sizeof(text) - 1);
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    event_base_loopbreak(((struct metrics_server *)context)->base);
}

static int build_http(struct metrics_server *server, struct error *err)
{
    const struct timeval pause = {.tv_usec = LOOK_AGAIN / USEC(1)};
    server->base = event_base_new();
    if (server->base) {
        server->http = evhttp_new(server->base);
        server->stop = event_new(server->base, -1, 0, on_stop, server);
        server->janitor = event_new(server->base, -1, EV_PERSIST, on_janitor, server);
    }
    if (!server->http || !server->stop || !server->janitor ||
        event_add(server->janitor, &pause) < 0 ||
        evhttp_set_cb(server->http, "/metrics", on_metrics, server) < 0)
        return error_set(err, -ENOMEM, "can't build the server of metrics");
    evhttp_set_gencb(server->http, on_other, server);
    evhttp_set_bevcb(server->http, on_connection, server);
    evhttp_set_allowed_methods(server->http, EVHTTP_REQ_GET);
    evhttp_set_max_headers_size(server->http, METRICS_REQUEST_MAX);
    evhttp_set_max_body_size(server->http, 0);
    evhttp_set_timeout(server->http, (int)server->config.idle_seconds);
    return 0;
}

static int bind_listener(struct metrics_server *server, struct error *err)
{
    struct evconnlistener *listener = evconnlistener_new_bind(
        server->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
        QUEUE_LENGTH, server->config.address, (int)server->config.length);
    if (!listener)
        return error_set(err, -errno, "%s", strerror(errno));
    if (!evhttp_bind_listener(server->http, listener)) {
        evconnlistener_free(listener);
        return error_set(err, -ENOMEM, "can't build the server of metrics");
    }
    server->listener = listener;
    return 0;
}

int metrics_server_create(const struct metrics_server_config *config, struct metrics_server **out,
                          struct error *err)
{
    *out = NULL;
    struct metrics_server *server = calloc(1, sizeof(*server));
    if (!server)
        return error_set(err, -ENOMEM, "out of memory");
    server->config = *config;
    int rc = build_http(server, err);
    if (rc == 0)
        rc = bind_listener(server, err);
    server->config.address = NULL; /* the caller's */
    if (rc < 0)
        metrics_server_destroy(&server);
    *out = server;
    return rc;
}

static void *serve(void *context)
{
    struct metrics_server *server = context;
    pthread_setname_np(pthread_self(), "metrics");
    event_base_dispatch(server->base);
    return NULL;
}

int metrics_server_start(struct metrics_server *server, struct error *err)
{
    const int rc = pthread_create(&server->thread, NULL, serve, server);
    server->started = rc == 0;
    return rc == 0 ? 0 : error_set(err, -rc, "can't start the thread of metrics");
}

unsigned metrics_server_port(const struct metrics_server *server)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&address, &length) <
        0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

void metrics_server_destroy(struct metrics_server **server)
{
    struct metrics_server *s = *server;
    if (!s)
        return;
    if (s->started) {
        event_active(s->stop, EV_TIMEOUT, 0);
        pthread_join(s->thread, NULL);
    }
    if (s->http)
        evhttp_free(s->http);
    for (size_t i = 0; i < METRICS_CONNECTIONS_MAX; i++)
        if (s->places[i].stream)
            bufferevent_decref(s->places[i].stream);
    if (s->janitor)
        event_free(s->janitor);
    if (s->stop)
        event_free(s->stop);
    if (s->base)
        event_base_free(s->base);
    free(s->text);
    free(s);
    *server = NULL;
}
