/* Which memory a QEMU machine has, and what that means for its checkpoints.
 *
 * The guest's memory is shared and tracked. What is the same on every host (option ROMs, tables
 * that QEMU makes), or has a way of its own (qemu/firmware.h), needs nothing. A machine with any
 * other block, such as the memory of a graphics card, *has memory of its own*: its checkpoints are
 * cut by QEMU's migration, which carries all blocks but the guest's memory (qemu/cut.c). */
#ifndef KEMARI_QEMU_RAM_BLOCKS_H
#define KEMARI_QEMU_RAM_BLOCKS_H

#include "base/error.h"
#include "base/types.h"

#define RAM_BLOCKS_MAX     64 /* more than any machine has */
#define RAM_BLOCK_NAME_MAX 96 /* bytes, with the zero at the end */

/* Bytes of all blocks that a checkpoint carries at most: less than STREAM_MAX (qemu/stream.h),
 * which has the devices in it, too. */
#define RAM_CARRIED_MAX (24u << 20)

struct ram_blocks {
    bool own;        /* the machine has memory of its own */
    size_t firmware; /* bytes of the firmware; 0: it has none */
    unsigned count;  /* of all blocks but the guest's memory */
    char names[RAM_BLOCKS_MAX][RAM_BLOCK_NAME_MAX];
};

/* Reads the answer of the monitor command `info ramblock`, which lists every block there is.
 * `memory` is the size of the guest's, bytes. -ENOTSUP says what can't be protected; -EBADMSG: not
 * such a list. Pure. */
int ram_blocks_read(const char *list, uint64_t memory, struct ram_blocks *out, struct error *err);

#endif
