/* Stream sockets as a carrier: see transport/stream.h. */
#include "transport/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "transport/link_backend.h"
#include "transport/socket_io.h"

struct stream {
    struct link link; /* first member */
    struct socket_io io;

    /* owned by the receiver */
    size_t start, end; /* bytes [start, end) of `ahead` are not consumed yet */
    uint8_t ahead[STREAM_READ_AHEAD];
};

static int stream_send(struct link *link, struct iovec *parts, int count,
                       const struct link_wait *wait, struct error *err)
{
    return socket_io_send(&((struct stream *)link)->io, parts, (size_t)count, wait, err);
}

static size_t take_ahead(struct stream *s, uint8_t *out, size_t size)
{
    const size_t n = s->end - s->start < size ? s->end - s->start : size;
    memcpy(out, s->ahead + s->start, n);
    s->start += n;
    return n;
}

static int stream_receive(struct link *link, void *buffer, size_t size, size_t *got,
                          const struct link_wait *wait, struct error *err)
{
    struct stream *s = (struct stream *)link;
    uint8_t *out = buffer;
    *got = take_ahead(s, out, size);
    while (*got < size) {
        const size_t missing = size - *got;
        struct iovec parts[2] = {{out + *got, missing}, {s->ahead, sizeof(s->ahead)}};
        const ssize_t n = socket_io_receive(&s->io, parts, ARRAY_SIZE(parts), wait, err);
        if (n < 0)
            return (int)n;
        s->start = 0;
        s->end = (size_t)n > missing ? (size_t)n - missing : 0;
        *got += (size_t)n - s->end;
    }
    return 0;
}

static void stream_shutdown(struct link *link)
{
    shutdown(((struct stream *)link)->io.fd, SHUT_RDWR);
}

static void stream_destroy(struct link *link)
{
    struct stream *s = (struct stream *)link;
    socket_io_close(&s->io);
    free(s);
}

static const struct link_ops stream_ops = {
    .send = stream_send,
    .receive = stream_receive,
    .shutdown = stream_shutdown,
    .destroy = stream_destroy,
};

int stream_create(int fd, const char *peer, struct link **out, struct error *err)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fd_close(&fd);
        return error_set(err, -ENOMEM, "%s: out of memory for a link", peer);
    }
    socket_io_open(&s->io, fd);
    link_init(&s->link, &stream_ops, peer);
    *out = &s->link;
    return 0;
}
