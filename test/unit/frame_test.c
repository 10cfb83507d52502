/* The frame header against bytes written down once: a change of layout must fail here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/wire.h"
#include "test/support/runner.h"
#include "transport/digest_kernel.h"
#include "transport/frame.h"

static const struct frame sample = {
    .type = FRAME_PAGES,
    .term = 0x0102030405060708,
    .epoch = 0x1112131415161718,
    .size = 0x00012345,
    .digest = 0xfedcba9876543210,
};

static const uint8_t golden[FRAME_HEADER_SIZE] = {
    0x4b, 0x4d, 0x52, 0x49, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x45, 0x23, 0x01, 0x00,
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x89, 0x87, 0x28, 0x84, 0x20, 0xe5, 0x61, 0x16};

static void a_header_has_its_golden_bytes(void)
{
    uint8_t bytes[FRAME_HEADER_SIZE];
    frame_encode(&sample, bytes);
    CU_ASSERT_EQUAL(memcmp(bytes, golden, sizeof(golden)), 0);
    struct frame back;
    CU_ASSERT_EQUAL(frame_decode(golden, &back, NULL), 0);
    CU_ASSERT_EQUAL(back.type, FRAME_PAGES);
    CU_ASSERT_EQUAL(back.flags, 0);
    CU_ASSERT_EQUAL(back.term, sample.term);
    CU_ASSERT_EQUAL(back.epoch, sample.epoch);
    CU_ASSERT_EQUAL(back.size, sample.size);
    CU_ASSERT_EQUAL(back.digest, sample.digest);
}

static void a_flipped_bit_anywhere_is_refused(void)
{
    for (unsigned bit = 0; bit < FRAME_HEADER_SIZE * 8; bit++) {
        uint8_t bytes[FRAME_HEADER_SIZE];
        memcpy(bytes, golden, sizeof(bytes));
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << bit % 8));
        struct frame out;
        struct error err = {0};
        const int rc = frame_decode(bytes, &out, &err);
        const bool in_version = bit / 8 == 4 || bit / 8 == 5;
        CU_ASSERT_EQUAL(rc, in_version ? -EPROTONOSUPPORT : -EBADMSG);
        CU_ASSERT_EQUAL(err.code, rc);
        CU_ASSERT(err.text[0] != '\0');
        CU_ASSERT_EQUAL(out.size, 0);
    }
}

/* Puts `value` at `offset` and makes the check right again, as a lying peer would. */
static int decode_forged(size_t offset, uint64_t value, size_t width)
{
    uint8_t bytes[FRAME_HEADER_SIZE];
    memcpy(bytes, golden, sizeof(bytes));
    struct wire_writer w = {.bytes = bytes, .size = sizeof(bytes), .used = offset};
    wire_put_le(&w, value, width);
    const struct iovec covered = {bytes, FRAME_CHECK_OFFSET};
    w.used = FRAME_CHECK_OFFSET;
    wire_put_u64(&w, frame_digest(&covered, 1));
    struct frame out;
    struct error err = {0};
    const int rc = frame_decode(bytes, &out, &err);
    CU_ASSERT_EQUAL(err.code, rc);
    return rc;
}

static void a_lie_under_a_right_check_is_refused(void)
{
    CU_ASSERT_EQUAL(decode_forged(12, 1, 4), 0);
    CU_ASSERT_EQUAL(decode_forged(0, 0, 4), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(4, 0, 2), -EPROTONOSUPPORT);
    CU_ASSERT_EQUAL(decode_forged(6, 0, 2), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(6, 6, 2), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(8, 1, 4), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(12, 0, 4), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(16, 0, 8), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(24, 0, 8), -EBADMSG);
    for (size_t at = 40; at < FRAME_CHECK_OFFSET; at++)
        CU_ASSERT_EQUAL(decode_forged(at, 1, 1), -EBADMSG);
}

static void the_size_limit_depends_on_the_type(void)
{
    CU_ASSERT_EQUAL(decode_forged(12, FRAME_PAYLOAD_MAX, 4), 0);
    CU_ASSERT_EQUAL(decode_forged(12, FRAME_PAYLOAD_MAX + 1, 4), -EBADMSG);
    CU_ASSERT_EQUAL(decode_forged(12, UINT32_MAX, 4), -EBADMSG);
    struct frame f = {.type = FRAME_CONTROL, .size = FRAME_CONTROL_MAX};
    CU_ASSERT_EQUAL(frame_validate(&f, NULL), 0);
    f.size++;
    CU_ASSERT_EQUAL(frame_validate(&f, NULL), -EMSGSIZE);
    f.size = 0;
    CU_ASSERT_EQUAL(frame_validate(&f, NULL), -EMSGSIZE);
}

static void only_control_frames_may_lack_term_and_epoch(void)
{
    struct frame f = {.type = FRAME_CONTROL, .size = 1};
    CU_ASSERT_EQUAL(frame_validate(&f, NULL), 0);
    for (int type = FRAME_PAGES; type <= FRAME_SYNC; type++) {
        f = (struct frame){.type = (enum frame_type)type, .size = 1, .term = 1, .epoch = 1};
        CU_ASSERT_EQUAL(frame_validate(&f, NULL), 0);
        f.term = 0;
        CU_ASSERT_EQUAL(frame_validate(&f, NULL), -EINVAL);
        f.term = 1;
        f.epoch = 0;
        CU_ASSERT_EQUAL(frame_validate(&f, NULL), -EINVAL);
    }
}

static void a_digest_does_not_depend_on_how_the_bytes_are_split(void)
{
    char text[] = "the pages that changed";
    const struct iovec whole = {text, sizeof(text)};
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        const struct iovec parts[3] = {{text, cut}, {NULL, 0}, {text + cut, sizeof(text) - cut}};
        CU_ASSERT_EQUAL(frame_digest(parts, 3), frame_digest(&whole, 1));
    }
    CU_ASSERT_NOT_EQUAL(frame_digest(&whole, 1), frame_digest(&whole, 0));
}

static void compare_with_generic(const struct digest_kernel *kernel)
{
    static uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    for (size_t size = 0; size <= sizeof(bytes); size += size < 600 ? 1 : 97) {
        CU_ASSERT_EQUAL(kernel->of(bytes, size), digest_generic.of(bytes, size));
        struct digest d;
        kernel->begin(&d);
        kernel->add(&d, bytes, size / 3);
        kernel->add(&d, bytes + size / 3, size - size / 3);
        CU_ASSERT_EQUAL(kernel->end(&d), digest_generic.of(bytes, size));
        uint8_t wide[DIGEST_128_SIZE], generic[DIGEST_128_SIZE];
        kernel->of_128(bytes, size, size, wide);
        digest_generic.of_128(bytes, size, size, generic);
        CU_ASSERT_EQUAL(memcmp(wide, generic, sizeof(wide)), 0);
    }
}

static void every_kernel_computes_the_same_digest(void)
{
    if (__builtin_cpu_supports("avx2"))
        compare_with_generic(&digest_avx2);
    else
        printf("SKIP: this processor has no AVX2: one kernel less to compare\n");
    if (__builtin_cpu_supports("avx512f"))
        compare_with_generic(&digest_avx512);
    else
        printf("SKIP: this processor has no AVX-512: one kernel less to compare\n");
}

static const struct test_case cases[] = {
    {"a header has its golden bytes", a_header_has_its_golden_bytes},
    {"a flipped bit anywhere is refused", a_flipped_bit_anywhere_is_refused},
    {"a lie under a right check is refused", a_lie_under_a_right_check_is_refused},
    {"the size limit depends on the type", the_size_limit_depends_on_the_type},
    {"only control frames may lack term and epoch", only_control_frames_may_lack_term_and_epoch},
    {"a digest does not depend on how the bytes are split",
     a_digest_does_not_depend_on_how_the_bytes_are_split},
    {"every kernel computes the same digest", every_kernel_computes_the_same_digest},
};

TEST_MAIN("frame", cases)
