/* Bounded protobuf: see transport/codec.h. */
#include "transport/codec.h"

#include <errno.h>
#include <string.h>

#define SCRATCH_ALIGN 16

static void *scratch_alloc(void *data, size_t size)
{
    struct codec_scratch *scratch = data;
    const size_t used = (scratch->used + SCRATCH_ALIGN - 1) & ~(size_t)(SCRATCH_ALIGN - 1);
    if (used > scratch->size || size > scratch->size - used)
        return NULL;
    scratch->used = used + size;
    return scratch->bytes + used;
}

static void scratch_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

int codec_unpack(const uint8_t *payload, size_t size, struct codec_scratch *scratch,
                 Kemari__Session__Message **out, struct error *err)
{
    scratch->used = 0;
    ProtobufCAllocator allocator = {scratch_alloc, scratch_free, scratch};
    *out = kemari__session__message__unpack(&allocator, size, payload);
    if (!*out)
        return error_set(err, -EBADMSG, "control frame of %zu bytes holds no message", size);
    if ((*out)->body_case == KEMARI__SESSION__MESSAGE__BODY__NOT_SET)
        return error_set(err, -EBADMSG, "control message of an unknown kind");
    return 0;
}

int codec_pack(const Kemari__Session__Message *message, uint8_t *out, size_t size,
               struct error *err)
{
    const size_t needed = kemari__session__message__get_packed_size(message);
    if (needed > size)
        return error_set(err, -ENOSPC, "control message of %zu bytes, room for %zu", needed, size);
    return (int)kemari__session__message__pack(message, out);
}

static bool is_printable(char c)
{
    return c >= ' ' && c <= '~';
}

int codec_take_text(char *out, size_t size, const char *text, bool lines, const char *what,
                    struct error *err)
{
    const size_t length = strnlen(text, size);
    if (length == size)
        return error_set(err, -EBADMSG, "%s is longer than %zu bytes", what, size - 1);
    for (size_t i = 0; i < length; i++)
        if (!is_printable(text[i]) && !(lines && text[i] == '\n'))
            return error_set(err, -EBADMSG, "%s contains an unprintable byte", what);
    memcpy(out, text, length + 1);
    return 0;
}

void codec_make_printable(char *out, size_t size, const char *text)
{
    size_t length = 0;
    for (; text[length] && length + 1 < size; length++)
        out[length] = is_printable(text[length]) ? text[length] : '?';
    out[length] = '\0';
}
