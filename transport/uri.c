/* Parsing of addresses: see transport/uri.h. */
#include "transport/uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define DIGITS  "0123456789"

static int malformed(const char *text, const char *what, struct error *err)
{
    return error_set(err, -EINVAL,
                     "address \"%.80s\": %s; write it as tls://host:port or tls://[v6]:port", text,
                     what);
}

/* Copies [from, from+length) if it fits and consists of `legal` characters only. */
static bool take(char *out, size_t size, const char *from, size_t length, const char *legal)
{
    if (length == 0 || length >= size || strspn(from, legal) < length)
        return false;
    memcpy(out, from, length);
    out[length] = '\0';
    return true;
}

static int parse_port(const char *text, const char *port, struct uri *out, struct error *err)
{
    if (!take(out->port, sizeof(out->port), port, strlen(port), DIGITS) ||
        strtoul(out->port, NULL, 10) > 65535)
        return malformed(text, "the port isn't a number from 0 to 65535", err);
    return 0;
}

int uri_parse(const char *text, struct uri *out, struct error *err)
{
    *out = (struct uri){0};
    const char *separator = strstr(text, "://");
    const char *scheme = separator ? text : URI_SCHEME_DEFAULT;
    const size_t length = separator ? (size_t)(separator - text) : strlen(scheme);
    if (!take(out->scheme, sizeof(out->scheme), scheme, length, LETTERS "+"))
        return malformed(text, "the scheme is missing or too long", err);
    const char *host = separator ? separator + 3 : text;
    const bool bracketed = host[0] == '[';
    const char *end = bracketed ? strchr(host, ']') : strchr(host, ':');
    if (!end || (bracketed && end[1] != ':'))
        return malformed(text, "it has no port", err);
    const char *legal = bracketed ? DIGITS "abcdefABCDEF:.%_-" LETTERS
                                  : DIGITS LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-";
    host += bracketed;
    if (!take(out->host, sizeof(out->host), host, (size_t)(end - host), legal))
        return malformed(text, "the host is missing or contains an illegal character", err);
    return parse_port(text, end + 1 + bracketed, out, err);
}
