/* Keys of the pair: derivation against RFC 5869 computed elsewhere, and the file the secret is in.
 */
#include "transport/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "transport/proof.h"

static void keys_depend_on_secret_and_label(void)
{
    uint8_t a[KEY_SIZE], b[KEY_SIZE], c[KEY_SIZE];
    CU_ASSERT_EQUAL(key_derive("0123456789abcdef", 16, KEY_LABEL_SESSION, a, NULL), 0);
    CU_ASSERT_EQUAL(key_derive("0123456789abcdef", 16, KEY_LABEL_HEARTBEAT, b, NULL), 0);
    CU_ASSERT_EQUAL(key_derive("0123456789abcdeF", 16, KEY_LABEL_SESSION, c, NULL), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a, b, KEY_SIZE), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a, c, KEY_SIZE), 0);
    static const uint8_t golden[KEY_SIZE] = {0x39, 0x6b, 0x0c, 0x17, 0x7c, 0xf3, 0x5b, 0xcb,
                                             0xf6, 0xaf, 0xcc, 0x96, 0x6e, 0x87, 0xe0, 0x16,
                                             0xc1, 0xc6, 0x10, 0x00, 0x5d, 0x63, 0x2a, 0x9f,
                                             0xf1, 0xc5, 0xf5, 0xc8, 0x8a, 0x94, 0xaf, 0x83};
    CU_ASSERT_EQUAL(memcmp(a, golden, KEY_SIZE), 0);
    CU_ASSERT_EQUAL(key_derive("0123456789abcde", 15, KEY_LABEL_SESSION, a, NULL), -EINVAL);
}

static void a_key_file_is_private_and_its_newline_does_not_count(void)
{
    char path[] = "/tmp/kemari-key-test-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(fd_write_all(fd, "0123456789abcdef\n", 17), 0);
    uint8_t a[KEY_SIZE], b[KEY_SIZE];
    struct error err = {0};
    key_derive("0123456789abcdef", 16, KEY_LABEL_SESSION, a, NULL);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_SESSION, b, NULL), 0);
    CU_ASSERT_EQUAL(memcmp(a, b, KEY_SIZE), 0);
    CU_ASSERT_EQUAL(fchmod(fd, 0640), 0);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_SESSION, b, &err), -EPERM);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));
    CU_ASSERT_EQUAL(fchmod(fd, 0600), 0);
    CU_ASSERT_EQUAL(ftruncate(fd, 8), 0);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_SESSION, b, &err), -EINVAL);
    CU_ASSERT_EQUAL(ftruncate(fd, KEY_SECRET_MAX + 1), 0);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_SESSION, b, &err), -EINVAL);
    fd_close(&fd);
    unlink(path);
    CU_ASSERT_EQUAL(key_derive_from_file(path, KEY_LABEL_SESSION, b, &err), -ENOENT);
    CU_ASSERT_EQUAL(key_derive_from_file("/dev/null", KEY_LABEL_SESSION, b, &err), -EINVAL);
}

static void transcript_and_proofs_are_those_of_the_protocol(void)
{
    static const uint8_t transcript[TRANSCRIPT_SIZE] = {
        0xdd, 0x16, 0xd4, 0xa5, 0xd9, 0x5d, 0xbb, 0x7e, 0x42, 0xe9, 0x23,
        0x89, 0xde, 0x20, 0x47, 0x32, 0x64, 0x0f, 0xdd, 0x58, 0x2e, 0x9a,
        0xb8, 0x11, 0xa0, 0x36, 0xe8, 0xc7, 0x08, 0xf6, 0x3d, 0xaf};
    static const uint8_t connector[PROOF_SIZE] = {0xdc, 0x1a, 0xb2, 0x35, 0x1d, 0xac, 0x0e, 0xa8,
                                                  0xab, 0x37, 0xac, 0xec, 0xef, 0xf1, 0x62, 0xcf,
                                                  0x1c, 0x0e, 0x1e, 0xbb, 0xff, 0xdb, 0x26, 0x5a,
                                                  0xf0, 0x58, 0xdb, 0x23, 0x39, 0x16, 0xb5, 0x03};
    static const uint8_t listener[PROOF_SIZE] = {0xc6, 0x11, 0x7f, 0xd4, 0x47, 0x03, 0xc0, 0xff,
                                                 0xbb, 0x0f, 0x08, 0x27, 0x82, 0xfa, 0x2d, 0xe6,
                                                 0x33, 0x5d, 0x51, 0xdf, 0x07, 0x4f, 0x81, 0xae,
                                                 0x14, 0x38, 0xc7, 0x43, 0x2d, 0x70, 0x7a, 0xb2};
    uint8_t key[KEY_SIZE], proof[PROOF_SIZE];
    struct transcript t = {0};
    CU_ASSERT_EQUAL(key_derive("0123456789abcdef", 16, KEY_LABEL_SESSION, key, NULL), 0);
    CU_ASSERT_EQUAL(transcript_add(&t, "hello", 5, NULL), 0);
    CU_ASSERT_EQUAL(transcript_add(&t, "challenge", 9, NULL), 0);
    CU_ASSERT_EQUAL(memcmp(t.digest, transcript, TRANSCRIPT_SIZE), 0);
    CU_ASSERT_EQUAL(proof_make(key, PROOF_CONNECTOR, &t, proof, NULL), 0);
    CU_ASSERT_TRUE(proof_equal(proof, connector));
    CU_ASSERT_EQUAL(proof_make(key, PROOF_LISTENER, &t, proof, NULL), 0);
    CU_ASSERT_TRUE(proof_equal(proof, listener));
    CU_ASSERT_FALSE(proof_equal(proof, connector));
}

static const struct test_case cases[] = {
    {"keys depend on secret and label", keys_depend_on_secret_and_label},
    {"a key file is private and its newline does not count",
     a_key_file_is_private_and_its_newline_does_not_count},
    {"transcript and proofs are those of the protocol",
     transcript_and_proofs_are_those_of_the_protocol},
};

TEST_MAIN("key", cases)
