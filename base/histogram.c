#include "base/histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

static size_t bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (size_t)value;
    const unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
    const unsigned shift = exponent - HISTOGRAM_SUB_BITS;
    return ((size_t)(shift + 1) << HISTOGRAM_SUB_BITS) + (size_t)((value >> shift) - SUB_COUNT);
}

static uint64_t bucket_upper_bound(size_t bucket)
{
    if (bucket < SUB_COUNT)
        return bucket;
    const unsigned shift = (unsigned)(bucket >> HISTOGRAM_SUB_BITS) - 1;
    const uint64_t base = (bucket & (SUB_COUNT - 1)) + SUB_COUNT;
    return ((base + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, nsec_t value)
{
    const uint64_t v = value > 0 ? (uint64_t)value : 0;
    h->count++;
    h->sum += v;
    if (v > h->max)
        h->max = v;
    h->buckets[bucket_of(v)]++;
}

nsec_t histogram_percentile(const struct histogram *h, double fraction)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(fraction * (double)h->count + 0.999999);
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            const uint64_t bound = bucket_upper_bound(i);
            return (nsec_t)(bound < h->max ? bound : h->max);
        }
    }
    return (nsec_t)h->max;
}

uint64_t histogram_count_up_to(const struct histogram *h, nsec_t bound)
{
    uint64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS && bucket_upper_bound(i) <= (uint64_t)bound; i++)
        count += h->buckets[i];
    return count;
}
