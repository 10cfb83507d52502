/* Walks guest memory where another process maps it, by several threads at once: what asking the
 * kernel costs grows with the memory, the guest stands still meanwhile, and so its processors are
 * free.
 *
 * The memory is dealt out in blocks, whose pages have words of a dirty set and of its summary to
 * themselves: threads add to one set without a lock. The thread that asks takes part, and needs no
 * other: one that wakes late finds nothing to do.
 *
 * Threads: sweep_run() by one at a time. */
#ifndef KEMARI_DIRTYLOG_SWEEP_H
#define KEMARI_DIRTYLOG_SWEEP_H

#include "base/error.h"
#include "base/types.h"
#include "dirtylog/dirty_set.h"
#include "dirtylog/extents.h"

#define SWEEP_WORKERS_MAX 4u

struct sweep;

/* A run of pages inside one block. */
struct sweep_piece {
    uint64_t start, size; /* in the process, bytes */
    uint64_t index;       /* of its first page in the dense index */
};

/* Handles a piece, on any of the threads: adds pages of this piece alone to `set`. `worker`, less
 * than sweep_workers(), says whose turn it is: buffers per worker need no lock. 0 or an error,
 * which ends the run. */
typedef int sweep_fn(void *context, unsigned worker, const struct sweep_piece *piece,
                     struct dirty_set *set, struct error *err);

/* The number of threads that pays for so much memory, the asking one among them. */
unsigned sweep_workers_for(uint64_t bytes);

/* Starts `workers` - 1 threads (1 to SWEEP_WORKERS_MAX in all). `extents` is copied. */
int sweep_create(const struct extents *extents, unsigned workers, struct sweep **out,
                 struct error *err);
void sweep_destroy(struct sweep **sweep);
unsigned sweep_workers(const struct sweep *sweep);

/* Calls `fn` for all of the memory. 0, or the first error; then some of it was not looked at. */
int sweep_run(struct sweep *sweep, sweep_fn *fn, void *context, struct dirty_set *set,
              struct error *err);

#endif
