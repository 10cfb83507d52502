/* Keys from the pair's secret: see transport/key.h. */
#include "transport/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* The salt names the scheme: another way to derive gets another. */
static const uint8_t salt[] = "kemari pair 1";

int key_derive(const void *secret, size_t size, const char *label, uint8_t out[KEY_SIZE],
               struct error *err)
{
    if (size < KEY_SECRET_MIN || size > KEY_SECRET_MAX)
        return error_set(err, -EINVAL, "the pair's secret has %zu bytes, legal are %d to %d", size,
                         KEY_SECRET_MIN, KEY_SECRET_MAX);
    size_t length = KEY_SIZE;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    const bool done =
        context && EVP_PKEY_derive_init(context) > 0 &&
        EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) > 0 &&
        EVP_PKEY_CTX_set1_hkdf_salt(context, salt, sizeof(salt) - 1) > 0 &&
        EVP_PKEY_CTX_set1_hkdf_key(context, secret, (int)size) > 0 &&
        EVP_PKEY_CTX_add1_hkdf_info(context, (const uint8_t *)label, (int)strlen(label)) > 0 &&
        EVP_PKEY_derive(context, out, &length) > 0 && length == KEY_SIZE;
    EVP_PKEY_CTX_free(context);
    return done ? 0 : error_set(err, -EIO, "deriving a key from the pair's secret failed");
}

/* Reads at most KEY_SECRET_MAX + 1 bytes. Returns how many, or -errno. */
static ssize_t read_secret(int fd, uint8_t *secret)
{
    size_t used = 0;
    while (used <= KEY_SECRET_MAX) {
        const ssize_t n = read(fd, secret + used, KEY_SECRET_MAX + 1 - used);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        if (n > 0)
            used += (size_t)n;
    }
    return (ssize_t)used;
}

static int derive_from_fd(int fd, const char *path, const char *label, uint8_t *out,
                          struct error *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return error_set(err, -errno, "key file %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, -EINVAL, "key file %s is not a regular file", path);
    if (status.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, -EPERM, "key file %s is open to others than its owner; chmod 600 it",
                         path);
    uint8_t secret[KEY_SECRET_MAX + 1];
    ssize_t size = read_secret(fd, secret);
    int rc = 0;
    if (size < 0)
        rc = error_set(err, (int)size, "key file %s: %s", path, strerror((int)-size));
    while (size > 0 && (secret[size - 1] == '\n' || secret[size - 1] == '\r'))
        size--;
    if (rc == 0) {
        rc = key_derive(secret, (size_t)size, label, out, err);
        if (rc < 0)
            error_prefix(err, "key file %s", path);
    }
    OPENSSL_cleanse(secret, sizeof(secret));
    return rc;
}

int key_derive_from_file(const char *path, const char *label, uint8_t out[KEY_SIZE],
                         struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, -errno, "key file %s: %s", path, strerror(errno));
    const int rc = derive_from_fd(fd, path, label, out, err);
    fd_close(&fd);
    return rc;
}
