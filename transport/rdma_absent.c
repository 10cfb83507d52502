/* The scheme rdma:// in a build without the RDMA carrier: known by name, refused with the reason.
 */
#include <errno.h>

#include "transport/carrier.h"

static int refuse(const char *text, struct error *err)
{
    return error_set(err, -EPROTONOSUPPORT,
                     "address \"%s\": RDMA is not built into this version; use tls://", text);
}

static int rdma_listen(const struct uri *uri, const char *text, const struct tls_credentials *tls,
                       struct listener **out, struct error *err)
{
    (void)uri;
    (void)tls;
    (void)out;
    return refuse(text, err);
}

static int rdma_connect(const struct uri *uri, const char *text, const struct tls_credentials *tls,
                        unsigned timeout_ms, int cancel_fd, struct link **out, struct error *err)
{
    (void)uri;
    (void)tls;
    (void)timeout_ms;
    (void)cancel_fd;
    (void)out;
    return refuse(text, err);
}

const struct carrier rdma_carrier = {
    .scheme = "rdma",
    .listen = rdma_listen,
    .connect = rdma_connect,
};
