/* The firmware of a QEMU machine (RAM block "pc.bios": SeaBIOS, or what -bios names).
 *
 * It is no part of the memory that checkpoints have. A QEMU that waits for a state doesn't load it
 * either, since QEMU's own migration would bring it along; without it a guest would run on, and be
 * lost at its next reset. So every side reads it once, out of a process that has it, the handshake
 * compares it, and a state is loaded with it in front, as a part "ram" like that of a migration.
 * Where the guest can write it (microvm), it is read at each cut and is a part of the state. */
#ifndef KEMARI_QEMU_FIRMWARE_H
#define KEMARI_QEMU_FIRMWARE_H

#include "base/error.h"
#include "base/types.h"

#define FIRMWARE_BLOCK "pc.bios"
#define FIRMWARE_MAX   (16u << 20) /* bytes; what QEMU allows */

/* Its last byte is the last one below 4 GiB: there a processor begins. */
#define FIRMWARE_END ((uint64_t)1 << 32)

/* Judges the answer of the monitor command `info roms`: can the guest write its firmware of `size`
 * bytes? -EBADMSG: it isn't in the list. Pure. */
int firmware_is_writable(const char *roms, size_t size, bool *writable, struct error *err);

/* Bytes that firmware_part_make() writes for a firmware of `size` bytes. `size` is a whole number
 * of pages, as QEMU's blocks are. */
size_t firmware_part_size(size_t size);

/* The part of a stream (qemu/stream.h) that fills the block. Pure. */
void firmware_part_make(const uint8_t *bytes, size_t size, uint8_t *out);

#endif
