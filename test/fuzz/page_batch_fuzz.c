/* Any bytes as the payload of a PAGES frame. What is accepted must be within memory, ascend, and
 * write exactly the pages that it names, if their bodies are pages; the digest of contents, which
 * no fuzzer guesses, is left out. The first byte chooses what came before. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "checkpoint/page_codec.h"

#define MEMORY ((uint64_t)4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(const struct page_batch *batch, bool has_after, gfn_t after)
{
    assert(batch->count >= 1 && batch->count <= PAGE_BATCH_MAX);
    assert(page_batch_zero_count(batch) <= batch->count);
    struct wire_reader r = {.bytes = batch->entries, .size = batch->count * 8};
    for (size_t i = 0; i < batch->count; i++) {
        const gfn_t gfn = wire_get_u64(&r) >> PAGE_SHIFT;
        assert(gfn < MEMORY >> PAGE_SHIFT);
        assert(!has_after || gfn > after);
        after = gfn;
        has_after = true;
    }
    assert(batch->last == after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gmem *memory;
    if (!memory && gmem_create(&(struct gmem_config){.size = MEMORY}, &memory, NULL) < 0)
        abort();
    if (!size)
        return 0;
    const bool has_after = data[0] & 1;
    const gfn_t after = data[0] >> 1;
    struct page_batch batch;
    struct error err = {0};
    const int rc = page_batch_decode(&batch, data + 1, size - 1, memory, has_after, after, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc == 0) {
        look_at(&batch, has_after, after);
        uint8_t content[DIGEST_128_SIZE];
        if (page_batch_content(&batch, memory, content, NULL) == 0)
            page_batch_apply(&batch, memory);
    }
    return 0;
}
