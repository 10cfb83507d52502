/* A set of blocks of a disk, one bit per block. Pure; one owner at a time. */
#ifndef KEMARI_DISK_BLOCK_MAP_H
#define KEMARI_DISK_BLOCK_MAP_H

#include "base/types.h"

#define BLOCK_SHIFT 16
#define BLOCK_SIZE  ((uint64_t)1 << BLOCK_SHIFT) /* bytes of disk that one bit stands for */
#define BLOCK_NONE  UINT64_MAX

/* Largest disk: its map takes 256 MiB, and block numbers fit into 31 bits. */
#define BLOCK_DISK_MAX ((uint64_t)1 << 47)

struct block_map {
    uint64_t *words; /* owned; bits beyond `count` are 0 */
    uint64_t count;  /* blocks */
};

static inline uint64_t block_count_of(uint64_t disk_size)
{
    return (disk_size + BLOCK_SIZE - 1) >> BLOCK_SHIFT;
}

/* Empty: 0 or -ENOMEM. */
int block_map_init(struct block_map *map, uint64_t count);
void block_map_free(struct block_map *map);

/* The blocks [first, first + count) must lie in the map (asserted). */
void block_map_set(struct block_map *map, uint64_t first, uint64_t count);
void block_map_clear(struct block_map *map, uint64_t first, uint64_t count);
bool block_map_has_all(const struct block_map *map, uint64_t first, uint64_t count);

static inline bool block_map_has(const struct block_map *map, uint64_t block)
{
    return map->words[block / 64] >> (block % 64) & 1;
}

void block_map_fill(struct block_map *map);
void block_map_empty(struct block_map *map);
/* Adds, or takes over, the blocks of a map of equal size. */
void block_map_add(struct block_map *map, const struct block_map *other);
void block_map_copy(struct block_map *map, const struct block_map *other);

uint64_t block_map_population(const struct block_map *map);
/* The first block of the set that is not below `from`, or BLOCK_NONE. */
uint64_t block_map_next(const struct block_map *map, uint64_t from);

/* The bits as bytes, least significant first: `count` blocks from `first` (both multiples of 8, or
 * `count` up to the end), (count + 7) / 8 bytes. Getting yields 0 beyond the end; putting replaces,
 * and ignores what lies beyond. */
void block_map_get_bytes(const struct block_map *map, uint64_t first, uint8_t *bytes, size_t size);
void block_map_put_bytes(struct block_map *map, uint64_t first, const uint8_t *bytes, size_t size);

#endif
