/* The frame header: see transport/frame.h for the layout and its reasons. */
#include "transport/frame.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/wire.h"
#include "transport/digest.h"

#define FRAME_RESERVED_SIZE 16

_Static_assert(4 + 2 + 2 + 4 + 4 + 8 + 8 + 8 + FRAME_RESERVED_SIZE == FRAME_CHECK_OFFSET,
               "the fields fill the header up to the check");
_Static_assert(FRAME_CHECK_OFFSET + sizeof(uint64_t) == FRAME_HEADER_SIZE,
               "the check ends the header");
_Static_assert(FRAME_CONTROL_MAX < FRAME_PAYLOAD_MAX, "control frames are the small ones");

static uint32_t limit_of(enum frame_type type)
{
    return type == FRAME_CONTROL ? FRAME_CONTROL_MAX : FRAME_PAYLOAD_MAX;
}

int frame_validate(const struct frame *frame, struct error *err)
{
    if (frame->type < FRAME_CONTROL || frame->type > FRAME_SYNC)
        return error_set(err, -EINVAL, "frame of unknown type %u", (unsigned)frame->type);
    if (frame->flags)
        return error_set(err, -EINVAL, "%s frame with unknown flags 0x%" PRIx32,
                         frame_type_name(frame->type), frame->flags);
    if (frame->type != FRAME_CONTROL && (frame->term == 0 || frame->epoch == 0))
        return error_set(err, -EINVAL, "%s frame without term or epoch",
                         frame_type_name(frame->type));
    if (frame->size == 0 || frame->size > limit_of(frame->type))
        return error_set(err, -EMSGSIZE, "%s frame of %" PRIu32 " bytes, legal are 1 to %" PRIu32,
                         frame_type_name(frame->type), frame->size, limit_of(frame->type));
    return 0;
}

void frame_encode(const struct frame *frame, uint8_t out[FRAME_HEADER_SIZE])
{
    assert(frame_validate(frame, NULL) == 0);
    static const uint8_t reserved[FRAME_RESERVED_SIZE];
    struct wire_writer w = {.bytes = out, .size = FRAME_HEADER_SIZE};
    wire_put_u32(&w, FRAME_MAGIC);
    wire_put_u16(&w, FRAME_VERSION);
    wire_put_u16(&w, (uint16_t)frame->type);
    wire_put_u32(&w, frame->flags);
    wire_put_u32(&w, frame->size);
    wire_put_u64(&w, frame->term);
    wire_put_u64(&w, frame->epoch);
    wire_put_u64(&w, frame->digest);
    wire_put(&w, reserved, sizeof(reserved));
    wire_put_u64(&w, digest_of(out, FRAME_CHECK_OFFSET));
    assert(!w.bad && w.used == FRAME_HEADER_SIZE);
}

/* Reads the fields of a header whose check is right; a peer may still lie in them. */
static int read_fields(struct wire_reader *r, struct frame *f, struct error *err)
{
    f->type = (enum frame_type)wire_get_u16(r);
    f->flags = wire_get_u32(r);
    f->size = wire_get_u32(r);
    f->term = wire_get_u64(r);
    f->epoch = wire_get_u64(r);
    f->digest = wire_get_u64(r);
    uint8_t reserved = 0;
    for (size_t i = 0; i < FRAME_RESERVED_SIZE; i++)
        reserved |= wire_get_u8(r);
    if (frame_validate(f, err) < 0)
        return -EBADMSG;
    if (reserved)
        return error_set(err, -EBADMSG, "%s frame whose reserved bytes aren't zero",
                         frame_type_name(f->type));
    return 0;
}

int frame_decode(const uint8_t bytes[FRAME_HEADER_SIZE], struct frame *out, struct error *err)
{
    *out = (struct frame){0};
    struct wire_reader r = {.bytes = bytes, .size = FRAME_HEADER_SIZE};
    if (wire_get_u32(&r) != FRAME_MAGIC)
        return error_set(err, -EBADMSG, "not a Kemari frame");
    const uint16_t version = wire_get_u16(&r);
    if (version != FRAME_VERSION)
        return error_set(err, -EPROTONOSUPPORT, "frame version %u, this side speaks %d", version,
                         FRAME_VERSION);
    struct wire_reader check = {
        .bytes = bytes, .size = FRAME_HEADER_SIZE, .used = FRAME_CHECK_OFFSET};
    if (wire_get_u64(&check) != digest_of(bytes, FRAME_CHECK_OFFSET))
        return error_set(err, -EBADMSG, "frame header is damaged");
    struct frame f = {0};
    const int rc = read_fields(&r, &f, err);
    if (rc < 0) {
        if (err)
            err->code = rc;
        return rc;
    }
    *out = f;
    return 0;
}

uint64_t frame_digest(const struct iovec *parts, int count)
{
    if (count == 1)
        return digest_of(parts[0].iov_base, parts[0].iov_len);
    struct digest digest;
    digest_begin(&digest);
    for (int i = 0; i < count; i++)
        digest_add(&digest, parts[i].iov_base, parts[i].iov_len);
    return digest_end(&digest);
}

const char *frame_type_name(enum frame_type type)
{
    switch (type) {
    case FRAME_CONTROL:
        return "control";
    case FRAME_PAGES:
        return "pages";
    case FRAME_STATE:
        return "state";
    case FRAME_DISK:
        return "disk";
    case FRAME_SYNC:
        return "sync";
    }
    return "?";
}
