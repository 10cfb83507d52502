/* The loss of a carrier: the kernel's messages by their bytes, and a real pair of interfaces in a
 * network namespace of the test's own. */
#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "heartbeat/carrier.h"
#include "test/support/runner.h"

#define AMPLE_MS 10000

/* Appends a message about interface `index`; returns the bytes used. */
static size_t put(uint8_t *out, uint16_t type, uint8_t family, int index, unsigned flags)
{
    const struct nlmsghdr header = {.nlmsg_len = NLMSG_HDRLEN + sizeof(struct ifinfomsg) + 4,
                                    .nlmsg_type = type};
    const struct ifinfomsg info = {.ifi_family = family, .ifi_index = index, .ifi_flags = flags};
    memset(out, 0, header.nlmsg_len);
    memcpy(out, &header, sizeof(header));
    memcpy(out + NLMSG_HDRLEN, &info, sizeof(info));
    return header.nlmsg_len;
}

static void messages_are_told_apart(void)
{
    uint8_t bytes[512];
    size_t size = put(bytes, RTM_NEWLINK, AF_UNSPEC, 3, IFF_UP | IFF_LOWER_UP);
    size += put(bytes + size, RTM_NEWADDR, AF_INET, 4, 0);   /* of another kind */
    size += put(bytes + size, RTM_NEWLINK, AF_BRIDGE, 5, 0); /* of a bridge */
    size += put(bytes + size, RTM_NEWLINK, AF_UNSPEC, 6, IFF_UP);
    size += put(bytes + size, RTM_DELLINK, AF_UNSPEC, 7, IFF_LOWER_UP);
    static const struct carrier_event expected[] = {{3, true}, {6, false}, {7, false}};
    size_t used = 0;
    struct carrier_event event;
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        CU_ASSERT_TRUE_FATAL(carrier_decode(bytes, size, &used, &event));
        CU_ASSERT_EQUAL(event.interface, expected[i].interface);
        CU_ASSERT_EQUAL(event.carrier, expected[i].carrier);
    }
    CU_ASSERT_FALSE(carrier_decode(bytes, size, &used, &event));
}

static void what_is_cut_short_or_wrong_is_passed_over(void)
{
    uint8_t bytes[64];
    const size_t size = put(bytes, RTM_NEWLINK, AF_UNSPEC, 3, 0);
    struct carrier_event event;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* exactly as large, for the sanitizers */
        memcpy(copy, bytes, cut);
        size_t used = 0;
        CU_ASSERT_FALSE(carrier_decode(copy, cut, &used, &event));
        free(copy);
    }
    for (unsigned length = 0; length < NLMSG_HDRLEN + sizeof(struct ifinfomsg); length++) {
        const uint32_t wrong = length;
        memcpy(bytes, &wrong, sizeof(wrong));
        size_t used = 0;
        CU_ASSERT_FALSE(carrier_decode(bytes, size, &used, &event));
    }
}

static void expect_event(int fd, unsigned interface, bool carrier)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        CU_ASSERT_EQUAL_FATAL(poll(&wait, 1, AMPLE_MS), 1);
        uint8_t bytes[CARRIER_MESSAGES_MAX];
        const ssize_t size = carrier_receive(fd, bytes);
        struct carrier_event event;
        for (size_t used = 0; size > 0 && carrier_decode(bytes, (size_t)size, &used, &event);)
            if (event.interface == interface && event.carrier == carrier)
                return;
    }
}

static void a_pulled_cable_is_told(void)
{
    CU_ASSERT_EQUAL_FATAL(unshare(CLONE_NEWNET), 0);
    CU_ASSERT_EQUAL_FATAL(system("ip link add here type veth peer name there && "
                                 "ip address add 192.0.2.1/24 dev here && "
                                 "ip link set here up && ip link set there up"),
                          0);
    struct address own, other;
    CU_ASSERT_EQUAL(address_resolve("192.0.2.1:7001", &own, NULL), 0);
    CU_ASSERT_EQUAL(address_resolve("192.0.2.9:7001", &other, NULL), 0);
    const unsigned interface = carrier_interface_of(&own);
    CU_ASSERT_NOT_EQUAL_FATAL(interface, 0);
    CU_ASSERT_EQUAL(carrier_interface_of(&other), 0);
    int fd = carrier_open();
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(system("ip link set there down"), 0);
    expect_event(fd, interface, false);
    CU_ASSERT_EQUAL(system("ip link set there up"), 0);
    expect_event(fd, interface, true);
    CU_ASSERT_EQUAL(system("ip link del there"), 0);
    expect_event(fd, interface, false);
    CU_ASSERT_EQUAL(carrier_interface_of(&own), 0);
    fd_close(&fd);
}

static const struct test_case cases[] = {
    {"messages are told apart", messages_are_told_apart},
    {"what is cut short or wrong is passed over", what_is_cut_short_or_wrong_is_passed_over},
    {"a pulled cable is told", a_pulled_cable_is_told},
};

TEST_MAIN("carrier", cases)
