/* XXH3 from the library's header, compiled here with -mavx512f. Call nothing of this file on a
 * processor without AVX-512. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "transport/digest_kernel.h"

const struct digest_kernel digest_avx512 = DIGEST_KERNEL;
