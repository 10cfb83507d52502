/* The heartbeat packet on the wire, and who may be believed. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/packet.h"
#include "heartbeat/replay.h"
#include "test/support/runner.h"

#define VM "redis"

static struct packet_key test_key(void)
{
    struct packet_key key;
    CU_ASSERT_EQUAL_FATAL(packet_key_derive(&key, "secret of the pair", 18, VM, NULL), 0);
    return key;
}

static struct packet sample(void)
{
    return (struct packet){
        .flags = PACKET_FLAG_GUEST_ALIVE | PACKET_FLAG_STOPPING,
        .role = PACKET_ROLE_SOLO,
        .path = 3,
        .interval_us = 10000,
        .vm = packet_vm_id(VM),
        .instance = 0x1112131415161718,
        .challenge = 0x2122232425262728,
        .echo_challenge = 0x3132333435363738,
        .sequence = 0x4142434445464748,
        .term = 0x5152535455565758,
        .epoch = 0x6162636465666768,
        .sent_at = 0x7172737475767778,
        .echo_time = 0x8182838485868788,
        .echo_delay = 0x9192939495969798,
    };
}

/* Computed apart from this code: the layout by hand, key and MAC by Python's hmac and hashlib. */
static const uint8_t golden[PACKET_SIZE] = {
    0x4b, 0x4d, 0x48, 0x42, 0x01, 0x00, 0x03, 0x00, 0x03, 0x03, 0x00, 0x00, 0x10, 0x27, 0x00, 0x00,
    0x34, 0xfb, 0x46, 0xc8, 0x47, 0xbb, 0x9d, 0xf9, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, 0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,
    0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61, 0x78, 0x77, 0x76, 0x75, 0x74, 0x73, 0x72, 0x71,
    0x88, 0x87, 0x86, 0x85, 0x84, 0x83, 0x82, 0x81, 0x98, 0x97, 0x96, 0x95, 0x94, 0x93, 0x92, 0x91,
    0xf2, 0x0d, 0xae, 0x9d, 0xee, 0x4f, 0xcc, 0x4f, 0xb4, 0x44, 0xf7, 0x26, 0x65, 0x7e, 0x2c, 0x1f,
};

static void a_packet_has_the_bytes_of_the_layout(void)
{
    const struct packet_key key = test_key();
    const struct packet p = sample();
    uint8_t bytes[PACKET_SIZE];
    packet_encode(&p, &key, bytes);
    CU_ASSERT_EQUAL(memcmp(bytes, golden, sizeof(golden)), 0);
}

static void a_packet_survives_the_round_trip(void)
{
    const struct packet_key key = test_key();
    const struct packet p = sample();
    struct packet out;
    CU_ASSERT_EQUAL(packet_decode(golden, PACKET_SIZE, &key, p.vm, &out), PACKET_OK);
    uint8_t again[PACKET_SIZE];
    packet_encode(&out, &key, again);
    CU_ASSERT_EQUAL(memcmp(again, golden, sizeof(golden)), 0);
    CU_ASSERT_EQUAL(out.term, p.term);
    CU_ASSERT_EQUAL(out.role, p.role);
    CU_ASSERT_EQUAL(out.echo_delay, p.echo_delay);
}

static void any_other_size_is_refused(void)
{
    const struct packet_key key = test_key();
    struct packet out;
    uint8_t longer[PACKET_SIZE + 1] = {0};
    memcpy(longer, golden, sizeof(golden));
    for (size_t size = 0; size <= sizeof(longer); size++) {
        /* On the heap, so that a sanitizer sees a read past the end. */
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, longer, size);
        const enum packet_verdict expected = size == PACKET_SIZE ? PACKET_OK : PACKET_BAD_SIZE;
        CU_ASSERT_EQUAL(packet_decode(copy, size, &key, packet_vm_id(VM), &out), expected);
        free(copy);
    }
}

static void any_flipped_bit_is_refused(void)
{
    const struct packet_key key = test_key();
    struct packet out = {.term = 77};
    for (size_t bit = 0; bit < 8 * PACKET_SIZE; bit++) {
        uint8_t bytes[PACKET_SIZE];
        memcpy(bytes, golden, sizeof(bytes));
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        const enum packet_verdict v =
            packet_decode(bytes, PACKET_SIZE, &key, packet_vm_id(VM), &out);
        const enum packet_verdict expected = bit < 32   ? PACKET_BAD_MAGIC
                                             : bit < 48 ? PACKET_BAD_VERSION
                                                        : PACKET_BAD_MAC;
        CU_ASSERT_EQUAL(v, expected);
    }
    CU_ASSERT_EQUAL(out.term, 77); /* untouched */
}

static void keys_of_other_secrets_and_other_vms_are_refused(void)
{
    struct packet_key key;
    struct packet out;
    CU_ASSERT_EQUAL(packet_key_derive(&key, "secret of the pair", 18, "other", NULL), 0);
    CU_ASSERT_EQUAL(packet_decode(golden, PACKET_SIZE, &key, packet_vm_id(VM), &out),
                    PACKET_BAD_MAC);
    CU_ASSERT_EQUAL(packet_key_derive(&key, "Secret of the pair", 18, VM, NULL), 0);
    CU_ASSERT_EQUAL(packet_decode(golden, PACKET_SIZE, &key, packet_vm_id(VM), &out),
                    PACKET_BAD_MAC);
    key = test_key();
    CU_ASSERT_EQUAL(packet_decode(golden, PACKET_SIZE, &key, packet_vm_id("other"), &out),
                    PACKET_BAD_VM);
}

static void a_key_needs_a_secret_and_a_name(void)
{
    struct packet_key key;
    struct error err = {0};
    CU_ASSERT_EQUAL(packet_key_derive(&key, "", 0, VM, &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "secret"));
    CU_ASSERT_EQUAL(packet_key_derive(&key, "s", 1, "", &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "name"));
}

/* What a hostile holder of the key could send: any body, rightly signed. */
static enum packet_verdict verdict_of_signed(const uint8_t *body, const struct packet_key *key)
{
    uint8_t bytes[PACKET_SIZE];
    uint8_t mac[32];
    unsigned mac_size = sizeof(mac);
    struct packet out;
    const size_t body_size = PACKET_SIZE - PACKET_MAC_SIZE;
    memcpy(bytes, body, body_size);
    HMAC(EVP_sha256(), key->bytes, sizeof(key->bytes), bytes, body_size, mac, &mac_size);
    memcpy(bytes + body_size, mac, PACKET_MAC_SIZE);
    return packet_decode(bytes, PACKET_SIZE, key, packet_vm_id(VM), &out);
}

static void authentic_fields_out_of_range_are_refused(void)
{
    static const struct {
        size_t offset, size;
        uint8_t fill;
    } bad[] = {
        {7, 1, 0x80},  /* unknown flag */
        {8, 1, 0},     /* no role */
        {8, 1, 5},     /* unknown role */
        {9, 1, 8},     /* path */
        {10, 1, 1},    /* must be zero */
        {12, 4, 0},    /* interval 0 */
        {12, 4, 0xff}, /* more than a minute */
        {24, 8, 0},    /* instance 0 */
        {32, 8, 0},    /* challenge 0 */
        {48, 8, 0},    /* sequence 0 */
    };
    const struct packet_key key = test_key();
    CU_ASSERT_EQUAL(verdict_of_signed(golden, &key), PACKET_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t body[PACKET_SIZE];
        memcpy(body, golden, sizeof(body));
        memset(body + bad[i].offset, bad[i].fill, bad[i].size);
        CU_ASSERT_EQUAL(verdict_of_signed(body, &key), PACKET_BAD_FIELD);
    }
}

/* ---- Replay and adoption ----------------------------------------------------------------- */

#define A  UINT64_C(0xaaaa) /* our process */
#define B  UINT64_C(0xb0b0) /* the peer's first process */
#define B2 UINT64_C(0xb2b2) /* and its second */

static uint64_t fresh_number(void)
{
    static uint64_t next = 0x5000;
    return ++next;
}

/* A process of the peer as a packet source: what it would send next. */
struct source {
    struct replay own; /* its own judgement, for the challenges */
    uint64_t sequence;
};

static struct source source_of(uint64_t instance)
{
    struct source s = {0};
    replay_init(&s.own, instance, fresh_number());
    return s;
}

static struct packet next_packet(struct source *s)
{
    return (struct packet){.instance = s->own.own_instance,
                           .challenge = s->own.challenge,
                           .echo_challenge = s->own.peer_challenge,
                           .sequence = ++s->sequence};
}

static enum replay_verdict judge(struct replay *r, const struct packet *p)
{
    return replay_judge(r, p->path, p, fresh_number());
}

/* Lets both sides exchange packets until both have adopted the other. */
static void pair_up(struct source *ours, struct source *theirs)
{
    for (int i = 0; i < 2; i++) {
        struct packet p = next_packet(ours);
        judge(&theirs->own, &p);
        p = next_packet(theirs);
        judge(&ours->own, &p);
    }
    CU_ASSERT_EQUAL_FATAL(ours->own.peer_instance, theirs->own.own_instance);
    CU_ASSERT_EQUAL_FATAL(theirs->own.peer_instance, ours->own.own_instance);
}

static void two_processes_believe_each_other_after_one_exchange(void)
{
    struct source a = source_of(A), b = source_of(B);
    struct packet p = next_packet(&a);
    CU_ASSERT_EQUAL(judge(&b.own, &p), REPLAY_UNPROVEN);
    p = next_packet(&b); /* echoes what A showed */
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_ADOPTED);
    p = next_packet(&a);
    CU_ASSERT_EQUAL(judge(&b.own, &p), REPLAY_ADOPTED);
    p = next_packet(&b);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);
}

static void a_number_counts_once(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    const struct packet p = next_packet(&b);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_DUPLICATE);
}

static void reordered_packets_are_late_once_and_too_old_beyond_the_window(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    struct packet p[REPLAY_WINDOW + 2];
    for (int i = 0; i < REPLAY_WINDOW + 2; i++)
        p[i] = next_packet(&b);
    CU_ASSERT_EQUAL(judge(&a.own, &p[REPLAY_WINDOW + 1]), REPLAY_FRESH);
    CU_ASSERT_EQUAL(judge(&a.own, &p[0]), REPLAY_TOO_OLD);
    CU_ASSERT_EQUAL(judge(&a.own, &p[1]), REPLAY_TOO_OLD);
    for (int i = 2; i < REPLAY_WINDOW + 1; i++) {
        CU_ASSERT_EQUAL(judge(&a.own, &p[i]), REPLAY_LATE);
        CU_ASSERT_EQUAL(judge(&a.own, &p[i]), REPLAY_DUPLICATE);
    }
}

static void a_leap_of_the_sequence_empties_the_window(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    b.sequence = UINT64_MAX - 1;
    const struct packet p = next_packet(&b);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);
    CU_ASSERT_EQUAL(a.own.paths[0].seen, 1);
}

static void a_step_as_wide_as_the_window_forgets_what_was_seen(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    struct packet p;
    for (int i = 0; i < REPLAY_WINDOW; i++) { /* all of the window seen */
        p = next_packet(&b);
        judge(&a.own, &p);
    }
    struct packet skipped = next_packet(&b);
    b.sequence += REPLAY_WINDOW - 2;
    p = next_packet(&b); /* the window's oldest number is now that of `skipped` */
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);
    CU_ASSERT_EQUAL(judge(&a.own, &skipped), REPLAY_LATE);
}

static void each_path_has_its_own_window_and_takes_only_its_own_packets(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    struct packet p = next_packet(&b);
    p.path = 1;
    CU_ASSERT_EQUAL(replay_judge(&a.own, 0, &p, fresh_number()), REPLAY_MISROUTED);
    CU_ASSERT_EQUAL(replay_judge(&a.own, 1, &p, fresh_number()), REPLAY_FRESH);
    CU_ASSERT_EQUAL(replay_judge(&a.own, 1, &p, fresh_number()), REPLAY_DUPLICATE);
}

static void our_own_packet_sent_back_is_no_peer(void)
{
    struct source a = source_of(A);
    const struct packet p = next_packet(&a);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_REFLECTED);
    CU_ASSERT_EQUAL(a.own.peer_challenge, 0);
}

static void a_recording_of_a_dead_process_does_not_revive_it(void)
{
    struct source a = source_of(A), b = source_of(B);
    struct packet recorded[64];
    struct packet p = next_packet(&a);
    judge(&b.own, &p);
    for (int i = 0; i < 32; i++) /* these echo the challenge by which B was adopted */
        recorded[i] = next_packet(&b);
    CU_ASSERT_EQUAL(judge(&a.own, &recorded[0]), REPLAY_ADOPTED);
    pair_up(&a, &b);
    for (int i = 32; i < 64; i++)
        recorded[i] = next_packet(&b);

    struct source b2 = source_of(B2); /* B died, its successor is believed */
    pair_up(&a, &b2);
    for (int i = 0; i < 64; i++)
        CU_ASSERT_EQUAL(judge(&a.own, &recorded[i]), REPLAY_UNPROVEN);
    CU_ASSERT_EQUAL(a.own.peer_instance, B2);
    p = next_packet(&b2);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);

    struct source a2 = source_of(0xa2a2); /* and we restart, too */
    for (int i = 0; i < 64; i++)
        CU_ASSERT_EQUAL(judge(&a2.own, &recorded[i]), REPLAY_UNPROVEN);
    pair_up(&a2, &b2); /* the replayed challenges have not got in the way */
}

static void a_process_pushed_aside_by_another_can_be_adopted_again(void)
{
    struct source a = source_of(A), b = source_of(B), a2 = source_of(0xa2a2);
    pair_up(&a, &b);
    pair_up(&a2, &b); /* a second process on our side; B now takes that for its peer */
    CU_ASSERT_EQUAL(b.own.peer_instance, 0xa2a2);
    for (int i = 0; i < 2; i++) {
        struct packet p = next_packet(&a);
        judge(&b.own, &p);
        p = next_packet(&b);
        judge(&a.own, &p);
    }
    CU_ASSERT_EQUAL(b.own.peer_instance, A);
}

static void a_restarted_peer_is_adopted_with_its_numbers_from_the_start(void)
{
    struct source a = source_of(A), b = source_of(B);
    pair_up(&a, &b);
    b.sequence = 1000000;
    struct packet p = next_packet(&b);
    judge(&a.own, &p);
    struct source b2 = source_of(B2);
    pair_up(&a, &b2);
    CU_ASSERT_EQUAL(a.own.peer_instance, B2);
    p = next_packet(&b2);
    CU_ASSERT_EQUAL(judge(&a.own, &p), REPLAY_FRESH);
}

static const struct test_case cases[] = {
    {"a packet has the bytes of the layout", a_packet_has_the_bytes_of_the_layout},
    {"a packet survives the round trip", a_packet_survives_the_round_trip},
    {"any other size is refused", any_other_size_is_refused},
    {"any flipped bit is refused", any_flipped_bit_is_refused},
    {"keys of other secrets and other VMs are refused",
     keys_of_other_secrets_and_other_vms_are_refused},
    {"a key needs a secret and a name", a_key_needs_a_secret_and_a_name},
    {"authentic fields out of range are refused", authentic_fields_out_of_range_are_refused},
    {"two processes believe each other after one exchange",
     two_processes_believe_each_other_after_one_exchange},
    {"a number counts once", a_number_counts_once},
    {"reordered packets are late once and too old beyond the window",
     reordered_packets_are_late_once_and_too_old_beyond_the_window},
    {"a leap of the sequence empties the window", a_leap_of_the_sequence_empties_the_window},
    {"a step as wide as the window forgets what was seen",
     a_step_as_wide_as_the_window_forgets_what_was_seen},
    {"each path has its own window and takes only its own packets",
     each_path_has_its_own_window_and_takes_only_its_own_packets},
    {"our own packet sent back is no peer", our_own_packet_sent_back_is_no_peer},
    {"a recording of a dead process does not revive it",
     a_recording_of_a_dead_process_does_not_revive_it},
    {"a process pushed aside by another can be adopted again",
     a_process_pushed_aside_by_another_can_be_adopted_again},
    {"a restarted peer is adopted with its numbers from the start",
     a_restarted_peer_is_adopted_with_its_numbers_from_the_start},
};

TEST_MAIN("beat packet", cases)
