/* Any 64 bytes as a frame header, as they are and with the check put right, so that the fields
 * behind it are reached. What is accepted must be legal and encode to the same bytes. Addresses,
 * the other small parser, are tried with the same input. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "transport/digest.h"
#include "transport/frame.h"
#include "transport/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_header(const uint8_t bytes[FRAME_HEADER_SIZE])
{
    struct frame frame;
    struct error err = {0};
    const int rc = frame_decode(bytes, &frame, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc < 0)
        return;
    assert(frame_validate(&frame, NULL) == 0);
    uint8_t back[FRAME_HEADER_SIZE];
    frame_encode(&frame, back);
    assert(memcmp(back, bytes, sizeof(back)) == 0);
}

static void try_address(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return;
    memcpy(text, data, size);
    text[size] = '\0';
    struct uri uri;
    if (uri_parse(text, &uri, NULL) == 0)
        assert(uri.host[0] && uri.port[0] && strtoul(uri.port, NULL, 10) <= 65535);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_address(data, size);
    uint8_t bytes[FRAME_HEADER_SIZE] = {0};
    memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
    try_header(bytes);
    struct wire_writer w = {.bytes = bytes, .size = sizeof(bytes), .used = FRAME_CHECK_OFFSET};
    wire_put_u64(&w, digest_of(bytes, FRAME_CHECK_OFFSET));
    try_header(bytes);
    return 0;
}
