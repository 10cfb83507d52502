/* Heartbeat packets: bytes as they are, and the same bytes as a hostile holder of the key would
 * send them, rightly signed, through the replay protection. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/packet.h"
#include "heartbeat/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_SIZE (PACKET_SIZE - PACKET_MAC_SIZE)

/* What decodes must encode to the very same bytes. */
static void check(const uint8_t *bytes, size_t size, const struct packet_key *key,
                  struct replay *replay)
{
    struct packet packet;
    uint8_t again[PACKET_SIZE];
    if (packet_decode(bytes, size, key, packet_vm_id("fuzz"), &packet) != PACKET_OK)
        return;
    packet_encode(&packet, key, again);
    if (memcmp(again, bytes, PACKET_SIZE) != 0)
        abort();
    replay_judge(replay, packet.path, &packet, packet.sequence);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct packet_key key = {.bytes = "a key that the fuzzer can use"};
    struct replay replay;
    replay_init(&replay, 1, 2);
    check(data, size, &key, &replay);
    for (; size >= BODY_SIZE; data += BODY_SIZE, size -= BODY_SIZE) {
        uint8_t bytes[PACKET_SIZE];
        uint8_t mac[EVP_MAX_MD_SIZE];
        unsigned mac_size = sizeof(mac);
        const uint64_t vm = packet_vm_id("fuzz");
        memcpy(bytes, data, BODY_SIZE);
        memcpy(bytes, "KMHB\1\0", 6);
        memcpy(bytes + 16, &vm, sizeof(vm));
        HMAC(EVP_sha256(), key.bytes, sizeof(key.bytes), bytes, BODY_SIZE, mac, &mac_size);
        memcpy(bytes + BODY_SIZE, mac, PACKET_MAC_SIZE);
        check(bytes, PACKET_SIZE, &key, &replay);
    }
    return 0;
}
