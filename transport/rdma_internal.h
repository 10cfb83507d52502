/* Between rdma.c (addresses, the connection manager) and the bytes on a connection (rdma_parts.h). */
#ifndef KEMARI_TRANSPORT_RDMA_INTERNAL_H
#define KEMARI_TRANSPORT_RDMA_INTERNAL_H

#include <rdma/rdma_cma.h>

#include "transport/link_backend.h"

struct rdma_link;

/* Makes the queue pair of `id`, with receive slots posted, and everything around it. `encrypted`:
 * what is offered to the peer. On success the link owns `id` and `events`, which must be the
 * channel of the id; on failure the caller does. */
int rdma_link_create(struct rdma_cm_id *id, struct rdma_event_channel *events, bool encrypted,
                     const char *peer, struct rdma_link **out, struct error *err);

/* What rdma_connect() and rdma_accept() are given: points into the link. */
struct rdma_conn_param rdma_link_parameters(struct rdma_link *link);

/* Starts the link's thread, which from now on reads `events`. `connected`: the connection is there;
 * otherwise the thread waits for it, and so do the first bytes sent. */
int rdma_link_start(struct rdma_link *link, bool connected, struct error *err);

struct link *rdma_link_base(struct rdma_link *link);

/* Before rdma_link_start() succeeded: undoes the creation, except that `id` and `events` are the
 * caller's again. */
void rdma_link_abandon(struct rdma_link *link);

#endif
