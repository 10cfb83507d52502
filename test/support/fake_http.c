#include "test/support/fake_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX 65536

struct fake_http {
    fake_http_handler handler;
    void *context;
    int listener;
    int stop_fd;
    char url[64];
    pthread_t thread;
    char request[REQUEST_MAX + 1];
    char reply[FAKE_HTTP_MAX];
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    perror(what);
    abort();
}

/* False when the server is to stop. */
static bool wait_readable(const struct fake_http *s, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0)
        ;
    return !fds[1].revents;
}

/* The whole request; its body, or NULL when the client went or the server is to stop. */
static const char *receive(struct fake_http *s, int fd)
{
    size_t size = 0;
    while (size < REQUEST_MAX && wait_readable(s, fd)) {
        const ssize_t n = read(fd, s->request + size, REQUEST_MAX - size);
        if (n <= 0)
            return NULL;
        size += (size_t)n;
        s->request[size] = '\0';
        const char *end = strstr(s->request, "\r\n\r\n");
        const char *length = strcasestr(s->request, "Content-Length:");
        if (end && length && strlen(end + 4) >= strtoul(length + 15, NULL, 10))
            return end + 4;
    }
    return NULL;
}

static void serve(struct fake_http *s, int fd)
{
    char path[128];
    const char *body = receive(s, fd);
    if (!body || sscanf(s->request, "POST %127s", path) != 1)
        return;
    const long size = s->handler(s->context, path, body, s->reply);
    for (long sent = 0; sent < size;) {
        const ssize_t n = send(fd, s->reply + sent, (size_t)(size - sent), MSG_NOSIGNAL);
        if (n <= 0)
            return;
        sent += n;
    }
    if (size < 0)
        wait_readable(s, fd);
}

static void *run(void *context)
{
    struct fake_http *s = context;
    while (wait_readable(s, s->listener)) {
        const int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        serve(s, fd);
        close(fd);
    }
    return NULL;
}

struct fake_http *fake_http_start(fake_http_handler handler, void *context)
{
    struct fake_http *s = calloc(1, sizeof(*s));
    require(s != NULL, "memory");
    s->handler = handler;
    s->context = context;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    require(s->listener >= 0 && s->stop_fd >= 0 &&
                bind(s->listener, (struct sockaddr *)&address, size) == 0 &&
                listen(s->listener, 8) == 0 &&
                getsockname(s->listener, (struct sockaddr *)&address, &size) == 0,
            "fake server");
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    require(pthread_create(&s->thread, NULL, run, s) == 0, "thread");
    return s;
}

void fake_http_stop(struct fake_http **server)
{
    struct fake_http *s = *server;
    require(eventfd_write(s->stop_fd, 1) == 0, "stop");
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->stop_fd);
    free(s);
    *server = NULL;
}

const char *fake_http_url(const struct fake_http *server)
{
    return server->url;
}

long fake_http_reply(char *reply, int status, const char *body)
{
    return snprintf(reply, FAKE_HTTP_MAX,
                    "HTTP/1.1 %d Said\r\nContent-Length: %zu\r\nLocation: http://127.0.0.1:1/\r\n"
                    "Connection: close\r\n\r\n%s",
                    status, strlen(body), body);
}
