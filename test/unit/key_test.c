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

static const struct test_case cases[] = {
    {"keys depend on secret and label", keys_depend_on_secret_and_label},
    {"a key file is private and its newline does not count",
     a_key_file_is_private_and_its_newline_does_not_count},
};

TEST_MAIN("key", cases)
