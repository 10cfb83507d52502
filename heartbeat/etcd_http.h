/* One POST at a time over libcurl, with a deadline, a way out, and a bounded answer.
 *
 * Connections are kept for the next call, so a question in an emergency meets a warm one. Redirects
 * are not followed and proxies of the environment are not used: an answer counts when it comes from
 * a configured endpoint. Used by one thread at a time. */
#ifndef KEMARI_HEARTBEAT_ETCD_HTTP_H
#define KEMARI_HEARTBEAT_ETCD_HTTP_H

#include "base/error.h"
#include "base/types.h"

#define ETCD_BODY_MAX (64 * 1024) /* bytes of an answer; a longer one is none */

struct etcd_http;

/* Any may be NULL: the system's authorities; no certificate of our own. Borrowed for the life. */
struct etcd_tls {
    const char *ca;
    const char *cert;
    const char *key;
};

struct etcd_call {
    const char *url;
    const char *body;
    const char *token; /* for the Authorization header, "" or NULL: none */
    nsec_t deadline;   /* clock_now() */
    int cancel_fd;     /* readable: stop at once */
};

struct etcd_reply {
    long status; /* of HTTP */
    const char *body;
    size_t size; /* valid until the next call */
};

int etcd_http_create(const struct etcd_tls *tls, struct etcd_http **out, struct error *err);
void etcd_http_destroy(struct etcd_http **http);

/* 0: the whole answer is in *reply, whatever its status. -ECANCELED, -ETIMEDOUT, -EMSGSIZE (answer
 * too long), -EIO (no connection, cut, TLS refused): with a phrase. The request may have been
 * carried out nevertheless. */
int etcd_http_post(struct etcd_http *http, const struct etcd_call *call, struct etcd_reply *reply,
                   struct error *err);

#endif
