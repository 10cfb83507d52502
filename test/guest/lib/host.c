#include "test/guest/lib/host.h"

#include "test/guest/lib/runtime.h"
#include "test/guest/lib/virtio_net.h"

static void answer_arp(uint32_t own_ip, const uint8_t *frame, size_t size)
{
    const struct ethernet *ethernet = (const struct ethernet *)frame;
    const struct arp *request = (const struct arp *)(ethernet + 1);
    if (size < sizeof(*ethernet) + sizeof(*request) || request->operation != inet16(1) ||
        request->target_ip != inet32(own_ip))
        return;
    struct ethernet *out = (struct ethernet *)net_transmit_buffer();
    memcpy(out->to, ethernet->from, 6);
    memcpy(out->from, net_mac(), 6);
    out->type = inet16(ETHERTYPE_ARP);
    struct arp *reply = (struct arp *)(out + 1);
    *reply = *request;
    reply->operation = inet16(2);
    memcpy(reply->sender_mac, net_mac(), 6);
    reply->sender_ip = inet32(own_ip);
    memcpy(reply->target_mac, request->sender_mac, 6);
    reply->target_ip = request->sender_ip;
    net_transmit(sizeof(*out) + sizeof(*reply));
}

static void answer_icmp(const uint8_t *frame, size_t ip_size)
{
    const struct ethernet *ethernet = (const struct ethernet *)frame;
    const struct ipv4 *ip = (const struct ipv4 *)(ethernet + 1);
    const struct icmp *request = (const struct icmp *)(ip + 1);
    if (ip_size < sizeof(*ip) + sizeof(*request) || request->type != 8)
        return;
    uint8_t *out = net_transmit_buffer();
    memcpy(out, frame, sizeof(*ethernet) + ip_size);
    struct ethernet *out_ethernet = (struct ethernet *)out;
    struct ipv4 *out_ip = (struct ipv4 *)(out_ethernet + 1);
    struct icmp *reply = (struct icmp *)(out_ip + 1);
    memcpy(out_ethernet->to, ethernet->from, 6);
    memcpy(out_ethernet->from, net_mac(), 6);
    out_ip->from = ip->to; /* a swap leaves the IP checksum as it is */
    out_ip->to = ip->from;
    reply->type = 0;
    reply->checksum = 0;
    reply->checksum = inet16((uint16_t)~inet_sum(reply, ip_size - sizeof(*ip), 0));
    net_transmit(sizeof(*ethernet) + ip_size);
}

const struct ipv4 *host_receive(uint32_t own_ip, const uint8_t *frame, size_t size, size_t *ip_size)
{
    const struct ethernet *ethernet = (const struct ethernet *)frame;
    if (size < sizeof(*ethernet) || size > NET_FRAME_MAX)
        return NULL;
    if (ethernet->type == inet16(ETHERTYPE_ARP)) {
        answer_arp(own_ip, frame, size);
        return NULL;
    }
    const struct ipv4 *ip = (const struct ipv4 *)(ethernet + 1);
    if (ethernet->type != inet16(ETHERTYPE_IPV4) || size < sizeof(*ethernet) + sizeof(*ip) ||
        ip->version_words != 0x45 || ip->to != inet32(own_ip) ||
        inet16(ip->size) > size - sizeof(*ethernet) || inet16(ip->size) < sizeof(*ip) ||
        (ip->fragment & inet16(0x3fff)))
        return NULL;
    *ip_size = inet16(ip->size);
    if (ip->protocol == PROTOCOL_ICMP) {
        answer_icmp(frame, *ip_size);
        return NULL;
    }
    return ip;
}
