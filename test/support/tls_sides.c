#include "test/support/tls_sides.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "test/support/party.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "transport/inproc.h"
#include "transport/tls.h"

bool tls_sides_over_a_link;

static int make_tls(struct tls_side *s)
{
    const char *peer = s->server ? "client" : "server";
    if (!tls_sides_over_a_link)
        return tls_link_create(s->fd, peer, s->server, s->credentials, &s->link, &s->err);
    struct link *below = NULL;
    const int rc = inproc_adopt(s->fd, "below", &below, &s->err);
    return rc < 0 ? rc
                  : tls_link_create_over(below, peer, s->server, s->credentials, &s->link, &s->err);
}

static void *shake(void *argument)
{
    struct tls_side *s = argument;
    if (s->plain)
        s->rc = inproc_adopt(s->fd, "plain", &s->link, &s->err);
    else
        s->rc = make_tls(s);
    if (s->rc == 0 && s->whole) {
        struct session_config *config = calloc(1, sizeof(*config));
        party_config(config, s->server ? SESSION_PRIMARY : SESSION_SECONDARY, s->timeout_ms);
        s->rc =
            (s->server ? session_accept : session_connect)(s->link, config, &s->session, &s->err);
        free(config);
    } else if (s->rc == 0) {
        link_set_deadline(s->link, clock_now() + MSEC(s->timeout_ms));
        s->rc = link_establish(s->link, &s->err);
        link_set_deadline(s->link, 0);
    }
    /* As every owner does: the other side must not wait for one who gave up. */
    if (s->rc < 0)
        link_destroy(&s->link);
    return NULL;
}

void tls_side_begin(struct tls_side *s, int fd)
{
    s->fd = fd;
    if (!s->timeout_ms)
        s->timeout_ms = TLS_AMPLE_MS;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&s->thread, NULL, shake, s), 0);
}

void tls_side_finish(struct tls_side *s)
{
    pthread_join(s->thread, NULL);
}

void tls_sides_sockets(int fds[2])
{
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

void tls_sides_meet(struct tls_side sides[2])
{
    int fds[2];
    tls_sides_sockets(fds);
    sides[1].server = true;
    tls_side_begin(&sides[0], fds[0]);
    tls_side_begin(&sides[1], fds[1]);
    tls_side_finish(&sides[0]);
    tls_side_finish(&sides[1]);
}

void tls_sides_part(struct tls_side sides[2])
{
    link_destroy(&sides[0].link);
    link_destroy(&sides[1].link);
}

void tls_sides_expect_met(struct tls_side sides[2])
{
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(sides[i].rc, 0);
        if (sides[i].rc < 0)
            fprintf(stderr, "side %d: %s\n", i, sides[i].err.text);
    }
    CU_ASSERT_FATAL(sides[0].rc == 0 && sides[1].rc == 0);
}

void tls_sides_meet_by_secret(struct tls_side sides[2], uint64_t rekey_frames,
                              struct tls_credentials **credentials)
{
    *credentials = tls_identity_by_secret(TLS_SECRET, rekey_frames);
    sides[0] = sides[1] = (struct tls_side){.credentials = *credentials};
    tls_sides_meet(sides);
    tls_sides_expect_met(sides);
}

static const struct frame control = {.type = FRAME_CONTROL, .term = 3, .epoch = 4};

int tls_send_text(struct link *link, const char *text)
{
    const struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    return link_send(link, &control, &piece, 1, NULL);
}

int tls_receive_text(struct link *link, char *text, size_t size, struct error *err)
{
    struct frame header;
    memset(text, 0, size);
    int rc = link_receive_header(link, &header, err);
    if (rc == 0 && header.size < size)
        rc = link_receive_payload(link, text, header.size, err);
    return rc;
}

void tls_expect_text(struct link *link, const char *text)
{
    char buffer[64];
    CU_ASSERT_EQUAL(tls_receive_text(link, buffer, sizeof(buffer), NULL), 0);
    CU_ASSERT_STRING_EQUAL(buffer, text);
}

void tls_sides_talk(struct tls_side sides[2])
{
    CU_ASSERT_EQUAL(tls_send_text(sides[0].link, "one"), 0);
    CU_ASSERT_EQUAL(tls_send_text(sides[0].link, "two"), 0);
    CU_ASSERT_EQUAL(tls_send_text(sides[1].link, "three"), 0);
    tls_expect_text(sides[1].link, "one");
    tls_expect_text(sides[1].link, "two");
    tls_expect_text(sides[0].link, "three");
}

void tls_side_meet_stranger(struct tls_side *server, const void *bytes, size_t size)
{
    int fds[2];
    tls_sides_sockets(fds);
    CU_ASSERT_EQUAL(fd_write_all(fds[0], bytes, size), 0);
    shutdown(fds[0], SHUT_WR);
    server->server = server->whole = true;
    tls_side_begin(server, fds[1]);
    tls_side_finish(server);
    fd_close(&fds[0]);
}
