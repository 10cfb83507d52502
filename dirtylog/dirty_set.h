/* A set of guest pages, as a bitmap over the dense page index of gmem/gmem.h.
 *
 * A few dirty pages of a large guest are the rule, and every function below is called inside the
 * pause: a second bitmap with one bit per word says which words are not 0, and all but
 * dirty_set_or() look at those only.
 *
 * Not thread safe. */
#ifndef KEMARI_DIRTYLOG_DIRTY_SET_H
#define KEMARI_DIRTYLOG_DIRTY_SET_H

#include "base/types.h"

struct dirty_set {
    uint64_t *words;   /* word_count of them; bits past page_count stay clear */
    uint64_t *summary; /* summary_count of them; bit i is set exactly when words[i] is not 0 */
    size_t word_count;
    size_t summary_count;
    uint64_t page_count; /* size of the universe, pages */
};

/* 0 or -ENOMEM. */
int dirty_set_init(struct dirty_set *set, uint64_t page_count);
void dirty_set_free(struct dirty_set *set);

void dirty_set_clear(struct dirty_set *set);
void dirty_set_fill(struct dirty_set *set);
void dirty_set_add(struct dirty_set *set, uint64_t index);
bool dirty_set_has(const struct dirty_set *set, uint64_t index);
/* Adds what is set in `bits`, `count` words of a bitmap over the same index, from word `first` on.
 */
void dirty_set_or(struct dirty_set *set, size_t first, const uint64_t *bits, size_t count);
void dirty_set_merge(struct dirty_set *set, const struct dirty_set *more);
uint64_t dirty_set_count(const struct dirty_set *set); /* pages */

/* The first member at or after `from`, or page_count when there is none. */
uint64_t dirty_set_next(const struct dirty_set *set, uint64_t from);

#endif
