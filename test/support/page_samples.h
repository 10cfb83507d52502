/* Pages for tests of their encodings: the same ones in every run. */
#ifndef KEMARI_TEST_SUPPORT_PAGE_SAMPLES_H
#define KEMARI_TEST_SUPPORT_PAGE_SAMPLES_H

#include "checkpoint/page_encoder.h"

#define PAGE_SAMPLES      512
#define PAGE_SAMPLES_SIZE (PAGE_SAMPLES * PAGE_SIZE)
#define PAGE_SAMPLES_SEED UINT64_C(0x0123456789abcdef)

struct page_samples_batch {
    uint8_t bytes[PAGE_BATCH_PAYLOAD_MAX];
    size_t size;
};

uint64_t page_samples_draw(void);
/* One page, that nothing makes smaller, or of words that LZ4 likes. */
void page_samples_random(uint8_t *page);
void page_samples_text(uint8_t *page);

/* Memory of PAGE_SAMPLES pages, and an encoder that refers to it, at the begin of a link. */
struct gmem *page_samples_memory(void);
struct page_encoder *page_samples_encoder(enum page_encoder_mode mode, const struct gmem *memory);
/* The bytes of a batch one after the other. */
void page_samples_gather(const struct encoded_batch *batch, struct page_samples_batch *out);

#endif
