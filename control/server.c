/* A client is in one of four conditions, told apart by its fields:
 *
 *   reading    none of the below: the next request is awaited, for IDLE_SECONDS
 *   waiting    `token` set: the daemon works on it; what arrives meanwhile stays in the buffer
 *   feeding    `feeding` set: events are sent whenever the output is short of FEED_LIMIT, until
 *              there are no more or, with `follow`, until the client leaves
 *   leaving    `leaving` set: input is ignored; freed once the output is sent
 *
 * Memory is bounded: CONTROL_CLIENTS_MAX clients, each with one request of input, and of output one
 * reply or FEED_LIMIT plus one event.
 *
 * Requests that the daemon works on are in `pending`, which outlives the client that asked. It is
 * the only thing that other threads touch (control_server_complete), under `lock`; an eventfd then
 * wakes the loop. The notify function of the event ring uses the same eventfd. */
#include "control/server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/listen.h"
#include "control/event_file.h"
#include "control/message.h"

#define IDLE_SECONDS 30 /* without a whole request, or without taking what was sent */
#define FEED_LIMIT   ((size_t)64 << 10)
#define PENDING_MAX  (2 * CONTROL_CLIENTS_MAX)

struct client {
    struct control_server *server; /* NULL: this slot is free */
    struct bufferevent *stream;
    control_token_t token; /* of the request the daemon works on; 0: none */
    bool leaving;
    bool feeding;
    bool follow;
    uint64_t seen;      /* feeding: id of the last event that was sent */
    int64_t since_wall; /* feeding: only events from then on */
    bool in_file;       /* feeding: what is on disk comes first, ... */
    uint64_t position;  /* ... from here */
};

struct pending {
    control_token_t token; /* 0: this slot is free */
    bool done;
    int rc;
    char text[ERROR_TEXT_MAX];
};

struct control_server {
    /* Set at creation. */
    char *path;
    ino_t inode;
    gid_t group;
    char *vm;
    const struct control_ops *ops;
    void *context;
    struct control_events *events;
    struct event_file *event_file;
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *wake;
    int wake_fd;
    /* Owned by the loop's thread. */
    control_token_t last_token;
    struct client clients[CONTROL_CLIENTS_MAX];
    struct control_status status; /* scratch: too large for a stack */
    struct control_reply reply;   /* scratch */
    /* Protected by `lock`. */
    pthread_mutex_t lock;
    struct pending pending[PENDING_MAX];
};

static void wake_loop(void *context)
{
    struct control_server *server = context;
    const uint64_t one = 1;
    /* Fails only when the counter is full, and then the loop is awake anyway. */
    const ssize_t ignored = write(server->wake_fd, &one, sizeof(one));
    (void)ignored;
}

static void drop_client(struct client *client)
{
    bufferevent_free(client->stream);
    *client = (struct client){0};
}

static void set_idle_limit(struct client *client, bool on_input)
{
    const struct timeval limit = {.tv_sec = IDLE_SECONDS};
    bufferevent_set_timeouts(client->stream, on_input ? &limit : NULL, &limit);
}

/* False when the client is gone. */
static bool send_reply(struct client *client, const struct control_reply *reply)
{
    uint8_t *frame;
    size_t size;
    if (control_reply_encode(reply, &frame, &size) < 0) {
        drop_client(client);
        return false;
    }
    bufferevent_write(client->stream, frame, size);
    free(frame);
    return true;
}

static bool send_outcome(struct client *client, int rc, const char *text)
{
    struct control_reply *reply = &client->server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = rc < 0 ? CONTROL_REPLY_REFUSED : CONTROL_REPLY_DONE;
    reply->code = rc < 0 ? rc : 0;
    snprintf(reply->text, sizeof(reply->text), "%s", text);
    return send_reply(client, reply);
}

static void leave_after(struct client *client, int rc, const char *text)
{
    if (!send_outcome(client, rc, text))
        return;
    client->leaving = true;
    bufferevent_disable(client->stream, EV_READ);
}

static void answer_ping(struct client *client)
{
    struct control_server *server = client->server;
    struct control_reply *reply = &server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_PONG;
    snprintf(reply->daemon_version, sizeof(reply->daemon_version), "%s", KEMARI_VERSION);
    snprintf(reply->vm, sizeof(reply->vm), "%s", server->vm);
    reply->pid = (uint32_t)getpid();
    send_reply(client, reply);
}

static void answer_status(struct client *client)
{
    struct control_server *server = client->server;
    memset(&server->status, 0, sizeof(server->status));
    server->ops->status(server->context, &server->status);
    control_status_finish(&server->status);
    struct control_reply *reply = &server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_STATUS;
    reply->status = server->status;
    send_reply(client, reply);
}

static void answer_policy(struct client *client)
{
    struct control_server *server = client->server;
    struct control_reply *reply = &server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_POLICY;
    server->ops->policy(server->context, &reply->policy);
    send_reply(client, reply);
}

static void answer_console(struct client *client, const struct control_request *request)
{
    struct control_server *server = client->server;
    struct control_reply *reply = &server->reply;
    struct error err = {0};
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_CONSOLE;
    const int rc = server->ops->console(server->context, request->since, request->typed,
                                        request->typed_size, &reply->console, &err);
    if (rc < 0)
        send_outcome(client, rc, err.text);
    else
        send_reply(client, reply);
}

/* The next one for this client, which has it from then on: from the file what is there, then from
 * the ring what was not written yet. */
static bool next_event(struct client *client, struct control_event *event)
{
    struct control_server *server = client->server;
    bool own = false;
    while (client->in_file && event_file_next(server->event_file, &client->position, event, &own)) {
        if (own)
            client->seen = event->id;
        if (event->wall_ns >= client->since_wall)
            return true;
    }
    client->in_file = false;
    while (control_events_next(server->events, client->seen, event)) {
        client->seen = event->id;
        if (!client->since_wall || event->wall_ns >= client->since_wall)
            return true;
    }
    return false;
}

/* Sends one event if there is one and there is room; false when not, or when the client is gone. A
 * client whose output is full is left alone until it reads; when the ring has meanwhile overwritten
 * what it should see next it is dropped. */
static bool feed_one(struct client *client)
{
    struct control_server *server = client->server;
    struct control_reply *reply = &server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_EVENT;
    if (evbuffer_get_length(bufferevent_get_output(client->stream)) >= FEED_LIMIT) {
        if (!client->in_file && control_events_next(server->events, client->seen, &reply->event) &&
            reply->event.id > client->seen + 1) {
            log_info("control", "a reader of events is too slow and was dropped");
            drop_client(client);
        }
        return false;
    }
    return next_event(client, &reply->event) && send_reply(client, reply);
}

static void feed(struct client *client)
{
    while (feed_one(client))
        ;
    if (!client->server || client->follow ||
        client->seen < control_events_last(client->server->events))
        return;
    struct control_reply *reply = &client->server->reply;
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_END_OF_EVENTS;
    reply->last_id = client->seen;
    client->feeding = false;
    set_idle_limit(client, true);
    send_reply(client, reply);
}

static void answer_events(struct client *client, const struct control_request *request)
{
    client->seen = request->since_wall_ns ? 0 : request->since;
    client->since_wall = request->since_wall_ns;
    client->in_file = request->since_wall_ns && client->server->event_file;
    client->position = 0;
    client->follow = request->follow;
    client->feeding = true;
    set_idle_limit(client, false);
    feed(client);
}

/* A token for the client's request; 0 when too many are open. */
static control_token_t open_request(struct client *client)
{
    struct control_server *server = client->server;
    control_token_t token = 0;
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < PENDING_MAX && !token; i++) {
        if (server->pending[i].token)
            continue;
        token = ++server->last_token;
        server->pending[i] = (struct pending){.token = token};
    }
    pthread_mutex_unlock(&server->lock);
    client->token = token;
    return token;
}

static void start_request(struct client *client, const struct control_request *request)
{
    struct control_server *server = client->server;
    const struct control_ops *ops = server->ops;
    const control_token_t token = open_request(client);
    if (!token) {
        send_outcome(client, -EBUSY, "too many requests are being worked on");
        return;
    }
    set_idle_limit(client, false);
    switch (request->verb) {
    case CONTROL_VERB_FAILOVER:
        ops->failover(server->context, token);
        break;
    case CONTROL_VERB_SWITCHOVER:
        ops->switchover(server->context, token);
        break;
    case CONTROL_VERB_UNPROTECT:
        ops->unprotect(server->context, token);
        break;
    case CONTROL_VERB_PROTECT:
        ops->protect(server->context, token);
        break;
    case CONTROL_VERB_STOP:
        ops->stop(server->context, token);
        break;
    case CONTROL_VERB_GRANT:
        ops->grant(server->context, token, request->term);
        break;
    case CONTROL_VERB_DUMP:
        ops->dump(server->context, token, request->file);
        break;
    case CONTROL_VERB_CHECKPOINT:
        ops->checkpoint(server->context, token);
        break;
    case CONTROL_VERB_FREEZE:
        ops->freeze(server->context, token, request->duration_ns);
        break;
    case CONTROL_VERB_SET_POLICY:
        ops->set_policy(server->context, token, &request->policy);
        break;
    default:
        ops->deny(server->context, token, request->term);
        break;
    }
}

static void answer(struct client *client, const struct control_request *request)
{
    switch (request->verb) {
    case CONTROL_VERB_UNKNOWN:
        send_outcome(client, -ENOSYS, "this kemarid (" KEMARI_VERSION ") has no such request");
        break;
    case CONTROL_VERB_PING:
        answer_ping(client);
        break;
    case CONTROL_VERB_STATUS:
        answer_status(client);
        break;
    case CONTROL_VERB_EVENTS:
        answer_events(client, request);
        break;
    case CONTROL_VERB_POLICY:
        answer_policy(client);
        break;
    case CONTROL_VERB_CONSOLE:
        answer_console(client, request);
        break;
    case CONTROL_VERB_FAILOVER:
    case CONTROL_VERB_SWITCHOVER:
    case CONTROL_VERB_UNPROTECT:
    case CONTROL_VERB_PROTECT:
    case CONTROL_VERB_STOP:
    case CONTROL_VERB_GRANT:
    case CONTROL_VERB_DENY:
    case CONTROL_VERB_DUMP:
    case CONTROL_VERB_CHECKPOINT:
    case CONTROL_VERB_FREEZE:
    case CONTROL_VERB_SET_POLICY:
        start_request(client, request);
        break;
    }
}

/* One whole request from the input, if it is there. False when there is none, or the client is gone
 * or leaving for what it sent. */
static bool take_request(struct client *client, struct control_request *request)
{
    struct evbuffer *input = bufferevent_get_input(client->stream);
    uint8_t prefix[CONTROL_PREFIX_SIZE];
    if (evbuffer_copyout(input, prefix, sizeof(prefix)) < (ssize_t)sizeof(prefix))
        return false;
    const size_t length = control_frame_length(prefix, CONTROL_REQUEST_MAX);
    if (!length) {
        drop_client(client);
        return false;
    }
    if (evbuffer_get_length(input) < sizeof(prefix) + length)
        return false;
    const uint8_t *frame = evbuffer_pullup(input, (ssize_t)(sizeof(prefix) + length));
    struct error err = {0};
    const int rc =
        frame ? control_request_decode(frame + sizeof(prefix), length, request, &err) : -ENOMEM;
    if (rc == 0)
        evbuffer_drain(input, sizeof(prefix) + length);
    else if (rc == -EPROTONOSUPPORT)
        leave_after(client, rc, err.text);
    else
        drop_client(client);
    return rc == 0;
}

static void serve_input(struct client *client)
{
    struct control_request request;
    /* A client that does not take its answers does not get more of them. */
    while (client->server && !client->token && !client->feeding && !client->leaving &&
           evbuffer_get_length(bufferevent_get_output(client->stream)) == 0 &&
           take_request(client, &request))
        answer(client, &request);
}

static void on_readable(struct bufferevent *stream, void *context)
{
    (void)stream;
    serve_input(context);
}

/* All output was sent. */
static void on_written(struct bufferevent *stream, void *context)
{
    (void)stream;
    struct client *client = context;
    if (client->leaving)
        drop_client(client);
    else if (client->feeding)
        feed(client);
    else
        serve_input(client);
}

static void on_ended(struct bufferevent *stream, short what, void *context)
{
    (void)stream;
    (void)what; /* closed, failed or idle for too long: all the same to us */
    drop_client(context);
}

/* Tells a client that gets no slot why, as far as its socket buffer takes it, and closes. */
static void turn_away(int fd, int rc, const char *text)
{
    struct control_reply *reply = calloc(1, sizeof(*reply));
    uint8_t *frame;
    size_t size;
    if (reply) {
        reply->kind = CONTROL_REPLY_REFUSED;
        reply->code = rc;
        snprintf(reply->text, sizeof(reply->text), "%s", text);
    }
    if (reply && control_reply_encode(reply, &frame, &size) == 0) {
        const ssize_t ignored = send(fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)ignored;
        free(frame);
    }
    free(reply);
    fd_close(&fd);
}

static struct client *free_slot(struct control_server *server)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (!server->clients[i].server)
            return &server->clients[i];
    return NULL;
}

static void on_accepted(struct evconnlistener *listener, evutil_socket_t fd,
                        struct sockaddr *address, int length, void *context)
{
    (void)listener;
    (void)address;
    (void)length;
    struct control_server *server = context;
    struct error err = {0};
    if (control_check_peer(fd, server->group, &err) < 0) {
        log_warning("control", "%s", err.text);
        turn_away(fd, -EPERM, err.text);
        return;
    }
    struct client *client = free_slot(server);
    struct bufferevent *stream =
        client ? bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE) : NULL;
    if (!stream) {
        turn_away(fd, -EBUSY, "too many clients are connected");
        return;
    }
    *client = (struct client){.server = server, .stream = stream};
    bufferevent_setcb(stream, on_readable, on_written, on_ended, client);
    bufferevent_setwatermark(stream, EV_READ, 0, CONTROL_PREFIX_SIZE + CONTROL_REQUEST_MAX);
    set_idle_limit(client, true);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

static struct client *client_of(struct control_server *server, control_token_t token)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (server->clients[i].server && server->clients[i].token == token)
            return &server->clients[i];
    return NULL;
}

/* The next finished request, removed from `pending`. */
static bool take_finished(struct control_server *server, struct pending *out)
{
    bool found = false;
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < PENDING_MAX && !found; i++) {
        found = server->pending[i].token && server->pending[i].done;
        if (found) {
            *out = server->pending[i];
            server->pending[i] = (struct pending){0};
        }
    }
    pthread_mutex_unlock(&server->lock);
    return found;
}

static void deliver_finished(struct control_server *server)
{
    struct pending finished;
    while (take_finished(server, &finished)) {
        struct client *client = client_of(server, finished.token);
        if (!client)
            continue;
        client->token = 0;
        set_idle_limit(client, true);
        if (send_outcome(client, finished.rc, finished.text))
            serve_input(client);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    struct control_server *server = context;
    uint64_t count;
    const ssize_t ignored = read(fd, &count, sizeof(count));
    (void)ignored;
    deliver_finished(server);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (server->clients[i].server && server->clients[i].feeding)
            feed(&server->clients[i]);
}

void control_server_complete(struct control_server *server, control_token_t token, int rc,
                             const char *text)
{
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; token && i < PENDING_MAX; i++) {
        struct pending *pending = &server->pending[i];
        if (pending->token != token || pending->done)
            continue;
        pending->done = true;
        pending->rc = rc;
        snprintf(pending->text, sizeof(pending->text), "%s", text);
    }
    pthread_mutex_unlock(&server->lock);
    wake_loop(server);
}

/* Owns the descriptor from here on, unless it fails. */
static struct evconnlistener *start_listening(struct control_server *server, int fd)
{
    return evconnlistener_new(server->base, on_accepted, server,
                              LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
}

static int start_events(struct control_server *server, int fd, struct error *err)
{
    server->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (server->wake_fd < 0)
        return error_set(err, -errno, "control socket: eventfd: %s", strerror(errno));
    server->wake = event_new(server->base, server->wake_fd, EV_READ | EV_PERSIST, on_wake, server);
    if (!server->wake || event_add(server->wake, NULL) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    server->listener = start_listening(server, fd);
    if (!server->listener)
        return error_set(err, -ENOMEM, "out of memory");
    control_events_set_notify(server->events, wake_loop, server);
    return 0;
}

int control_server_create(struct event_base *base, const struct control_server_config *config,
                          struct control_server **out, struct error *err)
{
    struct control_server *server = calloc(1, sizeof(*server));
    if (!server)
        return error_set(err, -ENOMEM, "out of memory");
    server->base = base;
    server->group = config->group;
    server->ops = config->ops;
    server->context = config->context;
    server->events = config->events;
    server->event_file = config->event_file;
    server->wake_fd = -1;
    pthread_mutex_init(&server->lock, NULL);
    server->path = strdup(config->path);
    server->vm = strdup(config->vm);
    int fd = -1;
    int rc = server->path && server->vm ? 0 : error_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = fd = control_listen(config->path, config->group, err);
    if (rc >= 0) {
        server->inode = control_socket_inode(config->path);
        rc = start_events(server, fd, err);
    }
    if (rc < 0) {
        if (!server->listener)
            fd_close(&fd);
        control_server_destroy(&server);
        return rc;
    }
    /* A client that goes away must not end the daemon. */
    signal(SIGPIPE, SIG_IGN);
    *out = server;
    return 0;
}

int control_server_renew(struct control_server *server, struct error *err)
{
    if (control_socket_inode(server->path))
        return 0;
    int fd = control_listen(server->path, server->group, err);
    if (fd < 0)
        return fd;
    struct evconnlistener *listener = start_listening(server, fd);
    if (!listener) {
        control_unlisten(server->path, control_socket_inode(server->path));
        fd_close(&fd);
        return error_set(err, -ENOMEM, "out of memory");
    }
    evconnlistener_free(server->listener);
    server->listener = listener;
    server->inode = control_socket_inode(server->path);
    return 1;
}

void control_server_destroy(struct control_server **out)
{
    struct control_server *server = *out;
    if (!server)
        return;
    *out = NULL;
    control_events_set_notify(server->events, NULL, NULL);
    control_unlisten(server->path, server->inode);
    if (server->listener)
        evconnlistener_free(server->listener);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (server->clients[i].server)
            drop_client(&server->clients[i]);
    if (server->wake)
        event_free(server->wake);
    fd_close(&server->wake_fd);
    pthread_mutex_destroy(&server->lock);
    free(server->path);
    free(server->vm);
    free(server);
}

/* Sends what is left of a client's output, past the loop; gives up at `deadline`. */
static void flush_client(struct client *client, nsec_t deadline)
{
    struct evbuffer *output = bufferevent_get_output(client->stream);
    const int fd = bufferevent_getfd(client->stream);
    evbuffer_unfreeze(output, 1); /* the bufferevent keeps others from draining it */
    while (evbuffer_get_length(output) > 0) {
        if (evbuffer_write(output, fd) > 0)
            continue;
        const nsec_t left = deadline - clock_now();
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        if (errno != EAGAIN || left <= 0 || poll(&writable, 1, (int)(left / MSEC(1)) + 1) <= 0)
            break;
    }
    drop_client(client);
}

void control_server_flush(struct control_server *server, nsec_t timeout)
{
    const nsec_t deadline = clock_now() + timeout;
    deliver_finished(server);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (server->clients[i].server && !server->clients[i].feeding)
            flush_client(&server->clients[i], deadline);
}
