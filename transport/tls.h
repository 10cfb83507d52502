/* TLS 1.3: who we are and whom we believe, and links that speak it.
 *
 * Two hosts authenticate each other in one of two ways, the same on both:
 *   - a key derived from the pair's secret (external PSK, RFC 8446 §4.2.11, always with an
 * ephemeral key exchange, so that a secret that leaks later opens no recorded connection), or
 *   - certificates, demanded of both sides and verified against our authorities and the name of the
 *     other host.
 * Neither tickets, resumption, early data nor renegotiation. The handshake of transport/session.h
 * runs inside and proves that it does (link_security.binding). */
#ifndef KEMARI_TRANSPORT_TLS_H
#define KEMARI_TRANSPORT_TLS_H

#include "transport/key.h"
#include "transport/link.h"

struct tls_credentials;

struct tls_config {
    const uint8_t *key; /* KEY_SIZE bytes, key_derive(.., KEY_LABEL_TLS, ..); NULL: certificates */

    /* With certificates: PEM files. The key file is its owner's only. */
    const char *cert_file; /* ours, and what leads from it to the authority */
    const char *key_file;
    const char *ca_file;   /* the authorities that the other host's certificate may come from */
    const char *peer_name; /* what its certificate must name: a DNS name or a numeric address */

    bool kernel;           /* let the kernel encrypt what is sent, where it can */
    uint64_t rekey_frames; /* TLS records after which a sender changes its key; 0: TLS_REKEY */
};

/* AES-GCM is good for 2^24.5 records of one key (RFC 8446 §5.5). */
#define TLS_REKEY (UINT64_C(1) << 22)

/* Reads the files. -EINVAL, -EPERM, -ENOENT, ...: one phrase that names the file. */
int tls_credentials_create(const struct tls_config *config, struct tls_credentials **out,
                           struct error *err);

/* No link or listener made with them may be left. */
void tls_credentials_destroy(struct tls_credentials **credentials);

/* Makes a link of the connected, blocking stream socket `fd`, which it owns from now on (closed
 * also on failure). link_establish() shakes hands; whoever accepted is the `server`. The
 * credentials are borrowed. */
int tls_link_create(int fd, const char *peer, bool server,
                    const struct tls_credentials *credentials, struct link **out,
                    struct error *err);

/* The same on top of a link that does not encrypt, of which only the bytes are used: it has carried
 * no frame, and belongs to the new link from now on (destroyed also on failure). */
int tls_link_create_over(struct link *below, const char *peer, bool server,
                         const struct tls_credentials *credentials, struct link **out,
                         struct error *err);

#endif
