#include "checkpoint/slab.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Fewer misses of the TLB while copying, and a faster end of the process. */
#define HUGE_PAGE_SIZE ((size_t)2 << 20)

struct slab {
    uint8_t *memory; /* set at creation */
    size_t chunks;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t given;
    uint8_t **free; /* stack */
    size_t free_count;
    bool cancelled;
};

/* `size` bytes on a boundary of huge pages, all of them touched; NULL when there is not so much. */
static uint8_t *map_touched(size_t size)
{
    uint8_t *area = mmap(NULL, size + HUGE_PAGE_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)area % HUGE_PAGE_SIZE;
    if (before)
        munmap(area, before);
    munmap(area + before + size, HUGE_PAGE_SIZE - before);
    area += before;
    /* A kernel without huge pages refuses; ordinary ones do, too. */
    madvise(area, size, MADV_HUGEPAGE);
    if (madvise(area, size, MADV_POPULATE_WRITE) == 0)
        return area;
    const bool unknown = errno == EINVAL; /* before Linux 5.14 */
    for (size_t at = 0; unknown && at < size; at += PAGE_SIZE)
        ((volatile uint8_t *)area)[at] = 0;
    if (unknown)
        return area;
    munmap(area, size);
    return NULL;
}

int slab_create(size_t size, struct slab **out, struct error *err)
{
    *out = NULL;
    if (size < SLAB_SIZE_MIN || size > SLAB_SIZE_MAX)
        return error_set(err, -EINVAL, "staging memory of %zu bytes: must be %zu MiB to %zu MiB",
                         size, SLAB_SIZE_MIN >> 20, SLAB_SIZE_MAX >> 20);
    struct slab *slab = calloc(1, sizeof(*slab));
    if (!slab)
        return error_set(err, -ENOMEM, "staging memory: out of memory");
    slab->chunks = size / SLAB_CHUNK_SIZE;
    slab->free = calloc(slab->chunks, sizeof(*slab->free));
    slab->memory = map_touched(slab->chunks * SLAB_CHUNK_SIZE);
    pthread_mutex_init(&slab->lock, NULL);
    pthread_cond_init(&slab->given, NULL);
    if (!slab->memory || !slab->free) {
        slab_destroy(&slab);
        return error_set(err, -ENOMEM, "staging memory: can't allocate %zu MiB", size >> 20);
    }
    /* The stack's top is the lowest address. */
    for (size_t i = 0; i < slab->chunks; i++)
        slab->free[i] = slab->memory + (slab->chunks - 1 - i) * SLAB_CHUNK_SIZE;
    slab->free_count = slab->chunks;
    *out = slab;
    return 0;
}

void slab_destroy(struct slab **slab)
{
    struct slab *s = *slab;
    if (!s)
        return;
    if (s->memory)
        munmap(s->memory, s->chunks * SLAB_CHUNK_SIZE);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->given);
    free(s->free);
    free(s);
    *slab = NULL;
}

uint8_t *slab_take(struct slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    uint8_t *chunk = slab->free_count ? slab->free[--slab->free_count] : NULL;
    pthread_mutex_unlock(&slab->lock);
    return chunk;
}

uint8_t *slab_take_wait(struct slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    while (!slab->free_count && !slab->cancelled)
        pthread_cond_wait(&slab->given, &slab->lock);
    uint8_t *chunk = slab->cancelled ? NULL : slab->free[--slab->free_count];
    pthread_mutex_unlock(&slab->lock);
    return chunk;
}

void slab_give(struct slab *slab, uint8_t *chunk)
{
    pthread_mutex_lock(&slab->lock);
    assert(slab->free_count < slab->chunks);
    slab->free[slab->free_count++] = chunk;
    pthread_cond_signal(&slab->given);
    pthread_mutex_unlock(&slab->lock);
}

void slab_cancel(struct slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    slab->cancelled = true;
    pthread_cond_broadcast(&slab->given);
    pthread_mutex_unlock(&slab->lock);
}

void slab_rearm(struct slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    slab->cancelled = false;
    pthread_mutex_unlock(&slab->lock);
}

uint8_t *slab_memory(const struct slab *slab)
{
    return slab->memory;
}

size_t slab_chunk_count(const struct slab *slab)
{
    return slab->chunks;
}

size_t slab_free_count(struct slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    const size_t count = slab->free_count;
    pthread_mutex_unlock(&slab->lock);
    return count;
}
