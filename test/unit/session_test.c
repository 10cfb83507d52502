/* Who may be a pair, and the handshake that finds out: agreeing sides agree on everything, all
 * others fail on both sides, with a reason and in time. */
#include "transport/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "test/support/party.h"
#include "test/support/runner.h"
#include "transport/inproc.h"
#include "transport/link_backend.h"
#include "transport/message.h"

#define AMPLE_MS 60000 /* never reached by a test that passes */
#define SHORT_MS 50    /* reached on purpose */

/* --- the judge --- */

static void set(char *out, size_t size, const char *text)
{
    memset(out, 0, size);
    snprintf(out, size, "%s", text);
}

static void other_major(struct session_party *p)
{
    p->major = 9;
}
static void other_minor(struct session_party *p)
{
    p->minor = 9;
}
static void other_name(struct session_party *p)
{
    set(p->vm_name, sizeof(p->vm_name), "vm-2");
}
static void higher_term(struct session_party *p)
{
    p->term = 6;
}
static void equal_term(struct session_party *p)
{
    p->term = 5;
}
static void primary_too(struct session_party *p)
{
    p->role = SESSION_PRIMARY;
    p->term = 5;
}
static void stale_primary(struct session_party *p)
{
    p->role = SESSION_PRIMARY;
    p->term = 4;
}
static void newer_primary(struct session_party *p)
{
    p->role = SESSION_PRIMARY;
    p->term = 6;
}
static void more_memory(struct session_party *p)
{
    p->memory_size += PAGE_SIZE;
    p->slots[1].size += PAGE_SIZE;
}
static void one_slot(struct session_party *p)
{
    p->slot_count = 1;
    p->slots[0].size = p->memory_size;
}
static void moved_slot(struct session_party *p)
{
    p->slots[1].gpa += PAGE_SIZE;
}
static void fewer_vcpus(struct session_party *p)
{
    set(p->identity, sizeof(p->identity),
        "vcpus=2\ncpuid=abc\nmemory=64M\nnet0=52:54:00:00:00:01\n");
}
static void other_net(struct session_party *p)
{
    set(p->identity, sizeof(p->identity),
        "vcpus=4\ncpuid=abc\nmemory=64M\nnet0=52:54:00:00:00:02\n");
}
static void disk_more(struct session_party *p)
{
    set(p->identity, sizeof(p->identity),
        "vcpus=4\ncpuid=abc\nmemory=64M\nnet0=52:54:00:00:00:01\ndisk0=1G\n");
}
static void no_cpuid(struct session_party *p)
{
    set(p->identity, sizeof(p->identity), "vcpus=4\nmemory=64M\nnet0=52:54:00:00:00:01\n");
}

static const struct {
    void (*change)(struct session_party *secondary);
    enum session_reason primary_says;
    enum session_reason secondary_says;
    const char *text; /* in the primary's phrase */
} verdicts[] = {
    {other_minor, SESSION_OK, SESSION_OK, ""},
    {equal_term, SESSION_OK, SESSION_OK, ""},
    {other_major, SESSION_VERSION, SESSION_VERSION, "peer speaks protocol 9.0, this host 1.0"},
    {other_name, SESSION_VM_NAME, SESSION_VM_NAME,
     "peer protects the machine \"vm-2\", this host \"vm-1\""},
    {higher_term, SESSION_HIGHER_TERM, SESSION_LOWER_TERM, "peer knows term 6"},
    {primary_too, SESSION_ROLE, SESSION_ROLE, "peer is a primary, and so is this host"},
    {stale_primary, SESSION_LOWER_TERM, SESSION_HIGHER_TERM, "the peer is stale"},
    {newer_primary, SESSION_HIGHER_TERM, SESSION_LOWER_TERM, "this host is stale"},
    {more_memory, SESSION_LAYOUT, SESSION_LAYOUT,
     "peer has 67112960 bytes of memory, this host 67108864"},
    {one_slot, SESSION_LAYOUT, SESSION_LAYOUT, "peer has 1 memory slots, this host 2"},
    {moved_slot, SESSION_LAYOUT, SESSION_LAYOUT, "slot 1 at 0x100001000"},
    {fewer_vcpus, SESSION_CPU, SESSION_CPU, "peer has vcpus=2, this host vcpus=4"},
    {other_net, SESSION_DEVICES, SESSION_DEVICES,
     "peer has net0=52:54:00:00:00:02, this host net0=52:54:00:00:00:01"},
    {disk_more, SESSION_DEVICES, SESSION_DEVICES, "peer has disk0=1G, this host nothing there"},
    {no_cpuid, SESSION_CPU, SESSION_CPU, "peer has nothing there, this host cpuid=abc"},
};

static void the_judge_finds_the_first_difference_and_both_sides_agree(void)
{
    struct session_config *primary = malloc(sizeof(*primary));
    struct session_config *secondary = malloc(sizeof(*secondary));
    party_config(primary, SESSION_PRIMARY, AMPLE_MS);
    for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++) {
        party_config(secondary, SESSION_SECONDARY, AMPLE_MS);
        verdicts[i].change(&secondary->local);
        struct error text = {0};
        CU_ASSERT_EQUAL(session_judge(&primary->local, &secondary->local, &text),
                        verdicts[i].primary_says);
        CU_ASSERT_PTR_NOT_NULL(strstr(text.text, verdicts[i].text));
        CU_ASSERT_EQUAL(session_judge(&secondary->local, &primary->local, NULL),
                        verdicts[i].secondary_says);
    }
    free(primary);
    free(secondary);
}

/* --- two sides --- */

struct side {
    pthread_t thread;
    struct link *link;
    struct link_ops ops; /* its own, but for trust */
    struct session_config config;
    struct session session;
    int (*run)(struct link *, const struct session_config *, struct session *, struct error *);
    int rc;
    struct error err;
};

struct meeting {
    struct side connector;
    struct side listener;
};

/* What this thread's link gave to its peer. */
static _Thread_local unsigned trusted;

static void count_trust(struct link *link)
{
    (void)link;
    trusted++;
}

/* Closes the link after a failure, so that the other side isn't left waiting. */
static void *run_side(void *argument)
{
    struct side *s = argument;
    s->ops = *s->link->ops;
    s->ops.trust = count_trust;
    s->link->ops = &s->ops;
    s->rc = s->run(s->link, &s->config, &s->session, &s->err);
    /* Whoever was refused, for whatever reason, gets no memory of ours to write to. */
    CU_ASSERT_EQUAL(trusted, s->rc == 0);
    if (s->rc < 0)
        link_shutdown(s->link);
    return NULL;
}

static struct meeting *meeting_create(enum session_role connector)
{
    struct meeting *m = calloc(1, sizeof(*m));
    const bool reversed = connector == SESSION_PRIMARY;
    party_config(&m->connector.config, connector, AMPLE_MS);
    party_config(&m->listener.config, reversed ? SESSION_SECONDARY : SESSION_PRIMARY, AMPLE_MS);
    m->connector.run = session_connect;
    m->listener.run = session_accept;
    return m;
}

static void meeting_start(struct meeting *m, struct link *connector, struct link *listener)
{
    m->connector.link = connector;
    m->listener.link = listener;
    pthread_create(&m->connector.thread, NULL, run_side, &m->connector);
    pthread_create(&m->listener.thread, NULL, run_side, &m->listener);
}

static void meeting_end(struct meeting *m)
{
    pthread_join(m->connector.thread, NULL);
    pthread_join(m->listener.thread, NULL);
}

static void meet(struct meeting *m)
{
    struct link *pair[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("meeting", pair, NULL), 0);
    meeting_start(m, pair[0], pair[1]);
    meeting_end(m);
}

static void meeting_destroy(struct meeting *m)
{
    link_destroy(&m->connector.link);
    link_destroy(&m->listener.link);
    free(m);
}

static void a_matching_pair_agrees_on_everything(void)
{
    for (int role = SESSION_PRIMARY; role <= SESSION_SECONDARY; role++) {
        struct meeting *m = meeting_create((enum session_role)role);
        m->connector.config.local.minor = 3;
        meet(m);
        struct side *const sides[2] = {&m->connector, &m->listener};
        for (int i = 0; i < 2; i++) {
            const struct session *s = &sides[i]->session;
            CU_ASSERT_EQUAL_FATAL(sides[i]->rc, 0);
            CU_ASSERT_EQUAL(memcmp(&s->peer, &sides[1 - i]->config.local, sizeof(s->peer)), 0);
            CU_ASSERT_EQUAL(s->term, 5);
            CU_ASSERT_EQUAL(s->minor, SESSION_MINOR);
            CU_ASSERT_EQUAL(s->capabilities, 2);
            CU_ASSERT_EQUAL(s->staging_cap, 16u << 20);
        }
        struct message ack = {.kind = MESSAGE_EPOCH_ACK};
        struct frame header;
        CU_ASSERT_EQUAL(message_send(m->listener.link, 5, 1, &ack, NULL), 0);
        CU_ASSERT_EQUAL(link_receive_header(m->connector.link, &header, NULL), 0);
        meeting_destroy(m);
    }
}

static void a_refusal_reaches_both_sides_with_its_reason(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++) {
        struct meeting *m = meeting_create(SESSION_SECONDARY);
        verdicts[i].change(&m->connector.config.local);
        meet(m);
        CU_ASSERT_EQUAL(m->listener.session.reason, verdicts[i].primary_says);
        CU_ASSERT_EQUAL(m->connector.session.reason, verdicts[i].secondary_says);
        if (verdicts[i].primary_says == SESSION_OK) {
            CU_ASSERT_EQUAL(m->listener.rc, 0);
            CU_ASSERT_EQUAL(m->connector.rc, 0);
        } else {
            const bool listener_stale = verdicts[i].primary_says == SESSION_HIGHER_TERM;
            const bool connector_stale = verdicts[i].secondary_says == SESSION_HIGHER_TERM;
            CU_ASSERT_EQUAL(m->listener.rc, listener_stale ? -ESTALE : -ECONNREFUSED);
            CU_ASSERT_EQUAL(m->connector.rc, connector_stale ? -ESTALE : -ECONNREFUSED);
            CU_ASSERT_EQUAL(m->listener.err.code, m->listener.rc);
            CU_ASSERT_PTR_NOT_NULL(strstr(m->listener.err.text, verdicts[i].text));
            CU_ASSERT_PTR_NOT_NULL(strstr(m->connector.err.text, "refused"));
        }
        meeting_destroy(m);
    }
}

static void the_refused_side_hears_it_from_its_own_point_of_view(void)
{
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    fewer_vcpus(&m->connector.config.local);
    meet(m);
    CU_ASSERT_STRING_EQUAL(m->connector.err.text,
                           "handshake with inproc meeting/1: the peer refused (cpu): peer has "
                           "vcpus=4, this host vcpus=2");
    CU_ASSERT_STRING_EQUAL(m->listener.err.text,
                           "handshake with inproc meeting/0: refused (cpu): peer has vcpus=2, "
                           "this host vcpus=4");
    meeting_destroy(m);
}

static enum session_reason never_admit(void *context, const struct session_party *peer,
                                       struct error *why)
{
    (void)peer, (void)why;
    (*(int *)context)++;
    return SESSION_BUSY;
}

/* Knows who it is that comes. */
static enum session_reason not_this_one(void *context, const struct session_party *peer,
                                        struct error *why)
{
    (void)context;
    error_set(why, -ECONNREFUSED, "%s may come later", peer->host);
    return SESSION_TURN;
}

static void a_host_of_a_list_is_told_that_it_is_not_its_turn(void)
{
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    snprintf(m->connector.config.local.host, SESSION_HOST_MAX, "tls://192.0.2.3:7000");
    m->listener.config.admit = not_this_one;
    meet(m);
    CU_ASSERT_EQUAL(m->listener.session.reason, SESSION_TURN);
    CU_ASSERT_EQUAL(m->connector.session.reason, SESSION_TURN);
    CU_ASSERT_EQUAL(m->connector.rc, -ECONNREFUSED);
    CU_ASSERT_STRING_EQUAL(m->connector.err.text,
                           "handshake with inproc meeting/1: the peer refused (turn): "
                           "tls://192.0.2.3:7000 may come later");
    meeting_destroy(m);
}

static void a_listener_with_a_partner_says_busy(void)
{
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    int asked = 0;
    m->listener.config.admit = never_admit;
    m->listener.config.admit_context = &asked;
    meet(m);
    CU_ASSERT_EQUAL(asked, 1);
    CU_ASSERT_EQUAL(m->listener.session.reason, SESSION_BUSY);
    CU_ASSERT_EQUAL(m->connector.session.reason, SESSION_BUSY);
    CU_ASSERT_EQUAL(m->connector.rc, -ECONNREFUSED);
    meeting_destroy(m);
}

/* --- strangers --- */

static void another_secret_is_refused_on_both_sides(void)
{
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    m->connector.config.key[31] ^= 1;
    meet(m);
    CU_ASSERT_EQUAL(m->listener.rc, -EKEYREJECTED);
    CU_ASSERT_EQUAL(m->connector.rc, -EKEYREJECTED);
    CU_ASSERT_EQUAL(m->listener.session.reason, SESSION_KEY);
    CU_ASSERT_EQUAL(m->connector.session.reason, SESSION_KEY);
    meeting_destroy(m);
}

static void a_higher_term_of_a_stranger_is_not_believed(void)
{
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    m->connector.config.key[0] ^= 1;
    m->connector.config.local.term = 1000;
    meet(m);
    CU_ASSERT_EQUAL(m->listener.rc, -EKEYREJECTED);
    meeting_destroy(m);
}

/* Sends a control message, given as bytes, as the other side of a handshake would. */
static void send_raw(struct link *link, const char *bytes, size_t size)
{
    const struct frame fields = {.type = FRAME_CONTROL};
    const struct iovec part = {(void *)(uintptr_t)bytes, size};
    CU_ASSERT_EQUAL(link_send(link, &fields, &part, 1, NULL), 0);
}

/* What `run` says to a peer that sends `bytes` and then waits. */
static int answer_to(int (*run)(struct link *, const struct session_config *, struct session *,
                                struct error *),
                     enum session_role role, const char *bytes, size_t size, unsigned timeout_ms)
{
    struct link *pair[2];
    struct session_config *config = malloc(sizeof(*config));
    struct session *session = malloc(sizeof(*session));
    CU_ASSERT_EQUAL_FATAL(inproc_pair("stranger", pair, NULL), 0);
    party_config(config, role, timeout_ms);
    if (size)
        send_raw(pair[1], bytes, size);
    const int rc = run(pair[0], config, session, NULL);
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
    free(config);
    free(session);
    return rc;
}

static void a_refusal_without_proof_is_believed_only_before_the_proof(void)
{
    /* Refuse{reason, text ""} for every reason there is, and one more. */
    for (char reason = 0; reason <= SESSION_TURN + 1; reason++) {
        const char bytes[] = {0x32, 2, 8, reason};
        const int rc = answer_to(session_connect, SESSION_PRIMARY, bytes, sizeof(bytes), AMPLE_MS);
        int expected = -EPROTO;
        if (reason == SESSION_VERSION)
            expected = -ECONNREFUSED;
        else if (reason == SESSION_KEY)
            expected = -EKEYREJECTED;
        else if (reason == 0 || reason > SESSION_TURN)
            expected = -EBADMSG;
        CU_ASSERT_EQUAL(rc, expected);
    }
}

static void a_message_out_of_turn_is_a_protocol_error(void)
{
    static const char proof[] = "\x1a\x22\x0a\x20"
                                "0123456789abcdef0123456789abcdef";
    CU_ASSERT_EQUAL(answer_to(session_accept, SESSION_PRIMARY, proof, 36, AMPLE_MS), -EPROTO);
    CU_ASSERT_EQUAL(answer_to(session_connect, SESSION_PRIMARY, proof, 36, AMPLE_MS), -EPROTO);
    CU_ASSERT_EQUAL(answer_to(session_accept, SESSION_PRIMARY, "\x92\x01\x00", 3, AMPLE_MS),
                    -EBADMSG);
    CU_ASSERT_EQUAL(answer_to(session_accept, SESSION_PRIMARY, "garbage", 7, AMPLE_MS), -EBADMSG);
}

static void a_silent_peer_costs_no_more_than_the_time_out(void)
{
    CU_ASSERT_EQUAL(answer_to(session_accept, SESSION_PRIMARY, "", 0, SHORT_MS), -ETIMEDOUT);
    CU_ASSERT_EQUAL(answer_to(session_connect, SESSION_PRIMARY, "", 0, SHORT_MS), -ETIMEDOUT);
}

static void garbage_instead_of_a_frame_fails_at_once(void)
{
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct link *link = NULL;
    CU_ASSERT_EQUAL_FATAL(inproc_adopt(fds[0], "garbage", &link, NULL), 0);
    char request[FRAME_HEADER_SIZE] = "GET / HTTP/1.1\r\n";
    CU_ASSERT_EQUAL(fd_write_all(fds[1], request, sizeof(request)), 0);
    struct session_config *config = malloc(sizeof(*config));
    struct session *session = malloc(sizeof(*session));
    struct error err = {0};
    party_config(config, SESSION_PRIMARY, AMPLE_MS);
    CU_ASSERT_EQUAL(session_accept(link, config, session, &err), -EBADMSG);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not a Kemari frame"));
    free(config);
    free(session);
    link_destroy(&link);
    fd_close(&fds[1]);
}

/* --- a man in the middle --- */

/* Passes the four messages on, with frames of its own, and inverts one bit of the payload of
 * message `victim` (from 0). Stops when the path breaks. Records message `victim` when it has a
 * place to. */
struct middle {
    pthread_t thread;
    struct link *to_connector;
    struct link *to_listener;
    int victim;
    size_t bit;
    bool done; /* the bit existed */
};

static void *run_middle(void *argument)
{
    struct middle *m = argument;
    uint8_t *bytes = malloc(FRAME_CONTROL_MAX);
    for (int i = 0; i < 4; i++) {
        struct link *from = i % 2 == 0 ? m->to_connector : m->to_listener;
        struct link *to = i % 2 == 0 ? m->to_listener : m->to_connector;
        struct frame header;
        if (link_receive_header(from, &header, NULL) < 0 ||
            link_receive_payload(from, bytes, header.size, NULL) < 0)
            break;
        if (i == m->victim && m->bit / 8 < header.size) {
            bytes[m->bit / 8] = (uint8_t)(bytes[m->bit / 8] ^ (1u << m->bit % 8));
            m->done = true;
        }
        const struct iovec part = {bytes, header.size};
        if (link_send(to, &header, &part, 1, NULL) < 0)
            break;
    }
    link_shutdown(m->to_connector);
    link_shutdown(m->to_listener);
    free(bytes);
    return NULL;
}

/* False when the message has no such bit. */
static bool tampering_is_noticed(int victim, size_t bit)
{
    struct link *left[2];
    struct link *right[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("left", left, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(inproc_pair("right", right, NULL), 0);
    struct middle middle = {
        .to_connector = left[1], .to_listener = right[0], .victim = victim, .bit = bit};
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    pthread_create(&middle.thread, NULL, run_middle, &middle);
    meeting_start(m, left[0], right[1]);
    meeting_end(m);
    pthread_join(middle.thread, NULL);
    /* The listener has finished when it has sent its verdict: only the connector can notice that
     * that was changed. */
    if (middle.done) {
        CU_ASSERT(m->connector.rc < 0);
        CU_ASSERT(m->connector.rc != -ESTALE);
        if (victim < 3)
            CU_ASSERT(m->listener.rc < 0 && m->listener.rc != -ESTALE);
    } else {
        CU_ASSERT_EQUAL(m->connector.rc, 0);
        CU_ASSERT_EQUAL(m->listener.rc, 0);
    }
    meeting_destroy(m);
    link_destroy(&left[1]);
    link_destroy(&right[0]);
    return middle.done;
}

static void changing_any_byte_on_the_way_is_noticed(void)
{
    for (int victim = 0; victim < 4; victim++) {
        size_t byte = 0;
        while (tampering_is_noticed(victim, byte * 8 + byte % 8))
            byte++;
        CU_ASSERT(byte > 30);
    }
}

/* --- replay --- */

/* Reads what the connector of a good handshake says: Hello and Proof. */
struct record {
    uint8_t bytes[2][FRAME_CONTROL_MAX];
    size_t size[2];
};

static void *record_and_pass(void *argument)
{
    struct middle *m = ((void **)argument)[0];
    struct record *record = ((void **)argument)[1];
    uint8_t *bytes = malloc(FRAME_CONTROL_MAX);
    for (int i = 0; i < 4; i++) {
        struct link *from = i % 2 == 0 ? m->to_connector : m->to_listener;
        struct link *to = i % 2 == 0 ? m->to_listener : m->to_connector;
        struct frame header;
        CU_ASSERT_EQUAL(link_receive_header(from, &header, NULL), 0);
        CU_ASSERT_EQUAL(link_receive_payload(from, bytes, header.size, NULL), 0);
        if (i % 2 == 0) {
            memcpy(record->bytes[i / 2], bytes, header.size);
            record->size[i / 2] = header.size;
        }
        const struct iovec part = {bytes, header.size};
        CU_ASSERT_EQUAL(link_send(to, &header, &part, 1, NULL), 0);
    }
    free(bytes);
    return NULL;
}

static void a_recorded_handshake_can_not_be_replayed(void)
{
    struct link *left[2];
    struct link *right[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("left", left, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(inproc_pair("right", right, NULL), 0);
    struct middle middle = {.to_connector = left[1], .to_listener = right[0]};
    struct record *record = calloc(1, sizeof(*record));
    void *argument[2] = {&middle, record};
    struct meeting *m = meeting_create(SESSION_SECONDARY);
    pthread_create(&middle.thread, NULL, record_and_pass, argument);
    meeting_start(m, left[0], right[1]);
    meeting_end(m);
    pthread_join(middle.thread, NULL);
    CU_ASSERT_EQUAL(m->connector.rc, 0);
    CU_ASSERT_EQUAL(m->listener.rc, 0);
    meeting_destroy(m);
    link_destroy(&left[1]);
    link_destroy(&right[0]);

    struct link *pair[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("replay", pair, NULL), 0);
    send_raw(pair[0], (const char *)record->bytes[0], record->size[0]);
    send_raw(pair[0], (const char *)record->bytes[1], record->size[1]);
    m = meeting_create(SESSION_SECONDARY);
    m->listener.link = pair[1];
    run_side(&m->listener);
    CU_ASSERT_EQUAL(m->listener.rc, -EKEYREJECTED);
    m->connector.link = pair[0];
    meeting_destroy(m);
    free(record);
}

static const struct test_case cases[] = {
    {"the judge finds the first difference, and both sides agree",
     the_judge_finds_the_first_difference_and_both_sides_agree},
    {"a matching pair agrees on everything", a_matching_pair_agrees_on_everything},
    {"a refusal reaches both sides with its reason", a_refusal_reaches_both_sides_with_its_reason},
    {"the refused side hears it from its own point of view",
     the_refused_side_hears_it_from_its_own_point_of_view},
    {"a listener with a partner says busy", a_listener_with_a_partner_says_busy},
    {"a host of a list is told that it is not its turn",
     a_host_of_a_list_is_told_that_it_is_not_its_turn},
    {"another secret is refused on both sides", another_secret_is_refused_on_both_sides},
    {"a higher term of a stranger is not believed", a_higher_term_of_a_stranger_is_not_believed},
    {"a refusal without proof is believed only before the proof",
     a_refusal_without_proof_is_believed_only_before_the_proof},
    {"a message out of turn is a protocol error", a_message_out_of_turn_is_a_protocol_error},
    {"a silent peer costs no more than the time-out",
     a_silent_peer_costs_no_more_than_the_time_out},
    {"garbage instead of a frame fails at once", garbage_instead_of_a_frame_fails_at_once},
    {"changing any byte on the way is noticed", changing_any_byte_on_the_way_is_noticed},
    {"a recorded handshake can not be replayed", a_recorded_handshake_can_not_be_replayed},
};

TEST_MAIN("session", cases)
