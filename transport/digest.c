/* Chooses the kernel. The choice is the same for the life of the process, so a digest that was
 * begun with one is ended with it. */
#include "transport/digest.h"

#include "transport/digest_kernel.h"

static const struct digest_kernel *kernel(void)
{
    /* Not all that has AVX-512: the first generations slow a core down for its wide
     * multiplications, and those that have VBMI2 (Ice Lake, Zen 4 and later) don't. */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vbmi2"))
        return &digest_avx512;
    return __builtin_cpu_supports("avx2") ? &digest_avx2 : &digest_generic;
}

void digest_begin(struct digest *digest)
{
    kernel()->begin(digest);
}

void digest_add(struct digest *digest, const void *bytes, size_t size)
{
    kernel()->add(digest, bytes, size);
}

uint64_t digest_end(const struct digest *digest)
{
    return kernel()->end(digest);
}

uint64_t digest_of(const void *bytes, size_t size)
{
    return kernel()->of(bytes, size);
}

void digest_of_128(const void *bytes, size_t size, uint64_t seed, uint8_t out[DIGEST_128_SIZE])
{
    kernel()->of_128(bytes, size, seed, out);
}
