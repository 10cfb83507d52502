#include "disk/block_map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t words_of(uint64_t count)
{
    return (size_t)((count + 63) / 64);
}

int block_map_init(struct block_map *map, uint64_t count)
{
    *map = (struct block_map){.count = count};
    map->words = calloc(words_of(count) + 1, sizeof(*map->words));
    return map->words ? 0 : -ENOMEM;
}

void block_map_free(struct block_map *map)
{
    free(map->words);
    *map = (struct block_map){0};
}

/* Bits of word `w` that stand for blocks of [first, end). */
static uint64_t mask_of(uint64_t w, uint64_t first, uint64_t end)
{
    uint64_t mask = UINT64_MAX;
    if (first > w * 64)
        mask &= UINT64_MAX << (first - w * 64);
    if (end < (w + 1) * 64)
        mask &= UINT64_MAX >> ((w + 1) * 64 - end);
    return mask;
}

static void check_range(const struct block_map *map, uint64_t first, uint64_t count)
{
    assert(first <= map->count && count <= map->count - first);
}

void block_map_set(struct block_map *map, uint64_t first, uint64_t count)
{
    check_range(map, first, count);
    for (uint64_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
        map->words[w] |= mask_of(w, first, first + count);
}

void block_map_clear(struct block_map *map, uint64_t first, uint64_t count)
{
    check_range(map, first, count);
    for (uint64_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
        map->words[w] &= ~mask_of(w, first, first + count);
}

bool block_map_has_all(const struct block_map *map, uint64_t first, uint64_t count)
{
    check_range(map, first, count);
    for (uint64_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
        if (~map->words[w] & mask_of(w, first, first + count))
            return false;
    return true;
}

void block_map_fill(struct block_map *map)
{
    block_map_set(map, 0, map->count);
}

void block_map_empty(struct block_map *map)
{
    memset(map->words, 0, words_of(map->count) * sizeof(*map->words));
}

void block_map_add(struct block_map *map, const struct block_map *other)
{
    assert(map->count == other->count);
    for (size_t w = 0; w < words_of(map->count); w++)
        map->words[w] |= other->words[w];
}

void block_map_copy(struct block_map *map, const struct block_map *other)
{
    assert(map->count == other->count);
    memcpy(map->words, other->words, words_of(map->count) * sizeof(*map->words));
}

uint64_t block_map_population(const struct block_map *map)
{
    uint64_t sum = 0;
    for (size_t w = 0; w < words_of(map->count); w++)
        sum += (uint64_t)__builtin_popcountll(map->words[w]);
    return sum;
}

uint64_t block_map_next(const struct block_map *map, uint64_t from)
{
    if (from >= map->count)
        return BLOCK_NONE;
    size_t w = (size_t)(from / 64);
    uint64_t bits = map->words[w] & UINT64_MAX << (from % 64);
    while (!bits) {
        if (++w >= words_of(map->count))
            return BLOCK_NONE;
        bits = map->words[w];
    }
    return (uint64_t)w * 64 + (uint64_t)__builtin_ctzll(bits);
}

void block_map_get_bytes(const struct block_map *map, uint64_t first, uint8_t *bytes, size_t size)
{
    assert(first % 8 == 0);
    for (size_t i = 0; i < size; i++) {
        const uint64_t block = first + 8 * i;
        bytes[i] = block < map->count ? (uint8_t)(map->words[block / 64] >> (block % 64)) : 0;
    }
}

void block_map_put_bytes(struct block_map *map, uint64_t first, const uint8_t *bytes, size_t size)
{
    assert(first % 8 == 0);
    for (size_t i = 0; i < size; i++) {
        const uint64_t block = first + 8 * i;
        if (block >= map->count)
            return;
        const uint64_t left = map->count - block;
        const uint8_t byte = (uint8_t)(left < 8 ? bytes[i] & ((1u << left) - 1) : bytes[i]);
        map->words[block / 64] &= ~((uint64_t)0xff << (block % 64));
        map->words[block / 64] |= (uint64_t)byte << (block % 64);
    }
}
