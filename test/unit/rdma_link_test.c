/* Links over a real RDMA device, plain and with TLS: test/rig/rdma_test.sh makes a soft-RoCE one
 * and runs this.
 *
 *   test-rdma-link ADDRESS [CASE]     ADDRESS belongs to the device
 *
 * In the middle of two of the cases the device's network is taken away and given back, by the
 * commands in KEMARI_LINK_DOWN and KEMARI_LINK_UP. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "test/support/party.h"
#include "test/support/rdma_stranger.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "transport/rdma_wire.h"
#include "transport/transport.h"

#define AMPLE_MS  20000
#define SHORT_MS  300
#define LENT_SIZE ((size_t)4 << 20)
#define HAMMER    200
#define SEED      20260101u

static const char *address;

static const struct frame control = {.type = FRAME_CONTROL, .term = 3, .epoch = 4};
static const struct frame pages = {.type = FRAME_PAGES, .term = 5, .epoch = 6};

/* NULL: plain. Of both sides. */
static struct tls_credentials *credentials;

static struct listener *listen_here(void)
{
    struct listener *listener = NULL;
    struct error err = {0};
    char uri[96];
    snprintf(uri, sizeof(uri), "%s://%s:0", credentials ? "rdma+tls" : "rdma", address);
    const int rc = transport_listen(uri, credentials, &listener, &err);
    if (rc < 0)
        printf("%s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    return listener;
}

struct visitor {
    pthread_t thread;
    const char *uri;
    struct link *link;
};

static void *visit(void *argument)
{
    struct visitor *v = argument;
    struct error err = {0};
    int rc = transport_connect(v->uri, credentials, AMPLE_MS, -1, &v->link, &err);
    if (rc == 0)
        rc = link_establish(v->link, &err);
    if (rc < 0)
        printf("%s\n", err.text);
    CU_ASSERT_EQUAL(rc, 0);
    return NULL;
}

/* A pair; `trusted`: the peers have proved themselves, so bulk bytes go one-sided. */
static void make_pair(struct link *pair[2], bool trusted)
{
    struct listener *listener = listen_here();
    struct visitor v = {.uri = listener_uri(listener)};
    pthread_create(&v.thread, NULL, visit, &v);
    struct error err = {0};
    int rc = listener_accept(listener, AMPLE_MS, &pair[1], &err);
    if (rc == 0)
        rc = link_establish(pair[1], &err);
    if (rc < 0)
        printf("%s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    pthread_join(v.thread, NULL);
    pair[0] = v.link;
    CU_ASSERT_PTR_NOT_NULL_FATAL(pair[0]);
    listener_destroy(&listener);
    for (int i = 0; i < 2; i++) {
        link_set_timeouts(pair[i], AMPLE_MS, AMPLE_MS);
        if (trusted)
            link_trust(pair[i]);
    }
}

static void drop(struct link *pair[2])
{
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
}

static uint8_t pattern(uint64_t frame, size_t at)
{
    return (uint8_t)((frame * 2654435761u + at * 31 + (at >> 8)) >> 3);
}

static int send_pattern(struct link *link, uint64_t frame, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(frame, i);
    /* In three parts, as the engine sends a header and pages. */
    const size_t a = size / 7, b = size / 2;
    const struct iovec parts[] = {{bytes, a}, {bytes + a, b - a}, {bytes + b, size - b}};
    struct frame fields = size > FRAME_CONTROL_MAX ? pages : control;
    fields.epoch = frame + 1;
    return link_send(link, &fields, parts, 3, NULL);
}

static void expect_pattern(struct link *link, uint64_t frame, uint8_t *bytes, size_t size)
{
    struct frame header;
    struct error err = {0};
    const int rc = link_receive_header(link, &header, &err);
    if (rc < 0)
        printf("%s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    CU_ASSERT_EQUAL(header.epoch, frame + 1);
    CU_ASSERT_EQUAL_FATAL(header.size, size);
    CU_ASSERT_EQUAL_FATAL(link_receive_payload(link, bytes, size, NULL), 0);
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++)
        wrong += bytes[i] != pattern(frame, i);
    CU_ASSERT_EQUAL(wrong, 0);
}

struct traffic {
    pthread_t thread;
    struct link *link;
    unsigned seed, frames;
    uint8_t *bytes; /* FRAME_PAYLOAD_MAX; lent to the link or not */
};

static size_t some_size(unsigned *seed)
{
    switch (rand_r(seed) % 4) {
    case 0:
        return 7 + (size_t)rand_r(seed) % 200;
    case 1:
        return 7 + (size_t)rand_r(seed) % FRAME_CONTROL_MAX;
    default:
        return 7 + (size_t)rand_r(seed) % (FRAME_PAYLOAD_MAX - 7);
    }
}

static void *send_traffic(void *argument)
{
    struct traffic *t = argument;
    for (unsigned i = 0; i < t->frames; i++)
        CU_ASSERT_EQUAL(send_pattern(t->link, i, t->bytes, some_size(&t->seed)), 0);
    return NULL;
}

static void *receive_traffic(void *argument)
{
    struct traffic *t = argument;
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    for (unsigned i = 0; i < t->frames; i++)
        expect_pattern(t->link, i, bytes, some_size(&t->seed));
    free(bytes);
    return NULL;
}

/* Frames of all sizes in both directions at once. */
static void run_traffic(struct link *pair[2], unsigned frames, uint8_t *lent)
{
    struct traffic t[4];
    for (int i = 0; i < 2; i++) {
        const unsigned seed = SEED + (unsigned)i;
        t[2 * i] = (struct traffic){.link = pair[i], .seed = seed, .frames = frames};
        t[2 * i].bytes = i == 0 && lent ? lent : malloc(FRAME_PAYLOAD_MAX);
        t[2 * i + 1] = (struct traffic){.link = pair[1 - i], .seed = seed, .frames = frames};
        pthread_create(&t[2 * i].thread, NULL, send_traffic, &t[2 * i]);
        pthread_create(&t[2 * i + 1].thread, NULL, receive_traffic, &t[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i].thread, NULL);
    if (!lent)
        free(t[0].bytes);
    free(t[2].bytes);
}

static void frames_travel_as_messages_until_the_peer_is_trusted(void)
{
    struct link *pair[2];
    make_pair(pair, false);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(pair[0]), "rdma ", 5), 0);
    run_traffic(pair, 20, NULL);
    drop(pair);
}

static void trust_may_come_at_different_times(void)
{
    struct link *pair[2];
    make_pair(pair, false);
    run_traffic(pair, 5, NULL);
    link_trust(pair[1]);
    run_traffic(pair, 5, NULL);
    link_trust(pair[0]);
    run_traffic(pair, 40, NULL);
    drop(pair);
}

static void frames_of_all_sizes_travel_both_ways_at_once(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    run_traffic(pair, HAMMER, NULL);
    drop(pair);
}

static void lent_memory_is_sent_from_where_it_lies(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    uint8_t *memory =
        mmap(NULL, LENT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    link_lend(pair[0], memory, LENT_SIZE);
    /* The sender writes the next frame over the last one as soon as a send returns: a frame that
     * was still being read would arrive changed. */
    run_traffic(pair, HAMMER, memory + 12345);
    drop(pair);
    munmap(memory, LENT_SIZE);
}

static void a_peer_that_does_not_read_is_a_time_out(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    link_set_timeouts(pair[0], SHORT_MS, 0);
    uint8_t *bytes = calloc(1, FRAME_PAYLOAD_MAX);
    const struct iovec part = {bytes, FRAME_PAYLOAD_MAX};
    int rc = 0, sent = 0;
    for (; rc == 0 && sent < 100; sent++)
        rc = link_send(pair[0], &pages, &part, 1, NULL);
    CU_ASSERT_EQUAL(rc, -ETIMEDOUT);
    CU_ASSERT(sent > 4); /* the ring took some */
    free(bytes);
    drop(pair);
}

static void a_silent_peer_is_a_time_out_and_may_speak_later(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    struct frame header;
    uint8_t bytes[64];
    link_set_timeouts(pair[1], 0, SHORT_MS);
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), -ETIMEDOUT);
    link_set_timeouts(pair[1], 0, AMPLE_MS);
    CU_ASSERT_EQUAL(send_pattern(pair[0], 1, bytes, 33), 0);
    expect_pattern(pair[1], 1, bytes, 33);
    drop(pair);
}

static void last_words_arrive_before_the_end(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    CU_ASSERT_EQUAL(send_pattern(pair[0], 1, bytes, 900000), 0);
    CU_ASSERT_EQUAL(send_pattern(pair[0], 2, bytes, 50), 0);
    link_destroy(&pair[0]);
    expect_pattern(pair[1], 1, bytes, 900000);
    expect_pattern(pair[1], 2, bytes, 50);
    struct frame header;
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), -EPIPE);
    link_destroy(&pair[1]);
    free(bytes);
}

static void *wait_for_header(void *argument)
{
    struct frame header;
    return (void *)(intptr_t)link_receive_header(argument, &header, NULL);
}

static void a_shutdown_wakes_who_waits(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    link_set_timeouts(pair[0], 0, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_header, pair[0]);
    link_shutdown(pair[0]);
    void *result;
    pthread_join(thread, &result);
    CU_ASSERT_EQUAL((int)(intptr_t)result, -ECONNRESET);
    struct frame header;
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), -EPIPE);
    drop(pair);
}

static void nobody_listens_is_said_so(void)
{
    struct listener *listener = listen_here();
    char uri[96];
    snprintf(uri, sizeof(uri), "%s", listener_uri(listener));
    listener_destroy(&listener);
    struct link *link = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL(transport_connect(uri, NULL, AMPLE_MS, -1, &link, &err), -ECONNREFUSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "nobody listens"));
    CU_ASSERT_EQUAL(transport_connect("rdma://127.0.0.1:7000", NULL, 2000, -1, &link, &err) < 0, 1);
}

static void a_listener_that_is_shut_down_accepts_no_more(void)
{
    struct listener *listener = listen_here();
    struct link *link = NULL;
    CU_ASSERT_EQUAL(listener_accept(listener, 50, &link, NULL), -ETIMEDOUT);
    struct listener *second = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL(transport_listen(listener_uri(listener), NULL, &second, &err), -EADDRINUSE);
    listener_shutdown(listener);
    CU_ASSERT_EQUAL(listener_accept(listener, 0, &link, NULL), -ECANCELED);
    listener_destroy(&listener);
}

/* A process of its own that connects, says one word and waits to be killed. */
static pid_t start_peer(const char *uri)
{
    const pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test-rdma-link", "--peer", uri, (char *)NULL);
        _exit(127);
    }
    return child;
}

static int be_peer(const char *uri)
{
    struct link *link = NULL;
    uint8_t byte[8];
    if (transport_connect(uri, NULL, AMPLE_MS, -1, &link, NULL) < 0 ||
        link_establish(link, NULL) < 0)
        return 1;
    link_trust(link);
    if (send_pattern(link, 0, byte, sizeof(byte)) < 0)
        return 1;
    for (;;)
        pause();
}

static void a_killed_peer_is_noticed(void)
{
    struct listener *listener = listen_here();
    const pid_t child = start_peer(listener_uri(listener));
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(listener_accept(listener, AMPLE_MS, &link, NULL), 0);
    CU_ASSERT_EQUAL(link_establish(link, NULL), 0);
    link_set_timeouts(link, AMPLE_MS, AMPLE_MS);
    uint8_t byte[8];
    expect_pattern(link, 0, byte, sizeof(byte));
    kill(child, SIGKILL);
    const nsec_t killed = clock_now();
    struct frame header;
    const int rc = link_receive_header(link, &header, NULL);
    CU_ASSERT(rc == -EPIPE || rc == -ECONNRESET);
    printf("(noticed after %lld ms) ", (long long)((clock_now() - killed) / MSEC(1)));
    waitpid(child, NULL, 0);
    link_destroy(&link);
    listener_destroy(&listener);
}

static void run_command(const char *variable)
{
    const char *command = getenv(variable);
    CU_ASSERT_PTR_NOT_NULL_FATAL(command);
    CU_ASSERT_EQUAL(system(command), 0);
}

/* The fabric says nothing about a cable that was pulled: only unanswered work does. */
static void a_network_that_goes_away_in_mid_epoch_ends_the_link(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    CU_ASSERT_EQUAL(send_pattern(pair[0], 0, bytes, 700000), 0);
    expect_pattern(pair[1], 0, bytes, 700000);
    run_command("KEMARI_LINK_DOWN");
    int rc = 0;
    for (int i = 0; rc == 0 && i < 100; i++)
        rc = send_pattern(pair[0], 1, bytes, 700000);
    CU_ASSERT(rc == -ECONNRESET || rc == -ETIMEDOUT);
    run_command("KEMARI_LINK_UP");
    drop(pair);
    free(bytes);
}

static void an_idle_link_notices_that_its_network_is_gone(void)
{
    struct link *pair[2];
    make_pair(pair, true);
    run_command("KEMARI_LINK_DOWN");
    struct frame header;
    const int rc = link_receive_header(pair[0], &header, NULL);
    CU_ASSERT(rc == -ECONNRESET || rc == -EPIPE);
    run_command("KEMARI_LINK_UP");
    drop(pair);
}

/* --- with TLS on top --- */

static void begin_tls(void)
{
    credentials = tls_identity_by_secret(PARTY_SECRET, 0);
}

static void end_tls(void)
{
    tls_credentials_destroy(&credentials);
}

static void encrypted_frames_of_all_sizes_travel_both_ways_at_once(void)
{
    struct link *pair[2];
    begin_tls();
    make_pair(pair, true);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(pair[0]), "rdma+tls ", 9), 0);
    CU_ASSERT_TRUE(link_security(pair[0])->encrypted && link_security(pair[1])->encrypted);
    CU_ASSERT_EQUAL(
        memcmp(link_security(pair[0])->binding, link_security(pair[1])->binding, LINK_BINDING_SIZE),
        0);
    run_traffic(pair, HAMMER / 10, NULL); /* encryption is slow where the device is emulated */
    drop(pair);
    end_tls();
}

static void encrypted_last_words_arrive_before_the_end(void)
{
    begin_tls();
    last_words_arrive_before_the_end();
    end_tls();
}

static void *accept_nobody(void *argument)
{
    struct link *link = NULL;
    CU_ASSERT_EQUAL(listener_accept(argument, 0, &link, NULL), -ECANCELED);
    return NULL;
}

static void the_two_schemes_refuse_each_other_with_a_sentence(void)
{
    struct tls_credentials *mine = tls_identity_by_secret(PARTY_SECRET, 0);
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        credentials = encrypted ? mine : NULL;
        struct listener *listener = listen_here();
        pthread_t thread;
        pthread_create(&thread, NULL, accept_nobody, listener);
        char uri[96];
        snprintf(uri, sizeof(uri), "%s%s", encrypted ? "rdma" : "rdma+tls",
                 strstr(listener_uri(listener), "://"));
        struct link *link = NULL;
        struct error err = {0};
        CU_ASSERT_EQUAL(transport_connect(uri, mine, AMPLE_MS, -1, &link, &err), -EPROTO);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "write the same scheme on both hosts"));
        listener_shutdown(listener);
        pthread_join(thread, NULL);
        listener_destroy(&listener);
    }
    credentials = NULL;
    tls_credentials_destroy(&mine);
}

/* --- strangers --- */

struct host {
    pthread_t thread;
    struct listener *listener;
    struct link *link;
    int rc;
};

/* As a door does with a visitor; the link stays until the test has looked. */
static void *receive_visitor(void *argument)
{
    struct host *h = argument;
    struct session session;
    struct session_config *config = calloc(1, sizeof(*config));
    party_config(config, SESSION_PRIMARY, AMPLE_MS);
    h->rc = listener_accept(h->listener, AMPLE_MS, &h->link, NULL);
    if (h->rc == 0)
        h->rc = session_accept(h->link, config, &session, NULL);
    free(config);
    return NULL;
}

static void host_begin(struct host *h)
{
    *h = (struct host){.listener = listen_here()};
    pthread_create(&h->thread, NULL, receive_visitor, h);
}

static void host_end(struct host *h)
{
    link_destroy(&h->link);
    listener_destroy(&h->listener);
}

#define LINK_BUFFERS 2 /* memory regions of a link that nobody trusts: receive and send slots */

/* A session over a whole connection, of somebody who holds `secret` or another one. */
static void visit_with(const char *secret, bool welcome)
{
    struct host host;
    struct link *link = NULL;
    struct session session;
    struct session_config *config = calloc(1, sizeof(*config));
    party_config(config, SESSION_SECONDARY, AMPLE_MS);
    CU_ASSERT_EQUAL(key_derive(secret, strlen(secret), KEY_LABEL_SESSION, config->key, NULL), 0);
    struct tls_credentials *theirs = credentials ? tls_identity_by_secret(secret, 0) : NULL;
    host_begin(&host);
    CU_ASSERT_EQUAL_FATAL(
        transport_connect(listener_uri(host.listener), theirs, AMPLE_MS, -1, &link, NULL), 0);
    const int rc = session_connect(link, config, &session, NULL);
    CU_ASSERT_EQUAL(rc, welcome ? 0 : -EKEYREJECTED);
    pthread_join(host.thread, NULL);
    CU_ASSERT_EQUAL(host.rc, welcome ? 0 : -EKEYREJECTED);
    const int regions = rdma_stranger_regions();
    CU_ASSERT_TRUE(welcome ? regions > 2 * LINK_BUFFERS : regions == 2 * LINK_BUFFERS);
    link_destroy(&link);
    host_end(&host);
    tls_credentials_destroy(&theirs);
    free(config);
}

static void memory_is_made_writable_for_who_holds_the_secret_alone(void)
{
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        if (encrypted)
            begin_tls();
        visit_with(PARTY_SECRET, true);
        visit_with("some other secret, as long as it", false);
        end_tls();
    }
}

/* Who speaks RDMA well and holds nothing: he is told of no ring, and what he writes all the same is
 * refused by the device, and ends his connection. */
static void a_stranger_writes_to_no_memory_of_ours(void)
{
    static uint8_t canary[RDMA_RING_MIN], whole[RDMA_RING_MIN];
    struct host host;
    host_begin(&host);
    struct rdma_stranger *stranger = rdma_stranger_connect(listener_uri(host.listener));
    CU_ASSERT_PTR_NOT_NULL_FATAL(stranger);
    memset(canary, 0x5a, sizeof(canary));
    memcpy(whole, canary, sizeof(whole));
    CU_ASSERT_FALSE(rdma_stranger_write(stranger, canary, 0x1234));
    CU_ASSERT_EQUAL(memcmp(canary, whole, sizeof(whole)), 0);
    CU_ASSERT_EQUAL(rdma_stranger_rings(stranger), 0);
    /* At once, not when the time for a handshake is up. */
    pthread_join(host.thread, NULL);
    CU_ASSERT_EQUAL(host.rc, -ECONNRESET);
    rdma_stranger_destroy(&stranger);
    host_end(&host);
}

static const struct test_case cases[] = {
    {"frames travel as messages until the peer is trusted",
     frames_travel_as_messages_until_the_peer_is_trusted},
    {"trust may come at different times", trust_may_come_at_different_times},
    {"frames of all sizes travel both ways at once", frames_of_all_sizes_travel_both_ways_at_once},
    {"lent memory is sent from where it lies", lent_memory_is_sent_from_where_it_lies},
    {"a peer that does not read is a time-out", a_peer_that_does_not_read_is_a_time_out},
    {"a silent peer is a time-out and may speak later",
     a_silent_peer_is_a_time_out_and_may_speak_later},
    {"last words arrive before the end", last_words_arrive_before_the_end},
    {"a shutdown wakes who waits", a_shutdown_wakes_who_waits},
    {"nobody listens is said so", nobody_listens_is_said_so},
    {"a listener that is shut down accepts no more", a_listener_that_is_shut_down_accepts_no_more},
    {"a killed peer is noticed", a_killed_peer_is_noticed},
    {"a network that goes away in mid-epoch ends the link",
     a_network_that_goes_away_in_mid_epoch_ends_the_link},
    {"an idle link notices that its network is gone",
     an_idle_link_notices_that_its_network_is_gone},
    {"encrypted frames of all sizes travel both ways at once",
     encrypted_frames_of_all_sizes_travel_both_ways_at_once},
    {"encrypted last words arrive before the end", encrypted_last_words_arrive_before_the_end},
    {"the two schemes refuse each other with a sentence",
     the_two_schemes_refuse_each_other_with_a_sentence},
    {"memory is made writable for who holds the secret alone",
     memory_is_made_writable_for_who_holds_the_secret_alone},
    {"a stranger writes to no memory of ours", a_stranger_writes_to_no_memory_of_ours},
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--peer") == 0)
        return be_peer(argv[2]);
    if (argc < 2) {
        fprintf(stderr, "usage: test-rdma-link ADDRESS [CASE]\n");
        return 2;
    }
    address = argv[1];
    return test_run(argc - 1, argv + 1, "rdma-link", cases, ARRAY_SIZE(cases));
}
