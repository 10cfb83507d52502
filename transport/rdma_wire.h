/* What two RDMA carriers say to each other. Pure codec; little-endian.
 *
 * A connection is one reliable connected queue pair. At connection each side tells an *offer* in
 * the private data of the connection manager. Afterwards the bytes of the link travel in
 * *segments*, in order, each of which takes one receive slot of the peer:
 *
 *   message   a SEND: a header of 8 bytes, then up to RDMA_MESSAGE_MAX bytes
 *   bulk      one-sided WRITEs into the peer's ring, the last one with immediate data: the number
 * of bytes that this segment added to the ring. Positions count from 0 and wrap.
 *
 * Besides data, messages give back room (CREDIT), tell where the ring is (RING, once, when the peer
 * has proved the key: nobody else is given memory to write to), and keep an idle connection honest
 * (ALIVE: the fabric only notices a dead peer when something is sent).
 *
 *   message header: u32 type, u32 size of what follows
 *   CREDIT: u64 segments, u64 bytes    consumed since the beginning, of the peer's
 *   RING:   u64 address, u32 rkey, u32 size
 *   ALIVE:  nothing */
#ifndef KEMARI_TRANSPORT_RDMA_WIRE_H
#define KEMARI_TRANSPORT_RDMA_WIRE_H

#include "base/error.h"
#include "base/types.h"

#define RDMA_WIRE_VERSION     1
#define RDMA_OFFER_SIZE       16 /* of at most 56 that a connection request can carry */

#define RDMA_SLOTS            64 /* receive slots for segments */
#define RDMA_CONTROL_SLOTS    16 /* further ones, for CREDIT, RING and ALIVE */
#define RDMA_SLOT_SIZE        4096u
#define RDMA_MESSAGE_OVERHEAD 8
#define RDMA_MESSAGE_MAX      (RDMA_SLOT_SIZE - RDMA_MESSAGE_OVERHEAD)

#define RDMA_RING_MIN         (64u << 10)
#define RDMA_RING_MAX         (64u << 20)

enum rdma_message_type {
    RDMA_MESSAGE_DATA = 1,
    RDMA_MESSAGE_CREDIT = 2,
    RDMA_MESSAGE_RING = 3,
    RDMA_MESSAGE_ALIVE = 4,
};

struct rdma_message {
    enum rdma_message_type type;
    union {
        struct {
            const uint8_t *bytes; /* borrowed from what was decoded */
            uint32_t size;        /* 1..RDMA_MESSAGE_MAX */
        } data;
        struct {
            uint64_t segments, bytes;
        } credit;
        struct {
            uint64_t address;
            uint32_t key;
            uint32_t size; /* a power of two, RDMA_RING_MIN..RDMA_RING_MAX */
        } ring;
    };
};

/* Both sides use the same constants; the offer proves it. `encrypted`: TLS begins at once. */
void rdma_offer_encode(bool encrypted, uint8_t out[RDMA_OFFER_SIZE]);

/* Of the peer of a side that says `encrypted` itself. `size` may be larger: the connection manager
 * pads with zeroes. -EPROTO: not Kemari, or other constants, or the other way of the two;
 * -EPROTONOSUPPORT: another version. */
int rdma_offer_check(const uint8_t *bytes, size_t size, bool encrypted, struct error *err);

/* Writes header and body, for DATA the header alone, into `out`; returns the bytes written. `out`
 * has room for RDMA_SLOT_SIZE. The message must be valid (asserted). */
size_t rdma_message_encode(const struct rdma_message *message, uint8_t *out);

/* -EBADMSG with a phrase: unknown type, wrong size, trailing bytes, a ring that can't be. */
int rdma_message_decode(const uint8_t *bytes, size_t size, struct rdma_message *out,
                        struct error *err);

#endif
