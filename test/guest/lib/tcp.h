/* A TCP responder: a peer sends requests, the program answers; it never calls anybody.
 *
 * In order only (RFC 9293): a segment that is not the next one is dropped and acknowledged, since
 * the peer's kernel sends it again. What the program said is kept until it is acknowledged and sent
 * again every TCP_RESEND_NS without news, so frames that are lost at a failover cost time only. No
 * options but MSS, no urgent data, no connection left half open. A segment of no connection is
 * answered with RST: a guest that forgot a connection can't hide it.
 *
 * One address and port; one vCPU. */
#ifndef KEMARI_GUEST_TCP_H
#define KEMARI_GUEST_TCP_H

#include <stddef.h>
#include <stdint.h>

#include "test/guest/lib/inet.h"

#define TCP_CONNECTIONS 8
#define TCP_INPUT       4096 /* bytes of requests that wait, the window */
#define TCP_OUTPUT      4096 /* bytes that are not acknowledged */
#define TCP_RESEND_NS   50000000ull

struct tcp_connection;

/* Takes complete requests from `data`; returns how many bytes it took. It may answer by tcp_say(),
 * and takes no more requests than it can answer. */
typedef size_t (*tcp_hear_fn)(struct tcp_connection *connection, const uint8_t *data, size_t size);

void tcp_init(uint32_t own_ip, uint16_t port, tcp_hear_fn hear);

/* Takes a datagram of TCP for our address, see host_receive(). */
void tcp_receive(const uint8_t *frame, const struct ipv4 *ip, size_t ip_size);

/* How many bytes tcp_say() takes now. */
size_t tcp_room(const struct tcp_connection *connection);
void tcp_say(struct tcp_connection *connection, const void *data, size_t size);

/* Sends again what is due. Call it now and then. */
void tcp_tick(void);

#endif
