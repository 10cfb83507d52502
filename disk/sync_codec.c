#include "disk/sync_codec.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "disk/block_map.h"

#define DIGESTS_ITEM (8 + SYNC_DIGEST_SIZE)
#define PIECES_ITEM  (8 + SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE)

const char *sync_kind_name(enum sync_kind kind)
{
    static const char *const names[] = {
        [SYNC_ASK] = "ask",         [SYNC_START] = "start",
        [SYNC_DIGESTS] = "digests", [SYNC_PIECES] = "pieces",
        [SYNC_DATA] = "data",       [SYNC_FLUSH] = "flush",
        [SYNC_ROUND] = "round",     [SYNC_STATE] = "state",
        [SYNC_MARKS] = "marks",     [SYNC_READY] = "ready",
        [SYNC_DIFFER] = "differ",   [SYNC_DIFFER_PIECES] = "differ-pieces",
        [SYNC_DURABLE] = "durable",
    };
    return (unsigned)kind < ARRAY_SIZE(names) && names[kind] ? names[kind] : "?";
}

uint64_t sync_item_block(const struct sync_message *message, uint32_t i)
{
    const size_t item = message->kind == SYNC_PIECES ? PIECES_ITEM : DIGESTS_ITEM;
    struct wire_reader r = {.bytes = message->items + i * item, .size = 8};
    return wire_get_u64(&r);
}

const uint8_t *sync_item_digests(const struct sync_message *message, uint32_t i)
{
    const size_t item = message->kind == SYNC_PIECES ? PIECES_ITEM : DIGESTS_ITEM;
    return message->items + i * item + 8;
}

uint16_t sync_item_mask(const struct sync_message *message, uint32_t i)
{
    struct wire_reader r = {.bytes = message->items + i * 2, .size = 2};
    return wire_get_u16(&r);
}

/* ---- encoding ---- */

static void put_body(struct wire_writer *w, const struct sync_message *m)
{
    uint8_t lineage[LINEAGE_SIZE];
    switch (m->kind) {
    case SYNC_STATE:
        wire_put_u8(w, m->known);
        wire_put_u8(w, m->trusted);
        wire_put_u16(w, 0);
        wire_put_u32(w, 0);
        if (!m->known)
            return;
        /* fall through */
    case SYNC_START:
        lineage_encode(&m->lineage, lineage);
        wire_put(w, lineage, sizeof(lineage));
        return;
    case SYNC_MARKS:
        wire_put_u64(w, m->block);
        wire_put(w, m->items, m->items_size);
        return;
    case SYNC_DIGESTS:
    case SYNC_PIECES:
    case SYNC_DIFFER:
    case SYNC_DIFFER_PIECES:
        wire_put(w, m->items, m->items_size);
        return;
    case SYNC_DATA:
        wire_put_u64(w, m->block);
        wire_put_u16(w, m->data_mask);
        wire_put_u16(w, m->zero_mask);
        wire_put_u32(w, 0);
        wire_put(w, m->items, m->items_size);
        return;
    case SYNC_ROUND:
        wire_put_u64(w, m->point);
        /* fall through */
    case SYNC_FLUSH:
    case SYNC_DURABLE:
        wire_put_u64(w, m->cookie);
        return;
    case SYNC_ASK:
    case SYNC_READY:
        return;
    }
}

size_t sync_encode(const struct sync_message *message, uint8_t *out, size_t size)
{
    struct wire_writer w = {.bytes = out, .size = size};
    wire_put_u8(&w, (uint8_t)message->kind);
    wire_put_u8(&w, (uint8_t)message->disk);
    wire_put_u16(&w, 0);
    wire_put_u32(&w, message->count);
    put_body(&w, message);
    assert(!w.bad && w.used <= SYNC_PAYLOAD_MAX);
    return w.used;
}

/* ---- decoding ---- */

static bool take_items(struct wire_reader *r, struct sync_message *m, uint32_t max, size_t item)
{
    if (m->count == 0 || m->count > max)
        return false;
    m->items_size = m->count * item;
    m->items = wire_get_view(r, m->items_size);
    return m->items != NULL;
}

static bool blocks_ascend(const struct sync_message *m, uint64_t blocks)
{
    for (uint32_t i = 0; i < m->count; i++) {
        const uint64_t block = sync_item_block(m, i);
        if (block >= blocks || (i > 0 && block <= sync_item_block(m, i - 1)))
            return false;
    }
    return true;
}

static bool take_lineage(struct wire_reader *r, struct sync_message *m, uint64_t disk_size)
{
    const uint8_t *bytes = wire_get_view(r, LINEAGE_SIZE);
    return bytes && lineage_decode(bytes, LINEAGE_SIZE, &m->lineage, NULL) == 0 &&
           (m->kind != SYNC_START || m->lineage.size == disk_size);
}

static bool take_state(struct wire_reader *r, struct sync_message *m, uint64_t disk_size)
{
    const uint8_t known = wire_get_u8(r);
    const uint8_t trusted = wire_get_u8(r);
    if (wire_get_u16(r) || wire_get_u32(r) || known > 1 || trusted > known)
        return false;
    m->known = known;
    m->trusted = trusted;
    return !known || take_lineage(r, m, disk_size);
}

static bool take_marks(struct wire_reader *r, struct sync_message *m, uint64_t blocks)
{
    m->block = wire_get_u64(r);
    return m->block % 8 == 0 && m->block < blocks && take_items(r, m, SYNC_MARKS_MAX, 1) &&
           m->count <= (blocks - m->block + 7) / 8;
}

/* Pieces of the block that lie, at least in part, in the disk. */
static uint16_t pieces_of(uint64_t block, uint64_t disk_size)
{
    const uint64_t left = disk_size - (block << BLOCK_SHIFT);
    const uint64_t pieces = (left + SYNC_PIECE_SIZE - 1) / SYNC_PIECE_SIZE;
    return (uint16_t)(pieces >= SYNC_BLOCK_PIECES ? UINT16_MAX : (1u << pieces) - 1);
}

static bool take_data(struct wire_reader *r, struct sync_message *m, uint64_t disk_size)
{
    m->block = wire_get_u64(r);
    m->data_mask = wire_get_u16(r);
    m->zero_mask = wire_get_u16(r);
    if (wire_get_u32(r) || r->bad || m->count || m->block >= block_count_of(disk_size))
        return false;
    const uint16_t all = (uint16_t)(m->data_mask | m->zero_mask);
    if (!all || (m->data_mask & m->zero_mask) || (all & ~pieces_of(m->block, disk_size)))
        return false;
    m->items_size = (size_t)__builtin_popcount(m->data_mask) * SYNC_PIECE_SIZE;
    m->items = wire_get_view(r, m->items_size);
    return m->items != NULL;
}

/* Without items. */
static bool take_cookie(struct wire_reader *r, struct sync_message *m)
{
    m->cookie = wire_get_u64(r);
    return m->count == 0 && m->cookie;
}

static bool take_body(struct wire_reader *r, struct sync_message *m, uint64_t disk_size)
{
    const uint64_t blocks = block_count_of(disk_size);
    switch (m->kind) {
    case SYNC_ASK:
    case SYNC_READY:
        return m->count == 0;
    case SYNC_START:
        return m->count == 0 && take_lineage(r, m, disk_size);
    case SYNC_STATE:
        return m->count == 0 && take_state(r, m, disk_size);
    case SYNC_MARKS:
        return take_marks(r, m, blocks);
    case SYNC_DIGESTS:
        return take_items(r, m, SYNC_DIGESTS_MAX, DIGESTS_ITEM) && blocks_ascend(m, blocks);
    case SYNC_PIECES:
        return take_items(r, m, SYNC_PIECES_MAX, PIECES_ITEM) && blocks_ascend(m, blocks);
    case SYNC_DIFFER:
        return take_items(r, m, SYNC_DIGESTS_MAX / 8, 1);
    case SYNC_DIFFER_PIECES:
        return take_items(r, m, SYNC_PIECES_MAX, 2);
    case SYNC_DATA:
        return take_data(r, m, disk_size);
    case SYNC_ROUND:
        m->point = wire_get_u64(r);
        return m->point && take_cookie(r, m);
    case SYNC_FLUSH:
    case SYNC_DURABLE:
        return take_cookie(r, m);
    }
    return false;
}

int sync_decode(const uint8_t *bytes, size_t size, const struct disk_geometry *geometry,
                struct sync_message *out, struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = size};
    memset(out, 0, sizeof(*out));
    out->kind = (enum sync_kind)wire_get_u8(&r);
    out->disk = wire_get_u8(&r);
    const bool padded = wire_get_u16(&r) != 0;
    out->count = wire_get_u32(&r);
    const bool legal = !r.bad && !padded && size <= SYNC_PAYLOAD_MAX &&
                       out->disk < geometry->count && geometry->sizes[out->disk] &&
                       take_body(&r, out, geometry->sizes[out->disk]) && wire_done(&r);
    if (legal)
        return 0;
    memset(out, 0, sizeof(*out));
    return error_set(err, -EBADMSG, "a message of a disk's synchronisation is malformed");
}
