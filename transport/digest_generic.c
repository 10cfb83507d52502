/* XXH3 as the distribution's library has it. */
#define XXH_STATIC_LINKING_ONLY /* the size of the state */
#include <xxhash.h>

#include "transport/digest_kernel.h"

const struct digest_kernel digest_generic = DIGEST_KERNEL;
