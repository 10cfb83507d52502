/* Control messages against golden bytes, and every way to spoil them. */
#include "transport/message.h"

#include <errno.h>
#include <string.h>

#include "test/support/runner.h"
#include "transport/inproc.h"

#define DIGEST "0123456789abcdef"

static const struct {
    struct message message;
    const char *bytes;
    size_t size;
} samples[] = {
    {{.kind = MESSAGE_EPOCH_BEGIN, .epoch_begin = {.kind = MESSAGE_EPOCH_INCREMENTAL}},
     "\x82\x01\x02\x08\x02",
     5},
    {{.kind = MESSAGE_EPOCH_BEGIN,
      .epoch_begin = {.kind = MESSAGE_EPOCH_FULL,
                      .has_policy = true,
                      .policy = {.kind = MESSAGE_POLICY_INTERVAL,
                                 .interval_ns = 20000000,
                                 .max_interval_ns = 500000000,
                                 .window = 2,
                                 .dirty_budget_pages = 300,
                                 .staging_cap_bytes = 8 << 20}}},
     "\x82\x01\x1b\x08\x01\x12\x17\x08\x03\x10\x80\xda\xc4\x09\x18\x80\xca\xb5\xee\x01\x20\x02\x28"
     "\xac"
     "\x02\x30\x80\x80\x80\x04",
     30},
    {{.kind = MESSAGE_EPOCH_END,
      .epoch_end = {300,
                    2,
                    5,
                    1u << 20,
                    7,
                    9,
                    {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e',
                     'f'}}},
     "\x8a\x01\x21\x08\xac\x02\x10\x02\x18\x05\x20\x80\x80\x40\x28\x07\x32\x10" DIGEST "\x38\x09",
     36},
    {{.kind = MESSAGE_EPOCH_ACK}, "\x92\x01\x00", 3},
    {{.kind = MESSAGE_EPOCH_NACK, .epoch_nack = {MESSAGE_NACK_STATE, "no rtc"}},
     "\x9a\x01\x0a\x08\x02\x12\x06no rtc",
     13},
    {{.kind = MESSAGE_APPLIED}, "\xa2\x01\x00", 3},
    {{.kind = MESSAGE_RESYNC, .resync = {"lost"}}, "\xaa\x01\x06\x0a\x04lost", 9},
    {{.kind = MESSAGE_GOODBYE, .goodbye = {MESSAGE_GOODBYE_SWITCHOVER, true, "bye"}},
     "\xb2\x01\x09\x08\x02\x10\x01\x1a\x03"
     "bye",
     12},
    {{.kind = MESSAGE_ALIVE}, "\xba\x01\x00", 3},
    {{.kind = MESSAGE_SWITCHOVER, .switchover = {.step = MESSAGE_SWITCHOVER_REQUEST}},
     "\xc2\x01\x02\x08\x01",
     5},
    {{.kind = MESSAGE_SWITCHOVER, .switchover = {.step = MESSAGE_SWITCHOVER_REFUSED, .text = "no"}},
     "\xc2\x01\x06\x08\x02\x22\x02no",
     9},
    {{.kind = MESSAGE_SWITCHOVER, .switchover = {.step = MESSAGE_SWITCHOVER_PREPARED, .term = 8}},
     "\xc2\x01\x04\x08\x04\x10\x08",
     7},
    {{.kind = MESSAGE_SWITCHOVER,
      .switchover = {.step = MESSAGE_SWITCHOVER_TAKE, .term = 8, .pause = 300}},
     "\xc2\x01\x07\x08\x05\x10\x08\x18\xac\x02",
     10},
    {{.kind = MESSAGE_SWITCHOVER, .switchover = {.step = MESSAGE_SWITCHOVER_RELEASE, .term = 8}},
     "\xc2\x01\x04\x08\x07\x10\x08",
     7},
    {{.kind = MESSAGE_SWITCHOVER, .switchover = {.step = MESSAGE_SWITCHOVER_RELEASED, .term = 8}},
     "\xc2\x01\x04\x08\x08\x10\x08",
     7},
};

static void every_message_has_its_golden_bytes(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
        uint8_t bytes[MESSAGE_SIZE_MAX];
        const int size = message_encode(&samples[i].message, bytes, sizeof(bytes), NULL);
        CU_ASSERT_EQUAL_FATAL(size, (int)samples[i].size);
        CU_ASSERT_EQUAL(memcmp(bytes, samples[i].bytes, samples[i].size), 0);
        struct message back;
        CU_ASSERT_EQUAL(
            message_decode((const uint8_t *)samples[i].bytes, samples[i].size, &back, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(&back, &samples[i].message, sizeof(back)), 0);
    }
}

/* All fields of a message lie in one length-delimited body, so a cut is always noticed. */
static void a_message_cut_short_is_refused(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
        for (size_t cut = 0; cut < samples[i].size; cut++) {
            struct message out;
            struct error err = {0};
            const int rc = message_decode((const uint8_t *)samples[i].bytes, cut, &out, &err);
            CU_ASSERT_EQUAL(rc, -EBADMSG);
            CU_ASSERT_EQUAL(out.kind, 0);
            CU_ASSERT(err.text[0] != '\0');
        }
}

static void expect_bad(const char *bytes, size_t size)
{
    struct message out;
    CU_ASSERT_EQUAL(message_decode((const uint8_t *)bytes, size, &out, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(out.kind, 0);
}

static void illegal_values_are_refused(void)
{
    expect_bad("\x82\x01\x00", 3);                         /* BEGIN without a kind */
    expect_bad("\x82\x01\x04\x08\x01\x12\x00", 7);         /* with a policy of no kind */
    expect_bad("\x82\x01\x06\x08\x01\x12\x02\x08\x04", 9); /* of an unknown kind */
    expect_bad("\x82\x01\x02\x08\x03", 5);                 /* BEGIN of kind 3 */
    expect_bad("\x8a\x01\x02\x08\x01", 5);                 /* END without digest */
    expect_bad("\x8a\x01\x11\x32\x0f"
               "0123456789abcde",
               20);                                          /* digest of 15 bytes */
    expect_bad("\x8a\x01\x14\x10\x01\x32\x10" DIGEST, 23);   /* 1 zero page of 0 */
    expect_bad("\x9a\x01\x02\x08\x06", 5);                   /* NACK for reason 6 */
    expect_bad("\x9a\x01\x02\x08\x00", 5);                   /* NACK for reason 0 */
    expect_bad("\x9a\x01\x05\x08\x01\x12\x01\x07", 8);       /* a bell in the text */
    expect_bad("\xb2\x01\x02\x10\x01", 5);                   /* GOODBYE without reason */
    expect_bad("\xb2\x01\x02\x08\x05", 5);                   /* GOODBYE for reason 5 */
    expect_bad("\xc2\x01\x00", 3);                           /* SWITCHOVER without a step */
    expect_bad("\xc2\x01\x04\x08\x09\x10\x08", 7);           /* step 9 */
    expect_bad("\xc2\x01\x02\x08\x07", 5);                   /* RELEASE without a term */
    expect_bad("\xc2\x01\x06\x08\x08\x10\x08\x18\x01", 9);   /* RELEASED with a pause */
    expect_bad("\xc2\x01\x04\x08\x01\x10\x08", 7);           /* REQUEST with a term */
    expect_bad("\xc2\x01\x02\x08\x03", 5);                   /* PREPARE without one */
    expect_bad("\xc2\x01\x06\x08\x03\x10\x08\x18\x01", 9);   /* PREPARE with a pause */
    expect_bad("\xc2\x01\x07\x08\x06\x10\x08\x22\x01x", 10); /* TAKEN with a text */
    expect_bad("\x0a\x00", 2);                               /* Hello: belongs to the handshake */
    expect_bad("\x22\x00", 2);                               /* Verdict: likewise */
    expect_bad("\xf2\x0f\x00", 3);                           /* a kind not known yet */
    expect_bad("", 0);
}

static void fields_of_a_newer_minor_version_are_skipped(void)
{
    struct message out;
    const char bytes[] = "\x82\x01\x05\x08\x02\xf8\x01\x09";
    CU_ASSERT_EQUAL(message_decode((const uint8_t *)bytes, 8, &out, NULL), 0);
    CU_ASSERT_EQUAL(out.kind, MESSAGE_EPOCH_BEGIN);
}

static void texts_are_bounded_and_made_printable(void)
{
    struct message m = {.kind = MESSAGE_GOODBYE, .goodbye = {.reason = MESSAGE_GOODBYE_ERROR}};
    memset(m.goodbye.text, 'x', sizeof(m.goodbye.text) - 1);
    m.goodbye.text[3] = '\n';
    m.goodbye.text[4] = (char)0xc3;
    uint8_t bytes[MESSAGE_SIZE_MAX];
    const int size = message_encode(&m, bytes, sizeof(bytes), NULL);
    struct message back;
    CU_ASSERT_EQUAL(message_decode(bytes, (size_t)size, &back, NULL), 0);
    CU_ASSERT_EQUAL(strlen(back.goodbye.text), MESSAGE_TEXT_MAX - 1);
    CU_ASSERT_EQUAL(memcmp(back.goodbye.text, "xxx??x", 6), 0);
    /* One byte more in the text (and in the three lengths around it) is too long. */
    uint8_t longer[MESSAGE_SIZE_MAX];
    memcpy(longer, bytes, (size_t)size);
    longer[size] = 'x';
    CU_ASSERT_EQUAL(longer[2], 0x84);
    longer[2]++;
    CU_ASSERT_EQUAL(longer[7], 0xff);
    longer[7] = 0x80;
    longer[8]++;
    CU_ASSERT_EQUAL(message_decode(longer, (size_t)size + 1, &back, NULL), -EBADMSG);
}

static void what_would_need_much_memory_is_refused(void)
{
    /* An ack, and unknown fields: two bytes of each cost protobuf-c some thirty of memory. */
    uint8_t bytes[MESSAGE_SIZE_MAX + 1] = {0x92, 0x01, 0x00};
    for (size_t i = 3; i < MESSAGE_SIZE_MAX; i += 2) {
        bytes[i] = 0x78;
        bytes[i + 1] = 1;
    }
    struct message out;
    CU_ASSERT_EQUAL(message_decode(bytes, 3 + 2 * 20, &out, NULL), 0);
    CU_ASSERT_EQUAL(message_decode(bytes, MESSAGE_SIZE_MAX - 1, &out, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(message_decode(bytes, MESSAGE_SIZE_MAX + 1, &out, NULL), -EBADMSG);
}

static void an_illegal_message_is_not_encoded(void)
{
    uint8_t bytes[MESSAGE_SIZE_MAX];
    struct message m = {0};
    CU_ASSERT_EQUAL(message_encode(&m, bytes, sizeof(bytes), NULL), -EINVAL);
    m.kind = MESSAGE_EPOCH_BEGIN;
    CU_ASSERT_EQUAL(message_encode(&m, bytes, sizeof(bytes), NULL), -EINVAL);
    m.epoch_begin.kind = MESSAGE_EPOCH_FULL;
    CU_ASSERT_EQUAL(message_encode(&m, bytes, 4, NULL), -ENOSPC);
    CU_ASSERT_EQUAL(message_encode(&m, bytes, 5, NULL), 5);
}

static void messages_travel_with_term_and_epoch(void)
{
    struct link *pair[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("message", pair, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
        struct frame header;
        struct message out;
        CU_ASSERT_EQUAL(message_send(pair[0], 7, 8, &samples[i].message, NULL), 0);
        CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), 0);
        CU_ASSERT_EQUAL(header.term, 7);
        CU_ASSERT_EQUAL(header.epoch, 8);
        CU_ASSERT_EQUAL(message_receive(pair[1], &header, &out, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(&out, &samples[i].message, sizeof(out)), 0);
    }
    struct frame header;
    struct message out;
    CU_ASSERT_EQUAL(message_send(pair[0], 7, 0, &samples[2].message, NULL), 0);
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), 0);
    CU_ASSERT_EQUAL(message_receive(pair[1], &header, &out, NULL), -EBADMSG);
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
}

static const struct test_case cases[] = {
    {"every message has its golden bytes", every_message_has_its_golden_bytes},
    {"a message cut short is refused", a_message_cut_short_is_refused},
    {"illegal values are refused", illegal_values_are_refused},
    {"fields of a newer minor version are skipped", fields_of_a_newer_minor_version_are_skipped},
    {"texts are bounded and made printable", texts_are_bounded_and_made_printable},
    {"what would need much memory is refused", what_would_need_much_memory_is_refused},
    {"an illegal message is not encoded", an_illegal_message_is_not_encoded},
    {"messages travel with term and epoch", messages_travel_with_term_and_epoch},
};

TEST_MAIN("message", cases)
