/* Records of disks: what decodes must encode to the very same bytes, also when the checksum is made
 * right, which a fuzzer would not find; pages: damaged ones mark everything. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "disk/lineage.h"
#include "disk/map_page.h"
#include "disk/pairing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool check(const uint8_t *bytes, size_t size, struct lineage *out)
{
    uint8_t again[LINEAGE_SIZE];
    if (lineage_decode(bytes, size, out, NULL) < 0)
        return false;
    lineage_encode(out, again);
    if (memcmp(again, bytes, LINEAGE_SIZE) != 0)
        abort();
    return true;
}

/* Name and padding are made right, too. */
static bool check_with_checksum(const uint8_t *data, struct lineage *out)
{
    uint8_t bytes[LINEAGE_SIZE];
    memcpy(bytes, data, LINEAGE_SIZE);
    memcpy(bytes, "KMRIdmap\1\0\0\0\20\0\0\0web", 19);
    memset(bytes + 19, 0, 61);
    memset(bytes + 305, 0, LINEAGE_SIZE - 8 - 305);
    const uint64_t sum = XXH3_64bits(bytes, LINEAGE_SIZE - 8);
    for (unsigned i = 0; i < 8; i++)
        bytes[LINEAGE_SIZE - 8 + i] = (uint8_t)(sum >> (8 * i));
    return check(bytes, sizeof(bytes), out);
}

static void check_page(const uint8_t *bytes)
{
    struct block_map map;
    if (block_map_init(&map, MAP_PAGE_BLOCKS - 5) < 0)
        abort();
    if (!map_page_decode(&map, 0, 1, bytes) && block_map_population(&map) != map.count)
        abort();
    block_map_free(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lineage a;
    struct lineage b;
    check(data, size, &a);
    if (size >= MAP_PAGE_SIZE)
        check_page(data);
    if (size < 2 * LINEAGE_SIZE)
        return 0;
    if (!check_with_checksum(data, &a) || !check_with_checksum(data + LINEAGE_SIZE, &b))
        return 0;
    const struct pairing_side p = {.lineage = &a, .trusted = true};
    const struct pairing_side s = {.lineage = &b, .trusted = true};
    pairing_decide(&p, &s, NULL);
    pairing_may_start(&a, b.term, "image", "map", NULL);
    return 0;
}
