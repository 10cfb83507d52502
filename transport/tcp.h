/* What links over TCP, plain and under TLS, set on their sockets, for who compares others with
 * them. */
#ifndef KEMARI_TRANSPORT_TCP_H
#define KEMARI_TRANSPORT_TCP_H

#define TCP_UNSENT_MAX (64 << 10) /* bytes that the kernel takes before it can send them */

#endif
