/* Addresses as operators write them, well and badly. */
#include <errno.h>
#include <string.h>

#include "heartbeat/address.h"
#include "test/support/runner.h"

static void good_addresses_are_cut_into_host_and_port(void)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"192.0.2.1:7400", "192.0.2.1", 7400},
        {"[2001:db8::1]:1", "2001:db8::1", 1},
        {"[fe80::1%lo]:65535", "fe80::1%lo", 65535},
        {"host-a.example:7400", "host-a.example", 7400},
        {"h:00080", "h", 80},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        char host[ADDRESS_HOST_MAX];
        uint16_t port = 0;
        CU_ASSERT_EQUAL(address_split(good[i].text, host, &port, NULL), 0);
        CU_ASSERT_STRING_EQUAL(host, good[i].host);
        CU_ASSERT_EQUAL(port, good[i].port);
    }
}

static void bad_addresses_are_refused_with_the_text_and_the_reason(void)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "port is missing"},
        {"192.0.2.1", "port is missing"},
        {"192.0.2.1:", "number from 1 to 65535"},
        {":7400", "host is missing"},
        {"[]:7400", "host is missing"},
        {"[::1]", "port is missing"},
        {"[::1]7400", "port is missing"},
        {"[::1:7400", "']' is missing"},
        {"::1:7400", "needs brackets"},
        {"h:0", "number from 1 to 65535"},
        {"h:65536", "number from 1 to 65535"},
        {"h:-1", "number from 1 to 65535"},
        {"h:7400x", "number from 1 to 65535"},
        {"h: 7400", "number from 1 to 65535"},
        {"h:0000007400", "number from 1 to 65535"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char host[ADDRESS_HOST_MAX];
        uint16_t port;
        struct error err = {0};
        CU_ASSERT_EQUAL(address_split(bad[i].text, host, &port, &err), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].reason));
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].text));
    }
}

static void a_host_of_any_length_is_bounded(void)
{
    char text[600];
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    for (size_t length = 1; length < 500; length++) {
        memset(text, 'h', length);
        strcpy(text + length, ":1");
        CU_ASSERT_EQUAL(address_split(text, host, &port, NULL),
                        length < ADDRESS_HOST_MAX ? 0 : -EINVAL);
    }
}

static void numeric_addresses_come_back_as_they_were_written(void)
{
    static const char *const texts[] = {"127.0.0.1:7400", "[::1]:7400", "[2001:db8::5]:1"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct address address;
        char out[ADDRESS_TEXT_MAX];
        CU_ASSERT_EQUAL(address_resolve(texts[i], &address, NULL), 0);
        address_format(&address, out);
        CU_ASSERT_STRING_EQUAL(out, texts[i]);
    }
}

static void names_resolve_or_say_which_did_not(void)
{
    struct address address;
    struct error err = {0};
    CU_ASSERT_EQUAL(address_resolve("localhost:7400", &address, NULL), 0);
    CU_ASSERT_EQUAL(address_resolve("no..such.host:7400", &address, &err), -ENXIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no..such.host"));
    CU_ASSERT_EQUAL(address_resolve("[127.0.0.1]:7400", &address, NULL), -ENXIO);
}

static const struct test_case cases[] = {
    {"good addresses are cut into host and port", good_addresses_are_cut_into_host_and_port},
    {"bad addresses are refused with the text and the reason",
     bad_addresses_are_refused_with_the_text_and_the_reason},
    {"a host of any length is bounded", a_host_of_any_length_is_bounded},
    {"numeric addresses come back as they were written",
     numeric_addresses_come_back_as_they_were_written},
    {"names resolve or say which did not", names_resolve_or_say_which_did_not},
};

TEST_MAIN("address", cases)
