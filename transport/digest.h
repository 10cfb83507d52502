/* XXH3-64 with the widest vectors this processor has. Debian's libxxhash is built for any x86-64;
 * the same algorithm compiled for AVX2 is three times as fast, for AVX-512 five times, and every
 * byte of a checkpoint passes here twice.
 *
 * A digest over pieces: begin, add each, end. */
#ifndef KEMARI_TRANSPORT_DIGEST_H
#define KEMARI_TRANSPORT_DIGEST_H

#include <stdalign.h>

#include "base/types.h"

#define DIGEST_STATE_SIZE 640
#define DIGEST_128_SIZE   16

/* Room for XXH3_state_t, whose size is checked where it is used. */
struct digest {
    alignas(64) uint8_t state[DIGEST_STATE_SIZE];
};

void digest_begin(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t size);
uint64_t digest_end(const struct digest *digest);

/* All of it at once. */
uint64_t digest_of(const void *bytes, size_t size);

/* XXH3-128 with a seed, in canonical form: where two contents must never be taken for each other. A
 * seed that nobody else knows keeps a guest from preparing two pages of one digest. */
void digest_of_128(const void *bytes, size_t size, uint64_t seed, uint8_t out[DIGEST_128_SIZE]);

#endif
