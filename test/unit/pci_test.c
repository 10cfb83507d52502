/* Configuration space, BARs and MSI-X, as a guest sees and abuses them. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT     3
#define BAR_SIZE 0x4000u

struct probe {
    struct vd_machine machine;
    struct pci_function *function;
    uint8_t registers[BAR_SIZE];
};

static void bar_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    memcpy(data, (uint8_t *)context + offset, size);
}

static void bar_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    memcpy((uint8_t *)context + offset, data, size);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

static struct probe p; /* large, and one test at a time */

static void start(void)
{
    memset(&p, 0, sizeof(p));
    vd_machine_create(&p.machine);
    const struct pci_function_config config = {
        .name = "probe", .slot = SLOT, .vendor = 0x1234, .device = 0x5678, .class_code = 0xff0102};
    CU_ASSERT_EQUAL_FATAL(pci_function_create(p.machine.host, &config, &p.function, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(
        pci_function_add_bar(p.function, 0, BAR_SIZE, &bar_ops, p.registers, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pci_function_add_msix(p.function, 1, 2, NULL), 0);
}

static void stop(void)
{
    pci_function_destroy(&p.function);
    vd_machine_destroy(&p.machine);
}

static uint32_t bar(unsigned index)
{
    return vd_config_read(&p.machine, SLOT, PCI_BASE_ADDRESS_0 + 4 * index, 4);
}

static void set_bar(unsigned index, uint32_t value)
{
    vd_config_write(&p.machine, SLOT, PCI_BASE_ADDRESS_0 + 4 * index, 4, value);
}

static void functions_answer_and_empty_slots_read_all_ones(void)
{
    start();
    CU_ASSERT_EQUAL(vd_config_read(&p.machine, SLOT, PCI_VENDOR_ID, 4), 0x56781234);
    CU_ASSERT_EQUAL(vd_config_read(&p.machine, SLOT, PCI_CLASS_REVISION, 4), 0xff010200);
    CU_ASSERT_EQUAL(vd_config_read(&p.machine, 0, PCI_CLASS_DEVICE, 2), 0x0600);
    for (uint8_t slot = 1; slot < PCI_SLOTS; slot++)
        if (slot != SLOT)
            CU_ASSERT_EQUAL(vd_config_read(&p.machine, slot, PCI_VENDOR_ID, 4), 0xffffffff);
    /* another bus, another function, and the enable bit off */
    const uint32_t addresses[] = {0x80010000 | SLOT << 11, 0x80000100 | SLOT << 11, SLOT << 11};
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        uint8_t data[4];
        bus_write(p.machine.ports, PCI_CONFIG_ADDRESS, (const uint8_t *)&addresses[i], 4);
        bus_read(p.machine.ports, PCI_CONFIG_DATA, data, 4);
        CU_ASSERT_EQUAL(data[0] & data[1] & data[2] & data[3], 0xff);
    }
    stop();
}

static void reads_of_every_width_agree(void)
{
    start();
    for (unsigned offset = 0; offset < PCI_CONFIG_SIZE; offset += 4) {
        const uint32_t word = vd_config_read(&p.machine, SLOT, offset, 4);
        for (unsigned i = 0; i < 4; i++)
            CU_ASSERT_EQUAL(vd_config_read(&p.machine, SLOT, offset + i, 1),
                            word >> (8 * i) & 0xff);
        CU_ASSERT_EQUAL(vd_config_read(&p.machine, SLOT, offset + 2, 2), word >> 16);
    }
    stop();
}

static void a_bar_tells_its_size_and_works_where_it_was_put(void)
{
    start();
    const uint32_t home = bar(0);
    CU_ASSERT(home >= PCI_WINDOW_START && home + BAR_SIZE <= PCI_WINDOW_END);
    vd_mmio_write(&p.machine, home + 8, 4, 0x11223344);
    CU_ASSERT_EQUAL(p.registers[8], 0x44);
    set_bar(0, 0xffffffff);
    CU_ASSERT_EQUAL(bar(0), 0u - BAR_SIZE);
    set_bar(0, home);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, home + 8, 4), 0x11223344);
    stop();
}

static void a_moved_bar_answers_at_the_new_place_only(void)
{
    start();
    const uint32_t home = bar(0);
    p.registers[0] = 0x5a;
    set_bar(0, 0xd0000000);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0000000, 1), 0x5a);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, home, 1), 0xff);
    vd_config_write(&p.machine, SLOT, PCI_COMMAND, 2, 0);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0000000, 1), 0xff);
    vd_config_write(&p.machine, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0000000, 1), 0x5a);
    p.machine.bridge.ops->reset(p.machine.bridge.context);
    pci_function_reset(p.function);
    CU_ASSERT_EQUAL(bar(0), home);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, home, 1), 0x5a);
    stop();
}

static void bars_outside_the_window_or_on_each_other_are_harmless(void)
{
    start();
    const uint32_t home = bar(0);
    const uint32_t bad[] = {0, 0x1000, 0xbfffc000, PCI_WINDOW_END, 0xfee00000, 0xffffc000};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        set_bar(0, bad[i]);
        CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, bad[i], 4), 0xffffffff);
    }
    set_bar(0, 0xd0000000);
    set_bar(1, 0xd0001000); /* inside BAR 0, which wins */
    p.registers[0x1000] = 0x77;
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0001000, 1), 0x77);
    set_bar(0, home); /* now BAR 1 is there */
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0001000 + PCI_MSIX_ENTRY_VECTOR_CTRL, 4), 1);
    stop();
}

static void writes_change_only_what_may_change(void)
{
    start();
    uint8_t before[PCI_CONFIG_SIZE];
    memcpy(before, pci_function_config(p.function), sizeof(before));
    for (unsigned offset = 0; offset < PCI_CONFIG_SIZE; offset++)
        vd_config_write(&p.machine, SLOT, offset, 1, 0xff);
    for (unsigned offset = 0; offset < PCI_CONFIG_SIZE; offset++)
        vd_config_write(&p.machine, SLOT, offset, 1, 0);
    const uint8_t *after = pci_function_config(p.function);
    CU_ASSERT_EQUAL(memcmp(before, after, PCI_COMMAND), 0);
    CU_ASSERT_EQUAL(memcmp(before + PCI_STATUS, after + PCI_STATUS, 6), 0);
    CU_ASSERT_EQUAL(memcmp(before + 0x18, after + 0x18, PCI_INTERRUPT_LINE - 0x18), 0);
    CU_ASSERT_EQUAL(memcmp(before + 0x40, after + 0x40, PCI_CONFIG_SIZE - 0x40), 0);
    stop();
}

static void a_taken_slot_is_refused(void)
{
    start();
    struct pci_function *second;
    struct error err = {0};
    const struct pci_function_config config = {.name = "second", .slot = SLOT};
    CU_ASSERT_EQUAL(pci_function_create(p.machine.host, &config, &second, &err), -EEXIST);
    CU_ASSERT_PTR_NULL(second);
    CU_ASSERT(strstr(err.text, "second") != NULL);
    stop();
}

/* --- MSI-X ---------------------------------------------------------------------------------- */

static void set_vector(unsigned v, uint64_t address, uint32_t data, uint32_t control)
{
    const uint64_t entry = bar(1) + v * PCI_MSIX_ENTRY_SIZE;
    vd_mmio_write(&p.machine, entry, 8, address);
    vd_mmio_write(&p.machine, entry + 8, 8, (uint64_t)control << 32 | data);
}

static void set_msix(uint16_t flags)
{
    unsigned cap = vd_config_read(&p.machine, SLOT, PCI_CAPABILITY_LIST, 1);
    CU_ASSERT_EQUAL(vd_config_read(&p.machine, SLOT, cap, 1), PCI_CAP_ID_MSIX);
    vd_config_write(&p.machine, SLOT, cap + PCI_MSIX_FLAGS, 2, flags);
}

static uint64_t pending(void)
{
    return vd_mmio_read(&p.machine, bar(1) + 2048, 8);
}

static void an_open_vector_sends_its_message(void)
{
    start();
    set_vector(1, 0x1fee01000, 0x41, 0);
    pci_function_signal(p.function, 1);
    CU_ASSERT_EQUAL(p.machine.message_count, 0); /* MSI-X still disabled */
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    CU_ASSERT_EQUAL(p.machine.message_count, 0);
    pci_function_signal(p.function, 1);
    CU_ASSERT_EQUAL(p.machine.message_count, 1);
    CU_ASSERT_EQUAL(p.machine.messages[0].address, 0x1fee01000);
    CU_ASSERT_EQUAL(p.machine.messages[0].data, 0x41);
    pci_function_signal(p.function, 2); /* does not exist */
    pci_function_signal(p.function, 0xffff);
    CU_ASSERT_EQUAL(p.machine.message_count, 1);
    stop();
}

static void a_masked_vector_stays_pending_until_unmasked(void)
{
    start();
    set_vector(0, 0xfee00000, 0x40, PCI_MSIX_ENTRY_CTRL_MASKBIT);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    pci_function_signal(p.function, 0);
    pci_function_signal(p.function, 0);
    CU_ASSERT_EQUAL(p.machine.message_count, 0);
    CU_ASSERT_EQUAL(pending(), 1);
    set_vector(0, 0xfee00000, 0x55, 0);
    CU_ASSERT_EQUAL(p.machine.message_count, 1); /* once, with the new data */
    CU_ASSERT_EQUAL(p.machine.messages[0].data, 0x55);
    CU_ASSERT_EQUAL(pending(), 0);
    stop();
}

static void the_function_mask_holds_all_vectors(void)
{
    start();
    set_vector(0, 0xfee00000, 0x40, 0);
    set_vector(1, 0xfee00000, 0x41, 0);
    set_msix(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    pci_function_signal(p.function, 0);
    pci_function_signal(p.function, 1);
    CU_ASSERT_EQUAL(pending(), 3);
    CU_ASSERT_EQUAL(p.machine.message_count, 0);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    CU_ASSERT_EQUAL(p.machine.message_count, 2);
    CU_ASSERT_EQUAL(pending(), 0);
    stop();
}

static void odd_accesses_to_the_vector_table_do_nothing(void)
{
    start();
    const uint64_t table = bar(1);
    for (unsigned offset = 0; offset < 4096; offset++)
        vd_mmio_write(&p.machine, table + offset, 1, 0xff);
    vd_mmio_write(&p.machine, table + 2, 2, 0xffff);
    for (uint64_t at = 2 * PCI_MSIX_ENTRY_SIZE; at < 4096; at += 4)
        vd_mmio_write(&p.machine, table + at, 4, 0xffffffff); /* behind the table, and the PBA */
    CU_ASSERT_EQUAL(pending(), 0);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, table, 4), 0);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, table + 2 * PCI_MSIX_ENTRY_SIZE, 4), 0);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, table + 4092, 4), 0);
    stop();
}

/* --- state ---------------------------------------------------------------------------------- */

static void state_moves_bars_and_pending_bits_to_another_function(void)
{
    start();
    p.registers[0] = 0x99;
    set_bar(0, 0xd0000000);
    set_vector(0, 0xfee00000, 0x40, PCI_MSIX_ENTRY_CTRL_MASKBIT);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    pci_function_signal(p.function, 0);
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(pci_function_save(p.function, 7, set, NULL), 0);
    pci_function_reset(p.function);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0000000, 1), 0xff);
    CU_ASSERT_EQUAL(pci_function_check(p.function, 6, set, NULL), -ENOENT);
    CU_ASSERT_EQUAL(pci_function_check(p.function, 7, set, NULL), 0);
    pci_function_load(p.function, 7, set);
    CU_ASSERT_EQUAL(vd_mmio_read(&p.machine, 0xd0000000, 1), 0x99);
    CU_ASSERT_EQUAL(pending(), 1);
    set_vector(0, 0xfee00000, 0x40, 0);
    CU_ASSERT_EQUAL(p.machine.message_count, 1);
    section_set_destroy(&set);
    stop();
}

static void the_address_register_is_state(void)
{
    start();
    const struct device *bridge = &p.machine.bridge;
    struct section_set *set = section_set_create();
    vd_config_read(&p.machine, SLOT, PCI_CLASS_REVISION, 4);
    CU_ASSERT_EQUAL(bridge->ops->save(bridge->context, 0, set, NULL), 0);
    bridge->ops->reset(bridge->context);
    uint8_t data[4];
    bus_read(p.machine.ports, PCI_CONFIG_DATA, data, 4);
    CU_ASSERT_EQUAL(data[0], 0xff);
    CU_ASSERT_EQUAL(bridge->ops->check(bridge->context, 0, set, NULL), 0);
    bridge->ops->load(bridge->context, 0, set);
    bus_read(p.machine.ports, PCI_CONFIG_DATA, data, 4);
    CU_ASSERT_EQUAL(data[3], 0xff);
    CU_ASSERT_EQUAL(data[2], 0x01);
    section_set_destroy(&set);
    stop();
}

static const struct test_case cases[] = {
    {"functions answer and empty slots read all ones",
     functions_answer_and_empty_slots_read_all_ones},
    {"reads of every width agree", reads_of_every_width_agree},
    {"a BAR tells its size and works where it was put",
     a_bar_tells_its_size_and_works_where_it_was_put},
    {"a moved BAR answers at the new place only", a_moved_bar_answers_at_the_new_place_only},
    {"BARs outside the window or on each other are harmless",
     bars_outside_the_window_or_on_each_other_are_harmless},
    {"writes change only what may change", writes_change_only_what_may_change},
    {"a taken slot is refused", a_taken_slot_is_refused},
    {"an open vector sends its message", an_open_vector_sends_its_message},
    {"a masked vector stays pending until unmasked", a_masked_vector_stays_pending_until_unmasked},
    {"the function mask holds all vectors", the_function_mask_holds_all_vectors},
    {"odd accesses to the vector table do nothing", odd_accesses_to_the_vector_table_do_nothing},
    {"state moves BARs and pending bits to another function",
     state_moves_bars_and_pending_bits_to_another_function},
    {"the address register is state", the_address_register_is_state},
};

TEST_MAIN("pci", cases)
