/* Digest of an epoch: XXH3-128 over type, size and digest of its bulk frames in order. Both sides
 * feed the same frames; END carries the primary's result. Each frame's own digest covers its bytes;
 * this one covers that no frame is missing, repeated or reordered. */
#ifndef KEMARI_CHECKPOINT_EPOCH_DIGEST_H
#define KEMARI_CHECKPOINT_EPOCH_DIGEST_H

#include "transport/frame.h"
#include "transport/message.h"

struct epoch_digest;

struct epoch_digest *epoch_digest_create(void);
void epoch_digest_destroy(struct epoch_digest **digest);

void epoch_digest_reset(struct epoch_digest *digest);
void epoch_digest_add(struct epoch_digest *digest, const struct frame *frame);
void epoch_digest_result(const struct epoch_digest *digest, uint8_t out[MESSAGE_DIGEST_SIZE]);

#endif
