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
    set->summary_count = (set->word_count + WORD_BITS - 1) / WORD_BITS;
    set->words = calloc(set->word_count, sizeof(uint64_t));
    set->summary = calloc(set->summary_count, sizeof(uint64_t));
    if (set->words && set->summary)
        return 0;
    dirty_set_free(set);
    return -ENOMEM;
}

void dirty_set_free(struct dirty_set *set)
{
    free(set->words);
    free(set->summary);
    *set = (struct dirty_set){0};
}

/* The first word at or after `from` that is not 0, or word_count. */
static size_t next_word(const struct dirty_set *set, size_t from)
{
    size_t s = from / WORD_BITS;
    if (s >= set->summary_count)
        return set->word_count;
    uint64_t bits = set->summary[s] & (UINT64_MAX << (from % WORD_BITS));
    while (!bits) {
        if (++s == set->summary_count)
            return set->word_count;
        bits = set->summary[s];
    }
    return s * WORD_BITS + (size_t)__builtin_ctzll(bits);
}

static void or_word(struct dirty_set *set, size_t word, uint64_t bits)
{
    set->words[word] |= bits;
    set->summary[word / WORD_BITS] |= 1ull << (word % WORD_BITS);
}

void dirty_set_clear(struct dirty_set *set)
{
    for (size_t w = next_word(set, 0); w < set->word_count; w = next_word(set, w + 1))
        set->words[w] = 0;
    memset(set->summary, 0, set->summary_count * sizeof(uint64_t));
}

static void fill_bits(uint64_t *words, size_t word_count, uint64_t bits)
{
    memset(words, 0xff, word_count * sizeof(uint64_t));
    if (bits % WORD_BITS)
        words[word_count - 1] = (1ull << (bits % WORD_BITS)) - 1;
}

void dirty_set_fill(struct dirty_set *set)
{
    fill_bits(set->words, set->word_count, set->page_count);
    fill_bits(set->summary, set->summary_count, set->word_count);
}

void dirty_set_add(struct dirty_set *set, uint64_t index)
{
    assert(index < set->page_count);
    or_word(set, index / WORD_BITS, 1ull << (index % WORD_BITS));
}

bool dirty_set_has(const struct dirty_set *set, uint64_t index)
{
    return index < set->page_count && (set->words[index / WORD_BITS] >> (index % WORD_BITS)) & 1;
}

void dirty_set_or(struct dirty_set *set, size_t first, const uint64_t *bits, size_t count)
{
    assert(first <= set->word_count && count <= set->word_count - first);
    for (size_t i = 0; i < count; i++)
        if (bits[i])
            or_word(set, first + i, bits[i]);
}

void dirty_set_merge(struct dirty_set *set, const struct dirty_set *more)
{
    assert(set->page_count == more->page_count);
    for (size_t w = next_word(more, 0); w < more->word_count; w = next_word(more, w + 1))
        or_word(set, w, more->words[w]);
}

uint64_t dirty_set_count(const struct dirty_set *set)
{
    uint64_t count = 0;
    for (size_t w = next_word(set, 0); w < set->word_count; w = next_word(set, w + 1))
        count += (uint64_t)__builtin_popcountll(set->words[w]);
    return count;
}

uint64_t dirty_set_next(const struct dirty_set *set, uint64_t from)
{
    if (from >= set->page_count)
        return set->page_count;
    size_t word = from / WORD_BITS;
    uint64_t bits = set->words[word] & (UINT64_MAX << (from % WORD_BITS));
    if (!bits) {
        word = next_word(set, word + 1);
        if (word == set->word_count)
            return set->page_count;
        bits = set->words[word];
    }
    return (uint64_t)word * WORD_BITS + (uint64_t)__builtin_ctzll(bits);
}
