/* What a link costs over the bare socket under it: throughput of large frames and the round trip of
 * small ones, over loopback TCP, plain and under TLS, all in one run. Ratios are what counts
 * (DESIGN §9, "Bench").
 *
 * They are interleaved in rounds, so that a change of the machine's mood hits all, and the best
 * round of each is compared. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

#define ROUNDS      7
#define BULK_FRAMES 256
#define BULK_SIZE   (1u << 20)
#define PINGS       5000
#define PING_SIZE   24 /* about what an EpochAck and its likes have */

/* Wall time, and processor time of both ends together: the second is steady on a busy machine. */
struct cost {
    nsec_t wall;
    nsec_t cpu;
};

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
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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
    for (int i = 0; i < BULK_FRAMES; i++)
        if (fd_read_all(pair->far, landed, BULK_SIZE) < 0)
            die("raw read", NULL);
    if (fd_write_all(pair->far, landed, 1) < 0)
        die("raw write", NULL);
    return NULL;
}

static struct cost raw_bulk(void)
{
    struct raw_pair pair = raw_connect();
    pthread_t thread;
    pthread_create(&thread, NULL, raw_sink, &pair);
    const struct cost start = cost_now();
    for (int i = 0; i < BULK_FRAMES; i++)
        if (fd_write_all(pair.near, bulk, BULK_SIZE) < 0)
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
    for (int i = 0; i < PINGS; i++)
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
    for (int i = 0; i < PINGS; i++) {
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

static void *establish_far(void *link)
{
    struct error err = {0};
    if (link_establish(link, &err) < 0)
        die("link", &err);
    return NULL;
}

static void link_pair(const char *scheme, struct link *pair[2])
{
    struct listener *listener = NULL;
    struct error err = {0};
    char uri[64];
    pthread_t thread;
    snprintf(uri, sizeof(uri), "%s://127.0.0.1:0", scheme);
    if (transport_listen(uri, credentials, &listener, &err) < 0 ||
        transport_connect(listener_uri(listener), credentials, 1000, -1, &pair[0], &err) < 0 ||
        listener_accept(listener, 1000, &pair[1], &err) < 0)
        die("link", &err);
    listener_destroy(&listener);
    link_set_timeouts(pair[0], 10000, 10000);
    link_set_timeouts(pair[1], 10000, 10000);
    pthread_create(&thread, NULL, establish_far, pair[1]);
    if (link_establish(pair[0], &err) < 0)
        die("link", &err);
    pthread_join(thread, NULL);
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
        link_set_timeouts(pair[i], 10000, 10000);
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
    for (int i = 0; i < BULK_FRAMES; i++)
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
    struct iovec pieces[BULK_SIZE / PAGE_SIZE];
    const size_t piece = BULK_SIZE / (size_t)parts;
    for (int i = 0; i < parts; i++)
        pieces[i] = (struct iovec){bulk + (size_t)i * piece, piece};
    pthread_t thread;
    pthread_create(&thread, NULL, link_sink, pair[1]);
    const struct cost start = cost_now();
    for (int i = 0; i < BULK_FRAMES; i++)
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
    for (int i = 0; i < PINGS; i++) {
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
    for (int i = 0; i < PINGS; i++) {
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
    for (int i = 0; i < BULK_FRAMES; i++)
        sum ^= frame_digest(&part, 1) + (uint64_t)i;
    const struct cost took = cost_since(start);
    if (sum == 0)
        printf("digests cancelled out\n"); /* keeps the loop from being optimised away */
    return took;
}

static void print_cost(const char *what, struct cost cost, struct cost base)
{
    const double mib = (double)BULK_FRAMES * BULK_SIZE / (1 << 20);
    printf("  %-16s %8.0f MiB/s  %5.2f of the socket   cpu %6.1f us/MiB  %5.2f times\n", what,
           mib / ((double)cost.wall / 1e9), (double)base.wall / (double)cost.wall,
           (double)cost.cpu / 1e3 / mib, (double)cost.cpu / (double)base.cpu);
}

static void report_bulk(void)
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
    };
    struct cost raw = {0}, digest = {0}, links[ARRAY_SIZE(kinds)] = {{0}};
    for (int i = 0; i < ROUNDS; i++) {
        keep_lower(&raw, raw_bulk());
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
            keep_lower(&links[k], link_bulk(kinds[k].scheme, kinds[k].streams, kinds[k].parts));
        keep_lower(&digest, digest_bulk());
    }
    printf("1 MiB frames, best of %d rounds of %d\n", ROUNDS, BULK_FRAMES);
    print_cost("socket", raw, raw);
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
        print_cost(kinds[k].name, links[k], raw);
    print_cost("(one digest)", digest, raw);
}

static void report_ping(void)
{
    static const char *const schemes[] = {"tcp", "tls"};
    struct histogram *raw = calloc(1, sizeof(*raw));
    struct histogram *links = calloc(ARRAY_SIZE(schemes), sizeof(*links));
    for (int i = 0; i < ROUNDS; i++) {
        raw_ping(raw);
        for (size_t k = 0; k < ARRAY_SIZE(schemes); k++)
            link_ping(schemes[k], &links[k]);
    }
    printf("round trip of %d bytes of payload, %d of each\n", PING_SIZE, ROUNDS * PINGS);
    static const double points[] = {0.5, 0.99};
    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        const nsec_t r = histogram_percentile(raw, points[i]);
        printf("  p%-2.0f  socket %7.1f us", points[i] * 100, (double)r / 1e3);
        for (size_t k = 0; k < ARRAY_SIZE(schemes); k++) {
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

int main(void)
{
    bulk = malloc(BULK_SIZE);
    landed = malloc(BULK_SIZE);
    if (!bulk || !landed)
        die("memory", NULL);
    for (size_t i = 0; i < BULK_SIZE; i++)
        bulk[i] = (uint8_t)(i * 2654435761u >> 13);
    make_credentials();
    report_bulk();
    report_ping();
    tls_credentials_destroy(&credentials);
    free(bulk);
    free(landed);
    return 0;
}
