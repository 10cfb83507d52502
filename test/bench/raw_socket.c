/* Bare TCP sockets with the system's own buffers: what links are compared with. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "test/bench/link_bench.h"
#include "transport/frame.h"
#include "transport/tcp.h"

struct raw_pair {
    int near, far;
};

static struct raw_pair raw_connect(void)
{
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, extent.address, &address.sin_addr);
    socklen_t length = sizeof(address);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        die("listen", NULL);
    struct raw_pair pair = {.near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (pair.near < 0 || connect(pair.near, (struct sockaddr *)&address, length) < 0 ||
        (pair.far = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        die("connect", NULL);
    close(listener);
    const int on = 1;
    setsockopt(pair.near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(pair.far, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return pair;
}

static void *raw_sink(void *argument)
{
    const struct raw_pair *pair = argument;
    for (int i = 0; i < extent.frames; i++)
        if (fd_read_all(pair->far, frame_landed(i), BULK_SIZE) < 0)
            die("raw read", NULL);
    const uint8_t done = 1;
    if (fd_write_all(pair->far, &done, 1) < 0)
        die("raw write", NULL);
    return NULL;
}

/* Waits until the kernel has told of `count` sends that it needs their memory no more. */
static void await_zero_copies(int fd, unsigned count)
{
    for (unsigned done = 0; done < count;) {
        union {
            struct cmsghdr align;
            char bytes[128];
        } control;
        struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof(control)};
        struct pollfd errors = {.fd = fd};
        if (poll(&errors, 1, BENCH_TIMEOUT_MS) != 1 || recvmsg(fd, &message, MSG_ERRQUEUE) < 0)
            die("MSG_ERRQUEUE", NULL);
        const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        struct sock_extended_err told;
        memcpy(&told, CMSG_DATA(c), sizeof(told));
        done += told.ee_data - told.ee_info + 1;
    }
}

/* Sends a frame's worth of pages from where they lie, and waits until they may be written again. */
static void put_zero_copy(int fd, const uint8_t *frame)
{
    unsigned calls = 0;
    for (size_t at = 0; at < BULK_SIZE; calls++) {
        const ssize_t n = send(fd, frame + at, BULK_SIZE - at, MSG_ZEROCOPY | MSG_NOSIGNAL);
        if (n < 0)
            die("MSG_ZEROCOPY", NULL);
        at += (size_t)n;
    }
    await_zero_copies(fd, calls);
}

static struct cost move(bool zero_copy, int unsent)
{
    struct raw_pair pair = raw_connect();
    const int on = zero_copy;
    if (setsockopt(pair.near, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0)
        die("SO_ZEROCOPY", NULL);
    if (unsent &&
        setsockopt(pair.near, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent)) < 0)
        die("TCP_NOTSENT_LOWAT", NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, raw_sink, &pair);
    const struct cost start = cost_now();
    for (int i = 0; i < extent.frames; i++)
        if (zero_copy)
            put_zero_copy(pair.near, frame_sent(i));
        else if (fd_write_all(pair.near, frame_sent(i), BULK_SIZE) < 0)
            die("raw write", NULL);
    uint8_t done;
    fd_read_all(pair.near, &done, 1);
    const struct cost took = cost_since(start);
    pthread_join(thread, NULL);
    fd_close(&pair.near);
    fd_close(&pair.far);
    return took;
}

struct cost raw_bulk(void)
{
    return move(false, 0);
}

struct cost raw_bulk_set_alike(void)
{
    return move(false, TCP_UNSENT_MAX);
}

struct cost raw_bulk_zero_copy(void)
{
    return move(true, 0);
}

static void *raw_echo(void *argument)
{
    const struct raw_pair *pair = argument;
    uint8_t bytes[FRAME_HEADER_SIZE + PING_SIZE];
    for (int i = 0; i < extent.pings; i++)
        if (fd_read_all(pair->far, bytes, sizeof(bytes)) < 0 ||
            fd_write_all(pair->far, bytes, sizeof(bytes)) < 0)
            die("raw echo", NULL);
    return NULL;
}

void raw_ping(struct histogram *times)
{
    struct raw_pair pair = raw_connect();
    pthread_t thread;
    pthread_create(&thread, NULL, raw_echo, &pair);
    uint8_t bytes[FRAME_HEADER_SIZE + PING_SIZE] = {0};
    for (int i = 0; i < extent.pings; i++) {
        const nsec_t start = clock_now();
        if (fd_write_all(pair.near, bytes, sizeof(bytes)) < 0 ||
            fd_read_all(pair.near, bytes, sizeof(bytes)) < 0)
            die("raw ping", NULL);
        histogram_add(times, clock_now() - start);
    }
    pthread_join(thread, NULL);
    fd_close(&pair.near);
    fd_close(&pair.far);
}
