/* The door over real TCP: one good peer gets in whatever strangers do, and one only. The time-outs
 * of the handshake are far longer than these tests, so whoever passes did not wait for one. */
#include "transport/door.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "test/support/fault_link.h"
#include "test/support/party.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "transport/bundle.h"
#include "transport/carrier.h"
#include "transport/inproc.h"

#define AMPLE_MS   60000
#define SILENT_MAX (3 * DOOR_VISITORS_MAX)

/* Every test is run over TLS, too. */
static const char *scheme = "tcp";
static struct tls_credentials *credentials;

static int listen_anywhere(struct listener **listener)
{
    char uri[32];
    snprintf(uri, sizeof(uri), "%s://127.0.0.1:0", scheme);
    return transport_listen(uri, credentials, listener, NULL);
}

static struct door *open_door_for(enum session_role role, unsigned timeout_ms)
{
    struct listener *listener = NULL;
    struct door *door = NULL;
    struct session_config *config = malloc(sizeof(*config));
    party_config(config, role, timeout_ms);
    CU_ASSERT_EQUAL_FATAL(listen_anywhere(&listener), 0);
    CU_ASSERT_EQUAL_FATAL(door_open(listener, config, &door, NULL), 0);
    free(config);
    return door;
}

static struct door *open_door(enum session_role role)
{
    return open_door_for(role, AMPLE_MS);
}

static struct link *dial(const struct door *door)
{
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(transport_connect(door_uri(door), credentials, AMPLE_MS, -1, &link, NULL),
                          0);
    return link;
}

/* Connects and shakes hands: the result, and the link if it is good. */
static int knock(const struct door *door, enum session_role role, term_t term, struct link **link)
{
    struct session_config *config = malloc(sizeof(*config));
    struct session *session = malloc(sizeof(*session));
    party_config(config, role, AMPLE_MS);
    if (term)
        config->local.term = term;
    *link = dial(door);
    int rc = session_connect(*link, config, session, NULL);
    if (rc == -ECONNREFUSED && session->reason == SESSION_BUSY)
        rc = -EBUSY;
    if (rc < 0)
        link_destroy(link);
    free(config);
    free(session);
    return rc;
}

static int answer(struct door *door, struct link **link)
{
    struct session *session = malloc(sizeof(*session));
    const int rc = door_wait(door, AMPLE_MS, link, session, NULL);
    free(session);
    return rc;
}

/* A visitor is counted when the door is done with it, a little after it has read the verdict. */
static enum session_reason wait_refused(struct door *door, uint64_t count)
{
    enum session_reason reason;
    struct error text;
    while (door_last_refusal(door, &reason, &text) < count)
        sched_yield();
    return reason;
}

static void one_peer_gets_in_and_the_next_when_it_is_gone(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct link *outside, *second, *inside;
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &outside), 0);
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &second), -EBUSY);
    CU_ASSERT_EQUAL(answer(door, &inside), 0);
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &second), -EBUSY);
    link_destroy(&inside);
    link_destroy(&outside);
    door_release(door);
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &outside), 0);
    CU_ASSERT_EQUAL(answer(door, &inside), 0);
    link_destroy(&inside);
    link_destroy(&outside);
    CU_ASSERT_EQUAL(wait_refused(door, 2), SESSION_BUSY);
    door_destroy(&door);
}

/* --- several streams --- */

/* Says hello with these wishes. */
static int knock_as(const struct door *door, uint32_t streams, uint32_t stream,
                    const uint8_t *joins, struct link **link, struct session *session)
{
    struct session_config *config = malloc(sizeof(*config));
    party_config(config, SESSION_SECONDARY, AMPLE_MS);
    config->local.streams = streams;
    config->local.stream = stream;
    if (joins)
        memcpy(config->local.joins, joins, SESSION_ID_SIZE);
    *link = dial(door);
    int rc = session_connect(*link, config, session, NULL);
    if (rc == -ECONNREFUSED && session->reason == SESSION_BUSY)
        rc = -EBUSY;
    if (rc < 0)
        link_destroy(link);
    free(config);
    return rc;
}

static struct door *open_wide_door(uint32_t streams, unsigned timeout_ms)
{
    struct listener *listener = NULL;
    struct door *door = NULL;
    struct session_config *config = malloc(sizeof(*config));
    party_config(config, SESSION_PRIMARY, timeout_ms);
    config->local.streams = streams;
    CU_ASSERT_EQUAL_FATAL(listen_anywhere(&listener), 0);
    CU_ASSERT_EQUAL_FATAL(door_open(listener, config, &door, NULL), 0);
    free(config);
    return door;
}

#define LARGE (300u << 10)

static void *send_large(void *link)
{
    uint8_t *bytes = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    const struct iovec part = {bytes, LARGE};
    const struct frame fields = {.type = FRAME_PAGES, .term = 5, .epoch = 1};
    const int rc = link_send(link, &fields, &part, 1, NULL);
    free(bytes);
    return (void *)(intptr_t)rc;
}

static void expect_large(struct link *from, struct link *to)
{
    pthread_t thread;
    void *rc;
    struct frame header;
    uint8_t *bytes = malloc(LARGE);
    pthread_create(&thread, NULL, send_large, from);
    CU_ASSERT_EQUAL_FATAL(link_receive_header(to, &header, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(header.size, LARGE);
    CU_ASSERT_EQUAL(link_receive_payload(to, bytes, LARGE, NULL), 0);
    pthread_join(thread, &rc);
    CU_ASSERT_PTR_NULL(rc);
    free(bytes);
}

static void the_streams_of_a_session_become_one_link(void)
{
    struct door *door = open_wide_door(3, AMPLE_MS);
    struct session *first = malloc(sizeof(*first)), *other = malloc(sizeof(*other));
    struct link *links[3], *stranger, *inside, *outside;
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 8, 0, NULL, &links[0], first), 0);
    CU_ASSERT_EQUAL(first->streams, 3);
    /* Any order; a number once; the number and the session must be right. */
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 8, 2, first->id, &links[2], other), 0);
    CU_ASSERT_EQUAL(knock_as(door, 8, 2, first->id, &stranger, other), -EBUSY);
    CU_ASSERT_EQUAL(knock_as(door, 8, 3, first->id, &stranger, other), -EBUSY);
    uint8_t wrong[SESSION_ID_SIZE];
    memcpy(wrong, first->id, sizeof(wrong));
    wrong[31] ^= 1;
    CU_ASSERT_EQUAL(knock_as(door, 8, 1, wrong, &stranger, other), -EBUSY);
    CU_ASSERT_EQUAL(knock_as(door, 8, 0, NULL, &stranger, other), -EBUSY);
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 8, 1, first->id, &links[1], other), 0);
    CU_ASSERT_EQUAL_FATAL(answer(door, &inside), 0);
    CU_ASSERT_EQUAL(link_streams(inside), 3);
    CU_ASSERT_EQUAL_FATAL(bundle_create(links, 3, &outside, NULL), 0);
    expect_large(outside, inside);
    expect_large(inside, outside);
    /* The session is complete: nobody joins it any more. */
    CU_ASSERT_EQUAL(knock_as(door, 8, 1, first->id, &stranger, other), -EBUSY);
    link_destroy(&inside);
    link_destroy(&outside);
    door_destroy(&door);
    free(first);
    free(other);
}

static void a_session_whose_streams_do_not_come_leaves_the_door_to_others(void)
{
    struct door *door = open_wide_door(2, AMPLE_MS);
    struct session *session = malloc(sizeof(*session));
    struct link *half, *silent[DOOR_VISITORS_MAX], *links[2], *inside, *outside;
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 2, 0, NULL, &half, session), 0);
    /* It has waited longest when all places are taken. */
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++)
        silent[i] = dial(door);
    wait_refused(door, 1);
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++)
        link_destroy(&silent[i]);
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 2, 0, NULL, &links[0], session), 0);
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 2, 1, session->id, &links[1], session), 0);
    CU_ASSERT_EQUAL_FATAL(answer(door, &inside), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(links, 2, &outside, NULL), 0);
    expect_large(outside, inside);
    link_destroy(&half);
    link_destroy(&inside);
    link_destroy(&outside);
    door_destroy(&door);
    free(session);
}

static void half_a_session_ends_with_its_time_and_with_the_door(void)
{
    struct session *session = malloc(sizeof(*session));
    struct link *half = NULL, *inside;
    struct door *door = open_wide_door(2, 200);
    /* On a slow machine the handshake may be over its time already: the outcome is the same. */
    if (knock_as(door, 2, 0, NULL, &half, session) == 0)
        CU_ASSERT_EQUAL(session->streams, 2);
    wait_refused(door, 1);
    CU_ASSERT_EQUAL(door_wait(door, 1, &inside, session, NULL), -ETIMEDOUT);
    link_destroy(&half);
    door_destroy(&door);
    door = open_wide_door(2, AMPLE_MS);
    CU_ASSERT_EQUAL_FATAL(knock_as(door, 2, 0, NULL, &half, session), 0);
    door_destroy(&door);
    link_destroy(&half);
    free(session);
}

static void silent_strangers_do_not_keep_a_good_peer_out(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct link *silent[SILENT_MAX];
    for (size_t i = 0; i < SILENT_MAX; i++)
        silent[i] = dial(door);
    struct link *outside, *inside;
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &outside), 0);
    CU_ASSERT_EQUAL(answer(door, &inside), 0);
    /* The first to come was thrown out. */
    struct frame header;
    CU_ASSERT(link_receive_header(silent[0], &header, NULL) < 0);
    for (size_t i = 0; i < SILENT_MAX; i++)
        link_destroy(&silent[i]);
    link_destroy(&inside);
    link_destroy(&outside);
    door_destroy(&door);
}

/* --- strangers that drip: never silent, never done --- */

#define DRIP_MS    20 /* between two bytes */
#define DRIP_BYTES 16384

struct dripper {
    pthread_t thread;
    int fd;
    const atomic_bool *enough;
    bool ended; /* by the door */
};

static int dial_raw(const struct door *door)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(door_uri(door), ':') + 1));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* The beginning of what could be a long first frame, or TLS record. */
static void make_drip(uint8_t bytes[DRIP_BYTES])
{
    static const uint8_t record[] = {22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3};
    const struct frame frame = {.type = FRAME_CONTROL, .size = FRAME_CONTROL_MAX, .digest = 1};
    memset(bytes, 0, DRIP_BYTES);
    if (credentials)
        memcpy(bytes, record, sizeof(record));
    else
        frame_encode(&frame, bytes);
}

static void *drip(void *argument)
{
    struct dripper *d = argument;
    uint8_t bytes[DRIP_BYTES];
    make_drip(bytes);
    struct pollfd peer = {.fd = d->fd, .events = POLLIN};
    for (size_t i = 0; !d->ended && !atomic_load(d->enough) && i < sizeof(bytes); i++)
        d->ended = send(d->fd, bytes + i, 1, MSG_NOSIGNAL) != 1 || poll(&peer, 1, DRIP_MS) != 0;
    return NULL;
}

static void start_dripping(struct dripper *d, const struct door *door, const atomic_bool *enough)
{
    *d = (struct dripper){.fd = dial_raw(door), .enough = enough};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&d->thread, NULL, drip, d), 0);
}

static void dripping_strangers_do_not_keep_a_good_peer_out(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct dripper drippers[SILENT_MAX];
    atomic_bool enough = false;
    for (size_t i = 0; i < SILENT_MAX; i++)
        start_dripping(&drippers[i], door, &enough);
    struct link *outside, *inside;
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &outside), 0);
    CU_ASSERT_EQUAL(answer(door, &inside), 0);
    atomic_store(&enough, true);
    for (size_t i = 0; i < SILENT_MAX; i++) {
        pthread_join(drippers[i].thread, NULL);
        fd_close(&drippers[i].fd);
    }
    link_destroy(&inside);
    link_destroy(&outside);
    door_destroy(&door);
}

/* Alone with the door, it has its place until its time is up, and no longer. */
static void a_stranger_that_drips_ends_with_its_time(void)
{
    struct door *door = open_door_for(SESSION_PRIMARY, 10 * DRIP_MS);
    struct dripper dripper;
    const atomic_bool enough = false;
    start_dripping(&dripper, door, &enough);
    pthread_join(dripper.thread, NULL);
    CU_ASSERT_TRUE(dripper.ended);
    fd_close(&dripper.fd);
    door_destroy(&door);
}

static void closing_ends_visitors_and_waiters(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct link *silent[3];
    for (size_t i = 0; i < 3; i++)
        silent[i] = dial(door);
    struct link *link;
    door_shut(door);
    CU_ASSERT_EQUAL(answer(door, &link), -ECANCELED);
    door_destroy(&door);
    CU_ASSERT_PTR_NULL(door);
    for (size_t i = 0; i < 3; i++) {
        struct frame header;
        CU_ASSERT(link_receive_header(silent[i], &header, NULL) < 0);
        link_destroy(&silent[i]);
    }
}

static void nobody_comes_is_a_time_out(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct session *session = malloc(sizeof(*session));
    struct link *link;
    CU_ASSERT_EQUAL(door_wait(door, 20, &link, session, NULL), -ETIMEDOUT);
    CU_ASSERT_PTR_NULL(link);
    free(session);
    door_destroy(&door);
}

static void a_peer_of_a_higher_term_tells_the_owner_once(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct link *link;
    struct session *session = malloc(sizeof(*session));
    struct error err = {0};
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 9, &link), -ECONNREFUSED);
    CU_ASSERT_EQUAL(door_wait(door, AMPLE_MS, &link, session, &err), -ESTALE);
    CU_ASSERT_EQUAL(session->peer.term, 9);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "peer knows term 9"));
    CU_ASSERT_EQUAL(door_wait(door, 20, &link, session, NULL), -ETIMEDOUT);
    /* With the new term the same peer is welcome. */
    struct session_config *config = malloc(sizeof(*config));
    party_config(config, SESSION_PRIMARY, AMPLE_MS);
    config->local.term = 10;
    door_set_local(door, &config->local);
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 9, &link), 0);
    link_destroy(&link);
    free(config);
    free(session);
    door_destroy(&door);
}

static void an_accepted_peer_that_nobody_fetched_is_let_go(void)
{
    struct door *door = open_door(SESSION_PRIMARY);
    struct link *link;
    struct frame header;
    CU_ASSERT_EQUAL(knock(door, SESSION_SECONDARY, 0, &link), 0);
    door_destroy(&door);
    CU_ASSERT(link_receive_header(link, &header, NULL) < 0);
    link_destroy(&link);
}

/* --- a listener of our own: hands out one link, then waits --- */

struct one_link_listener {
    struct listener base; /* first member */
    struct link *link;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool down;
};

static int one_accept(struct listener *listener, unsigned timeout_ms, struct link **out,
                      struct error *err)
{
    struct one_link_listener *l = (struct one_link_listener *)listener;
    (void)timeout_ms;
    pthread_mutex_lock(&l->lock);
    while (!l->link && !l->down)
        pthread_cond_wait(&l->changed, &l->lock);
    *out = l->down ? NULL : l->link;
    l->link = NULL;
    pthread_mutex_unlock(&l->lock);
    return *out ? 0 : error_set(err, -ECANCELED, "down");
}

static void one_shutdown(struct listener *listener)
{
    struct one_link_listener *l = (struct one_link_listener *)listener;
    pthread_mutex_lock(&l->lock);
    l->down = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void one_destroy(struct listener *listener)
{
    struct one_link_listener *l = (struct one_link_listener *)listener;
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l);
}

static const struct listener_ops one_link_ops = {one_accept, one_shutdown, one_destroy};

static void hand_out(struct one_link_listener *l, struct link *link)
{
    pthread_mutex_lock(&l->lock);
    l->link = link;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void a_peer_lost_between_admission_and_welcome_leaves_the_door_free(void)
{
    struct one_link_listener *l = calloc(1, sizeof(*l));
    l->base.ops = &one_link_ops;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    struct session_config *config = malloc(sizeof(*config));
    struct session *session = malloc(sizeof(*session));
    struct door *door = NULL;
    party_config(config, SESSION_PRIMARY, AMPLE_MS);
    CU_ASSERT_EQUAL_FATAL(door_open(&l->base, config, &door, NULL), 0);
    party_config(config, SESSION_SECONDARY, AMPLE_MS);
    for (int attempt = 0; attempt < 2; attempt++) {
        struct link *pair[2];
        CU_ASSERT_EQUAL_FATAL(inproc_pair("door", pair, NULL), 0);
        if (attempt == 0) { /* the second frame of the listener is the verdict */
            pair[1] = fault_link_wrap(&pair[1], 1);
            fault_link_add(pair[1], (struct fault_rule){FAULT_SEND, FAULT_CUT, .at_frame = 2});
        }
        hand_out(l, pair[1]);
        const int rc = session_connect(pair[0], config, session, NULL);
        CU_ASSERT_EQUAL(rc, attempt == 0 ? -EPIPE : 0);
        if (attempt == 0)
            wait_refused(door, 1);
        link_destroy(&pair[0]);
    }
    struct link *inside = NULL;
    CU_ASSERT_EQUAL(answer(door, &inside), 0);
    link_destroy(&inside);
    door_destroy(&door);
    free(config);
    free(session);
}

/* --- addresses --- */

static void expect_phrase(int rc, int expected, const struct error *err, const char *phrase)
{
    CU_ASSERT_EQUAL(rc, expected);
    CU_ASSERT_EQUAL(err->code, expected);
    if (!strstr(err->text, phrase))
        fprintf(stderr, "got: %s\n", err->text);
    CU_ASSERT_PTR_NOT_NULL(strstr(err->text, phrase));
}

static void addresses_that_can_not_be_are_refused_with_a_sentence(void)
{
    static const char *const bad[] = {
        "",
        "tcp",
        "tcp:",
        "tcp://",
        "tcp://host",
        "tcp://:7700",
        "tcp://host:",
        "tcp://host:x",
        "tcp://host:65536",
        "tcp://host:123456",
        "tcp://host:-1",
        "tcp://[::1]",
        "tcp://[::1]7700",
        "tcp://[]:7700",
        "tcp://[::1:7700",
        "tcp://ho st:7700",
        "tcp://::1:7700",
        "127.0.0.1:7700",
        "TCP://127.0.0.1:7700",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct listener *listener = NULL;
        struct link *link = NULL;
        struct error err = {0};
        expect_phrase(transport_listen(bad[i], NULL, &listener, &err), -EINVAL, &err, "address \"");
        expect_phrase(transport_connect(bad[i], NULL, 100, -1, &link, &err), -EINVAL, &err,
                      "tls://");
    }
}

static void addresses_that_can_not_be_used_are_refused_with_a_sentence(void)
{
    struct listener *listener = NULL, *second = NULL;
    struct link *link = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(transport_listen("tcp://127.0.0.1:0", NULL, &listener, NULL), 0);
    expect_phrase(transport_listen(listener_uri(listener), NULL, &second, &err), -EADDRINUSE, &err,
                  "in use by another program");
    expect_phrase(transport_listen("tcp://192.0.2.1:7700", NULL, &second, &err), -EADDRNOTAVAIL,
                  &err, "\"tcp://192.0.2.1:7700\" does not belong to this host");
    /* Whatever RDMA this host has, loopback is on no such device. */
    int rc = transport_listen("rdma://127.0.0.1:7700", NULL, &second, &err);
    CU_ASSERT(rc < 0);
    expect_phrase(rc, rc, &err, "RDMA");
    rc = transport_connect("rdma://127.0.0.1:7700", NULL, 100, -1, &link, &err);
    CU_ASSERT(rc < 0);
    expect_phrase(rc, rc, &err, "RDMA");
    expect_phrase(transport_listen("carrot://127.0.0.1:7700", NULL, &second, &err), -EINVAL, &err,
                  "no transport is called \"carrot\"");
    expect_phrase(transport_connect("tcp://127.0.0.1:0", NULL, 100, -1, &link, &err), -EINVAL, &err,
                  "port 0");
    expect_phrase(transport_connect("tcp://nobody.invalid:7700", NULL, 100, -1, &link, &err),
                  -EADDRNOTAVAIL, &err, "nobody.invalid can't be resolved");
    char closed[64];
    snprintf(closed, sizeof(closed), "%s", listener_uri(listener));
    listener_destroy(&listener);
    expect_phrase(transport_connect(closed, NULL, 1000, -1, &link, &err), -ECONNREFUSED, &err,
                  "nobody listens on");
}

static void ipv6_works_as_well(void)
{
    struct listener *listener = NULL;
    struct error err = {0};
    const int rc = transport_listen("tcp://[::1]:0", NULL, &listener, &err);
    if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
        printf("SKIP: this host has no IPv6 loopback: %s\n", err.text);
        return;
    }
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    CU_ASSERT_EQUAL(strncmp(listener_uri(listener), "tcp://[::1]:", 12), 0);
    struct link *outside = NULL, *inside = NULL;
    CU_ASSERT_EQUAL(transport_connect(listener_uri(listener), NULL, 1000, -1, &outside, NULL), 0);
    CU_ASSERT_EQUAL(listener_accept(listener, 1000, &inside, NULL), 0);
    CU_ASSERT_EQUAL(strncmp(link_peer_name(inside), "tcp [::1]:", 10), 0);
    link_destroy(&outside);
    link_destroy(&inside);
    listener_destroy(&listener);
}

static void *accept_one(void *argument)
{
    struct link *link = NULL;
    return (void *)(intptr_t)listener_accept(argument, 0, &link, NULL);
}

static void accepting_can_be_interrupted(void)
{
    struct listener *listener = NULL;
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(transport_listen("tcp://127.0.0.1:0", NULL, &listener, NULL), 0);
    CU_ASSERT_EQUAL(listener_accept(listener, 10, &link, NULL), -ETIMEDOUT);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, accept_one, listener);
    listener_shutdown(listener);
    pthread_join(thread, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -ECANCELED);
    CU_ASSERT_EQUAL(listener_accept(listener, 0, &link, NULL), -ECANCELED);
    listener_destroy(&listener);
}

static const struct test_case cases[] = {
    {"one peer gets in, and the next when it is gone",
     one_peer_gets_in_and_the_next_when_it_is_gone},
    {"the streams of a session become one link", the_streams_of_a_session_become_one_link},
    {"a session whose streams do not come leaves the door to others",
     a_session_whose_streams_do_not_come_leaves_the_door_to_others},
    {"half a session ends with its time, and with the door",
     half_a_session_ends_with_its_time_and_with_the_door},
    {"silent strangers do not keep a good peer out", silent_strangers_do_not_keep_a_good_peer_out},
    {"dripping strangers do not keep a good peer out",
     dripping_strangers_do_not_keep_a_good_peer_out},
    {"a stranger that drips ends with its time", a_stranger_that_drips_ends_with_its_time},
    {"closing ends visitors and waiters", closing_ends_visitors_and_waiters},
    {"nobody comes is a time-out", nobody_comes_is_a_time_out},
    {"a peer of a higher term tells the owner once", a_peer_of_a_higher_term_tells_the_owner_once},
    {"an accepted peer that nobody fetched is let go",
     an_accepted_peer_that_nobody_fetched_is_let_go},
    {"a peer lost between admission and welcome leaves the door free",
     a_peer_lost_between_admission_and_welcome_leaves_the_door_free},
    {"addresses that can not be are refused with a sentence",
     addresses_that_can_not_be_are_refused_with_a_sentence},
    {"addresses that can not be used are refused with a sentence",
     addresses_that_can_not_be_used_are_refused_with_a_sentence},
    {"IPv6 works as well", ipv6_works_as_well},
    {"accepting can be interrupted", accepting_can_be_interrupted},
};

int main(int argc, char **argv)
{
    int rc = test_run(argc, argv, "door", cases, ARRAY_SIZE(cases));
    credentials = tls_identity_by_secret(PARTY_SECRET, 0);
    scheme = "tls";
    rc |= test_run(argc, argv, "door over TLS", cases, ARRAY_SIZE(cases));
    tls_credentials_destroy(&credentials);
    return rc;
}
