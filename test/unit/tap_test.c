/* Taps, in a network namespace of our own that vanishes with the process. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "vmm/tap.h"

/* Creates a persistent tap, or a tun with `flags` IFF_TUN. */
static int make_interface(const char *name, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)(flags | IFF_NO_PI)};
    memcpy(ifr.ifr_name, name, strlen(name));
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0 ? -errno : 0;
    fd_close(&fd);
    return rc;
}

static void an_open_tap_is_non_blocking_and_has_the_virtio_header(void)
{
    CU_ASSERT_EQUAL_FATAL(make_interface("kmtap0", IFF_TAP), 0);
    int fd = tap_open("kmtap0", NULL);
    CU_ASSERT_FATAL(fd >= 0);
    int size = 0;
    CU_ASSERT_EQUAL(ioctl(fd, TUNGETVNETHDRSZ, &size), 0);
    CU_ASSERT_EQUAL(size, 12);
    CU_ASSERT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CU_ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    char byte[100];
    CU_ASSERT_EQUAL(read(fd, byte, sizeof(byte)), -1);
    tap_set_receive_offloads(fd, 1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4);
    fd_close(&fd);
    fd = tap_open("kmtap0", NULL); /* and again, once it is free */
    CU_ASSERT(fd >= 0);
    fd_close(&fd);
}

static void each_failure_has_its_sentence(void)
{
    CU_ASSERT_EQUAL_FATAL(make_interface("kmbusy", IFF_TAP), 0);
    CU_ASSERT_EQUAL_FATAL(make_interface("kmtun", IFF_TUN), 0);
    int holder = tap_open("kmbusy", NULL);
    CU_ASSERT_FATAL(holder >= 0);
    const struct {
        const char *name;
        int rc;
        const char *says;
    } bad[] = {{"kmbusy", -EBUSY, "busy"},
               {"kmnone", -ENODEV, "no such interface"},
               {"kmtun", -EINVAL, "not a single-queue tap"},
               {"lo", -EINVAL, "not a single-queue tap"},
               {"", -EINVAL, "not the name"},
               {"a-name-that-is-too-long", -EINVAL, "not the name"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = {0};
        CU_ASSERT_EQUAL(tap_open(bad[i].name, &err), bad[i].rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].says));
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].name));
    }
    CU_ASSERT_EQUAL(if_nametoindex("kmnone"), 0); /* and none was created on the way */
    fd_close(&holder);
}

static const struct test_case cases[] = {
    {"an open tap is non-blocking and has the virtio header",
     an_open_tap_is_non_blocking_and_has_the_virtio_header},
    {"each failure has its sentence", each_failure_has_its_sentence},
};

int main(int argc, char **argv)
{
    if (unshare(CLONE_NEWNET) < 0)
        test_skip("needs the right to create a network namespace");
    if (access("/dev/net/tun", R_OK | W_OK) < 0)
        test_skip("needs /dev/net/tun");
    return test_run(argc, argv, "tap", cases, ARRAY_SIZE(cases));
}
