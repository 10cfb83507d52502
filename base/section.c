/* Section sets: see base/section.h for the contract.
 *
 * Serialised form, little-endian:
 *   u32 count
 *   count times: name[32] zero-padded, u32 instance, u32 version, u32 size
 *   the data of all sections, in the same order, without gaps */
#include "base/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"

#define SECTION_HEADER_SIZE (SECTION_NAME_MAX + 12)

struct section_set {
    struct section items[SECTION_COUNT_MAX];
    size_t count;
    uint8_t *buffer;
    size_t used;
    size_t capacity;
};

struct section_set *section_set_create(void)
{
    return calloc(1, sizeof(struct section_set));
}

void section_set_destroy(struct section_set **set)
{
    if (!*set)
        return;
    free((*set)->buffer);
    free(*set);
    *set = NULL;
}

void section_set_reset(struct section_set *set)
{
    set->count = 0;
    set->used = 0;
}

static bool name_is_valid(const char *name)
{
    const size_t length = strnlen(name, SECTION_NAME_MAX);
    if (length == 0 || length == SECTION_NAME_MAX)
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == length;
}

static bool reserve(struct section_set *set, size_t more)
{
    if (more > SECTION_SET_MAX - set->used)
        return false;
    const size_t needed = set->used + more;
    if (needed <= set->capacity)
        return true;
    size_t capacity = set->capacity ? set->capacity : 64 * 1024;
    while (capacity < needed)
        capacity *= 2;
    uint8_t *buffer = realloc(set->buffer, capacity);
    if (!buffer)
        return false;
    set->buffer = buffer;
    set->capacity = capacity;
    return true;
}

/* One encoding for each set: nothing hides behind a name. */
static bool is_padded(const char name[SECTION_NAME_MAX])
{
    for (size_t i = strnlen(name, SECTION_NAME_MAX); i < SECTION_NAME_MAX; i++)
        if (name[i])
            return false;
    return true;
}

uint8_t *section_set_add(struct section_set *set, const char *name, uint32_t instance,
                         uint32_t version, size_t size)
{
    if (set->count == SECTION_COUNT_MAX || size > SECTION_SIZE_MAX || version == 0 ||
        !name_is_valid(name) || section_set_find(set, name, instance) || !reserve(set, size + 1))
        return NULL;
    struct section *s = &set->items[set->count++];
    *s = (struct section){
        .instance = instance, .version = version, .size = (uint32_t)size, .offset = set->used};
    memcpy(s->name, name, strlen(name));
    memset(set->buffer + set->used, 0, size);
    set->used += size;
    return set->buffer + s->offset;
}

size_t section_set_count(const struct section_set *set)
{
    return set->count;
}

const struct section *section_set_at(const struct section_set *set, size_t index)
{
    return index < set->count ? &set->items[index] : NULL;
}

const uint8_t *section_set_data(const struct section_set *set, const struct section *section)
{
    return set->buffer + section->offset;
}

const struct section *section_set_find(const struct section_set *set, const char *name,
                                       uint32_t instance)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i].instance == instance && strcmp(set->items[i].name, name) == 0)
            return &set->items[i];
    return NULL;
}

size_t section_set_encoded_size(const struct section_set *set)
{
    return 4 + set->count * SECTION_HEADER_SIZE + set->used;
}

int section_set_encode(const struct section_set *set, uint8_t *out, size_t size)
{
    struct wire_writer w = {.bytes = out, .size = size};
    wire_put_u32(&w, (uint32_t)set->count);
    for (size_t i = 0; i < set->count; i++) {
        const struct section *s = &set->items[i];
        wire_put(&w, s->name, SECTION_NAME_MAX);
        wire_put_u32(&w, s->instance);
        wire_put_u32(&w, s->version);
        wire_put_u32(&w, s->size);
    }
    wire_put(&w, set->buffer, set->used);
    return w.bad ? -ENOSPC : (int)w.used;
}

/* Reads the headers twice: once to validate every one of them, then to store. */
static int validate_headers(struct wire_reader r, uint32_t count, struct error *err)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        char name[SECTION_NAME_MAX];
        wire_get(&r, name, sizeof(name));
        wire_get_u32(&r);
        const uint32_t version = wire_get_u32(&r);
        const uint32_t size = wire_get_u32(&r);
        if (r.bad)
            return error_set(err, -EBADMSG, "state: %u sections announced, %u present", count, i);
        if (!name_is_valid(name) || !is_padded(name))
            return error_set(err, -EBADMSG, "state: section %u has an invalid name", i);
        if (version == 0)
            return error_set(err, -EBADMSG, "state: section %s has version 0", name);
        if (size > SECTION_SIZE_MAX || size > SECTION_SET_MAX - total)
            return error_set(err, -EBADMSG, "state: section %s of %u bytes exceeds the limit", name,
                             size);
        total += size;
    }
    if (total != r.size - r.used)
        return error_set(err, -EBADMSG, "state: %zu bytes of data announced, %zu present", total,
                         r.size - r.used);
    return 0;
}

int section_set_decode(struct section_set *set, const uint8_t *bytes, size_t size,
                       struct error *err)
{
    section_set_reset(set);
    struct wire_reader r = {.bytes = bytes, .size = size};
    const uint32_t count = wire_get_u32(&r);
    if (r.bad || count > SECTION_COUNT_MAX)
        return error_set(err, -EBADMSG, "state: section count missing or above %d",
                         SECTION_COUNT_MAX);
    int rc = validate_headers(r, count, err);
    if (rc < 0)
        return rc;
    struct wire_reader data = r;
    wire_get_view(&data, (size_t)count * SECTION_HEADER_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        char name[SECTION_NAME_MAX];
        wire_get(&r, name, sizeof(name));
        const uint32_t instance = wire_get_u32(&r);
        const uint32_t version = wire_get_u32(&r);
        const uint32_t length = wire_get_u32(&r);
        const bool duplicate = section_set_find(set, name, instance) != NULL;
        uint8_t *copy = duplicate ? NULL : section_set_add(set, name, instance, version, length);
        if (!copy) {
            section_set_reset(set);
            return duplicate ? error_set(err, -EBADMSG, "state: section %s.%u appears twice", name,
                                         instance)
                             : error_set(err, -ENOMEM, "state: out of memory");
        }
        wire_get(&data, copy, length);
    }
    return 0;
}
