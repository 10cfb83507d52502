/* Staging memory with a cap, in chunks of 1 MiB: page copies waiting to be sent on a primary, and
 * frames waiting to be applied on a secondary.
 *
 * All of it is touched at creation, so that no host page fault falls into a pause, in huge pages if
 * the host has them, and chunks are reused last-in first-out, so that a small dirty set stays in
 * cache.
 *
 * Thread safe. */
#ifndef KEMARI_CHECKPOINT_SLAB_H
#define KEMARI_CHECKPOINT_SLAB_H

#include "base/error.h"
#include "base/types.h"

#define SLAB_CHUNK_SIZE ((size_t)1 << 20)
#define SLAB_SIZE_MIN   (8 * SLAB_CHUNK_SIZE)
#define SLAB_SIZE_MAX   ((size_t)64 << 30)

struct slab;

/* `size` bytes, rounded down to whole chunks. */
int slab_create(size_t size, struct slab **out, struct error *err);
void slab_destroy(struct slab **slab);

/* A chunk, page aligned, or NULL when the cap is reached. */
uint8_t *slab_take(struct slab *slab);
/* As slab_take(), but waits for one; NULL only after slab_cancel(). */
uint8_t *slab_take_wait(struct slab *slab);
void slab_give(struct slab *slab, uint8_t *chunk);

/* Wakes all waiters with NULL, now and until slab_rearm(). */
void slab_cancel(struct slab *slab);
void slab_rearm(struct slab *slab);

/* All chunks lie in the slab_chunk_count() * SLAB_CHUNK_SIZE bytes from here. */
uint8_t *slab_memory(const struct slab *slab);
size_t slab_chunk_count(const struct slab *slab);
size_t slab_free_count(struct slab *slab);

#endif
