#include "test/guest/lib/inet.h"

#include "test/guest/lib/runtime.h"

uint32_t inet_sum(const void *data, size_t size, uint32_t start)
{
    const uint8_t *p = data;
    uint64_t sum = start;
    for (; size >= 2; size -= 2, p += 2)
        sum += (uint64_t)(p[0] << 8 | p[1]);
    if (size)
        sum += (uint64_t)(p[0] << 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

bool inet_parse(const char *text, uint32_t *address)
{
    uint32_t value = 0;
    for (unsigned part = 0; part < 4; part++) {
        unsigned number = 0, digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 4; text++, digits++)
            number = number * 10 + (unsigned)(*text - '0');
        if (!digits || number > 255 || *text != (part < 3 ? '.' : '\0'))
            return false;
        text++;
        value = value << 8 | number;
    }
    *address = value;
    return true;
}

uint32_t inet_transport_sum(const struct ipv4 *ip, const void *payload, size_t size)
{
    const uint32_t pseudo = inet_sum(&ip->from, 8, ip->protocol + (uint32_t)size);
    return inet_sum(payload, size, pseudo);
}

/* Headers in front of `size` bytes of a transport protocol; returns those bytes. */
static void *put_headers(uint8_t *frame, const struct inet_flow *flow, uint8_t protocol,
                         size_t size)
{
    struct ethernet *ethernet = (struct ethernet *)frame;
    struct ipv4 *ip = (struct ipv4 *)(ethernet + 1);
    memcpy(ethernet->to, flow->to_mac, sizeof(ethernet->to));
    memcpy(ethernet->from, flow->from_mac, sizeof(ethernet->from));
    ethernet->type = inet16(ETHERTYPE_IPV4);
    *ip = (struct ipv4){
        .version_words = 0x45,
        .size = inet16((uint16_t)(sizeof(*ip) + size)),
        .fragment = inet16(0x4000), /* don't fragment */
        .hops = 64,
        .protocol = protocol,
        .from = inet32(flow->from_ip),
        .to = inet32(flow->to_ip),
    };
    ip->checksum = inet16((uint16_t)~inet_sum(ip, sizeof(*ip), 0));
    return ip + 1;
}

size_t inet_finish_udp(uint8_t *frame, const struct inet_flow *flow, size_t payload)
{
    const size_t size = sizeof(struct udp) + payload;
    struct udp *udp = put_headers(frame, flow, PROTOCOL_UDP, size);
    udp->from = inet16(flow->from_port);
    udp->to = inet16(flow->to_port);
    udp->size = inet16((uint16_t)size);
    udp->checksum = 0;
    const struct ipv4 *ip = (const struct ipv4 *)udp - 1;
    const uint16_t sum = (uint16_t)~inet_transport_sum(ip, udp, size);
    udp->checksum = inet16(sum ? sum : 0xffff);
    return INET_UDP_PAYLOAD + payload;
}

size_t inet_finish_tcp(uint8_t *frame, const struct inet_flow *flow, size_t size)
{
    struct tcp *tcp = put_headers(frame, flow, PROTOCOL_TCP, size);
    tcp->from = inet16(flow->from_port);
    tcp->to = inet16(flow->to_port);
    tcp->checksum = 0;
    const struct ipv4 *ip = (const struct ipv4 *)tcp - 1;
    tcp->checksum = inet16((uint16_t)~inet_transport_sum(ip, tcp, size));
    return INET_SEGMENT + size;
}
