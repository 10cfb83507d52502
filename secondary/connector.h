/* The connector: finds the primary and shakes hands with it, again and again until it is let in, on
 * a thread of its own. Of several hosts any may be the primary: they are asked in turn, beginning
 * with the one that let us in last. */
#ifndef KEMARI_SECONDARY_CONNECTOR_H
#define KEMARI_SECONDARY_CONNECTOR_H

#include "heartbeat/peers.h"
#include "transport/session.h"
#include "transport/transport.h"

struct connector;

struct connector_config {
    const char *const *uris;           /* where the primary may be; borrowed */
    unsigned count;                    /* of them, PEERS_MAX at most */
    const struct tls_credentials *tls; /* for tls://; borrowed, or NULL */
    struct session_config session;     /* copied; local.role is SECONDARY */
    /* On the connector's thread. The link is the owner's; the connector rests until it is told to
     * go on. */
    void (*connected)(void *context, unsigned host, struct link *link,
                      const struct session *session);
    /* An attempt failed, refused for `reason` if that isn't OK; `final` when another one can't do
     * better (another secret, another layout, other devices, ...), with any of the hosts. The
     * connector rests then, too. */
    void (*failed)(void *context, unsigned host, const struct error *why,
                   enum session_reason reason, bool final);
    void *context;
};

int connector_create(const struct connector_config *config, struct connector **out,
                     struct error *err);
/* Ends an attempt under way. */
void connector_destroy(struct connector **connector);

/* No attempt begins before that time (clock_now()). Any thread. */
void connector_rest(struct connector *connector, nsec_t until);

/* Pure. How long to wait after so many rounds of failures in a row. */
nsec_t connector_pause(unsigned failures);

/* Looks for the primary from now on, introducing us with `term`. Any thread; idempotent. */
void connector_go(struct connector *connector, term_t term);

#endif
