/* Whose image it is: what the header says, and when it changes. Each change is durable when its
 * function returns 0; in a map that can't be written it is kept in memory, as everything will be
 * compared anyway. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk/divergence_internal.h"

static int report(const struct divergence *d, int rc, struct error *err)
{
    return rc == 0 ? 0
                   : error_set(err, rc, "divergence map of disk %u: can't be written: %s",
                               d->config.index, strerror(-rc));
}

/* In one's turn. */
static int change(struct divergence *d, const struct lineage *next)
{
    int rc = d->failed ? 0 : divergence_put_header(d, next);
    if (rc < 0)
        rc = divergence_give_up(d, rc);
    if (rc == 0 && d->failed) {
        d->lineage = *next;
        d->known = true;
    }
    return rc;
}

/* The lineage of an image of which nothing is known. */
static struct lineage begun(const struct divergence *d)
{
    struct lineage next = d->lineage;
    snprintf(next.vm, sizeof(next.vm), "%s", d->config.vm);
    next.index = d->config.index;
    next.size = d->config.size;
    for (size_t i = 0; i < LINEAGE_DISK_SIZE; i += sizeof(uint64_t)) {
        const uint64_t n = divergence_random();
        memcpy(next.disk + i, &n, sizeof(n));
    }
    next.point = divergence_random();
    next.next_point = 0;
    return next;
}

int divergence_begin(struct divergence *d, struct error *err)
{
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    int rc = 0;
    if (d->known) {
        struct lineage next = d->lineage;
        /* What made the map doubtful may be gone at the next start; the old point must be, too. */
        if (!d->trusted) {
            next.point = divergence_random();
            next.next_point = 0;
        }
        rc = change(d, &next);
    } else {
        d->lineage.nonce = divergence_random();
    }
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}

int divergence_begin_generation(struct divergence *d)
{
    struct lineage next = d->known ? d->lineage : begun(d);
    lineage_begin(&next, divergence_random());
    next.state = IMAGE_OWNER;
    next.term = d->own_term;
    const bool first = !d->known;
    struct block_map pages;
    int rc = change(d, &next);
    d->own_pending = d->own_pending && rc < 0;
    if (rc < 0 || !first || d->failed)
        return rc;
    rc = block_map_init(&pages, d->exact.count);
    if (rc < 0)
        return rc;
    return divergence_rewrite(d, &pages); /* nothing is marked yet: that follows */
}

void divergence_own(struct divergence *divergence, term_t term)
{
    pthread_mutex_lock(&divergence->lock);
    divergence->own_pending = true;
    divergence->own_term = term;
    pthread_mutex_unlock(&divergence->lock);
}

int divergence_outdate(struct divergence *divergence, term_t term, struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    int rc = 0;
    d->own_pending = false;
    if (d->known && (d->lineage.state == IMAGE_OWNER || d->lineage.state == IMAGE_FOLLOWER)) {
        struct lineage next = d->lineage;
        next.state = IMAGE_OUTDATED;
        next.term = term;
        rc = change(d, &next);
    }
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}

/* The pages first: with the old point they mark more than needed, with the new one all that is. */
static int put_source(struct divergence *d, const struct block_map *blocks)
{
    struct lineage next = d->lineage;
    struct block_map all;
    if (blocks)
        block_map_add(&d->exact, blocks);
    else
        block_map_fill(&d->exact);
    int rc = d->failed ? 0 : block_map_init(&all, d->exact.count);
    if (rc == 0 && !d->failed) {
        block_map_copy(&all, &d->exact);
        block_map_add(&all, &d->file);
        rc = divergence_rewrite(d, &all);
    }
    if (rc < 0)
        rc = divergence_give_up(d, rc);
    if (rc == 0 && !blocks) {
        next.point = divergence_random();
        next.next_point = 0;
        rc = change(d, &next);
    }
    return rc;
}

int divergence_source(struct divergence *divergence, const struct block_map *blocks,
                      struct lineage *out, struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    int rc = d->own_pending || !d->known ? divergence_begin_generation(d) : 0;
    if (rc == 0)
        rc = put_source(d, blocks);
    if (rc == 0 && !d->failed)
        d->trusted = true;
    *out = d->lineage;
    out->next_point = divergence_random();
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}

static int put_target(struct divergence *d, const struct lineage *source)
{
    struct lineage next = d->known ? d->lineage : begun(d);
    memcpy(next.disk, source->disk, sizeof(next.disk));
    memcpy(next.generations, source->generations, sizeof(next.generations));
    next.state = IMAGE_SYNCING;
    next.term = source->term;
    next.point = source->point;
    next.next_point = source->next_point;
    const int rc = change(d, &next);
    struct block_map none;
    if (rc < 0 || d->failed)
        return rc;
    block_map_empty(&d->exact);
    d->round = false;
    d->trusted = true;
    const int written = block_map_init(&none, d->exact.count);
    return written < 0 ? written : divergence_rewrite(d, &none);
}

int divergence_target(struct divergence *divergence, const struct lineage *source,
                      struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    d->own_pending = false;
    int rc = put_target(d, source);
    if (rc < 0)
        rc = divergence_give_up(d, rc);
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}

int divergence_in_step(struct divergence *divergence, term_t term, struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    struct lineage next = d->lineage;
    next.state = IMAGE_FOLLOWER;
    next.term = term;
    const int rc = d->known ? change(d, &next) : -ENODATA;
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}

int divergence_points(struct divergence *divergence, uint64_t current, uint64_t next_point,
                      struct error *err)
{
    struct divergence *d = divergence;
    pthread_mutex_lock(&d->lock);
    divergence_take_turn(d);
    struct lineage next = d->lineage;
    next.point = current;
    next.next_point = next_point;
    const int rc = d->known ? change(d, &next) : -ENODATA;
    divergence_end_turn(d);
    pthread_mutex_unlock(&d->lock);
    return report(d, rc, err);
}
