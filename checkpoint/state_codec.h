/* The machine's state by what changed in it since the last state sent on the same link.
 *
 * A plain state is an encoded section set (base/section.h). A relative one, little-endian:
 *   u32 mark        STATE_RELATIVE, which is no legal number of sections
 *   u32 size        of the plain state, 1..STATE_SIZE_MAX
 *   u8 digest[16]   XXH3-128 of the plain state
 *   until the end, pieces of the plain state in order:
 *     u32 length      > 0
 *     u32 from        where in the base the piece is like; STATE_FROM_NOWHERE: like zeroes
 *     u32 delta_size
 *     a delta (checkpoint/delta.h) between the two
 *
 * The base is the plain state of the epoch with state before it on this link. As with pages
 * (checkpoint/page_cache.h), whatever goes wrong ends the link, and a link begins without a base. A
 * section that didn't change costs nothing: neighbours that stayed in line make one piece.
 *
 * The functions on bytes are pure. */
#ifndef KEMARI_CHECKPOINT_STATE_CODEC_H
#define KEMARI_CHECKPOINT_STATE_CODEC_H

#include "base/error.h"
#include "base/section.h"
#include "base/types.h"

/* What a plain state can be at most: see base/section.h. */
#define STATE_SIZE_MAX     (SECTION_SET_MAX + SECTION_COUNT_MAX * 64 + 4)

#define STATE_RELATIVE     UINT32_MAX
#define STATE_FROM_NOWHERE UINT32_MAX

/* Writes `plain`, an encoded set, relative to `base`, another one, and returns the size: below
 * `capacity`, or 0 when that is not enough. */
size_t state_encode_relative(const uint8_t *base, size_t base_size, const uint8_t *plain,
                             size_t size, uint8_t *out, size_t capacity);

bool state_is_relative(const uint8_t *bytes, size_t size);

/* Size of the plain state that a relative one stands for, or -EBADMSG: everything is checked but
 * the digest. */
int state_check_relative(size_t base_size, const uint8_t *bytes, size_t size, struct error *err);

/* Rebuilds it in `out`, which has as many bytes as state_check_relative() said. -EBADMSG when the
 * digest differs. */
int state_decode_relative(const uint8_t *base, const uint8_t *bytes, size_t size, uint8_t *out,
                          struct error *err);

/* The sender's side: what it takes to send one state after the other. Owned by one thread. */
struct state_encoder;

struct state_encoder *state_encoder_create(void); /* NULL when out of memory */
void state_encoder_destroy(struct state_encoder **encoder);

/* A new link, whose other end understands relative states or not. */
void state_encoder_begin_link(struct state_encoder *encoder, bool relative);

/* The bytes to send for `set`, which must be sent, or the link be given up. Valid until the next
 * call. -ENOMEM. */
int state_encoder_encode(struct state_encoder *encoder, const struct section_set *set,
                         const uint8_t **bytes, size_t *size, struct error *err);

#endif
