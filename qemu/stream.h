/* QEMU's stream of device states, as `xen-save-devices-state` or a migration (qemu/cut.c) writes
 * it, as sections of ours.
 *
 *   "QEVM", u32 3, of a migration the parts of memory (qemu/ram_part.h),
 *   then per device: 0x04, u32 id, name, ..., 0x7e, u32 id; then 0x00. Big-endian.
 *
 * What a device wrote has no length in it, so only QEMU itself can read the stream. It is cut
 * behind what looks like the end of a device's part, and behind each piece of memory, so that what
 * didn't change is the same section with the same bytes as in the epoch before, and costs nothing
 * on the wire. A cut in the wrong place costs bytes, no more: the sections together are the stream.
 *
 * Pure functions. */
#ifndef KEMARI_QEMU_STREAM_H
#define KEMARI_QEMU_STREAM_H

#include "base/error.h"
#include "base/section.h"
#include "base/types.h"

#define STREAM_SECTION     "qemu.state"
#define STREAM_VERSION     1
#define STREAM_HEADER_SIZE 8
#define STREAM_MAX         (28u << 20) /* bytes */

/* Checks the ends of a stream, and the memory in it, which is there (`with_memory`) or is not:
 * -EBADMSG. */
int stream_check(const uint8_t *bytes, size_t size, bool with_memory, struct error *err);

/* Is a block of that name in the memory of a checked stream? */
bool stream_has_block(const uint8_t *bytes, size_t size, const char *name);

/* Appends a checked stream to the set. -ENOSPC when the set has no room. */
int stream_to_sections(const uint8_t *bytes, size_t size, struct section_set *set,
                       struct error *err);

/* The size of the stream in a set, whose sections are complete and in order, or -EBADMSG. With
 * `out`, of that many bytes, it is put together there. */
int stream_from_sections(const struct section_set *set, uint8_t *out, struct error *err);

/* What the device `name` wrote to a checked stream without memory: `*length` bytes, or NULL if it
 * has no part or one that is not as QEMU writes them. As with a cut, the end is where it seems to
 * be. */
uint8_t *stream_find_part(uint8_t *bytes, size_t size, const char *name, uint32_t *version,
                          size_t *length);

#endif
