#include "dirtylog/dirty_set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64

int dirty_set_init(struct dirty_set *set, uint64_t page_count)
{
    set->page_count = page_count;
    set->word_count = (page_count + WORD_BITS - 1) / WORD_BITS;
    set->words = calloc(set->word_count, sizeof(uint64_t));
    return set->words ? 0 : -ENOMEM;
}

void dirty_set_free(struct dirty_set *set)
{
    free(set->words);
    *set = (struct dirty_set){0};
}

void dirty_set_clear(struct dirty_set *set)
{
    memset(set->words, 0, set->word_count * sizeof(uint64_t));
}

void dirty_set_fill(struct dirty_set *set)
{
    memset(set->words, 0xff, set->word_count * sizeof(uint64_t));
    if (set->page_count % WORD_BITS)
        set->words[set->word_count - 1] = (1ull << (set->page_count % WORD_BITS)) - 1;
}

void dirty_set_add(struct dirty_set *set, uint64_t index)
{
    assert(index < set->page_count);
    set->words[index / WORD_BITS] |= 1ull << (index % WORD_BITS);
}

bool dirty_set_has(const struct dirty_set *set, uint64_t index)
{
    return index < set->page_count && (set->words[index / WORD_BITS] >> (index % WORD_BITS)) & 1;
}

void dirty_set_merge(struct dirty_set *set, const struct dirty_set *more)
{
    assert(set->page_count == more->page_count);
    for (size_t i = 0; i < set->word_count; i++)
        set->words[i] |= more->words[i];
}

uint64_t dirty_set_count(const struct dirty_set *set)
{
    uint64_t count = 0;
    for (size_t i = 0; i < set->word_count; i++)
        count += (uint64_t)__builtin_popcountll(set->words[i]);
    return count;
}

uint64_t dirty_set_next(const struct dirty_set *set, uint64_t from)
{
    if (from >= set->page_count)
        return set->page_count;
    size_t word = from / WORD_BITS;
    uint64_t bits = set->words[word] & (UINT64_MAX << (from % WORD_BITS));
    while (!bits) {
        if (++word == set->word_count)
            return set->page_count;
        bits = set->words[word];
    }
    return (uint64_t)word * WORD_BITS + (uint64_t)__builtin_ctzll(bits);
}
