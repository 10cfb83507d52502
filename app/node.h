/* The node: one VM on one host. Builds everything the configuration asks for, runs the role, and
 * answers the operator.
 *
 * Order of building (undone in reverse): machine and its memory with the guest's kernel in it,
 * staging memory, networks, listener and door, heartbeat, control socket, metrics, term
 * store, arbiter.
 * Files and directories made on the way are removed again when a later step fails, so that what
 * can't work leaves nothing half-started.
 *
 * Threads: the main thread runs the event loop (control socket, signals, the sampling timer); the
 * role's thread runs secondary_run() and primary_run(); everybody else posts to one of the two. */
#ifndef KEMARI_APP_NODE_H
#define KEMARI_APP_NODE_H

#include "app/config.h"
#include "base/error.h"

struct node;

/* `config` is borrowed until destroy. */
int node_create(const struct config *config, struct node **out, struct error *err);

/* Until the end of the guest, of the role, or a signal (SIGTERM, SIGINT: as `kemarictl stop`).
 * 0 after an orderly end, negative with the reason in `err` otherwise. */
int node_run(struct node *node, struct error *err);

void node_destroy(struct node **node);

#endif
