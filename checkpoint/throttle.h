/* How much of its time the guest may run, so that what it dirties fits into the staging memory: the
 * pure controller. It is told what was measured and answers with a share of 0 to 1; who asks turns
 * that into short parks (engine_pace.c).
 *
 *   0 ........ goal ........ brim ............ capacity      dirty pages of the gathering epoch
 *   planned    | ever less    | stopped         | overflow: promotability is lost
 *
 * Below `goal` the share is a plan: the pages that may still be dirtied until `goal`, spread over
 * the time that the epochs in flight will still take (so long the next cut must wait), at the speed
 * at which the guest dirties when it runs. A guest that follows the plan arrives at `goal` just
 * when the next epoch can be cut; one that doesn't gets a new plan at every look. The plan of an
 * epoch of `goal` pages is drain/rate, so this settles where the guest dirties as fast as link and
 * standby take it.
 *
 * Between `goal` and `brim` the share falls to 0. The rest up to `capacity` is for what happens
 * between two looks. */
#ifndef KEMARI_CHECKPOINT_THROTTLE_H
#define KEMARI_CHECKPOINT_THROTTLE_H

#include "base/types.h"

/* Sizes in pages. */
struct throttle_levels {
    uint64_t goal;     /* not 0 */
    uint64_t brim;     /* > goal */
    uint64_t capacity; /* > brim */
};

/* What an epoch may carry at most, and the dirty budget: from them the levels, so that an epoch of
 * `brim` pages fits beside one in flight, and the stop of a full window at twice the budget
 * (policy.c) is beyond it. `capacity` is at least 8. */
struct throttle_levels throttle_levels(uint64_t capacity, uint64_t dirty_budget);

struct throttle {
    nsec_t at;     /* of the last look; 0: none yet */
    double rate;   /* pages dirtied in a second of running; quick to rise, slow to fall */
    double share;  /* of its time that the guest may run */
    uint64_t seen; /* pages and running time that no estimate has been made of yet */
    nsec_t ran;
};

void throttle_init(struct throttle *throttle);

struct throttle_look {
    nsec_t now;
    nsec_t ran;       /* since the last look the guest ran for so long */
    uint64_t fresh;   /* and dirtied so many pages that were clean before */
    uint64_t dirty;   /* pages in the gathering epoch */
    uint64_t backlog; /* pages cut and on their way */
    double drain;     /* pages a second that link and standby take; 0: not known yet */
    struct throttle_levels levels;
};

/* Takes a measurement in; throttle->share is what follows from it. */
void throttle_look(struct throttle *throttle, const struct throttle_look *look);

/* How soon the dirty log must be read again, ns. */
nsec_t throttle_next_look(const struct throttle *throttle, uint64_t dirty, uint64_t capacity);

/* For how long a throttled guest should be let run at a time, ns. */
nsec_t throttle_slice(const struct throttle_levels *levels);

#endif
