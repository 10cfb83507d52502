/* The ACPI tables of the machine: RSDP, XSDT, FADT, MADT, DSDT. The DSDT is dsdt.asl, compiled at
 * build time; the rest depends on the number of vCPUs. Rules: ACPI 6.4 §5.2. */
#ifndef KEMARI_VMM_ACPI_H
#define KEMARI_VMM_ACPI_H

#include "base/types.h"

/* Fixed hardware, announced by the FADT and implemented by power.c. */
#define ACPI_PM_EVENT_PORT   0x600u /* status and enable, 2 bytes each */
#define ACPI_PM_CONTROL_PORT 0x604u /* 2 bytes */
#define ACPI_RESET_PORT      0xcf9u
#define ACPI_RESET_VALUE     0x6u
#define ACPI_SLEEP_TYPE_OFF  5u /* S5, as in dsdt.asl */
#define ACPI_SCI             9u
#define ACPI_IOAPIC_ADDRESS  0xfec00000u
#define ACPI_LAPIC_ADDRESS   0xfee00000u

/* Writes the tables for addresses from `base` on, RSDP first, into `out`. Returns the bytes used,
 * or 0 when they don't fit. Pure. */
size_t acpi_build(uint8_t *out, size_t size, gpa_t base, unsigned vcpus);

#endif
