#include "heartbeat/carrier.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h> /* before the kernel's own */
#include <string.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "base/fd.h"

int carrier_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    const struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    if (bind(fd, (const struct sockaddr *)&own, sizeof(own)) < 0) {
        const int rc = -errno;
        fd_close(&fd);
        return rc;
    }
    return fd;
}

/* Messages begin at multiples of four bytes (netlink(7)). */
static size_t aligned(size_t size)
{
    return (size + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
}

bool carrier_decode(const uint8_t *bytes, size_t size, size_t *used, struct carrier_event *out)
{
    struct nlmsghdr header;
    while (*used <= size && size - *used >= sizeof(header)) {
        const uint8_t *message = bytes + *used;
        memcpy(&header, message, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > size - *used)
            break;
        *used += aligned(header.nlmsg_len);
        struct ifinfomsg info;
        if ((header.nlmsg_type != RTM_NEWLINK && header.nlmsg_type != RTM_DELLINK) ||
            header.nlmsg_len < NLMSG_HDRLEN + sizeof(info))
            continue;
        memcpy(&info, message + NLMSG_HDRLEN, sizeof(info));
        /* A port that joins or leaves a bridge is told with that family; nothing is new then. */
        if (info.ifi_family != AF_UNSPEC || info.ifi_index <= 0)
            continue;
        *out = (struct carrier_event){
            .interface = (unsigned)info.ifi_index,
            .carrier = header.nlmsg_type == RTM_NEWLINK && (info.ifi_flags & IFF_LOWER_UP),
        };
        return true;
    }
    *used = size;
    return false;
}

ssize_t carrier_receive(int fd, uint8_t bytes[CARRIER_MESSAGES_MAX])
{
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t length = sizeof(from);
        const ssize_t size =
            recvfrom(fd, bytes, CARRIER_MESSAGES_MAX, 0, (struct sockaddr *)&from, &length);
        /* Too many at once: some are lost, and silence tells what they would have. */
        if (size < 0 && (errno == EINTR || errno == ENOBUFS))
            continue;
        if (size < 0)
            return -EAGAIN;
        if (from.nl_pid == 0) /* the kernel; other processes may send to us, too */
            return size;
    }
}

static bool is_same(const struct sockaddr *a, const struct address *b)
{
    if (a->sa_family != b->any.sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return a->sa_family == AF_INET6 && memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                                              &b->v6.sin6_addr, sizeof(b->v6.sin6_addr)) == 0;
}

unsigned carrier_interface_of(const struct address *address)
{
    struct ifaddrs *list = NULL;
    unsigned index = 0;
    if (getifaddrs(&list) < 0)
        return 0;
    for (const struct ifaddrs *i = list; i && !index; i = i->ifa_next)
        if (i->ifa_addr && is_same(i->ifa_addr, address))
            index = if_nametoindex(i->ifa_name);
    freeifaddrs(list);
    return index;
}
