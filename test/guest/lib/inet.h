/* Just enough Ethernet, ARP, IPv4, ICMP echo, UDP and TCP to be spoken to. All header fields are in
 * network byte order; use inet16()/inet32() both ways. */
#ifndef KEMARI_GUEST_INET_H
#define KEMARI_GUEST_INET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define PROTOCOL_ICMP  1
#define PROTOCOL_TCP   6
#define PROTOCOL_UDP   17

struct __attribute__((packed)) ethernet {
    uint8_t to[6], from[6];
    uint16_t type;
};

struct __attribute__((packed)) arp {
    uint16_t hardware, protocol;
    uint8_t hardware_size, protocol_size;
    uint16_t operation;
    uint8_t sender_mac[6];
    uint32_t sender_ip;
    uint8_t target_mac[6];
    uint32_t target_ip;
};

struct __attribute__((packed)) ipv4 {
    uint8_t version_words, service;
    uint16_t size, id, fragment;
    uint8_t hops, protocol;
    uint16_t checksum;
    uint32_t from, to;
};

struct __attribute__((packed)) icmp {
    uint8_t type, code;
    uint16_t checksum;
};

struct __attribute__((packed)) udp {
    uint16_t from, to, size, checksum;
};

struct __attribute__((packed)) tcp {
    uint16_t from, to;
    uint32_t sequence, acknowledged;
    uint8_t words; /* size of this header in its upper half */
    uint8_t flags;
    uint16_t window, checksum, urgent;
};

static inline uint16_t inet16(uint16_t v)
{
    return __builtin_bswap16(v);
}

static inline uint32_t inet32(uint32_t v)
{
    return __builtin_bswap32(v);
}

/* One's complement sum of RFC 1071, folded, not inverted; `start` chains parts of even size. */
uint32_t inet_sum(const void *data, size_t size, uint32_t start);

/* Parses "a.b.c.d" into host order; false when malformed. */
bool inet_parse(const char *text, uint32_t *address);

/* Writes Ethernet, IPv4 and UDP headers in front of a payload that already lies at
 * frame + INET_UDP_PAYLOAD, both checksums included. Addresses and ports in host order. Returns
 * the size of the frame. */
#define INET_UDP_PAYLOAD (sizeof(struct ethernet) + sizeof(struct ipv4) + sizeof(struct udp))
struct inet_flow {
    uint8_t from_mac[6], to_mac[6];
    uint32_t from_ip, to_ip;
    uint16_t from_port, to_port;
};
size_t inet_finish_udp(uint8_t *frame, const struct inet_flow *flow, size_t payload);

/* The same for a TCP segment of `size` bytes, header included, that lies at frame + INET_SEGMENT:
 * sets ports and checksum, the rest of its header is the caller's. Returns the size of the frame.
 */
#define INET_SEGMENT (sizeof(struct ethernet) + sizeof(struct ipv4))
size_t inet_finish_tcp(uint8_t *frame, const struct inet_flow *flow, size_t size);

/* The sum over a datagram's payload of `size` bytes with its pseudo header (RFC 768, RFC 9293
 * §3.1); 0xffff when it carries its right checksum. */
uint32_t inet_transport_sum(const struct ipv4 *ip, const void *payload, size_t size);

#endif
