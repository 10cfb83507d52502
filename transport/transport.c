/* Chooses the carrier by scheme and passes the call on. */
#include "transport/transport.h"

#include <errno.h>
#include <string.h>

#include "transport/carrier.h"

static const struct carrier *const carriers[] = {&tls_carrier, &tcp_carrier, &rdma_carrier,
                                                 &rdma_tls_carrier};

static int find_carrier(const char *text, const struct tls_credentials *tls, struct uri *uri,
                        const struct carrier **out, struct error *err)
{
    const int rc = uri_parse(text, uri, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(carriers); i++) {
        if (strcmp(carriers[i]->scheme, uri->scheme) != 0)
            continue;
        if (carriers[i]->secured && !tls)
            return error_set(err, -EINVAL, "address \"%s\": %s:// needs a secret or certificates",
                             text, uri->scheme);
        *out = carriers[i];
        return 0;
    }
    return error_set(err, -EINVAL,
                     "address \"%s\": no transport is called \"%s\"; there are tls, tcp, rdma and "
                     "rdma+tls",
                     text, uri->scheme);
}

int transport_listen(const char *uri, const struct tls_credentials *tls, struct listener **out,
                     struct error *err)
{
    struct uri parsed;
    const struct carrier *carrier = NULL;
    const int rc = find_carrier(uri, tls, &parsed, &carrier, err);
    if (rc < 0)
        return rc;
    return carrier->listen(&parsed, uri, carrier->secured ? tls : NULL, out, err);
}

int transport_connect(const char *uri, const struct tls_credentials *tls, unsigned timeout_ms,
                      int cancel_fd, struct link **out, struct error *err)
{
    struct uri parsed;
    const struct carrier *carrier = NULL;
    const int rc = find_carrier(uri, tls, &parsed, &carrier, err);
    if (rc < 0)
        return rc;
    if (strcmp(parsed.port, "0") == 0)
        return error_set(err, -EINVAL, "address \"%s\": port 0 can't be connected to", uri);
    return carrier->connect(&parsed, uri, carrier->secured ? tls : NULL, timeout_ms, cancel_fd, out,
                            err);
}

int listener_accept(struct listener *listener, unsigned timeout_ms, struct link **out,
                    struct error *err)
{
    return listener->ops->accept(listener, timeout_ms, out, err);
}

void listener_shutdown(struct listener *listener)
{
    listener->ops->shutdown(listener);
}

void listener_destroy(struct listener **listener)
{
    if (!*listener)
        return;
    const int saved = errno;
    (*listener)->ops->destroy(*listener);
    *listener = NULL;
    errno = saved;
}

const char *listener_uri(const struct listener *listener)
{
    return listener->uri;
}
