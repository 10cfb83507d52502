/* TLS with somebody in between: what travels can't be changed, cut or repeated unnoticed, and what
 * was said once is worth nothing again. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "test/support/tls_sides.h"

struct relay {
    int ends[2]; /* what the client and the server believe to be each other */
    int stop_fd;
    pthread_t thread;
    size_t kept_size; /* of what the client sent */
    uint8_t kept[16384];
};

static bool pass_on(struct relay *r, int from)
{
    uint8_t bytes[4096];
    const ssize_t n = read(r->ends[from], bytes, sizeof(bytes));
    if (n <= 0) {
        shutdown(r->ends[1 - from], SHUT_WR);
        return false;
    }
    if (from == 0 && r->kept_size + (size_t)n <= sizeof(r->kept)) {
        memcpy(r->kept + r->kept_size, bytes, (size_t)n);
        r->kept_size += (size_t)n;
    }
    return fd_write_all(r->ends[1 - from], bytes, (size_t)n) == 0;
}

static void *relay_main(void *argument)
{
    struct relay *r = argument;
    struct pollfd fds[3] = {
        {r->ends[0], POLLIN, 0}, {r->ends[1], POLLIN, 0}, {r->stop_fd, POLLIN, 0}};
    for (;;) {
        poll(fds, 3, -1);
        for (int i = 0; i < 2; i++)
            if (fds[i].fd >= 0 && fds[i].revents && !pass_on(r, i))
                fds[i].fd = -1;
        if (fds[2].revents)
            return NULL;
    }
}

/* Two sides that meet through a relay, which afterwards passes nothing on any more. */
static void meet_through(struct relay *r, struct tls_side sides[2])
{
    int near[2], far[2];
    tls_sides_sockets(near);
    tls_sides_sockets(far);
    *r = (struct relay){.ends = {near[1], far[1]}, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_create(&r->thread, NULL, relay_main, r);
    sides[1].server = true;
    tls_side_begin(&sides[0], near[0]);
    tls_side_begin(&sides[1], far[0]);
    tls_side_finish(&sides[0]);
    tls_side_finish(&sides[1]);
    const uint64_t one = 1;
    CU_ASSERT_EQUAL(fd_write_all(r->stop_fd, &one, sizeof(one)), 0);
    pthread_join(r->thread, NULL);
    fd_close(&r->stop_fd);
}

static void close_relay(struct relay *r)
{
    fd_close(&r->ends[0]);
    fd_close(&r->ends[1]);
}

static void what_a_client_said_once_is_worth_nothing_the_second_time(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct tls_side sides[2] = {{.credentials = credentials, .whole = true},
                                {.credentials = credentials, .whole = true}};
    meet_through(relay, sides);
    tls_sides_expect_met(sides);
    tls_sides_part(sides);
    close_relay(relay);
    CU_ASSERT_FATAL(relay->kept_size > 0 && relay->kept_size < sizeof(relay->kept));
    struct tls_side server = {.credentials = credentials};
    tls_side_meet_stranger(&server, relay->kept, relay->kept_size);
    CU_ASSERT_NOT_EQUAL(server.rc, 0);
    CU_ASSERT_EQUAL(server.session.term, 0);
    free(relay);
    tls_credentials_destroy(&credentials);
}

#define RECORDED 512 /* more than one short frame takes */

/* The bytes of one frame on their way from the client; the rest of the connection waits. */
static size_t catch_frame(struct relay *relay, struct tls_side sides[2], uint8_t bytes[RECORDED])
{
    CU_ASSERT_EQUAL(tls_send_text(sides[0].link, "payload"), 0);
    const ssize_t n = recv(relay->ends[0], bytes, RECORDED, 0);
    CU_ASSERT_FATAL(n > FRAME_HEADER_SIZE + 7 && n < RECORDED);
    return (size_t)n;
}

/* What the server makes of `size` bytes and the end of the connection. */
static int deliver(struct relay *relay, struct tls_side sides[2], const uint8_t *bytes, size_t size)
{
    char text[64];
    CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes, size), 0);
    shutdown(relay->ends[1], SHUT_WR);
    int rc = tls_receive_text(sides[1].link, text, sizeof(text), NULL);
    if (rc == 0) {
        CU_ASSERT_STRING_EQUAL(text, "payload");
        rc = tls_receive_text(sides[1].link, text, sizeof(text), NULL);
        CU_ASSERT_NOT_EQUAL(rc, 0);
        return 0;
    }
    return rc;
}

/* One connection, one frame, `change` made to its bytes; what the server says. */
static int deliver_changed(struct tls_credentials *credentials,
                           size_t (*change)(uint8_t *bytes, size_t size, size_t at), size_t at,
                           size_t *size)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    struct tls_side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[2 * RECORDED];
    meet_through(relay, sides);
    tls_sides_expect_met(sides);
    *size = catch_frame(relay, sides, bytes);
    const int rc = deliver(relay, sides, bytes, change(bytes, *size, at));
    tls_sides_part(sides);
    close_relay(relay);
    free(relay);
    return rc;
}

static size_t leave(uint8_t *bytes, size_t size, size_t at)
{
    (void)bytes, (void)at;
    return size;
}

static size_t flip(uint8_t *bytes, size_t size, size_t at)
{
    bytes[at] ^= (uint8_t)(1 << at % 8);
    return size;
}

static size_t cut(uint8_t *bytes, size_t size, size_t at)
{
    (void)bytes, (void)size;
    return at;
}

static size_t repeat(uint8_t *bytes, size_t size, size_t at)
{
    (void)at;
    memcpy(bytes + size, bytes, size);
    return 2 * size;
}

static void a_byte_changed_on_the_way_is_found(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    size_t size = 1;
    CU_ASSERT_EQUAL(deliver_changed(credentials, leave, 0, &size), 0);
    for (size_t i = 0; i < size; i++)
        CU_ASSERT_NOT_EQUAL(deliver_changed(credentials, flip, i, &size), 0);
    tls_credentials_destroy(&credentials);
}

static void a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    size_t size = 2;
    CU_ASSERT_EQUAL(deliver_changed(credentials, cut, 0, &size), -EPIPE);
    for (size_t i = 1; i < size; i++)
        CU_ASSERT_EQUAL(deliver_changed(credentials, cut, i, &size), -ECONNRESET);
    tls_credentials_destroy(&credentials);
}

static void a_record_sent_twice_is_found(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct tls_side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[2 * RECORDED];
    char text[64];
    meet_through(relay, sides);
    tls_sides_expect_met(sides);
    const size_t size = catch_frame(relay, sides, bytes);
    CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes, repeat(bytes, size, 0)), 0);
    tls_expect_text(sides[1].link, "payload");
    CU_ASSERT_EQUAL(tls_receive_text(sides[1].link, text, sizeof(text), NULL), -EBADMSG);
    tls_sides_part(sides);
    close_relay(relay);
    free(relay);
    tls_credentials_destroy(&credentials);
}

static void all_that_holds_on_top_of_another_link(void)
{
    tls_sides_over_a_link = true;
    a_byte_changed_on_the_way_is_found();
    a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof();
    a_record_sent_twice_is_found();
    tls_sides_over_a_link = false;
}

/* A time-out inside a record, at each of its bytes, loses nothing of it. */
static void a_record_that_drips_through_a_link_comes_whole(void)
{
    tls_sides_over_a_link = true;
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct tls_side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[RECORDED];
    struct frame header;
    meet_through(relay, sides);
    tls_sides_expect_met(sides);
    const size_t size = catch_frame(relay, sides, bytes);
    for (size_t at = 0; at < size; at++) {
        link_set_timeouts(sides[1].link, 0, 1);
        CU_ASSERT_EQUAL_FATAL(link_receive_header(sides[1].link, &header, NULL), -ETIMEDOUT);
        CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes + at, 1), 0);
    }
    link_set_timeouts(sides[1].link, 0, TLS_AMPLE_MS);
    tls_expect_text(sides[1].link, "payload");
    tls_sides_part(sides);
    close_relay(relay);
    free(relay);
    tls_credentials_destroy(&credentials);
    tls_sides_over_a_link = false;
}

static const struct test_case cases[] = {
    {"what a client said once is worth nothing the second time",
     what_a_client_said_once_is_worth_nothing_the_second_time},
    {"a byte changed on the way is found", a_byte_changed_on_the_way_is_found},
    {"a stream cut at any byte is a reset, but between frames an EOF",
     a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof},
    {"a record sent twice is found", a_record_sent_twice_is_found},
    {"all that holds on top of another link", all_that_holds_on_top_of_another_link},
    {"a record that drips through a link comes whole",
     a_record_that_drips_through_a_link_comes_whole},
};

TEST_MAIN("tls-wire", cases)
