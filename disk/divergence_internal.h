/* Inside of the divergence map: divergence.c (marks, upkeep), divergence_load.c (what is found at
 * the start), divergence_state.c (whose image it is). */
#ifndef KEMARI_DISK_DIVERGENCE_INTERNAL_H
#define KEMARI_DISK_DIVERGENCE_INTERNAL_H

#include <pthread.h>

#include "disk/divergence.h"
#include "disk/map_page.h"

#define DIVERGENCE_PAGE_SIZE 4096
#define DIVERGENCE_PAGES_AT  (2 * DIVERGENCE_PAGE_SIZE) /* behind the two headers */

struct divergence {
    /* set at creation */
    struct divergence_config config;
    uint64_t pages;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    bool busy; /* somebody writes the file, without the lock */
    bool known;
    bool blank; /* there was nothing in the file */
    bool trusted;
    bool failed;
    bool round;       /* `before` counts */
    bool own_pending; /* a generation begins with the next write */
    term_t own_term;
    struct lineage lineage;
    struct block_map exact;  /* since the last round began, or at all */
    struct block_map before; /* of the running round: what it may unmark */
    struct block_map file;   /* what the file says at least: never fewer than it does */
    uint64_t file_writes;
    char trouble[ERROR_TEXT_MAX];
};

/* With the lock held, by whoever is to write the file: waits for its turn, and ends it. */
void divergence_take_turn(struct divergence *d);
void divergence_end_turn(struct divergence *d);

/* In one's turn, with the lock held, given up meanwhile. 0 or -errno, which is
 * divergence_give_up()'s.
 *
 * Makes the file's header that lineage, with the next sequence, and `d->lineage` with it. */
int divergence_put_header(struct divergence *d, const struct lineage *lineage);
/* Makes the file's pages say `next`, which becomes `d->file`. Takes over `next`. */
int divergence_rewrite(struct divergence *d, struct block_map *next);
/* The file could not be written. Removes it; 0 when what is asked for may be taken as done, since
 * everything will be compared; else -errno. */
int divergence_give_up(struct divergence *d, int rc);

/* divergence_load.c */
int divergence_load(struct divergence *d, struct error *err);

/* divergence_state.c */
/* Records that the map is in use, with a new point if it isn't trusted. */
int divergence_begin(struct divergence *d, struct error *err);
/* In one's turn, with the lock held: the generation that was waiting for a write begins, in a new
 * map if there was none. */
int divergence_begin_generation(struct divergence *d);

#endif
