/* Credentials: see transport/tls.h. One SSL_CTX serves both roles, as either host may call. */
#include "transport/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/tls_internal.h"

#define GROUPS "X25519:P-256"
/* A key of ours is bound to SHA-256 (RFC 8446 §4.2.11). */
#define CIPHERS_KEY          "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_CERTIFICATES CIPHERS_KEY ":TLS_AES_256_GCM_SHA384"
#define SECURITY_LEVEL       2 /* 112 bits: no RSA below 2048, no SHA-1 */

/* Names the scheme, not the machine: it travels in the clear. */
static const uint8_t psk_identity[] = "kemari pair 1";
#define PSK_IDENTITY_SIZE (sizeof(psk_identity) - 1)

static const uint8_t aes_128_gcm_sha256[2] = {0x13, 0x01}; /* RFC 8446 §B.4 */

/* A session that stands for our key, or NULL. */
static SSL_SESSION *make_session(SSL *ssl)
{
    const struct tls_credentials *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    SSL_SESSION *session = SSL_SESSION_new();
    if (cipher && session && SSL_SESSION_set1_master_key(session, c->key, KEY_SIZE) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set1_id_context(session, psk_identity, PSK_IDENTITY_SIZE) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

/* The client offers our key; `md` is set when the server insists on a hash. */
static int offer_key(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *size,
                     SSL_SESSION **out)
{
    *identity = psk_identity;
    *size = PSK_IDENTITY_SIZE;
    *out = NULL;
    if (md && !EVP_MD_is_a(md, "SHA256"))
        return 1;
    *out = make_session(ssl);
    return *out != NULL;
}

static int find_key(SSL *ssl, const unsigned char *identity, size_t size, SSL_SESSION **out)
{
    *out = NULL;
    if (size != PSK_IDENTITY_SIZE || memcmp(identity, psk_identity, size) != 0)
        return 1;
    *out = make_session(ssl);
    return *out != NULL;
}

/* Nobody sits at a terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static int check_owner_only(const char *path, struct error *err)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set(err, -errno, "key file %s: %s", path, strerror(errno));
    if (status.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, -EPERM, "key file %s is open to others than its owner; chmod 600 it",
                         path);
    return 0;
}

/* A certificate is checked by the name of the host, in full: no wildcards, no subject's CN beside
 * alternative names. */
static bool expect_name(SSL_CTX *context, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    uint8_t address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
}

/* Has the extensions of the certificates that all links share unpacked now, by one thread: OpenSSL
 * would do it at the first use otherwise, by whichever threads come. */
static void unpack_certificates(SSL_CTX *context)
{
    X509_check_purpose(SSL_CTX_get0_certificate(context), -1, 0);
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context));
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (certificate)
            X509_check_purpose(certificate, -1, 0);
    }
}

static int use_certificates(SSL_CTX *context, const struct tls_config *config, struct error *err)
{
    const int rc = check_owner_only(config->key_file, err);
    if (rc < 0)
        return rc;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(context, config->cert_file) != 1)
        return tls_load_failed("certificate", config->cert_file, err);
    if (SSL_CTX_use_PrivateKey_file(context, config->key_file, SSL_FILETYPE_PEM) != 1)
        return tls_load_failed("key file", config->key_file, err);
    if (SSL_CTX_load_verify_locations(context, config->ca_file, NULL) != 1)
        return tls_load_failed("ca-file", config->ca_file, err);
    if (!expect_name(context, config->peer_name))
        return error_set(err, -EINVAL, "peer-name \"%s\" is no name of a host", config->peer_name);
    unpack_certificates(context);
    return 0;
}

static bool set_up(SSL_CTX *context, const struct tls_credentials *c)
{
    uint64_t options = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                       SSL_OP_CIPHER_SERVER_PREFERENCE;
    if (c->kernel)
        options |= SSL_OP_ENABLE_KTLS;
    SSL_CTX_set_options(context, options);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_quiet_shutdown(context, 1);
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (c->by_key) {
        SSL_CTX_set_psk_use_session_callback(context, offer_key);
        SSL_CTX_set_psk_find_session_callback(context, find_key);
    }
    return SSL_CTX_set_session_id_context(context, psk_identity, PSK_IDENTITY_SIZE) == 1 &&
           SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(context, c->by_key ? CIPHERS_KEY : CIPHERS_CERTIFICATES) == 1 &&
           SSL_CTX_set1_groups_list(context, GROUPS) == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1;
}

int tls_credentials_create(const struct tls_config *config, struct tls_credentials **out,
                           struct error *err)
{
    *out = NULL;
    struct tls_credentials *c = calloc(1, sizeof(*c));
    if (!c)
        return error_set(err, -ENOMEM, "no memory for TLS");
    c->by_key = config->key != NULL;
    c->kernel = config->kernel;
    c->rekey_frames = config->rekey_frames ? config->rekey_frames : TLS_REKEY;
    if (c->by_key)
        memcpy(c->key, config->key, KEY_SIZE);
    c->context = SSL_CTX_new(TLS_method());
    int rc = 0;
    if (!c->context || SSL_CTX_set_app_data(c->context, c) != 1 || !set_up(c->context, c)) {
        ERR_clear_error();
        rc = error_set(err, -EIO, "TLS can't be set up by this host's OpenSSL");
    } else if (!c->by_key) {
        rc = use_certificates(c->context, config, err);
    }
    if (rc < 0)
        tls_credentials_destroy(&c);
    *out = c;
    return rc;
}

void tls_credentials_destroy(struct tls_credentials **credentials)
{
    struct tls_credentials *c = *credentials;
    if (!c)
        return;
    const int saved = errno;
    SSL_CTX_free(c->context);
    OPENSSL_cleanse(c->key, sizeof(c->key));
    free(c);
    *credentials = NULL;
    errno = saved;
}
