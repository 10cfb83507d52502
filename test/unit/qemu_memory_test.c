/* The memory in a state of QEMU's migration: read by bounded functions, cut so that what doesn't
 * change stays the same. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/ram_part.h"
#include "qemu/stream.h"
#include "test/support/runner.h"

/* Two blocks, a page of each, as QEMU 7.2 writes them; then a device. */
static const uint8_t head[] = {
    'Q', 'E', 'V', 'M', 0,    0, 0,    3, /* header */
    1,   0,   0,   0,   2,    3, 'r',  'a',  'm',  0,   0,   0,    0,
    0,   0,   0,   4,                                                   /* section 2, version 4 */
    0,   0,   0,   0,   0,    4, 0x30, 4,                               /* 0x43000 bytes in all */
    3,   'r', 'a', 'm', 0,    0, 0,    0,    0,    4,   0,   0,         /* 0x40000, shared, */
    0,   0,   0,   0,   0,    0, 0,    0,                               /* at 0 */
    4,   'v', 'r', 'a', 'm',  0, 0,    0,    0,    0,   0,   0x30, 0,   /* 0x3000, */
    0,   0,   0,   0,   0xfd, 0, 0,    0,                               /* at 0xfd000000 */
    0,   0,   0,   0,   0,    0, 0,    0x10, 0x7e, 0,   0,   0,    2,   /* end of the part */
    2,   0,   0,   0,   2,                                              /* pages */
    0,   0,   0,   0,   0,    0, 0,    8,    4,    'v', 'r', 'a',  'm', /* page 0, here */
};
static const uint8_t tail[] = {
    0, 0, 0, 0, 0, 0, 0x10, 0x22, 0,                   /* page 1 is zero */
    0, 0, 0, 0, 0, 2, 0,    0x22, 0,                   /* as is one of another stretch */
    0, 0, 0, 0, 0, 0, 0,    0x10, 0x7e, 0, 0,    0, 2, /* end of the part */
    3, 0, 0, 0, 2,                                     /* last part, */
    0, 0, 0, 0, 0, 0, 0,    0x10, 0x7e, 0, 0,    0, 2, /* with nothing in it */
    4, 0, 0, 0, 9, 3, 'c',  'p',  'u',  1, 0x7e, 0, 0, 0, 9, 0,
};

#define SIZE (sizeof(head) + PAGE_SIZE + sizeof(tail))

static void make(uint8_t out[SIZE])
{
    memcpy(out, head, sizeof(head));
    for (size_t i = 0; i < PAGE_SIZE; i++)
        out[sizeof(head) + i] = (uint8_t)(i % 5 ? i : 0x7e);
    memcpy(out + sizeof(head) + PAGE_SIZE, tail, sizeof(tail));
}

static void memory_is_cut_at_its_stretches_and_put_together_again(void)
{
    static const size_t sizes[] = {8, 66, 13, 5 + 13 + PAGE_SIZE + 9, 9, 13, 5 + 13, 15, 1};
    struct error err = {0};
    uint8_t bytes[SIZE], out[SIZE];
    struct section_set *set = section_set_create();
    make(bytes);
    CU_ASSERT_EQUAL_FATAL(stream_check(bytes, SIZE, true, &err), 0);
    CU_ASSERT_EQUAL_FATAL(stream_to_sections(bytes, SIZE, set, &err), 0);
    CU_ASSERT_EQUAL_FATAL(section_set_count(set), ARRAY_SIZE(sizes));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        CU_ASSERT_EQUAL(section_set_at(set, i)->size, sizes[i]);
    CU_ASSERT_EQUAL_FATAL(stream_from_sections(set, NULL, &err), (int)SIZE);
    CU_ASSERT_EQUAL(stream_from_sections(set, out, &err), (int)SIZE);
    CU_ASSERT_EQUAL(memcmp(out, bytes, SIZE), 0);
    section_set_destroy(&set);
}

static void blocks_are_found_by_name(void)
{
    uint8_t bytes[SIZE];
    make(bytes);
    CU_ASSERT_TRUE(stream_has_block(bytes, SIZE, "ram"));
    CU_ASSERT_TRUE(stream_has_block(bytes, SIZE, "vram"));
    CU_ASSERT_FALSE(stream_has_block(bytes, SIZE, "vra"));
    CU_ASSERT_FALSE(stream_has_block(bytes, sizeof(head) - 50, "vram"));
}

static void memory_where_none_is_due_is_refused(void)
{
    static const uint8_t without[] = {'Q', 'E', 'V', 'M', 0, 0,    0, 3, 4, 0, 0,
                                      0,   9,   1,   'c', 1, 0x7e, 0, 0, 0, 9, 0};
    struct error err = {0};
    uint8_t bytes[SIZE];
    make(bytes);
    CU_ASSERT_EQUAL(stream_check(bytes, SIZE, false, &err), -EBADMSG);
    CU_ASSERT_EQUAL(stream_check(without, sizeof(without), false, &err), 0);
    CU_ASSERT_EQUAL(stream_check(without, sizeof(without), true, &err), -EBADMSG);
    CU_ASSERT_FALSE(stream_has_block(without, sizeof(without), "vram"));
}

/* Behind the memory only QEMU can tell where it ends. */
static void memory_that_is_cut_short_is_refused_at_every_byte(void)
{
    struct error err = {0};
    uint8_t bytes[SIZE];
    make(bytes);
    for (size_t size = 0; size < SIZE - 16; size++) {
        uint8_t *part = malloc(size + 1); /* of its own, so that a read beyond it is seen */
        CU_ASSERT_PTR_NOT_NULL_FATAL(part);
        memcpy(part, bytes, size);
        CU_ASSERT_EQUAL(stream_check(part, size, true, &err), -EBADMSG);
        free(part);
    }
}

static void memory_of_another_form_is_refused(void)
{
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {
        {8, 2},                                /* the first part is none */
        {12, 3},                               /* an end of another part */
        {14, 'R'},                             /* not the memory */
        {20, 1},                               /* another instance */
        {24, 5},                               /* another version */
        {32, 5},                               /* no sizes */
        {31, 0x20},                            /* more than all sizes */
        {31, 0x40},                            /* less */
        {33, 0},                               /* a block without a name */
        {35, 0},                               /* half of one */
        {sizeof(head) - 14, 9},                /* pages of another part */
        {sizeof(head) - 18, 4},                /* a part that is a device's */
        {sizeof(head) - 6, 0x28},              /* of the same block as no page before */
        {sizeof(head) - 6, 0x48},              /* compressed */
        {sizeof(head) - 6, 0x80},              /* of a transport of its own */
        {sizeof(head) - 5, 0},                 /* of a block without a name */
        {sizeof(head) + PAGE_SIZE + 8, 1},     /* filled with another byte */
        {sizeof(head) + PAGE_SIZE + 6, 0x11},  /* an offset that is none */
        {sizeof(head) + PAGE_SIZE + 7, 0x2a},  /* zero and not */
        {sizeof(head) + PAGE_SIZE + 26, 0x7d}, /* no end */
    };
    struct error err = {0};
    uint8_t bytes[SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        make(bytes);
        CU_ASSERT_NOT_EQUAL(bytes[changes[i].at], changes[i].value);
        bytes[changes[i].at] = changes[i].value;
        const int rc = stream_check(bytes, SIZE, true, &err);
        if (rc != -EBADMSG)
            printf("change %zu is taken\n", i);
        CU_ASSERT_EQUAL(rc, -EBADMSG);
    }
}

/* A stream with one block of `pages` pages, of which those are zero that `zero` says. */
static uint8_t *make_large(size_t pages, size_t zero, size_t *size)
{
    static const uint8_t begin[] = {'Q', 'E', 'V', 'M', 0, 0, 0, 3, 1, 0, 0, 0, 2,
                                    3,   'r', 'a', 'm', 0, 0, 0, 0, 0, 0, 0, 4};
    static const uint8_t end[] = {0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2};
    static const uint8_t device[] = {4, 0, 0, 0, 9, 1, 'c', 1, 0x7e, 0, 0, 0, 9, 0};
    uint8_t *bytes = malloc(pages * (PAGE_SIZE + 32) + 256), *at = bytes;
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    const uint64_t total = pages * PAGE_SIZE;
#define PUT(data, length) at = (uint8_t *)memcpy(at, data, length) + (length)
#define PUT_64(value)                                                                              \
    for (unsigned b = 0; b < 8; b++)                                                               \
    *at++ = (uint8_t)((uint64_t)(value) >> (56 - 8 * b))
    PUT(begin, sizeof(begin));
    PUT_64(total | 4);
    PUT("\4vram", 5);
    PUT_64(total);
    PUT_64(0);
    PUT(end, sizeof(end));
    PUT("\3\0\0\0\2", 5);
    for (size_t i = 0; i < pages; i++) {
        PUT_64(i * PAGE_SIZE | (i == zero ? 2 : 8) | (i ? 0x20 : 0));
        if (i == 0)
            PUT("\4vram", 5);
        if (i == zero)
            *at++ = 0;
        else
            at = (uint8_t *)memset(at, (int)(i % 255 + 1), PAGE_SIZE) + PAGE_SIZE;
    }
    PUT(end, sizeof(end));
    PUT(device, sizeof(device));
    *size = (size_t)(at - bytes);
    return bytes;
}

static void a_page_that_becomes_zero_moves_no_other_stretch(void)
{
    struct error err = {0};
    struct section_set *before = section_set_create(), *after = section_set_create();
    size_t size, size_after, differ = 0;
    uint8_t *bytes = make_large(4096, 4096, &size),
            *bytes_after = make_large(4096, 1000, &size_after);
    CU_ASSERT_EQUAL_FATAL(stream_check(bytes, size, true, &err), 0);
    CU_ASSERT_EQUAL_FATAL(stream_check(bytes_after, size_after, true, &err), 0);
    CU_ASSERT_EQUAL_FATAL(stream_to_sections(bytes, size, before, &err), 0);
    CU_ASSERT_EQUAL_FATAL(stream_to_sections(bytes_after, size_after, after, &err), 0);
    CU_ASSERT_EQUAL_FATAL(section_set_count(before), section_set_count(after));
    for (size_t i = 0; i < section_set_count(before); i++) {
        const struct section *a = section_set_at(before, i), *b = section_set_at(after, i);
        differ += a->size != b->size ||
                  memcmp(section_set_data(before, a), section_set_data(after, b), a->size) != 0;
    }
    CU_ASSERT_EQUAL(differ, 1);
    CU_ASSERT_EQUAL(stream_from_sections(after, bytes, &err), (int)size_after);
    CU_ASSERT_EQUAL(memcmp(bytes, bytes_after, size_after), 0);
    free(bytes);
    free(bytes_after);
    section_set_destroy(&before);
    section_set_destroy(&after);
}

static const struct test_case cases[] = {
    {"memory is cut at its stretches and put together again",
     memory_is_cut_at_its_stretches_and_put_together_again},
    {"blocks are found by name", blocks_are_found_by_name},
    {"memory where none is due is refused", memory_where_none_is_due_is_refused},
    {"memory that is cut short is refused at every byte",
     memory_that_is_cut_short_is_refused_at_every_byte},
    {"memory of another form is refused", memory_of_another_form_is_refused},
    {"a page that becomes zero moves no other stretch",
     a_page_that_becomes_zero_moves_no_other_stretch},
};

TEST_MAIN("qemu-memory", cases)
