#include "checkpoint/page_codec.h"

#include <assert.h>
#include <errno.h>
#include <lz4.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/delta.h"

#define ENTRY_SIZE 8

enum format { FORMAT_PLAIN = 0, FORMAT_ENCODED = 1 };

_Static_assert(PAGE_BATCH_PAYLOAD_MAX <= 1 << 20, "a batch must fit in a slab chunk");
_Static_assert(PAGE_ENCODING_COUNT <= PAGE_SIZE, "an encoding fits below the gfn");

bool page_is_zero(const uint8_t *page)
{
    /* Almost every page that isn't zero differs in its first words. */
    uint64_t head[4];
    memcpy(head, page, sizeof(head));
    if (head[0] | head[1] | head[2] | head[3])
        return false;
    return memcmp(page, page + sizeof(head), PAGE_SIZE - sizeof(head)) == 0;
}

const char *page_encoding_name(enum page_encoding encoding)
{
    static const char *const names[PAGE_ENCODING_COUNT] = {
        [PAGE_ENCODING_RAW] = "raw",     [PAGE_ENCODING_ZERO] = "zero",
        [PAGE_ENCODING_SAME] = "same",   [PAGE_ENCODING_LZ4] = "lz4",
        [PAGE_ENCODING_DELTA] = "delta", [PAGE_ENCODING_DELTA_LZ4] = "delta-lz4",
    };
    const char *name = (unsigned)encoding < PAGE_ENCODING_COUNT ? names[encoding] : NULL;
    return name ? name : "?";
}

static void put_entries(struct wire_writer *w, const gfn_t *gfns, const uint8_t *encodings,
                        size_t count)
{
    for (size_t i = 0; i < count; i++)
        wire_put_u64(w, gfns[i] << PAGE_SHIFT | encodings[i]);
}

size_t page_batch_encode_header(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                uint8_t *out)
{
    struct wire_writer w = {.bytes = out, .size = PAGE_BATCH_HEADER_MAX};
    wire_put_u32(&w, (uint32_t)count);
    wire_put_u32(&w, FORMAT_PLAIN);
    put_entries(&w, gfns, encodings, count);
    return w.used;
}

size_t page_batch_encode_header_encoded(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                        uint64_t seed, const uint8_t content[DIGEST_128_SIZE],
                                        uint8_t *out)
{
    struct wire_writer w = {.bytes = out, .size = PAGE_BATCH_HEADER_MAX};
    wire_put_u32(&w, (uint32_t)count);
    wire_put_u32(&w, FORMAT_ENCODED);
    wire_put_u64(&w, seed);
    wire_put(&w, content, DIGEST_128_SIZE);
    put_entries(&w, gfns, encodings, count);
    return w.used;
}

static uint64_t entry_at(const struct page_batch *batch, size_t i)
{
    struct wire_reader r = {.bytes = batch->entries + i * ENTRY_SIZE, .size = ENTRY_SIZE};
    return wire_get_u64(&r);
}

static enum page_encoding encoding_of(uint64_t entry)
{
    return (enum page_encoding)(entry & (PAGE_SIZE - 1));
}

/* ---- frame of a batch ---- */

static bool encoding_is_legal(uint64_t encoding, bool encoded)
{
    return encoding >= PAGE_ENCODING_RAW &&
           encoding < (encoded ? PAGE_ENCODING_COUNT : PAGE_ENCODING_SAME);
}

static int check_entries(struct page_batch *batch, const struct gmem *memory, bool has_after,
                         gfn_t after, struct error *err)
{
    for (size_t i = 0; i < batch->count; i++) {
        const uint64_t entry = entry_at(batch, i);
        const gfn_t gfn = entry >> PAGE_SHIFT;
        const uint64_t encoding = entry & (PAGE_SIZE - 1);
        if (!encoding_is_legal(encoding, batch->encoded))
            return error_set(err, -EBADMSG, "pages: unknown encoding %u of gfn 0x%llx",
                             (unsigned)encoding, (unsigned long long)gfn);
        if (has_after && gfn <= after)
            return error_set(err, -EBADMSG, "pages: gfn 0x%llx after 0x%llx is out of order",
                             (unsigned long long)gfn, (unsigned long long)after);
        if (!gmem_page(memory, gfn))
            return error_set(err, -EBADMSG, "pages: gfn 0x%llx is not guest memory",
                             (unsigned long long)gfn);
        batch->per_kind[encoding]++;
        after = gfn;
        has_after = true;
    }
    batch->last = after;
    return 0;
}

/* The body of the next page; its size is 0 for those that have none. NULL when it isn't there. */
static const uint8_t *next_body(struct wire_reader *r, enum page_encoding encoding, size_t *size)
{
    switch (encoding) {
    case PAGE_ENCODING_RAW:
        *size = PAGE_SIZE;
        break;
    case PAGE_ENCODING_ZERO:
    case PAGE_ENCODING_SAME:
        *size = 0;
        break;
    default:
        *size = wire_get_u16(r);
        if (*size == 0 || *size >= PAGE_SIZE)
            r->bad = true;
    }
    return wire_get_view(r, *size);
}

static int check_bodies(const struct page_batch *batch, struct error *err)
{
    struct wire_reader r = {.bytes = batch->bodies, .size = batch->bodies_size};
    for (size_t i = 0; i < batch->count; i++) {
        size_t size;
        if (!next_body(&r, encoding_of(entry_at(batch, i)), &size))
            return error_set(err, -EBADMSG, "pages: page %zu of %zu has no such body in %zu bytes",
                             i, batch->count, batch->bodies_size);
    }
    if (!wire_done(&r))
        return error_set(err, -EBADMSG, "pages: %zu bytes behind the last page", r.size - r.used);
    return 0;
}

int page_batch_decode(struct page_batch *batch, const uint8_t *payload, size_t size,
                      const struct gmem *memory, bool has_after, gfn_t after, struct error *err)
{
    struct wire_reader r = {.bytes = payload, .size = size};
    const uint32_t count = wire_get_u32(&r);
    const uint32_t format = wire_get_u32(&r);
    if (r.bad || count == 0 || count > PAGE_BATCH_MAX || format > FORMAT_ENCODED)
        return error_set(err, -EBADMSG, "pages: batch of %u pages in %zu bytes is malformed", count,
                         size);
    *batch = (struct page_batch){.count = count, .encoded = format == FORMAT_ENCODED};
    if (batch->encoded) {
        batch->seed = wire_get_u64(&r);
        batch->content = wire_get_view(&r, DIGEST_128_SIZE);
    }
    batch->entries = wire_get_view(&r, (size_t)count * ENTRY_SIZE);
    if (!batch->entries)
        return error_set(err, -EBADMSG, "pages: batch of %u pages cut short", count);
    batch->bodies_size = r.size - r.used;
    batch->bodies = wire_get_view(&r, batch->bodies_size);
    const int rc = check_entries(batch, memory, has_after, after, err);
    return rc < 0 ? rc : check_bodies(batch, err);
}

bool page_batch_depends(const struct page_batch *batch)
{
    return batch->per_kind[PAGE_ENCODING_SAME] + batch->per_kind[PAGE_ENCODING_DELTA] +
               batch->per_kind[PAGE_ENCODING_DELTA_LZ4] >
           0;
}

size_t page_batch_zero_count(const struct page_batch *batch)
{
    return batch->per_kind[PAGE_ENCODING_ZERO];
}

/* ---- pages ---- */

/* Decodes one page in place: `page` holds what it was. -EBADMSG leaves it in any state. */
static int decode_page(enum page_encoding encoding, const uint8_t *body, size_t size, uint8_t *page)
{
    uint8_t delta[PAGE_SIZE];
    switch (encoding) {
    case PAGE_ENCODING_RAW:
        memcpy(page, body, PAGE_SIZE);
        return 0;
    case PAGE_ENCODING_ZERO:
        memset(page, 0, PAGE_SIZE);
        return 0;
    case PAGE_ENCODING_SAME:
        return 0;
    case PAGE_ENCODING_LZ4:
        return LZ4_decompress_safe((const char *)body, (char *)page, (int)size, PAGE_SIZE) ==
                       (int)PAGE_SIZE
                   ? 0
                   : -EBADMSG;
    case PAGE_ENCODING_DELTA_LZ4: {
        const int plain =
            LZ4_decompress_safe((const char *)body, (char *)delta, (int)size, sizeof(delta));
        if (plain < 0)
            return -EBADMSG;
        body = delta;
        size = (size_t)plain;
        break;
    }
    default:
        break;
    }
    if (delta_check(body, size, PAGE_SIZE, NULL) < 0)
        return -EBADMSG;
    delta_apply(body, size, page, PAGE_SIZE);
    return 0;
}

static bool depends(enum page_encoding encoding)
{
    return encoding == PAGE_ENCODING_SAME || encoding == PAGE_ENCODING_DELTA ||
           encoding == PAGE_ENCODING_DELTA_LZ4;
}

int page_batch_content(const struct page_batch *batch, const struct gmem *memory,
                       uint8_t content[DIGEST_128_SIZE], struct error *err)
{
    uint8_t digests[PAGE_BATCH_MAX * DIGEST_128_SIZE];
    uint8_t after[PAGE_SIZE];
    size_t used = 0;
    struct wire_reader r = {.bytes = batch->bodies, .size = batch->bodies_size};
    memset(content, 0, DIGEST_128_SIZE);
    for (size_t i = 0; i < batch->count; i++) {
        const uint64_t entry = entry_at(batch, i);
        const enum page_encoding encoding = encoding_of(entry);
        size_t size;
        const uint8_t *body = next_body(&r, encoding, &size);
        if (encoding == PAGE_ENCODING_RAW || encoding == PAGE_ENCODING_ZERO)
            continue;
        const uint8_t *page = gmem_page(memory, entry >> PAGE_SHIFT);
        if (encoding != PAGE_ENCODING_SAME) {
            if (depends(encoding))
                memcpy(after, page, PAGE_SIZE);
            if (decode_page(encoding, body, size, after) < 0)
                return error_set(err, -EBADMSG, "pages: gfn 0x%llx can't be decoded as %s",
                                 (unsigned long long)(entry >> PAGE_SHIFT),
                                 page_encoding_name(encoding));
            page = after;
        }
        if (depends(encoding)) {
            digest_of_128(page, PAGE_SIZE, batch->seed, digests + used);
            used += DIGEST_128_SIZE;
        }
    }
    if (used)
        digest_of_128(digests, used, batch->seed, content);
    return 0;
}

int page_batch_verify(const struct page_batch *batch, const struct gmem *memory, struct error *err)
{
    if (!batch->encoded)
        return 0;
    uint8_t content[DIGEST_128_SIZE];
    const int rc = page_batch_content(batch, memory, content, err);
    if (rc < 0)
        return rc;
    if (memcmp(content, batch->content, DIGEST_128_SIZE) != 0)
        return error_set(err, -EBADMSG,
                         "pages: this host holds other contents than the primary assumes");
    return 0;
}

void page_batch_apply(const struct page_batch *batch, const struct gmem *memory)
{
    struct wire_reader r = {.bytes = batch->bodies, .size = batch->bodies_size};
    for (size_t i = 0; i < batch->count; i++) {
        const uint64_t entry = entry_at(batch, i);
        size_t size;
        const uint8_t *body = next_body(&r, encoding_of(entry), &size);
        const int rc =
            decode_page(encoding_of(entry), body, size, gmem_page(memory, entry >> PAGE_SHIFT));
        assert(rc == 0);
        (void)rc;
    }
}
