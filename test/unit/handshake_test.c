/* The handshake's messages against golden bytes, and every way to spoil them. */
#include "transport/handshake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/support/party.h"
#include "test/support/runner.h"

static const char hello_bytes[] =
    "\x0a\x84\x01\x0a`\x08\x01\x18\x02*\x04vm-124vcpus=4\x0a\x63puid=abc\x0amemory=64M\x0a"
    "net0=52:54:00:00:00:01\x0a\x38\x80\x80\x80 B\x05\x10\x80\x80\x80\x18\x42\x0b\x08\x80"
    "\x80\x80\x80\x10\x10\x80\x80\x80\x08H\x80\x80\x80\x08P\x06\x12 \x00\x01\x02\x03\x04"
    "\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
    "\x1a\x1b\x1c\x1d\x1e\x1f";
_Static_assert(sizeof(hello_bytes) == 135 + 1, "as counted");

/* The second further connection of a session, of three that the host would use. */
static const char join_bytes[] =
    "\x0a\xab\x01\x0a\x86\x01\x08\x01\x18\x02*\x04vm-124vcpus=4\x0a\x63puid=abc\x0amemory=64M\x0a"
    "net0=52:54:00:00:00:01\x0a\x38\x80\x80\x80 B\x05\x10\x80\x80\x80\x18\x42\x0b\x08\x80"
    "\x80\x80\x80\x10\x10\x80\x80\x80\x08H\x80\x80\x80\x08P\x06`\x03h\x02r @ABCDEFGHIJKLMNOPQRS"
    "TUVWXYZ[\\]^_\x12 \x00\x01\x02\x03\x04"
    "\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
    "\x1a\x1b\x1c\x1d\x1e\x1f";
_Static_assert(sizeof(join_bytes) == 174 + 1, "as counted");

static const char challenge_bytes[] =
    "\x12\x22\x0a \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11"
    "\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
_Static_assert(sizeof(challenge_bytes) == 36 + 1, "as counted");

static const char proof_bytes[] =
    "\x1a\x22\x0a \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11"
    "\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
_Static_assert(sizeof(proof_bytes) == 36 + 1, "as counted");

static const char verdict_bytes[] =
    "\x22\x8a\x01\x0a\x66*d\x0a\x62\x08\x01\x18\x01 \x05*\x04vm-124vcpus=4\x0a\x63puid=abc"
    "\x0amemory=64M\x0anet0=52:54:00:00:00:01\x0a\x38\x80\x80\x80 B\x05\x10\x80\x80\x80"
    "\x18\x42\x0b\x08\x80\x80\x80\x80\x10\x10\x80\x80\x80\x08H\x80\x80\x80\x08P\x06\x12 "
    "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
    "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
_Static_assert(sizeof(verdict_bytes) == 141 + 1, "as counted");

static const char welcome_bytes[] =
    "*d\x0a\x62\x08\x01\x18\x01 \x05*\x04vm-124vcpus=4\x0a\x63puid=abc\x0amemory=64M\x0ane"
    "t0=52:54:00:00:00:01\x0a\x38\x80\x80\x80 B\x05\x10\x80\x80\x80\x18\x42\x0b\x08\x80"
    "\x80\x80\x80\x10\x10\x80\x80\x80\x08H\x80\x80\x80\x08P\x06";
_Static_assert(sizeof(welcome_bytes) == 102 + 1, "as counted");

static const char refuse_bytes[] = "2\x18\x08\x07\x12\x14peer has more memory";
_Static_assert(sizeof(refuse_bytes) == 26 + 1, "as counted");

static const struct {
    enum handshake_kind kind;
    const char *bytes;
    size_t size;
} golden[] = {
    {HANDSHAKE_HELLO, hello_bytes, sizeof(hello_bytes) - 1},
    {HANDSHAKE_HELLO, join_bytes, sizeof(join_bytes) - 1},
    {HANDSHAKE_CHALLENGE, challenge_bytes, sizeof(challenge_bytes) - 1},
    {HANDSHAKE_PROOF, proof_bytes, sizeof(proof_bytes) - 1},
    {HANDSHAKE_VERDICT, verdict_bytes, sizeof(verdict_bytes) - 1},
    {HANDSHAKE_WELCOME, welcome_bytes, sizeof(welcome_bytes) - 1},
    {HANDSHAKE_REFUSE, refuse_bytes, sizeof(refuse_bytes) - 1},
};

static int decode(const char *bytes, size_t size, struct handshake *out)
{
    struct error err = {0};
    const int rc = handshake_decode((const uint8_t *)bytes, size, out, &err);
    CU_ASSERT_EQUAL(err.code, rc);
    if (rc < 0)
        CU_ASSERT(err.text[0] != '\0' && out->kind == 0);
    return rc;
}

/* Fills in what the golden messages say. */
static void expected_message(struct handshake *h, enum handshake_kind kind)
{
    struct session_config *config = malloc(sizeof(*config));
    memset(h, 0, sizeof(*h));
    h->kind = kind;
    if (kind == HANDSHAKE_HELLO || kind == HANDSHAKE_WELCOME) {
        const bool hello = kind == HANDSHAKE_HELLO;
        party_config(config, hello ? SESSION_SECONDARY : SESSION_PRIMARY, 1);
        h->party = config->local;
        h->party.staging_cap = 16u << 20;
        h->party.capabilities = 6;
    }
    for (uint8_t i = 0; i < PROOF_SIZE; i++) {
        if (kind == HANDSHAKE_HELLO || kind == HANDSHAKE_CHALLENGE)
            h->nonce[i] = i;
        if (kind == HANDSHAKE_PROOF || kind == HANDSHAKE_VERDICT)
            h->hmac[i] = i;
    }
    if (kind == HANDSHAKE_VERDICT) {
        h->body_size = sizeof(welcome_bytes) - 1;
        memcpy(h->body, welcome_bytes, h->body_size);
    }
    if (kind == HANDSHAKE_REFUSE) {
        h->reason = SESSION_LAYOUT;
        strcpy(h->text, "peer has more memory");
    }
    free(config);
}

static void make_join(struct handshake *h)
{
    h->party.streams = 3;
    h->party.stream = 2;
    for (uint8_t i = 0; i < SESSION_ID_SIZE; i++)
        h->party.joins[i] = (uint8_t)('@' + i);
}

/* Where the fields stand in join_bytes. */
#define AT_STREAMS 103
#define AT_STREAM  105
#define AT_SIZE    107

static void a_stream_has_a_legal_number_and_names_its_session(void)
{
    struct handshake *h = malloc(sizeof(*h));
    char bytes[sizeof(join_bytes)];
    memcpy(bytes, join_bytes, sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(bytes[AT_STREAMS], 3);
    CU_ASSERT_EQUAL_FATAL(bytes[AT_STREAM], 2);
    CU_ASSERT_EQUAL_FATAL(bytes[AT_SIZE], 32);
    bytes[AT_STREAM] = SESSION_STREAMS_MAX;
    CU_ASSERT_EQUAL(decode(bytes, sizeof(bytes) - 1, h), -EBADMSG);
    bytes[AT_STREAM] = 0; /* and names a session all the same */
    CU_ASSERT_EQUAL(decode(bytes, sizeof(bytes) - 1, h), -EBADMSG);
    bytes[AT_STREAM] = SESSION_STREAMS_MAX - 1;
    bytes[AT_STREAMS] = 0; /* knows of none */
    CU_ASSERT_EQUAL(decode(bytes, sizeof(bytes) - 1, h), 0);
    CU_ASSERT_EQUAL(h->party.streams, 1);
    bytes[AT_STREAMS] = 100; /* of a later version that could use more */
    CU_ASSERT_EQUAL(decode(bytes, sizeof(bytes) - 1, h), 0);
    CU_ASSERT_EQUAL(h->party.streams, SESSION_STREAMS_MAX);
    /* A golden Hello that only says it is a stream. */
    memcpy(bytes, hello_bytes, sizeof(hello_bytes));
    memmove(bytes + 103, bytes + 101, sizeof(hello_bytes) - 1 - 101);
    memcpy(bytes + 101, "h\x02", 2);
    bytes[1] = (char)(bytes[1] + 2);
    bytes[4] = (char)(bytes[4] + 2);
    CU_ASSERT_EQUAL(decode(bytes, sizeof(hello_bytes) - 1 + 2, h), -EBADMSG);
    free(h);
}

static void every_message_has_its_golden_bytes(void)
{
    struct handshake *want = malloc(sizeof(*want));
    struct handshake *got = malloc(sizeof(*got));
    uint8_t *bytes = malloc(FRAME_CONTROL_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        expected_message(want, golden[i].kind);
        if (golden[i].bytes == join_bytes)
            make_join(want);
        const int size = handshake_encode(want, bytes, FRAME_CONTROL_MAX, NULL);
        CU_ASSERT_EQUAL_FATAL(size, (int)golden[i].size);
        CU_ASSERT_EQUAL(memcmp(bytes, golden[i].bytes, golden[i].size), 0);
        CU_ASSERT_EQUAL(decode(golden[i].bytes, golden[i].size, got), 0);
        CU_ASSERT_EQUAL(memcmp(got, want, offsetof(struct handshake, body)), 0);
        CU_ASSERT_EQUAL(memcmp(got->body, want->body, want->body_size), 0);
    }
    free(want);
    free(got);
    free(bytes);
}

static void a_message_cut_short_is_refused(void)
{
    struct handshake *h = malloc(sizeof(*h));
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++)
        for (size_t cut = 0; cut < golden[i].size; cut++)
            CU_ASSERT_EQUAL(decode(golden[i].bytes, cut, h), -EBADMSG);
    free(h);
}

/* A flipped bit may give another legal message (frames carry a digest, proofs cover the rest), but
 * never one that breaks a rule. */
static void a_flipped_bit_gives_a_legal_message_or_none(void)
{
    struct handshake *h = malloc(sizeof(*h));
    uint8_t *back = malloc(FRAME_CONTROL_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        char bytes[512];
        memcpy(bytes, golden[i].bytes, golden[i].size);
        for (size_t bit = 0; bit < golden[i].size * 8; bit++) {
            bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
            const bool taken = decode(bytes, golden[i].size, h) == 0;
            if (taken && (h->party.major == SESSION_MAJOR || h->kind == HANDSHAKE_REFUSE))
                CU_ASSERT(handshake_encode(h, back, FRAME_CONTROL_MAX, NULL) > 0);
            bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        }
    }
    free(h);
    free(back);
}

static void another_major_version_yields_the_version_alone(void)
{
    static const char bytes[] = "\x0a\x06\x0a\x04\x08\x09\x10\x03";
    struct handshake *h = malloc(sizeof(*h));
    CU_ASSERT_EQUAL(decode(bytes, 8, h), 0);
    CU_ASSERT_EQUAL(h->kind, HANDSHAKE_HELLO);
    CU_ASSERT_EQUAL(h->party.major, 9);
    CU_ASSERT_EQUAL(h->party.minor, 3);
    CU_ASSERT_EQUAL(h->party.slot_count, 0);
    free(h);
}

static void the_largest_identity_fits_and_a_larger_does_not(void)
{
    struct handshake *h = malloc(sizeof(*h));
    struct handshake *back = malloc(sizeof(*back));
    uint8_t *bytes = malloc(FRAME_CONTROL_MAX);
    expected_message(h, HANDSHAKE_HELLO);
    memset(h->party.identity, 'x', SESSION_IDENTITY_MAX - 1);
    h->party.identity[1] = '=';
    h->party.identity[SESSION_IDENTITY_MAX - 2] = '\n';
    const int size = handshake_encode(h, bytes, FRAME_CONTROL_MAX, NULL);
    CU_ASSERT_FATAL(size > (int)SESSION_IDENTITY_MAX);
    CU_ASSERT_EQUAL(decode((const char *)bytes, (size_t)size, back), 0);
    CU_ASSERT_EQUAL(strlen(back->party.identity), SESSION_IDENTITY_MAX - 1);
    h->party.identity[SESSION_IDENTITY_MAX - 1] = '\n';
    CU_ASSERT_EQUAL(handshake_encode(h, bytes, FRAME_CONTROL_MAX, NULL), -EINVAL);
    CU_ASSERT_EQUAL(decode((const char *)bytes, FRAME_CONTROL_MAX + 1, back), -EBADMSG);
    free(h);
    free(back);
    free(bytes);
}

static const struct test_case cases[] = {
    {"a stream has a legal number and names its session",
     a_stream_has_a_legal_number_and_names_its_session},
    {"every message has its golden bytes", every_message_has_its_golden_bytes},
    {"a message cut short is refused", a_message_cut_short_is_refused},
    {"a flipped bit gives a legal message or none", a_flipped_bit_gives_a_legal_message_or_none},
    {"another major version yields the version alone",
     another_major_version_yields_the_version_alone},
    {"the largest identity fits and a larger does not",
     the_largest_identity_fits_and_a_larger_does_not},
};

TEST_MAIN("handshake", cases)
