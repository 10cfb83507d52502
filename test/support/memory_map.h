/* A divergence map whose file is memory, and outlives it: LINKS disk. */
#ifndef KEMARI_TEST_SUPPORT_MEMORY_MAP_H
#define KEMARI_TEST_SUPPORT_MEMORY_MAP_H

#include "disk/divergence.h"

#define MEMORY_MAP_SIZE (64u << 10)

struct memory_map {
    uint8_t bytes[MEMORY_MAP_SIZE]; /* all zero: a new file */
    unsigned syncs;
};

struct divergence_io memory_map_io(struct memory_map *map);

/* Aborts when it can't be opened. */
struct divergence *memory_map_open(struct memory_map *map, unsigned index, uint64_t disk_size);

#endif
