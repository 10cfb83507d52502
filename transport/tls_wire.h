/* What carries the records of a TLS link: a socket, or a link that does not encrypt (RDMA).
 *
 * A socket gives what there is; a link only what it is asked for, so there it is asked for a
 * record, whose header says how long it is (RFC 8446 §5.1). One thread sends, one receives. */
#ifndef KEMARI_TRANSPORT_TLS_WIRE_H
#define KEMARI_TRANSPORT_TLS_WIRE_H

#include "transport/link_backend.h"
#include "transport/socket_io.h"

#define TLS_WIRE_HEADER 5 /* bytes of a record's header */

struct tls_wire {
    struct link *below;  /* owned; NULL: the socket is used */
    struct socket_io io; /* of no use when there is a link below */

    /* the receiver's, for a link below: of a record that is not there yet when a time is up */
    uint8_t header[TLS_WIRE_HEADER];
    size_t header_size; /* bytes of it, that nobody has got yet */
    size_t left;        /* bytes of the record still to come, its header has been given out */
};

void tls_wire_open_socket(struct tls_wire *wire, int fd);
void tls_wire_open_link(struct tls_wire *wire, struct link *below);
void tls_wire_close(struct tls_wire *wire);

/* Sends all bytes of the parts, which may be modified. Errors as link_ops.send. */
int tls_wire_send(struct tls_wire *wire, struct iovec *parts, int count,
                  const struct link_wait *wait, struct error *err);

/* Bytes read, at least one; -EPIPE at the end of the stream; -EPROTO: no record can begin so.
 * `size` has room for a record. */
ssize_t tls_wire_receive(struct tls_wire *wire, uint8_t *buffer, size_t size,
                         const struct link_wait *wait, struct error *err);

/* A few bytes that may be lost, to a peer that speaks no TLS. */
void tls_wire_try_send(struct tls_wire *wire, const uint8_t *bytes, size_t size);

/* Nothing more will be sent: the peer may read what was and learn that there is no more. False:
 * what is below sees to that itself when it is shut down. */
bool tls_wire_end_sending(struct tls_wire *wire);

/* Ends both directions, from any thread. */
void tls_wire_shutdown(struct tls_wire *wire);

#endif
