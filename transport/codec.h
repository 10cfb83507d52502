/* What message.c and handshake.c share: unpacking a `Message` without the heap, and texts.
 *
 * protobuf-c builds its result through an allocator; ours hands out pieces of a fixed scratch and
 * says no when it is used up, so hostile input can cost no more than that. */
#ifndef KEMARI_TRANSPORT_CODEC_H
#define KEMARI_TRANSPORT_CODEC_H

#include "base/error.h"
#include "base/types.h"
#include "proto/session.pb-c.h"

struct codec_scratch {
    uint8_t *bytes; /* borrowed, 16-byte aligned */
    size_t size;
    size_t used;
};

/* The unpacked message lives in the scratch: nothing to free. -EBADMSG when the bytes are no
 * `Message`, need more room than there is, or have no body. */
int codec_unpack(const uint8_t *payload, size_t size, struct codec_scratch *scratch,
                 Kemari__Session__Message **out, struct error *err);

/* Bytes written, or -ENOSPC. */
int codec_pack(const Kemari__Session__Message *message, uint8_t *out, size_t size,
               struct error *err);

/* Copies a text from the wire: -EBADMSG when it doesn't fit or isn't printable ASCII (newlines
 * allowed when `lines`). `what` names it in the phrase. */
int codec_take_text(char *out, size_t size, const char *text, bool lines, const char *what,
                    struct error *err);

/* Copies a text of ours so that the peer will accept it: cut to `size`, others than printable ASCII
 * as '?'. */
void codec_make_printable(char *out, size_t size, const char *text);

#endif
