/* Answers "GET /metrics" with a text, by HTTP (libevent's evhttp).
 *
 * Whoever reaches the address may ask, and what comes is hostile: at most METRICS_CONNECTIONS_MAX
 * connections, METRICS_REQUEST_MAX bytes of a request, no body, a time limit for idleness and one
 * for a connection's life. The text is made at most ten times a second, however many ask. All of it
 * runs on a thread of the server's own, so that a client can delay nobody but other clients. */
#ifndef KEMARI_CONTROL_METRICS_SERVER_H
#define KEMARI_CONTROL_METRICS_SERVER_H

#include <stdio.h>
#include <sys/socket.h>

#include "base/error.h"

#define METRICS_CONNECTIONS_MAX 8
#define METRICS_REQUEST_MAX     8192

struct metrics_server;

struct metrics_server_config {
    const struct sockaddr *address;
    socklen_t length;
    unsigned idle_seconds; /* until a silent client is dropped; four times that for any client */
    /* Writes the text. On the server's thread. */
    void (*print)(void *context, FILE *out);
    void *context;
};

/* Binds and listens; nobody is answered yet. The process must have called evthread_use_pthreads().
 * 0, or negative: the address can't be had. `config` is copied. */
int metrics_server_create(const struct metrics_server_config *config, struct metrics_server **out,
                          struct error *err);

/* Answers from now on. Once. */
int metrics_server_start(struct metrics_server *server, struct error *err);

/* The port that is listened on, also where the address left it to the system. */
unsigned metrics_server_port(const struct metrics_server *server);

/* Ends the thread: print() is not called any more. */
void metrics_server_destroy(struct metrics_server **server);

#endif
