#include "test/support/page_samples.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/page_cache.h"

static uint64_t random_state = 0x9e3779b97f4a7c15;

uint64_t page_samples_draw(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

void page_samples_random(uint8_t *page)
{
    for (size_t i = 0; i < PAGE_SIZE; i += 8) {
        const uint64_t word = page_samples_draw();
        memcpy(page + i, &word, 8);
    }
}

void page_samples_text(uint8_t *page)
{
    static const char *const words[] = {"epoch ", "commit ", "guest ", "page "};
    size_t at = 0;
    while (at < PAGE_SIZE) {
        const char *word = words[page_samples_draw() % 4];
        for (size_t i = 0; word[i] && at < PAGE_SIZE; i++)
            page[at++] = (uint8_t)word[i];
    }
}

struct gmem *page_samples_memory(void)
{
    struct gmem *memory;
    if (gmem_create(&(struct gmem_config){.size = PAGE_SAMPLES_SIZE}, &memory, NULL) < 0)
        abort();
    return memory;
}

struct page_encoder *page_samples_encoder(enum page_encoder_mode mode, const struct gmem *memory)
{
    struct page_encoder *encoder;
    const struct page_encoder_config config = {
        .mode = mode, .cache_size = PAGE_CACHE_SIZE_MIN, .memory = memory};
    if (page_encoder_create(&config, &encoder, NULL) < 0)
        abort();
    page_encoder_begin_link(encoder, true, PAGE_SAMPLES_SEED);
    return encoder;
}

void page_samples_gather(const struct encoded_batch *batch, struct page_samples_batch *out)
{
    out->size = 0;
    for (int i = 0; i < batch->part_count; i++) {
        memcpy(out->bytes + out->size, batch->parts[i].iov_base, batch->parts[i].iov_len);
        out->size += batch->parts[i].iov_len;
    }
}
