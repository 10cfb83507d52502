#include "test/guest/lib/stamp.h"

#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

#define PAGE           4096u
#define STAMPS         8u
#define STAMP_DISTANCE (PAGE / STAMPS)

struct stamp {
    uint64_t round;
    uint64_t page;
    uint64_t check;
    uint64_t round_again; /* a tear inside the 32 bytes */
};

/* A mixer with no fixed point at 0: an all-zero page is never valid. */
static uint64_t mix(uint64_t round, uint64_t page, uint64_t place)
{
    uint64_t x = round * 0x9e3779b97f4a7c15ull + page * 0xc2b2ae3d27d4eb4full + place + 1;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 32;
    return x;
}

void stamp_write(const struct stamp_area *area, uint64_t index, uint64_t round)
{
    const uint64_t page = stamp_page(area, index);
    for (unsigned s = 0; s < STAMPS; s++) {
        volatile struct stamp *stamp = (volatile struct stamp *)(page + s * STAMP_DISTANCE);
        stamp->round = round;
        stamp->page = page;
        stamp->check = mix(round, page, s);
        stamp->round_again = round;
        uint64_t *words = (uint64_t *)(page + s * STAMP_DISTANCE);
        for (unsigned w = sizeof(*stamp) / 8; area->fill && w < STAMP_DISTANCE / 8; w++)
            words[w] = mix(round, page, s * STAMP_DISTANCE + w);
    }
}

static bool fill_is(uint64_t page, unsigned s, uint64_t round)
{
    const uint64_t *words = (const uint64_t *)(page + s * STAMP_DISTANCE);
    for (unsigned w = sizeof(struct stamp) / 8; w < STAMP_DISTANCE / 8; w++)
        if (words[w] != mix(round, page, s * STAMP_DISTANCE + w))
            return false;
    return true;
}

bool stamp_check(const struct stamp_area *area, uint64_t index, uint64_t low, uint64_t high)
{
    const uint64_t page = stamp_page(area, index);
    for (unsigned s = 0; s < STAMPS; s++) {
        const volatile struct stamp *stamp =
            (const volatile struct stamp *)(page + s * STAMP_DISTANCE);
        const uint64_t round = stamp->round;
        bool good = round >= low && round <= high && stamp->page == page;
        if (low == high) /* nobody writes this page now: everything must agree */
            good = good && stamp->round_again == round && stamp->check == mix(round, page, s) &&
                   (!area->fill || fill_is(page, s, round));
        if (!good) {
            serial_print("CORRUPT page=%x stamp=%u round=%u/%u of=%x want=%u-%u\n", page,
                         (uint64_t)s, round, stamp->round_again, stamp->page, low, high);
            return false;
        }
    }
    return true;
}

bool stamp_round(const struct stamp_area *area, uint64_t first, uint64_t last, uint64_t round)
{
    for (uint64_t i = first; i < last; i++) {
        if (round > 1 && !stamp_check(area, i, round - 1, round - 1))
            return false;
        stamp_write(area, i, round);
    }
    return true;
}

struct stamp_area stamp_area_from_args(uint64_t count)
{
    const struct stamp_area area = {
        .base = args_number("base", GUEST_FREE_BASE),
        .stride = args_number("stride", PAGE),
        .count = count,
        .fill = args_number("fill", 0) != 0,
    };
    if (area.base % PAGE || area.stride % PAGE || area.stride < PAGE)
        runtime_fail("base or stride is no multiple of a page");
    if (count && !runtime_has_memory(area.base, (count - 1) * area.stride + PAGE))
        runtime_fail("not enough memory there for that many pages");
    return area;
}
