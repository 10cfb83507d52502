/* What a link costs over the bare socket under it: throughput of large frames and the round trip of
 * small ones, over loopback TCP, plain and under TLS, all in one run. Ratios are what counts
 * (DESIGN §9, "Bench").
 *
 *   bench-link [--rdma ADDRESS] [--window MIB] [--only NAME]
 *
 * With an address of an RDMA device (test/bench/rdma_bench.sh) RDMA beside TCP, and less of
 * everything, as that device is emulated. The window is how much memory is sent from, and received
 * into, over and over: 8 MiB is an epoch of 2000 pages, whose staging memory is used again for the
 * next; one that exceeds the processor's caches shows what large epochs do.
 *
 * Every slice of a few hundred frames stands between two of the bare socket, whose mean it is
 * compared with, so that whatever else the machine does hits both; of the rounds' ratios the median
 * and the quartiles are told. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "test/bench/link_bench.h"
#include "transport/bundle.h"
#include "transport/tls.h"
#include "transport/transport.h"

#define ROUNDS_MAX     64
#define WINDOW_MAX     1024
#define HUGE_PAGE_SIZE ((size_t)2 << 20)
#define PAGES_HEADER   2048 /* about what describes a frame's pages */

struct extent extent = {
    .address = "127.0.0.1", .rounds = 41, .frames = 128, .window = 8, .pings = 2000};

static uint8_t *sent, *landed; /* extent.window frames each */
static struct tls_credentials *credentials;

void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench-link: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

struct cost cost_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (struct cost){clock_now(), SEC(ts.tv_sec) + ts.tv_nsec};
}

struct cost cost_since(struct cost start)
{
    const struct cost now = cost_now();
    return (struct cost){now.wall - start.wall, now.cpu - start.cpu};
}

uint8_t *frame_sent(int frame)
{
    return sent + (size_t)(frame % extent.window) * BULK_SIZE;
}

uint8_t *frame_landed(int frame)
{
    return landed + (size_t)(frame % extent.window) * BULK_SIZE;
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
    if (transport_connect(n->uri, credentials, BENCH_TIMEOUT_MS, -1, &n->link, &err) < 0 ||
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
    if (listener_accept(listener, BENCH_TIMEOUT_MS, &pair[1], &err) < 0 ||
        link_establish(pair[1], &err) < 0)
        die("link", &err);
    pthread_join(thread, NULL);
    pair[0] = near.link;
    listener_destroy(&listener);
    for (int i = 0; i < 2; i++) {
        link_set_timeouts(pair[i], BENCH_TIMEOUT_MS, BENCH_TIMEOUT_MS);
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
        link_set_timeouts(pair[i], BENCH_TIMEOUT_MS, BENCH_TIMEOUT_MS);
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
        link_get(argument, frame_landed(i));
    const struct iovec one = {landed, 1};
    link_put(argument, FRAME_CONTROL, &one, 1);
    return NULL;
}

/* How a frame's bytes lie in memory. */
enum layout {
    WHOLE,     /* in one piece */
    RAW_PAGES, /* a header, and pages in one piece: what the checkpoint sends of raw ones */
    SCATTERED, /* each page apart: among others that are sent otherwise */
};

/* Returns the number of parts. */
static int lay_out(enum layout layout, int frame, struct iovec parts[BULK_SIZE / PAGE_SIZE])
{
    static uint8_t header[PAGES_HEADER];
    uint8_t *bytes = frame_sent(frame);
    if (layout == WHOLE) {
        parts[0] = (struct iovec){bytes, BULK_SIZE};
        return 1;
    }
    if (layout == RAW_PAGES) {
        parts[0] = (struct iovec){header, sizeof(header)};
        parts[1] = (struct iovec){bytes, BULK_SIZE - sizeof(header)};
        return 2;
    }
    const int pages = BULK_SIZE / PAGE_SIZE;
    for (int i = 0; i < pages; i++)
        parts[i] = (struct iovec){bytes + (size_t)(i ^ 1) * PAGE_SIZE, PAGE_SIZE};
    return pages;
}

static struct cost link_bulk(const char *scheme, unsigned streams, enum layout layout)
{
    struct link *pair[2] = {NULL, NULL};
    link_streams_pair(scheme, streams, pair);
    link_lend(pair[0], sent, (size_t)extent.window * BULK_SIZE);
    struct iovec parts[BULK_SIZE / PAGE_SIZE];
    pthread_t thread;
    pthread_create(&thread, NULL, link_sink, pair[1]);
    const struct cost start = cost_now();
    for (int i = 0; i < extent.frames; i++)
        link_put(pair[0], FRAME_PAGES, parts, lay_out(layout, i, parts));
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

static struct cost digest_bulk(void)
{
    const struct cost start = cost_now();
    uint64_t sum = 0;
    for (int i = 0; i < extent.frames; i++) {
        const struct iovec part = {frame_sent(i), BULK_SIZE};
        sum ^= frame_digest(&part, 1) + (uint64_t)i;
    }
    const struct cost took = cost_since(start);
    if (sum == 0)
        printf("digests cancelled out\n"); /* keeps the loop from being optimised away */
    return took;
}

/* A way to move the frames: by a link, or by `other`. */
struct way {
    const char *name, *scheme;
    unsigned streams;
    enum layout layout;
    struct cost (*other)(void);
};

static const struct way ways[] = {
    {"socket again", .other = raw_bulk},
    {"socket, set alike", .other = raw_bulk_set_alike},
    {"socket, zero copy", .other = raw_bulk_zero_copy},
    {"tcp, in one piece", "tcp", 1, WHOLE, NULL},
    {"tcp", "tcp", 1, RAW_PAGES, NULL},
    {"tcp, scattered", "tcp", 1, SCATTERED, NULL},
    {"tcp, 2 streams", "tcp", 2, RAW_PAGES, NULL},
    {"tcp, 4 streams", "tcp", 4, RAW_PAGES, NULL},
    {"tls", "tls", 1, RAW_PAGES, NULL},
    {"tls, 2 streams", "tls", 2, RAW_PAGES, NULL},
    {"tls, 4 streams", "tls", 4, RAW_PAGES, NULL},
    {"rdma", "rdma", 1, RAW_PAGES, NULL},
    {"rdma+tls", "rdma+tls", 1, RAW_PAGES, NULL},
    {"(one digest)", .other = digest_bulk},
};

static bool wanted(const struct way *way)
{
    if (extent.only && strncmp(way->name, extent.only, strlen(extent.only)) != 0)
        return false;
    return extent.rdma || !way->scheme || strncmp(way->scheme, "rdma", 4) != 0;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double quantile(double *values, int count, double fraction)
{
    qsort(values, (size_t)count, sizeof(*values), compare);
    return values[(int)(fraction * (count - 1) + 0.5)];
}

/* What a way did in each round. */
struct record {
    double rate[ROUNDS_MAX];       /* MiB/s */
    double rate_ratio[ROUNDS_MAX]; /* to the mean of the socket right before and right after */
    double cpu[ROUNDS_MAX];        /* us/MiB */
    double cpu_ratio[ROUNDS_MAX];
};

static void keep(struct record *record, int round, struct cost cost, struct cost before,
                 struct cost after)
{
    const double mib = (double)extent.frames * BULK_SIZE / (1 << 20);
    record->rate[round] = mib / ((double)cost.wall / 1e9);
    record->cpu[round] = (double)cost.cpu / 1e3 / mib;
    record->rate_ratio[round] = (double)(before.wall + after.wall) / 2 / (double)cost.wall;
    record->cpu_ratio[round] = (double)cost.cpu / ((double)(before.cpu + after.cpu) / 2);
}

static void report_bulk(void)
{
    static struct record records[ARRAY_SIZE(ways)];
    const int n = extent.rounds;
    for (int round = 0; round < n; round++) {
        struct cost before = raw_bulk();
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
            if (!wanted(&ways[w]))
                continue;
            const struct cost cost =
                ways[w].other ? ways[w].other()
                              : link_bulk(ways[w].scheme, ways[w].streams, ways[w].layout);
            const struct cost after = raw_bulk();
            keep(&records[w], round, cost, before, after);
            before = after;
        }
    }
    printf("1 MiB frames, %d rounds of %d; each beside a socket right before and right after it\n"
           "                     MiB/s   of the socket: p25  p50  p75   cpu us/MiB   times the "
           "socket's\n",
           n, extent.frames);
    for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
        struct record *r = &records[w];
        if (wanted(&ways[w]))
            printf("  %-17s %7.0f                 %5.2f %4.2f %4.2f   %10.1f   %.2f\n",
                   ways[w].name, quantile(r->rate, n, 0.5), quantile(r->rate_ratio, n, 0.25),
                   quantile(r->rate_ratio, n, 0.5), quantile(r->rate_ratio, n, 0.75),
                   quantile(r->cpu, n, 0.5), quantile(r->cpu_ratio, n, 0.5));
    }
}

static void report_ping(void)
{
    static const char *const schemes[] = {"tcp", "tls", "rdma", "rdma+tls"};
    const size_t count = extent.rdma ? ARRAY_SIZE(schemes) : ARRAY_SIZE(schemes) - 2;
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

/* As staging memory is: on a boundary of huge pages, and made of them where the kernel has some. */
static uint8_t *map_window(void)
{
    const size_t size = (size_t)extent.window * BULK_SIZE;
    uint8_t *memory = aligned_alloc(HUGE_PAGE_SIZE, size + HUGE_PAGE_SIZE - size % HUGE_PAGE_SIZE);
    if (!memory)
        die("memory", NULL);
    madvise(memory, size, MADV_HUGEPAGE);
    for (size_t i = 0; i < size; i++)
        memory[i] = (uint8_t)(i * 2654435761u >> 13);
    return memory;
}

static int usage(void)
{
    fprintf(stderr, "usage: bench-link [--rdma ADDRESS] [--window MIB] [--only NAME]\n");
    return 2;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--rdma") == 0) {
            extent.address = value;
            extent.rdma = true;
            extent.rounds = 3;
            extent.frames = 32;
            extent.pings = 500;
        } else if (value && strcmp(argv[i], "--window") == 0) {
            extent.window = atoi(value);
            if (extent.window < 1 || extent.window > WINDOW_MAX)
                return usage();
        } else if (value && strcmp(argv[i], "--only") == 0) {
            extent.only = value;
        } else {
            return usage();
        }
    }
    sent = map_window();
    landed = map_window();
    make_credentials();
    report_bulk();
    if (!extent.only)
        report_ping();
    tls_credentials_destroy(&credentials);
    free(sent);
    free(landed);
    return 0;
}
