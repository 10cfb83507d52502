/* What a link costs over the bare socket under it: throughput of large frames and the round trip of
 * small ones, over loopback TCP, plain and under TLS, all in one run. Ratios are what counts
 * (DESIGN §9, "Bench").
 *
 *   bench-link [--rdma ADDRESS]
 *
 * With an address of an RDMA device (test/bench/rdma_bench.sh) RDMA beside TCP, and less of
 * everything, as that device is emulated.
 *
 * They are interleaved in rounds, so that a change of the machine's mood hits all, and the best
 * round of each is compared. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/histogram.h"
#include "transport/bundle.h"
#include "transport/tls.h"
#include "transport/transport.h"

#define BULK_SIZE  (1u << 20)
#define TIMEOUT_MS 10000
#define PING_SIZE  24 /* about what an EpochAck and its likes have */

/* Wall time, and processor time of both ends together: the second is steady on a busy machine. */
struct cost {
    nsec_t wall;
    nsec_t cpu;
};

/* How much is measured, and where. */
static struct {
    const char *address;
    int rounds, frames, pings;
} extent = {"127.0.0.1", 7, 256, 5000};

static uint8_t *bulk;   /* what is sent */
static uint8_t *landed; /* where it is received */
static struct tls_credentials *credentials;

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "link_bench: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

static struct cost cost_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (struct cost){clock_now(), SEC(ts.tv_sec) + ts.tv_nsec};
}

static struct cost cost_since(struct cost start)
{
    const struct cost now = cost_now();
    return (struct cost){now.wall - start.wall, now.cpu - start.cpu};
}

/* --- the bare socket --- */

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
        if (fd_read_all(pair->far, landed, BULK_SIZE) < 0)
            die("raw read", NULL);
    if (fd_write_all(pair->far, landed, 1) < 0)
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
        if (poll(&errors, 1, TIMEOUT_MS) != 1 || recvmsg(fd, &message, MSG_ERRQUEUE) < 0)
            die("MSG_ERRQUEUE", NULL);
        const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        struct sock_extended_err told;
        memcpy(&told, CMSG_DATA(c), sizeof(told));
        done += told.ee_data - told.ee_info + 1;
    }
}

/* Sends a frame's worth of pages from where they lie, and waits until they may be written again. */
static void put_zero_copy(int fd)
{
    unsigned calls = 0;
    for (size_t at = 0; at < BULK_SIZE; calls++) {
        const ssize_t n = send(fd, bulk + at, BULK_SIZE - at, MSG_ZEROCOPY | MSG_NOSIGNAL);
        if (n < 0)
            die("MSG_ZEROCOPY", NULL);
        at += (size_t)n;
    }
    await_zero_copies(fd, calls);
}

static struct cost raw_bulk(bool zero_copy)
{
    struct raw_pair pair = raw_connect();
    const int on = zero_copy;
    if (setsockopt(pair.near, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0)
        die("SO_ZEROCOPY", NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, raw_sink, &pair);
    const struct cost start = cost_now();
    for (int i = 0; i < extent.frames; i++)
        if (zero_copy)
            put_zero_copy(pair.near);
        else if (fd_write_all(pair.near, bulk, BULK_SIZE) < 0)
            die("raw write", NULL);
    uint8_t done;
    fd_read_all(pair.near, &done, 1);
    const struct cost took = cost_since(start);
    pthread_join(thread, NULL);
    fd_close(&pair.near);
    fd_close(&pair.far);
    return took;
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

static void raw_ping(struct histogram *times)
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

/* --- the link --- */

struct near {
    const char *uri;
    struct link *link;
};

static void *connect_near(void *argument)
{
    struct near *n = argument;
    struct error err = {0};
    if (transport_connect(n->uri, credentials, TIMEOUT_MS, -1, &n->link, &err) < 0 ||
        link_establish(n->link, &err) < 0)
        die("link", &err);
    return NULL;
}

static void link_pair(const char *scheme, struct link *pair[2])
{
    struct listener *listener = NULL;
    struct error err = {0};
    char uri[64];
    pthread_t thread;
    snprintf(uri, sizeof(uri), "%s://%s:0", scheme, extent.address);
    if (transport_listen(uri, credentials, &listener, &err) < 0)
        die("link", &err);
    struct near near = {.uri = listener_uri(listener)};
    pthread_create(&thread, NULL, connect_near, &near);
    if (listener_accept(listener, TIMEOUT_MS, &pair[1], &err) < 0 ||
        link_establish(pair[1], &err) < 0)
        die("link", &err);
    pthread_join(thread, NULL);
    pair[0] = near.link;
    listener_destroy(&listener);
    for (int i = 0; i < 2; i++) {
        link_set_timeouts(pair[i], TIMEOUT_MS, TIMEOUT_MS);
        link_trust(pair[i]); /* as after the handshake of a session */
    }
}

/* Several connections as one. */
static void link_streams_pair(const char *scheme, unsigned streams, struct link *pair[2])
{
    struct link *near[BUNDLE_MAX], *far[BUNDLE_MAX];
    struct error err = {0};
    for (unsigned i = 0; i < streams; i++) {
        link_pair(scheme, pair);
        near[i] = pair[0];
        far[i] = pair[1];
    }
    if (streams > 1 && (bundle_create(near, streams, &pair[0], &err) < 0 ||
                        bundle_create(far, streams, &pair[1], &err) < 0))
        die("streams", &err);
    for (int i = 0; i < 2; i++)
        link_set_timeouts(pair[i], TIMEOUT_MS, TIMEOUT_MS);
}

static void link_get(struct link *link, void *buffer)
{
    struct frame header;
    struct error err = {0};
    if (link_receive_header(link, &header, &err) < 0 ||
        link_receive_payload(link, buffer, header.size, &err) < 0)
        die("receive", &err);
}

static void link_put(struct link *link, enum frame_type type, const struct iovec *parts, int count)
{
    const struct frame fields = {.type = type, .term = 1, .epoch = 1};
    struct error err = {0};
    if (link_send(link, &fields, parts, count, &err) < 0)
        die("send", &err);
}

static void *link_sink(void *argument)
{
    for (int i = 0; i < extent.frames; i++)
        link_get(argument, landed);
    const struct iovec one = {landed, 1};
    link_put(argument, FRAME_CONTROL, &one, 1);
    return NULL;
}

/* `parts` pieces per frame: 1, or one for each page as the checkpoint sends them. */
static struct cost link_bulk(const char *scheme, unsigned streams, int parts)
{
    struct link *pair[2] = {NULL, NULL};
    link_streams_pair(scheme, streams, pair);
    link_lend(pair[0], bulk, BULK_SIZE);
    struct iovec pieces[BULK_SIZE / PAGE_SIZE];
    const size_t piece = BULK_SIZE / (size_t)parts;
    for (int i = 0; i < parts; i++)
        pieces[i] = (struct iovec){bulk + (size_t)i * piece, piece};
    pthread_t thread;
    pthread_create(&thread, NULL, link_sink, pair[1]);
    const struct cost start = cost_now();
    for (int i = 0; i < extent.frames; i++)
        link_put(pair[0], FRAME_PAGES, pieces, parts);
    uint8_t done;
    link_get(pair[0], &done);
    const struct cost took = cost_since(start);
    pthread_join(thread, NULL);
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
    return took;
}

static void *link_echo(void *argument)
{
    uint8_t bytes[PING_SIZE];
    const struct iovec part = {bytes, sizeof(bytes)};
    for (int i = 0; i < extent.pings; i++) {
        link_get(argument, bytes);
        link_put(argument, FRAME_CONTROL, &part, 1);
    }
    return NULL;
}

static void link_ping(const char *scheme, struct histogram *times)
{
    struct link *pair[2];
    link_pair(scheme, pair);
    pthread_t thread;
    pthread_create(&thread, NULL, link_echo, pair[1]);
    uint8_t bytes[PING_SIZE] = {0};
    const struct iovec part = {bytes, sizeof(bytes)};
    for (int i = 0; i < extent.pings; i++) {
        const nsec_t start = clock_now();
        link_put(pair[0], FRAME_CONTROL, &part, 1);
        link_get(pair[0], bytes);
        histogram_add(times, clock_now() - start);
    }
    pthread_join(thread, NULL);
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
}

/* --- report --- */

static void keep_lower(struct cost *best, struct cost now)
{
    if (!best->wall || now.wall < best->wall)
        best->wall = now.wall;
    if (!best->cpu || now.cpu < best->cpu)
        best->cpu = now.cpu;
}

static struct cost digest_bulk(void)
{
    const struct iovec part = {bulk, BULK_SIZE};
    const struct cost start = cost_now();
    uint64_t sum = 0;
    for (int i = 0; i < extent.frames; i++)
        sum ^= frame_digest(&part, 1) + (uint64_t)i;
    const struct cost took = cost_since(start);
    if (sum == 0)
        printf("digests cancelled out\n"); /* keeps the loop from being optimised away */
    return took;
}

static void print_cost(const char *what, struct cost cost, struct cost base)
{
    const double mib = (double)extent.frames * BULK_SIZE / (1 << 20);
    printf("  %-17s %8.0f MiB/s  %5.2f of the socket   cpu %6.1f us/MiB  %5.2f times\n", what,
           mib / ((double)cost.wall / 1e9), (double)base.wall / (double)cost.wall,
           (double)cost.cpu / 1e3 / mib, (double)cost.cpu / (double)base.cpu);
}

static void report_bulk(bool rdma)
{
    static const struct {
        const char *name, *scheme;
        unsigned streams;
        int parts;
    } kinds[] = {
        {"tcp, 1 part", "tcp", 1, 1},
        {"tcp, 256 pages", "tcp", 1, BULK_SIZE / PAGE_SIZE},
        {"tcp, 2 streams", "tcp", 2, BULK_SIZE / PAGE_SIZE},
        {"tcp, 4 streams", "tcp", 4, BULK_SIZE / PAGE_SIZE},
        {"tls, 256 pages", "tls", 1, BULK_SIZE / PAGE_SIZE},
        {"tls, 2 streams", "tls", 2, BULK_SIZE / PAGE_SIZE},
        {"tls, 4 streams", "tls", 4, BULK_SIZE / PAGE_SIZE},
        {"rdma, 256 pages", "rdma", 1, BULK_SIZE / PAGE_SIZE},
        {"rdma+tls", "rdma+tls", 1, BULK_SIZE / PAGE_SIZE},
    };
    const size_t count = rdma ? ARRAY_SIZE(kinds) : ARRAY_SIZE(kinds) - 2;
    struct cost raw = {0}, zero_copy = {0}, digest = {0}, links[ARRAY_SIZE(kinds)] = {{0}};
    for (int i = 0; i < extent.rounds; i++) {
        keep_lower(&raw, raw_bulk(false));
        keep_lower(&zero_copy, raw_bulk(true));
        for (size_t k = 0; k < count; k++)
            keep_lower(&links[k], link_bulk(kinds[k].scheme, kinds[k].streams, kinds[k].parts));
        keep_lower(&digest, digest_bulk());
    }
    printf("1 MiB frames, best of %d rounds of %d\n", extent.rounds, extent.frames);
    print_cost("socket", raw, raw);
    print_cost("socket, zero copy", zero_copy, raw);
    for (size_t k = 0; k < count; k++)
        print_cost(kinds[k].name, links[k], raw);
    print_cost("(one digest)", digest, raw);
}

static void report_ping(bool rdma)
{
    static const char *const schemes[] = {"tcp", "tls", "rdma", "rdma+tls"};
    const size_t count = rdma ? ARRAY_SIZE(schemes) : ARRAY_SIZE(schemes) - 2;
    struct histogram *raw = calloc(1, sizeof(*raw));
    struct histogram *links = calloc(ARRAY_SIZE(schemes), sizeof(*links));
    for (int i = 0; i < extent.rounds; i++) {
        raw_ping(raw);
        for (size_t k = 0; k < count; k++)
            link_ping(schemes[k], &links[k]);
    }
    printf("round trip of %d bytes of payload, %d of each\n", PING_SIZE,
           extent.rounds * extent.pings);
    static const double points[] = {0.5, 0.99};
    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        const nsec_t r = histogram_percentile(raw, points[i]);
        printf("  p%-2.0f  socket %7.1f us", points[i] * 100, (double)r / 1e3);
        for (size_t k = 0; k < count; k++) {
            const nsec_t l = histogram_percentile(&links[k], points[i]);
            printf("   %s %7.1f us  %.2f times", schemes[k], (double)l / 1e3,
                   (double)l / (double)r);
        }
        printf("\n");
    }
    free(raw);
    free(links);
}

static void make_credentials(void)
{
    uint8_t key[KEY_SIZE];
    struct error err = {0};
    const struct tls_config config = {.key = key, .kernel = true};
    memset(key, 1, sizeof(key));
    if (tls_credentials_create(&config, &credentials, &err) < 0)
        die("credentials", &err);
}

int main(int argc, char **argv)
{
    const bool rdma = argc == 3 && strcmp(argv[1], "--rdma") == 0;
    if (rdma) {
        extent.address = argv[2];
        extent.rounds = 3;
        extent.frames = 32;
        extent.pings = 500;
    } else if (argc != 1) {
        fprintf(stderr, "usage: bench-link [--rdma ADDRESS]\n");
        return 2;
    }
    bulk = malloc(BULK_SIZE);
    landed = malloc(BULK_SIZE);
    if (!bulk || !landed)
        die("memory", NULL);
    for (size_t i = 0; i < BULK_SIZE; i++)
        bulk[i] = (uint8_t)(i * 2654435761u >> 13);
    make_credentials();
    report_bulk(rdma);
    report_ping(rdma);
    tls_credentials_destroy(&credentials);
    free(bulk);
    free(landed);
    return 0;
}
