/* Two sides of a TLS link for tests, each on a thread of its own until it is established. */
#ifndef KEMARI_TEST_SUPPORT_TLS_SIDES_H
#define KEMARI_TEST_SUPPORT_TLS_SIDES_H

#include <pthread.h>

#include "transport/link.h"
#include "transport/session.h"
#include "transport/tls.h"

#define TLS_AMPLE_MS 60000 /* never reached by a test that passes */
#define TLS_SECRET   "a secret of the tests of TLS"

struct tls_side {
    /* set before */
    bool plain; /* no TLS */
    const struct tls_credentials *credentials;
    int fd;
    bool server;
    bool whole;          /* the session's handshake, too */
    unsigned timeout_ms; /* 0: TLS_AMPLE_MS */

    /* set by its thread */
    pthread_t thread;
    struct link *link;
    struct session session;
    struct error err;
    int rc;
};

/* The TLS of all sides runs on top of another link, not on the socket itself. */
extern bool tls_sides_over_a_link;

/* Begins the handshake on `fd`, which the side owns. */
void tls_side_begin(struct tls_side *s, int fd);
/* Waits for its end: `rc`, `err`, `link`. */
void tls_side_finish(struct tls_side *s);
/* What a stranger sends first, and what our server makes of it. */
void tls_side_meet_stranger(struct tls_side *server, const void *bytes, size_t size);

/* In all that follows sides[0] is the client. */
void tls_sides_sockets(int fds[2]);
void tls_sides_meet(struct tls_side sides[2]);
void tls_sides_expect_met(struct tls_side sides[2]);
/* Two new sides that know TLS_SECRET, and the credentials of both, which outlive them. */
void tls_sides_meet_by_secret(struct tls_side sides[2], uint64_t rekey_frames,
                              struct tls_credentials **credentials);
/* Closes their links. */
void tls_sides_part(struct tls_side sides[2]);

/* One frame with a text, and a few of them in both directions. */
int tls_send_text(struct link *link, const char *text);
int tls_receive_text(struct link *link, char *text, size_t size, struct error *err);
void tls_expect_text(struct link *link, const char *text);
void tls_sides_talk(struct tls_side sides[2]);

#endif
