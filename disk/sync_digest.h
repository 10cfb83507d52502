/* Digests of blocks: SHA-256, so that no guest finds two contents that are taken for equal. */
#ifndef KEMARI_DISK_SYNC_DIGEST_H
#define KEMARI_DISK_SYNC_DIGEST_H

#include "disk/sync_codec.h"

/* Of `size` bytes. Aborts when the library can't. */
void sync_digest(const uint8_t *data, size_t size, uint8_t out[SYNC_DIGEST_SIZE]);

/* Of each piece of a block of `size` bytes. */
void sync_digest_pieces(const uint8_t *block, size_t size,
                        uint8_t out[SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE]);

/* Bytes of the block, and of piece `i` of a block of `size` bytes. */
size_t sync_block_size(uint64_t block, uint64_t disk_size);
size_t sync_piece_size(unsigned i, size_t size);

#endif
