/* The fixed header in front of everything that travels on a link. Pure codec, no I/O.
 *
 * 64 bytes, little-endian:
 *
 *   offset size field
 *        0    4 magic    "KMRI"
 *        4    2 version  of this layout: FRAME_VERSION
 *        6    2 type     enum frame_type
 *        8    4 flags    none is defined: zero
 *       12    4 size     bytes of payload that follow, 1..limit of the type
 *       16    8 term     0 only in the frames of the handshake
 *       24    8 epoch    0 only in control frames that belong to no epoch
 *       32    8 digest   XXH3-64 of the payload
 *       40   16 reserved zero
 *       56    8 check    XXH3-64 of the 56 bytes before it
 *
 * The check covers the digest, so header and payload are one chain; it stands apart so that a
 * damaged size is refused before anybody waits for bytes that will never come. Both are against
 * accident, not against an attacker: that is the job of TLS.
 *
 * Versioning: magic and version keep their place for ever; a reader refuses any other version
 * before it looks at the rest. */
#ifndef KEMARI_TRANSPORT_FRAME_H
#define KEMARI_TRANSPORT_FRAME_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

#define FRAME_MAGIC        0x49524d4bu /* "KMRI" read as little-endian */
#define FRAME_VERSION      1
#define FRAME_HEADER_SIZE  64
#define FRAME_CHECK_OFFSET 56

#define FRAME_CONTROL_MAX  (64u << 10) /* payload bytes of FRAME_CONTROL */
#define FRAME_PAYLOAD_MAX                                                                          \
    ((1u << 20) + (64u << 10)) /* payload bytes of the others: 256 pages                           \
                                  and 64 KiB to describe them */

enum frame_type {
    FRAME_CONTROL = 1, /* one protobuf message, see transport/message.h */
    FRAME_PAGES = 2,   /* a batch of pages */
    FRAME_STATE = 3,   /* a part of the encoded section set */
    FRAME_DISK = 4,    /* disk writes */
    FRAME_SYNC = 5,    /* a message of a disk's synchronisation; in both directions */
};

struct frame {
    enum frame_type type;
    uint32_t flags; /* zero */
    term_t term;
    epoch_t epoch;
    uint32_t size;   /* payload bytes */
    uint64_t digest; /* frame_digest() of the payload */
};

/* Why this frame may not travel, or 0: -EINVAL for type, flags, term or epoch, -EMSGSIZE for a
 * size of zero or above the limit of its type. The digest isn't looked at. */
int frame_validate(const struct frame *frame, struct error *err);

/* Writes the header. The frame must be valid (asserted). */
void frame_encode(const struct frame *frame, uint8_t out[FRAME_HEADER_SIZE]);

/* -EPROTONOSUPPORT for another version, -EBADMSG for anything else that isn't a valid header; `out`
 * is zeroed then. */
int frame_decode(const uint8_t bytes[FRAME_HEADER_SIZE], struct frame *out, struct error *err);

/* XXH3-64 of the parts as one string of bytes. */
uint64_t frame_digest(const struct iovec *parts, int count);

/* "control", "pages", ...; "?" for no known type. Static. */
const char *frame_type_name(enum frame_type type);

#endif
