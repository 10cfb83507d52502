#include "control/json.h"

#include <jansson.h>
#include <string.h>

#include "control/message.h"
#include "control/schema.h"

#define REAL_DIGITS 10

static json_t *object_to_json(const struct schema *schema, const void *object);

static json_t *elements_to_json(const struct schema_field *field, const void *object)
{
    unsigned count;
    memcpy(&count, (const char *)object + field->count_offset, sizeof(count));
    json_t *list = json_array();
    for (unsigned i = 0; i < count && i < field->max; i++) {
        const char *element = (const char *)object + field->offset + i * field->size;
        json_array_append_new(list, field->kind == SCHEMA_STRINGS
                                        ? json_string(element)
                                        : object_to_json(field->sub, element));
    }
    return list;
}

static json_t *enum_to_json(const struct schema_field *field, const void *member)
{
    unsigned value;
    memcpy(&value, member, sizeof(value));
    return json_string(field->names[value < field->name_count ? value : field->name_count]);
}

/* JSON numbers are signed here; a counter does not get that far. */
static json_t *unsigned_to_json(uint64_t value)
{
    return json_integer((json_int_t)(value < INT64_MAX ? value : INT64_MAX));
}

static json_t *field_to_json(const struct schema_field *field, const void *object)
{
    const void *member = (const char *)object + field->offset;
    switch (field->kind) {
    case SCHEMA_U32:
        return json_integer(*(const uint32_t *)member);
    case SCHEMA_U64:
        return unsigned_to_json(*(const uint64_t *)member);
    case SCHEMA_I64:
        return json_integer(*(const int64_t *)member);
    case SCHEMA_DOUBLE:
        return json_real(*(const double *)member);
    case SCHEMA_BOOL:
        return json_boolean(*(const bool *)member);
    case SCHEMA_ENUM:
        return enum_to_json(field, member);
    case SCHEMA_STRING:
        return json_string(member);
    case SCHEMA_OBJECT:
        return object_to_json(field->sub, member);
    case SCHEMA_OBJECTS:
    case SCHEMA_STRINGS:
        break;
    }
    return elements_to_json(field, object);
}

static void add_fields(json_t *to, const struct schema *schema, const void *object)
{
    for (size_t i = 0; i < schema->field_count; i++)
        json_object_set_new(to, schema->fields[i].name, field_to_json(&schema->fields[i], object));
}

static json_t *object_to_json(const struct schema *schema, const void *object)
{
    json_t *json = json_object();
    add_fields(json, schema, object);
    return json;
}

static char *print_and_free(json_t *json, size_t flags)
{
    char *text = json_dumps(json, JSON_REAL_PRECISION(REAL_DIGITS) | flags);
    json_decref(json);
    return text;
}

char *control_json_status(const struct control_status *status, bool compact)
{
    json_t *json = json_object();
    json_object_set_new(json, "schema", json_integer(CONTROL_JSON_SCHEMA));
    add_fields(json, &control_status_schema, status);
    return print_and_free(json, compact ? JSON_COMPACT : JSON_INDENT(2));
}

char *control_json_policy(const struct control_policy *policy)
{
    json_t *json = json_object();
    for (unsigned i = 0; i < policy->count && i < CONTROL_SETTINGS_MAX; i++)
        json_object_set_new(json, policy->settings[i].key, json_string(policy->settings[i].value));
    return print_and_free(json, JSON_INDENT(2));
}

char *control_json_version(const struct control_reply *daemon)
{
    json_t *json = json_object();
    json_object_set_new(json, "schema", json_integer(CONTROL_JSON_SCHEMA));
    json_object_set_new(json, "kemarictl", json_string(KEMARI_VERSION));
    json_object_set_new(json, "kemarid", json_string(daemon ? daemon->daemon_version : ""));
    json_object_set_new(json, "vm", json_string(daemon ? daemon->vm : ""));
    json_object_set_new(json, "pid", json_integer(daemon ? daemon->pid : 0));
    return print_and_free(json, JSON_COMPACT);
}

char *control_json_outcome(const char *verb, int rc, const char *text)
{
    json_t *json = json_object();
    json_object_set_new(json, "schema", json_integer(CONTROL_JSON_SCHEMA));
    json_object_set_new(json, "verb", json_string(verb));
    json_object_set_new(json, "done", json_boolean(rc == 0));
    json_object_set_new(json, "code", json_integer(rc));
    json_object_set_new(json, "text", json_string(text));
    return print_and_free(json, JSON_COMPACT);
}

/* Keys and values of an event are a list on the wire and an object here. */
char *control_json_event(const struct control_event *event)
{
    json_t *json = object_to_json(&control_event_schema, event);
    json_t *fields = json_object();
    for (unsigned i = 0; i < event->field_count && i < CONTROL_EVENT_FIELDS_MAX; i++)
        json_object_set_new(fields, event->fields[i].key, json_string(event->fields[i].value));
    json_object_set_new(json, "fields", fields);
    return print_and_free(json, JSON_COMPACT);
}
