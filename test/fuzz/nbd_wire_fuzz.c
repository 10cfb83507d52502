/* What a process may say to a disk's NBD server, from its first byte on: flags, options, requests.
 *
 * Property: what is said to be right is valid for the image, an answer fits, and nothing is read
 * behind what is there. */
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "disk/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct nbd_export exports[] = {
    {.name = "disk0", .size = 1 << 20},
    {.name = "disk15", .size = (uint64_t)1 << 40, .read_only = true},
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* True when requests follow. */
static bool choose(struct wire_reader *r, const struct nbd_export *export)
{
    struct nbd_option option;
    uint8_t answer[NBD_ANSWER_MAX];
    size_t answer_size = 0;
    const uint8_t *header = wire_get_view(r, NBD_OPTION_SIZE);
    if (!header || nbd_decode_option(header, &option, NULL) < 0)
        return false;
    require(option.size <= NBD_OPTION_DATA_MAX);
    const uint8_t *view = wire_get_view(r, option.size);
    if (!view)
        return false;
    uint8_t *bytes = malloc(option.size ? option.size : 1);
    require(bytes != NULL);
    memcpy(bytes, view, option.size);
    const enum nbd_next next = nbd_answer_option(&option, bytes, export, answer, &answer_size);
    free(bytes);
    require(answer_size <= sizeof(answer));
    return next == NBD_NEXT_REQUEST || (next == NBD_NEXT_OPTION && choose(r, export));
}

static bool ask(struct wire_reader *r, const struct nbd_export *export)
{
    static uint8_t some[1];
    struct nbd_request request;
    const uint8_t *bytes = wire_get_view(r, NBD_REQUEST_SIZE);
    if (!bytes || nbd_decode_request(bytes, export, &request, NULL) < 0 || request.ends)
        return false;
    require(request.payload <= DISK_DATA_MAX);
    const struct disk_io io = {
        .op = request.op, .offset = request.offset, .size = request.size, .data = some};
    require(request.error != NBD_OK || disk_io_is_valid(&io, export->size));
    require(request.error != NBD_OK || !export->read_only || request.op == DISK_READ);
    require(request.error != NBD_OK || request.payload == (io.op == DISK_WRITE ? io.size : 0));
    return wire_get_view(r, request.payload) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(exports); i++) {
        struct wire_reader r = {.bytes = data, .size = size};
        const uint8_t *flags = wire_get_view(&r, NBD_FLAGS_SIZE);
        if (!flags || nbd_decode_flags(flags, NULL) < 0 || !choose(&r, &exports[i]))
            continue;
        while (ask(&r, &exports[i]))
            ;
    }
    return 0;
}
