/* The pair's shared secret and what is derived from it. HKDF-SHA256 (RFC 5869) gives every purpose
 * a key of its own, so that one use can't be played against another. */
#ifndef KEMARI_TRANSPORT_KEY_H
#define KEMARI_TRANSPORT_KEY_H

#include "base/error.h"
#include "base/types.h"

#define KEY_SIZE            32
#define KEY_SECRET_MIN      16 /* bytes; the secret should be random: it can be guessed off-line */
#define KEY_SECRET_MAX      4096

#define KEY_LABEL_SESSION   "session"   /* handshake of transport/session.h */
#define KEY_LABEL_HEARTBEAT "heartbeat" /* packets of heartbeat/ */
#define KEY_LABEL_TLS       "tls"       /* external PSK of transport/tls.h */

/* -EINVAL when the secret is too short or too long, -EIO when the library fails. */
int key_derive(const void *secret, size_t size, const char *label, uint8_t out[KEY_SIZE],
               struct error *err);

/* Reads the secret from a file that only its owner can read, and derives. -EPERM when others can
 * read it; trailing newlines don't count. */
int key_derive_from_file(const char *path, const char *label, uint8_t out[KEY_SIZE],
                         struct error *err);

#endif
