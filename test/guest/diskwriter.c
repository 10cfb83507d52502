/* diskwriter: changes a disk at random and proves by itself that it reads what it wrote, so that a
 * failover that gives it a disk of another moment than its memory is found out.
 *
 *   blocks=N    blocks of 4 KiB that are changed (256), behind the journal
 *   journal=N   blocks of the journal at the disk's begin (8); 0: none
 *   depth=N     requests at once, up to 15 (8)
 *   rate=N      requests per second; 0: as fast as possible (0)
 *   report=N    prints "ops=N time=T" every N requests; 0: never (1000)
 *   seed=N      of the choice (1)
 *
 * The disk must be zeroes at first. For each block memory has the version that it must have: a read
 * that finds another one is "CORRUPT ...". Writes, discards and write-zeroes count a version up
 * when they are done; while one is under way nobody reads the block. A failed request is
 * "FAIL ...".
 *
 * The journal: record n is the block n % N, holding version n; it is written, flushed, and then
 * said on the console, "journal=n": from then on it must be found by everybody. */
#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"
#include "test/guest/lib/virtio_blk.h"

#define BLOCK         4096u
#define WORDS         (BLOCK / 8)
#define SECTORS       (BLOCK / BLK_SECTOR)
#define SPAN_MAX      4u /* blocks of one request */
#define BLOCKS_MAX    4096u
#define SLOT_JOURNAL  (BLK_SLOTS - 1)
#define JOURNAL_EVERY 50 /* requests */

static struct {
    bool busy;
    enum blk_request request;
    uint32_t first, count; /* blocks */
    uint64_t version;      /* that a write makes of them */
} slots[BLK_SLOTS];

static uint64_t buffers[BLK_SLOTS][SPAN_MAX * WORDS] __attribute__((section(".bss.noinit")));
static uint64_t versions[BLOCKS_MAX]; /* 0: zeroes */
static bool locked[BLOCKS_MAX];       /* a change is under way */
static uint32_t blocks, journal, depth;
static uint64_t report, period_ns, state, last_version, last_record, ops;

/* The time is mixed in: a guest that goes on elsewhere must not do by chance what the old one did
 * since, which would hide that the disk has it already. */
static uint32_t random32(void)
{
    state += clock_ns() | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static uint64_t word_of(uint64_t block, uint64_t version, unsigned i)
{
    return version ? (version << 20 | block) * 0x9e3779b97f4a7c15ull + i : 0;
}

static void fill(uint64_t *words, uint64_t block, uint64_t version)
{
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = word_of(block, version, i);
}

static void check(const uint64_t *words, uint32_t block)
{
    for (unsigned i = 0; i < WORDS; i++)
        if (words[i] != word_of(journal + block, versions[block], i)) {
            serial_print("CORRUPT block=%u word=%u version=%u found=%x want=%x\n", (uint64_t)block,
                         (uint64_t)i, versions[block], words[i],
                         word_of(journal + block, versions[block], i));
            runtime_fail("the disk is of another moment than memory");
        }
}

/* ---- the journal ---- */

static void write_record(void)
{
    const uint64_t record = last_record + 1, block = record % journal;
    fill(buffers[SLOT_JOURNAL], block, record);
    slots[SLOT_JOURNAL].busy = true;
    slots[SLOT_JOURNAL].request = BLK_WRITE;
    blk_submit(SLOT_JOURNAL, BLK_WRITE, block * SECTORS, SECTORS, buffers[SLOT_JOURNAL]);
}

static void go_on_with_record(void)
{
    if (slots[SLOT_JOURNAL].request == BLK_WRITE) {
        slots[SLOT_JOURNAL].request = BLK_FLUSH;
        blk_submit(SLOT_JOURNAL, BLK_FLUSH, 0, 0, buffers[SLOT_JOURNAL]);
        return;
    }
    slots[SLOT_JOURNAL].busy = false;
    last_record++;
    serial_print("journal=%u\n", last_record);
}

/* ---- everything else ---- */

static enum blk_request choose(void)
{
    const uint32_t dice = random32() % 100;
    const enum blk_request request = dice < 45   ? BLK_WRITE
                                     : dice < 85 ? BLK_READ
                                     : dice < 90 ? BLK_DISCARD
                                     : dice < 95 ? BLK_WRITE_ZEROES
                                                 : BLK_FLUSH;
    return blk_can(request) ? request : BLK_READ;
}

static bool is_free(uint32_t first, uint32_t count)
{
    for (uint32_t b = first; b < first + count; b++)
        if (locked[b])
            return false;
    return true;
}

static void begin(unsigned slot)
{
    const enum blk_request request = choose();
    const uint32_t count = 1 + random32() % SPAN_MAX, first = random32() % (blocks - count + 1);
    if (!is_free(first, count))
        return;
    slots[slot].busy = true;
    slots[slot].request = request;
    slots[slot].first = first;
    slots[slot].count = request == BLK_FLUSH ? 0 : count;
    slots[slot].version = request == BLK_WRITE ? ++last_version : 0;
    for (uint32_t i = 0; i < slots[slot].count; i++) {
        uint64_t *words = buffers[slot] + i * WORDS;
        locked[first + i] = true; /* for a reader, too: others must not change it meanwhile */
        if (request == BLK_WRITE)
            fill(words, journal + first + i, slots[slot].version);
        else if (request == BLK_READ)
            memset(words, 0xee, BLOCK);
    }
    blk_submit(slot, request, (uint64_t)(journal + first) * SECTORS, slots[slot].count * SECTORS,
               buffers[slot]);
}

static void end(unsigned slot)
{
    for (uint32_t i = 0; i < slots[slot].count; i++) {
        const uint32_t block = slots[slot].first + i;
        locked[block] = false;
        if (slots[slot].request == BLK_READ)
            check(buffers[slot] + i * WORDS, block);
        else
            versions[block] = slots[slot].version;
    }
    slots[slot].busy = false;
}

static void take_done(void)
{
    unsigned slot;
    bool ok;
    while (blk_poll(&slot, &ok)) {
        if (!ok) {
            serial_print("FAIL request=%u block=%u\n", (uint64_t)slots[slot].request,
                         (uint64_t)slots[slot].first);
            runtime_fail("the disk failed a request");
        }
        if (slot == SLOT_JOURNAL) {
            go_on_with_record();
            continue;
        }
        end(slot);
        ops++;
        if (report && ops % report == 0)
            serial_print("ops=%u time=%u\n", ops, clock_ns());
        if (journal && ops % JOURNAL_EVERY == 0 && !slots[SLOT_JOURNAL].busy)
            write_record();
    }
}

static void work(void *unused)
{
    (void)unused;
    uint64_t next = clock_ns();
    for (;;) {
        take_done();
        for (unsigned slot = 0; slot < depth; slot++) {
            if (slots[slot].busy || (period_ns && clock_ns() < next))
                continue;
            begin(slot);
            next += period_ns;
        }
        cpu_relax();
    }
}

void guest_main(void)
{
    blocks = (uint32_t)args_number("blocks", 256);
    journal = (uint32_t)args_number("journal", 8);
    depth = (uint32_t)args_number("depth", 8);
    report = args_number("report", 1000);
    state = args_number("seed", 1) * 0x2545f4914f6cdd1dull;
    const uint64_t rate = args_number("rate", 0);
    period_ns = rate ? 1000000000 / rate : 0;
    if (!blk_init(0))
        runtime_fail("there is no disk");
    if (blocks < SPAN_MAX || blocks > BLOCKS_MAX || depth < 1 || depth > SLOT_JOURNAL || !state ||
        (uint64_t)(journal + blocks) * SECTORS > blk_sectors())
        runtime_fail("an argument is out of range");
    clock_init();
    serial_print("ready sectors=%u\n", blk_sectors());
    runtime_user(0, work, NULL);
}
