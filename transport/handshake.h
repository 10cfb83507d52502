/* Codec of the handshake's messages: pure, bounded, validated. The sequence is session.c's. */
#ifndef KEMARI_TRANSPORT_HANDSHAKE_H
#define KEMARI_TRANSPORT_HANDSHAKE_H

#include "transport/message.h"
#include "transport/proof.h"
#include "transport/session.h"

#define HANDSHAKE_BODY_MAX (FRAME_CONTROL_MAX - 256) /* a packed Welcome or Refuse */
#define HANDSHAKE_SCRATCH  (3u * FRAME_CONTROL_MAX)  /* unpacked form of the largest message */

enum handshake_kind {
    HANDSHAKE_HELLO = 1, /* party, nonce */
    HANDSHAKE_CHALLENGE, /* nonce */
    HANDSHAKE_PROOF,     /* hmac */
    HANDSHAKE_VERDICT,   /* body, hmac */
    HANDSHAKE_WELCOME,   /* party */
    HANDSHAKE_REFUSE,    /* reason, text */
};

/* Which fields are used stands beside the kinds. Large: keep it on the heap. */
struct handshake {
    enum handshake_kind kind;
    uint8_t nonce[PROOF_SIZE];
    uint8_t hmac[PROOF_SIZE];
    enum session_reason reason;
    char text[MESSAGE_TEXT_MAX];
    struct session_party party;
    size_t body_size;
    uint8_t body[HANDSHAKE_BODY_MAX];

    uint8_t scratch[HANDSHAKE_SCRATCH] __attribute__((aligned(16))); /* of the codec */
};

/* Bytes written; -EINVAL for an illegal party; -ENOSPC. Texts are made printable. */
int handshake_encode(struct handshake *message, uint8_t *out, size_t size, struct error *err);

/* -EBADMSG for anything that isn't one legal message of the handshake. A party of another major
 * version has `major` and `minor` only: nothing else of it may be understood. */
int handshake_decode(const uint8_t *payload, size_t size, struct handshake *out, struct error *err);

/* "Hello", ...; "?" for no known kind. Static. */
const char *handshake_kind_name(enum handshake_kind kind);

#endif
