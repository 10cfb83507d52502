#include "checkpoint/delta.h"

#include <assert.h>
#include <emmintrin.h>
#include <errno.h>

#include "base/wire.h"

#define BLOCK 64
/* Equal bytes between two runs that cost no more than the head of another run. */
#define GAP        3
#define VARINT_MAX 4

/* Bit i of the result: byte i of the 64 differs. */
static uint64_t differing(const uint8_t *a, const uint8_t *b)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < BLOCK / 16; i++) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + 16 * i));
        const __m128i y = _mm_loadu_si128((const __m128i *)(const void *)(b + 16 * i));
        const unsigned equal = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y));
        mask |= (uint64_t)(~equal & 0xffffu) << (16 * i);
    }
    return mask;
}

static void put_varint(struct wire_writer *w, size_t v)
{
    for (; v >= 0x80; v >>= 7)
        wire_put_u8(w, (uint8_t)(v | 0x80));
    wire_put_u8(w, (uint8_t)v);
}

struct encoder {
    struct wire_writer w;
    const uint8_t *after;
    size_t end;   /* of the last run that was written */
    size_t first; /* of the run that is open; first == last: none is */
    size_t last;
};

static void close_run(struct encoder *e)
{
    if (e->first == e->last)
        return;
    put_varint(&e->w, e->first - e->end);
    put_varint(&e->w, e->last - e->first);
    wire_put(&e->w, e->after + e->first, e->last - e->first);
    e->end = e->last;
    e->first = e->last;
}

/* Bytes [first, last) differ. */
static void add_run(struct encoder *e, size_t first, size_t last)
{
    if (e->first == e->last || first - e->last > GAP) {
        close_run(e);
        e->first = first;
    }
    e->last = last;
}

static void add_block(struct encoder *e, size_t at, uint64_t mask)
{
    while (mask) {
        const unsigned first = (unsigned)__builtin_ctzll(mask);
        const uint64_t rest = ~(mask >> first);
        const unsigned length = rest ? (unsigned)__builtin_ctzll(rest) : BLOCK;
        add_run(e, at + first, at + first + length);
        if (first + length >= BLOCK)
            return;
        mask &= ~UINT64_C(0) << (first + length);
    }
}

int delta_encode(const uint8_t *before, const uint8_t *after, size_t size, uint8_t *out,
                 size_t capacity)
{
    assert(size <= DELTA_SIZE_MAX);
    struct encoder e = {.w = {.bytes = out, .size = capacity}, .after = after};
    size_t at = 0;
    for (; at + BLOCK <= size && !e.w.bad; at += BLOCK)
        add_block(&e, at, differing(before + at, after + at));
    if (at < size && !e.w.bad) {
        uint8_t a[BLOCK] = {0};
        uint8_t b[BLOCK] = {0};
        memcpy(a, before + at, size - at);
        memcpy(b, after + at, size - at);
        add_block(&e, at, differing(a, b));
    }
    close_run(&e);
    return e.w.bad ? -ENOSPC : (int)e.w.used;
}

static size_t get_varint(struct wire_reader *r)
{
    size_t v = 0;
    for (unsigned i = 0; i < VARINT_MAX; i++) {
        const uint8_t byte = wire_get_u8(r);
        v |= (size_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

int delta_check(const uint8_t *delta, size_t delta_size, size_t size, struct error *err)
{
    struct wire_reader r = {.bytes = delta, .size = delta_size};
    size_t at = 0;
    while (!wire_done(&r)) {
        const size_t skip = get_varint(&r);
        const size_t length = get_varint(&r);
        wire_get_view(&r, length);
        if (r.bad || length == 0 || skip > size - at || length > size - at - skip)
            return error_set(err, -EBADMSG, "delta: run at byte %zu of %zu is malformed", at, size);
        at += skip + length;
    }
    return 0;
}

void delta_apply(const uint8_t *delta, size_t delta_size, uint8_t *string, size_t size)
{
    struct wire_reader r = {.bytes = delta, .size = delta_size};
    size_t at = 0;
    while (!wire_done(&r)) {
        at += get_varint(&r);
        const size_t length = get_varint(&r);
        const uint8_t *bytes = wire_get_view(&r, length);
        assert(bytes && at <= size && length <= size - at);
        memcpy(string + at, bytes, length);
        at += length;
    }
}
