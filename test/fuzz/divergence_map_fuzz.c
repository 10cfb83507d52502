/* Any bytes as the file of a divergence map, and what a daemon then does with it: no block that was
 * written is ever unmarked in the file, whatever stood there before and wherever the daemon dies.
 * Input: u16 number of operations' bytes, so many operations of two bytes, then the file. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/wire.h"
#include "disk/divergence_internal.h"
#include "disk/map_page.h"
#include "test/support/memory_map.h"

#define BLOCKS    600
#define DISK_SIZE (BLOCKS * BLOCK_SIZE)
#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Checksums are made right where the first byte of a header or a page is odd: a fuzzer would not
 * find them. */
static void put_sum(uint8_t *bytes, size_t covered)
{
    const uint64_t sum = XXH3_64bits(bytes, covered);
    for (unsigned i = 0; i < 8; i++)
        bytes[covered + i] = (uint8_t)(sum >> (8 * i));
}

static void make_right(uint8_t *file)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *header = file + i * DIVERGENCE_PAGE_SIZE;
        if (header[0] & 1) {
            memcpy(header, "KMRIdmap\1\0\0\0\20\0\0\0web", 19);
            memset(header + 19, 0, 61);
            memset(header + 305, 0, LINEAGE_SIZE - 8 - 305);
            put_sum(header, LINEAGE_SIZE - 8);
        }
    }
    uint8_t *page = file + DIVERGENCE_PAGES_AT;
    if (page[0] & 1)
        put_sum(page, MAP_PAGE_SIZE - 16);
}

static void write_block(struct divergence *d, uint64_t block, struct block_map *written)
{
    const uint64_t offset = block * BLOCK_SIZE;
    if (!divergence_write_begin(d, offset, BLOCK_SIZE) &&
        divergence_wait(d, offset, BLOCK_SIZE) < 0)
        return;
    block_map_set(written, block, 1);
}

static void step(struct divergence *d, unsigned what, uint8_t argument, struct block_map *written)
{
    struct lineage told;
    switch (what % 6) {
    case 0:
    case 1:
        write_block(d, (uint64_t)argument * 2, written);
        return;
    case 2:
        divergence_own(d, argument);
        return;
    case 3:
        require(divergence_tidy(d) <= 0);
        return;
    case 4:
        require(divergence_source(d, NULL, &told, NULL) <= 0);
        return;
    default:
        require(divergence_outdate(d, argument, NULL) <= 0);
    }
}

/* After a crash, and after an orderly end. */
static void expect_marked(struct memory_map *file, const struct block_map *written)
{
    struct divergence *d = memory_map_open(file, 0, DISK_SIZE);
    struct divergence_status status;
    struct block_map marks;
    divergence_snapshot(d, &status);
    require(block_map_init(&marks, BLOCKS) == 0);
    divergence_marks(d, &marks);
    for (uint64_t b = 0; status.known && status.trusted && b < BLOCKS; b++)
        require(!block_map_has(written, b) || block_map_has(&marks, b));
    block_map_free(&marks);
    divergence_close(&d, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_map file, crashed;
    log_set_level(LOG_LEVEL_ERROR);
    struct wire_reader r = {.bytes = data, .size = size};
    const size_t steps = wire_get_u16(&r) % (STEPS_MAX + 1);
    if (r.bad || size - r.used < 2 * steps)
        return 0;
    const uint8_t *operations = data + r.used;
    const size_t rest = size - r.used - 2 * steps;
    file = (struct memory_map){0};
    memcpy(file.bytes, operations + 2 * steps,
           rest < sizeof(file.bytes) ? rest : sizeof(file.bytes));
    if (rest > 0)
        make_right(file.bytes);
    struct block_map written;
    require(block_map_init(&written, BLOCKS) == 0);
    struct divergence *d = memory_map_open(&file, 0, DISK_SIZE);
    for (size_t i = 0; i < steps; i++)
        step(d, operations[2 * i], operations[2 * i + 1], &written);
    crashed = file;
    divergence_close(&d, NULL);
    expect_marked(&crashed, &written);
    expect_marked(&file, &written);
    block_map_free(&written);
    return 0;
}
