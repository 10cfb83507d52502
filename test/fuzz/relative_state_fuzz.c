/* Any bytes as a relative state. What is accepted fills exactly what it announced, out of a base
 * that the first bytes give. The digest, which no fuzzer guesses, is left out. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/state_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size < 1u + data[0])
        return 0;
    const size_t base_size = data[0];
    uint8_t *base = malloc(base_size + 1);
    memcpy(base, data + 1, base_size);
    const uint8_t *bytes = data + 1 + base_size;
    size -= 1 + base_size;
    struct error err = {0};
    const int plain = state_check_relative(base_size, bytes, size, &err);
    assert(plain != 0 && plain <= (int)STATE_SIZE_MAX);
    assert(plain > 0 || err.code == plain);
    if (plain > 0) {
        uint8_t *out = malloc((size_t)plain);
        state_decode_relative(base, bytes, size, out, NULL);
        free(out);
    }
    free(base);
    return 0;
}
