/* A connected pair of links over a socket pair. */
#include "transport/inproc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "transport/stream.h"

int inproc_adopt(int fd, const char *name, struct link **out, struct error *err)
{
    char peer[LINK_PEER_MAX];
    snprintf(peer, sizeof(peer), "inproc %s", name);
    return stream_create(fd, peer, out, err);
}

int inproc_pair(const char *name, struct link *out[2], struct error *err)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return error_set(err, -errno, "inproc %s: socketpair: %s", name, strerror(errno));
    /* The link with index i talks to the end called 1 - i. */
    char peer[LINK_PEER_MAX];
    snprintf(peer, sizeof(peer), "inproc %s/1", name);
    int rc = stream_create(fds[0], peer, &out[0], err);
    if (rc < 0) {
        fd_close(&fds[1]);
        return rc;
    }
    snprintf(peer, sizeof(peer), "inproc %s/0", name);
    rc = stream_create(fds[1], peer, &out[1], err);
    if (rc < 0)
        link_destroy(&out[0]);
    return rc;
}
