/* Blocking I/O on a connected stream socket with the time-outs of a link: what the carriers over
 * sockets share.
 *
 * The socket's own SO_SNDTIMEO and SO_RCVTIMEO do the waiting: bytes that are there cost one system
 * call, not three. One thread sends and one receives; neither touches the other's fields. */
#ifndef KEMARI_TRANSPORT_SOCKET_IO_H
#define KEMARI_TRANSPORT_SOCKET_IO_H

#include <sys/uio.h>

#include "transport/link_backend.h"

struct socket_io {
    int fd;                  /* blocking; set at creation, owned */
    int64_t send_wait_us;    /* what SO_SNDTIMEO holds, to set it only when it changes; sender */
    int64_t receive_wait_us; /* likewise; receiver */
};

/* Takes over `fd`. */
void socket_io_open(struct socket_io *io, int fd);
void socket_io_close(struct socket_io *io);

/* Sends all bytes of the parts, which may be modified. Errors as link_ops.send. Raises no SIGPIPE.
 */
int socket_io_send(struct socket_io *io, struct iovec *parts, size_t count,
                   const struct link_wait *wait, struct error *err);

/* One system call: bytes read into the parts, at least one; -EPIPE at the end of the stream. */
ssize_t socket_io_receive(struct socket_io *io, struct iovec *parts, size_t count,
                          const struct link_wait *wait, struct error *err);

#endif
