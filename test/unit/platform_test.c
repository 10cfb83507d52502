/* The platform around the processors: serial port, power and reset registers, ACPI tables, CPUID.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/wire.h"
#include "test/support/runner.h"
#include "vmm/acpi.h"
#include "vmm/cpuid.h"
#include "vmm/power.h"
#include "vmm/pvpanic.h"
#include "vmm/serial.h"

/* A port bus with one device on it, and what the device says. */
struct board {
    struct bus *ports;
    struct device device;
    struct device_env env;
    bool level;    /* of the interrupt line */
    char text[64]; /* console output */
    size_t text_size;
    unsigned drained;
};

static void on_message(void *context, uint64_t address, uint32_t data)
{
    (void)context;
    (void)address;
    (void)data;
    CU_FAIL("no message expected");
}

static void on_level(void *context, unsigned gsi, bool asserted)
{
    CU_ASSERT_EQUAL(gsi, SERIAL_IRQ);
    ((struct board *)context)->level = asserted;
}

static const struct irq_ops irq = {.message = on_message, .level = on_level};

static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    struct board *b = context;
    CU_ASSERT_EQUAL(which, MACHINE_CONSOLE_SERIAL);
    memcpy(b->text + b->text_size, data, size);
    b->text_size += size;
}

static const struct machine_output_ops output = {.console = on_console};

static void on_drained(void *context)
{
    ((struct board *)context)->drained++;
}

static void board_init(struct board *b)
{
    memset(b, 0, sizeof(*b));
    b->ports = bus_create();
    b->env.irq = (struct irq){.ops = &irq, .context = b};
}

static void board_with_serial(struct board *b)
{
    board_init(b);
    const struct serial_config config = {
        .output = &output, .output_context = b, .drained = on_drained, .drained_context = b};
    CU_ASSERT_EQUAL_FATAL(serial_create(&b->env, b->ports, &config, &b->device, NULL), 0);
}

static void board_fini(struct board *b)
{
    b->device.ops->destroy(b->device.context);
    bus_destroy(&b->ports);
}

static void out8(struct board *b, uint16_t port, uint8_t value)
{
    bus_write(b->ports, port, &value, 1);
}

static uint8_t in8(struct board *b, uint16_t port)
{
    uint8_t value;
    bus_read(b->ports, port, &value, 1);
    return value;
}

#define UART(n) ((uint16_t)(SERIAL_PORT + (n)))

static void a_byte_written_comes_out_at_once(void)
{
    struct board b;
    board_with_serial(&b);
    out8(&b, UART(0), 'h');
    out8(&b, UART(0), 'i');
    CU_ASSERT(b.text_size == 2 && memcmp(b.text, "hi", 2) == 0);
    CU_ASSERT_EQUAL(in8(&b, UART(5)) & 0x61, 0x60); /* empty, nothing received */
    board_fini(&b);
}

static void the_divisor_hides_behind_its_bit(void)
{
    struct board b;
    board_with_serial(&b);
    out8(&b, UART(3), 0x83);
    out8(&b, UART(0), 0x34);
    out8(&b, UART(1), 0x12);
    CU_ASSERT(in8(&b, UART(0)) == 0x34 && in8(&b, UART(1)) == 0x12);
    out8(&b, UART(3), 0x03);
    CU_ASSERT_EQUAL(b.text_size, 0);
    CU_ASSERT_EQUAL(in8(&b, UART(1)), 0);
    board_fini(&b);
}

static void received_bytes_interrupt_until_they_are_read(void)
{
    struct board b;
    board_with_serial(&b);
    CU_ASSERT_EQUAL(serial_receive(&b.device, (const uint8_t *)"ab", 2), 2);
    CU_ASSERT_FALSE(b.level);
    out8(&b, UART(1), 0x01);
    CU_ASSERT_TRUE(b.level);
    CU_ASSERT_EQUAL(in8(&b, UART(2)) & 0x0f, 0x04);
    CU_ASSERT(in8(&b, UART(0)) == 'a' && b.level && b.drained == 0);
    CU_ASSERT(in8(&b, UART(0)) == 'b' && !b.level && b.drained == 1);
    board_fini(&b);
}

static void a_full_receiver_takes_no_more(void)
{
    struct board b;
    board_with_serial(&b);
    uint8_t many[40];
    memset(many, 'x', sizeof(many));
    CU_ASSERT_EQUAL(serial_receive(&b.device, many, sizeof(many)), 16);
    CU_ASSERT_EQUAL(serial_receive(&b.device, many, sizeof(many)), 0);
    out8(&b, UART(2), 0x07); /* clear the FIFO */
    CU_ASSERT_EQUAL(in8(&b, UART(5)) & 1, 0);
    board_fini(&b);
}

static void an_empty_transmitter_interrupts_once(void)
{
    struct board b;
    board_with_serial(&b);
    out8(&b, UART(1), 0x02);
    CU_ASSERT_TRUE(b.level);
    CU_ASSERT_EQUAL(in8(&b, UART(2)) & 0x0f, 0x02);
    CU_ASSERT_FALSE(b.level);
    CU_ASSERT_EQUAL(in8(&b, UART(2)) & 0x0f, 0x01);
    out8(&b, UART(0), '.');
    CU_ASSERT_TRUE(b.level);
    board_fini(&b);
}

static void loop_back_keeps_bytes_inside_and_turns_the_lines(void)
{
    struct board b;
    board_with_serial(&b);
    out8(&b, UART(4), 0x1a); /* what Linux looks for a port with */
    CU_ASSERT_EQUAL(in8(&b, UART(6)) & 0xf0, 0x90);
    out8(&b, UART(0), 'z');
    CU_ASSERT_EQUAL(b.text_size, 0);
    CU_ASSERT_EQUAL(in8(&b, UART(0)), 'z');
    for (int i = 0; i < 17; i++)
        out8(&b, UART(0), 'z');
    CU_ASSERT_EQUAL(in8(&b, UART(5)) & 0x02, 0x02); /* overrun, told once */
    CU_ASSERT_EQUAL(in8(&b, UART(5)) & 0x02, 0x00);
    board_fini(&b);
}

static void serial_state_survives_and_hostile_state_is_refused(void)
{
    struct board a, b;
    board_with_serial(&a);
    board_with_serial(&b);
    struct section_set *set = section_set_create();
    out8(&a, UART(7), 0x5a);
    out8(&a, UART(1), 0x01);
    serial_receive(&a.device, (const uint8_t *)"abc", 3);
    CU_ASSERT_EQUAL(a.device.ops->save(a.device.context, 0, set, NULL), 0);
    CU_ASSERT_EQUAL(b.device.ops->check(b.device.context, 0, set, NULL), 0);
    b.device.ops->load(b.device.context, 0, set);
    CU_ASSERT_EQUAL(in8(&b, UART(7)), 0x5a);
    CU_ASSERT_TRUE(b.level);
    CU_ASSERT(in8(&b, UART(0)) == 'a' && in8(&b, UART(0)) == 'b' && in8(&b, UART(0)) == 'c');

    uint8_t *data = (uint8_t *)(uintptr_t)section_set_data(set, section_set_at(set, 0));
    data[9] = 17; /* fifo_count, behind ier fcr lcr mcr scr divisor(2) overrun transmit_pending */
    struct error err = {0};
    CU_ASSERT_EQUAL(b.device.ops->check(b.device.context, 0, set, &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "fifo_count"));
    section_set_destroy(&set);
    board_fini(&a);
    board_fini(&b);
}

static void board_with_power(struct board *b)
{
    board_init(b);
    CU_ASSERT_EQUAL_FATAL(power_create(&b->env, b->ports, &b->device, NULL), 0);
}

static void sleep_type_five_switches_off_and_no_other_does(void)
{
    struct board b;
    board_with_power(&b);
    for (uint16_t type = 0; type < 8; type++) {
        const uint16_t value = (uint16_t)(type << 10 | 1 << 13);
        const uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
        bus_write(b.ports, ACPI_PM_CONTROL_PORT, bytes, 2);
        CU_ASSERT_EQUAL(power_take_request(&b.device),
                        type == ACPI_SLEEP_TYPE_OFF ? POWER_REQUEST_OFF : POWER_REQUEST_NONE);
    }
    const uint8_t without_enable[2] = {0, ACPI_SLEEP_TYPE_OFF << 2};
    bus_write(b.ports, ACPI_PM_CONTROL_PORT, without_enable, 2);
    CU_ASSERT_FALSE(power_has_request(&b.device));
    CU_ASSERT_EQUAL(in8(&b, ACPI_PM_CONTROL_PORT) & 1, 1); /* SCI_EN: ACPI mode */
    board_fini(&b);
}

static void a_rising_edge_or_the_keyboard_controller_resets(void)
{
    struct board b;
    board_with_power(&b);
    power_write_reset(&b.device, 0x02);
    CU_ASSERT_FALSE(power_has_request(&b.device));
    power_write_reset(&b.device, ACPI_RESET_VALUE);
    CU_ASSERT_EQUAL(power_take_request(&b.device), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(power_read_reset(&b.device), ACPI_RESET_VALUE);
    power_write_reset(&b.device, ACPI_RESET_VALUE); /* no edge */
    CU_ASSERT_FALSE(power_has_request(&b.device));
    out8(&b, 0x64, 0xd1);
    CU_ASSERT_FALSE(power_has_request(&b.device));
    CU_ASSERT_EQUAL(in8(&b, 0x64), 0); /* never busy */
    out8(&b, 0x64, 0xfe);
    CU_ASSERT_EQUAL(power_take_request(&b.device), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(power_take_request(&b.device), POWER_REQUEST_NONE);
    board_fini(&b);
}

/* A panic device that asks the power device, both on one bus. */
static unsigned panics, crashes;
static bool gave_up;
static nsec_t panic_time;

static void on_guest_event(void *context, enum machine_event event, const char *detail)
{
    (void)context;
    gave_up = detail != NULL;
    panics += event == MACHINE_EVENT_PANICKED;
    crashes += event == MACHINE_EVENT_CRASH_LOADED;
}

static void a_panic_asks_for_what_the_policy_says(void)
{
    static const struct machine_output_ops ops = {.event = on_guest_event};
    static const enum power_request requests[] = {
        [MACHINE_PANIC_RESTART] = POWER_REQUEST_RESET,
        [MACHINE_PANIC_STOP] = POWER_REQUEST_STOP,
        [MACHINE_PANIC_IGNORE] = POWER_REQUEST_NONE,
    };
    for (unsigned policy = 0; policy < ARRAY_SIZE(requests); policy++) {
        struct board b;
        board_with_power(&b);
        const struct pvpanic_options options = {
            .policy = (enum machine_panic_policy)policy, .power = &b.device, .output = &ops};
        struct device d;
        CU_ASSERT_EQUAL_FATAL(pvpanic_create(b.ports, &options, &d, NULL), 0);
        panics = crashes = 0;
        CU_ASSERT_EQUAL(in8(&b, PVPANIC_PORT), PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
        out8(&b, PVPANIC_PORT, 0);
        out8(&b, PVPANIC_PORT, 0xfc); /* bits that were not offered */
        CU_ASSERT(panics == 0 && crashes == 0 && !power_has_request(&b.device));
        out8(&b, PVPANIC_PORT, PVPANIC_CRASH_LOADED);
        CU_ASSERT(panics == 0 && crashes == 1 && !power_has_request(&b.device));
        out8(&b, PVPANIC_PORT, PVPANIC_PANICKED);
        CU_ASSERT(panics == 1 && crashes == 1);
        CU_ASSERT_EQUAL(power_take_request(&b.device), requests[policy]);
        d.ops->destroy(d.context);
        board_fini(&b);
    }
}

static nsec_t time_of_panic(void)
{
    return panic_time;
}

/* Of a guest that was started anew. */
static enum power_request panic_at(struct board *b, struct device *d, nsec_t now)
{
    panic_time = now;
    d->ops->reset(d->context);
    out8(b, PVPANIC_PORT, PVPANIC_PANICKED);
    const enum power_request request = power_take_request(&b->device);
    CU_ASSERT_EQUAL(gave_up, request == POWER_REQUEST_STOP);
    return request;
}

/* `rep outsb` is one exit with many bytes, and a guest runs on until it is parked. */
static void a_panic_that_is_repeated_counts_once(void)
{
    static const struct machine_output_ops ops = {.event = on_guest_event};
    struct board b;
    board_with_power(&b);
    const struct pvpanic_options options = {.policy = MACHINE_PANIC_RESTART,
                                            .limit = {.restarts = 1, .window = SEC(100)},
                                            .power = &b.device,
                                            .output = &ops};
    struct device d;
    CU_ASSERT_EQUAL_FATAL(pvpanic_create(b.ports, &options, &d, NULL), 0);
    panics = crashes = 0;
    for (unsigned i = 0; i < 100; i++)
        out8(&b, PVPANIC_PORT, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
    CU_ASSERT_EQUAL(panics, 1);
    CU_ASSERT_EQUAL(crashes, 1);
    CU_ASSERT_EQUAL(power_take_request(&b.device), POWER_REQUEST_RESET); /* not yet too often */
    out8(&b, PVPANIC_PORT, PVPANIC_PANICKED);
    CU_ASSERT_FALSE(power_has_request(&b.device));
    /* The next one, of the guest that was started again, or that another host sent. */
    d.ops->reset(d.context);
    out8(&b, PVPANIC_PORT, PVPANIC_PANICKED);
    CU_ASSERT_EQUAL(power_take_request(&b.device), POWER_REQUEST_STOP);
    d.ops->load(d.context, 0, NULL);
    out8(&b, PVPANIC_PORT, PVPANIC_PANICKED);
    CU_ASSERT_EQUAL(panics, 3);
    d.ops->destroy(d.context);
    board_fini(&b);
}

/* Three restarts in any hundred seconds; that it was restarted is no reason to forget. */
static void a_guest_that_panics_too_often_is_stopped(void)
{
    static const struct machine_output_ops ops = {.event = on_guest_event};
    struct board b;
    board_with_power(&b);
    struct pvpanic_options options = {.policy = MACHINE_PANIC_RESTART,
                                      .limit = {.restarts = 3, .window = SEC(100)},
                                      .now = time_of_panic,
                                      .power = &b.device,
                                      .output = &ops};
    struct device d;
    CU_ASSERT_EQUAL_FATAL(pvpanic_create(b.ports, &options, &d, NULL), 0);
    panics = 0;
    CU_ASSERT_EQUAL(panic_at(&b, &d, 0), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(10)), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(99)), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(100) - 1), POWER_REQUEST_STOP);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(100)), POWER_REQUEST_RESET); /* the first was long ago */
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(109)), POWER_REQUEST_STOP);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(110)), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(198)), POWER_REQUEST_STOP);
    for (nsec_t i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(1000) + i), POWER_REQUEST_RESET);
    CU_ASSERT_EQUAL(panic_at(&b, &d, SEC(1001)), POWER_REQUEST_STOP);
    CU_ASSERT_EQUAL(panics, 12);
    d.ops->destroy(d.context);
    board_fini(&b);

    board_with_power(&b);
    options.limit.restarts = 0;
    CU_ASSERT_EQUAL_FATAL(pvpanic_create(b.ports, &options, &d, NULL), 0);
    for (unsigned i = 0; i < 2 * PANIC_RESTARTS_MAX; i++)
        CU_ASSERT_EQUAL(panic_at(&b, &d, 1), POWER_REQUEST_RESET);
    d.ops->destroy(d.context);
    options.limit.restarts = PANIC_RESTARTS_MAX + 1;
    CU_ASSERT_EQUAL(pvpanic_create(b.ports, &options, &d, NULL), -EINVAL);
    board_fini(&b);
}

static uint32_t get32(const uint8_t *p)
{
    struct wire_reader r = {.bytes = p, .size = 4};
    return wire_get_u32(&r);
}

static uint64_t get64(const uint8_t *p)
{
    struct wire_reader r = {.bytes = p, .size = 8};
    return wire_get_u64(&r);
}

static bool sums_to_zero(const uint8_t *bytes, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return sum == 0;
}

#define ACPI_BASE 0xe0000u

/* The table with that signature, found the way a system does: RSDP, XSDT, FADT. */
static const uint8_t *find_table(const uint8_t *tables, const char *signature)
{
    const uint8_t *xsdt = tables + (get64(tables + 24) - ACPI_BASE);
    for (uint32_t at = 36; at < get32(xsdt + 4); at += 8) {
        const uint8_t *table = tables + (get64(xsdt + at) - ACPI_BASE);
        if (memcmp(table, signature, 4) == 0)
            return table;
        if (memcmp(table, "FACP", 4) == 0 && strcmp(signature, "DSDT") == 0)
            return tables + (get64(table + 140) - ACPI_BASE);
    }
    return NULL;
}

static void acpi_tables_are_linked_and_sum_up(void)
{
    static uint8_t tables[0x20000];
    for (unsigned vcpus = 1; vcpus <= MACHINE_VCPUS_MAX; vcpus *= 2) {
        memset(tables, 0xee, sizeof(tables));
        const size_t used = acpi_build(tables, sizeof(tables), ACPI_BASE, vcpus);
        CU_ASSERT_FATAL(used > 0 && used < sizeof(tables));
        CU_ASSERT(memcmp(tables, "RSD PTR ", 8) == 0 && sums_to_zero(tables, 20) &&
                  sums_to_zero(tables, 36));
        static const char *const names[] = {"FACP", "APIC", "DSDT"};
        for (size_t i = 0; i < 3; i++) {
            const uint8_t *table = find_table(tables, names[i]);
            CU_ASSERT_PTR_NOT_NULL_FATAL(table);
            CU_ASSERT_EQUAL_FATAL(memcmp(table, names[i], 4), 0);
            CU_ASSERT_TRUE(sums_to_zero(table, get32(table + 4)));
        }
        CU_ASSERT_EQUAL(get32(find_table(tables, "FACP") + 4), 276);
        const uint8_t *madt = find_table(tables, "APIC");
        unsigned processors = 0;
        for (const uint8_t *p = madt + 44; p < madt + get32(madt + 4); p += p[1])
            processors += p[0] == 0 && p[3] == processors;
        CU_ASSERT_EQUAL(processors, vcpus);
    }
}

static void acpi_tables_that_do_not_fit_are_not_written(void)
{
    static uint8_t tables[0x20000];
    const size_t used = acpi_build(tables, sizeof(tables), ACPI_BASE, 8);
    for (size_t size = 0; size < used; size += 7) {
        uint8_t *room = malloc(size ? size : 1);
        CU_ASSERT_EQUAL(acpi_build(room, size, ACPI_BASE, 8), 0);
        free(room);
    }
}

static void fill_cpuid(struct cpuid_table *t)
{
    memset(t, 0, sizeof(*t));
    static const struct kvm_cpuid_entry2 host[] = {
        {.function = 0, .eax = 0x10},
        {.function = 1, .ebx = 0x7f080800, .ecx = 1u << 5, .edx = 0},
        {.function = 0xa, .eax = 0x7300403},
        {.function = 0xb, .index = 0, .flags = 1, .edx = 0x33},
        {.function = 0x40000001, .eax = 0x01007efb},
        {.function = 0x80000001, .ecx = 1u << 2 | 1u << 22 | 1u << 23},
        {.function = 0x80000008, .ecx = 0x7001},
        {.function = 0x8000001e, .eax = 0x33},
    };
    t->head.nent = ARRAY_SIZE(host);
    memcpy(t->entries, host, sizeof(host));
}

static void cpuid_tells_every_vcpu_its_own_id(void)
{
    static struct cpuid_table t;
    for (unsigned id = 0; id < 4; id++) {
        fill_cpuid(&t);
        cpuid_adapt(&t, 4, id, true);
        const struct kvm_cpuid_entry2 *e = cpuid_find(&t, 1, 0);
        CU_ASSERT_EQUAL(e->ebx, id << 24 | 4u << 16 | 0x0800);
        CU_ASSERT_EQUAL(e->edx & 1u << 28, 1u << 28);
        CU_ASSERT_EQUAL(e->ecx, 1u << 31 | 1u << 24);
        CU_ASSERT_EQUAL(cpuid_find(&t, 0x8000001e, 0)->eax, id);
        CU_ASSERT_EQUAL(cpuid_find(&t, 0x80000008, 0)->ecx, 2u << 12 | 3);
        const struct kvm_cpuid_entry2 *core = cpuid_find(&t, 0xb, 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(core);
        CU_ASSERT(core->eax == 2 && core->ebx == 4 && core->edx == id);
    }
}

static void cpuid_hides_what_can_not_be_moved(void)
{
    static struct cpuid_table t;
    fill_cpuid(&t);
    cpuid_adapt(&t, 1, 0, false);
    CU_ASSERT_EQUAL(cpuid_find(&t, 1, 0)->ecx, 1u << 31); /* no VMX, no deadline timer */
    CU_ASSERT_EQUAL(cpuid_find(&t, 1, 0)->edx & 1u << 28, 0);
    CU_ASSERT_PTR_NULL(cpuid_find(&t, 0xa, 0));
    CU_ASSERT_EQUAL(cpuid_find(&t, 0x80000001, 0)->ecx, 1u << 22); /* no SVM, no counters */
    CU_ASSERT_EQUAL(cpuid_find(&t, 0x40000001, 0)->eax & (1u << 4 | 1u << 7 | 1u << 10 | 1u << 14),
                    0);
}

static void cpuid_without_xsave_has_nothing_that_needs_it(void)
{
    static struct cpuid_table t;
    static const struct kvm_cpuid_entry2 all[] = {
        {.function = 1, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = ~0u},
        {.function = 7, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = ~0u, .flags = 1},
        {.function = 7, .index = 1, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = ~0u, .flags = 1},
        {.function = 0xd, .eax = 7, .flags = 1},
        {.function = 0xd, .index = 2, .eax = 256, .ebx = 576, .flags = 1},
        {.function = 0x80000001, .ecx = ~0u, .edx = ~0u},
    };
    t.head.nent = ARRAY_SIZE(all);
    memcpy(t.entries, all, sizeof(all));
    cpuid_drop_xsave(&t);
    CU_ASSERT_EQUAL(t.head.nent, 4);
    CU_ASSERT_PTR_NULL(cpuid_find(&t, 0xd, 0));
    CU_ASSERT_EQUAL(cpuid_find(&t, 1, 0)->ecx, ~0x3c001000u);
    CU_ASSERT_EQUAL(cpuid_find(&t, 1, 0)->edx, ~0u);                      /* SSE and FXSR stay */
    CU_ASSERT_EQUAL(cpuid_find(&t, 7, 0)->ebx & (1u << 5 | 1u << 16), 0); /* AVX2, AVX-512 */
    CU_ASSERT_EQUAL(cpuid_find(&t, 7, 0)->ebx & (1u << 7 | 1u << 20), 1u << 7 | 1u << 20);
    CU_ASSERT_EQUAL(cpuid_find(&t, 7, 0)->ecx & (1u << 2 | 1u << 3), 1u << 2); /* UMIP, not PKU */
    CU_ASSERT_EQUAL(cpuid_find(&t, 7, 0)->edx & 1u << 24, 0);                  /* tiles */
    CU_ASSERT_EQUAL(cpuid_find(&t, 7, 1)->eax & 3u << 4, 0);
    CU_ASSERT_EQUAL(cpuid_find(&t, 0x80000001, 0)->ecx, ~0x18800u);
}

static void a_full_cpuid_table_is_not_overrun(void)
{
    static struct cpuid_table t;
    memset(&t, 0, sizeof(t));
    t.head.nent = CPUID_ENTRIES_MAX;
    t.entries[0].eax = 0x10;
    for (uint32_t i = 1; i < CPUID_ENTRIES_MAX; i++)
        t.entries[i].function = 0x1000 + i;
    cpuid_adapt(&t, 2, 1, true);
    CU_ASSERT_EQUAL(t.head.nent, CPUID_ENTRIES_MAX);
}

static const struct test_case cases[] = {
    {"a panic asks for what the policy says", a_panic_asks_for_what_the_policy_says},
    {"a panic that is repeated counts once", a_panic_that_is_repeated_counts_once},
    {"a guest that panics too often is stopped", a_guest_that_panics_too_often_is_stopped},
    {"a byte written comes out at once", a_byte_written_comes_out_at_once},
    {"the divisor hides behind its bit", the_divisor_hides_behind_its_bit},
    {"received bytes interrupt until they are read", received_bytes_interrupt_until_they_are_read},
    {"a full receiver takes no more", a_full_receiver_takes_no_more},
    {"an empty transmitter interrupts once", an_empty_transmitter_interrupts_once},
    {"loop-back keeps bytes inside and turns the lines",
     loop_back_keeps_bytes_inside_and_turns_the_lines},
    {"serial state survives and hostile state is refused",
     serial_state_survives_and_hostile_state_is_refused},
    {"sleep type five switches off and no other does",
     sleep_type_five_switches_off_and_no_other_does},
    {"a rising edge or the keyboard controller resets",
     a_rising_edge_or_the_keyboard_controller_resets},
    {"ACPI tables are linked and sum up", acpi_tables_are_linked_and_sum_up},
    {"ACPI tables that do not fit are not written", acpi_tables_that_do_not_fit_are_not_written},
    {"CPUID tells every vCPU its own id", cpuid_tells_every_vcpu_its_own_id},
    {"CPUID hides what can not be moved", cpuid_hides_what_can_not_be_moved},
    {"CPUID without XSAVE has nothing that needs it",
     cpuid_without_xsave_has_nothing_that_needs_it},
    {"a full CPUID table is not overrun", a_full_cpuid_table_is_not_overrun},
};

TEST_MAIN("platform", cases)
