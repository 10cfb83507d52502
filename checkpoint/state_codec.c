#include "checkpoint/state_codec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/delta.h"
#include "transport/digest.h"

#define HEAD_SIZE  (8 + DIGEST_128_SIZE)
#define PIECE_HEAD 12

static const uint8_t nowhere[SECTION_SIZE_MAX];

_Static_assert(STATE_SIZE_MAX <= DELTA_SIZE_MAX, "a state has a delta");

/* ---- encoding ---- */

/* A section inside an encoded set, by its header. */
struct place {
    const uint8_t *name; /* SECTION_NAME_MAX bytes */
    uint32_t instance;
    uint32_t size;
    size_t at; /* of its data in the encoded set */
};

struct places {
    size_t count;
    size_t data; /* where the first section's data begins */
    struct place items[SECTION_COUNT_MAX];
};

/* Of bytes that section_set_encode() made. */
static void find_places(const uint8_t *plain, size_t size, struct places *out)
{
    struct wire_reader r = {.bytes = plain, .size = size};
    out->count = wire_get_u32(&r);
    assert(out->count <= SECTION_COUNT_MAX);
    for (size_t i = 0; i < out->count; i++) {
        struct place *p = &out->items[i];
        p->name = wire_get_view(&r, SECTION_NAME_MAX);
        p->instance = wire_get_u32(&r);
        wire_get_u32(&r); /* version */
        p->size = wire_get_u32(&r);
    }
    out->data = r.used;
    for (size_t i = 0; i < out->count; i++) {
        out->items[i].at = r.used;
        wire_get_view(&r, out->items[i].size);
    }
    assert(wire_done(&r));
}

static bool same_section(const struct place *a, const struct place *b)
{
    return a->size == b->size && a->instance == b->instance &&
           memcmp(a->name, b->name, SECTION_NAME_MAX) == 0;
}

/* Where the section was before. Mostly at the same number. */
static uint32_t find_before(const struct places *before, size_t number, const struct place *section)
{
    if (number < before->count && same_section(&before->items[number], section))
        return (uint32_t)before->items[number].at;
    for (size_t i = 0; i < before->count; i++)
        if (same_section(&before->items[i], section))
            return (uint32_t)before->items[i].at;
    return STATE_FROM_NOWHERE;
}

struct piece {
    size_t at; /* in the plain state */
    size_t length;
    uint32_t from;
};

static bool put_piece(struct wire_writer *w, const uint8_t *base, const uint8_t *plain,
                      const struct piece *piece)
{
    if (piece->length == 0)
        return true;
    if (w->bad || w->size - w->used < PIECE_HEAD)
        return false;
    const uint8_t *before = piece->from == STATE_FROM_NOWHERE ? nowhere : base + piece->from;
    const int delta = delta_encode(before, plain + piece->at, piece->length,
                                   w->bytes + w->used + PIECE_HEAD, w->size - w->used - PIECE_HEAD);
    if (delta < 0)
        return false;
    wire_put_u32(w, (uint32_t)piece->length);
    wire_put_u32(w, piece->from);
    wire_put_u32(w, (uint32_t)delta);
    w->used += (size_t)delta;
    return true;
}

/* True when `next` goes on where the piece ends, on both sides. */
static bool extends(const struct piece *piece, uint32_t next)
{
    return piece->from != STATE_FROM_NOWHERE && next != STATE_FROM_NOWHERE &&
           piece->from + piece->length == next;
}

size_t state_encode_relative(const uint8_t *base, size_t base_size, const uint8_t *plain,
                             size_t size, uint8_t *out, size_t capacity)
{
    struct places before, now;
    find_places(base, base_size, &before);
    find_places(plain, size, &now);
    struct wire_writer w = {.bytes = out, .size = capacity};
    uint8_t digest[DIGEST_128_SIZE];
    digest_of_128(plain, size, 0, digest);
    wire_put_u32(&w, STATE_RELATIVE);
    wire_put_u32(&w, (uint32_t)size);
    wire_put(&w, digest, sizeof(digest));
    struct piece piece = {.length = now.data,
                          .from = before.data == now.data ? 0 : STATE_FROM_NOWHERE};
    for (size_t i = 0; i < now.count; i++) {
        const struct place *section = &now.items[i];
        const uint32_t from = find_before(&before, i, section);
        if (section->size == 0)
            continue;
        if (!extends(&piece, from)) {
            if (!put_piece(&w, base, plain, &piece))
                return 0;
            piece = (struct piece){.at = section->at, .from = from};
        }
        piece.length += section->size;
    }
    return put_piece(&w, base, plain, &piece) && !w.bad && w.used < capacity ? w.used : 0;
}

/* ---- decoding ---- */

bool state_is_relative(const uint8_t *bytes, size_t size)
{
    struct wire_reader r = {.bytes = bytes, .size = size};
    return wire_get_u32(&r) == STATE_RELATIVE && !r.bad;
}

/* The next piece and its delta; false when it isn't there or lies outside. */
static bool get_piece(struct wire_reader *r, size_t base_size, size_t left, struct piece *piece,
                      const uint8_t **delta, size_t *delta_size)
{
    piece->length = wire_get_u32(r);
    piece->from = wire_get_u32(r);
    *delta_size = wire_get_u32(r);
    *delta = wire_get_view(r, *delta_size);
    if (r->bad || piece->length == 0 || piece->length > left)
        return false;
    if (piece->from == STATE_FROM_NOWHERE)
        return true;
    return piece->from <= base_size && piece->length <= base_size - piece->from;
}

int state_check_relative(size_t base_size, const uint8_t *bytes, size_t size, struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = size};
    const uint32_t mark = wire_get_u32(&r);
    const uint32_t plain_size = wire_get_u32(&r);
    wire_get_view(&r, DIGEST_128_SIZE);
    if (r.bad || mark != STATE_RELATIVE || plain_size == 0 || plain_size > STATE_SIZE_MAX)
        return error_set(err, -EBADMSG, "state: relative state of %zu bytes is malformed", size);
    size_t at = 0;
    while (!wire_done(&r)) {
        struct piece piece;
        const uint8_t *delta;
        size_t delta_size;
        if (!get_piece(&r, base_size, plain_size - at, &piece, &delta, &delta_size) ||
            delta_check(delta, delta_size, piece.length, NULL) < 0)
            return error_set(err, -EBADMSG, "state: piece at byte %zu of %u is malformed", at,
                             plain_size);
        at += piece.length;
    }
    if (at != plain_size)
        return error_set(err, -EBADMSG, "state: %u bytes announced, %zu described", plain_size, at);
    return (int)plain_size;
}

int state_decode_relative(const uint8_t *base, const uint8_t *bytes, size_t size, uint8_t *out,
                          struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = size};
    wire_get_u32(&r);
    const uint32_t plain_size = wire_get_u32(&r);
    const uint8_t *announced = wire_get_view(&r, DIGEST_128_SIZE);
    for (size_t at = 0; at < plain_size;) {
        const uint32_t length = wire_get_u32(&r);
        const uint32_t from = wire_get_u32(&r);
        const uint32_t delta_size = wire_get_u32(&r);
        const uint8_t *delta = wire_get_view(&r, delta_size);
        assert(!r.bad);
        if (from == STATE_FROM_NOWHERE)
            memset(out + at, 0, length);
        else
            memcpy(out + at, base + from, length);
        delta_apply(delta, delta_size, out + at, length);
        at += length;
    }
    uint8_t digest[DIGEST_128_SIZE];
    digest_of_128(out, plain_size, 0, digest);
    if (memcmp(digest, announced, sizeof(digest)) != 0)
        return error_set(err, -EBADMSG,
                         "state: this host holds another one before it than the primary assumes");
    return 0;
}

/* ---- the sender ---- */

struct buffer {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
};

struct state_encoder {
    bool relative;
    struct buffer plain; /* the one at hand, */
    struct buffer base;  /* and the one before; empty: none on this link */
    struct buffer out;
};

struct state_encoder *state_encoder_create(void)
{
    return calloc(1, sizeof(struct state_encoder));
}

void state_encoder_destroy(struct state_encoder **encoder)
{
    struct state_encoder *e = *encoder;
    if (!e)
        return;
    free(e->plain.bytes);
    free(e->base.bytes);
    free(e->out.bytes);
    free(e);
    *encoder = NULL;
}

void state_encoder_begin_link(struct state_encoder *encoder, bool relative)
{
    encoder->relative = relative;
    encoder->base.size = 0;
    encoder->plain.size = 0;
}

static bool reserve(struct buffer *buffer, size_t size)
{
    if (size <= buffer->capacity)
        return true;
    uint8_t *grown = realloc(buffer->bytes, size);
    if (!grown)
        return false;
    buffer->bytes = grown;
    buffer->capacity = size;
    return true;
}

int state_encoder_encode(struct state_encoder *encoder, const struct section_set *set,
                         const uint8_t **bytes, size_t *size, struct error *err)
{
    struct state_encoder *e = encoder;
    const struct buffer before = e->base;
    e->base = e->plain;
    e->plain = before;
    const size_t needed = section_set_encoded_size(set);
    if (!reserve(&e->plain, needed) || !reserve(&e->out, needed))
        return error_set(err, -ENOMEM, "state: out of memory for %zu bytes", needed);
    const int encoded = section_set_encode(set, e->plain.bytes, needed);
    assert(encoded == (int)needed);
    (void)encoded;
    e->plain.size = needed;
    *bytes = e->plain.bytes;
    *size = needed;
    if (!e->relative || !e->base.size)
        return 0;
    const size_t shorter = state_encode_relative(e->base.bytes, e->base.size, e->plain.bytes,
                                                 needed, e->out.bytes, needed);
    if (shorter) {
        *bytes = e->out.bytes;
        *size = shorter;
    }
    return 0;
}
