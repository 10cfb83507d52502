/* The small things everybody trusts: sections, wire, histogram. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/histogram.h"
#include "base/section.h"
#include "base/wire.h"
#include "test/support/runner.h"

static struct section_set *sample_set(void)
{
    struct section_set *set = section_set_create();
    memcpy(section_set_add(set, "vcpu.regs", 0, 1, 3), "abc", 3);
    memcpy(section_set_add(set, "vcpu.regs", 1, 1, 2), "de", 2);
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, "empty", 0, 7, 0));
    return set;
}

static void sections_survive_a_round_trip(void)
{
    struct section_set *set = sample_set();
    struct section_set *copy = section_set_create();
    uint8_t bytes[512];
    const int size = section_set_encode(set, bytes, sizeof(bytes));
    CU_ASSERT_EQUAL(size, (int)section_set_encoded_size(set));
    CU_ASSERT_EQUAL(section_set_decode(copy, bytes, (size_t)size, NULL), 0);
    CU_ASSERT_EQUAL(section_set_count(copy), 3);
    const struct section *s = section_set_find(copy, "vcpu.regs", 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_EQUAL(s->size, 2);
    CU_ASSERT_EQUAL(memcmp(section_set_data(copy, s), "de", 2), 0);
    section_set_destroy(&set);
    section_set_destroy(&copy);
}

static void sections_cut_short_at_any_byte_are_refused(void)
{
    struct section_set *set = sample_set();
    struct section_set *copy = section_set_create();
    uint8_t bytes[512];
    const int size = section_set_encode(set, bytes, sizeof(bytes));
    for (int cut = 0; cut < size; cut++) {
        struct error err = {0};
        CU_ASSERT_EQUAL(section_set_decode(copy, bytes, (size_t)cut, &err), -EBADMSG);
        CU_ASSERT(err.text[0] != '\0');
        CU_ASSERT_EQUAL(section_set_count(copy), 0);
    }
    CU_ASSERT_EQUAL(section_set_decode(copy, bytes, (size_t)size + 1, NULL), -EBADMSG);
    section_set_destroy(&set);
    section_set_destroy(&copy);
}

static void a_section_that_appears_twice_is_refused(void)
{
    struct section_set *set = section_set_create();
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, "rtc", 0, 1, 4));
    CU_ASSERT_PTR_NULL(section_set_add(set, "rtc", 0, 1, 4));
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, "rtc", 1, 1, 4));
    uint8_t bytes[256];
    const int size = section_set_encode(set, bytes, sizeof(bytes));
    bytes[4 + 44 + 32] = 0; /* second header: instance 1 becomes 0 */
    CU_ASSERT_EQUAL(section_set_decode(set, bytes, (size_t)size, NULL), -EBADMSG);
    section_set_destroy(&set);
}

static void bytes_behind_a_sections_name_are_refused(void)
{
    struct section_set *set = section_set_create();
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, "rtc", 0, 1, 4));
    uint8_t bytes[256];
    const int size = section_set_encode(set, bytes, sizeof(bytes));
    bytes[4 + SECTION_NAME_MAX - 1] = 0x80;
    CU_ASSERT_EQUAL(section_set_decode(set, bytes, (size_t)size, NULL), -EBADMSG);
    section_set_destroy(&set);
}

static void sections_keep_to_their_limits(void)
{
    struct section_set *set = section_set_create();
    CU_ASSERT_PTR_NULL(section_set_add(set, "Upper", 0, 1, 4));
    CU_ASSERT_PTR_NULL(section_set_add(set, "", 0, 1, 4));
    CU_ASSERT_PTR_NULL(section_set_add(set, "version-zero", 0, 0, 4));
    CU_ASSERT_PTR_NULL(section_set_add(set, "big", 0, 1, SECTION_SIZE_MAX + 1));
    CU_ASSERT_PTR_NULL(section_set_add(set, "a-name-that-is-far-too-long-for-us", 0, 1, 4));
    for (uint32_t i = 0; i < SECTION_COUNT_MAX; i++)
        CU_ASSERT_PTR_NOT_NULL(section_set_add(set, "n", i, 1, 1));
    CU_ASSERT_PTR_NULL(section_set_add(set, "n", SECTION_COUNT_MAX, 1, 1));
    section_set_destroy(&set);
}

static void a_reader_past_its_end_yields_zero_and_stays_bad(void)
{
    const uint8_t bytes[] = {1, 2, 3};
    struct wire_reader r = {.bytes = bytes, .size = sizeof(bytes)};
    CU_ASSERT_EQUAL(wire_get_u16(&r), 0x0201);
    CU_ASSERT_EQUAL(wire_get_u32(&r), 0);
    CU_ASSERT_TRUE(r.bad);
    CU_ASSERT_EQUAL(wire_get_u8(&r), 0);
    CU_ASSERT_FALSE(wire_done(&r));
}

static void percentiles_are_exact_to_the_bucket(void)
{
    struct histogram *h = calloc(1, sizeof(*h));
    CU_ASSERT_EQUAL(histogram_percentile(h, 0.5), 0);
    for (nsec_t i = 1; i <= 1000; i++)
        histogram_add(h, USEC(i));
    const nsec_t p50 = histogram_percentile(h, 0.5);
    CU_ASSERT(p50 >= USEC(500) && p50 <= USEC(517));
    CU_ASSERT_EQUAL(histogram_percentile(h, 1.0), USEC(1000));
    histogram_add(h, -5);
    CU_ASSERT_EQUAL(histogram_percentile(h, 0.0), 0);
    histogram_add(h, INT64_MAX);
    CU_ASSERT_EQUAL(histogram_percentile(h, 1.0), INT64_MAX);
    free(h);
}

static const struct test_case cases[] = {
    {"sections survive a round trip", sections_survive_a_round_trip},
    {"sections cut short at any byte are refused", sections_cut_short_at_any_byte_are_refused},
    {"a section that appears twice is refused", a_section_that_appears_twice_is_refused},
    {"bytes behind a section's name are refused", bytes_behind_a_sections_name_are_refused},
    {"sections keep to their limits", sections_keep_to_their_limits},
    {"a reader past its end yields zero and stays bad",
     a_reader_past_its_end_yields_zero_and_stays_bad},
    {"percentiles are exact to the bucket", percentiles_are_exact_to_the_bucket},
};

TEST_MAIN("base", cases)
