/* A host with one IPv4 address: answers ARP and ping by itself, the rest is the program's. */
#ifndef KEMARI_GUEST_HOST_H
#define KEMARI_GUEST_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "test/guest/lib/inet.h"

/* Takes a received frame. Non-NULL: a whole, unfragmented IPv4 datagram without options for
 * `own_ip` (host order) that the program must judge; its size in `ip_size`. */
const struct ipv4 *host_receive(uint32_t own_ip, const uint8_t *frame, size_t size,
                                size_t *ip_size);

#endif
