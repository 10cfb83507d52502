#include "checkpoint/throttle.h"

/* A guest of which nothing is known is thought to dirty up to so many pages a second (2 GB). */
#define RATE_PRIOR 500e3
/* Estimates are made of at least so much running time. */
#define RAN_MIN USEC(100)
/* Running time in which the estimated rate of a guest that became calm falls by half. */
#define RATE_MEMORY MSEC(200)
/* Time in which the share goes half of the way to what is planned. */
#define SHARE_FALL MSEC(2)
#define SHARE_RISE MSEC(30)
/* Plans for less time are noise: the epoch in flight is as good as there. */
#define HORIZON MSEC(5)
/* Less than this a guest runs only beyond the goal. */
#define SHARE_MIN (1.0 / 128)

/* Parking costs some 50 us. */
#define SLICE_MIN USEC(200)
#define SLICE_MAX MSEC(1)

#define LOOK_MIN  USEC(200)
#define LOOK_MAX  MSEC(10)

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

struct throttle_levels throttle_levels(uint64_t capacity, uint64_t dirty_budget)
{
    struct throttle_levels levels = {.capacity = capacity, .brim = capacity / 2};
    if (2 * dirty_budget < levels.brim)
        levels.brim = dirty_budget > 2 ? 2 * dirty_budget : 4;
    levels.goal = levels.brim - levels.brim / 4;
    return levels;
}

void throttle_init(struct throttle *throttle)
{
    *throttle = (struct throttle){.share = 1};
}

static void learn_rate(struct throttle *t, const struct throttle_look *look)
{
    t->seen += look->fresh;
    t->ran += look->ran;
    if (t->ran < RAN_MIN)
        return;
    const double rate = (double)t->seen * 1e9 / (double)t->ran;
    const double weight = rate > t->rate ? 0.5 : (double)t->ran / (double)(t->ran + RATE_MEMORY);
    t->rate += (rate - t->rate) * weight;
    t->seen = 0;
    t->ran = 0;
}

/* Time until the next cut can be made, seconds, as far as the epochs in flight are concerned. */
static double time_left(const struct throttle_look *look)
{
    return look->drain > 0 ? (double)look->backlog / look->drain : 0;
}

static double plan(const struct throttle *t, const struct throttle_look *look)
{
    const struct throttle_levels *l = &look->levels;
    if (look->dirty >= l->brim)
        return 0;
    if (look->dirty >= l->goal)
        return smaller(t->share, (double)(l->brim - look->dirty) / (double)(l->brim - l->goal));
    const double horizon = (double)HORIZON / 1e9;
    const double left = time_left(look);
    const double pages = t->rate * larger(left, horizon);
    const double share = pages > 0 ? (double)(l->goal - look->dirty) / pages : 1;
    /* Near the end of the time both it and the pages left go to zero: stay. */
    if (left < horizon && share < t->share)
        return t->share;
    return larger(smaller(share, 1), SHARE_MIN);
}

void throttle_look(struct throttle *throttle, const struct throttle_look *look)
{
    const nsec_t passed = throttle->at ? look->now - throttle->at : 0;
    throttle->at = look->now;
    learn_rate(throttle, look);
    const double wanted = plan(throttle, look);
    if (look->dirty >= look->levels.goal) {
        throttle->share = wanted;
        return;
    }
    const nsec_t half = wanted < throttle->share ? SHARE_FALL : SHARE_RISE;
    const double weight = (double)passed / (double)(passed + half);
    throttle->share += (wanted - throttle->share) * weight;
    /* Or it would never quite get there. */
    if (wanted >= 1 && throttle->share > 0.995)
        throttle->share = 1;
}

/* Worst case: this guest, or an unknown one, begins to run wild right now. */
static double wild_rate(const struct throttle *throttle)
{
    return larger(throttle->rate, RATE_PRIOR);
}

nsec_t throttle_next_look(const struct throttle *throttle, uint64_t dirty, uint64_t capacity)
{
    if (dirty >= capacity)
        return LOOK_MIN;
    const double safe = (double)(capacity - dirty) / wild_rate(throttle) / 3 * 1e9;
    return (nsec_t)larger(smaller(safe, LOOK_MAX), LOOK_MIN);
}

/* So that one slice more or less does not matter. */
nsec_t throttle_slice(const struct throttle_levels *levels)
{
    const double spare = (double)(levels->capacity - levels->brim) / RATE_PRIOR / 8 * 1e9;
    return (nsec_t)larger(smaller(spare, SLICE_MAX), SLICE_MIN);
}
