/* The parts "ram" at the beginning of a stream (qemu/stream.h) that QEMU's migration writes: the
 * contents of all blocks of memory that the two sides don't share.
 *
 * As QEMU writes it since 2.3 (migration/ram.c, version 4 of "ram"), with the capability
 * x-ignore-shared; big-endian, a name being its length in a byte and its characters:
 *
 *   0x01, u32 id, "ram", u32 instance 0, u32 version 4,
 *     u64 all sizes | MEM_SIZE, then per block: name, u64 size, u64 where the guest has it;
 *   any number of 0x02, u32 id, and at last 0x03, u32 id;
 *   each of them: any number of pages, u64 EOS, 0x7e, u32 id
 *
 *   a page: u64 offset in its block | PAGE or ZERO, | CONTINUE when it is of the same block as the
 *     page before, else the block's name; then 4096 bytes, or one that is zero.
 *
 * It is walked piece by piece. A piece has pages of one block, and of one stretch of
 * RAM_PIECE_SIZE in it, so that a page that became zero, or isn't any more, changes the size of its
 * own piece only. A list of blocks, and the end of a part, are pieces, too.
 *
 * Pure and bounded: the bytes are a peer's. */
#ifndef KEMARI_QEMU_RAM_PART_H
#define KEMARI_QEMU_RAM_PART_H

#include "base/error.h"
#include "base/types.h"

#define RAM_PART_BEGIN 0x01         /* QEMU_VM_SECTION_START */
#define RAM_NAME_MAX   255          /* characters of a block's name */
#define RAM_PIECE_SIZE (128u << 10) /* bytes of memory */

/* The caller sets the first three, the rest is zero at the beginning. */
struct ram_walk {
    const uint8_t *bytes;
    size_t size;
    size_t at; /* where the next piece begins; the first: a part */
    /* Called for each block that is listed; may be NULL. */
    void (*listed)(void *context, const char *block, uint64_t size);
    void *context;
    /* the walk's own */
    uint32_t id;
    bool begun; /* the list of blocks has passed */
    bool in_part;
    bool has_block; /* a page has passed */
    bool ended;     /* the last part has passed */
};

/* Moves `at` behind the next piece: 1; 0 when all parts have passed; -EBADMSG. */
int ram_walk_next(struct ram_walk *walk, struct error *err);

#endif
