#include "checkpoint/epoch_digest.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/wire.h"

struct epoch_digest {
    XXH3_state_t *state;
};

_Static_assert(sizeof(XXH128_canonical_t) == MESSAGE_DIGEST_SIZE, "XXH3-128 gives 16 bytes");

struct epoch_digest *epoch_digest_create(void)
{
    struct epoch_digest *digest = calloc(1, sizeof(*digest));
    if (!digest)
        return NULL;
    digest->state = XXH3_createState();
    if (!digest->state) {
        free(digest);
        return NULL;
    }
    epoch_digest_reset(digest);
    return digest;
}

void epoch_digest_destroy(struct epoch_digest **digest)
{
    if (!*digest)
        return;
    XXH3_freeState((*digest)->state);
    free(*digest);
    *digest = NULL;
}

void epoch_digest_reset(struct epoch_digest *digest)
{
    XXH3_128bits_reset(digest->state);
}

void epoch_digest_add(struct epoch_digest *digest, const struct frame *frame)
{
    uint8_t bytes[16];
    struct wire_writer w = {.bytes = bytes, .size = sizeof(bytes)};
    wire_put_u32(&w, (uint32_t)frame->type);
    wire_put_u32(&w, frame->size);
    wire_put_u64(&w, frame->digest);
    XXH3_128bits_update(digest->state, bytes, w.used);
}

void epoch_digest_result(const struct epoch_digest *digest, uint8_t out[MESSAGE_DIGEST_SIZE])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest->state));
    memcpy(out, canonical.digest, MESSAGE_DIGEST_SIZE);
}
