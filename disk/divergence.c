/* Marks and their upkeep. Whoever has to write the file takes a turn; those who come meanwhile
 * wait, and then find their marks written, or write all that gathered: group commit without a
 * thread. */
#include "disk/divergence.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "disk/divergence_internal.h"

uint64_t divergence_random(void)
{
    uint64_t n = 0;
    while (!n)
        if (getrandom(&n, sizeof(n), 0) != sizeof(n))
            abort();
    return n;
}

/* ---- writing the file ---- */

void divergence_take_turn(struct divergence *d)
{
    while (d->busy)
        pthread_cond_wait(&d->changed, &d->lock);
    d->busy = true;
}

void divergence_end_turn(struct divergence *d)
{
    d->busy = false;
    pthread_cond_broadcast(&d->changed);
}

static int put_pages(struct divergence *d, const struct block_map *map,
                     const struct block_map *changed)
{
    const struct divergence_io *io = &d->config.io;
    uint8_t bytes[MAP_PAGE_SIZE];
    for (uint64_t page = block_map_next(changed, 0); page != BLOCK_NONE;
         page = block_map_next(changed, page + 1)) {
        map_page_encode(map, page, d->lineage.nonce, bytes);
        const int rc = io->ops->write(io->context, DIVERGENCE_PAGES_AT + page * MAP_PAGE_SIZE,
                                      bytes, sizeof(bytes));
        if (rc < 0)
            return rc;
    }
    return io->ops->sync(io->context);
}

int divergence_put_header(struct divergence *d, const struct lineage *lineage)
{
    const struct divergence_io *io = &d->config.io;
    struct lineage next = *lineage;
    uint8_t bytes[LINEAGE_SIZE];
    next.sequence = d->lineage.sequence + 1;
    lineage_encode(&next, bytes);
    pthread_mutex_unlock(&d->lock);
    int rc =
        io->ops->write(io->context, next.sequence % 2 * DIVERGENCE_PAGE_SIZE, bytes, sizeof(bytes));
    if (rc == 0)
        rc = io->ops->sync(io->context);
    pthread_mutex_lock(&d->lock);
    if (rc == 0) {
        d->lineage = next;
        d->known = true;
    }
    return rc;
}

int divergence_give_up(struct divergence *d, int rc)
{
    if (!d->failed)
        snprintf(d->trouble, sizeof(d->trouble), "the map can't be written: %s", strerror(-rc));
    const int removed = d->config.io.ops->remove(d->config.io.context);
    d->failed = true;
    d->trusted = false;
    return removed < 0 ? rc : 0;
}

/* Which pages hold a block that is in one map and not in the other. */
static void compare_pages(const struct divergence *d, const struct block_map *a,
                          const struct block_map *b, struct block_map *changed)
{
    for (uint64_t w = 0; w < (d->exact.count + 63) / 64; w++) {
        if (a->words[w] == b->words[w])
            continue;
        const uint64_t last = w * 64 + 63 < d->exact.count ? w * 64 + 63 : d->exact.count - 1;
        block_map_set(changed, w * 64 / MAP_PAGE_BLOCKS, 1);
        block_map_set(changed, last / MAP_PAGE_BLOCKS, 1);
    }
}

int divergence_rewrite(struct divergence *d, struct block_map *next)
{
    struct block_map changed;
    int rc = block_map_init(&changed, d->pages);
    if (rc == 0) {
        compare_pages(d, next, &d->file, &changed);
        /* Nobody may rely on a mark that is on its way out of the file. */
        for (uint64_t w = 0; w < (d->exact.count + 63) / 64; w++)
            d->file.words[w] &= next->words[w];
        d->file_writes++;
        pthread_mutex_unlock(&d->lock);
        rc = put_pages(d, next, &changed);
        pthread_mutex_lock(&d->lock);
        block_map_free(&changed);
    }
    if (rc == 0)
        block_map_copy(&d->file, next);
    block_map_free(next);
    return rc;
}

/* All marks that count now. */
static int collect(const struct divergence *d, struct block_map *out)
{
    const int rc = block_map_init(out, d->exact.count);
    if (rc < 0)
        return rc;
    block_map_copy(out, &d->exact);
    if (d->round)
        block_map_add(out, &d->before);
    return 0;
}

/* ---- the write path ---- */

static void blocks_of(uint64_t offset, uint64_t size, uint64_t *first, uint64_t *count)
{
    *first = offset >> BLOCK_SHIFT;
    *count = size ? ((offset + size - 1) >> BLOCK_SHIFT) - *first + 1 : 0;
}

static bool is_covered(const struct divergence *d, uint64_t first, uint64_t count)
{
    return d->failed || (!d->own_pending && block_map_has_all(&d->file, first, count));
}

bool divergence_write_begin(struct divergence *divergence, uint64_t offset, uint64_t size)
{
    struct divergence *d = divergence;
    uint64_t first;
    uint64_t count;
    blocks_of(offset, size, &first, &count);
    pthread_mutex_lock(&d->lock);
    block_map_set(&d->exact, first, count);
    const bool covered = is_covered(d, first, count);
    pthread_mutex_unlock(&d->lock);
    return covered;
}

/* In one's turn: the extents around all exact marks. */
static int mark_extents(struct divergence *d)
{
    struct block_map next;
    int rc = block_map_init(&next, d->exact.count);
    if (rc < 0)
        return rc;
    block_map_copy(&next, &d->file);
    for (uint64_t b = block_map_next(&d->exact, 0); b != BLOCK_NONE;
         b = block_map_next(&d->exact, b + 1)) {
        const uint64_t first = b & ~(uint64_t)(DIVERGENCE_EXTENT_BLOCKS - 1);
        const uint64_t left = d->exact.count - first;
        if (!block_map_has(&next, b))
            block_map_set(&next, first,
                          left < DIVERGENCE_EXTENT_BLOCKS ? left : DIVERGENCE_EXTENT_BLOCKS);
    }
    return divergence_rewrite(d, &next);
}

int divergence_wait(struct divergence *divergence, uint64_t offset, uint64_t size)
{
    struct divergence *d = divergence;
    uint64_t first;
    uint64_t count;
    int rc = 0;
    blocks_of(offset, size, &first, &count);
    pthread_mutex_lock(&d->lock);
    while (rc == 0 && !is_covered(d, first, count)) {
        divergence_take_turn(d);
        if (!is_covered(d, first, count)) {
            rc = d->own_pending ? divergence_begin_generation(d) : 0;
            if (rc == 0)
                rc = mark_extents(d);
            if (rc < 0)
                rc = divergence_give_up(d, rc);
        }
        divergence_end_turn(d);
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

/* ---- upkeep ---- */

int divergence_tidy(struct divergence *divergence)
{
    struct divergence *d = divergence;
    struct block_map next;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    int rc = d->failed || !d->known ? 0 : collect(d, &next);
    if (rc == 0 && !d->failed && d->known)
        rc = divergence_rewrite(d, &next);
    if (rc < 0)
        rc = divergence_give_up(d, rc);
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

uint64_t divergence_round_begin(struct divergence *divergence)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    const uint64_t marked = d->failed || !d->known ? 0 : block_map_population(&d->exact);
    if (marked && !d->round) {
        block_map_copy(&d->before, &d->exact);
        block_map_empty(&d->exact);
        d->round = true;
    }
    pthread_mutex_unlock(&d->lock);
    return marked;
}

void divergence_round_drop(struct divergence *divergence)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    if (d->round)
        block_map_add(&d->exact, &d->before);
    d->round = false;
    pthread_mutex_unlock(&d->lock);
}

/* The point first: from then on an older copy of the map is known for what it is. */
int divergence_round_end(struct divergence *divergence, uint64_t point, struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    if (!d->round || d->failed) {
        divergence_end_turn(d);
        pthread_mutex_unlock(&d->lock);
        return 0;
    }
    struct lineage next = d->lineage;
    next.point = point;
    next.next_point = 0;
    int rc = divergence_put_header(d, &next);
    struct block_map left;
    if (rc == 0)
        rc = block_map_init(&left, d->exact.count);
    if (rc == 0) {
        d->round = false;
        block_map_copy(&left, &d->exact);
        rc = divergence_rewrite(d, &left);
    }
    if (rc < 0) {
        error_set(err, rc, "divergence map of disk %u: can't be written: %s", d->config.index,
                  strerror(-rc));
        rc = divergence_give_up(d, rc);
    }
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

void divergence_marks(struct divergence *divergence, struct block_map *out)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    block_map_copy(out, &d->exact);
    if (d->round)
        block_map_add(out, &d->before);
    pthread_mutex_unlock(&d->lock);
}

void divergence_unmark(struct divergence *divergence, uint64_t first, uint64_t count)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    if (d->round)
        block_map_clear(&d->before, first, count);
    pthread_mutex_unlock(&d->lock);
}

/* ---- life ---- */

int divergence_open(const struct divergence_config *config, struct divergence **out,
                    struct error *err)
{
    *out = NULL;
    struct divergence *d = calloc(1, sizeof(*d));
    if (!d) {
        config->io.ops->close(config->io.context);
        return error_set(err, -ENOMEM, "divergence map: out of memory");
    }
    d->config = *config;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    const uint64_t blocks = block_count_of(config->size);
    d->pages = map_page_count(blocks);
    int rc = 0;
    if (config->size == 0 || config->size > BLOCK_DISK_MAX)
        rc = error_set(err, -EFBIG, "disk %u: %llu bytes are more than a divergence map covers",
                       config->index, (unsigned long long)config->size);
    if (rc == 0 && (block_map_init(&d->exact, blocks) < 0 ||
                    block_map_init(&d->before, blocks) < 0 || block_map_init(&d->file, blocks) < 0))
        rc = error_set(err, -ENOMEM, "divergence map: out of memory");
    if (rc == 0)
        rc = divergence_load(d, err);
    const struct divergence_io *io = &d->config.io;
    if (rc == 0)
        rc = io->ops->reserve(io->context, DIVERGENCE_PAGES_AT + d->pages * MAP_PAGE_SIZE);
    if (rc < 0 && !(err && err->code))
        error_set(err, rc, "divergence map of disk %u: no room for it: %s", config->index,
                  strerror(-rc));
    if (rc == 0)
        rc = divergence_begin(d, err);
    if (rc < 0)
        divergence_close(&d, NULL);
    *out = d;
    return rc;
}

void divergence_close(struct divergence **divergence, const struct image_stamp *stamp)
{
    struct divergence *d = *divergence;
    if (!d)
        return;
    if (stamp && d->known && !d->failed && divergence_tidy(d) == 0 && !d->failed) {
        struct lineage last = d->lineage;
        last.stamp = *stamp;
        last.stamp.closed = true;
        pthread_mutex_lock(&d->lock);
        divergence_put_header(d, &last);
        pthread_mutex_unlock(&d->lock);
    }
    if (d->blank && !d->known && !d->failed)
        d->config.io.ops->remove(d->config.io.context);
    d->config.io.ops->close(d->config.io.context);
    block_map_free(&d->exact);
    block_map_free(&d->before);
    block_map_free(&d->file);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *divergence = NULL;
}

static void fill_status(const struct divergence *d, struct divergence_status *out)
{
    *out = (struct divergence_status){.known = d->known,
                                      .trusted = d->trusted,
                                      .failed = d->failed,
                                      .lineage = d->lineage,
                                      .marked = block_map_population(&d->exact),
                                      .blocks = d->exact.count,
                                      .file_writes = d->file_writes};
    if (d->round)
        out->marked += block_map_population(&d->before);
    snprintf(out->trouble, sizeof(out->trouble), "%s", d->trouble);
}

void divergence_snapshot(struct divergence *divergence, struct divergence_status *out)
{
    pthread_mutex_lock(&divergence->lock);
    fill_status(divergence, out);
    pthread_mutex_unlock(&divergence->lock);
}

struct pairing_side divergence_side(struct divergence *divergence, struct lineage *lineage)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    *lineage = d->lineage;
    const struct pairing_side side = {.lineage = d->known ? lineage : NULL,
                                      .trusted = d->trusted && !d->failed};
    pthread_mutex_unlock(&d->lock);
    return side;
}
