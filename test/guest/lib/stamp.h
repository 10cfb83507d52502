/* Pages that prove their own age.
 *
 * A page is stamped with a round by eight 32-byte stamps, one every 512 bytes, each of round, page
 * address and a checksum over both and its place. A page whose stamps carry different rounds was
 * torn; one with an older round was missed by a checkpoint; one with a wrong address or checksum
 * was applied in the wrong place or damaged. The rest of the page is left alone, or filled with
 * words that depend on round and place (`fill`), which no encoding can compress. */
#ifndef KEMARI_GUEST_STAMP_H
#define KEMARI_GUEST_STAMP_H

#include <stdbool.h>
#include <stdint.h>

struct stamp_area {
    uint64_t base;   /* address of the first page */
    uint64_t stride; /* bytes from page to page, a multiple of 4096 */
    uint64_t count;  /* pages */
    bool fill;
};

static inline uint64_t stamp_page(const struct stamp_area *area, uint64_t index)
{
    return area->base + index * area->stride;
}

void stamp_write(const struct stamp_area *area, uint64_t index, uint64_t round);

/* True when every stamp of the page is whole and its round lies in [low, high]. Otherwise prints
 * "CORRUPT page=.. stamp=.. round=.. want=..-.." and returns false. Stamps may differ within the
 * interval: another vCPU may be writing. With low == high, fill words are verified as well. */
bool stamp_check(const struct stamp_area *area, uint64_t index, uint64_t low, uint64_t high);

/* One round over pages [first, last): each must carry round-1 (unless round is 1) and gets `round`.
 * False at the first page that does not. */
bool stamp_round(const struct stamp_area *area, uint64_t first, uint64_t last, uint64_t round);

/* Reads "base", "stride", "fill" and checks that `count` pages fit into RAM (fails if not). */
struct stamp_area stamp_area_from_args(uint64_t count);

#endif
