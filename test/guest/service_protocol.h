/* What the service guest says, for the guest; test/oracle/ has its own words for the same bytes.
 *
 * A request is a datagram to the UDP port, or 48 bytes of the stream at the TCP port; each gets a
 * reply. Fields are little-endian. A client numbers its requests upwards, in any steps. The guest
 * keeps each client's newest request: the same number again is not done again, only answered again;
 * a smaller one is answered SERVICE_OLD and does nothing. So a client that repeats a request until
 * it is answered has it done exactly once. */
#ifndef KEMARI_GUEST_SERVICE_PROTOCOL_H
#define KEMARI_GUEST_SERVICE_PROTOCOL_H

#include <stdint.h>

#define SERVICE_PORT      7100
#define SERVICE_REQUEST   0x3151455256524553ull
#define SERVICE_REPLY     0x3150455256524553ull
#define SERVICE_CLIENTS   64 /* client < this */
#define SERVICE_COUNTERS  64 /* key < this, for SERVICE_ADD and SERVICE_COUNT */
#define SERVICE_REGISTERS 64 /* key < this, for the others */

enum service_operation {
    SERVICE_ADD = 1, /* adds one to a counter; the reply's value is the sum */
    SERVICE_COUNT,   /* reads a counter */
    SERVICE_READ,    /* reads a register */
    SERVICE_WRITE,   /* writes `value`; the reply has it, too */
    SERVICE_SWAP,   /* writes `value` if the register is `expected`; the reply has what was found */
    SERVICE_SAY,    /* "say VALUE" on the console */
    SERVICE_OFF,    /* "off" on the console, switches off; no reply */
    SERVICE_APPEND, /* a record with the token `value` to the journal on the disk, durable when
                     * answered; the reply's value is its number, from 1 on */
    SERVICE_RECORD, /* reads record number `value` from the disk; the reply has its chain word */
};

enum service_status {
    SERVICE_DONE = 1,
    SERVICE_DIFFERS, /* a swap that found something else */
    SERVICE_OLD,
    SERVICE_UNKNOWN, /* no such operation, client, key, or record */
};

/* Record n is sector n - 1 of the first disk: this, and zeroes. The chain word is FNV-1a (64 bits)
 * over number, token and the chain word of the record before it, 0 for the first. */
#define SERVICE_RECORD_MAGIC 0x31444345524a524bull
struct service_record {
    uint64_t magic;
    uint64_t number;
    uint64_t token;
    uint64_t before; /* the chain word of the record before */
    uint64_t chain;
};

struct service_request {
    uint64_t magic;
    uint64_t sequence;
    uint32_t client;
    uint32_t operation;
    uint64_t key;
    uint64_t value, expected;
};

struct service_reply {
    uint64_t magic;
    uint64_t sequence;
    uint32_t client;
    uint32_t status;
    uint64_t value;
    uint64_t utterance; /* grows by one with every reply: no number is ever used twice */
    uint64_t time_ns;   /* the guest's clock */
    uint64_t corrupt;   /* not 0: a page had lost its stamp; the guest stops after this */
};

_Static_assert(sizeof(struct service_request) == 48, "as the clients build it");
_Static_assert(sizeof(struct service_reply) == 56, "as the clients read it");

#endif
