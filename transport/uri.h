/* Addresses as operators write them: "scheme://host:port", "scheme://[v6]:port", and without a
 * scheme, which is tls. Pure. */
#ifndef KEMARI_TRANSPORT_URI_H
#define KEMARI_TRANSPORT_URI_H

#include "base/error.h"
#include "base/types.h"

#define URI_SCHEME_DEFAULT "tls"

#define URI_SCHEME_MAX     16 /* each including the terminating zero */
#define URI_HOST_MAX       254
#define URI_PORT_MAX       6

struct uri {
    char scheme[URI_SCHEME_MAX]; /* lower case letters and '+' */
    char host[URI_HOST_MAX];     /* without brackets */
    char port[URI_PORT_MAX];     /* "0".."65535" */
};

/* -EINVAL with a phrase that shows the right form. */
int uri_parse(const char *text, struct uri *out, struct error *err);

#endif
