#include "qemu/stream.h"

#include <errno.h>
#include <string.h>

#define PART_BEGIN 0x04 /* QEMU_VM_SECTION_FULL */
#define PART_END   0x7e /* QEMU_VM_SECTION_FOOTER */
#define STREAM_END 0x00 /* QEMU_VM_EOF */
#define ID_SIZE    4

/* Leaves room for sections of others. */
#define PARTS_MAX (SECTION_COUNT_MAX - 16)

static const uint8_t header[STREAM_HEADER_SIZE] = {'Q', 'E', 'V', 'M', 0, 0, 0, 3};

int stream_check(const uint8_t *bytes, size_t size, struct error *err)
{
    if (size <= STREAM_HEADER_SIZE || size > STREAM_MAX ||
        memcmp(bytes, header, STREAM_HEADER_SIZE) != 0)
        return error_set(err, -EBADMSG,
                         "state of QEMU: %zu bytes that don't begin as a stream of version 3",
                         size);
    if (bytes[STREAM_HEADER_SIZE] != PART_BEGIN || bytes[size - 1] != STREAM_END)
        return error_set(err, -EBADMSG, "state of QEMU: the stream of %zu bytes is not whole",
                         size);
    return 0;
}

/* Where the part at `from`, which begins with PART_BEGIN and its number, seems to end. */
static size_t part_end(const uint8_t *bytes, size_t size, size_t from)
{
    const uint8_t *id = bytes + from + 1;
    for (size_t at = from + 1 + ID_SIZE; at + 1 + ID_SIZE < size; at++) {
        const uint8_t *found = memchr(bytes + at, PART_END, size - at - 1 - ID_SIZE);
        if (!found)
            break;
        at = (size_t)(found - bytes);
        const uint8_t next = found[1 + ID_SIZE];
        if (memcmp(found + 1, id, ID_SIZE) == 0 && (next == PART_BEGIN || next == STREAM_END))
            return at + 1 + ID_SIZE;
    }
    return size;
}

int stream_to_sections(const uint8_t *bytes, size_t size, struct section_set *set,
                       struct error *err)
{
    uint32_t instance = 0;
    for (size_t from = 0; from < size; instance++) {
        size_t end = size;
        if (from == 0)
            end = STREAM_HEADER_SIZE;
        else if (instance < PARTS_MAX && bytes[from] == PART_BEGIN && from + 1 + ID_SIZE < size)
            end = part_end(bytes, size, from);
        if (end - from > SECTION_SIZE_MAX)
            end = from + SECTION_SIZE_MAX;
        uint8_t *data = section_set_add(set, STREAM_SECTION, instance, STREAM_VERSION, end - from);
        if (!data)
            return error_set(err, -ENOSPC, "state of QEMU: %zu bytes are too many", size);
        memcpy(data, bytes + from, end - from);
        from = end;
    }
    return 0;
}

int stream_from_sections(const struct section_set *set, uint8_t *out, struct error *err)
{
    size_t size = 0;
    uint32_t instance = 0;
    for (size_t i = 0; i < section_set_count(set); i++) {
        const struct section *s = section_set_at(set, i);
        if (strcmp(s->name, STREAM_SECTION) != 0)
            continue;
        if (s->instance != instance || s->version != STREAM_VERSION || s->size == 0 ||
            s->size > STREAM_MAX - size)
            return error_set(err, -EBADMSG, "state of QEMU: part %u is not what is due", instance);
        if (out)
            memcpy(out + size, section_set_data(set, s), s->size);
        size += s->size;
        instance++;
    }
    if (!size)
        return error_set(err, -EBADMSG, "state of QEMU: there is none");
    return (int)size;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint8_t *stream_find_part(uint8_t *bytes, size_t size, const char *name, uint32_t *version,
                          size_t *length)
{
    /* In front of what the device wrote: begin, id, length of the name, name, instance, version. */
    const size_t name_length = strlen(name), name_at = 1 + ID_SIZE + 1;
    const size_t head = name_at + name_length + 8, tail = 1 + ID_SIZE;
    for (size_t from = STREAM_HEADER_SIZE, end; from < size; from = end) {
        if (bytes[from] != PART_BEGIN || size - from < name_at)
            return NULL;
        end = part_end(bytes, size, from);
        if (end - from < head + tail || bytes[from + name_at - 1] != name_length ||
            memcmp(bytes + from + name_at, name, name_length) != 0)
            continue;
        *version = get32(bytes + from + head - 4);
        *length = end - from - head - tail;
        return bytes + from + head;
    }
    return NULL;
}
