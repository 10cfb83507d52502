/* What RDMA carriers say to each other: golden bytes, every truncation, everything impossible. */
#include <errno.h>
#include <string.h>

#include "test/support/runner.h"
#include "transport/rdma_wire.h"

static const uint8_t golden_offer[RDMA_OFFER_SIZE] = {'K', 'M', 'D', 'A', 1, 0,  64, 0,
                                                      16,  0,   0,   0,   0, 16, 0,  0};

static const uint8_t golden_credit[] = {2, 0, 0, 0, 16, 0, 0, 0, 7, 0, 0, 0,
                                        0, 0, 0, 0, 9,  1, 0, 0, 0, 0, 0, 0};
static const uint8_t golden_ring[] = {3, 0, 0, 0, 16, 0,    0, 0, 0, 0x10, 0, 0,
                                      0, 1, 0, 0, 5,  0x60, 0, 0, 0, 0,    1, 0};

static void an_offer_has_its_bytes_and_no_other_is_taken(void)
{
    uint8_t bytes[56] = {0};
    rdma_offer_encode(false, bytes);
    CU_ASSERT_EQUAL(memcmp(bytes, golden_offer, sizeof(golden_offer)), 0);
    CU_ASSERT_EQUAL(rdma_offer_check(bytes, sizeof(bytes), false, NULL), 0);
    CU_ASSERT_EQUAL(rdma_offer_check(bytes, RDMA_OFFER_SIZE, false, NULL), 0);
    for (size_t size = 0; size < RDMA_OFFER_SIZE; size++)
        CU_ASSERT_EQUAL(rdma_offer_check(bytes, size, false, NULL), -EPROTO);
    for (size_t bit = 0; bit < RDMA_OFFER_SIZE * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        CU_ASSERT_EQUAL(rdma_offer_check(bytes, sizeof(bytes), false, NULL),
                        bit / 8 == 4 || bit / 8 == 5 ? -EPROTONOSUPPORT : -EPROTO);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
    }
}

static void an_offer_of_the_other_scheme_is_refused_with_a_sentence(void)
{
    uint8_t bytes[RDMA_OFFER_SIZE];
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        struct error err = {0};
        rdma_offer_encode(encrypted, bytes);
        CU_ASSERT_EQUAL(bytes[10], encrypted);
        CU_ASSERT_EQUAL(rdma_offer_check(bytes, sizeof(bytes), encrypted, NULL), 0);
        CU_ASSERT_EQUAL(rdma_offer_check(bytes, sizeof(bytes), !encrypted, &err), -EPROTO);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, encrypted ? "speaks rdma+tls:// and this host rdma:"
                                                          : "speaks rdma:// and this host rdma+"));
    }
}

static size_t encode(const struct rdma_message *m, uint8_t *out)
{
    memset(out, 0xee, RDMA_SLOT_SIZE);
    return rdma_message_encode(m, out);
}

static void messages_have_their_bytes(void)
{
    static uint8_t bytes[RDMA_SLOT_SIZE];
    struct rdma_message m = {.type = RDMA_MESSAGE_CREDIT, .credit = {7, 0x109}};
    CU_ASSERT_EQUAL(encode(&m, bytes), sizeof(golden_credit));
    CU_ASSERT_EQUAL(memcmp(bytes, golden_credit, sizeof(golden_credit)), 0);
    m = (struct rdma_message){.type = RDMA_MESSAGE_RING,
                              .ring = {0x10000001000, 0x6005, RDMA_RING_MIN}};
    CU_ASSERT_EQUAL(encode(&m, bytes), sizeof(golden_ring));
    CU_ASSERT_EQUAL(memcmp(bytes, golden_ring, sizeof(golden_ring)), 0);
    m = (struct rdma_message){.type = RDMA_MESSAGE_ALIVE};
    CU_ASSERT_EQUAL(encode(&m, bytes), RDMA_MESSAGE_OVERHEAD);
    m = (struct rdma_message){.type = RDMA_MESSAGE_DATA, .data = {.size = RDMA_MESSAGE_MAX}};
    CU_ASSERT_EQUAL(encode(&m, bytes), RDMA_MESSAGE_OVERHEAD);
    CU_ASSERT_EQUAL(rdma_message_decode(bytes, RDMA_SLOT_SIZE, &m, NULL), 0);
    CU_ASSERT_EQUAL(m.data.size, RDMA_MESSAGE_MAX);
    CU_ASSERT_PTR_EQUAL(m.data.bytes, bytes + RDMA_MESSAGE_OVERHEAD);
}

static void a_message_comes_back_and_no_part_of_it_is_taken(void)
{
    struct rdma_message m;
    CU_ASSERT_EQUAL(rdma_message_decode(golden_credit, sizeof(golden_credit), &m, NULL), 0);
    CU_ASSERT(m.type == RDMA_MESSAGE_CREDIT && m.credit.segments == 7 && m.credit.bytes == 0x109);
    CU_ASSERT_EQUAL(rdma_message_decode(golden_ring, sizeof(golden_ring), &m, NULL), 0);
    CU_ASSERT(m.type == RDMA_MESSAGE_RING && m.ring.address == 0x10000001000 &&
              m.ring.key == 0x6005 && m.ring.size == RDMA_RING_MIN);
    for (size_t size = 0; size < sizeof(golden_credit); size++) {
        CU_ASSERT_EQUAL(rdma_message_decode(golden_credit, size, &m, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(rdma_message_decode(golden_ring, size, &m, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(m.type, 0);
    }
}

/* `bytes` is changed in place and put right again. */
static void expect_refused(uint8_t *bytes, size_t size, size_t at, uint8_t value)
{
    struct rdma_message m;
    const uint8_t was = bytes[at];
    bytes[at] = value;
    CU_ASSERT_EQUAL(rdma_message_decode(bytes, size, &m, NULL), -EBADMSG);
    bytes[at] = was;
}

static void what_is_not_possible_is_refused(void)
{
    uint8_t ring[sizeof(golden_ring) + 1] = {0};
    memcpy(ring, golden_ring, sizeof(golden_ring));
    struct rdma_message m;
    CU_ASSERT_EQUAL(rdma_message_decode(ring, sizeof(ring), &m, NULL), -EBADMSG); /* trailing */
    const size_t size = sizeof(golden_ring);
    expect_refused(ring, size, 0, 0);     /* no type */
    expect_refused(ring, size, 0, 5);     /* an unknown one */
    expect_refused(ring, size, 0, 4);     /* ALIVE with a body */
    expect_refused(ring, size, 4, 15);    /* another size than there is */
    expect_refused(ring, size, 20, 1);    /* no power of two */
    expect_refused(ring, size, 22, 0);    /* no size */
    expect_refused(ring, size, 22, 0);    /* too small */
    expect_refused(ring, size, 23, 0x80); /* too large */
    memset(ring + 8, 0, 8);
    CU_ASSERT_EQUAL(rdma_message_decode(ring, size, &m, NULL), -EBADMSG); /* nowhere */
    memset(ring + 8, 0xff, 8);
    CU_ASSERT_EQUAL(rdma_message_decode(ring, size, &m, NULL), -EBADMSG); /* wraps */
    static const uint8_t empty[RDMA_MESSAGE_OVERHEAD] = {RDMA_MESSAGE_DATA};
    CU_ASSERT_EQUAL(rdma_message_decode(empty, sizeof(empty), &m, NULL), -EBADMSG);
}

static const struct test_case cases[] = {
    {"an offer has its bytes and no other is taken", an_offer_has_its_bytes_and_no_other_is_taken},
    {"an offer of the other scheme is refused with a sentence",
     an_offer_of_the_other_scheme_is_refused_with_a_sentence},
    {"messages have their bytes", messages_have_their_bytes},
    {"a message comes back and no part of it is taken",
     a_message_comes_back_and_no_part_of_it_is_taken},
    {"what is not possible is refused", what_is_not_possible_is_refused},
};

TEST_MAIN("rdma-wire", cases)
