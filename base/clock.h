/* The only source of time for intervals: CLOCK_MONOTONIC, so that a stepped wall clock on a host
 * can neither trigger nor delay anything. */
#ifndef KEMARI_BASE_CLOCK_H
#define KEMARI_BASE_CLOCK_H

#include <time.h>

#include "base/types.h"

static inline nsec_t clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return SEC(ts.tv_sec) + ts.tv_nsec;
}

static inline struct timespec clock_to_timespec(nsec_t t)
{
    return (struct timespec){.tv_sec = t / SEC(1), .tv_nsec = t % SEC(1)};
}

#endif
