/* Which memory of a QEMU machine a checkpoint has: the guest's, which is shared and tracked, and
 * what has a way of its own (qemu/firmware.h) or is the same on every host (option ROMs, tables
 * that QEMU makes). A machine with any other block of memory would come back without it. */
#ifndef KEMARI_QEMU_RAM_BLOCKS_H
#define KEMARI_QEMU_RAM_BLOCKS_H

#include "base/error.h"
#include "base/types.h"

/* Judges the answer of the monitor command `info ramblock`, which lists every block that a
 * migration would carry. `memory` is the size of the guest's, bytes; `*firmware` becomes that of
 * its firmware, 0 without one. -ENOTSUP names a block that can't be protected; -EBADMSG: not such a
 * list. Pure. */
int ram_blocks_check(const char *list, uint64_t memory, size_t *firmware, struct error *err);

#endif
