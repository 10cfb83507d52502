/* What a pair's hosts authenticate each other with: a secret, or certificates.
 *
 * Files are made with mode 0600, durably, and never in place of one that is there (-EEXIST). Errors
 * are one phrase that names the file. */
#ifndef KEMARI_CONTROL_KEYGEN_H
#define KEMARI_CONTROL_KEYGEN_H

#include <time.h>

#include "base/error.h"

#define KEYGEN_NAME_MAX 254 /* of a host, with the zero */

/* When a certificate is valid. */
struct keygen_validity {
    time_t from, to;
};

/* A new secret: 32 random bytes as 64 hexadecimal digits and a newline. */
int keygen_secret(const char *path, struct error *err);

/* A new authority, self-signed: DIRECTORY/ca.pem and DIRECTORY/ca.key. */
int keygen_authority(const char *directory, const struct keygen_validity *validity,
                     struct error *err);

/* A certificate for one host, signed by the authority in DIRECTORY: DIRECTORY/NAME.pem and .key.
 * `name` is a DNS name or a numeric address, as the other host's peer-name. */
int keygen_host(const char *directory, const char *name, const struct keygen_validity *validity,
                struct error *err);

/* Whether keygen_host() takes the name: 0, or -EINVAL. */
int keygen_check_name(const char *name, struct error *err);

#endif
