/* Transcript and proofs: see transport/proof.h. */
#include "transport/proof.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/wire.h"

#define WHO_MAX 32

int transcript_add(struct transcript *transcript, const void *bytes, size_t size, struct error *err)
{
    uint8_t length[4];
    struct wire_writer w = {.bytes = length, .size = sizeof(length)};
    wire_put_u32(&w, (uint32_t)size);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const bool done =
        context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) > 0 &&
        EVP_DigestUpdate(context, transcript->digest, sizeof(transcript->digest)) > 0 &&
        EVP_DigestUpdate(context, length, sizeof(length)) > 0 &&
        EVP_DigestUpdate(context, bytes, size) > 0 &&
        EVP_DigestFinal_ex(context, transcript->digest, NULL) > 0;
    EVP_MD_CTX_free(context);
    return done ? 0 : error_set(err, -EIO, "SHA-256 failed");
}

int proof_make(const uint8_t key[KEY_SIZE], const char *who, const struct transcript *transcript,
               uint8_t out[PROOF_SIZE], struct error *err)
{
    uint8_t input[WHO_MAX + TRANSCRIPT_SIZE];
    const size_t length = strlen(who);
    assert(length <= WHO_MAX);
    memcpy(input, who, length);
    memcpy(input + length, transcript->digest, TRANSCRIPT_SIZE);
    if (!HMAC(EVP_sha256(), key, KEY_SIZE, input, length + TRANSCRIPT_SIZE, out, NULL))
        return error_set(err, -EIO, "HMAC-SHA256 failed");
    return 0;
}

int proof_nonce(uint8_t out[PROOF_SIZE], struct error *err)
{
    if (RAND_bytes(out, PROOF_SIZE) != 1)
        return error_set(err, -EIO, "no random bytes for a nonce");
    return 0;
}

bool proof_equal(const uint8_t a[PROOF_SIZE], const uint8_t b[PROOF_SIZE])
{
    return CRYPTO_memcmp(a, b, PROOF_SIZE) == 0;
}
