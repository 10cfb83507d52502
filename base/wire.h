/* Bounded little-endian writer and reader for everything that leaves or enters this process as
 * bytes: frames, state sections, heartbeat packets, files.
 *
 * Both are sticky: after the first overflow every further call does nothing (the reader yields
 * zeroes) and `bad` stays set, so a codec is written as straight-line code and checked once. */
#ifndef KEMARI_BASE_WIRE_H
#define KEMARI_BASE_WIRE_H

#include <string.h>

#include "base/types.h"

struct wire_writer {
    uint8_t *bytes; /* borrowed */
    size_t size;    /* capacity of `bytes` */
    size_t used;
    bool bad; /* something did not fit */
};

struct wire_reader {
    const uint8_t *bytes; /* borrowed */
    size_t size;
    size_t used;
    bool bad; /* something was not there */
};

static inline void wire_put(struct wire_writer *w, const void *data, size_t length)
{
    if (w->bad || length > w->size - w->used) {
        w->bad = true;
        return;
    }
    if (length)
        memcpy(w->bytes + w->used, data, length);
    w->used += length;
}

static inline void wire_put_u8(struct wire_writer *w, uint8_t v)
{
    wire_put(w, &v, 1);
}

static inline void wire_put_le(struct wire_writer *w, uint64_t v, size_t width)
{
    uint8_t b[8];
    for (size_t i = 0; i < width; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    wire_put(w, b, width);
}

static inline void wire_put_u16(struct wire_writer *w, uint16_t v)
{
    wire_put_le(w, v, 2);
}

static inline void wire_put_u32(struct wire_writer *w, uint32_t v)
{
    wire_put_le(w, v, 4);
}

static inline void wire_put_u64(struct wire_writer *w, uint64_t v)
{
    wire_put_le(w, v, 8);
}

/* Next `length` bytes in place, or NULL (and `bad`) when they are not there. */
static inline const uint8_t *wire_get_view(struct wire_reader *r, size_t length)
{
    if (r->bad || length > r->size - r->used) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *view = r->bytes + r->used;
    r->used += length;
    return view;
}

static inline void wire_get(struct wire_reader *r, void *data, size_t length)
{
    const uint8_t *view = wire_get_view(r, length);
    if (!view)
        memset(data, 0, length);
    else if (length)
        memcpy(data, view, length);
}

static inline uint64_t wire_get_le(struct wire_reader *r, size_t width)
{
    const uint8_t *b = wire_get_view(r, width);
    uint64_t v = 0;
    for (size_t i = 0; b && i < width; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

static inline uint8_t wire_get_u8(struct wire_reader *r)
{
    return (uint8_t)wire_get_le(r, 1);
}

static inline uint16_t wire_get_u16(struct wire_reader *r)
{
    return (uint16_t)wire_get_le(r, 2);
}

static inline uint32_t wire_get_u32(struct wire_reader *r)
{
    return (uint32_t)wire_get_le(r, 4);
}

static inline uint64_t wire_get_u64(struct wire_reader *r)
{
    return wire_get_le(r, 8);
}

/* True when everything was there and nothing is left over. */
static inline bool wire_done(const struct wire_reader *r)
{
    return !r->bad && r->used == r->size;
}

#endif
