/* Two links of one process, connected to each other: for tests, and for drills on one machine.
 * Carried by a socket pair, so that blocking, short reads and end of file are the real ones. */
#ifndef KEMARI_TRANSPORT_INPROC_H
#define KEMARI_TRANSPORT_INPROC_H

#include "transport/link.h"

/* `name` appears in messages: the peers are called "inproc NAME/0" and "inproc NAME/1". */
int inproc_pair(const char *name, struct link *out[2], struct error *err);

/* Makes a link of a connected stream socket, which the link then owns (also on failure it is
 * closed). For tests that talk raw bytes to the other end. */
int inproc_adopt(int fd, const char *name, struct link **out, struct error *err);

#endif
