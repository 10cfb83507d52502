/* The throttle against a guest and a link made of arithmetic: steps of the dirtying rate and of the
 * link's speed, without clock or threads. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/throttle.h"
#include "test/support/runner.h"

#define TICK      USEC(100)
#define SLICE     SEC(4)
#define WILD_RATE 500e3 /* the fastest guest that is caught in time whatever the cap */

/* A guest that dirties `rate` pages a second while it runs, of `memory` pages in all, behind a link
 * that takes `drain` a second; epochs are cut at the budget, and sent one after the other. */
struct plant {
    double rate;
    double drain;
    double memory;
    double budget;
    struct throttle_levels levels;

    nsec_t now;
    nsec_t look_at;
    double dirty;
    double fresh; /* since the last look */
    nsec_t ran;
    double flight; /* pages on their way */
    bool in_flight;
    double known_drain;
    nsec_t served_since;
    double serving;
    struct throttle throttle;

    /* what is looked at */
    double ran_total;
    double peak; /* of `dirty` */
};

static void plant_init(struct plant *p, uint64_t capacity, uint64_t budget)
{
    memset(p, 0, sizeof(*p));
    p->levels = throttle_levels(capacity, budget);
    p->budget =
        (double)budget < (double)p->levels.brim / 2 ? (double)budget : (double)p->levels.brim / 2;
    p->memory = 1e9;
    throttle_init(&p->throttle);
}

static void look(struct plant *p)
{
    const struct throttle_look in = {.now = p->now,
                                     .ran = p->ran,
                                     .fresh = (uint64_t)p->fresh,
                                     .dirty = (uint64_t)p->dirty,
                                     .backlog = (uint64_t)p->flight,
                                     .drain = p->known_drain,
                                     .levels = p->levels};
    throttle_look(&p->throttle, &in);
    p->ran = 0;
    p->fresh = 0;
    p->look_at = p->now + throttle_next_look(&p->throttle, in.dirty, p->levels.capacity);
}

static void transfer(struct plant *p)
{
    if (!p->in_flight)
        return;
    p->flight -= p->drain * TICK / 1e9;
    if (p->flight > 0)
        return;
    const double seconds = (double)(p->now - p->served_since) / 1e9;
    if (seconds > 0)
        p->known_drain = p->serving / seconds;
    p->flight = 0;
    p->in_flight = false;
}

static void cut(struct plant *p)
{
    p->served_since = p->now;
    p->serving = p->flight = p->dirty;
    p->in_flight = true;
    p->dirty = 0;
}

static void run(struct plant *p, nsec_t span)
{
    for (const nsec_t end = p->now + span; p->now < end; p->now += TICK) {
        const double share = p->throttle.share;
        const double more = p->rate * share * TICK / 1e9 * (1 - p->dirty / p->memory);
        p->dirty += more;
        p->fresh += more;
        p->ran += (nsec_t)(share * TICK);
        p->ran_total += share * TICK;
        p->peak = p->dirty > p->peak ? p->dirty : p->peak;
        transfer(p);
        /* An epoch is sent whole before the next is cut. */
        if (p->dirty > p->budget && !p->in_flight)
            cut(p);
        if (p->now >= p->look_at)
            look(p);
    }
}

static void forget(struct plant *p)
{
    p->ran_total = p->peak = 0;
}

static void a_guest_that_the_link_can_follow_is_left_alone(void)
{
    struct plant p;
    plant_init(&p, 65024, 16384);
    p.drain = 100e3;
    p.rate = 50e3;
    run(&p, SEC(3));
    CU_ASSERT_EQUAL(p.throttle.share, 1);
    forget(&p);
    run(&p, SEC(5));
    CU_ASSERT(p.ran_total == (double)SEC(5));
}

/* Of the share, slice by slice. */
static void spread(struct plant *p, unsigned slices, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (unsigned i = 0; i < slices; i++) {
        forget(p);
        run(p, SLICE);
        const double share = p->ran_total / (double)SLICE;
        sum += share;
        squares += share * share;
    }
    *mean = sum / slices;
    *deviation = sqrt(fabs(squares / slices - *mean * *mean));
}

/* From calm to `times` as fast as the link, for caps from the smallest to large ones. */
static void step_up(uint64_t capacity, uint64_t budget, double drain, double times)
{
    struct plant p;
    plant_init(&p, capacity, budget);
    p.drain = drain;
    p.rate = drain / 100;
    run(&p, SEC(1));
    p.rate = drain * times;
    double peak = 0;
    for (int i = 0; i < 30; i++) {
        forget(&p);
        run(&p, MSEC(100));
        peak = p.peak > peak ? p.peak : peak;
    }
    /* It is caught in time, with room to spare. */
    CU_ASSERT(peak < (double)p.levels.capacity);
    double mean, deviation;
    spread(&p, 10, &mean, &deviation);
    /* Epochs that are over before the next look leave the link idle in between. */
    const bool coarse = (double)p.levels.goal / drain < 5e-3;
    const bool right = peak <= (double)(p.levels.brim + p.levels.capacity) / 2 &&
                       mean > (coarse ? 0.35 : 0.7) / times && mean < 1.02 / times &&
                       deviation < mean * 0.05;
    if (!right)
        printf("  cap %llu budget %llu drain %.0f x%.0f: peak %.0f of %llu, share %.4f +- %.4f\n",
               (unsigned long long)capacity, (unsigned long long)budget, drain, times, peak,
               (unsigned long long)p.levels.brim, mean, deviation);
    CU_ASSERT_TRUE(right);
}

static void a_step_up_settles_at_what_the_link_takes(void)
{
    static const uint64_t capacities[] = {1524, 8192, 65024};
    static const double drains[] = {10e3, 30e3, 250e3};
    static const double times[] = {2, 5, 20};
    for (size_t c = 0; c < ARRAY_SIZE(capacities); c++)
        for (size_t d = 0; d < ARRAY_SIZE(drains); d++)
            for (size_t t = 0; t < ARRAY_SIZE(times); t++) {
                if (drains[d] * times[t] > WILD_RATE)
                    continue;
                step_up(capacities[c], capacities[c] / 4, drains[d], times[t]);
                step_up(capacities[c], 16384, drains[d], times[t]);
            }
}

static void a_link_that_slows_down_is_followed_and_a_calm_guest_is_freed(void)
{
    struct plant p;
    double mean, deviation;
    plant_init(&p, 16384, 4096);
    p.drain = 100e3;
    p.rate = 90e3;
    run(&p, SEC(3));
    CU_ASSERT_EQUAL(p.throttle.share, 1);
    p.drain = 20e3;
    forget(&p);
    run(&p, SEC(2));
    CU_ASSERT(p.peak <= (double)p.levels.brim);
    spread(&p, 5, &mean, &deviation);
    CU_ASSERT(mean > 0.7 * 20 / 90 && mean < 1.02 * 20 / 90);
    CU_ASSERT(deviation < mean * 0.05);
    p.drain = 100e3;
    run(&p, SEC(2));
    forget(&p);
    run(&p, SEC(1));
    CU_ASSERT(p.ran_total > 0.99 * (double)SEC(1));
    p.drain = 5e3;
    run(&p, SEC(5));
    CU_ASSERT(p.throttle.share < 0.2);
    p.rate = 1e3;
    run(&p, SEC(5));
    CU_ASSERT_EQUAL(p.throttle.share, 1);
}

/* A link that stands still, or one that never carried an epoch: the guest is stopped at the brim,
 * and not before it got near. */
static void a_link_that_stands_still_stops_the_guest(void)
{
    struct plant p;
    plant_init(&p, 65024, 16384);
    p.rate = 100e3;
    p.drain = 0;
    run(&p, SEC(5));
    CU_ASSERT_EQUAL(p.throttle.share, 0);
    CU_ASSERT(p.peak >= (double)p.levels.goal && p.peak < 1.02 * (double)p.levels.brim);
}

static void whatever_changes_an_epoch_never_outgrows_its_capacity(void)
{
    uint64_t random = 1;
    for (int round = 0; round < 50; round++) {
        struct plant p;
        plant_init(&p, 1524 + (uint64_t)round * 500, round % 3 ? 16384 : 700);
        for (int change = 0; change < 20; change++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            p.rate = (double)(random >> 33) / (double)(1u << 31) * WILD_RATE;
            random = random * 6364136223846793005u + 1442695040888963407u;
            p.drain = (double)(random >> 33) / (double)(1u << 31) * 200e3;
            run(&p, MSEC(300));
            CU_ASSERT(p.throttle.share >= 0 && p.throttle.share <= 1);
        }
        CU_ASSERT(p.peak < (double)p.levels.capacity);
    }
}

static void levels_leave_room_for_an_epoch_in_flight(void)
{
    for (uint64_t capacity = 8; capacity < 1u << 24; capacity = capacity * 5 / 4) {
        static const uint64_t budgets[] = {1, 2, 3, 256, 16384, UINT64_C(1) << 40};
        for (size_t i = 0; i < ARRAY_SIZE(budgets); i++) {
            const struct throttle_levels l = throttle_levels(capacity, budgets[i]);
            CU_ASSERT(0 < l.goal && l.goal < l.brim && l.brim < l.capacity);
            CU_ASSERT(2 * l.brim <= capacity);
            CU_ASSERT(l.brim <= 2 * budgets[i] || l.brim == 4);
            CU_ASSERT_EQUAL(l.capacity, capacity);
        }
    }
}

static void looks_and_slices_are_short_where_little_room_is_left(void)
{
    struct throttle t;
    throttle_init(&t);
    t.rate = 5e6;
    /* Three looks fit into the time in which it could be filled, as far as the clock allows. */
    for (uint64_t dirty = 0; dirty < 60000; dirty += 1000)
        CU_ASSERT((double)throttle_next_look(&t, dirty, 65024) <=
                  (double)(65024 - dirty) / 5e6 * 1e9 / 3 + (double)USEC(200));
    CU_ASSERT(throttle_next_look(&t, 70000, 65024) > 0);
    t.rate = 0;
    CU_ASSERT_EQUAL(throttle_next_look(&t, 0, 65024), MSEC(10));
    const struct throttle_levels small = throttle_levels(1524, 16384);
    const struct throttle_levels large = throttle_levels(65024, 16384);
    CU_ASSERT_EQUAL(throttle_slice(&small), USEC(200));
    CU_ASSERT_EQUAL(throttle_slice(&large), MSEC(1));
}

static const struct test_case cases[] = {
    {"a guest that the link can follow is left alone",
     a_guest_that_the_link_can_follow_is_left_alone},
    {"a step up settles at what the link takes", a_step_up_settles_at_what_the_link_takes},
    {"a link that slows down is followed and a calm guest is freed",
     a_link_that_slows_down_is_followed_and_a_calm_guest_is_freed},
    {"a link that stands still stops the guest", a_link_that_stands_still_stops_the_guest},
    {"whatever changes, an epoch never outgrows its capacity",
     whatever_changes_an_epoch_never_outgrows_its_capacity},
    {"levels leave room for an epoch in flight", levels_leave_room_for_an_epoch_in_flight},
    {"looks and slices are short where little room is left",
     looks_and_slices_are_short_where_little_room_is_left},
};

TEST_MAIN("throttle", cases)
