/* Between tls.c (credentials), tls_link.c (bytes) and tls_error.c (sentences). */
#ifndef KEMARI_TRANSPORT_TLS_INTERNAL_H
#define KEMARI_TRANSPORT_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "transport/tls.h"

struct tls_credentials {
    SSL_CTX *context; /* both roles; shared by all links, never changed after creation */
    bool by_key;      /* PSK, else certificates */
    bool kernel;
    uint64_t rekey_frames;
    uint8_t key[KEY_SIZE];
};

/* After a handshake succeeded in OpenSSL's eyes: is the peer proved in the way we demand? 0 or an
 * error of link_establish(). */
int tls_check_peer(const struct tls_credentials *credentials, SSL *ssl, struct error *err);

/* The error for an SSL call that has just failed on this thread with SSL_ERROR_SSL: the errors of
 * link_establish(), and -EBADMSG for a record that was changed on its way. Empties the queue. */
int tls_failed(const struct tls_credentials *credentials, SSL *ssl, struct error *err);

/* Fills in "OpenSSL's own words" for a failure to load `file`. Empties the queue. */
int tls_load_failed(const char *what, const char *file, struct error *err);

#endif
