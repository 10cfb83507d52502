/* How long a frame takes to the peer and back on a link of the pair's own kind, and how many bytes
 * a second such a link carries. The peer's end is another doctor's (doctor_answer()): a stream of
 * frames goes one way, and for each a frame of RECEIPT_SIZE bytes comes back. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/config_use.h"
#include "app/doctor_checks.h"
#include "base/clock.h"
#include "transport/transport.h"

#define RECEIPT_SIZE     8
#define ROUND_TRIPS      64
#define PIECE            ((size_t)1 << 20)
#define PIECES           256 /* their receipts fit into any socket's buffer */
#define PIECES_BESIDE    8   /* where a guest may be using the link */
#define STREAM_TIME      SEC(1)
#define START_PATIENCE   SEC(20) /* of the peer's command to listen, by ssh */
#define CALL_PATIENCE_MS 20000
#define WHOLE_PATIENCE   SEC(30)
#define CONNECT_LIMIT_MS 5000
#define LISTENING        "listening at port "

/* ---- there ---- */

/* The link's URI with another port. */
static void with_port(const char *uri, unsigned port, char *out, size_t size)
{
    const char *colon = strrchr(uri, ':');
    snprintf(out, size, "%.*s:%u", (int)(colon - uri), uri, port);
}

static unsigned port_of(const char *uri)
{
    const char *colon = strrchr(uri, ':');
    return colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

static int send_bytes(struct link *link, const void *bytes, size_t size, struct error *err)
{
    const struct frame frame = {.type = FRAME_PAGES, .term = 1, .epoch = 1};
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    return link_send(link, &frame, &part, 1, err);
}

/* One frame of whatever size. */
static int receive(struct link *link, void *buffer, uint32_t *size, struct error *err)
{
    struct frame frame;
    const int rc = link_receive_header(link, &frame, err);
    *size = rc < 0 ? 0 : frame.size;
    return rc < 0 ? rc : link_receive_payload(link, buffer, frame.size, err);
}

static int serve(struct link *link, struct error *err)
{
    static const uint8_t receipt[RECEIPT_SIZE];
    uint8_t *buffer = malloc(FRAME_PAYLOAD_MAX);
    uint32_t size;
    link_set_deadline(link, clock_now() + WHOLE_PATIENCE);
    int rc = buffer ? link_establish(link, err) : error_set(err, -ENOMEM, "out of memory");
    while (rc == 0) {
        rc = receive(link, buffer, &size, err);
        if (rc == 0)
            rc = send_bytes(link, receipt, sizeof(receipt), err);
    }
    free(buffer);
    return rc == -EPIPE ? 0 : rc;
}

static int listen_somewhere(const struct config *config, const struct tls_credentials *tls,
                            struct listener **out, struct error *err)
{
    char uri[128];
    const int rc = transport_listen(config->listen.text, tls, out, err);
    if (rc != -EADDRINUSE)
        return rc;
    with_port(config->listen.text, 0, uri, sizeof(uri));
    return transport_listen(uri, tls, out, err);
}

int doctor_answer(const char *file, FILE *out, struct error *err)
{
    struct config config;
    struct error files;
    struct tls_credentials *tls = NULL;
    struct listener *listener = NULL;
    struct link *link = NULL;
    int rc = config_examine(file, &config, &files, err);
    if (rc < 0)
        return rc;
    if (files.code)
        rc = error_set(err, files.code, "%s", files.text);
    else if (!config.listen.text || strncmp(config.listen.scheme, "rdma", 4) == 0)
        rc = error_set(err, -ENOTSUP, "only links over TCP are measured");
    if (rc == 0 && config.listen.encrypted)
        rc = config_tls_credentials(&config, &tls, err);
    if (rc == 0)
        rc = listen_somewhere(&config, tls, &listener, err);
    if (rc == 0) {
        fprintf(out, LISTENING "%u\n", port_of(listener_uri(listener)));
        fflush(out);
        rc = listener_accept(listener, CALL_PATIENCE_MS, &link, err);
    }
    if (rc == 0)
        rc = serve(link, err);
    if (link)
        link_destroy(&link);
    if (listener)
        listener_destroy(&listener);
    tls_credentials_destroy(&tls);
    config_free(&config);
    return rc;
}

/* ---- here ---- */

struct measured {
    nsec_t round_trip; /* half of them took at most that */
    nsec_t slowest;
    uint64_t bytes_per_second;
};

static int compare_times(const void *a, const void *b)
{
    const nsec_t x = *(const nsec_t *)a, y = *(const nsec_t *)b;
    return (x > y) - (x < y);
}

static int take_receipt(struct link *link, void *buffer, struct error *err)
{
    uint32_t size;
    const int rc = receive(link, buffer, &size, err);
    return rc == 0 && size != RECEIPT_SIZE
               ? error_set(err, -EBADMSG, "a frame that is no receipt came back")
               : rc;
}

static int measure_round_trips(struct link *link, void *buffer, struct measured *out,
                               struct error *err)
{
    nsec_t times[ROUND_TRIPS];
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < ROUND_TRIPS; i++) {
        const nsec_t start = clock_now();
        rc = send_bytes(link, buffer, RECEIPT_SIZE, err);
        if (rc == 0)
            rc = take_receipt(link, buffer, err);
        times[i] = clock_now() - start;
    }
    if (rc == 0) {
        qsort(times, ROUND_TRIPS, sizeof(times[0]), compare_times);
        out->round_trip = times[ROUND_TRIPS / 2];
        out->slowest = times[ROUND_TRIPS - 1];
    }
    return rc;
}

static int measure_stream(struct link *link, void *buffer, unsigned most, struct measured *out,
                          struct error *err)
{
    const nsec_t start = clock_now();
    unsigned sent = 0;
    int rc = 0;
    for (; rc == 0 && sent < most && (sent == 0 || clock_now() - start < STREAM_TIME); sent++)
        rc = send_bytes(link, buffer, PIECE, err);
    for (unsigned i = 0; rc == 0 && i < sent; i++)
        rc = take_receipt(link, buffer, err);
    const nsec_t took = clock_now() - start;
    out->bytes_per_second =
        (uint64_t)((double)(sent * PIECE) * 1e9 / (double)(took > 0 ? took : 1));
    return rc;
}

static int measure(const char *uri, const struct tls_credentials *tls, unsigned pieces,
                   struct measured *out, struct error *err)
{
    struct link *link = NULL;
    void *buffer = calloc(1, FRAME_PAYLOAD_MAX);
    int rc = buffer ? transport_connect(uri, tls, CONNECT_LIMIT_MS, -1, &link, err) : -ENOMEM;
    if (rc == 0) {
        link_set_deadline(link, clock_now() + WHOLE_PATIENCE);
        rc = link_establish(link, err);
    }
    if (rc == 0)
        rc = measure_round_trips(link, buffer, out, err);
    if (rc == 0)
        rc = measure_stream(link, buffer, pieces, out, err);
    if (link)
        link_destroy(&link);
    free(buffer);
    return rc;
}

void doctor_judge_link(const struct config *config, nsec_t round_trip, nsec_t slowest,
                       uint64_t bytes_per_second, uint64_t need, struct doctor_report *report)
{
    const double mb = 1e6;
    doctor_say(
        report, "latency", "",
        round_trip > config->heartbeat_interval ? DOCTOR_PEER_FAR : DOCTOR_FINE,
        "a frame is there and back after %.3f ms, at worst %.3f ms; every output waits for one",
        (double)round_trip / (double)MSEC(1), (double)slowest / (double)MSEC(1));
    if (!need)
        doctor_say(report, "bandwidth", "", DOCTOR_LINK_NOT_JUDGED,
                   "%.1f MB/s, enough for a guest that changes %.1f MB/s",
                   (double)bytes_per_second / mb, (double)bytes_per_second / 2 / mb);
    else
        doctor_say(report, "bandwidth", "",
                   bytes_per_second / 2 < need ? DOCTOR_LINK_NARROW : DOCTOR_FINE,
                   "%.1f MB/s, of which twice the %.1f MB/s are wanted that the guest changes",
                   (double)bytes_per_second / mb, (double)need / mb);
}

void doctor_check_link(const struct doctor *doctor, const struct tls_credentials *tls,
                       const char *file, const struct doctor_peer *peer, uint64_t need)
{
    const char *const words[] = {"doctor", "--answer", file, NULL};
    const struct config *config = doctor->config;
    struct peer_process process;
    struct measured measured = {0};
    struct error err = {0};
    char line[sizeof(LISTENING) + 16], uri[128];
    unsigned port = 0;
    if (strncmp(config->peer.scheme, "rdma", 4) == 0 || (config->peer.encrypted && !tls)) {
        doctor_say(doctor->report, "latency", "", DOCTOR_NOT_TRIED,
                   tls ? "RDMA is not measured: ib_write_lat and ib_write_bw do that"
                       : "there are no credentials to connect with");
        return;
    }
    int rc = peer_command_start(peer->command, words, &process, &err);
    if (rc == 0) {
        if (peer_process_line(&process, START_PATIENCE, line, sizeof(line)) &&
            strncmp(line, LISTENING, strlen(LISTENING)) == 0)
            port = (unsigned)strtoul(line + strlen(LISTENING), NULL, 10);
        if (port == 0 || port > UINT16_MAX)
            rc = error_set(&err, -EIO, "the other host's doctor does not listen");
        with_port(config->peer.text, port, uri, sizeof(uri));
        if (rc == 0)
            rc = measure(uri, tls, doctor->daemon_runs ? PIECES_BESIDE : PIECES, &measured, &err);
        peer_process_end(&process);
    }
    if (rc < 0)
        doctor_say(doctor->report, "latency", "", DOCTOR_NOT_TRIED, "%s", err.text);
    else
        doctor_judge_link(config, measured.round_trip, measured.slowest, measured.bytes_per_second,
                          need, doctor->report);
}
