#include "disk/map_page.h"

#include <string.h>
#include <xxhash.h>

#include "base/wire.h"

#define CHECKED (MAP_PAGE_BYTES + 16)

void map_page_mark(struct block_map *map, uint64_t page)
{
    const uint64_t first = page * MAP_PAGE_BLOCKS;
    const uint64_t left = map->count - first;
    block_map_set(map, first, left < MAP_PAGE_BLOCKS ? left : MAP_PAGE_BLOCKS);
}

void map_page_encode(const struct block_map *map, uint64_t page, uint64_t nonce,
                     uint8_t out[MAP_PAGE_SIZE])
{
    memset(out, 0, MAP_PAGE_SIZE);
    block_map_get_bytes(map, page * MAP_PAGE_BLOCKS, out, MAP_PAGE_BYTES);
    struct wire_writer w = {.bytes = out, .size = MAP_PAGE_SIZE, .used = MAP_PAGE_BYTES};
    wire_put_u64(&w, nonce);
    wire_put_u64(&w, page);
    wire_put_u64(&w, XXH3_64bits(out, CHECKED));
}

bool map_page_decode(struct block_map *map, uint64_t page, uint64_t nonce,
                     const uint8_t bytes[MAP_PAGE_SIZE])
{
    struct wire_reader r = {.bytes = bytes, .size = MAP_PAGE_SIZE, .used = MAP_PAGE_BYTES};
    const bool ours = wire_get_u64(&r) == nonce;
    const bool right_page = wire_get_u64(&r) == page;
    const bool whole = wire_get_u64(&r) == XXH3_64bits(bytes, CHECKED) && wire_get_u64(&r) == 0;
    if (ours && right_page && whole)
        block_map_put_bytes(map, page * MAP_PAGE_BLOCKS, bytes, MAP_PAGE_BYTES);
    else
        map_page_mark(map, page);
    return ours && right_page && whole;
}
