/* virtio-console: bytes out, bytes in, and what waits in between. */
#include <linux/virtio_ring.h>
#include <string.h>

#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT 25
#define RX   0
#define TX   1

static struct vd_machine m;
static struct device console;
static struct vd_driver d;

static void start(void)
{
    vd_machine_create(&m);
    const struct virtio_console_options options = {
        .slot = SLOT, .output = &vd_output, .output_context = &m};
    CU_ASSERT_EQUAL_FATAL(virtio_console_create(&m.env, m.host, &options, &console, NULL), 0);
    vd_probe(&d, &m, SLOT);
}

static void stop(void)
{
    vd_device_destroy(&console);
    vd_machine_destroy(&m);
}

static size_t type(const char *text)
{
    return virtio_console_input(&console, (const uint8_t *)text, strlen(text));
}

static gpa_t offer_rx(uint32_t size)
{
    const struct vd_buffer buffer = {vd_alloc(&m, size), size, true};
    vd_offer(&d, RX, &buffer, 1);
    return buffer.gpa;
}

static void output_arrives_in_order(void)
{
    start();
    vd_start(&d, 0, 2, 8);
    const gpa_t at = vd_alloc(&m, 32);
    gmem_write(m.env.memory, at, "hello, world", 12);
    const struct vd_buffer parts[] = {{at, 7, false}, {at + 7, 5, false}};
    vd_offer(&d, TX, parts, 2);
    vd_offer(&d, TX, parts, 1);
    vd_kick(&d, TX);
    CU_ASSERT_EQUAL(m.console_size, 19);
    CU_ASSERT_EQUAL(memcmp(m.console, "hello, worldhello, ", 19), 0);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_take(&d, TX, &id, &length));
    CU_ASSERT_TRUE(vd_take(&d, TX, &id, &length));
    CU_ASSERT_EQUAL(m.message_count, 1);
    stop();
}

static void one_buffer_prints_a_bounded_amount(void)
{
    start();
    vd_start(&d, 0, 2, 8);
    const struct vd_buffer huge = {vd_alloc(&m, 1 << 20), 1 << 20, false};
    vd_offer(&d, TX, &huge, 1);
    vd_kick(&d, TX);
    CU_ASSERT_EQUAL(m.console_size, 65536);
    stop();
}

static void input_waits_for_the_guest(void)
{
    start();
    CU_ASSERT_EQUAL(type("early "), 6); /* before there is a driver */
    vd_start(&d, 0, 2, 8);
    CU_ASSERT_EQUAL(type("bird"), 4);
    const gpa_t first = offer_rx(4), second = offer_rx(16);
    vd_kick(&d, RX);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 4);
    CU_ASSERT_TRUE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 6);
    CU_ASSERT_EQUAL(memcmp(gmem_view(m.env.memory, first, 4), "earl", 4), 0);
    CU_ASSERT_EQUAL(memcmp(gmem_view(m.env.memory, second, 6), "y bird", 6), 0);
    const gpa_t third = offer_rx(16);
    CU_ASSERT_EQUAL(type("x"), 1); /* at once, no notification needed */
    CU_ASSERT_TRUE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, third, 1), 'x');
    stop();
}

static void the_guest_notifies_only_while_input_waits(void)
{
    start();
    vd_start(&d, 0, 2, 8);
    CU_ASSERT_EQUAL(type("ab"), 2);
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used), 0);
    offer_rx(1);
    offer_rx(16);
    vd_kick(&d, RX);
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used), VRING_USED_F_NO_NOTIFY);
    stop();
}

static void input_that_was_taken_leaves_no_trace_in_the_state(void)
{
    uint8_t saved[2][8192];
    int size[2];
    for (unsigned round = 0; round < 2; round++) {
        start();
        vd_start(&d, 0, 2, 8);
        type(round ? "secret" : "se");
        offer_rx(round ? 5 : 1);
        vd_kick(&d, RX);
        struct section_set *set = section_set_create();
        CU_ASSERT_EQUAL(console.ops->save(console.context, 0, set, NULL), 0);
        const struct section *s = section_set_find(set, "virtio-console", 0);
        size[round] = (int)s->size;
        memcpy(saved[round], section_set_data(set, s), s->size);
        section_set_destroy(&set);
        stop();
    }
    CU_ASSERT_EQUAL(size[0], size[1]);
    saved[0][2] = saved[1][2]; /* 'e' and 't', the one byte that still waits */
    CU_ASSERT_EQUAL(memcmp(saved[0], saved[1], (size_t)size[0]), 0);
}

static void input_beyond_the_buffer_is_refused(void)
{
    start();
    uint8_t bytes[VIRTIO_CONSOLE_INPUT_MAX + 100];
    memset(bytes, 'a', sizeof(bytes));
    CU_ASSERT_EQUAL(virtio_console_input(&console, bytes, sizeof(bytes)), VIRTIO_CONSOLE_INPUT_MAX);
    CU_ASSERT_EQUAL(type("b"), 0);
    vd_start(&d, 0, 2, 8);
    offer_rx(10);
    vd_kick(&d, RX);
    CU_ASSERT_EQUAL(virtio_console_input(&console, bytes, sizeof(bytes)), 10);
    stop();
}

static void waiting_input_survives_a_change_of_machine(void)
{
    start();
    type("secret");
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(console.ops->save(console.context, 0, set, NULL), 0);
    stop();
    start();
    CU_ASSERT_EQUAL(console.ops->check(console.context, 0, set, NULL), 0);
    console.ops->load(console.context, 0, set);
    console.ops->resume(console.context);
    vd_start(&d, 0, 2, 8);
    const gpa_t at = offer_rx(64);
    vd_kick(&d, RX);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 6);
    CU_ASSERT_EQUAL(memcmp(gmem_view(m.env.memory, at, 6), "secret", 6), 0);
    section_set_destroy(&set);
    stop();
}

static const struct test_case cases[] = {
    {"output arrives in order", output_arrives_in_order},
    {"one buffer prints a bounded amount", one_buffer_prints_a_bounded_amount},
    {"input waits for the guest", input_waits_for_the_guest},
    {"the guest notifies only while input waits", the_guest_notifies_only_while_input_waits},
    {"input that was taken leaves no trace in the state",
     input_that_was_taken_leaves_no_trace_in_the_state},
    {"input beyond the buffer is refused", input_beyond_the_buffer_is_refused},
    {"waiting input survives a change of machine", waiting_input_survives_a_change_of_machine},
};

TEST_MAIN("virtio-console", cases)
