#include "vmm/state.h"

#include <assert.h>
#include <errno.h>

#include "base/wire.h"

static size_t table_size(const struct state_table *table)
{
    size_t size = 0;
    for (size_t i = 0; i < table->field_count; i++)
        size += table->fields[i].width * table->fields[i].count;
    return size;
}

static uint64_t load_uint(const uint8_t *p, size_t width)
{
    switch (width) {
    case 1:
        return *p;
    case 2: {
        uint16_t v;
        memcpy(&v, p, sizeof(v));
        return v;
    }
    case 4: {
        uint32_t v;
        memcpy(&v, p, sizeof(v));
        return v;
    }
    default: {
        uint64_t v;
        assert(width == 8);
        memcpy(&v, p, sizeof(v));
        return v;
    }
    }
}

static void store_uint(uint8_t *p, size_t width, uint64_t v)
{
    const uint8_t v8 = (uint8_t)v;
    const uint16_t v16 = (uint16_t)v;
    const uint32_t v32 = (uint32_t)v;
    const void *source = width == 1   ? (const void *)&v8
                         : width == 2 ? (const void *)&v16
                         : width == 4 ? (const void *)&v32
                                      : (const void *)&v;
    memcpy(p, source, width);
}

int state_save(const struct state_table *table, uint32_t instance, const void *object,
               struct section_set *set, struct error *err)
{
    const size_t size = table_size(table);
    uint8_t *out = section_set_add(set, table->section, instance, table->version, size);
    if (!out)
        return error_set(err, -ENOMEM, "state: no room for section %s.%u", table->section,
                         instance);
    struct wire_writer w = {.bytes = out, .size = size};
    for (size_t i = 0; i < table->field_count; i++) {
        const struct state_field *f = &table->fields[i];
        const uint8_t *p = (const uint8_t *)object + f->offset;
        if (f->kind == STATE_KIND_BYTES) {
            wire_put(&w, p, f->width * f->count);
            continue;
        }
        for (size_t k = 0; k < f->count; k++)
            wire_put_le(&w, load_uint(p + k * f->width, f->width), f->width);
    }
    assert(!w.bad && w.used == size);
    return 0;
}

static int decode_field(const struct state_field *f, struct wire_reader *r, uint8_t *object)
{
    uint8_t *p = object + f->offset;
    if (f->kind == STATE_KIND_BYTES) {
        wire_get(r, p, f->width * f->count);
        return 0;
    }
    for (size_t k = 0; k < f->count; k++) {
        const uint64_t v = wire_get_le(r, f->width);
        if (v < f->min || v > f->max)
            return -EINVAL;
        store_uint(p + k * f->width, f->width, v);
    }
    return 0;
}

int state_decode(const struct state_table *table, uint32_t instance, void *object,
                 const void *context, const struct section_set *set, struct error *err)
{
    const struct section *s = section_set_find(set, table->section, instance);
    if (!s)
        return error_set(err, -ENOENT, "state: section %s.%u is missing", table->section, instance);
    if (s->version != table->version || s->size != table_size(table))
        return error_set(err, -EPROTONOSUPPORT,
                         "state: section %s.%u has version %u and %u bytes, expected %u and %zu",
                         table->section, instance, s->version, s->size, table->version,
                         table_size(table));
    struct wire_reader r = {.bytes = section_set_data(set, s), .size = s->size};
    for (size_t i = 0; i < table->field_count; i++)
        if (decode_field(&table->fields[i], &r, object) < 0)
            return error_set(err, -EINVAL, "state: section %s.%u: field %s is out of range",
                             table->section, instance, table->fields[i].name);
    return table->check ? table->check(object, context, err) : 0;
}
