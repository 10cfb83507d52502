/* The virtio PCI transport: negotiation, queues, interrupts, reset, hostile register accesses. The
 * entropy device carries them: it has one queue and no features of its own. */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT      5
#define BIT(n)    (1ull << (n))
#define VERSION_1 BIT(VIRTIO_F_VERSION_1)

static struct vd_machine m;
static struct device rng;
static struct vd_driver d;

static void start(void)
{
    vd_machine_create(&m);
    CU_ASSERT_EQUAL_FATAL(virtio_rng_create(&m.env, m.host, SLOT, &rng, NULL), 0);
    vd_probe(&d, &m, SLOT);
}

static void stop(void)
{
    vd_device_destroy(&rng);
    vd_machine_destroy(&m);
}

static uint64_t get(unsigned offset, uint32_t size)
{
    return vd_mmio_read(&m, d.common + offset, size);
}

static void put(unsigned offset, uint32_t size, uint64_t value)
{
    vd_mmio_write(&m, d.common + offset, size, value);
}

/* Offers `size` bytes and returns how many came back, or -1. */
static int ask_for_entropy(uint32_t size, gpa_t *at)
{
    *at = vd_alloc(&m, size);
    const struct vd_buffer buffer = {.gpa = *at, .size = size, .in = true};
    const uint16_t head = vd_offer(&d, 0, &buffer, 1);
    vd_kick(&d, 0);
    uint32_t id, length;
    if (!vd_take(&d, 0, &id, &length))
        return -1;
    CU_ASSERT_EQUAL(id, head);
    return (int)length;
}

static void a_driver_gets_entropy_and_an_interrupt(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(64, &at), 64);
    uint8_t sum = 0, bytes[64];
    gmem_read(m.env.memory, at, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        sum |= bytes[i];
    CU_ASSERT_NOT_EQUAL(sum, 0);
    CU_ASSERT_EQUAL(m.message_count, 1);
    CU_ASSERT_EQUAL(m.messages[0].data, 0x40);
    CU_ASSERT_EQUAL(ask_for_entropy(4096, &at), 256); /* bounded per buffer */
    CU_ASSERT_EQUAL(m.message_count, 2);
    stop();
}

static void a_burst_is_finished_from_the_io_thread(void)
{
    start();
    vd_start(&d, 0, 1, 64);
    const struct vd_buffer buffer = {.gpa = vd_alloc(&m, 64), .size = 64, .in = true};
    for (unsigned i = 0; i < 60; i++)
        vd_offer(&d, 0, &buffer, 1);
    vd_kick(&d, 0);
    CU_ASSERT(vd_get16(&m, d.queues[0].used + 2) < 60); /* the vCPU is not held up for all */
    for (unsigned i = 0; i < 60; i++) {
        uint32_t id, length;
        CU_ASSERT_TRUE_FATAL(vd_wait(&d, 0, &id, &length));
        CU_ASSERT_EQUAL(length, 64);
    }
    stop();
}

static void features_are_refused_unless_offered_and_modern(void)
{
    start();
    const uint64_t offered = vd_features(&d);
    CU_ASSERT_EQUAL(offered,
                    VERSION_1 | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX));
    CU_ASSERT_FALSE(vd_negotiate(&d, 0)); /* legacy driver */
    CU_ASSERT_FALSE(vd_negotiate(&d, VERSION_1 | BIT(0)));
    CU_ASSERT_FALSE(vd_negotiate(&d, UINT64_MAX));
    CU_ASSERT_TRUE(vd_negotiate(&d, VERSION_1));
    CU_ASSERT_TRUE(vd_negotiate(&d, offered));
    put(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
    put(VIRTIO_PCI_COMMON_GF, 4, 0xffffffff); /* too late */
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_GF, 4), (uint32_t)offered);
    put(VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_DF, 4), 0);
    stop();
}

static void nothing_works_before_driver_ok(void)
{
    start();
    vd_set_status(&d, VIRTIO_CONFIG_S_DRIVER_OK); /* without features */
    CU_ASSERT_EQUAL(vd_status(&d) & VIRTIO_CONFIG_S_DRIVER_OK, 0);
    CU_ASSERT_TRUE(vd_negotiate(&d, VERSION_1));
    vd_setup_queue(&d, 0, 8);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), -1);
    vd_set_status(&d, VIRTIO_CONFIG_S_DRIVER_OK);
    vd_kick(&d, 0);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_take(&d, 0, &id, &length));
    vd_set_status(&d, VIRTIO_CONFIG_S_FAILED); /* the driver gave up */
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), -1);
    stop();
}

static void status_zero_resets_the_device_but_not_its_vectors(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    vd_set_status(&d, 0);
    CU_ASSERT_EQUAL(vd_status(&d), 0);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.msix + PCI_MSIX_ENTRY_DATA, 4), 0x40);
    vd_start(&d, 0, 1, 16);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), 16);
    stop();
}

static void a_machine_reset_is_a_power_on(void)
{
    start();
    struct section_set *fresh = section_set_create();
    struct section_set *after = section_set_create();
    rng.ops->save(rng.context, 0, fresh, NULL);
    vd_start(&d, BIT(VIRTIO_RING_F_EVENT_IDX), 1, 8);
    gpa_t at;
    ask_for_entropy(16, &at);
    rng.ops->reset(rng.context);
    rng.ops->save(rng.context, 0, after, NULL);
    uint8_t a[4096], b[4096];
    const int size = section_set_encode(fresh, a, sizeof(a));
    CU_ASSERT_EQUAL(section_set_encode(after, b, sizeof(b)), size);
    CU_ASSERT_EQUAL(memcmp(a, b, (size_t)size), 0);
    section_set_destroy(&fresh);
    section_set_destroy(&after);
    stop();
}

static void a_broken_ring_stops_this_device_until_it_is_reset(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    vd_publish(&d, 0, 0xffff); /* no such descriptor */
    vd_kick(&d, 0);
    CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
    CU_ASSERT_EQUAL(m.message_count, 1);
    CU_ASSERT_EQUAL(m.messages[0].data, 0x41); /* the configuration vector */
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.isr, 1), 2);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), -1);
    vd_set_status(&d, (uint8_t)(vd_status(&d) & ~VIRTIO_CONFIG_S_NEEDS_RESET));
    CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
    vd_start(&d, 0, 1, 8);
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), 16);
    stop();
}

static void a_queue_at_a_bad_address_breaks_the_device(void)
{
    start();
    CU_ASSERT_TRUE(vd_negotiate(&d, VERSION_1));
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 8, UINT64_MAX - 15);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    CU_ASSERT_TRUE(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
    stop();
}

static void an_enabled_queue_can_not_be_moved(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    const uint64_t desc = get(VIRTIO_PCI_COMMON_Q_DESCLO, 8);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0xdead0000);
    put(VIRTIO_PCI_COMMON_Q_SIZE, 2, 3);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), desc);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
    stop();
}

static void queues_and_vectors_that_do_not_exist_are_ignored(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    vd_kick(&d, 1);
    vd_mmio_write(&m, d.notify + 0xffc, 4, 0xffffffff);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
    put(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2); /* there are vectors 0 and 1 */
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    put(VIRTIO_PCI_COMMON_MSIX, 2, 1234);
    CU_ASSERT_EQUAL(get(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), 16); /* served, without an interrupt */
    CU_ASSERT_EQUAL(m.message_count, 0);
    stop();
}

static void any_access_to_any_register_is_harmless(void)
{
    start();
    const uint32_t sizes[] = {1, 2, 4, 8};
    const uint64_t values[] = {0, 1, 0x7f, 0x8000, 0xffffffff, UINT64_MAX};
    for (uint64_t at = 0; at + 8 <= 0x4000; at += at % 0x1000 < 0x80 ? 1 : 61)
        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
            vd_mmio_read(&m, d.common + at, sizes[s]);
            for (size_t v = 0; v < ARRAY_SIZE(values); v++)
                vd_mmio_write(&m, d.common + at, sizes[s], values[v]);
        }
    vd_start(&d, 0, 1, 8);
    gpa_t at;
    CU_ASSERT_EQUAL(ask_for_entropy(16, &at), 16);
    stop();
}

static void reading_the_isr_clears_it(void)
{
    start();
    vd_start(&d, 0, 1, 8);
    gpa_t at;
    ask_for_entropy(16, &at);
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.isr, 1), 1);
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.isr, 1), 0);
    stop();
}

static void registers_can_be_reached_through_configuration_space(void)
{
    start();
    const unsigned cap = d.window_cap;
    vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_BAR, 1, 0);
    vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
    vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
    vd_config_write(&m, SLOT, cap + sizeof(struct virtio_pci_cap), 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    CU_ASSERT_EQUAL(vd_status(&d), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    CU_ASSERT_EQUAL(vd_config_read(&m, SLOT, cap + sizeof(struct virtio_pci_cap), 1),
                    VIRTIO_CONFIG_S_ACKNOWLEDGE);
    const struct {
        uint32_t bar, offset, length;
    } bad[] = {{0, 0x4000, 4}, {0, 0xffffffff, 1}, {0, 2, 4}, {1, 0, 4}, {0, 0, 0}, {0, 0, 8}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_BAR, 1, bad[i].bar);
        vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, bad[i].offset);
        vd_config_write(&m, SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, bad[i].length);
        CU_ASSERT_EQUAL(vd_config_read(&m, SLOT, cap + sizeof(struct virtio_pci_cap), 4), 0);
        vd_config_write(&m, SLOT, cap + sizeof(struct virtio_pci_cap), 4, 0xffffffff);
    }
    CU_ASSERT_EQUAL(vd_status(&d), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    stop();
}

static void indirect_chains_and_event_indices_work_through_the_device(void)
{
    start();
    vd_start(&d, BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX), 1, 8);
    const gpa_t at = vd_alloc(&m, 64);
    const struct vd_buffer buffers[] = {{at, 3, true}, {at + 8, 5, true}};
    vd_put16(&m, d.queues[0].avail + 4 + 2 * 8, 1); /* used_event: the second completion */
    uint32_t id, length;
    for (unsigned i = 0; i < 2; i++) {
        vd_offer_indirect(&d, 0, buffers, 2);
        vd_kick(&d, 0);
        CU_ASSERT_TRUE(vd_take(&d, 0, &id, &length));
        CU_ASSERT_EQUAL(length, 8);
        CU_ASSERT_EQUAL(m.message_count, i);
        CU_ASSERT_EQUAL(vd_get16(&m, d.queues[0].used + 4 + 8 * 8), i + 1); /* avail_event */
    }
    stop();
}

static const struct test_case cases[] = {
    {"a driver gets entropy and an interrupt", a_driver_gets_entropy_and_an_interrupt},
    {"a burst is finished from the I/O thread", a_burst_is_finished_from_the_io_thread},
    {"features are refused unless offered and modern",
     features_are_refused_unless_offered_and_modern},
    {"nothing works before DRIVER_OK", nothing_works_before_driver_ok},
    {"status zero resets the device but not its vectors",
     status_zero_resets_the_device_but_not_its_vectors},
    {"a machine reset is a power-on", a_machine_reset_is_a_power_on},
    {"a broken ring stops this device until it is reset",
     a_broken_ring_stops_this_device_until_it_is_reset},
    {"a queue at a bad address breaks the device", a_queue_at_a_bad_address_breaks_the_device},
    {"an enabled queue can not be moved", an_enabled_queue_can_not_be_moved},
    {"queues and vectors that do not exist are ignored",
     queues_and_vectors_that_do_not_exist_are_ignored},
    {"any access to any register is harmless", any_access_to_any_register_is_harmless},
    {"reading the ISR clears it", reading_the_isr_clears_it},
    {"registers can be reached through configuration space",
     registers_can_be_reached_through_configuration_space},
    {"indirect chains and event indices work through the device",
     indirect_chains_and_event_indices_work_through_the_device},
};

TEST_MAIN("virtio-transport", cases)
