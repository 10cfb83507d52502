/* What is known, durably, about one disk image: whose copy it is, where it comes from, whether it
 * may be used. The header of its divergence map (disk/divergence.h), and what the two hosts tell
 * each other about a disk before they synchronise it. Pure codec.
 *
 * Two kinds of identifiers, both random, so that no clock and no counter has to be trusted:
 *
 *   generation  names a period in which one host alone wrote the disk. A new one begins when a
 *               primary is first started, is promoted, or goes on without its standby, before the
 *               first write of that period reaches the image. A standby takes its primary's list
 *               over when it is in step. The list, newest first, tells whether one image descends
 *               from the other or both have gone on by themselves (disk/pairing.h).
 *   point       names a moment at which the images of two hosts were equal but for the blocks
 * marked in either map. Only with a point in common may the maps be trusted.
 *
 * States of an image:
 *
 *                first write            in step                    a newer state exists elsewhere
 *      (new) ──────► OWNER ◄─promotion─ FOLLOWER ◄──┐ ┌──────────► OUTDATED (from OWNER, FOLLOWER)
 *                      │                    │       │ │                │
 *                      └────────────────────┴──► SYNCING ◄─────────────┘
 *                            becomes the target of a synchronisation
 *
 *   OWNER     the guest ran on it, here
 *   FOLLOWER  a standby's, in step with its primary as long as that says so
 *   SYNCING   partly overwritten: no moment of the guest's, unusable until in step
 *   OUTDATED  of one moment, but known to be behind
 *
 * Encoded: LINEAGE_SIZE bytes, one sector, little-endian, zero-padded, XXH3-64 in the last 8. */
#ifndef KEMARI_DISK_LINEAGE_H
#define KEMARI_DISK_LINEAGE_H

#include "base/error.h"
#include "base/types.h"

#define LINEAGE_SIZE        512
#define LINEAGE_VERSION     1
#define LINEAGE_GENERATIONS 16 /* remembered */
#define LINEAGE_VM_MAX      64 /* including the terminating zero */
#define LINEAGE_DISK_SIZE   16 /* bytes of a disk's identity */

enum image_state { IMAGE_OWNER = 1, IMAGE_FOLLOWER, IMAGE_SYNCING, IMAGE_OUTDATED };

/* Which file or device the map was made for, and how it was left: a copied, replaced or restored
 * image is another one. */
struct image_stamp {
    uint64_t inode; /* 0 for a block device, as the times are then */
    bool closed;    /* in an orderly way, with the time below */
    int64_t modified_s;
    int64_t modified_ns;
};

struct lineage {
    char vm[LINEAGE_VM_MAX];
    uint32_t index;                  /* of the disk in the machine */
    uint64_t size;                   /* bytes of the image */
    uint8_t disk[LINEAGE_DISK_SIZE]; /* the same on all hosts that have a copy; never all zero */
    enum image_state state;
    term_t term; /* in which the state was reached, 0 if none was known */
    uint64_t point;
    uint64_t next_point; /* 0, or what the other side may have put in place of `point` already */
    uint64_t generations[LINEAGE_GENERATIONS]; /* newest first, 0 beyond the last; at least one */
    uint64_t nonce;    /* of the map's pages: others' pages are not its own */
    uint64_t sequence; /* counts what was written; never 0 */
    struct image_stamp stamp;
};

/* The lineage must be valid (asserted). */
void lineage_encode(const struct lineage *lineage, uint8_t out[LINEAGE_SIZE]);

/* -EBADMSG with the reason for everything that lineage_encode() would not have made; `out` is
 * zeroed then. */
int lineage_decode(const uint8_t *bytes, size_t size, struct lineage *out, struct error *err);

/* True when the generation is among those of `lineage`. */
bool lineage_has(const struct lineage *lineage, uint64_t generation);

/* Puts a new generation in front; the oldest beyond LINEAGE_GENERATIONS is forgotten. */
void lineage_begin(struct lineage *lineage, uint64_t generation);

/* "owner", "follower", ...; static. */
const char *image_state_name(enum image_state state);

#endif
