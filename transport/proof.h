/* The cryptography of the handshake: a running digest of everything said, and proofs over it. */
#ifndef KEMARI_TRANSPORT_PROOF_H
#define KEMARI_TRANSPORT_PROOF_H

#include "base/error.h"
#include "base/types.h"
#include "transport/key.h"

#define PROOF_SIZE      32 /* of a proof and of a nonce */
#define TRANSCRIPT_SIZE 32

/* Who proves: part of what is proved, so that a proof can't be sent back to its maker. */
#define PROOF_CONNECTOR "kemari connector 1"
#define PROOF_LISTENER  "kemari listener 1"

/* SHA-256 chain: t' = SHA256(t || length as u32 little-endian || bytes), from all zeroes. */
struct transcript {
    uint8_t digest[TRANSCRIPT_SIZE];
};

/* All three: 0, or -EIO when the library fails. */
int transcript_add(struct transcript *transcript, const void *bytes, size_t size,
                   struct error *err);
/* HMAC-SHA256 with the key over `who` and the transcript. */
int proof_make(const uint8_t key[KEY_SIZE], const char *who, const struct transcript *transcript,
               uint8_t out[PROOF_SIZE], struct error *err);
int proof_nonce(uint8_t out[PROOF_SIZE], struct error *err);

/* In time that doesn't depend on where they differ. */
bool proof_equal(const uint8_t a[PROOF_SIZE], const uint8_t b[PROOF_SIZE]);

#endif
