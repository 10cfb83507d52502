/* Machine states by what changed in them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/state_codec.h"
#include "test/support/runner.h"
#include "transport/digest.h"

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t draw(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x9e3779b97f4a7c15;
}

static void add(struct section_set *set, const char *name, uint32_t instance, size_t size,
                uint8_t fill)
{
    uint8_t *data = section_set_add(set, name, instance, 1, size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    memset(data, fill, size);
}

/* The other end of a link. */
struct receiver {
    uint8_t *base;
    size_t size;
};

static int receive(struct receiver *r, const uint8_t *bytes, size_t size)
{
    const bool relative = state_is_relative(bytes, size);
    const int plain_size = relative ? state_check_relative(r->size, bytes, size, NULL) : (int)size;
    if (plain_size < 0)
        return plain_size;
    uint8_t *plain = malloc((size_t)plain_size);
    int rc = 0;
    if (relative)
        rc = state_decode_relative(r->base, bytes, size, plain, NULL);
    else
        memcpy(plain, bytes, size);
    if (rc < 0) {
        free(plain);
        return rc;
    }
    free(r->base);
    r->base = plain;
    r->size = (size_t)plain_size;
    return 0;
}

static size_t send(struct state_encoder *encoder, struct receiver *r, const struct section_set *set)
{
    const uint8_t *bytes;
    size_t size;
    CU_ASSERT_EQUAL_FATAL(state_encoder_encode(encoder, set, &bytes, &size, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(receive(r, bytes, size), 0);
    uint8_t *expected = malloc(section_set_encoded_size(set));
    CU_ASSERT_EQUAL((size_t)section_set_encode(set, expected, section_set_encoded_size(set)),
                    r->size);
    CU_ASSERT_EQUAL_FATAL(memcmp(expected, r->base, r->size), 0);
    free(expected);
    return size;
}

static void a_relative_state_is_these_bytes(void)
{
    struct section_set *set = section_set_create();
    add(set, "vcpu", 0, 100, 1);
    add(set, "net", 0, 50, 2);
    uint8_t before[512], now[512], out[512];
    const int size = section_set_encode(set, before, sizeof(before));
    memcpy(now, before, (size_t)size);
    now[4 + 2 * 44 + 100 + 7] = 9;
    const size_t packed =
        state_encode_relative(before, (size_t)size, now, (size_t)size, out, sizeof(out));
    uint8_t golden[40] = {0xff, 0xff, 0xff, 0xff, 242};
    digest_of_128(now, (size_t)size, 0, golden + 8);
    static const uint8_t piece[] = {242, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0xc7, 0x01, 1, 9};
    memcpy(golden + 24, piece, sizeof(piece));
    CU_ASSERT_EQUAL(packed, sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(out, golden, sizeof(golden)), 0);
    section_set_destroy(&set);
}

static void any_sequence_of_states_arrives(void)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct state_encoder *encoder = state_encoder_create();
    struct section_set *set = section_set_create();
    struct receiver r = {0};
    state_encoder_begin_link(encoder, true);
    size_t sizes[5][3] = {{0}};
    for (unsigned round = 0; round < 3000; round++) {
        section_set_reset(set);
        /* Sections come, go, grow, change places. */
        const size_t first = draw() % 20 ? 0 : draw() % 5;
        for (size_t i = 0; i < 5; i++) {
            for (uint32_t instance = 0; instance < 3; instance++) {
                size_t *size = &sizes[(first + i) % 5][instance];
                if (draw() % 50 == 0)
                    *size = draw() % 4 ? draw() % 2000 : 0;
                if (*size == 0 && draw() % 2)
                    continue;
                uint8_t *data = section_set_add(set, names[(first + i) % 5], instance, 1, *size);
                for (size_t at = 0; at < *size; at++)
                    data[at] = (uint8_t)(at * 7 + instance);
                if (*size && draw() % 4 == 0)
                    data[draw() % *size] = (uint8_t)draw();
            }
        }
        if (draw() % 100 == 0) { /* another standby */
            state_encoder_begin_link(encoder, true);
            free(r.base);
            r = (struct receiver){0};
        }
        send(encoder, &r, set);
    }
    free(r.base);
    section_set_destroy(&set);
    state_encoder_destroy(&encoder);
}

static void what_did_not_change_is_not_sent_again(void)
{
    struct state_encoder *encoder = state_encoder_create();
    struct section_set *set = section_set_create();
    struct receiver r = {0};
    for (uint32_t i = 0; i < 20; i++)
        add(set, "device", i, 4096, (uint8_t)(i + 1));
    const size_t plain = section_set_encoded_size(set);
    state_encoder_begin_link(encoder, true);
    CU_ASSERT_EQUAL(send(encoder, &r, set), plain);
    CU_ASSERT_EQUAL(send(encoder, &r, set), 24 + 12); /* one piece, an empty delta */
    state_encoder_begin_link(encoder, true);
    CU_ASSERT_EQUAL(send(encoder, &r, set), plain);
    state_encoder_begin_link(encoder, false);
    CU_ASSERT_EQUAL(send(encoder, &r, set), plain);
    CU_ASSERT_EQUAL(send(encoder, &r, set), plain);
    /* One section grows, those behind it move: three pieces, and the grown one whole. */
    state_encoder_begin_link(encoder, true);
    send(encoder, &r, set);
    section_set_reset(set);
    for (uint32_t i = 0; i < 20; i++)
        add(set, "device", i, i == 7 ? 5000 : 4096, (uint8_t)(i + 1));
    CU_ASSERT(send(encoder, &r, set) < 5200);
    free(r.base);
    section_set_destroy(&set);
    state_encoder_destroy(&encoder);
}

/* A relative state of three pieces, and the base that it needs. */
static size_t make_sample(uint8_t *base, size_t *base_size, uint8_t *out, size_t capacity)
{
    struct section_set *set = section_set_create();
    add(set, "a", 0, 300, 1);
    add(set, "b", 0, 300, 2);
    *base_size = (size_t)section_set_encode(set, base, capacity);
    section_set_reset(set);
    add(set, "a", 0, 300, 1);
    add(set, "b", 0, 310, 0);
    add(set, "c", 0, 20, 4);
    uint8_t plain[1024];
    const int size = section_set_encode(set, plain, sizeof(plain));
    section_set_destroy(&set);
    return state_encode_relative(base, *base_size, plain, (size_t)size, out, capacity);
}

static void every_truncation_and_every_changed_byte_is_noticed(void)
{
    uint8_t base[1024], sample[1024], plain[2048];
    size_t base_size;
    const size_t size = make_sample(base, &base_size, sample, sizeof(sample));
    CU_ASSERT_FATAL(size > 0);
    const int plain_size = state_check_relative(base_size, sample, size, NULL);
    CU_ASSERT_FATAL(plain_size > 0);
    CU_ASSERT_EQUAL(state_decode_relative(base, sample, size, plain, NULL), 0);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, sample, cut);
        CU_ASSERT_EQUAL(state_check_relative(base_size, exact, cut, NULL), -EBADMSG);
        free(exact);
    }
    for (size_t at = 0; at < size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sample[at] ^= (uint8_t)(1u << bit);
            const int n = state_check_relative(base_size, sample, size, NULL);
            if (n > 0) {
                uint8_t *exact = malloc((size_t)n);
                CU_ASSERT_EQUAL(state_decode_relative(base, sample, size, exact, NULL), -EBADMSG);
                free(exact);
            }
            sample[at] ^= (uint8_t)(1u << bit);
        }
    }
}

static void another_base_is_noticed(void)
{
    uint8_t base[1024], sample[1024], plain[2048];
    size_t base_size;
    const size_t size = make_sample(base, &base_size, sample, sizeof(sample));
    base[4 + 2 * 44 + 10] ^= 1;
    CU_ASSERT(state_check_relative(base_size, sample, size, NULL) > 0);
    CU_ASSERT_EQUAL(state_decode_relative(base, sample, size, plain, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(state_check_relative(300, sample, size, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(state_check_relative(0, sample, size, NULL), -EBADMSG);
}

static void sizes_beyond_every_state_are_refused_before_anything_is_allocated(void)
{
    static const uint32_t sizes[] = {0, STATE_SIZE_MAX + 1, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint8_t bytes[64];
        struct wire_writer w = {.bytes = bytes, .size = sizeof(bytes)};
        wire_put_u32(&w, STATE_RELATIVE);
        wire_put_u32(&w, sizes[i]);
        wire_put_u64(&w, 0);
        wire_put_u64(&w, 0);
        wire_put_u32(&w, sizes[i]);
        wire_put_u32(&w, STATE_FROM_NOWHERE);
        wire_put_u32(&w, 0);
        CU_ASSERT_EQUAL(state_check_relative(0, bytes, w.used, NULL), -EBADMSG);
    }
}

static const struct test_case cases[] = {
    {"a relative state is these bytes", a_relative_state_is_these_bytes},
    {"any sequence of states arrives", any_sequence_of_states_arrives},
    {"what did not change is not sent again", what_did_not_change_is_not_sent_again},
    {"every truncation and every changed byte is noticed",
     every_truncation_and_every_changed_byte_is_noticed},
    {"another base is noticed", another_base_is_noticed},
    {"sizes beyond every state are refused before anything is allocated",
     sizes_beyond_every_state_are_refused_before_anything_is_allocated},
};

TEST_MAIN("state codec", cases)
