/* The part is that of hw/i386/acpi-build.c since QEMU 1.7: "acpi_build", version 1, one byte. */
#include "qemu/acpi_tables.h"

#include "qemu/stream.h"

#define PART         "acpi_build"
#define PART_VERSION 1

void acpi_tables_make_again(uint8_t *stream, size_t size)
{
    uint32_t version;
    size_t length;
    uint8_t *made = stream_find_part(stream, size, PART, &version, &length);
    if (made && version == PART_VERSION && length == 1)
        *made = 0;
}
