#include "checkpoint/page_copy.h"

#include <immintrin.h>
#include <string.h>

#define VECTOR_SIZE sizeof(__m256i)
#define LINE        (2 * VECTOR_SIZE)

void page_copy_near(uint8_t *out, const uint8_t *page)
{
    memcpy(out, page, PAGE_SIZE);
}

__attribute__((target("avx2"))) static void stream_avx2(uint8_t *out, const uint8_t *page)
{
    for (size_t at = 0; at < PAGE_SIZE; at += 2 * LINE) {
        const __m256i *from = (const __m256i *)(const void *)(page + at);
        __m256i *to = (__m256i *)(void *)(out + at);
        const __m256i a = _mm256_load_si256(from);
        const __m256i b = _mm256_load_si256(from + 1);
        const __m256i c = _mm256_load_si256(from + 2);
        const __m256i d = _mm256_load_si256(from + 3);
        _mm256_stream_si256(to, a);
        _mm256_stream_si256(to + 1, b);
        _mm256_stream_si256(to + 2, c);
        _mm256_stream_si256(to + 3, d);
    }
}

void page_copy_far(uint8_t *out, const uint8_t *page)
{
    if (__builtin_cpu_supports("avx2"))
        stream_avx2(out, page);
    else
        page_copy_near(out, page);
}

void page_copy_far_done(void)
{
    _mm_sfence();
}
