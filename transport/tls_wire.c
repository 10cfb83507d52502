#include "transport/tls_wire.h"

#include <errno.h>
#include <openssl/ssl3.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert(TLS_WIRE_HEADER == SSL3_RT_HEADER_LENGTH, "RFC 8446 §5.1");

void tls_wire_open_socket(struct tls_wire *wire, int fd)
{
    *wire = (struct tls_wire){0};
    socket_io_open(&wire->io, fd);
}

void tls_wire_open_link(struct tls_wire *wire, struct link *below)
{
    *wire = (struct tls_wire){.below = below};
    socket_io_open(&wire->io, -1);
}

void tls_wire_close(struct tls_wire *wire)
{
    link_destroy(&wire->below);
    socket_io_close(&wire->io);
}

int tls_wire_send(struct tls_wire *wire, struct iovec *parts, int count,
                  const struct link_wait *wait, struct error *err)
{
    if (wire->below)
        return wire->below->ops->send(wire->below, parts, count, wait, err);
    return socket_io_send(&wire->io, parts, (size_t)count, wait, err);
}

/* Up to the end of the record that has begun, or of the next one. */
static ssize_t receive_record(struct tls_wire *w, uint8_t *buffer, size_t size,
                              const struct link_wait *wait, struct error *err)
{
    struct link *below = w->below;
    size_t used = 0, got = 0;
    int rc = 0;
    if (w->left == 0) {
        rc = below->ops->receive(below, w->header + w->header_size,
                                 TLS_WIRE_HEADER - w->header_size, &got, wait, err);
        w->header_size += got;
        if (rc == -EPIPE && w->header_size)
            return error_set(err, -ECONNRESET, "the connection ended inside a TLS record");
        if (rc < 0)
            return rc;
        w->left = (size_t)w->header[3] << 8 | w->header[4];
        if (w->left == 0 || w->left > SSL3_RT_MAX_ENCRYPTED_LENGTH)
            return error_set(err, -EPROTO, "the peer does not speak TLS");
        memcpy(buffer, w->header, TLS_WIRE_HEADER);
        used = TLS_WIRE_HEADER;
        w->header_size = 0;
    }
    const size_t room = size - used;
    rc =
        below->ops->receive(below, buffer + used, w->left < room ? w->left : room, &got, wait, err);
    w->left -= got;
    used += got;
    if (rc == -EPIPE)
        return error_set(err, -ECONNRESET, "the connection ended inside a TLS record");
    return rc < 0 && used == 0 ? rc : (ssize_t)used;
}

ssize_t tls_wire_receive(struct tls_wire *wire, uint8_t *buffer, size_t size,
                         const struct link_wait *wait, struct error *err)
{
    if (wire->below)
        return receive_record(wire, buffer, size, wait, err);
    struct iovec part = {buffer, size};
    return socket_io_receive(&wire->io, &part, 1, wait, err);
}

void tls_wire_try_send(struct tls_wire *wire, const uint8_t *bytes, size_t size)
{
    if (!wire->below)
        (void)!send(wire->io.fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool tls_wire_end_sending(struct tls_wire *wire)
{
    return !wire->below && shutdown(wire->io.fd, SHUT_WR) == 0;
}

void tls_wire_shutdown(struct tls_wire *wire)
{
    if (wire->below)
        link_shutdown(wire->below);
    else
        shutdown(wire->io.fd, SHUT_RDWR);
}
