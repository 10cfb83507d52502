/* Log-linear histogram of durations: 32 linear buckets per power of two, so a percentile is exact
 * to about 3 %. Fixed size, no allocation. One writer; readers copy the struct under the owner's
 * lock. */
#ifndef KEMARI_BASE_HISTOGRAM_H
#define KEMARI_BASE_HISTOGRAM_H

#include "base/types.h"

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

/* Negative values count as 0. */
void histogram_add(struct histogram *h, nsec_t value);

/* Smallest value v such that at least `fraction` (0..1) of the samples are <= v; 0 when empty.
 * Never above the true maximum. */
nsec_t histogram_percentile(const struct histogram *h, double fraction);

/* How many samples are at most `bound`, of which those within a bucket's width (3 %) below it may
 * be missing. */
uint64_t histogram_count_up_to(const struct histogram *h, nsec_t bound);

#endif
