/* TLS between two links: those who may, do; everybody else is refused on both sides, with a
 * sentence. What happens on the way is in tls_wire_test.c. */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/keygen.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "test/support/tls_sides.h"
#include "transport/bundle.h"
#include "transport/transport.h"

#define SHORT_MS 50 /* reached on purpose */

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
    struct tls_side sides[2], again[2];
    struct tls_credentials *credentials, *other;
    tls_sides_meet_by_secret(sides, 0, &credentials);
    tls_sides_meet_by_secret(again, 0, &other);
    tls_sides_talk(sides);
    const struct link_security *client = link_security(sides[0].link);
    const struct link_security *server = link_security(sides[1].link);
    CU_ASSERT_TRUE(client->encrypted && server->encrypted);
    CU_ASSERT_STRING_EQUAL(client->cipher, "TLS_AES_128_GCM_SHA256");
    CU_ASSERT_STRING_EQUAL(server->cipher, client->cipher);
    CU_ASSERT_EQUAL(memcmp(client->binding, server->binding, LINK_BINDING_SIZE), 0);
    const struct link_security *second = link_security(again[0].link);
    CU_ASSERT_NOT_EQUAL(memcmp(client->binding, second->binding, LINK_BINDING_SIZE), 0);
    tls_sides_part(sides);
    tls_sides_part(again);
    tls_credentials_destroy(&credentials);
    tls_credentials_destroy(&other);
}

static void two_sides_with_certificates_of_one_authority_talk(void)
{
    struct tls_credentials *a = tls_identity_credentials(folder, "a.example", folder, "192.0.2.7");
    struct tls_credentials *b = tls_identity_credentials(folder, "192.0.2.7", folder, "a.example");
    for (int turn = 0; turn < 2; turn++) {
        struct tls_side sides[2] = {{.credentials = turn ? a : b, .whole = true},
                                    {.credentials = turn ? b : a, .whole = true}};
        tls_sides_meet(sides);
        tls_sides_expect_met(sides);
        tls_sides_talk(sides);
        tls_sides_part(sides);
    }
    tls_credentials_destroy(&a);
    tls_credentials_destroy(&b);
}

static void frames_before_the_handshake_are_refused(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    int fds[2];
    tls_sides_sockets(fds);
    struct link *link = NULL;
    struct frame header;
    CU_ASSERT_EQUAL_FATAL(tls_link_create(fds[0], "x", false, credentials, &link, NULL), 0);
    CU_ASSERT_EQUAL(tls_send_text(link, "early"), -EINVAL);
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
        return tls_identity_by_secret(TLS_SECRET, 0);
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

static void expect_refused(const struct tls_side *s, size_t row, int code, const char *text)
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
        struct tls_side sides[2] = {{.plain = !client, .credentials = client, .whole = true},
                                    {.plain = !server, .credentials = server, .whole = true}};
        tls_sides_meet(sides);
        expect_refused(&sides[0], i, refusals[i].client_says, refusals[i].client_text);
        expect_refused(&sides[1], i, refusals[i].server_says, refusals[i].server_text);
        tls_sides_part(sides);
        tls_credentials_destroy(&client);
        tls_credentials_destroy(&server);
    }
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
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    uint8_t hello[4096];
    struct tls_side old = {.credentials = credentials};
    tls_side_meet_stranger(&old, hello, client_hello(TLS1_2_VERSION, hello, sizeof(hello)));
    expect_refused(&old, 0, -EPROTONOSUPPORT, "does not speak TLS 1.3");
    struct tls_side keyless = {.credentials = credentials};
    tls_side_meet_stranger(&keyless, hello, client_hello(TLS1_3_VERSION, hello, sizeof(hello)));
    expect_refused(&keyless, 1, -EACCES, EITHER_WAY);
    struct tls_side http = {.credentials = credentials};
    tls_side_meet_stranger(&http, "GET / HTTP/1.1\r\n\r\n", 18);
    expect_refused(&http, 2, -EPROTO, "HTTP");
    struct tls_side noise = {.credentials = credentials};
    tls_side_meet_stranger(&noise, "SSH-2.0-OpenSSH_9.2\r\n", 21);
    expect_refused(&noise, 3, -EPROTO, "does not speak TLS");
    struct tls_side mute = {.credentials = credentials};
    tls_side_meet_stranger(&mute, "", 0);
    expect_refused(&mute, 4, -ECONNRESET, "closed the connection in the TLS handshake");
    tls_credentials_destroy(&credentials);
}

static void a_peer_that_is_silent_or_drips_ends_at_the_deadline(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    for (int drips = 0; drips < 2; drips++) {
        int fds[2];
        tls_sides_sockets(fds);
        struct tls_side server = {
            .credentials = credentials, .server = true, .timeout_ms = SHORT_MS};
        if (drips)
            CU_ASSERT_EQUAL(fd_write_all(fds[0], "\x16\x03\x01", 3), 0);
        tls_side_begin(&server, fds[1]);
        tls_side_finish(&server);
        CU_ASSERT_EQUAL(server.rc, -ETIMEDOUT);
        fd_close(&fds[0]);
    }
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
    tls_sides_sockets(near);
    tls_sides_sockets(far);
    struct tls_side client = {.credentials = a, .whole = true};
    struct tls_side server = {.credentials = b, .whole = true, .server = true};
    struct tls_side as_server = {.credentials = b, .server = true};
    struct tls_side as_client = {.credentials = a};
    tls_side_begin(&client, near[0]);
    tls_side_begin(&server, far[0]);
    tls_side_begin(&as_server, near[1]);
    tls_side_begin(&as_client, far[1]);
    tls_side_finish(&as_server);
    tls_side_finish(&as_client);
    CU_ASSERT_FATAL(as_server.rc == 0 && as_client.rc == 0);
    struct splice there = {.from = as_server.link, .to = as_client.link};
    struct splice back = {.from = as_client.link, .to = as_server.link};
    pthread_create(&there.thread, NULL, splice_main, &there);
    pthread_create(&back.thread, NULL, splice_main, &back);
    tls_side_finish(&client);
    tls_side_finish(&server);
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
static void hammer(struct tls_side sides[2])
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
    struct tls_side sides[2];
    struct tls_credentials *credentials;
    tls_sides_meet_by_secret(sides, 5, &credentials);
    hammer(sides);
    tls_sides_part(sides);
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
    struct tls_side sides[2];
    struct tls_credentials *credentials;
    tls_sides_meet_by_secret(sides, 0, &credentials);
    pthread_t receiver, sender;
    pthread_create(&receiver, NULL, receive_until_error, sides[0].link);
    pthread_create(&sender, NULL, send_until_error, sides[0].link);
    link_shutdown(sides[0].link);
    void *result = NULL;
    pthread_join(receiver, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -ECONNRESET);
    pthread_join(sender, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -EPIPE);
    tls_sides_part(sides);
    tls_credentials_destroy(&credentials);
}

static void a_silent_peer_is_a_time_out_that_can_be_tried_again(void)
{
    struct tls_side sides[2];
    struct tls_credentials *credentials;
    struct frame header;
    tls_sides_meet_by_secret(sides, 0, &credentials);
    link_set_timeouts(sides[1].link, 0, SHORT_MS);
    CU_ASSERT_EQUAL(link_receive_header(sides[1].link, &header, NULL), -ETIMEDOUT);
    link_set_timeouts(sides[1].link, 0, 0);
    CU_ASSERT_EQUAL(tls_send_text(sides[0].link, "late"), 0);
    tls_expect_text(sides[1].link, "late");
    link_set_timeouts(sides[0].link, SHORT_MS, 0);
    CU_ASSERT_PTR_EQUAL(send_until_error(sides[0].link), (void *)(intptr_t)-ETIMEDOUT);
    tls_sides_part(sides);
    tls_credentials_destroy(&credentials);
}

/* --- on top of another link --- */

static void all_that_holds_on_top_of_another_link(void)
{
    tls_sides_over_a_link = true;
    two_sides_with_the_same_secret_talk();
    two_sides_with_certificates_of_one_authority_talk();
    senders_and_receivers_on_both_sides_at_once_lose_nothing();
    shutdown_wakes_a_blocked_sender_and_receiver();
    a_silent_peer_is_a_time_out_that_can_be_tried_again();
    tls_sides_over_a_link = false;
}

/* --- over TCP, by URI --- */

static void *establish_main(void *link)
{
    return (void *)(intptr_t)link_establish(link, NULL);
}

static void an_address_without_a_scheme_means_tls(void)
{
    struct tls_credentials *credentials = tls_identity_by_secret(TLS_SECRET, 0);
    struct listener *listener = NULL;
    struct link *pair[2];
    pthread_t thread;
    void *rc;
    CU_ASSERT_EQUAL_FATAL(transport_listen("127.0.0.1:0", credentials, &listener, NULL), 0);
    const char *uri = listener_uri(listener);
    CU_ASSERT_EQUAL(strncmp(uri, "tls://127.0.0.1:", 16), 0);
    CU_ASSERT_EQUAL_FATAL(
        transport_connect(uri + strlen("tls://"), credentials, TLS_AMPLE_MS, -1, &pair[0], NULL),
        0);
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, TLS_AMPLE_MS, &pair[1], NULL), 0);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(pair[0]), "tls 127.0.0.1:", 14), 0);
    pthread_create(&thread, NULL, establish_main, pair[1]);
    CU_ASSERT_EQUAL(link_establish(pair[0], NULL), 0);
    pthread_join(thread, &rc);
    CU_ASSERT_PTR_NULL(rc);
    struct tls_side sides[2] = {{.link = pair[0]}, {.link = pair[1]}};
    tls_sides_talk(sides);
    printf("(kernel TLS: %s) ", link_security(pair[0])->kernel ? "on" : "off");
    tls_sides_part(sides);
    listener_destroy(&listener);
    tls_credentials_destroy(&credentials);
}

static void an_address_that_wants_TLS_wants_credentials(void)
{
    static const char *const uris[] = {"tls://127.0.0.1:1", "127.0.0.1:1",
                                       "rdma+tls://127.0.0.1:1"};
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        struct listener *listener = NULL;
        struct link *link = NULL;
        struct error err = {0};
        CU_ASSERT_EQUAL(transport_listen(uris[i], NULL, &listener, &err), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "tls:// needs a secret or certificates"));
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, uris[i]));
        CU_ASSERT_EQUAL(transport_connect(uris[i], NULL, SHORT_MS, -1, &link, &err), -EINVAL);
        CU_ASSERT_PTR_NULL(link);
    }
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
    struct tls_side each[3][2];
    struct link *near[3], *far[3];
    for (int i = 0; i < 3; i++) {
        tls_sides_meet_by_secret(each[i], 7, &credentials[i]);
        near[i] = each[i][0].link;
        far[i] = each[i][1].link;
    }
    struct tls_side sides[2] = {{0}, {0}};
    CU_ASSERT_EQUAL_FATAL(bundle_create(near, 3, &sides[0].link, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(far, 3, &sides[1].link, NULL), 0);
    CU_ASSERT_TRUE(link_security(sides[0].link)->encrypted);
    tls_sides_talk(sides);
    hammer(sides);
    tls_sides_part(sides);
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
    {"who splices two secured connections together is found out",
     who_splices_two_secured_connections_together_is_found_out},
    {"senders and receivers on both sides at once lose nothing",
     senders_and_receivers_on_both_sides_at_once_lose_nothing},
    {"shutdown wakes a blocked sender and receiver", shutdown_wakes_a_blocked_sender_and_receiver},
    {"a silent peer is a time-out that can be tried again",
     a_silent_peer_is_a_time_out_that_can_be_tried_again},
    {"all that holds on top of another link", all_that_holds_on_top_of_another_link},
    {"an address without a scheme means tls", an_address_without_a_scheme_means_tls},
    {"an address that wants TLS wants credentials", an_address_that_wants_TLS_wants_credentials},
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
