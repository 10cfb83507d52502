/* Links over real sockets: frames arrive whole or not at all, every end of a connection has its own
 * error, and nobody stays blocked. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/wire.h"
#include "test/support/runner.h"
#include "transport/inproc.h"
#include "transport/transport.h"

#define SMALL_TIMEOUT_MS 30

static void make_inproc(struct link *pair[2])
{
    CU_ASSERT_EQUAL_FATAL(inproc_pair("test", pair, NULL), 0);
}

static void make_tcp(struct link *pair[2])
{
    struct listener *listener = NULL;
    CU_ASSERT_EQUAL_FATAL(transport_listen("tcp://127.0.0.1:0", NULL, &listener, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(transport_connect(listener_uri(listener), NULL, 2000, -1, &pair[0], NULL),
                          0);
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, 2000, &pair[1], NULL), 0);
    listener_destroy(&listener);
}

/* A link, and the bare socket at its other end. */
static struct link *make_half(int *fd)
{
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(inproc_adopt(fds[0], "half", &link, NULL), 0);
    *fd = fds[1];
    return link;
}

static void drop(struct link *pair[2])
{
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
    CU_ASSERT_PTR_NULL(pair[0]);
}

static const struct frame control = {.type = FRAME_CONTROL, .term = 3, .epoch = 4};
static const struct frame pages = {.type = FRAME_PAGES, .term = 5, .epoch = 6};

static int send_text(struct link *link, const struct frame *fields, const char *text)
{
    const struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    return link_send(link, fields, &part, 1, NULL);
}

static void expect_text(struct link *link, const struct frame *fields, const char *text)
{
    struct frame header;
    char buffer[64] = "";
    CU_ASSERT_EQUAL_FATAL(link_receive_header(link, &header, NULL), 0);
    CU_ASSERT_EQUAL(header.type, fields->type);
    CU_ASSERT_EQUAL(header.term, fields->term);
    CU_ASSERT_EQUAL(header.epoch, fields->epoch);
    CU_ASSERT_EQUAL_FATAL(header.size, strlen(text));
    CU_ASSERT_EQUAL(link_receive_payload(link, buffer, header.size, NULL), 0);
    CU_ASSERT_STRING_EQUAL(buffer, text);
}

static void exchange(struct link *pair[2])
{
    CU_ASSERT_EQUAL(send_text(pair[0], &control, "one"), 0);
    CU_ASSERT_EQUAL(send_text(pair[0], &pages, "two"), 0);
    CU_ASSERT_EQUAL(send_text(pair[1], &control, "three"), 0);
    expect_text(pair[1], &control, "one");
    expect_text(pair[1], &pages, "two");
    expect_text(pair[0], &control, "three");
    const struct link_counters sent = link_counters(pair[0]);
    const struct link_counters received = link_counters(pair[1]);
    CU_ASSERT_EQUAL(sent.frames_sent, 2);
    CU_ASSERT_EQUAL(sent.bytes_sent, 2 * FRAME_HEADER_SIZE + 6);
    CU_ASSERT_EQUAL(received.frames_received, 2);
    CU_ASSERT_EQUAL(received.bytes_received, sent.bytes_sent);
}

static void frames_travel_both_ways_and_are_counted(void)
{
    struct link *pair[2];
    make_inproc(pair);
    CU_ASSERT_STRING_EQUAL(link_peer_name(pair[0]), "inproc test/1");
    exchange(pair);
    drop(pair);
    make_tcp(pair);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(pair[0]), "tcp 127.0.0.1:", 14), 0);
    exchange(pair);
    drop(pair);
}

/* --- large frames, from many parts, by several senders at once --- */

#define PART_SIZE   4096
#define PART_COUNT  256
#define SENDERS     3
#define FRAMES_EACH 8

struct sender {
    pthread_t thread;
    struct link *link;
    uint8_t mark;
};

static void *send_large(void *argument)
{
    struct sender *s = argument;
    uint8_t *page = malloc(PART_SIZE);
    memset(page, s->mark, PART_SIZE);
    struct iovec parts[PART_COUNT + 1];
    parts[0] = (struct iovec){NULL, 0}; /* an empty part is legal */
    for (int i = 1; i <= PART_COUNT; i++)
        parts[i] = (struct iovec){page, PART_SIZE};
    for (unsigned i = 0; i < FRAMES_EACH; i++) {
        const struct frame fields = {.type = FRAME_PAGES, .term = s->mark, .epoch = i + 1};
        CU_ASSERT_EQUAL(link_send(s->link, &fields, parts, PART_COUNT + 1, NULL), 0);
    }
    free(page);
    return NULL;
}

static void receive_large(struct link *link)
{
    uint8_t *buffer = malloc(FRAME_PAYLOAD_MAX);
    uint64_t last[SENDERS + 1] = {0};
    for (int i = 0; i < SENDERS * FRAMES_EACH; i++) {
        struct frame header;
        CU_ASSERT_EQUAL_FATAL(link_receive_header(link, &header, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(header.size, PART_SIZE * PART_COUNT);
        CU_ASSERT_FATAL(header.term >= 1 && header.term <= SENDERS);
        CU_ASSERT_EQUAL(header.epoch, ++last[header.term]);
        CU_ASSERT_EQUAL(link_receive_payload(link, buffer, header.size, NULL), 0);
        for (size_t k = 0; k < header.size; k += PART_SIZE - 1)
            CU_ASSERT_EQUAL(buffer[k], header.term);
    }
    free(buffer);
}

static void large_frames_of_several_senders_never_mix(void)
{
    struct link *pair[2];
    make_tcp(pair);
    struct sender senders[SENDERS];
    for (uint8_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.link = pair[0], .mark = (uint8_t)(i + 1)};
        pthread_create(&senders[i].thread, NULL, send_large, &senders[i]);
    }
    receive_large(pair[1]);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    drop(pair);
}

/* --- limits --- */

static void a_frame_outside_the_limits_is_refused_and_harms_nothing(void)
{
    struct link *pair[2];
    make_inproc(pair);
    uint8_t *bytes = calloc(1, FRAME_PAYLOAD_MAX + 1);
    struct iovec part = {bytes, FRAME_PAYLOAD_MAX + 1};
    CU_ASSERT_EQUAL(link_send(pair[0], &pages, &part, 1, NULL), -EMSGSIZE);
    part.iov_len = SIZE_MAX;
    CU_ASSERT_EQUAL(link_send(pair[0], &pages, &part, 1, NULL), -EMSGSIZE);
    part.iov_len = FRAME_CONTROL_MAX + 1;
    CU_ASSERT_EQUAL(link_send(pair[0], &control, &part, 1, NULL), -EMSGSIZE);
    part.iov_len = 0;
    CU_ASSERT_EQUAL(link_send(pair[0], &control, &part, 1, NULL), -EMSGSIZE);
    part.iov_len = 1;
    CU_ASSERT_EQUAL(link_send(pair[0], &control, &part, 0, NULL), -EINVAL);
    CU_ASSERT_EQUAL(link_send(pair[0], &control, &part, LINK_PARTS_MAX + 1, NULL), -EINVAL);
    const struct frame no_term = {.type = FRAME_PAGES, .epoch = 1};
    CU_ASSERT_EQUAL(link_send(pair[0], &no_term, &part, 1, NULL), -EINVAL);
    exchange(pair);
    free(bytes);
    drop(pair);
}

static void a_payload_asked_for_with_the_wrong_size_can_be_asked_for_again(void)
{
    struct link *pair[2];
    make_inproc(pair);
    struct frame header;
    char buffer[8] = "";
    CU_ASSERT_EQUAL(link_receive_payload(pair[1], buffer, 3, NULL), -EINVAL);
    CU_ASSERT_EQUAL(send_text(pair[0], &control, "abc"), 0);
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), 0);
    CU_ASSERT_EQUAL(link_receive_payload(pair[1], buffer, 4, NULL), -EINVAL);
    struct frame next;
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &next, NULL), -EINVAL);
    CU_ASSERT_EQUAL(link_receive_payload(pair[1], buffer, 3, NULL), 0);
    CU_ASSERT_STRING_EQUAL(buffer, "abc");
    drop(pair);
}

/* --- ends of a connection --- */

/* Bytes of a whole frame with the payload "payload". */
static size_t sample_frame(uint8_t *out)
{
    char text[] = "payload";
    const struct iovec part = {text, 7};
    struct frame f = control;
    f.size = 7;
    f.digest = frame_digest(&part, 1);
    frame_encode(&f, out);
    memcpy(out + FRAME_HEADER_SIZE, text, 7);
    return FRAME_HEADER_SIZE + 7;
}

/* Receives one frame from a peer that sent `bytes` and closed; the first error, or 0. */
static int receive_from_closed_peer(const uint8_t *bytes, size_t size)
{
    int fd;
    struct link *link = make_half(&fd);
    CU_ASSERT_EQUAL(fd_write_all(fd, bytes, size), 0);
    fd_close(&fd);
    struct frame header;
    uint8_t payload[FRAME_HEADER_SIZE];
    struct error err = {0};
    int rc = link_receive_header(link, &header, &err);
    if (rc == 0)
        rc = link_receive_payload(link, payload, header.size, &err);
    if (rc < 0) {
        CU_ASSERT_EQUAL(err.code, rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "inproc half"));
        CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), rc);
    }
    link_destroy(&link);
    return rc;
}

static void a_frame_cut_short_at_any_byte_is_a_reset_but_between_frames_an_eof(void)
{
    uint8_t bytes[FRAME_HEADER_SIZE + 16];
    const size_t size = sample_frame(bytes);
    CU_ASSERT_EQUAL(receive_from_closed_peer(bytes, 0), -EPIPE);
    for (size_t cut = 1; cut < size; cut++)
        CU_ASSERT_EQUAL(receive_from_closed_peer(bytes, cut), -ECONNRESET);
    CU_ASSERT_EQUAL(receive_from_closed_peer(bytes, size), 0);
}

static void a_flipped_bit_anywhere_in_a_frame_is_a_protocol_error(void)
{
    uint8_t bytes[FRAME_HEADER_SIZE + 16];
    const size_t size = sample_frame(bytes);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << bit % 8));
        const int rc = receive_from_closed_peer(bytes, size);
        CU_ASSERT_EQUAL(rc, bit / 8 == 4 || bit / 8 == 5 ? -EPROTONOSUPPORT : -EBADMSG);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << bit % 8));
    }
}

/* A link over TCP, and the bare socket at its other end. */
static struct link *make_tcp_half(int *fd)
{
    struct listener *listener = NULL;
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(transport_listen("tcp://127.0.0.1:0", NULL, &listener, NULL), 0);
    const unsigned long port = strtoul(strrchr(listener_uri(listener), ':') + 1, NULL, 10);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(*fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, 2000, &link, NULL), 0);
    listener_destroy(&listener);
    return link;
}

static void a_reset_is_told_from_an_end_of_file(void)
{
    struct frame header;
    for (int reset = 0; reset < 2; reset++) {
        int fd;
        struct link *link = make_tcp_half(&fd);
        const struct linger linger = {.l_onoff = reset};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        fd_close(&fd);
        CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), reset ? -ECONNRESET : -EPIPE);
        link_destroy(&link);
    }
}

/* --- waiting --- */

static void a_silent_peer_is_a_time_out_that_can_be_tried_again(void)
{
    struct link *pair[2];
    make_tcp(pair);
    struct frame header;
    link_set_timeouts(pair[1], 0, SMALL_TIMEOUT_MS);
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), -ETIMEDOUT);
    link_set_timeouts(pair[1], 0, 0);
    CU_ASSERT_EQUAL(send_text(pair[0], &control, "late"), 0);
    expect_text(pair[1], &control, "late");
    drop(pair);
}

static void a_time_out_inside_a_frame_is_final(void)
{
    int fd;
    struct link *link = make_half(&fd);
    uint8_t bytes[FRAME_HEADER_SIZE + 16];
    const size_t size = sample_frame(bytes);
    struct frame header;
    link_set_timeouts(link, 0, SMALL_TIMEOUT_MS);
    CU_ASSERT_EQUAL(fd_write_all(fd, bytes, 10), 0);
    CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), -ETIMEDOUT);
    CU_ASSERT_EQUAL(fd_write_all(fd, bytes + 10, size - 10), 0);
    CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), -ETIMEDOUT);
    link_destroy(&link);
    fd_close(&fd);
}

static void a_peer_that_stops_reading_is_a_time_out(void)
{
    struct link *pair[2];
    make_tcp(pair);
    link_set_timeouts(pair[0], SMALL_TIMEOUT_MS, 0);
    uint8_t *bytes = calloc(1, FRAME_PAYLOAD_MAX);
    const struct iovec part = {bytes, FRAME_PAYLOAD_MAX};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 100; i++)
        rc = link_send(pair[0], &pages, &part, 1, NULL);
    CU_ASSERT_EQUAL(rc, -ETIMEDOUT);
    CU_ASSERT_EQUAL(send_text(pair[0], &control, "no more"), -ETIMEDOUT);
    free(bytes);
    drop(pair);
}

static void a_deadline_ends_a_peer_that_drips(void)
{
    int fd;
    struct link *link = make_half(&fd);
    struct frame header;
    link_set_deadline(link, clock_now() + MSEC(SMALL_TIMEOUT_MS));
    CU_ASSERT_EQUAL(fd_write_all(fd, "K", 1), 0);
    CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), -ETIMEDOUT);
    link_destroy(&link);
    fd_close(&fd);
    link = make_half(&fd);
    link_set_deadline(link, clock_now() - 1);
    CU_ASSERT_EQUAL(send_text(link, &control, "too late"), -ETIMEDOUT);
    CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), -ETIMEDOUT);
    link_set_deadline(link, 0);
    link_destroy(&link);
    fd_close(&fd);
}

static void *receive_until_error(void *argument)
{
    struct frame header;
    return (void *)(intptr_t)link_receive_header(argument, &header, NULL);
}

static void *send_until_error(void *argument)
{
    uint8_t *bytes = calloc(1, FRAME_PAYLOAD_MAX);
    const struct iovec part = {bytes, FRAME_PAYLOAD_MAX};
    int rc = 0;
    while (rc == 0)
        rc = link_send(argument, &pages, &part, 1, NULL);
    free(bytes);
    return (void *)(intptr_t)rc;
}

static void shutdown_wakes_a_blocked_sender_and_receiver(void)
{
    void (*const make[])(struct link *[2]) = {make_inproc, make_tcp};
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    for (size_t i = 0; i < 2; i++) {
        struct link *pair[2];
        make[i](pair);
        pthread_t receiver, sender;
        pthread_create(&receiver, NULL, receive_until_error, pair[0]);
        pthread_create(&sender, NULL, send_until_error, pair[0]);
        /* Each may be blocked already, or get there after the shutdown: it must end either way. */
        struct frame header;
        CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), 0);
        CU_ASSERT_EQUAL(link_receive_payload(pair[1], bytes, header.size, NULL), 0);
        link_shutdown(pair[0]);
        void *result = NULL;
        pthread_join(receiver, &result);
        CU_ASSERT_EQUAL((intptr_t)result, -ECONNRESET);
        pthread_join(sender, &result);
        CU_ASSERT_EQUAL((intptr_t)result, -EPIPE);
        CU_ASSERT_EQUAL(send_text(pair[0], &control, "x"), -EPIPE);
        link_shutdown(pair[0]);
        drop(pair);
    }
    free(bytes);
}

static const struct test_case cases[] = {
    {"frames travel both ways and are counted", frames_travel_both_ways_and_are_counted},
    {"large frames of several senders never mix", large_frames_of_several_senders_never_mix},
    {"a frame outside the limits is refused and harms nothing",
     a_frame_outside_the_limits_is_refused_and_harms_nothing},
    {"a payload asked for with the wrong size can be asked for again",
     a_payload_asked_for_with_the_wrong_size_can_be_asked_for_again},
    {"a frame cut short at any byte is a reset, but between frames an EOF",
     a_frame_cut_short_at_any_byte_is_a_reset_but_between_frames_an_eof},
    {"a flipped bit anywhere in a frame is a protocol error",
     a_flipped_bit_anywhere_in_a_frame_is_a_protocol_error},
    {"a reset is told from an end of file", a_reset_is_told_from_an_end_of_file},
    {"a silent peer is a time-out that can be tried again",
     a_silent_peer_is_a_time_out_that_can_be_tried_again},
    {"a time-out inside a frame is final", a_time_out_inside_a_frame_is_final},
    {"a peer that stops reading is a time-out", a_peer_that_stops_reading_is_a_time_out},
    {"a deadline ends a peer that drips", a_deadline_ends_a_peer_that_drips},
    {"shutdown wakes a blocked sender and receiver", shutdown_wakes_a_blocked_sender_and_receiver},
};

TEST_MAIN("link", cases)
