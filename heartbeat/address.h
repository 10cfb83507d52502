/* Addresses as an operator writes them: "192.0.2.1:7400", "[2001:db8::1]:7400", "host-a:7400".
 *
 * Splitting is pure and bounded; only address_resolve() asks the resolver, and only for names: a
 * numeric address never leaves the process. */
#ifndef KEMARI_HEARTBEAT_ADDRESS_H
#define KEMARI_HEARTBEAT_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/types.h"

#define ADDRESS_HOST_MAX 256 /* including the terminating zero; longest DNS name is 253 */
#define ADDRESS_TEXT_MAX 80  /* "[v6%scope]:port" of address_format() */

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t size; /* of the member that is used */
};

/* Cuts "host:port" into its parts, without looking anything up. `host` receives the text without
 * brackets. An IPv6 address needs brackets; the port is 1..65535. -EINVAL with a sentence. */
int address_split(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *port, struct error *err);

/* Splits and resolves (first answer wins). Blocks on the resolver when the host is a name. -EINVAL
 * for syntax, -ENXIO when the name has no address. */
int address_resolve(const char *text, struct address *out, struct error *err);

/* Numeric form with brackets for IPv6, always terminated. */
void address_format(const struct address *address, char out[ADDRESS_TEXT_MAX]);

#endif
