/* What primary and secondary say to each other to make a disk's images equal: the payload of a
 * FRAME_SYNC, one message each (docs/protocol.md, "Disk synchronisation"). Pure codec; every byte
 * that comes in is hostile; nothing is copied.
 *
 *   header, 8 bytes: u8 kind, u8 disk, u16 zero, u32 count (0 where there are no items)
 *
 *   kind           direction   behind the header
 *   ASK            P → S       nothing
 *   STATE          S → P       u8 known, u8 trusted, u16 zero, u32 zero; if known, a lineage
 *   MARKS          S → P       u64 first block (multiple of 8); count bytes of bits. After STATE,
 * in order, up to the end of the disk, if it is trusted START          P → S       the primary's
 * lineage, with the point that follows READY          S → P       nothing: the map says SYNCING
 *   DIGESTS        P → S       count × { u64 block, SHA-256 of it }, ascending
 *   DIFFER         S → P       count bytes: bit i for the i-th digest of the message answered
 *   PIECES         P → S       count × { u64 block, 16 × SHA-256 of 4 KiB each }, ascending
 *   DIFFER_PIECES  S → P       count × u16: bit i for the i-th piece
 *   DATA           P → S       u64 block, u16 with data, u16 all zero, u32 zero; 4 KiB for each
 *                              piece with data, ascending
 *   FLUSH          P → S       u64 cookie: make durable what came before
 *   ROUND          P → S       u64 point in force, u64 point that follows: likewise, and expect it
 *   DURABLE        S → P       u64 cookie, or the point that follows
 *
 * The last block of a disk may be shorter; its digests are of what there is, and pieces beyond the
 * end have a digest of nothing and never data. */
#ifndef KEMARI_DISK_SYNC_CODEC_H
#define KEMARI_DISK_SYNC_CODEC_H

#include "base/error.h"
#include "disk/lineage.h"
#include "disk/record.h"

#define SYNC_PAYLOAD_MAX  ((64u << 10) + 64) /* bytes of one message */
#define SYNC_DIGEST_SIZE  32
#define SYNC_PIECE_SIZE   4096
#define SYNC_BLOCK_PIECES 16
#define SYNC_MARKS_MAX    (32u << 10) /* bytes of bits in a message */
#define SYNC_DIGESTS_MAX  64
#define SYNC_PIECES_MAX   64

enum sync_kind {
    SYNC_ASK = 1,
    SYNC_START,
    SYNC_DIGESTS,
    SYNC_PIECES,
    SYNC_DATA,
    SYNC_FLUSH,
    SYNC_ROUND,
    SYNC_STATE = 16,
    SYNC_MARKS,
    SYNC_READY,
    SYNC_DIFFER,
    SYNC_DIFFER_PIECES,
    SYNC_DURABLE,
};

struct sync_message {
    enum sync_kind kind;
    unsigned disk;
    uint32_t count;
    bool known;             /* STATE */
    bool trusted;           /* STATE */
    struct lineage lineage; /* STATE if known, START */
    uint64_t block;         /* DATA; MARKS: the first */
    uint16_t data_mask;     /* DATA */
    uint16_t zero_mask;     /* DATA */
    uint64_t cookie;        /* FLUSH, DURABLE; ROUND: the point that follows */
    uint64_t point;         /* ROUND: the one in force */
    /* MARKS: bits; DIGESTS, PIECES: items; DIFFER: bits; DIFFER_PIECES: masks; DATA: pieces.
     * Borrowed. */
    const uint8_t *items;
    size_t items_size;
};

/* Returns the bytes written. The message must be legal and fit (asserted). */
size_t sync_encode(const struct sync_message *message, uint8_t *out, size_t size);

/* -EBADMSG for everything that isn't exactly a message about a disk of this geometry; `out` is
 * zeroed then. Blocks lie in the disk and ascend. */
int sync_decode(const uint8_t *bytes, size_t size, const struct disk_geometry *geometry,
                struct sync_message *out, struct error *err);

/* The i-th item of DIGESTS or PIECES: its block and its digests; of DIFFER_PIECES: its mask. */
uint64_t sync_item_block(const struct sync_message *message, uint32_t i);
const uint8_t *sync_item_digests(const struct sync_message *message, uint32_t i);
uint16_t sync_item_mask(const struct sync_message *message, uint32_t i);

/* "digests", "data", ...; "?" for none. Static. */
const char *sync_kind_name(enum sync_kind kind);

#endif
