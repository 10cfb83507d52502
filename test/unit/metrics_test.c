/* The text for Prometheus, its reference, and its server under clumsy and hostile clients.
 * KEMARI_UPDATE_GOLDEN=1 writes docs/metrics.md anew. */
#include <errno.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/metrics.h"
#include "control/metrics_server.h"
#include "test/support/control_sample.h"
#include "test/support/runner.h"

#define SHOWN_MAX (256 << 10)

static char *print_sample(void)
{
    struct control_metrics *metrics = calloc(1, sizeof(*metrics));
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!metrics || !out)
        abort();
    control_sample_protected(&metrics->status);
    snprintf(metrics->status.vm, sizeof(metrics->status.vm), "a\"b\\c\nd");
    for (int i = 1; i <= 100; i++)
        histogram_add(&metrics->pause, USEC(10 * i));
    histogram_add(&metrics->dirty, 7);
    metrics->cut_count = 1;
    metrics->cuts[0] = (struct control_cut){"output", 12};
    control_metrics_print(metrics, out);
    fclose(out);
    free(metrics);
    return text;
}

#define VM "{vm=\"a\\\"b\\\\c\\nd\""

static void every_kind_of_value_is_printed_as_prometheus_reads_it(void)
{
    static const char *const lines[] = {
        "# HELP kemari_protected 1: a failure of either host now loses nothing.\n"
        "# TYPE kemari_protected gauge\nkemari_protected" VM "} 1\n",
        "kemari_role" VM ",role=\"primary\"} 1\n",
        "kemari_role" VM ",role=\"secondary\"} 0\n",
        "kemari_throttled_seconds_total" VM "} ",
        "kemari_takeover_seconds" VM "} 0.004100000\n",
        "kemari_heartbeat_path_up" VM ",local=\"[fd00::1]:7001\",remote=\"[fd00::2]:7001\"} 1\n",
        "kemari_cuts_total" VM ",trigger=\"output\"} 12\n",
        "kemari_pages_total" VM ",encoding=\"delta\"} 23000000\n",
        "# TYPE kemari_pause_seconds histogram\n",
        "kemari_pause_seconds_bucket" VM ",le=\"+Inf\"} 100\n",
        "kemari_pause_seconds_sum" VM "} 0.050500000\n",
        "kemari_pause_seconds_count" VM "} 100\n",
        "kemari_dirty_pages_bucket" VM ",le=\"4\"} 0\n",
        "kemari_dirty_pages_bucket" VM ",le=\"16\"} 1\n",
        "kemari_dirty_pages_sum" VM "} 7\n",
    };
    char *text = print_sample();
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (!strstr(text, lines[i])) {
            fprintf(stderr, "missing: %s", lines[i]);
            CU_FAIL("a line is missing");
        }
    free(text);
}

static void buckets_never_fall_and_end_with_the_count(void)
{
    char *text = print_sample();
    unsigned long long last = 0, seen = 0, value = 0;
    for (const char *at = text; (at = strstr(at, "kemari_pause_seconds_bucket")) != NULL; at++) {
        CU_ASSERT_EQUAL(sscanf(strchr(at, '}'), "} %llu", &value), 1);
        CU_ASSERT(value >= last);
        last = value;
        seen++;
    }
    CU_ASSERT_EQUAL(last, 100);
    CU_ASSERT_EQUAL(seen, 17);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "le=\"0.0001\"} "));
    free(text);
}

static void samples_are_counted_up_to_a_bound(void)
{
    struct histogram *h = calloc(1, sizeof(*h));
    for (int i = 1; i <= 100; i++)
        histogram_add(h, USEC(10 * i));
    CU_ASSERT_EQUAL(histogram_count_up_to(h, 0), 0);
    CU_ASSERT_EQUAL(histogram_count_up_to(h, SEC(1)), 100);
    const uint64_t half = histogram_count_up_to(h, USEC(500));
    CU_ASSERT(half >= 48 && half <= 50);
    free(h);
}

static void the_committed_reference_is_what_the_table_says(void)
{
    static char committed[65536];
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    control_metrics_print_markdown(out);
    fclose(out);
    const char *path = SOURCE_DIR "/docs/metrics.md";
    if (getenv("KEMARI_UPDATE_GOLDEN")) {
        FILE *file = fopen(path, "we");
        CU_ASSERT_PTR_NOT_NULL_FATAL(file);
        fputs(text, file);
        fclose(file);
    }
    FILE *file = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    committed[fread(committed, 1, sizeof(committed) - 1, file)] = '\0';
    fclose(file);
    CU_ASSERT_STRING_EQUAL(text, committed);
    free(text);
}

/* ---- the server ---- */

static void print_hello(void *context, FILE *out)
{
    (void)context;
    fputs("hello 1\n", out);
}

static struct metrics_server *serve(void)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct metrics_server_config config = {.address = (const struct sockaddr *)&address,
                                                 .length = sizeof(address),
                                                 .idle_seconds = 1,
                                                 .print = print_hello};
    struct metrics_server *server = NULL;
    struct error err = {0};
    if (metrics_server_create(&config, &server, &err) < 0 ||
        metrics_server_start(server, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return server;
}

static int dial(const struct metrics_server *server)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                        .sin_port = htons((uint16_t)metrics_server_port(server))};
    const struct timeval limit = {.tv_sec = 20};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        abort();
    return fd;
}

/* Sends `request` and returns all that comes until the server closes or says nothing any more. */
static const char *ask(const struct metrics_server *server, const char *request, size_t size)
{
    static char answer[SHOWN_MAX];
    int fd = dial(server);
    size_t used = 0;
    /* A server that has refused already may close while the rest is sent. */
    (void)fd_write_all(fd, request, size);
    for (ssize_t n;
         used < sizeof(answer) - 1 && (n = read(fd, answer + used, sizeof(answer) - 1 - used)) > 0;)
        used += (size_t)n;
    answer[used] = '\0';
    fd_close(&fd);
    return answer;
}

#define ASK(server, text) ask(server, text, sizeof(text) - 1)
#define GET               "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void expect_alive(const struct metrics_server *server)
{
    const char *answer = ASK(server, GET);
    CU_ASSERT_PTR_NOT_NULL(strstr(answer, "HTTP/1.1 200 OK\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(answer, "\r\n\r\nhello 1\n"));
}

static void metrics_are_served_and_nothing_else(void)
{
    struct metrics_server *server = serve();
    expect_alive(server);
    CU_ASSERT_PTR_NOT_NULL(strstr(ASK(server, GET), "text/plain; version=0.0.4"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(ASK(server, "GET /../etc/passwd HTTP/1.1\r\nConnection: close\r\n\r\n"), " 404 "));
    CU_ASSERT_PTR_NULL(
        strstr(ASK(server, "HEAD /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"), "hello"));
    CU_ASSERT_PTR_NULL(
        strstr(ASK(server, "DELETE /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"), " 200 "));
    metrics_server_destroy(&server);
}

static void what_is_no_request_or_too_large_ends_its_connection_only(void)
{
    static char large[4 * METRICS_REQUEST_MAX];
    struct metrics_server *server = serve();
    memset(large, 'a', sizeof(large));
    CU_ASSERT_PTR_NULL(strstr(ask(server, large, sizeof(large)), " 200 "));
    memcpy(large, "GET /metrics HTTP/1.1\r\nX: ", 26);
    CU_ASSERT_PTR_NULL(strstr(ask(server, large, sizeof(large)), " 200 "));
    CU_ASSERT_PTR_NULL(strstr(ASK(server, "\0\1\2\3\r\n\r\n"), " 200 "));
    CU_ASSERT_PTR_NULL(strstr(ASK(server, "GET /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n"
                                          "\r\n"),
                              " 200 "));
    for (size_t cut = 0; cut < sizeof(GET) - 1; cut++) {
        int fd = dial(server);
        CU_ASSERT(fd_write_all(fd, GET, cut) >= 0);
        fd_close(&fd);
    }
    expect_alive(server);
    metrics_server_destroy(&server);
}

/* Nobody has asked whether they go: their places are free when their time is up, and as many again
 * have waited in the kernel's queue meanwhile. */
static void silent_clients_take_all_places_for_a_time_only(void)
{
    struct metrics_server *server = serve();
    int silent[2 * METRICS_CONNECTIONS_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++)
        silent[i] = dial(server);
    expect_alive(server);
    char byte;
    for (size_t i = 0; i < METRICS_CONNECTIONS_MAX; i++)
        CU_ASSERT_EQUAL(read(silent[i], &byte, 1), 0);
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++)
        fd_close(&silent[i]);
    metrics_server_destroy(&server);
}

static void an_address_in_use_is_refused(void)
{
    struct metrics_server *server = serve(), *other = NULL;
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                        .sin_port = htons((uint16_t)metrics_server_port(server))};
    const struct metrics_server_config config = {.address = (const struct sockaddr *)&address,
                                                 .length = sizeof(address),
                                                 .idle_seconds = 1,
                                                 .print = print_hello};
    struct error err = {0};
    CU_ASSERT_EQUAL(metrics_server_create(&config, &other, &err), -EADDRINUSE);
    CU_ASSERT_PTR_NULL(other);
    CU_ASSERT_STRING_EQUAL(err.text, "Address already in use");
    metrics_server_destroy(&server);
    CU_ASSERT_PTR_NULL(server);
}

static const struct test_case cases[] = {
    {"every kind of value is printed as Prometheus reads it",
     every_kind_of_value_is_printed_as_prometheus_reads_it},
    {"buckets never fall and end with the count", buckets_never_fall_and_end_with_the_count},
    {"samples are counted up to a bound", samples_are_counted_up_to_a_bound},
    {"the committed reference is what the table says",
     the_committed_reference_is_what_the_table_says},
    {"metrics are served and nothing else", metrics_are_served_and_nothing_else},
    {"what is no request or too large ends its connection only",
     what_is_no_request_or_too_large_ends_its_connection_only},
    {"silent clients take all places for a time only",
     silent_clients_take_all_places_for_a_time_only},
    {"an address in use is refused", an_address_in_use_is_refused},
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    evthread_use_pthreads();
    return test_run(argc, argv, "metrics", cases, ARRAY_SIZE(cases));
}
