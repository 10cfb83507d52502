/* The device's side of a split ring against a driver that may lie. No device, no bus: a queue and
 * guest memory. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "test/support/runner.h"
#include "vmm/virtqueue.h"

#define SIZE   8
#define DESC   0x1000
#define AVAIL  0x2000
#define USED   0x3000
#define TABLE  0x4000
#define BUFFER 0x8000
#define END    ((gpa_t)2 << 20)

static struct gmem *memory;
static struct virtqueue q;
static struct virtqueue_chain chain;

static void start(void)
{
    const struct gmem_config config = {.size = END};
    CU_ASSERT_EQUAL_FATAL(gmem_create(&config, &memory, NULL), 0);
    q = (struct virtqueue){.memory = memory, .size_max = SIZE};
    virtqueue_reset(&q);
    q.desc = DESC;
    q.driver = AVAIL;
    q.device = USED;
    CU_ASSERT_FATAL(virtqueue_enable(&q));
}

static void stop(void)
{
    gmem_destroy(&memory);
}

static void put16(gpa_t at, uint16_t v)
{
    memcpy(gmem_view(memory, at, 2), &v, 2);
}

static uint16_t get16(gpa_t at)
{
    uint16_t v = 0;
    gmem_read(memory, at, &v, 2);
    return v;
}

static void put_desc(gpa_t table, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                     uint16_t next)
{
    const struct vring_desc d = {.addr = addr, .len = len, .flags = flags, .next = next};
    memcpy(gmem_view(memory, table + 16 * i, 16), &d, 16);
}

static void offer(uint16_t head)
{
    const uint16_t idx = get16(AVAIL + 2);
    put16(AVAIL + 4 + 2u * (idx % SIZE), head);
    put16(AVAIL + 2, (uint16_t)(idx + 1));
}

static bool is_dirty(gpa_t at)
{
    uint64_t bitmap[END / PAGE_SIZE / 64] = {0};
    gmem_take_marks(memory, bitmap);
    const uint64_t page = at >> PAGE_SHIFT;
    return bitmap[page / 64] >> (page % 64) & 1;
}

/* Offers a chain that must break the queue. */
static void expect_broken(uint16_t head)
{
    offer(head);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), -EPROTO);
    CU_ASSERT_PTR_NOT_NULL(q.broken);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), -EPROTO);
    CU_ASSERT_EQUAL(virtqueue_waiting(&q), 0);
    virtqueue_push(&q, head, 0); /* what was in flight may still come back */
    virtqueue_publish(&q);
}

/* --- the honest driver ---------------------------------------------------------------------- */

static void a_chain_comes_out_in_order_and_goes_back(void)
{
    start();
    put_desc(DESC, 2, BUFFER, 10, VRING_DESC_F_NEXT, 5);
    put_desc(DESC, 5, BUFFER + 100, 20, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0);
    put_desc(DESC, 0, BUFFER + 200, 30, VRING_DESC_F_WRITE, 7);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 0);
    offer(2);
    CU_ASSERT_EQUAL(virtqueue_waiting(&q), 1);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(chain.head, 2);
    CU_ASSERT_EQUAL(chain.out_count, 1);
    CU_ASSERT_EQUAL(chain.in_count, 2);
    CU_ASSERT_EQUAL(chain.out_size, 10);
    CU_ASSERT_EQUAL(chain.in_size, 50);
    CU_ASSERT_EQUAL(chain.segments[2].gpa, BUFFER + 200);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 0);
    virtqueue_push(&q, chain.head, 50);
    CU_ASSERT_EQUAL(get16(USED + 2), 0); /* not before publish */
    CU_ASSERT_TRUE(virtqueue_publish(&q));
    CU_ASSERT_EQUAL(get16(USED + 2), 1);
    CU_ASSERT_EQUAL(get16(USED + 4), 2);
    CU_ASSERT_EQUAL(get16(USED + 8), 50);
    CU_ASSERT_FALSE(virtqueue_publish(&q));
    stop();
}

static void every_write_into_guest_memory_is_marked_dirty(void)
{
    start();
    CU_ASSERT_FALSE(is_dirty(USED));
    put_desc(DESC, 0, BUFFER + PAGE_SIZE - 2, 4, VRING_DESC_F_WRITE, 0);
    offer(0);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(virtqueue_chain_write(&q, &chain, 0, "abcd", 4), 4);
    uint64_t bitmap[END / PAGE_SIZE / 64] = {0};
    gmem_take_marks(memory, bitmap);
    CU_ASSERT_EQUAL(bitmap[0], 3ull << (BUFFER >> PAGE_SHIFT)); /* both pages, nothing else */
    virtqueue_push(&q, 0, 4);
    CU_ASSERT_TRUE(is_dirty(USED));
    virtqueue_publish(&q);
    CU_ASSERT_TRUE(is_dirty(USED));
    virtqueue_set_kicks(&q, false);
    CU_ASSERT_TRUE(is_dirty(USED));
    virtqueue_set_kicks(&q, false);
    CU_ASSERT_FALSE(is_dirty(USED)); /* nothing changed, nothing written */
    q.event_idx = true;
    virtqueue_set_kicks(&q, true);
    CU_ASSERT_TRUE(is_dirty(USED));
    virtqueue_set_kicks(&q, true);
    CU_ASSERT_FALSE(is_dirty(USED));
    stop();
}

static void copies_cross_segments_at_any_offset(void)
{
    start();
    const char text[] = "0123456789";
    put_desc(DESC, 0, BUFFER, 3, VRING_DESC_F_NEXT, 1);
    put_desc(DESC, 1, BUFFER + 3, 0, VRING_DESC_F_NEXT, 2); /* empty: legal, carries nothing */
    put_desc(DESC, 2, BUFFER + 3, 7, VRING_DESC_F_NEXT, 3);
    put_desc(DESC, 3, BUFFER + 50, 3, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 4);
    put_desc(DESC, 4, BUFFER + 53, 7, VRING_DESC_F_WRITE, 0);
    gmem_write(memory, BUFFER, text, 10);
    offer(0);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(chain.out_count, 2);
    for (uint64_t from = 0; from <= 11; from++) {
        char out[16] = {0};
        const size_t expected = from < 10 ? 10 - from : 0;
        CU_ASSERT_EQUAL(virtqueue_chain_read(&chain, from, out, sizeof(out)), expected);
        CU_ASSERT_EQUAL(memcmp(out, text + (from < 10 ? from : 10), expected), 0);
        memset(gmem_view(memory, BUFFER + 50, 10), 0, 10);
        CU_ASSERT_EQUAL(virtqueue_chain_write(&q, &chain, from, text, 10), expected);
        CU_ASSERT_EQUAL(
            memcmp(gmem_view(memory, BUFFER + 50 + (from < 10 ? from : 0), 10), text, expected), 0);
    }
    stop();
}

static void indirect_tables_are_followed(void)
{
    start();
    put_desc(DESC, 1, TABLE + 1, 32, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 9);
    put_desc(TABLE + 1, 0, BUFFER, 10, VRING_DESC_F_NEXT, 1);
    put_desc(TABLE + 1, 1, BUFFER + 10, 5, VRING_DESC_F_WRITE, 0);
    offer(1);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(chain.head, 1);
    CU_ASSERT_EQUAL(chain.out_size, 10);
    CU_ASSERT_EQUAL(chain.in_size, 5);
    stop();
}

static void an_indirect_table_may_follow_direct_descriptors(void)
{
    start();
    put_desc(DESC, 0, BUFFER, 4, VRING_DESC_F_NEXT, 3);
    put_desc(DESC, 3, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
    put_desc(TABLE, 0, BUFFER + 10, 5, VRING_DESC_F_WRITE, 0);
    offer(0);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(chain.out_size, 4);
    CU_ASSERT_EQUAL(chain.in_size, 5);
    stop();
}

static void indices_wrap_around(void)
{
    start();
    put16(AVAIL + 2, 0xfffe);
    q.next_avail = q.next_used = q.published = 0xfffe;
    for (unsigned i = 0; i < 20; i++) {
        put_desc(DESC, i % SIZE, BUFFER, 16, 0, 0);
        offer((uint16_t)(i % SIZE));
        CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
        CU_ASSERT_EQUAL(chain.head, i % SIZE);
        virtqueue_push(&q, chain.head, 0);
        CU_ASSERT_TRUE(virtqueue_publish(&q));
    }
    CU_ASSERT_EQUAL(get16(USED + 2), (uint16_t)(0xfffe + 20));
    stop();
}

static void rewound_chains_come_again(void)
{
    start();
    for (uint16_t i = 0; i < 3; i++) {
        put_desc(DESC, i, BUFFER + 100u * i, 10, VRING_DESC_F_WRITE, 0);
        offer(i);
    }
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    virtqueue_push(&q, chain.head, 1);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    virtqueue_push(&q, chain.head, 2);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    virtqueue_rewind(&q, 2, 1);
    CU_ASSERT_EQUAL(virtqueue_waiting(&q), 2);
    CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    CU_ASSERT_EQUAL(chain.head, 1);
    virtqueue_publish(&q);
    CU_ASSERT_EQUAL(get16(USED + 2), 1);
    stop();
}

static void the_driver_can_decline_interrupts(void)
{
    start();
    put_desc(DESC, 0, BUFFER, 16, 0, 0);
    put16(AVAIL, VRING_AVAIL_F_NO_INTERRUPT);
    offer(0);
    virtqueue_pop(&q, &chain);
    virtqueue_push(&q, 0, 0);
    CU_ASSERT_FALSE(virtqueue_publish(&q));
    put16(AVAIL, 0);
    offer(0);
    virtqueue_pop(&q, &chain);
    virtqueue_push(&q, 0, 0);
    CU_ASSERT_TRUE(virtqueue_publish(&q));
    stop();
}

static void event_indices_limit_interrupts_and_kicks(void)
{
    start();
    q.event_idx = true;
    put16(AVAIL, VRING_AVAIL_F_NO_INTERRUPT); /* means nothing with event indices */
    put16(AVAIL + 4 + 2 * SIZE, 1);           /* interrupt when used passes 1 */
    put_desc(DESC, 0, BUFFER, 16, 0, 0);
    const bool expected[] = {false, true, false};
    for (unsigned i = 0; i < 3; i++) {
        offer(0);
        CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
        virtqueue_push(&q, 0, 0);
        CU_ASSERT_EQUAL(virtqueue_publish(&q), expected[i]);
    }
    CU_ASSERT_EQUAL(get16(USED + 4 + 8 * SIZE), 0);
    virtqueue_set_kicks(&q, false);
    CU_ASSERT_EQUAL(get16(USED), 0);
    offer(0); /* taken by nobody: the next kick is wanted for what comes after it */
    virtqueue_set_kicks(&q, true);
    CU_ASSERT_EQUAL(get16(USED + 4 + 8 * SIZE), 4);
    stop();
}

static void without_event_indices_a_flag_stops_kicks(void)
{
    start();
    virtqueue_set_kicks(&q, false);
    CU_ASSERT_EQUAL(get16(USED), VRING_USED_F_NO_NOTIFY);
    virtqueue_set_kicks(&q, true);
    CU_ASSERT_EQUAL(get16(USED), 0);
    stop();
}

/* --- the hostile driver --------------------------------------------------------------------- */

static void a_loop_of_descriptors_ends(void)
{
    start();
    put_desc(DESC, 0, BUFFER, 16, VRING_DESC_F_NEXT, 1);
    put_desc(DESC, 1, BUFFER, 16, VRING_DESC_F_NEXT, 0);
    expect_broken(0);
    stop();
}

static void a_loop_of_empty_descriptors_ends(void)
{
    start();
    put_desc(DESC, 3, BUFFER, 0, VRING_DESC_F_NEXT, 3);
    expect_broken(3);
    stop();
}

static void a_loop_inside_an_indirect_table_ends(void)
{
    start();
    put_desc(DESC, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
    put_desc(TABLE, 0, BUFFER, 16, VRING_DESC_F_NEXT, 0);
    expect_broken(0);
    stop();
}

static void descriptor_indices_must_be_in_range(void)
{
    start();
    expect_broken(SIZE);
    stop();
    start();
    expect_broken(0xffff);
    stop();
    start();
    put_desc(DESC, 0, BUFFER, 16, VRING_DESC_F_NEXT, SIZE);
    expect_broken(0);
    stop();
    start();
    put_desc(DESC, 0, TABLE, 32, VRING_DESC_F_INDIRECT, 0);
    put_desc(TABLE, 0, BUFFER, 16, VRING_DESC_F_NEXT, 2);
    expect_broken(0);
    stop();
}

static void buffers_must_lie_in_guest_memory(void)
{
    const struct {
        uint64_t addr;
        uint32_t len;
    } bad[] = {{END, 1},           {END - 1, 2},          {UINT64_MAX, 1}, {UINT64_MAX - 1, 4},
               {0xc0000000, 4096}, {(1ull << 32) - 1, 2}, {0, UINT32_MAX}, {1ull << 63, 16}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        start();
        put_desc(DESC, 0, bad[i].addr, bad[i].len, 0, 0);
        expect_broken(0);
        stop();
    }
}

static void indirect_tables_must_be_sane(void)
{
    const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags;
    } bad[] = {{TABLE, 0, VRING_DESC_F_INDIRECT},
               {TABLE, 17, VRING_DESC_F_INDIRECT},
               {TABLE, 15, VRING_DESC_F_INDIRECT},
               {END, 16, VRING_DESC_F_INDIRECT},
               {END - 16, 32, VRING_DESC_F_INDIRECT},
               {UINT64_MAX - 7, 16, VRING_DESC_F_INDIRECT},
               {TABLE, 0xfffffff0, VRING_DESC_F_INDIRECT},
               {TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        start();
        put_desc(DESC, 0, bad[i].addr, bad[i].len, bad[i].flags, 1);
        put_desc(DESC, 1, BUFFER, 16, 0, 0);
        put_desc(TABLE, 0, BUFFER, 16, 0, 0);
        expect_broken(0);
        stop();
    }
    start(); /* nested */
    put_desc(DESC, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
    put_desc(TABLE, 0, TABLE + 64, 16, VRING_DESC_F_INDIRECT, 0);
    put_desc(TABLE + 64, 0, BUFFER, 16, 0, 0);
    expect_broken(0);
    stop();
}

static void readable_buffers_come_first(void)
{
    start();
    put_desc(DESC, 0, BUFFER, 16, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
    put_desc(DESC, 1, BUFFER, 16, 0, 0);
    expect_broken(0);
    stop();
}

static void a_longest_chain_passes_and_a_longer_one_does_not(void)
{
    for (unsigned extra = 0; extra < 2; extra++) {
        const unsigned count = VIRTQUEUE_CHAIN_MAX - 1 + extra; /* and the indirect one itself */
        start();
        put_desc(DESC, 0, TABLE, 16 * count, VRING_DESC_F_INDIRECT, 0);
        for (unsigned i = 0; i < count; i++)
            put_desc(TABLE, i, BUFFER, 1, i + 1 < count ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
        offer(0);
        CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), extra ? -EPROTO : 1);
        stop();
    }
}

static void a_jump_of_the_available_index_breaks_the_queue(void)
{
    const uint16_t jumps[] = {SIZE + 1, 0x8000, 0xffff};
    for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
        start();
        put16(AVAIL + 2, jumps[i]);
        CU_ASSERT_EQUAL(virtqueue_waiting(&q), 0);
        CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), -EPROTO);
        stop();
    }
}

static void more_buffers_than_the_ring_holds_break_it(void)
{
    start();
    for (uint16_t i = 0; i < SIZE; i++) {
        put_desc(DESC, i, BUFFER, 16, 0, 0);
        offer(i);
        CU_ASSERT_EQUAL(virtqueue_pop(&q, &chain), 1);
    }
    expect_broken(0); /* none was given back */
    stop();
}

static void a_queue_with_bad_size_or_address_stays_off(void)
{
    const struct virtqueue good = {.size = 8, .desc = DESC, .driver = AVAIL, .device = USED};
    struct virtqueue bad[14];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].size = 0;
    bad[1].size = 3;
    bad[2].size = 16; /* above the device's maximum */
    bad[3].size = 0xffff;
    bad[4].desc = DESC + 8;
    bad[5].driver = AVAIL + 1;
    bad[6].device = USED + 2;
    bad[7].desc = END - 64;
    bad[8].driver = END;
    bad[9].device = END - 16;
    bad[10].desc = UINT64_MAX & ~15ull;
    bad[11].driver = UINT64_MAX - 1;
    bad[12].device = UINT64_MAX & ~3ull;
    bad[13].device = 0xfee00000;
    start();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bad[i].memory = memory;
        bad[i].size_max = SIZE;
        CU_ASSERT_FALSE(virtqueue_enable(&bad[i]));
        CU_ASSERT_FALSE(bad[i].enabled);
        CU_ASSERT_EQUAL(virtqueue_pop(&bad[i], &chain), 0);
    }
    stop();
}

static const struct test_case cases[] = {
    {"a chain comes out in order and goes back", a_chain_comes_out_in_order_and_goes_back},
    {"every write into guest memory is marked dirty",
     every_write_into_guest_memory_is_marked_dirty},
    {"copies cross segments at any offset", copies_cross_segments_at_any_offset},
    {"indirect tables are followed", indirect_tables_are_followed},
    {"an indirect table may follow direct descriptors",
     an_indirect_table_may_follow_direct_descriptors},
    {"indices wrap around", indices_wrap_around},
    {"rewound chains come again", rewound_chains_come_again},
    {"the driver can decline interrupts", the_driver_can_decline_interrupts},
    {"event indices limit interrupts and kicks", event_indices_limit_interrupts_and_kicks},
    {"without event indices a flag stops kicks", without_event_indices_a_flag_stops_kicks},
    {"a loop of descriptors ends", a_loop_of_descriptors_ends},
    {"a loop of empty descriptors ends", a_loop_of_empty_descriptors_ends},
    {"a loop inside an indirect table ends", a_loop_inside_an_indirect_table_ends},
    {"descriptor indices must be in range", descriptor_indices_must_be_in_range},
    {"buffers must lie in guest memory", buffers_must_lie_in_guest_memory},
    {"indirect tables must be sane", indirect_tables_must_be_sane},
    {"readable buffers come first", readable_buffers_come_first},
    {"a longest chain passes and a longer one does not",
     a_longest_chain_passes_and_a_longer_one_does_not},
    {"a jump of the available index breaks the queue",
     a_jump_of_the_available_index_breaks_the_queue},
    {"more buffers than the ring holds break it", more_buffers_than_the_ring_holds_break_it},
    {"a queue with bad size or address stays off", a_queue_with_bad_size_or_address_stays_off},
};

TEST_MAIN("virtqueue", cases)
