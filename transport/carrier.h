/* What a scheme of transport.h provides to make links: one table entry each. */
#ifndef KEMARI_TRANSPORT_CARRIER_H
#define KEMARI_TRANSPORT_CARRIER_H

#include "transport/transport.h"
#include "transport/uri.h"

struct carrier {
    const char *scheme;
    bool secured; /* by TLS */
    /* `text` is the URI as written, for messages; `tls` is NULL exactly where the carrier is not
     * secured. Contracts as transport_listen() and transport_connect(). */
    int (*listen)(const struct uri *uri, const char *text, const struct tls_credentials *tls,
                  struct listener **out, struct error *err);
    int (*connect)(const struct uri *uri, const char *text, const struct tls_credentials *tls,
                   unsigned timeout_ms, int cancel_fd, struct link **out, struct error *err);
};

struct listener_ops {
    /* As listener_accept(); may be woken by `shutdown`. */
    int (*accept)(struct listener *listener, unsigned timeout_ms, struct link **out,
                  struct error *err);
    /* From any thread, any number of times, also before accept. */
    void (*shutdown)(struct listener *listener);
    void (*destroy)(struct listener *listener);
};

#define LISTENER_URI_MAX 96

/* First member of every carrier's listener. */
struct listener {
    const struct listener_ops *ops;
    char uri[LISTENER_URI_MAX];
};

extern const struct carrier tcp_carrier;
extern const struct carrier tls_carrier;
extern const struct carrier rdma_carrier;
extern const struct carrier rdma_tls_carrier;

#endif
