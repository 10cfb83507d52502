/* Guest memory: translation around the hole, bounds, and that no own write goes unnoticed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gmem/gmem.h"
#include "test/support/runner.h"

static struct gmem *memory_of(uint64_t size)
{
    struct gmem *mem = NULL;
    CU_ASSERT_EQUAL_FATAL(gmem_create(&(struct gmem_config){.size = size}, &mem, NULL), 0);
    return mem;
}

static void memory_above_three_gigabytes_moves_above_the_hole(void)
{
    struct gmem *mem = memory_of((uint64_t)5 << 30);
    CU_ASSERT_EQUAL(gmem_slot_count(mem), 2);
    CU_ASSERT_PTR_NOT_NULL(gmem_page(mem, (GMEM_HOLE_START >> PAGE_SHIFT) - 1));
    CU_ASSERT_PTR_NULL(gmem_page(mem, GMEM_HOLE_START >> PAGE_SHIFT));
    CU_ASSERT_PTR_NULL(gmem_page(mem, (GMEM_HOLE_END >> PAGE_SHIFT) - 1));
    CU_ASSERT_PTR_NOT_NULL(gmem_page(mem, GMEM_HOLE_END >> PAGE_SHIFT));
    CU_ASSERT_PTR_NOT_NULL(gmem_page(mem, ((gpa_t)6 << 30 >> PAGE_SHIFT) - 1));
    CU_ASSERT_PTR_NULL(gmem_page(mem, (gpa_t)6 << 30 >> PAGE_SHIFT));
    CU_ASSERT_PTR_NULL(gmem_page(mem, UINT64_MAX));
    for (uint64_t i = 0; i < gmem_page_count(mem); i += 777) {
        uint64_t back = 0;
        CU_ASSERT_TRUE(gmem_index_of(mem, gmem_gfn_at(mem, i), &back));
        CU_ASSERT_EQUAL(back, i);
    }
    gmem_destroy(&mem);
}

static void an_access_across_the_end_is_refused_whole(void)
{
    struct gmem *mem = memory_of(4 << 20);
    uint8_t buffer[16] = {1};
    CU_ASSERT_EQUAL(gmem_write(mem, (4 << 20) - 15, buffer, 16), -EFAULT);
    CU_ASSERT_EQUAL(gmem_write(mem, (4 << 20) - 16, buffer, 16), 0);
    CU_ASSERT_EQUAL(gmem_read(mem, UINT64_MAX - 4, buffer, 16), -EFAULT);
    CU_ASSERT_PTR_NULL(gmem_view(mem, 4096, SIZE_MAX));
    gmem_destroy(&mem);
}

static void every_own_write_is_marked_once(void)
{
    struct gmem *mem = memory_of(4 << 20);
    uint64_t bitmap[1024 / 64] = {0};
    const uint8_t bytes[3] = {1, 2, 3};
    CU_ASSERT_EQUAL(gmem_write(mem, 2 * PAGE_SIZE - 1, bytes, 3), 0);
    gmem_mark_dirty(mem, 1000 * PAGE_SIZE, 1);
    gmem_mark_dirty(mem, 5 * PAGE_SIZE, 0);
    gmem_take_marks(mem, bitmap);
    CU_ASSERT_EQUAL(bitmap[0], (1ull << 1) | (1ull << 2));
    CU_ASSERT_EQUAL(bitmap[1000 / 64], 1ull << (1000 % 64));
    memset(bitmap, 0, sizeof(bitmap));
    gmem_take_marks(mem, bitmap);
    for (size_t i = 0; i < ARRAY_SIZE(bitmap); i++)
        CU_ASSERT_EQUAL(bitmap[i], 0);
    gmem_destroy(&mem);
}

static void impossible_sizes_are_refused_with_a_reason(void)
{
    const uint64_t sizes[] = {0, 4096, (2 << 20) + 1, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct gmem *mem = NULL;
        struct error err = {0};
        CU_ASSERT_EQUAL(gmem_create(&(struct gmem_config){.size = sizes[i]}, &mem, &err), -EINVAL);
        CU_ASSERT_PTR_NULL(mem);
        CU_ASSERT(err.text[0] != '\0');
    }
}

static const struct test_case cases[] = {
    {"memory above three gigabytes moves above the hole",
     memory_above_three_gigabytes_moves_above_the_hole},
    {"an access across the end is refused whole", an_access_across_the_end_is_refused_whole},
    {"every own write is marked once", every_own_write_is_marked_once},
    {"impossible sizes are refused with a reason", impossible_sizes_are_refused_with_a_reason},
};

TEST_MAIN("gmem", cases)
