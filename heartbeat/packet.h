/* The heartbeat packet: fixed size, authenticated, little endian, one per datagram.
 *
 *   offset size field
 *        0    4 magic "KMHB"
 *        4    2 version, 1
 *        6    2 flags, PACKET_FLAG_*; unknown bits are refused
 *        8    1 role, 1..4
 *        9    1 path index, 0..7; both hosts list their paths in the same order
 *       10    2 zero
 *       12    4 interval at which the sender sends, microseconds, not 0
 *       16    8 VM: first 8 bytes of SHA-256 of its name
 *       24    8 instance: random number of the sender's process start, not 0
 *       32    8 challenge: what the receiver must echo to be adopted (replay.h), not 0
 *       40    8 echo challenge: the receiver's as last heard, 0 = none yet
 *       48    8 sequence on this path, from 1
 *       56    8 term the sender is in
 *       64    8 last epoch the sender knows to be committed
 *       72    8 sent at: sender's monotonic clock, ns; opaque to everybody else
 *       80    8 echo time: the receiver's "sent at" as last heard on this path, 0 = none
 *       88    8 echo delay: ns between hearing that and sending this
 *       96   16 HMAC-SHA256 over bytes 0..95, its first 16 bytes
 *
 * The codec is pure: bytes and key in, struct out. Nothing is parsed before the MAC is verified,
 * except the three fields that say whether these are our bytes at all (size, magic, version). */
#ifndef KEMARI_HEARTBEAT_PACKET_H
#define KEMARI_HEARTBEAT_PACKET_H

#include "base/error.h"
#include "base/types.h"

#define PACKET_SIZE            112
#define PACKET_MAC_SIZE        16
#define PACKET_KEY_SIZE        32
#define PACKET_MAGIC           0x42484d4bu /* "KMHB" */
#define PACKET_VERSION         1
#define PACKET_PATH_MAX        8 /* paths of a pair */

#define PACKET_INTERVAL_MAX_US 60000000u /* a slower sender is a mistake */

/* What the sender is at this moment. */
enum packet_role {
    PACKET_ROLE_PRIMARY = 1,   /* runs the guest, has or awaits a standby */
    PACKET_ROLE_SECONDARY = 2, /* stands by */
    PACKET_ROLE_SOLO = 3,      /* runs the guest without standby, by grant */
    PACKET_ROLE_LOST = 4,      /* lost its term: guest stopped for good */
};

#define PACKET_FLAG_GUEST_ALIVE 0x0001 /* the sender's guest made progress lately */
#define PACKET_FLAG_STOPPING                                                                       \
    0x0002 /* an operator stops the sender: silence follows, on purpose                            \
            */
#define PACKET_FLAG_EXITED                                                                         \
    0x0004 /* the sender's process has ended: said by what outlives it (base/quick_exit.h) */
#define PACKET_FLAGS_KNOWN (PACKET_FLAG_GUEST_ALIVE | PACKET_FLAG_STOPPING | PACKET_FLAG_EXITED)

struct packet {
    uint16_t flags;
    enum packet_role role;
    uint8_t path;
    uint32_t interval_us;
    uint64_t vm;
    uint64_t instance;
    uint64_t challenge;
    uint64_t echo_challenge;
    uint64_t sequence;
    term_t term;
    epoch_t epoch;
    uint64_t sent_at;
    uint64_t echo_time;
    uint64_t echo_delay;
};

struct packet_key {
    uint8_t bytes[PACKET_KEY_SIZE];
};

enum packet_verdict {
    PACKET_OK,
    PACKET_BAD_SIZE,    /* not PACKET_SIZE bytes */
    PACKET_BAD_MAGIC,   /* not ours */
    PACKET_BAD_VERSION, /* ours, of a version this program does not speak */
    PACKET_BAD_MAC,     /* another key, or altered */
    PACKET_BAD_FIELD,   /* authentic, with a field out of its range */
    PACKET_BAD_VM,      /* authentic and well formed, of another VM */
};

/* First 8 bytes of SHA-256(name), little endian. */
uint64_t packet_vm_id(const char *name);

/* HKDF-SHA256 (RFC 5869) of the pair's secret: salt "kemari", info "heartbeat 1 " + VM name, so
 * that the key differs from every other use of the secret and from every other VM's. -EINVAL for an
 * empty secret or name, -EIO when libcrypto refuses. */
int packet_key_derive(struct packet_key *key, const void *secret, size_t secret_size,
                      const char *vm, struct error *err);

/* Writes the packet with its MAC. The fields must be valid (assert). */
void packet_encode(const struct packet *packet, const struct packet_key *key,
                   uint8_t out[PACKET_SIZE]);

/* Verifies and reads `size` hostile bytes. `out` is written only for PACKET_OK. */
enum packet_verdict packet_decode(const uint8_t *bytes, size_t size, const struct packet_key *key,
                                  uint64_t vm, struct packet *out);

const char *packet_role_name(enum packet_role role);

#endif
