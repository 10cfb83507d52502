/* See control/keygen.h. Keys are P-256: quick, and every TLS library knows them. */
#include "control/keygen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/types.h"

#define SECRET_BYTES 32
#define SERIAL_BITS  127 /* random, positive (RFC 5280 §4.1.2.2) */
#define KEYGEN_PATH  4096

/* --- files --- */

static int make_path(char out[KEYGEN_PATH], const char *directory, const char *name,
                     const char *suffix, struct error *err)
{
    if (snprintf(out, KEYGEN_PATH, "%s/%s%s", directory, name, suffix) >= KEYGEN_PATH)
        return error_set(err, -ENAMETOOLONG, "%s/%s%s: the name is too long", directory, name,
                         suffix);
    return 0;
}

/* Takes a half-written file away again. */
static int write_new(const char *path, const void *bytes, size_t size, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(err, -EEXIST, "%s exists and is not overwritten", path);
    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    int rc = fchmod(fd, 0600) < 0 ? -errno : fd_write_all(fd, bytes, size);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    fd_close(&fd);
    if (rc < 0) {
        unlink(path);
        return error_set(err, rc, "%s: %s", path, strerror(-rc));
    }
    return 0;
}

static int library_failed(const char *what, struct error *err)
{
    const char *words = ERR_reason_error_string(ERR_peek_last_error());
    error_set(err, -EIO, "%s: %s", what, words ? words : "OpenSSL failed");
    ERR_clear_error();
    return -EIO;
}

/* Writes what PEM_write_bio_...() left in `bio`, which is freed. */
static int write_pem(const char *path, BIO *bio, struct error *err)
{
    char *bytes = NULL;
    const long size = BIO_get_mem_data(bio, &bytes);
    const int rc = size > 0 ? write_new(path, bytes, (size_t)size, err) : library_failed(path, err);
    if (bytes && size > 0)
        OPENSSL_cleanse(bytes, (size_t)size);
    BIO_free(bio);
    return rc;
}

/* Both files or neither. */
static int write_identity(const char *directory, const char *name, X509 *certificate, EVP_PKEY *key,
                          struct error *err)
{
    char cert_path[KEYGEN_PATH], key_path[KEYGEN_PATH];
    int rc = make_path(cert_path, directory, name, ".pem", err);
    if (rc == 0)
        rc = make_path(key_path, directory, name, ".key", err);
    if (rc < 0)
        return rc;
    BIO *pem = BIO_new(BIO_s_mem());
    if (!pem || PEM_write_bio_PKCS8PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(pem);
        return library_failed(key_path, err);
    }
    rc = write_pem(key_path, pem, err);
    if (rc < 0)
        return rc;
    pem = BIO_new(BIO_s_mem());
    if (!pem || PEM_write_bio_X509(pem, certificate) != 1) {
        BIO_free(pem);
        rc = library_failed(cert_path, err);
    } else {
        rc = write_pem(cert_path, pem, err);
    }
    if (rc < 0)
        unlink(key_path);
    return rc;
}

/* --- certificates --- */

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&context);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    const bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool set_serial(X509 *certificate)
{
    BIGNUM *number = BN_new();
    const bool set = number &&
                     BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                     BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return set;
}

/* What both kinds have; the subject's name is for people. */
static bool fill_in(X509 *certificate, X509 *issuer, EVP_PKEY *key, const char *subject,
                    const struct keygen_validity *validity)
{
    char common_name[65]; /* RFC 5280 appendix A: ub-common-name */
    snprintf(common_name, sizeof(common_name), "%s", subject);
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), validity->from) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), validity->to) != NULL &&
           X509_set_pubkey(certificate, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
           add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
}

static bool make_authority(X509 *certificate, EVP_PKEY *key, const struct keygen_validity *validity)
{
    return fill_in(certificate, certificate, key, "Kemari pair authority", validity) &&
           add_extension(certificate, certificate, NID_basic_constraints,
                         "critical,CA:TRUE,pathlen:0") &&
           add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

static bool is_address(const char *name)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* Either host calls the other, so each certificate is good for both sides of a connection. */
static bool make_host(X509 *certificate, EVP_PKEY *key, const char *name, X509 *ca,
                      EVP_PKEY *ca_key, const struct keygen_validity *validity)
{
    char alternative[KEYGEN_NAME_MAX + 8];
    snprintf(alternative, sizeof(alternative), "%s:%s", is_address(name) ? "IP" : "DNS", name);
    return fill_in(certificate, ca, key, name, validity) &&
           add_extension(certificate, ca, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, ca, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_extension(certificate, ca, NID_authority_key_identifier, "keyid:always") &&
           add_extension(certificate, ca, NID_subject_alt_name, alternative) &&
           X509_sign(certificate, ca_key, EVP_sha256()) > 0;
}

int keygen_check_name(const char *name, struct error *err)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    const size_t length = strlen(name);
    if (is_address(name) ||
        (length > 0 && length < KEYGEN_NAME_MAX && *name != '-' && *name != '.' &&
         strspn(name, legal) == length && strcmp(name, "ca") != 0))
        return 0;
    return error_set(err, -EINVAL,
                     "\"%.64s\" is neither a DNS name nor a numeric address of a host", name);
}

/* --- the verbs --- */

int keygen_secret(const char *path, struct error *err)
{
    uint8_t random[SECRET_BYTES];
    char text[2 * SECRET_BYTES + 2];
    if (RAND_bytes(random, sizeof(random)) != 1)
        return library_failed("no random bytes for a secret", err);
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    text[2 * SECRET_BYTES] = '\n';
    const int rc = write_new(path, text, 2 * SECRET_BYTES + 1, err);
    OPENSSL_cleanse(random, sizeof(random));
    OPENSSL_cleanse(text, sizeof(text));
    return rc;
}

int keygen_authority(const char *directory, const struct keygen_validity *validity,
                     struct error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    int rc = key && certificate && make_authority(certificate, key, validity)
                 ? 0
                 : library_failed("no authority could be made", err);
    if (rc == 0)
        rc = write_identity(directory, "ca", certificate, key, err);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return rc;
}

/* Nobody sits at a terminal to type a passphrase. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static int load_authority(const char *directory, X509 **ca, EVP_PKEY **ca_key, struct error *err)
{
    char cert_path[KEYGEN_PATH], key_path[KEYGEN_PATH];
    int rc = make_path(cert_path, directory, "ca", ".pem", err);
    if (rc == 0)
        rc = make_path(key_path, directory, "ca", ".key", err);
    if (rc < 0)
        return rc;
    BIO *cert_file = BIO_new_file(cert_path, "r");
    BIO *key_file = BIO_new_file(key_path, "r");
    *ca = cert_file ? PEM_read_bio_X509(cert_file, NULL, no_passphrase, NULL) : NULL;
    *ca_key = key_file ? PEM_read_bio_PrivateKey(key_file, NULL, no_passphrase, NULL) : NULL;
    BIO_free(cert_file);
    BIO_free(key_file);
    if (!*ca)
        return library_failed(cert_path, err);
    if (!*ca_key)
        return library_failed(key_path, err);
    if (X509_check_private_key(*ca, *ca_key) != 1)
        return library_failed(key_path, err);
    return 0;
}

int keygen_host(const char *directory, const char *name, const struct keygen_validity *validity,
                struct error *err)
{
    int rc = keygen_check_name(name, err);
    if (rc < 0)
        return rc;
    X509 *ca = NULL;
    EVP_PKEY *ca_key = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    rc = load_authority(directory, &ca, &ca_key, err);
    if (rc == 0 &&
        (!key || !certificate || !make_host(certificate, key, name, ca, ca_key, validity)))
        rc = library_failed("no certificate could be made", err);
    if (rc == 0)
        rc = write_identity(directory, name, certificate, key, err);
    X509_free(certificate);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return rc;
}
