#include "disk/sync_digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "disk/block_map.h"

void sync_digest(const uint8_t *data, size_t size, uint8_t out[SYNC_DIGEST_SIZE])
{
    if (EVP_Digest(data, size, out, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

size_t sync_block_size(uint64_t block, uint64_t disk_size)
{
    const uint64_t left = disk_size - (block << BLOCK_SHIFT);
    return (size_t)(left < BLOCK_SIZE ? left : BLOCK_SIZE);
}

size_t sync_piece_size(unsigned i, size_t size)
{
    const size_t at = (size_t)i * SYNC_PIECE_SIZE;
    if (at >= size)
        return 0;
    return size - at < SYNC_PIECE_SIZE ? size - at : SYNC_PIECE_SIZE;
}

void sync_digest_pieces(const uint8_t *block, size_t size,
                        uint8_t out[SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE])
{
    for (unsigned i = 0; i < SYNC_BLOCK_PIECES; i++)
        sync_digest(block + (size_t)i * SYNC_PIECE_SIZE, sync_piece_size(i, size),
                    out + (size_t)i * SYNC_DIGEST_SIZE);
}
