#include "heartbeat/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int split_failed(struct error *err, const char *text, const char *what)
{
    return error_set(err, -EINVAL, "address \"%.100s\": %s (write host:port, [ipv6]:port)", text,
                     what);
}

static int parse_port(const char *digits, uint16_t *port)
{
    unsigned value = 0;
    size_t length = 0;
    for (; digits[length]; length++) {
        if (digits[length] < '0' || digits[length] > '9' || length == 5)
            return -EINVAL;
        value = value * 10 + (unsigned)(digits[length] - '0');
    }
    if (!length || !value || value > UINT16_MAX)
        return -EINVAL;
    *port = (uint16_t)value;
    return 0;
}

int address_split(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *port, struct error *err)
{
    const bool brackets = text[0] == '[';
    const char *start = text + brackets;
    const char *end = brackets ? strchr(start, ']') : strrchr(start, ':');
    if (!end)
        return split_failed(err, text, brackets ? "']' is missing" : "the port is missing");
    const char *colon = end + brackets;
    const size_t length = (size_t)(end - start);
    if (length == 0)
        return split_failed(err, text, "the host is missing");
    if (length >= ADDRESS_HOST_MAX)
        return split_failed(err, text, "the host is too long");
    if (*colon != ':')
        return split_failed(err, text, "the port is missing");
    if (!brackets && memchr(start, ':', length))
        return split_failed(err, text, "an IPv6 address needs brackets");
    if (parse_port(colon + 1, port) < 0)
        return split_failed(err, text, "the port must be a number from 1 to 65535");
    memcpy(host, start, length);
    host[length] = '\0';
    return 0;
}

int address_resolve(const char *text, struct address *out, struct error *err)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    const int rc = address_split(text, host, &port, err);
    if (rc < 0)
        return rc;
    const struct addrinfo hints = {.ai_family = text[0] == '[' ? AF_INET6 : AF_UNSPEC,
                                   .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    const int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure)
        return error_set(err, -ENXIO, "address \"%s\": cannot resolve %s: %s", text, host,
                         gai_strerror(failure));
    memset(out, 0, sizeof(*out));
    memcpy(&out->any, found->ai_addr, found->ai_addrlen);
    out->size = found->ai_addrlen;
    freeaddrinfo(found);
    if (out->any.sa_family == AF_INET6)
        out->v6.sin6_port = htons(port);
    else
        out->v4.sin_port = htons(port);
    return 0;
}

void address_format(const struct address *address, char out[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        if (address->v6.sin6_scope_id)
            snprintf(out, ADDRESS_TEXT_MAX, "[%s%%%u]:%u", host, address->v6.sin6_scope_id,
                     ntohs(address->v6.sin6_port));
        else
            snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(address->v6.sin6_port));
        return;
    }
    inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
    snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(address->v4.sin_port));
}
