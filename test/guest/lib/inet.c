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

static void put_ipv4(struct ipv4 *ip, const struct inet_flow *flow, size_t size)
{
    *ip = (struct ipv4){
        .version_words = 0x45,
        .size = inet16((uint16_t)size),
        .fragment = inet16(0x4000), /* don't fragment */
        .hops = 64,
        .protocol = PROTOCOL_UDP,
        .from = inet32(flow->from_ip),
        .to = inet32(flow->to_ip),
    };
    ip->checksum = inet16((uint16_t)~inet_sum(ip, sizeof(*ip), 0));
}

size_t inet_finish_udp(uint8_t *frame, const struct inet_flow *flow, size_t payload)
{
    struct ethernet *ethernet = (struct ethernet *)frame;
    struct ipv4 *ip = (struct ipv4 *)(ethernet + 1);
    struct udp *udp = (struct udp *)(ip + 1);
    const size_t udp_size = sizeof(*udp) + payload;
    memcpy(ethernet->to, flow->to_mac, sizeof(ethernet->to));
    memcpy(ethernet->from, flow->from_mac, sizeof(ethernet->from));
    ethernet->type = inet16(ETHERTYPE_IPV4);
    put_ipv4(ip, flow, sizeof(*ip) + udp_size);
    udp->from = inet16(flow->from_port);
    udp->to = inet16(flow->to_port);
    udp->size = inet16((uint16_t)udp_size);
    udp->checksum = 0;
    /* Pseudo header (RFC 768): both addresses, protocol, size. */
    uint32_t sum = inet_sum(&ip->from, 8, PROTOCOL_UDP + (uint32_t)udp_size);
    sum = ~inet_sum(udp, udp_size, sum) & 0xffff;
    udp->checksum = inet16((uint16_t)(sum ? sum : 0xffff));
    return INET_UDP_PAYLOAD + payload;
}
