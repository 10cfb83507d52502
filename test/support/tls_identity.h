/* Certificates for tests: authorities and hosts in a directory of their own. */
#ifndef KEMARI_TEST_SUPPORT_TLS_IDENTITY_H
#define KEMARI_TEST_SUPPORT_TLS_IDENTITY_H

#include "transport/tls.h"

/* When the host's certificate is valid. */
enum tls_identity_age { TLS_IDENTITY_VALID, TLS_IDENTITY_EXPIRED, TLS_IDENTITY_FUTURE };

/* Makes an authority in `directory`, if there is none yet, and a certificate for `name`. */
void tls_identity_make(const char *directory, const char *name, enum tls_identity_age age);

/* Credentials of `name` (an authority's child in `directory`) that believe children of the
 * authority in `trusted` that are called `peer`. */
struct tls_credentials *tls_identity_credentials(const char *directory, const char *name,
                                                 const char *trusted, const char *peer);

/* Credentials by secret. */
struct tls_credentials *tls_identity_by_secret(const char *secret, uint64_t rekey_frames);

#endif
