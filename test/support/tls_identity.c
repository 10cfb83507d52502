#include "test/support/tls_identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/keygen.h"

#define DAY (24 * 60 * 60)

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    abort();
}

void tls_identity_make(const char *directory, const char *name, enum tls_identity_age age)
{
    static const struct keygen_validity offsets[] = {
        [TLS_IDENTITY_VALID] = {-DAY, DAY},
        [TLS_IDENTITY_EXPIRED] = {-2 * DAY, -DAY},
        [TLS_IDENTITY_FUTURE] = {DAY, 2 * DAY},
    };
    struct error err = {0};
    const time_t now = time(NULL);
    const struct keygen_validity whole = {now - 3 * DAY, now + 3 * DAY};
    const struct keygen_validity own = {now + offsets[age].from, now + offsets[age].to};
    char authority[512];
    snprintf(authority, sizeof(authority), "%s/ca.pem", directory);
    if (access(authority, F_OK) != 0 && keygen_authority(directory, &whole, &err) < 0)
        die("authority", &err);
    if (keygen_host(directory, name, &own, &err) < 0)
        die("certificate", &err);
}

struct tls_credentials *tls_identity_credentials(const char *directory, const char *name,
                                                 const char *trusted, const char *peer)
{
    char cert[512], key[512], ca[512];
    snprintf(cert, sizeof(cert), "%s/%s.pem", directory, name);
    snprintf(key, sizeof(key), "%s/%s.key", directory, name);
    snprintf(ca, sizeof(ca), "%s/ca.pem", trusted);
    const struct tls_config config = {
        .cert_file = cert, .key_file = key, .ca_file = ca, .peer_name = peer, .kernel = true};
    struct tls_credentials *credentials = NULL;
    struct error err = {0};
    if (tls_credentials_create(&config, &credentials, &err) < 0)
        die("credentials", &err);
    return credentials;
}

struct tls_credentials *tls_identity_by_secret(const char *secret, uint64_t rekey_frames)
{
    uint8_t key[KEY_SIZE];
    struct tls_credentials *credentials = NULL;
    struct error err = {0};
    const struct tls_config config = {
        .key = key, .rekey_frames = rekey_frames, .kernel = !rekey_frames};
    if (key_derive(secret, strlen(secret), KEY_LABEL_TLS, key, &err) < 0 ||
        tls_credentials_create(&config, &credentials, &err) < 0)
        die("credentials", &err);
    return credentials;
}
