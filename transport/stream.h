/* A carrier over any connected stream socket: what TCP and the in-process pair share.
 *
 * How it waits is transport/socket_io.h's. The reader asks for its bytes and a little more in the
 * same call, so that a header brings a small payload along; large payloads go straight into the
 * caller's buffer. */
#ifndef KEMARI_TRANSPORT_STREAM_H
#define KEMARI_TRANSPORT_STREAM_H

#include "transport/link.h"

#define STREAM_READ_AHEAD (16u << 10) /* bytes */

/* Makes a link of the connected, blocking stream socket `fd`, which it owns from now on (closed
 * also on failure). */
int stream_create(int fd, const char *peer, struct link **out, struct error *err);

#endif
