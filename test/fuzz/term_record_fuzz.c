/* Term records: what decodes must encode to the very same bytes; a body is also tried with the
 * right checksum, which a fuzzer would not find. */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/address.h"
#include "heartbeat/term.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *bytes, size_t size)
{
    struct term_record record;
    char again[TERM_RECORD_MAX];
    if (term_record_decode(bytes, size, &record, NULL) == 0 &&
        (term_record_encode(&record, again) != size || memcmp(again, bytes, size) != 0))
        abort();
}

static void check_with_checksum(const uint8_t *body, size_t size)
{
    char bytes[1024];
    uint8_t digest[SHA256_DIGEST_LENGTH];
    if (size > sizeof(bytes) / 2)
        return;
    memcpy(bytes, body, size);
    SHA256(body, size, digest);
    char *p = bytes + size;
    p += sprintf(p, "sha256 ");
    for (size_t i = 0; i < sizeof(digest); i++)
        p += sprintf(p, "%02x", digest[i]);
    *p++ = '\n';
    check(bytes, (size_t)(p - bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check((const char *)data, size);
    check_with_checksum(data, size);
    /* Addresses come as strings from the configuration. */
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    char *text = strndup((const char *)data, size);
    if (text && address_split(text, host, &port, NULL) == 0 && (!port || strlen(host) == 0))
        abort();
    free(text);
    return 0;
}
