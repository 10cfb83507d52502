/* See tap.h. */
#include "vmm/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"

#define TUN_DEVICE       "/dev/net/tun"
#define VNET_HEADER_SIZE 12

static int explain_open(const char *name, int error, struct error *err)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return error_set(err, -error, "tap %s: no permission to open %s", name, TUN_DEVICE);
    case ENOENT:
    case ENODEV:
        return error_set(err, -error, "tap %s: this host has no %s (module tun not loaded?)", name,
                         TUN_DEVICE);
    default:
        return error_set(err, -error, "tap %s: can't open %s: %s", name, TUN_DEVICE,
                         strerror(error));
    }
}

static int explain_attach(const char *name, int error, struct error *err)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return error_set(err, -error,
                         "tap %s: no permission to attach (needs CAP_NET_ADMIN or to own it)",
                         name);
    case EBUSY:
        return error_set(err, -error, "tap %s: busy, another process is attached to it", name);
    case EINVAL:
        return error_set(err, -error, "tap %s: not a single-queue tap interface", name);
    default:
        return error_set(err, -error, "tap %s: can't attach: %s", name, strerror(error));
    }
}

static int attach(int fd, const char *name, struct error *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    memcpy(ifr.ifr_name, name, strlen(name));
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        return explain_attach(name, errno, err);
    const int size = VNET_HEADER_SIZE;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
        return error_set(err, -errno, "tap %s: can't set the size of the virtio-net header: %s",
                         name, strerror(errno));
    tap_set_receive_offloads(fd, 0);
    return 0;
}

int tap_open(const char *name, struct error *err)
{
    if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
        return error_set(err, -EINVAL, "tap \"%s\": not the name of a network interface", name);
    /* TUNSETIFF would create a missing interface, one that no bridge knows. */
    if (if_nametoindex(name) == 0)
        return error_set(err, -ENODEV,
                         "tap %s: no such interface (ip tuntap add dev %s mode tap vnet_hdr)", name,
                         name);
    int fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return explain_open(name, errno, err);
    const int rc = attach(fd, name, err);
    if (rc < 0) {
        fd_close(&fd);
        return rc;
    }
    return fd;
}

void tap_set_receive_offloads(int fd, uint64_t features)
{
    const struct {
        unsigned feature;
        unsigned flag;
    } map[] = {
        {VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
        {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
        {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
        {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
    };
    unsigned long flags = 0;
    for (size_t i = 0; i < ARRAY_SIZE(map); i++)
        if (features >> map[i].feature & 1)
            flags |= map[i].flag;
    /* Fails on a socket, which has no offloads to set. */
    ioctl(fd, TUNSETOFFLOAD, flags);
}
