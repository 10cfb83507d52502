/* Copying the pages of a parked guest, as fast as the memory allows: it is most of the pause when
 * many are dirty. */
#ifndef KEMARI_CHECKPOINT_PAGE_COPY_H
#define KEMARI_CHECKPOINT_PAGE_COPY_H

#include "base/types.h"

/* A copy that will be looked at soon, by one that fits into the cache with all of its epoch. */
void page_copy_near(uint8_t *out, const uint8_t *page);

/* A copy that would not stay in the cache anyway: written past it, so that what is there needn't be
 * read first nor driven out. Both page aligned. A run of these ends with page_copy_far_done(),
 * before which no other thread may read the copies. */
void page_copy_far(uint8_t *out, const uint8_t *page);
void page_copy_far_done(void);

#endif
