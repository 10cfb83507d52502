/* The difference between two strings of bytes of one length, as runs:
 *
 *   until the end:  varint skip     bytes that are as they were
 *                   varint length   > 0, and so many new bytes
 *
 * What follows the last run is as it was. A varint is LEB128 of at most 4 bytes. Runs carry the new
 * bytes, not an exclusive or: applied twice a delta does no harm. Where runs lie is found by
 * comparing, so a page with few changed words costs little more than reading it twice.
 *
 * Pure: no allocation, no I/O. */
#ifndef KEMARI_CHECKPOINT_DELTA_H
#define KEMARI_CHECKPOINT_DELTA_H

#include "base/error.h"
#include "base/types.h"

#define DELTA_SIZE_MAX ((size_t)1 << 28) /* of the strings: what a varint can say */

/* Writes into `out` what makes `before` into `after`, both of `size` <= DELTA_SIZE_MAX bytes. The
 * size of the delta; 0 when they are equal; -ENOSPC when it needs more than `capacity`. */
int delta_encode(const uint8_t *before, const uint8_t *after, size_t size, uint8_t *out,
                 size_t capacity);

/* May these bytes be applied to a string of `size` bytes? -EBADMSG. No bytes are a delta, too. */
int delta_check(const uint8_t *delta, size_t delta_size, size_t size, struct error *err);

/* Applies a delta that was checked against this size. */
void delta_apply(const uint8_t *delta, size_t delta_size, uint8_t *string, size_t size);

#endif
