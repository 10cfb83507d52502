/* The three functions a freestanding compiler may call on its own. String instructions by words: a
 * KVM that emulates CPL 0 takes a step per element. */
#include "test/guest/lib/runtime.h"

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;
    size_t words = size / 8, bytes = size % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return start;
}

void *memset(void *to, int value, size_t size)
{
    void *start = to;
    size_t words = size / 8, bytes = size % 8;
    const uint64_t pattern = 0x0101010101010101ull * (uint8_t)value;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (; size; size--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}
