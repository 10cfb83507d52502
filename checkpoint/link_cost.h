/* What a byte costs on the link, learnt from what was sent: the measure that an encoding has to
 * beat.
 *
 * Two views of one link. A send shows what its bytes cost at this end, and if it blocks the rate at
 * which the link takes them; a small epoch disappears in a socket buffer and shows nothing of that,
 * so the time to its acknowledgement counts too, less what an acknowledgement takes when hardly
 * anything was sent. The dearer view is right.
 *
 * Pure. */
#ifndef KEMARI_CHECKPOINT_LINK_COST_H
#define KEMARI_CHECKPOINT_LINK_COST_H

#include "base/types.h"

struct link_cost {
    double sending; /* ns per byte; 0: nothing known */
    double acked;   /* the same */
    double idle;    /* ns to the acknowledgement of a small epoch; 0: nothing known */
};

/* A frame of `bytes` left in `took`. */
void link_cost_sent(struct link_cost *cost, uint64_t bytes, nsec_t took);

/* An epoch of `bytes` was acknowledged `took` after its first byte was sent, the time that encoding
 * it took not counted. */
void link_cost_acknowledged(struct link_cost *cost, uint64_t bytes, nsec_t took);

/* ns per byte, > 0; of a gigabit link as long as nothing is known. */
double link_cost_per_byte(const struct link_cost *cost);

#endif
