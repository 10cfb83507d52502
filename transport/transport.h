/* Where links come from: one door for every carrier, chosen by the scheme of a URI.
 *
 *   tls://host:port   tls://[v6]:port   TLS 1.3 over TCP (transport/tls.h); also without a scheme
 *   tcp://host:port                     plain TCP; port 0 when listening: the kernel chooses
 *   rdma://host:port                    RDMA, on the device that owns the address (InfiniBand,
 * RoCE) rdma+tls://host:port                the same, and what travels on it are records of TLS 1.3
 *
 * A host name is resolved at each call; every address is tried in the resolver's order. */
#ifndef KEMARI_TRANSPORT_TRANSPORT_H
#define KEMARI_TRANSPORT_TRANSPORT_H

#include "transport/link.h"

struct listener;
struct tls_credentials;

/* Binds and listens. `tls` is for tls:// and rdma+tls://, borrowed until the listener and its links
 * are gone; NULL where there is none. -EINVAL: not a URI we know, or one of these without
 * credentials; -EADDRINUSE, -EADDRNOTAVAIL, ...: the phrase names the address. */
int transport_listen(const char *uri, const struct tls_credentials *tls, struct listener **out,
                     struct error *err);

/* Waits for a connection, which isn't secured yet (link_establish()). -ECANCELED once
 * listener_shutdown() was called, -ETIMEDOUT after `timeout_ms` (0: for ever). Nothing is known
 * about the peer yet: see transport/session.h. One thread at a time. */
int listener_accept(struct listener *listener, unsigned timeout_ms, struct link **out,
                    struct error *err);

/* Ends a running and every later accept. Any thread, idempotent. */
void listener_shutdown(struct listener *listener);

/* Closes. No thread may be inside accept. */
void listener_destroy(struct listener **listener);

/* The address as a URI, with the real port. Owned by the listener. */
const char *listener_uri(const struct listener *listener);

/* Connects a link that isn't secured yet, trying for `timeout_ms` (> 0) in all. When `cancel_fd`
 * (-1: none) becomes readable the call returns -ECANCELED. -ECONNREFUSED, -EHOSTUNREACH,
 * -ETIMEDOUT, ...: the phrase names the address. */
int transport_connect(const char *uri, const struct tls_credentials *tls, unsigned timeout_ms,
                      int cancel_fd, struct link **out, struct error *err);

#endif
