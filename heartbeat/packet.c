#include "heartbeat/packet.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"

#define SIGNED_SIZE (PACKET_SIZE - PACKET_MAC_SIZE)

_Static_assert(SIGNED_SIZE == 96, "the layout in packet.h");

uint64_t packet_vm_id(const char *name)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)name, strlen(name), digest);
    struct wire_reader r = {.bytes = digest, .size = sizeof(digest)};
    return wire_get_u64(&r);
}

static bool hkdf(const void *secret, size_t secret_size, char *info, uint8_t *out, size_t size)
{
    char digest[] = "SHA256";
    char salt[] = "kemari";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, strlen(salt)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret,
                                          secret_size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    const bool ok = context && EVP_KDF_derive(context, out, size, params) == 1;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return ok;
}

int packet_key_derive(struct packet_key *key, const void *secret, size_t secret_size,
                      const char *vm, struct error *err)
{
    if (!secret_size)
        return error_set(err, -EINVAL, "heartbeat: the pair's secret is empty");
    if (!vm[0])
        return error_set(err, -EINVAL, "heartbeat: the VM has no name");
    char *info = NULL;
    if (asprintf(&info, "heartbeat 1 %s", vm) < 0)
        return error_set(err, -ENOMEM, "heartbeat: out of memory");
    const bool ok = hkdf(secret, secret_size, info, key->bytes, sizeof(key->bytes));
    free(info);
    if (!ok)
        return error_set(err, -EIO, "heartbeat: libcrypto has no HKDF-SHA256");
    return 0;
}

static void sign(const uint8_t *bytes, const struct packet_key *key, uint8_t mac[PACKET_MAC_SIZE])
{
    uint8_t full[SHA256_DIGEST_LENGTH];
    unsigned size = sizeof(full);
    const uint8_t *done =
        HMAC(EVP_sha256(), key->bytes, sizeof(key->bytes), bytes, SIGNED_SIZE, full, &size);
    /* Fails only without memory; a packet without a MAC must never leave. */
    if (!done)
        abort();
    memcpy(mac, full, PACKET_MAC_SIZE);
}

static bool fields_valid(const struct packet *p)
{
    return !(p->flags & ~PACKET_FLAGS_KNOWN) && p->role >= PACKET_ROLE_PRIMARY &&
           p->role <= PACKET_ROLE_LOST && p->path < PACKET_PATH_MAX && p->interval_us &&
           p->interval_us <= PACKET_INTERVAL_MAX_US && p->instance && p->challenge && p->sequence;
}

void packet_encode(const struct packet *p, const struct packet_key *key, uint8_t out[PACKET_SIZE])
{
    assert(fields_valid(p));
    struct wire_writer w = {.bytes = out, .size = PACKET_SIZE};
    wire_put_u32(&w, PACKET_MAGIC);
    wire_put_u16(&w, PACKET_VERSION);
    wire_put_u16(&w, p->flags);
    wire_put_u8(&w, (uint8_t)p->role);
    wire_put_u8(&w, p->path);
    wire_put_u16(&w, 0);
    wire_put_u32(&w, p->interval_us);
    wire_put_u64(&w, p->vm);
    wire_put_u64(&w, p->instance);
    wire_put_u64(&w, p->challenge);
    wire_put_u64(&w, p->echo_challenge);
    wire_put_u64(&w, p->sequence);
    wire_put_u64(&w, p->term);
    wire_put_u64(&w, p->epoch);
    wire_put_u64(&w, p->sent_at);
    wire_put_u64(&w, p->echo_time);
    wire_put_u64(&w, p->echo_delay);
    assert(!w.bad && w.used == SIGNED_SIZE);
    sign(out, key, out + SIGNED_SIZE);
}

enum packet_verdict packet_decode(const uint8_t *bytes, size_t size, const struct packet_key *key,
                                  uint64_t vm, struct packet *out)
{
    if (size != PACKET_SIZE)
        return PACKET_BAD_SIZE;
    struct wire_reader r = {.bytes = bytes, .size = SIGNED_SIZE};
    if (wire_get_u32(&r) != PACKET_MAGIC)
        return PACKET_BAD_MAGIC;
    if (wire_get_u16(&r) != PACKET_VERSION)
        return PACKET_BAD_VERSION;
    uint8_t mac[PACKET_MAC_SIZE];
    sign(bytes, key, mac);
    if (CRYPTO_memcmp(mac, bytes + SIGNED_SIZE, sizeof(mac)) != 0)
        return PACKET_BAD_MAC;
    struct packet p = {0};
    p.flags = wire_get_u16(&r);
    p.role = (enum packet_role)wire_get_u8(&r);
    p.path = wire_get_u8(&r);
    const uint16_t zero = wire_get_u16(&r);
    p.interval_us = wire_get_u32(&r);
    p.vm = wire_get_u64(&r);
    p.instance = wire_get_u64(&r);
    p.challenge = wire_get_u64(&r);
    p.echo_challenge = wire_get_u64(&r);
    p.sequence = wire_get_u64(&r);
    p.term = wire_get_u64(&r);
    p.epoch = wire_get_u64(&r);
    p.sent_at = wire_get_u64(&r);
    p.echo_time = wire_get_u64(&r);
    p.echo_delay = wire_get_u64(&r);
    if (!wire_done(&r) || zero || !fields_valid(&p))
        return PACKET_BAD_FIELD;
    if (p.vm != vm)
        return PACKET_BAD_VM;
    *out = p;
    return PACKET_OK;
}

const char *packet_role_name(enum packet_role role)
{
    static const char *const names[] = {
        [PACKET_ROLE_PRIMARY] = "primary",
        [PACKET_ROLE_SECONDARY] = "secondary",
        [PACKET_ROLE_SOLO] = "solo",
        [PACKET_ROLE_LOST] = "lost",
    };
    return names[role];
}
