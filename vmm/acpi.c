#include "vmm/acpi.h"

#include <string.h>

#include "base/wire.h"
#include "vmm/dsdt.hex"

#define HEADER_SIZE 36
#define RSDP_SIZE   36
#define FADT_SIZE   276 /* revision 6 */
#define XSDT_SIZE   (HEADER_SIZE + 2 * 8)

/* FADT flags (table 5.10) and boot architecture flags (table 5.11). */
#define FADT_WBINVD            (1u << 0)
#define FADT_PROC_C1           (1u << 2)
#define FADT_POWER_BUTTON_NONE (1u << 4)
#define FADT_SLEEP_BUTTON_NONE (1u << 5)
#define FADT_RESET_REG         (1u << 10)
#define FADT_BOOT_LEGACY       (1u << 0) /* serial port */
#define FADT_BOOT_NO_VGA       (1u << 2)
#define FADT_BOOT_NO_ASPM      (1u << 4)
#define FADT_BOOT_NO_RTC       (1u << 5)

#define GAS_IO                 1u /* address space of a generic address */

#define MADT_PCAT_COMPAT       1u /* there is an 8259 pair, too */
#define MADT_LAPIC             0
#define MADT_IOAPIC            1
#define MADT_OVERRIDE          2
#define MADT_LAPIC_NMI         4
#define INTI_ACTIVE_HIGH_LEVEL 0xdu

static void put_zeroes(struct wire_writer *w, size_t count)
{
    while (count-- > 0)
        wire_put_u8(w, 0);
}

/* Header with length and checksum left open: seal() fills them. */
static size_t begin(struct wire_writer *w, const char *signature, uint8_t revision)
{
    const size_t start = w->used;
    wire_put(w, signature, 4);
    wire_put_u32(w, 0);
    wire_put_u8(w, revision);
    wire_put_u8(w, 0);
    wire_put(w, "KEMARI", 6);
    wire_put(w, "KEMARIVM", 8);
    wire_put_u32(w, 1);
    wire_put(w, "KMRI", 4);
    wire_put_u32(w, 1);
    return start;
}

static uint8_t checksum(const uint8_t *bytes, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

static void seal(struct wire_writer *w, size_t start)
{
    if (w->bad)
        return;
    uint8_t *table = w->bytes + start;
    const uint32_t length = (uint32_t)(w->used - start);
    for (unsigned i = 0; i < 4; i++)
        table[4 + i] = (uint8_t)(length >> (8 * i));
    table[9] = checksum(table, length);
}

static void align(struct wire_writer *w)
{
    put_zeroes(w, -w->used & 15);
}

/* Generic address structure of an I/O port. */
static void put_port(struct wire_writer *w, uint16_t port, uint8_t bits)
{
    wire_put_u8(w, GAS_IO);
    wire_put_u8(w, bits);
    wire_put_u8(w, 0);
    wire_put_u8(w, bits / 8 == 1 ? 1 : 2); /* access size: byte, word */
    wire_put_u64(w, port);
}

static void put_fadt(struct wire_writer *w, gpa_t dsdt)
{
    const size_t start = begin(w, "FACP", 6);
    wire_put_u32(w, 0); /* no FACS: nothing sleeps */
    wire_put_u32(w, (uint32_t)dsdt);
    put_zeroes(w, 2); /* reserved, no preferred profile */
    wire_put_u16(w, ACPI_SCI);
    put_zeroes(w, 8); /* no SMI command: always in ACPI mode */
    wire_put_u32(w, ACPI_PM_EVENT_PORT);
    wire_put_u32(w, 0);
    wire_put_u32(w, ACPI_PM_CONTROL_PORT);
    put_zeroes(w, 5 * 4); /* PM1b control, PM2, timer, GPE0, GPE1 */
    wire_put_u8(w, 4);    /* PM1 event length */
    wire_put_u8(w, 2);    /* PM1 control length */
    put_zeroes(w, 6);
    wire_put_u16(w, 0xfff); /* no C2 */
    wire_put_u16(w, 0xfff); /* no C3 */
    put_zeroes(w, 9);       /* cache flushing and clock duty, RTC alarm bits */
    wire_put_u16(w, FADT_BOOT_LEGACY | FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM | FADT_BOOT_NO_RTC);
    wire_put_u8(w, 0);
    wire_put_u32(w, FADT_WBINVD | FADT_PROC_C1 | FADT_POWER_BUTTON_NONE | FADT_SLEEP_BUTTON_NONE |
                        FADT_RESET_REG);
    put_port(w, ACPI_RESET_PORT, 8);
    wire_put_u8(w, ACPI_RESET_VALUE);
    put_zeroes(w, 2);  /* ARM */
    wire_put_u8(w, 3); /* minor version */
    wire_put_u64(w, 0);
    wire_put_u64(w, dsdt);
    put_port(w, ACPI_PM_EVENT_PORT, 32);
    put_zeroes(w, 12);
    put_port(w, ACPI_PM_CONTROL_PORT, 16);
    put_zeroes(w, start + FADT_SIZE - w->used);
    seal(w, start);
}

static void put_madt(struct wire_writer *w, unsigned vcpus)
{
    const size_t start = begin(w, "APIC", 4);
    wire_put_u32(w, ACPI_LAPIC_ADDRESS);
    wire_put_u32(w, MADT_PCAT_COMPAT);
    for (unsigned i = 0; i < vcpus; i++) {
        wire_put_u8(w, MADT_LAPIC);
        wire_put_u8(w, 8);
        wire_put_u8(w, (uint8_t)i); /* processor uid */
        wire_put_u8(w, (uint8_t)i); /* APIC id */
        wire_put_u32(w, 1);         /* enabled */
    }
    wire_put_u8(w, MADT_IOAPIC);
    wire_put_u8(w, 12);
    wire_put_u16(w, (uint16_t)vcpus); /* id: the first that no processor has */
    wire_put_u32(w, ACPI_IOAPIC_ADDRESS);
    wire_put_u32(w, 0);
    wire_put_u8(w, MADT_OVERRIDE); /* the SCI: same number, but level triggered */
    wire_put_u8(w, 10);
    wire_put_u8(w, 0);
    wire_put_u8(w, ACPI_SCI);
    wire_put_u32(w, ACPI_SCI);
    wire_put_u16(w, INTI_ACTIVE_HIGH_LEVEL);
    wire_put_u8(w, MADT_LAPIC_NMI);
    wire_put_u8(w, 6);
    wire_put_u8(w, 0xff); /* all processors */
    wire_put_u16(w, 0);
    wire_put_u8(w, 1); /* LINT1 */
    seal(w, start);
}

static void put_xsdt(struct wire_writer *w, gpa_t fadt, gpa_t madt)
{
    const size_t start = begin(w, "XSDT", 1);
    wire_put_u64(w, fadt);
    wire_put_u64(w, madt);
    seal(w, start);
}

static void put_rsdp(struct wire_writer *w, gpa_t xsdt)
{
    const size_t start = w->used;
    wire_put(w, "RSD PTR ", 8);
    wire_put_u8(w, 0);
    wire_put(w, "KEMARI", 6);
    wire_put_u8(w, 2);
    wire_put_u32(w, 0); /* no RSDT: every 64-bit system reads the XSDT */
    wire_put_u32(w, RSDP_SIZE);
    wire_put_u64(w, xsdt);
    put_zeroes(w, 4);
    if (w->bad)
        return;
    w->bytes[start + 8] = checksum(w->bytes + start, 20);
    w->bytes[start + 32] = checksum(w->bytes + start, RSDP_SIZE);
}

size_t acpi_build(uint8_t *out, size_t size, gpa_t base, unsigned vcpus)
{
    /* The RSDP and the XSDT come first and have fixed sizes, so that all addresses are known. */
    const size_t xsdt = (RSDP_SIZE + 15) & ~(size_t)15;
    const size_t fadt = (xsdt + XSDT_SIZE + 15) & ~(size_t)15;
    const size_t dsdt = (fadt + FADT_SIZE + 15) & ~(size_t)15;
    const size_t madt = (dsdt + sizeof(dsdt_aml_code) + 15) & ~(size_t)15;
    struct wire_writer w = {.bytes = out, .size = size};
    put_rsdp(&w, base + xsdt);
    align(&w);
    put_xsdt(&w, base + fadt, base + madt);
    align(&w);
    put_fadt(&w, base + dsdt);
    align(&w);
    wire_put(&w, dsdt_aml_code, sizeof(dsdt_aml_code));
    align(&w);
    put_madt(&w, vcpus);
    return w.bad ? 0 : w.used;
}
