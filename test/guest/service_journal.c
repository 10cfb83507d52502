#include "test/guest/service_journal.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"
#include "test/guest/lib/virtio_blk.h"
#include "test/guest/service_protocol.h"

#define FNV_BASE  0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static union {
    struct service_record record;
    uint8_t bytes[BLK_SECTOR];
} sector __attribute__((aligned(BLK_SECTOR)));
static bool there;
static uint64_t last, last_chain;

void journal_init(void)
{
    there = blk_init(0);
}

static void request(enum blk_request what, uint64_t at)
{
    unsigned slot;
    bool ok;
    blk_submit(0, what, at, what == BLK_FLUSH ? 0 : 1, &sector);
    while (!blk_poll(&slot, &ok))
        cpu_relax();
    if (!ok)
        runtime_fail("the disk failed a request");
}

static uint64_t chain_word(uint64_t number, uint64_t token, uint64_t before)
{
    const uint64_t words[] = {number, token, before};
    const uint8_t *bytes = (const uint8_t *)words;
    uint64_t hash = FNV_BASE;
    for (unsigned i = 0; i < sizeof(words); i++)
        hash = (hash ^ bytes[i]) * FNV_PRIME;
    return hash;
}

uint64_t journal_append(uint64_t token)
{
    if (!there || last >= blk_sectors())
        return 0;
    const uint64_t number = last + 1, chain = chain_word(number, token, last_chain);
    memset(&sector, 0, sizeof(sector));
    sector.record = (struct service_record){.magic = SERVICE_RECORD_MAGIC,
                                            .number = number,
                                            .token = token,
                                            .before = last_chain,
                                            .chain = chain};
    request(BLK_WRITE, number - 1);
    request(BLK_FLUSH, 0);
    last = number;
    last_chain = chain;
    return number;
}

bool journal_read(uint64_t number, uint64_t *chain)
{
    if (!there || number == 0 || number > last)
        return false;
    memset(&sector, 0, sizeof(sector));
    request(BLK_READ, number - 1);
    if (sector.record.magic != SERVICE_RECORD_MAGIC || sector.record.number != number) {
        serial_print("CORRUPT record=%u found=%u magic=%x\n", number, sector.record.number,
                     sector.record.magic);
        return false;
    }
    *chain = sector.record.chain;
    return true;
}
