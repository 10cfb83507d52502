#include "checkpoint/page_codec.h"

#include <errno.h>
#include <string.h>

#include "base/wire.h"

#define ENTRY_SIZE 8

_Static_assert(PAGE_BATCH_PAYLOAD_MAX <= 1 << 20, "a batch must fit in a slab chunk");

bool page_is_zero(const uint8_t *page)
{
    /* Almost every page that isn't zero differs in its first words. */
    uint64_t head[4];
    memcpy(head, page, sizeof(head));
    if (head[0] | head[1] | head[2] | head[3])
        return false;
    return memcmp(page, page + sizeof(head), PAGE_SIZE - sizeof(head)) == 0;
}

size_t page_batch_encode_header(const gfn_t *gfns, const uint8_t *encodings, size_t count,
                                uint8_t *out)
{
    struct wire_writer w = {.bytes = out, .size = PAGE_BATCH_HEADER_MAX};
    wire_put_u32(&w, (uint32_t)count);
    wire_put_u32(&w, 0);
    for (size_t i = 0; i < count; i++)
        wire_put_u64(&w, gfns[i] << PAGE_SHIFT | encodings[i]);
    return w.used;
}

static uint64_t entry_at(const struct page_batch *batch, size_t i)
{
    struct wire_reader r = {.bytes = batch->entries + i * ENTRY_SIZE, .size = ENTRY_SIZE};
    return wire_get_u64(&r);
}

int page_batch_decode(struct page_batch *batch, const uint8_t *payload, size_t size,
                      const struct gmem *memory, bool has_after, gfn_t after, struct error *err)
{
    struct wire_reader r = {.bytes = payload, .size = size};
    const uint32_t count = wire_get_u32(&r);
    const uint32_t reserved = wire_get_u32(&r);
    if (r.bad || count == 0 || count > PAGE_BATCH_MAX || reserved != 0)
        return error_set(err, -EBADMSG, "pages: batch of %u pages in %zu bytes is malformed", count,
                         size);
    batch->count = count;
    batch->entries = wire_get_view(&r, (size_t)count * ENTRY_SIZE);
    if (!batch->entries)
        return error_set(err, -EBADMSG, "pages: batch of %u pages cut short", count);
    size_t raw = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t entry = entry_at(batch, i);
        const gfn_t gfn = entry >> PAGE_SHIFT;
        const uint64_t encoding = entry & (PAGE_SIZE - 1);
        if (encoding != PAGE_ENCODING_RAW && encoding != PAGE_ENCODING_ZERO)
            return error_set(err, -EBADMSG, "pages: unknown encoding %u of gfn 0x%llx",
                             (unsigned)encoding, (unsigned long long)gfn);
        if (has_after && gfn <= after)
            return error_set(err, -EBADMSG, "pages: gfn 0x%llx after 0x%llx is out of order",
                             (unsigned long long)gfn, (unsigned long long)after);
        if (!gmem_page(memory, gfn))
            return error_set(err, -EBADMSG, "pages: gfn 0x%llx is not guest memory",
                             (unsigned long long)gfn);
        raw += encoding == PAGE_ENCODING_RAW;
        after = gfn;
        has_after = true;
    }
    batch->last = after;
    batch->raw = wire_get_view(&r, raw * PAGE_SIZE);
    if (!wire_done(&r))
        return error_set(err, -EBADMSG, "pages: %zu raw pages announced, %zu bytes present", raw,
                         size - 8 - (size_t)count * ENTRY_SIZE);
    return 0;
}

static bool entry_is_zero(uint64_t entry)
{
    return (entry & (PAGE_SIZE - 1)) == PAGE_ENCODING_ZERO;
}

size_t page_batch_zero_count(const struct page_batch *batch)
{
    size_t zero = 0;
    for (size_t i = 0; i < batch->count; i++)
        zero += entry_is_zero(entry_at(batch, i));
    return zero;
}

void page_batch_apply(const struct page_batch *batch, const struct gmem *memory)
{
    const uint8_t *raw = batch->raw;
    for (size_t i = 0; i < batch->count; i++) {
        const uint64_t entry = entry_at(batch, i);
        uint8_t *page = gmem_page(memory, entry >> PAGE_SHIFT);
        if (entry_is_zero(entry)) {
            memset(page, 0, PAGE_SIZE);
        } else {
            memcpy(page, raw, PAGE_SIZE);
            raw += PAGE_SIZE;
        }
    }
}
