/* Pages of a divergence map's file. Pure codec.
 *
 *   offset  size
 *        0  4064  bits of MAP_PAGE_BLOCKS blocks, least significant first
 *     4064     8  nonce of the map
 *     4072     8  number of the page
 *     4080     8  XXH3-64 of the 4080 bytes before, seed 0
 *     4088     8  zero
 *
 * A page that is not right for whatever reason counts as one in which every block is marked: so a
 * page is overwritten in place, and tearing one costs a comparison of 2 GiB of disk at most. */
#ifndef KEMARI_DISK_MAP_PAGE_H
#define KEMARI_DISK_MAP_PAGE_H

#include "disk/block_map.h"

#define MAP_PAGE_SIZE   4096
#define MAP_PAGE_BYTES  4064 /* of bits */
#define MAP_PAGE_BLOCKS ((uint64_t)MAP_PAGE_BYTES * 8)

static inline uint64_t map_page_count(uint64_t blocks)
{
    return (blocks + MAP_PAGE_BLOCKS - 1) / MAP_PAGE_BLOCKS;
}

void map_page_encode(const struct block_map *map, uint64_t page, uint64_t nonce,
                     uint8_t out[MAP_PAGE_SIZE]);

/* Puts the page's bits into the map: false, and all of its blocks marked, when it is not right. */
bool map_page_decode(struct block_map *map, uint64_t page, uint64_t nonce,
                     const uint8_t bytes[MAP_PAGE_SIZE]);

/* Marks all blocks of a page. */
void map_page_mark(struct block_map *map, uint64_t page);

#endif
