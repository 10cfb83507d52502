/* TLS between two links: those who may, do; everybody else is refused on both sides, with a
 * sentence; and what travels can't be changed, cut, repeated or spliced unnoticed. */
#include "transport/tls.h"

#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/keygen.h"
#include "test/support/party.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "transport/bundle.h"
#include "transport/inproc.h"
#include "transport/transport.h"

#define AMPLE_MS 60000 /* never reached by a test that passes */
#define SHORT_MS 50    /* reached on purpose */

#define SECRET   "a secret of the tests of TLS"

/* --- two sides, each on a thread of its own --- */

enum scheme { TLS, TCP };

struct side {
    /* set before */
    enum scheme scheme;
    const struct tls_credentials *credentials;
    int fd;
    bool server;
    bool whole; /* the session's handshake, too */
    unsigned timeout_ms;

    /* set by its thread */
    pthread_t thread;
    struct link *link;
    struct session session;
    struct error err;
    int rc;
};

/* The TLS of all sides runs on top of another link, not on the socket itself. */
static bool over_a_link;

static int make_tls(struct side *s)
{
    const char *peer = s->server ? "client" : "server";
    if (!over_a_link)
        return tls_link_create(s->fd, peer, s->server, s->credentials, &s->link, &s->err);
    struct link *below = NULL;
    const int rc = inproc_adopt(s->fd, "below", &below, &s->err);
    return rc < 0 ? rc
                  : tls_link_create_over(below, peer, s->server, s->credentials, &s->link, &s->err);
}

static void *shake(void *argument)
{
    struct side *s = argument;
    if (s->scheme == TCP)
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

static void begin(struct side *s, int fd)
{
    s->fd = fd;
    if (!s->timeout_ms)
        s->timeout_ms = AMPLE_MS;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&s->thread, NULL, shake, s), 0);
}

static void finish(struct side *s)
{
    pthread_join(s->thread, NULL);
}

static void make_sockets(int fds[2])
{
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* sides[0] is the client. */
static void meet(struct side sides[2])
{
    int fds[2];
    make_sockets(fds);
    sides[1].server = true;
    begin(&sides[0], fds[0]);
    begin(&sides[1], fds[1]);
    finish(&sides[0]);
    finish(&sides[1]);
}

static void part(struct side sides[2])
{
    link_destroy(&sides[0].link);
    link_destroy(&sides[1].link);
}

static void expect_met(struct side sides[2])
{
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(sides[i].rc, 0);
        if (sides[i].rc < 0)
            fprintf(stderr, "side %d: %s\n", i, sides[i].err.text);
    }
    CU_ASSERT_FATAL(sides[0].rc == 0 && sides[1].rc == 0);
}

static void meet_by_secret(struct side sides[2], uint64_t rekey_frames,
                           struct tls_credentials **credentials)
{
    *credentials = tls_identity_by_secret(SECRET, rekey_frames);
    sides[0] = sides[1] = (struct side){.credentials = *credentials};
    meet(sides);
    expect_met(sides);
}

static const struct frame control = {.type = FRAME_CONTROL, .term = 3, .epoch = 4};

static int send_text(struct link *link, const char *text)
{
    const struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    return link_send(link, &control, &piece, 1, NULL);
}

static int receive_text(struct link *link, char *text, size_t size, struct error *err)
{
    struct frame header;
    memset(text, 0, size);
    int rc = link_receive_header(link, &header, err);
    if (rc == 0 && header.size < size)
        rc = link_receive_payload(link, text, header.size, err);
    return rc;
}

static void expect_text(struct link *link, const char *text)
{
    char buffer[64];
    CU_ASSERT_EQUAL(receive_text(link, buffer, sizeof(buffer), NULL), 0);
    CU_ASSERT_STRING_EQUAL(buffer, text);
}

static void talk(struct side sides[2])
{
    CU_ASSERT_EQUAL(send_text(sides[0].link, "one"), 0);
    CU_ASSERT_EQUAL(send_text(sides[0].link, "two"), 0);
    CU_ASSERT_EQUAL(send_text(sides[1].link, "three"), 0);
    expect_text(sides[1].link, "one");
    expect_text(sides[1].link, "two");
    expect_text(sides[0].link, "three");
}

/* --- files --- */

static char folder[] = "/tmp/kemari-tls-test-XXXXXX";
static char foreign[64];

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *ftw)
{
    (void)status, (void)kind, (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_folder(void)
{
    if (!mkdtemp(folder))
        abort();
    atexit(remove_folder);
    snprintf(foreign, sizeof(foreign), "%s/foreign", folder);
    mkdir(foreign, 0700);
    tls_identity_make(folder, "a.example", TLS_IDENTITY_VALID);
    tls_identity_make(folder, "b.example", TLS_IDENTITY_VALID);
    tls_identity_make(folder, "192.0.2.7", TLS_IDENTITY_VALID);
    tls_identity_make(folder, "old.example", TLS_IDENTITY_EXPIRED);
    tls_identity_make(folder, "new.example", TLS_IDENTITY_FUTURE);
    tls_identity_make(foreign, "a.example", TLS_IDENTITY_VALID);
}

/* --- who may --- */

static void two_sides_with_the_same_secret_talk(void)
{
    struct side sides[2], again[2];
    struct tls_credentials *credentials, *other;
    meet_by_secret(sides, 0, &credentials);
    meet_by_secret(again, 0, &other);
    talk(sides);
    const struct link_security *client = link_security(sides[0].link);
    const struct link_security *server = link_security(sides[1].link);
    CU_ASSERT_TRUE(client->encrypted && server->encrypted);
    CU_ASSERT_STRING_EQUAL(client->cipher, "TLS_AES_128_GCM_SHA256");
    CU_ASSERT_STRING_EQUAL(server->cipher, client->cipher);
    CU_ASSERT_EQUAL(memcmp(client->binding, server->binding, LINK_BINDING_SIZE), 0);
    const struct link_security *second = link_security(again[0].link);
    CU_ASSERT_NOT_EQUAL(memcmp(client->binding, second->binding, LINK_BINDING_SIZE), 0);
    part(sides);
    part(again);
    tls_credentials_destroy(&credentials);
    tls_credentials_destroy(&other);
}

static void two_sides_with_certificates_of_one_authority_talk(void)
{
    struct tls_credentials *a = tls_identity_credentials(folder, "a.example", folder, "192.0.2.7");
    struct tls_credentials *b = tls_identity_credentials(folder, "192.0.2.7", folder, "a.example");
    for (int turn = 0; turn < 2; turn++) {
        struct side sides[2] = {{.credentials = turn ? a : b, .whole = true},
                                {.credentials = turn ? b : a, .whole = true}};
        meet(sides);
        expect_met(sides);
        talk(sides);
        part(sides);
    }
    tls_credentials_destroy(&a);
    tls_credentials_destroy(&b);
}

static void frames_before_the_handshake_are_refused(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    int fds[2];
    make_sockets(fds);
    struct link *link = NULL;
    struct frame header;
    CU_ASSERT_EQUAL_FATAL(tls_link_create(fds[0], "x", false, credentials, &link, NULL), 0);
    CU_ASSERT_EQUAL(send_text(link, "early"), -EINVAL);
    CU_ASSERT_EQUAL(link_receive_header(link, &header, NULL), -EINVAL);
    link_shutdown(link);
    CU_ASSERT_EQUAL(link_establish(link, NULL), -ECONNRESET);
    link_destroy(&link);
    fd_close(&fds[1]);
    tls_credentials_destroy(&credentials);
}

/* --- who may not --- */

enum who { SECRET_1, SECRET_2, CERT_A, CERT_B, CERT_FOREIGN, CERT_OLD, CERT_NEW, PLAIN };

static struct tls_credentials *credentials_of(enum who who, const char *peer)
{
    switch (who) {
    case SECRET_1:
        return tls_identity_by_secret(SECRET, 0);
    case SECRET_2:
        return tls_identity_by_secret("another secret of the tests", 0);
    case CERT_A:
        return tls_identity_credentials(folder, "a.example", folder, peer);
    case CERT_B:
        return tls_identity_credentials(folder, "b.example", folder, peer);
    case CERT_FOREIGN:
        return tls_identity_credentials(foreign, "a.example", folder, peer);
    case CERT_OLD:
        return tls_identity_credentials(folder, "old.example", folder, peer);
    case CERT_NEW:
        return tls_identity_credentials(folder, "new.example", folder, peer);
    default:
        return NULL;
    }
}

#define EITHER_WAY "in the same way"

static const struct {
    enum who client, server;
    const char *client_expects, *server_expects; /* names */
    int client_says, server_says;
    const char *client_text, *server_text;
} refusals[] = {
    {SECRET_2, SECRET_1, "", "", -EKEYREJECTED, -EKEYREJECTED,
     "this host does not hold the peer's secret", "the peer does not hold this pair's secret"},
    {SECRET_1, CERT_A, "", "b.example", -EACCES, -EACCES, EITHER_WAY,
     "or the peer authenticates by secret-file"},
    {CERT_B, SECRET_1, "a.example", "", -EACCES, -EACCES, EITHER_WAY, EITHER_WAY},
    {CERT_B, CERT_FOREIGN, "a.example", "b.example", -EACCES, -EACCES, "none of the authorities",
     "another authority signed it"},
    {CERT_FOREIGN, CERT_B, "b.example", "a.example", -EACCES, -EACCES,
     "another authority signed it", "none of the authorities"},
    {CERT_B, CERT_OLD, "old.example", "b.example", -EACCES, -EACCES,
     "the peer's certificate is refused: it has expired",
     "refused this host's certificate: it has expired"},
    {CERT_OLD, CERT_B, "b.example", "old.example", -EACCES, -EACCES,
     "refused this host's certificate: it has expired",
     "the peer's certificate is refused: it has expired"},
    {CERT_B, CERT_NEW, "new.example", "b.example", -EACCES, -EACCES, "it is not valid yet",
     "it is not valid yet"},
    {CERT_NEW, CERT_B, "b.example", "new.example", -EACCES, -EACCES, "it is not valid yet",
     "it is not valid yet"},
    {CERT_B, CERT_A, "c.example", "b.example", -EACCES, -EACCES,
     "it does not name the host that peer-name expects", "refused this host's certificate"},
    {CERT_B, CERT_A, "a.example", "192.0.2.8", -EACCES, -EACCES, "refused this host's certificate",
     "it does not name the host that peer-name expects"},
    {PLAIN, SECRET_1, "", "", -EPROTO, -EPROTO, "the peer speaks TLS and this host does not",
     "the peer speaks plain tcp:// and this host tls://"},
    {SECRET_1, PLAIN, "", "", -ECONNRESET, -EPROTO, "does it expect plain tcp://?",
     "the peer speaks TLS and this host does not"},
};

static void expect_refused(const struct side *s, size_t row, int code, const char *text)
{
    if (s->rc != code || !strstr(s->err.text, text))
        fprintf(stderr, "row %zu, %s: %d: %s\n", row, s->server ? "server" : "client", s->rc,
                s->err.text);
    CU_ASSERT_EQUAL(s->rc, code);
    CU_ASSERT_EQUAL(s->err.code, code);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->err.text, text));
    CU_ASSERT_PTR_NULL(strchr(s->err.text, '\n'));
    CU_ASSERT_EQUAL(s->session.reason == SESSION_KEY, code == -EKEYREJECTED);
}

static void whoever_is_not_the_other_host_is_refused_on_both_sides_with_a_sentence(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct tls_credentials *client =
            credentials_of(refusals[i].client, refusals[i].client_expects);
        struct tls_credentials *server =
            credentials_of(refusals[i].server, refusals[i].server_expects);
        struct side sides[2] = {
            {.scheme = client ? TLS : TCP, .credentials = client, .whole = true},
            {.scheme = server ? TLS : TCP, .credentials = server, .whole = true}};
        meet(sides);
        expect_refused(&sides[0], i, refusals[i].client_says, refusals[i].client_text);
        expect_refused(&sides[1], i, refusals[i].server_says, refusals[i].server_text);
        part(sides);
        tls_credentials_destroy(&client);
        tls_credentials_destroy(&server);
    }
}

/* What a stranger sends first, and what our server makes of it. */
static void meet_stranger(struct side *server, const void *bytes, size_t size)
{
    int fds[2];
    make_sockets(fds);
    CU_ASSERT_EQUAL(fd_write_all(fds[0], bytes, size), 0);
    shutdown(fds[0], SHUT_WR);
    server->server = server->whole = true;
    begin(server, fds[1]);
    finish(server);
    fd_close(&fds[0]);
}

/* The first flight of an OpenSSL client of these versions, without any key. */
static size_t client_hello(int version, uint8_t *out, size_t size)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    SSL *ssl = SSL_new(context);
    BIO *network = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), network);
    SSL_connect(ssl);
    const int n = BIO_read(network, out, (int)size);
    SSL_free(ssl);
    SSL_CTX_free(context);
    CU_ASSERT_FATAL(n > 0);
    return (size_t)n;
}

static void strangers_and_old_versions_are_refused_with_a_sentence(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    uint8_t hello[4096];
    struct side old = {.credentials = credentials};
    meet_stranger(&old, hello, client_hello(TLS1_2_VERSION, hello, sizeof(hello)));
    expect_refused(&old, 0, -EPROTONOSUPPORT, "does not speak TLS 1.3");
    struct side keyless = {.credentials = credentials};
    meet_stranger(&keyless, hello, client_hello(TLS1_3_VERSION, hello, sizeof(hello)));
    expect_refused(&keyless, 1, -EACCES, EITHER_WAY);
    struct side http = {.credentials = credentials};
    meet_stranger(&http, "GET / HTTP/1.1\r\n\r\n", 18);
    expect_refused(&http, 2, -EPROTO, "HTTP");
    struct side noise = {.credentials = credentials};
    meet_stranger(&noise, "SSH-2.0-OpenSSH_9.2\r\n", 21);
    expect_refused(&noise, 3, -EPROTO, "does not speak TLS");
    struct side mute = {.credentials = credentials};
    meet_stranger(&mute, "", 0);
    expect_refused(&mute, 4, -ECONNRESET, "closed the connection in the TLS handshake");
    tls_credentials_destroy(&credentials);
}

static void a_peer_that_is_silent_or_drips_ends_at_the_deadline(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    for (int drips = 0; drips < 2; drips++) {
        int fds[2];
        make_sockets(fds);
        struct side server = {.credentials = credentials, .server = true, .timeout_ms = SHORT_MS};
        if (drips)
            CU_ASSERT_EQUAL(fd_write_all(fds[0], "\x16\x03\x01", 3), 0);
        begin(&server, fds[1]);
        finish(&server);
        CU_ASSERT_EQUAL(server.rc, -ETIMEDOUT);
        fd_close(&fds[0]);
    }
    tls_credentials_destroy(&credentials);
}

/* --- somebody in between --- */

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
static void meet_through(struct relay *r, struct side sides[2])
{
    int near[2], far[2];
    make_sockets(near);
    make_sockets(far);
    *r = (struct relay){.ends = {near[1], far[1]}, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_create(&r->thread, NULL, relay_main, r);
    sides[1].server = true;
    begin(&sides[0], near[0]);
    begin(&sides[1], far[0]);
    finish(&sides[0]);
    finish(&sides[1]);
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
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct side sides[2] = {{.credentials = credentials, .whole = true},
                            {.credentials = credentials, .whole = true}};
    meet_through(relay, sides);
    expect_met(sides);
    part(sides);
    close_relay(relay);
    CU_ASSERT_FATAL(relay->kept_size > 0 && relay->kept_size < sizeof(relay->kept));
    struct side server = {.credentials = credentials};
    meet_stranger(&server, relay->kept, relay->kept_size);
    CU_ASSERT_NOT_EQUAL(server.rc, 0);
    CU_ASSERT_EQUAL(server.session.term, 0);
    free(relay);
    tls_credentials_destroy(&credentials);
}

/* Copies frames from one link to another until one ends. */
struct splice {
    struct link *from, *to;
    pthread_t thread;
};

static void *splice_main(void *argument)
{
    const struct splice *s = argument;
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    struct frame header;
    while (link_receive_header(s->from, &header, NULL) == 0 &&
           link_receive_payload(s->from, bytes, header.size, NULL) == 0) {
        const struct iovec piece = {bytes, header.size};
        if (link_send(s->to, &header, &piece, 1, NULL) < 0)
            break;
    }
    link_shutdown(s->to);
    free(bytes);
    return NULL;
}

static void who_splices_two_secured_connections_together_is_found_out(void)
{
    /* He has certificates that both sides believe, but not the pair's secret. */
    struct tls_credentials *a = tls_identity_credentials(folder, "a.example", folder, "b.example");
    struct tls_credentials *b = tls_identity_credentials(folder, "b.example", folder, "a.example");
    int near[2], far[2];
    make_sockets(near);
    make_sockets(far);
    struct side client = {.credentials = a, .whole = true};
    struct side server = {.credentials = b, .whole = true, .server = true};
    struct side as_server = {.credentials = b, .server = true};
    struct side as_client = {.credentials = a};
    begin(&client, near[0]);
    begin(&server, far[0]);
    begin(&as_server, near[1]);
    begin(&as_client, far[1]);
    finish(&as_server);
    finish(&as_client);
    CU_ASSERT_FATAL(as_server.rc == 0 && as_client.rc == 0);
    struct splice there = {.from = as_server.link, .to = as_client.link};
    struct splice back = {.from = as_client.link, .to = as_server.link};
    pthread_create(&there.thread, NULL, splice_main, &there);
    pthread_create(&back.thread, NULL, splice_main, &back);
    finish(&client);
    finish(&server);
    CU_ASSERT_EQUAL(server.rc, -EKEYREJECTED);
    CU_ASSERT_EQUAL(client.rc, -EKEYREJECTED);
    link_shutdown(as_server.link);
    link_shutdown(as_client.link);
    pthread_join(there.thread, NULL);
    pthread_join(back.thread, NULL);
    link_destroy(&as_server.link);
    link_destroy(&as_client.link);
    link_destroy(&client.link);
    link_destroy(&server.link);
    tls_credentials_destroy(&a);
    tls_credentials_destroy(&b);
}

#define RECORDED 512 /* more than one short frame takes */

/* The bytes of one frame on their way from the client; the rest of the connection waits. */
static size_t catch_frame(struct relay *relay, struct side sides[2], uint8_t bytes[RECORDED])
{
    CU_ASSERT_EQUAL(send_text(sides[0].link, "payload"), 0);
    const ssize_t n = recv(relay->ends[0], bytes, RECORDED, 0);
    CU_ASSERT_FATAL(n > FRAME_HEADER_SIZE + 7 && n < RECORDED);
    return (size_t)n;
}

/* What the server makes of `size` bytes and the end of the connection. */
static int deliver(struct relay *relay, struct side sides[2], const uint8_t *bytes, size_t size)
{
    char text[64];
    CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes, size), 0);
    shutdown(relay->ends[1], SHUT_WR);
    int rc = receive_text(sides[1].link, text, sizeof(text), NULL);
    if (rc == 0) {
        CU_ASSERT_STRING_EQUAL(text, "payload");
        rc = receive_text(sides[1].link, text, sizeof(text), NULL);
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
    struct side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[2 * RECORDED];
    meet_through(relay, sides);
    expect_met(sides);
    *size = catch_frame(relay, sides, bytes);
    const int rc = deliver(relay, sides, bytes, change(bytes, *size, at));
    part(sides);
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
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    size_t size = 1;
    CU_ASSERT_EQUAL(deliver_changed(credentials, leave, 0, &size), 0);
    for (size_t i = 0; i < size; i++)
        CU_ASSERT_NOT_EQUAL(deliver_changed(credentials, flip, i, &size), 0);
    tls_credentials_destroy(&credentials);
}

static void a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    size_t size = 2;
    CU_ASSERT_EQUAL(deliver_changed(credentials, cut, 0, &size), -EPIPE);
    for (size_t i = 1; i < size; i++)
        CU_ASSERT_EQUAL(deliver_changed(credentials, cut, i, &size), -ECONNRESET);
    tls_credentials_destroy(&credentials);
}

static void a_record_sent_twice_is_found(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[2 * RECORDED];
    char text[64];
    meet_through(relay, sides);
    expect_met(sides);
    const size_t size = catch_frame(relay, sides, bytes);
    CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes, repeat(bytes, size, 0)), 0);
    expect_text(sides[1].link, "payload");
    CU_ASSERT_EQUAL(receive_text(sides[1].link, text, sizeof(text), NULL), -EBADMSG);
    part(sides);
    close_relay(relay);
    free(relay);
    tls_credentials_destroy(&credentials);
}

/* --- many threads --- */

#define SENDERS     3
#define FRAMES_EACH 40
#define PIECE       5000 /* not a divisor of a record */
#define PIECES      60

struct sender {
    pthread_t thread;
    struct link *link;
    uint8_t mark;
};

static void *send_many(void *argument)
{
    const struct sender *s = argument;
    uint8_t *bytes = malloc((size_t)PIECE * PIECES);
    memset(bytes, s->mark, (size_t)PIECE * PIECES);
    struct iovec pieces[PIECES];
    for (unsigned i = 0; i < FRAMES_EACH; i++) {
        const int count = i % 3 ? PIECES : 1; /* large and small ones */
        for (int k = 0; k < count; k++)
            pieces[k] = (struct iovec){bytes + (size_t)k * PIECE, PIECE};
        const struct frame fields = {.type = FRAME_PAGES, .term = s->mark, .epoch = i + 1};
        CU_ASSERT_EQUAL(link_send(s->link, &fields, pieces, count, NULL), 0);
    }
    free(bytes);
    return NULL;
}

static void *receive_many(void *argument)
{
    struct link *link = argument;
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    uint64_t last[SENDERS + 1] = {0};
    for (int i = 0; i < SENDERS * FRAMES_EACH; i++) {
        struct frame header;
        struct error err = {0};
        if (link_receive_header(link, &header, &err) < 0 ||
            link_receive_payload(link, bytes, header.size, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            CU_FAIL("nothing is lost");
            break;
        }
        CU_ASSERT_FATAL(header.term >= 1 && header.term <= SENDERS);
        CU_ASSERT_EQUAL(header.epoch, ++last[header.term]);
        for (size_t k = 0; k < header.size; k += 997)
            CU_ASSERT_EQUAL(bytes[k], header.term);
    }
    free(bytes);
    return NULL;
}

/* Both directions at the same time, several senders each. */
static void hammer(struct side sides[2])
{
    pthread_t receivers[2];
    struct sender senders[2][SENDERS];
    for (int i = 0; i < 2; i++) {
        pthread_create(&receivers[i], NULL, receive_many, sides[i].link);
        for (uint8_t k = 0; k < SENDERS; k++) {
            senders[i][k] = (struct sender){.link = sides[i].link, .mark = (uint8_t)(k + 1)};
            pthread_create(&senders[i][k].thread, NULL, send_many, &senders[i][k]);
        }
    }
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < SENDERS; k++)
            pthread_join(senders[i][k].thread, NULL);
        pthread_join(receivers[i], NULL);
    }
}

/* Keys are changed all the while. */
static void senders_and_receivers_on_both_sides_at_once_lose_nothing(void)
{
    struct side sides[2];
    struct tls_credentials *credentials;
    meet_by_secret(sides, 5, &credentials);
    hammer(sides);
    part(sides);
    tls_credentials_destroy(&credentials);
}

static void *receive_until_error(void *argument)
{
    struct frame header;
    return (void *)(intptr_t)link_receive_header(argument, &header, NULL);
}

static void *send_until_error(void *argument)
{
    uint8_t *bytes = calloc(1, FRAME_PAYLOAD_MAX);
    const struct iovec piece = {bytes, FRAME_PAYLOAD_MAX};
    const struct frame pages = {.type = FRAME_PAGES, .term = 1, .epoch = 1};
    int rc = 0;
    while (rc == 0)
        rc = link_send(argument, &pages, &piece, 1, NULL);
    free(bytes);
    return (void *)(intptr_t)rc;
}

static void shutdown_wakes_a_blocked_sender_and_receiver(void)
{
    struct side sides[2];
    struct tls_credentials *credentials;
    meet_by_secret(sides, 0, &credentials);
    pthread_t receiver, sender;
    pthread_create(&receiver, NULL, receive_until_error, sides[0].link);
    pthread_create(&sender, NULL, send_until_error, sides[0].link);
    link_shutdown(sides[0].link);
    void *result = NULL;
    pthread_join(receiver, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -ECONNRESET);
    pthread_join(sender, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -EPIPE);
    part(sides);
    tls_credentials_destroy(&credentials);
}

static void a_silent_peer_is_a_time_out_that_can_be_tried_again(void)
{
    struct side sides[2];
    struct tls_credentials *credentials;
    struct frame header;
    meet_by_secret(sides, 0, &credentials);
    link_set_timeouts(sides[1].link, 0, SHORT_MS);
    CU_ASSERT_EQUAL(link_receive_header(sides[1].link, &header, NULL), -ETIMEDOUT);
    link_set_timeouts(sides[1].link, 0, 0);
    CU_ASSERT_EQUAL(send_text(sides[0].link, "late"), 0);
    expect_text(sides[1].link, "late");
    link_set_timeouts(sides[0].link, SHORT_MS, 0);
    CU_ASSERT_PTR_EQUAL(send_until_error(sides[0].link), (void *)(intptr_t)-ETIMEDOUT);
    part(sides);
    tls_credentials_destroy(&credentials);
}

/* --- on top of another link --- */

static void all_that_holds_on_top_of_another_link(void)
{
    over_a_link = true;
    two_sides_with_the_same_secret_talk();
    two_sides_with_certificates_of_one_authority_talk();
    a_byte_changed_on_the_way_is_found();
    a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof();
    a_record_sent_twice_is_found();
    senders_and_receivers_on_both_sides_at_once_lose_nothing();
    shutdown_wakes_a_blocked_sender_and_receiver();
    a_silent_peer_is_a_time_out_that_can_be_tried_again();
    over_a_link = false;
}

/* A time-out inside a record, at each of its bytes, loses nothing of it. */
static void a_record_that_drips_through_a_link_comes_whole(void)
{
    over_a_link = true;
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    struct relay *relay = calloc(1, sizeof(*relay));
    struct side sides[2] = {{.credentials = credentials}, {.credentials = credentials}};
    uint8_t bytes[RECORDED];
    struct frame header;
    meet_through(relay, sides);
    expect_met(sides);
    const size_t size = catch_frame(relay, sides, bytes);
    for (size_t at = 0; at < size; at++) {
        link_set_timeouts(sides[1].link, 0, 1);
        CU_ASSERT_EQUAL_FATAL(link_receive_header(sides[1].link, &header, NULL), -ETIMEDOUT);
        CU_ASSERT_EQUAL(fd_write_all(relay->ends[1], bytes + at, 1), 0);
    }
    link_set_timeouts(sides[1].link, 0, AMPLE_MS);
    expect_text(sides[1].link, "payload");
    part(sides);
    close_relay(relay);
    free(relay);
    tls_credentials_destroy(&credentials);
    over_a_link = false;
}

/* --- over TCP, by URI --- */

static void *establish_main(void *link)
{
    return (void *)(intptr_t)link_establish(link, NULL);
}

static void an_address_without_a_scheme_means_tls(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(SECRET, 0);
    struct listener *listener = NULL;
    struct link *pair[2];
    pthread_t thread;
    void *rc;
    CU_ASSERT_EQUAL_FATAL(transport_listen("127.0.0.1:0", credentials, &listener, NULL), 0);
    const char *uri = listener_uri(listener);
    CU_ASSERT_EQUAL(strncmp(uri, "tls://127.0.0.1:", 16), 0);
    CU_ASSERT_EQUAL_FATAL(
        transport_connect(uri + strlen("tls://"), credentials, AMPLE_MS, -1, &pair[0], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, AMPLE_MS, &pair[1], NULL), 0);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(pair[0]), "tls 127.0.0.1:", 14), 0);
    pthread_create(&thread, NULL, establish_main, pair[1]);
    CU_ASSERT_EQUAL(link_establish(pair[0], NULL), 0);
    pthread_join(thread, &rc);
    CU_ASSERT_PTR_NULL(rc);
    struct side sides[2] = {{.link = pair[0]}, {.link = pair[1]}};
    talk(sides);
    printf("(kernel TLS: %s) ", link_security(pair[0])->kernel ? "on" : "off");
    part(sides);
    listener_destroy(&listener);
    tls_credentials_destroy(&credentials);
}

/* --- files that can't be used --- */

static void expect_no_credentials(const struct tls_config *config, int code, const char *text)
{
    struct tls_credentials *credentials = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL(tls_credentials_create(config, &credentials, &err), code);
    CU_ASSERT_PTR_NULL(credentials);
    if (!strstr(err.text, text))
        fprintf(stderr, "got: %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, text));
}

static void several_secured_connections_become_one_link(void)
{
    struct tls_credentials *credentials[3];
    struct side each[3][2];
    struct link *near[3], *far[3];
    for (int i = 0; i < 3; i++) {
        meet_by_secret(each[i], 7, &credentials[i]);
        near[i] = each[i][0].link;
        far[i] = each[i][1].link;
    }
    struct side sides[2] = {{0}, {0}};
    CU_ASSERT_EQUAL_FATAL(bundle_create(near, 3, &sides[0].link, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(far, 3, &sides[1].link, NULL), 0);
    CU_ASSERT_TRUE(link_security(sides[0].link)->encrypted);
    talk(sides);
    hammer(sides);
    part(sides);
    for (int i = 0; i < 3; i++)
        tls_credentials_destroy(&credentials[i]);
}

static void files_that_can_not_be_used_are_refused_with_a_sentence(void)
{
    char cert[128], key[128], other[128], ca[128];
    snprintf(cert, sizeof(cert), "%s/a.example.pem", folder);
    snprintf(key, sizeof(key), "%s/a.example.key", folder);
    snprintf(other, sizeof(other), "%s/b.example.key", folder);
    snprintf(ca, sizeof(ca), "%s/ca.pem", folder);
    const struct tls_config good = {
        .cert_file = cert, .key_file = key, .ca_file = ca, .peer_name = "b.example"};
    struct tls_config config = good;
    config.key_file = other;
    expect_no_credentials(&config, -EINVAL, "b.example.key can't be used: key values mismatch");
    config.key_file = "/gone";
    expect_no_credentials(&config, -ENOENT, "/gone");
    config = good;
    config.cert_file = "/dev/null";
    expect_no_credentials(&config, -EINVAL, "certificate /dev/null can't be used");
    config = good;
    config.ca_file = key;
    expect_no_credentials(&config, -EINVAL, "ca-file");
    CU_ASSERT_EQUAL(chmod(key, 0640), 0);
    expect_no_credentials(&good, -EPERM, "chmod 600 it");
    CU_ASSERT_EQUAL(chmod(key, 0600), 0);
}

static void keys_are_made_for_their_owner_and_never_overwritten(void)
{
    char path[128];
    struct stat status;
    struct error err = {0};
    uint8_t one[KEY_SIZE], two[KEY_SIZE];
    snprintf(path, sizeof(path), "%s/secret", folder);
    const mode_t mask = umask(0);
    CU_ASSERT_EQUAL(keygen_secret(path, &err), 0);
    umask(mask);
    CU_ASSERT_EQUAL(stat(path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_TLS, one, &err), 0);
    CU_ASSERT_EQUAL(keygen_secret(path, &err), -EEXIST);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "secret exists and is not overwritten"));
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_TLS, two, &err), 0);
    CU_ASSERT_EQUAL(memcmp(one, two, KEY_SIZE), 0);
    const struct keygen_validity validity = {time(NULL), time(NULL) + 60};
    CU_ASSERT_EQUAL(keygen_authority(folder, &validity, &err), -EEXIST);
    CU_ASSERT_EQUAL(keygen_host(folder, "a.example", &validity, &err), -EEXIST);
    snprintf(path, sizeof(path), "%s/a.example.key", folder);
    CU_ASSERT_EQUAL(stat(path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
    static const char *const bad[] = {"",          "a/b", "../x", "-x",          ".",
                                      "*.example", "ca",  "a b",  "a,IP:1.2.3.4"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CU_ASSERT_EQUAL(keygen_host(folder, bad[i], &validity, &err), -EINVAL);
}

static const struct test_case cases[] = {
    {"two sides with the same secret talk", two_sides_with_the_same_secret_talk},
    {"two sides with certificates of one authority talk",
     two_sides_with_certificates_of_one_authority_talk},
    {"frames before the handshake are refused", frames_before_the_handshake_are_refused},
    {"whoever is not the other host is refused on both sides with a sentence",
     whoever_is_not_the_other_host_is_refused_on_both_sides_with_a_sentence},
    {"strangers and old versions are refused with a sentence",
     strangers_and_old_versions_are_refused_with_a_sentence},
    {"a peer that is silent or drips ends at the deadline",
     a_peer_that_is_silent_or_drips_ends_at_the_deadline},
    {"what a client said once is worth nothing the second time",
     what_a_client_said_once_is_worth_nothing_the_second_time},
    {"who splices two secured connections together is found out",
     who_splices_two_secured_connections_together_is_found_out},
    {"a byte changed on the way is found", a_byte_changed_on_the_way_is_found},
    {"a stream cut at any byte is a reset, but between frames an EOF",
     a_stream_cut_at_any_byte_is_a_reset_but_between_frames_an_eof},
    {"a record sent twice is found", a_record_sent_twice_is_found},
    {"senders and receivers on both sides at once lose nothing",
     senders_and_receivers_on_both_sides_at_once_lose_nothing},
    {"shutdown wakes a blocked sender and receiver", shutdown_wakes_a_blocked_sender_and_receiver},
    {"a silent peer is a time-out that can be tried again",
     a_silent_peer_is_a_time_out_that_can_be_tried_again},
    {"all that holds on top of another link", all_that_holds_on_top_of_another_link},
    {"a record that drips through a link comes whole",
     a_record_that_drips_through_a_link_comes_whole},
    {"an address without a scheme means tls", an_address_without_a_scheme_means_tls},
    {"several secured connections become one link", several_secured_connections_become_one_link},
    {"files that can't be used are refused with a sentence",
     files_that_can_not_be_used_are_refused_with_a_sentence},
    {"keys are made for their owner and never overwritten",
     keys_are_made_for_their_owner_and_never_overwritten},
};

int main(int argc, char **argv)
{
    make_folder();
    return test_run(argc, argv, "tls", cases, ARRAY_SIZE(cases));
}
