/* Field tables: a device describes its state once, and saving, checking and loading follow from it.
 *
 *   static const struct state_field fields[] = {
 *       STATE_UINT(struct uart, divisor, 0, 0xffff),
 *       STATE_BYTES(struct uart, fifo),
 *   };
 *   static const struct state_table table = {"serial", 1, fields, ARRAY_SIZE(fields), check};
 *
 * The layout on the wire is the fields in order, little-endian, without padding. Adding, removing
 * or widening a field needs a new version. A value outside [min, max] fails the check. */
#ifndef KEMARI_VMM_STATE_H
#define KEMARI_VMM_STATE_H

#include "base/error.h"
#include "base/section.h"

enum state_kind {
    STATE_KIND_UINT,  /* 1, 2, 4 or 8 bytes, `count` of them */
    STATE_KIND_BYTES, /* opaque bytes, or another kernel structure copied whole */
};

struct state_field {
    const char *name;
    enum state_kind kind;
    size_t offset;
    size_t width; /* bytes of one element */
    size_t count;
    uint64_t min;
    uint64_t max;
};

struct state_table {
    const char *section;
    uint32_t version;
    const struct state_field *fields;
    size_t field_count;
    /* Relations between fields and to the configuration (`context`); NULL when the ranges are all
     * there is. `object` is a scratch copy with the fields filled in. */
    int (*check)(const void *object, const void *context, struct error *err);
};

/* The range is written out, `low, high`, or one of STATE_ANY*. */
#define STATE_UINT(type, member, ...)                                                              \
    {#member, STATE_KIND_UINT, offsetof(type, member), sizeof(((type *)0)->member), 1, __VA_ARGS__}
#define STATE_ARRAY(type, member, ...)                                                             \
    {#member,                                                                                      \
     STATE_KIND_UINT,                                                                              \
     offsetof(type, member),                                                                       \
     sizeof(((type *)0)->member[0]),                                                               \
     ARRAY_SIZE(((type *)0)->member),                                                              \
     __VA_ARGS__}
#define STATE_BYTES(type, member)                                                                  \
    {#member, STATE_KIND_BYTES, offsetof(type, member), sizeof(((type *)0)->member), 1, 0, 0}
#define STATE_ANY8  0, UINT8_MAX
#define STATE_ANY16 0, UINT16_MAX
#define STATE_ANY32 0, UINT32_MAX
#define STATE_ANY64 0, UINT64_MAX

/* Appends the section for `object`. 0 or -ENOMEM. */
int state_save(const struct state_table *table, uint32_t instance, const void *object,
               struct section_set *set, struct error *err);

/* Decodes the section into `object`, a scratch copy, and checks ranges and relations. -ENOENT when
 * the section is missing, -EPROTONOSUPPORT for another version, -EINVAL for a bad value; the phrase
 * names section, instance and field. On error `object` is unspecified. */
int state_decode(const struct state_table *table, uint32_t instance, void *object,
                 const void *context, const struct section_set *set, struct error *err);

#endif
