/* The functions over whatever <xxhash.h> was set up to be: the body of digest_generic.c,
 * digest_avx2.c and digest_avx512.c, each of which is compiled with flags of its own and offers one
 * table. */
#ifndef KEMARI_TRANSPORT_DIGEST_KERNEL_H
#define KEMARI_TRANSPORT_DIGEST_KERNEL_H

#include <string.h>

#include "transport/digest.h"

struct digest_kernel {
    void (*begin)(struct digest *digest);
    void (*add)(struct digest *digest, const void *bytes, size_t size);
    uint64_t (*end)(const struct digest *digest);
    uint64_t (*of)(const void *bytes, size_t size);
    void (*of_128)(const void *bytes, size_t size, uint64_t seed, uint8_t out[DIGEST_128_SIZE]);
};

extern const struct digest_kernel digest_generic; /* any x86-64 */
extern const struct digest_kernel digest_avx2;    /* only where the processor has AVX2 */
extern const struct digest_kernel digest_avx512;  /* only where it has AVX-512F */

#ifdef XXH_VERSION_NUMBER

_Static_assert(sizeof(XXH3_state_t) <= DIGEST_STATE_SIZE, "the state fits");

static void kernel_begin(struct digest *digest)
{
    XXH3_64bits_reset((XXH3_state_t *)digest->state);
}

static void kernel_add(struct digest *digest, const void *bytes, size_t size)
{
    XXH3_64bits_update((XXH3_state_t *)digest->state, bytes, size);
}

static uint64_t kernel_end(const struct digest *digest)
{
    return XXH3_64bits_digest((const XXH3_state_t *)digest->state);
}

static uint64_t kernel_of(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

static void kernel_of_128(const void *bytes, size_t size, uint64_t seed,
                          uint8_t out[DIGEST_128_SIZE])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(bytes, size, seed));
    memcpy(out, canonical.digest, DIGEST_128_SIZE);
}

#define DIGEST_KERNEL                                                                              \
    {                                                                                              \
        kernel_begin, kernel_add, kernel_end, kernel_of, kernel_of_128                             \
    }

#endif
#endif
