/* The ACPI tables that a QEMU offers to its firmware.
 *
 * It makes them again when the firmware first asks for them after a reset, by which time that has
 * placed the PCI devices; that it has done so is a part of its state, and the tables are not. So a
 * QEMU that waited for a state has those of its own start, without the addresses of any device, and
 * would keep them for a firmware whose host died while it was about to read them. It is told that
 * they were not made yet: the next who asks has them made, from the devices as the state has them.
 */
#ifndef KEMARI_QEMU_ACPI_TABLES_H
#define KEMARI_QEMU_ACPI_TABLES_H

#include "base/types.h"

/* In a checked stream (qemu/stream.h) that is about to be loaded. A stream in which no part says in
 * the known way whether they were made stays as it is. Pure. */
void acpi_tables_make_again(uint8_t *stream, size_t size);

#endif
