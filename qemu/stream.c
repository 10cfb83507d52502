#include "qemu/stream.h"

#include <errno.h>
#include <string.h>

#include "qemu/ram_part.h"

#define PART_BEGIN 0x04 /* QEMU_VM_SECTION_FULL */
#define PART_END   0x7e /* QEMU_VM_SECTION_FOOTER */
#define STREAM_END 0x00 /* QEMU_VM_EOF */
#define ID_SIZE    4

/* Leaves room for what comes behind them, however much, and for sections of others. */
#define PARTS_MAX (SECTION_COUNT_MAX - 16 - STREAM_MAX / SECTION_SIZE_MAX)

static const uint8_t header[STREAM_HEADER_SIZE] = {'Q', 'E', 'V', 'M', 0, 0, 0, 3};

static struct ram_walk begin_walk(const uint8_t *bytes, size_t size)
{
    return (struct ram_walk){.bytes = bytes, .size = size, .at = STREAM_HEADER_SIZE};
}

int stream_check(const uint8_t *bytes, size_t size, bool with_memory, struct error *err)
{
    if (size <= STREAM_HEADER_SIZE || size > STREAM_MAX ||
        memcmp(bytes, header, STREAM_HEADER_SIZE) != 0)
        return error_set(err, -EBADMSG,
                         "state of QEMU: %zu bytes that don't begin as a stream of version 3",
                         size);
    struct ram_walk walk = begin_walk(bytes, size);
    int rc = with_memory;
    while (rc > 0)
        rc = ram_walk_next(&walk, err);
    if (rc < 0)
        return rc;
    if (walk.at == size || bytes[walk.at] != PART_BEGIN || bytes[size - 1] != STREAM_END)
        return error_set(err, -EBADMSG, "state of QEMU: the stream of %zu bytes is not whole",
                         size);
    return 0;
}

struct wanted {
    const char *name;
    bool found;
};

static void compare(void *context, const char *block, uint64_t size)
{
    struct wanted *wanted = context;
    (void)size;
    wanted->found |= strcmp(block, wanted->name) == 0;
}

bool stream_has_block(const uint8_t *bytes, size_t size, const char *name)
{
    struct wanted wanted = {.name = name};
    struct ram_walk walk = begin_walk(bytes, size);
    walk.listed = compare;
    walk.context = &wanted;
    return ram_walk_next(&walk, NULL) > 0 && wanted.found;
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

/* Where what begins at `from` ends; `walk` is at work while there is memory. */
static size_t next_cut(const uint8_t *bytes, size_t size, size_t from, struct ram_walk *walk,
                       bool *memory)
{
    if (from == 0)
        return STREAM_HEADER_SIZE < size ? STREAM_HEADER_SIZE : size;
    *memory = *memory && ram_walk_next(walk, NULL) > 0;
    if (*memory)
        return walk->at;
    return bytes[from] == PART_BEGIN && from + 1 + ID_SIZE < size ? part_end(bytes, size, from)
                                                                  : size;
}

int stream_to_sections(const uint8_t *bytes, size_t size, struct section_set *set,
                       struct error *err)
{
    struct ram_walk walk = begin_walk(bytes, size);
    bool memory = size > STREAM_HEADER_SIZE && bytes[STREAM_HEADER_SIZE] == RAM_PART_BEGIN;
    uint32_t instance = 0;
    size_t end = 0;
    for (size_t from = 0; from < size; instance++) {
        if (end == from)
            end = instance < PARTS_MAX ? next_cut(bytes, size, from, &walk, &memory) : size;
        const size_t length = end - from < SECTION_SIZE_MAX ? end - from : SECTION_SIZE_MAX;
        uint8_t *data = section_set_add(set, STREAM_SECTION, instance, STREAM_VERSION, length);
        if (!data)
            return error_set(err, -ENOSPC, "state of QEMU: %zu bytes are too many", size);
        memcpy(data, bytes + from, length);
        from += length;
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
