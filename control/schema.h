/* One table per struct of control/status.h and control/events.h ties its members to the fields of
 * the same names in proto/control.proto. Encoding, decoding and JSON follow from the tables, so
 * that a number added to the status is one row here and one line in each of the other two.
 *
 * The protobuf side is found by name through protobuf-c's descriptors; a test proves that each row
 * has its field, of the right type, and each field its row. */
#ifndef KEMARI_CONTROL_SCHEMA_H
#define KEMARI_CONTROL_SCHEMA_H

#include <protobuf-c/protobuf-c.h>

#include "base/error.h"
#include "base/types.h"

enum schema_kind {
    SCHEMA_U32,
    SCHEMA_U64,
    SCHEMA_I64,
    SCHEMA_DOUBLE,
    SCHEMA_BOOL,
    SCHEMA_ENUM,    /* a C enum that counts from 0 */
    SCHEMA_STRING,  /* char[size] */
    SCHEMA_OBJECT,  /* a struct described by `sub` */
    SCHEMA_OBJECTS, /* an array of `max` such structs */
    SCHEMA_STRINGS, /* an array of `max` char[size] */
};

struct schema;

struct schema_field {
    const char *name;
    enum schema_kind kind;
    size_t offset;            /* in the struct */
    size_t size;              /* of a string, or of one element */
    const char *const *names; /* of an enum, for JSON and people; one more, "unknown", at the end */
    unsigned name_count;      /* without that */
    const struct schema *sub;
    unsigned max;        /* elements */
    size_t count_offset; /* of the number of elements, unsigned */
};

struct schema {
    const ProtobufCMessageDescriptor *message;
    const struct schema_field *fields;
    size_t field_count;
};

extern const struct schema control_status_schema;
extern const struct schema control_event_schema;
extern const struct schema control_policy_schema;

/* Names of enum values as people and programs see them; the index is the value. Decoding yields
 * nothing beyond the last one, "unknown". */
extern const char *const control_role_names[5];
extern const char *const control_state_names[10];
extern const char *const control_guest_state_names[6];
extern const char *const control_arbiter_state_names[6];
extern const char *const control_path_state_names[4];
extern const char *const control_severity_names[4];

/* A new message of schema->message with the struct's values, to be freed with
 * protobuf_c_message_free_unpacked(); NULL when memory is out. */
ProtobufCMessage *schema_to_message(const struct schema *schema, const void *object);

/* Fills the zeroed struct from an unpacked message. Strings are cut to their size and reduced to
 * printable ASCII (they end on terminals), elements beyond an array's end are left out: a newer
 * daemon may have longer ones. A rate that is no finite number >= 0 becomes one. An enum value we
 * have no name for becomes name_count, whose name is "unknown". */
int schema_from_message(const struct schema *schema, const ProtobufCMessage *message, void *object,
                        struct error *err);

/* Copies `from`, cut to `size` bytes with the zero and reduced to printable ASCII. */
void schema_copy_text(char *to, size_t size, const char *from);

#endif
