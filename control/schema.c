#include "control/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/events.h"
#include "control/policy.h"
#include "control/status.h"
#include "proto/control.pb-c.h"

/* The last name of each is for what a newer daemon says and we don't know. */
const char *const control_role_names[] = {"none", "primary", "secondary", "solo", "unknown"};
const char *const control_state_names[] = {"starting", "connecting", "synchronising", "replicating",
                                           "holding",  "alone",      "promoting",     "stopping",
                                           "stopped",  "unknown"};
const char *const control_guest_state_names[] = {"none", "running", "parked",
                                                 "off",  "failed",  "unknown"};
const char *const control_arbiter_state_names[] = {"idle",   "asking",      "granted",
                                                   "denied", "unreachable", "unknown"};
const char *const control_path_state_names[] = {"unknown", "up", "down", "unknown"};
const char *const control_severity_names[] = {"info", "warning", "error", "unknown"};

#define RATE_MAX             1e18

#define MEMBER(type, member) #member, .offset = offsetof(type, member)
#define PLAIN(type, member, k)                                                                     \
    {                                                                                              \
        .name = MEMBER(type, member), .kind = (k)                                                  \
    }
#define ENUM(type, member, list)                                                                   \
    {                                                                                              \
        .name = MEMBER(type, member), .kind = SCHEMA_ENUM, .names = (list),                        \
        .name_count = ARRAY_SIZE(list) - 1                                                         \
    }
#define STRING(type, member)                                                                       \
    {                                                                                              \
        .name = MEMBER(type, member), .kind = SCHEMA_STRING, .size = sizeof(((type *)0)->member)   \
    }
#define OBJECT(type, member, table)                                                                \
    {                                                                                              \
        .name = MEMBER(type, member), .kind = SCHEMA_OBJECT, .sub = &(table)                       \
    }
#define ARRAY(type, member, count, k)                                                              \
    .name = MEMBER(type, member), .kind = (k), .size = sizeof(((type *)0)->member[0]),             \
    .max = ARRAY_SIZE(((type *)0)->member), .count_offset = offsetof(type, count)
#define OBJECTS(type, member, count, table)                                                        \
    {                                                                                              \
        ARRAY(type, member, count, SCHEMA_OBJECTS), .sub = &(table)                                \
    }
#define STRINGS(type, member, count)                                                               \
    {                                                                                              \
        ARRAY(type, member, count, SCHEMA_STRINGS)                                                 \
    }
#define SCHEMA(descriptor, list)                                                                   \
    {                                                                                              \
        .message = &kemari__control__##descriptor##__descriptor, .fields = (list),                 \
        .field_count = ARRAY_SIZE(list)                                                            \
    }

static const struct schema_field peer_fields[] = {
    STRING(struct control_peer, address),
    STRING(struct control_peer, transport),
    PLAIN(struct control_peer, connected, SCHEMA_BOOL),
    PLAIN(struct control_peer, encrypted, SCHEMA_BOOL),
    STRING(struct control_peer, cipher),
    PLAIN(struct control_peer, kernel_tls, SCHEMA_BOOL),
    PLAIN(struct control_peer, refused, SCHEMA_U64),
    STRING(struct control_peer, refusal),
    PLAIN(struct control_peer, streams, SCHEMA_U32),
};
static const struct schema peer_schema = SCHEMA(peer, peer_fields);

static const struct schema_field host_fields[] = {
    STRING(struct control_host, address),
    STRING(struct control_host, part),
    PLAIN(struct control_host, alive, SCHEMA_BOOL),
};
static const struct schema host_schema = SCHEMA(host, host_fields);

static const struct schema_field guest_fields[] = {
    ENUM(struct control_guest, state, control_guest_state_names),
    PLAIN(struct control_guest, vcpus, SCHEMA_U32),
    PLAIN(struct control_guest, memory_bytes, SCHEMA_U64),
    PLAIN(struct control_guest, console_free, SCHEMA_BOOL),
    PLAIN(struct control_guest, panics, SCHEMA_U64),
};
static const struct schema guest_schema = SCHEMA(guest, guest_fields);

static const struct schema_field distribution_fields[] = {
    PLAIN(struct control_distribution, count, SCHEMA_U64),
    PLAIN(struct control_distribution, p50_ns, SCHEMA_U64),
    PLAIN(struct control_distribution, p99_ns, SCHEMA_U64),
    PLAIN(struct control_distribution, max_ns, SCHEMA_U64),
};
static const struct schema distribution_schema = SCHEMA(distribution, distribution_fields);

static const struct schema_field encoding_fields[] = {
    STRING(struct control_encoding, name),
    PLAIN(struct control_encoding, pages, SCHEMA_U64),
    PLAIN(struct control_encoding, page_bytes, SCHEMA_U64),
    PLAIN(struct control_encoding, sent_bytes, SCHEMA_U64),
    PLAIN(struct control_encoding, encode_ns, SCHEMA_U64),
};
static const struct schema encoding_schema = SCHEMA(encoding, encoding_fields);

static const struct schema_field replication_fields[] = {
    STRING(struct control_replication, policy),
    PLAIN(struct control_replication, epoch_committed, SCHEMA_U64),
    PLAIN(struct control_replication, epoch_in_flight, SCHEMA_U64),
    PLAIN(struct control_replication, in_flight, SCHEMA_U32),
    PLAIN(struct control_replication, window, SCHEMA_U32),
    PLAIN(struct control_replication, epochs_committed, SCHEMA_U64),
    PLAIN(struct control_replication, epochs_aborted, SCHEMA_U64),
    PLAIN(struct control_replication, epochs_per_second, SCHEMA_DOUBLE),
    OBJECT(struct control_replication, pause, distribution_schema),
    OBJECT(struct control_replication, hold, distribution_schema),
    OBJECT(struct control_replication, commit, distribution_schema),
    PLAIN(struct control_replication, dirty_pages_last, SCHEMA_U64),
    PLAIN(struct control_replication, dirty_pages_per_second, SCHEMA_DOUBLE),
    PLAIN(struct control_replication, pages_sent, SCHEMA_U64),
    PLAIN(struct control_replication, zero_pages, SCHEMA_U64),
    PLAIN(struct control_replication, bytes_sent, SCHEMA_U64),
    PLAIN(struct control_replication, staging_bytes, SCHEMA_U64),
    PLAIN(struct control_replication, staging_cap_bytes, SCHEMA_U64),
    PLAIN(struct control_replication, throttle_percent, SCHEMA_U32),
    STRING(struct control_replication, encoding),
    PLAIN(struct control_replication, dirty_bytes, SCHEMA_U64),
    PLAIN(struct control_replication, checkpoint_bytes, SCHEMA_U64),
    OBJECTS(struct control_replication, encodings, encoding_count, encoding_schema),
    PLAIN(struct control_replication, throttled_ns, SCHEMA_U64),
    PLAIN(struct control_replication, overflows, SCHEMA_U64),
    PLAIN(struct control_replication, lag_ns, SCHEMA_U64),
    PLAIN(struct control_replication, oversize, SCHEMA_U64),
};
static const struct schema replication_schema = SCHEMA(replication, replication_fields);

static const struct schema_field outbox_fields[] = {
    PLAIN(struct control_outbox, bytes, SCHEMA_U64),
    PLAIN(struct control_outbox, frames, SCHEMA_U64),
    PLAIN(struct control_outbox, cap_bytes, SCHEMA_U64),
};
static const struct schema outbox_schema = SCHEMA(outbox, outbox_fields);

static const struct schema_field synchronisation_fields[] = {
    PLAIN(struct control_synchronisation, active, SCHEMA_BOOL),
    PLAIN(struct control_synchronisation, bytes_done, SCHEMA_U64),
    PLAIN(struct control_synchronisation, bytes_total, SCHEMA_U64),
    PLAIN(struct control_synchronisation, bytes_per_second, SCHEMA_DOUBLE),
    PLAIN(struct control_synchronisation, eta_ns, SCHEMA_U64),
};
static const struct schema synchronisation_schema = SCHEMA(synchronisation, synchronisation_fields);

static const struct schema_field path_fields[] = {
    STRING(struct control_heartbeat_path, local),
    STRING(struct control_heartbeat_path, remote),
    ENUM(struct control_heartbeat_path, state, control_path_state_names),
    PLAIN(struct control_heartbeat_path, last_seen_ns, SCHEMA_U64),
    PLAIN(struct control_heartbeat_path, received, SCHEMA_U64),
    PLAIN(struct control_heartbeat_path, lost, SCHEMA_U64),
    PLAIN(struct control_heartbeat_path, rejected, SCHEMA_U64),
};
static const struct schema path_schema = SCHEMA(heartbeat_path, path_fields);

static const struct schema_field heartbeat_fields[] = {
    PLAIN(struct control_heartbeat, peer_alive, SCHEMA_BOOL),
    PLAIN(struct control_heartbeat, interval_ns, SCHEMA_U64),
    PLAIN(struct control_heartbeat, multiplier, SCHEMA_U32),
    OBJECTS(struct control_heartbeat, paths, path_count, path_schema),
};
static const struct schema heartbeat_schema = SCHEMA(heartbeat, heartbeat_fields);

static const struct schema_field arbiter_fields[] = {
    STRING(struct control_arbiter, kind),
    ENUM(struct control_arbiter, state, control_arbiter_state_names),
    PLAIN(struct control_arbiter, asked_term, SCHEMA_U64),
    STRING(struct control_arbiter, detail),
};
static const struct schema arbiter_schema = SCHEMA(arbiter, arbiter_fields);

static const struct schema_field takeover_fields[] = {
    PLAIN(struct control_takeover, happened, SCHEMA_BOOL),
    PLAIN(struct control_takeover, term, SCHEMA_U64),
    PLAIN(struct control_takeover, epoch, SCHEMA_U64),
    STRING(struct control_takeover, cause),
    PLAIN(struct control_takeover, suspect_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, grant_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, drop_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, apply_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, load_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, network_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, run_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, first_output_ns, SCHEMA_U64),
    PLAIN(struct control_takeover, suspect_wall_ns, SCHEMA_I64),
};
static const struct schema takeover_schema = SCHEMA(takeover, takeover_fields);

static const struct schema_field disk_fields[] = {
    PLAIN(struct control_disk, index, SCHEMA_U32),
    STRING(struct control_disk, path),
    STRING(struct control_disk, mode),
    STRING(struct control_disk, engine),
    PLAIN(struct control_disk, size_bytes, SCHEMA_U64),
    PLAIN(struct control_disk, read_only, SCHEMA_BOOL),
    PLAIN(struct control_disk, reads, SCHEMA_U64),
    PLAIN(struct control_disk, writes, SCHEMA_U64),
    PLAIN(struct control_disk, read_errors, SCHEMA_U64),
    PLAIN(struct control_disk, write_errors, SCHEMA_U64),
    STRING(struct control_disk, last_error),
    STRING(struct control_disk, state),
    PLAIN(struct control_disk, marked_bytes, SCHEMA_U64),
    STRING(struct control_disk, trouble),
    PLAIN(struct control_disk, sync_active, SCHEMA_BOOL),
    STRING(struct control_disk, sync_why),
    PLAIN(struct control_disk, sync_done_bytes, SCHEMA_U64),
    PLAIN(struct control_disk, sync_total_bytes, SCHEMA_U64),
    PLAIN(struct control_disk, sync_differed_bytes, SCHEMA_U64),
    PLAIN(struct control_disk, sync_sent_bytes, SCHEMA_U64),
    PLAIN(struct control_disk, sync_eta_ns, SCHEMA_U64),
    PLAIN(struct control_disk, held, SCHEMA_U32),
    PLAIN(struct control_disk, sync_bytes_per_second, SCHEMA_DOUBLE),
    PLAIN(struct control_disk, writing, SCHEMA_U32),
};
static const struct schema disk_schema = SCHEMA(disk, disk_fields);

static const struct schema_field disk_log_fields[] = {
    PLAIN(struct control_disk_log, active, SCHEMA_BOOL),
    PLAIN(struct control_disk_log, bytes, SCHEMA_U64),
    PLAIN(struct control_disk_log, cap_bytes, SCHEMA_U64),
    PLAIN(struct control_disk_log, waiting, SCHEMA_U32),
};
static const struct schema disk_log_schema = SCHEMA(disk_log, disk_log_fields);

static const struct schema_field disk_replica_fields[] = {
    PLAIN(struct control_disk_replica, failed, SCHEMA_BOOL),
    STRING(struct control_disk_replica, why),
    PLAIN(struct control_disk_replica, pending_bytes, SCHEMA_U64),
    PLAIN(struct control_disk_replica, applied_bytes, SCHEMA_U64),
};
static const struct schema disk_replica_schema = SCHEMA(disk_replica, disk_replica_fields);

static const struct schema_field status_fields[] = {
    STRING(struct control_status, vm),
    STRING(struct control_status, daemon_version),
    PLAIN(struct control_status, pid, SCHEMA_U32),
    PLAIN(struct control_status, uptime_ns, SCHEMA_U64),
    ENUM(struct control_status, role, control_role_names),
    ENUM(struct control_status, state, control_state_names),
    PLAIN(struct control_status, protected, SCHEMA_BOOL),
    STRING(struct control_status, reason),
    PLAIN(struct control_status, unprotected_by_order, SCHEMA_BOOL),
    PLAIN(struct control_status, term, SCHEMA_U64),
    OBJECT(struct control_status, peer, peer_schema),
    OBJECTS(struct control_status, hosts, host_count, host_schema),
    OBJECT(struct control_status, guest, guest_schema),
    OBJECT(struct control_status, replication, replication_schema),
    OBJECT(struct control_status, outbox, outbox_schema),
    OBJECT(struct control_status, synchronisation, synchronisation_schema),
    OBJECT(struct control_status, heartbeat, heartbeat_schema),
    OBJECT(struct control_status, arbiter, arbiter_schema),
    OBJECT(struct control_status, takeover, takeover_schema),
    OBJECTS(struct control_status, disks, disk_count, disk_schema),
    OBJECT(struct control_status, disk_log, disk_log_schema),
    OBJECT(struct control_status, disk_replica, disk_replica_schema),
    STRINGS(struct control_status, warnings, warning_count),
};
const struct schema control_status_schema = SCHEMA(status, status_fields);

static const struct schema_field event_field_fields[] = {
    STRING(struct control_event_field, key),
    STRING(struct control_event_field, value),
};
static const struct schema event_field_schema = SCHEMA(event_field, event_field_fields);

static const struct schema_field event_fields[] = {
    PLAIN(struct control_event, id, SCHEMA_U64),
    PLAIN(struct control_event, wall_ns, SCHEMA_I64),
    PLAIN(struct control_event, monotonic_ns, SCHEMA_I64),
    ENUM(struct control_event, severity, control_severity_names),
    STRING(struct control_event, kind),
    STRING(struct control_event, text),
    OBJECTS(struct control_event, fields, field_count, event_field_schema),
};
const struct schema control_event_schema = SCHEMA(event, event_fields);

static const struct schema_field setting_fields[] = {
    STRING(struct control_setting, key),
    STRING(struct control_setting, value),
};
static const struct schema setting_schema = SCHEMA(policy_setting, setting_fields);

static const struct schema_field policy_fields[] = {
    OBJECTS(struct control_policy, settings, count, setting_schema),
};
const struct schema control_policy_schema = SCHEMA(policy, policy_fields);

static const ProtobufCFieldDescriptor *message_field(const struct schema *schema,
                                                     const struct schema_field *field)
{
    return protobuf_c_message_descriptor_get_field_by_name(schema->message, field->name);
}

/* Bytes of a value in both representations; only for the kinds that are copied as they are. */
static size_t scalar_size(enum schema_kind kind)
{
    return kind == SCHEMA_U32 || kind == SCHEMA_ENUM ? sizeof(uint32_t) : sizeof(uint64_t);
}

static unsigned element_count(const struct schema_field *field, const void *object)
{
    unsigned count;
    memcpy(&count, (const char *)object + field->count_offset, sizeof(count));
    return count < field->max ? count : field->max;
}

/* Fills a repeated field; the message owns what was stored even after a failure. */
static bool put_elements(const struct schema_field *field, const void *object, void *to,
                         size_t *to_count)
{
    const unsigned count = element_count(field, object);
    if (count == 0)
        return true;
    void **list = calloc(count, sizeof(*list));
    if (!list)
        return false;
    *(void ***)to = list;
    for (unsigned i = 0; i < count; i++) {
        const char *element = (const char *)object + field->offset + i * field->size;
        list[i] = field->kind == SCHEMA_STRINGS ? (void *)strdup(element)
                                                : (void *)schema_to_message(field->sub, element);
        if (!list[i])
            return false;
        *to_count = i + 1;
    }
    return true;
}

static bool put_field(const struct schema *schema, const struct schema_field *field,
                      const void *object, ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *descriptor = message_field(schema, field);
    const char *from = (const char *)object + field->offset;
    char *to = (char *)message + descriptor->offset;
    switch (field->kind) {
    case SCHEMA_U32:
    case SCHEMA_U64:
    case SCHEMA_I64:
    case SCHEMA_DOUBLE:
    case SCHEMA_ENUM:
        memcpy(to, from, scalar_size(field->kind));
        return true;
    case SCHEMA_BOOL:
        *(protobuf_c_boolean *)to = *(const bool *)from;
        return true;
    case SCHEMA_STRING:
        *(char **)to = strdup(from);
        return *(char **)to != NULL;
    case SCHEMA_OBJECT:
        *(ProtobufCMessage **)to = schema_to_message(field->sub, from);
        return *(ProtobufCMessage **)to != NULL;
    case SCHEMA_OBJECTS:
    case SCHEMA_STRINGS:
        break;
    }
    return put_elements(field, object, to,
                        (size_t *)((char *)message + descriptor->quantifier_offset));
}

ProtobufCMessage *schema_to_message(const struct schema *schema, const void *object)
{
    ProtobufCMessage *message = calloc(1, schema->message->sizeof_message);
    if (!message)
        return NULL;
    schema->message->message_init(message);
    for (size_t i = 0; i < schema->field_count; i++)
        if (!put_field(schema, &schema->fields[i], object, message)) {
            protobuf_c_message_free_unpacked(message, NULL);
            return NULL;
        }
    return message;
}

void schema_copy_text(char *to, size_t size, const char *from)
{
    size_t i = 0;
    for (; i < size - 1 && from[i]; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[i] = '\0';
}

/* One that we have no name for becomes "unknown": a newer daemon may say it. */
static int get_enum(const struct schema_field *field, const char *from, char *to)
{
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    if (value > field->name_count)
        value = field->name_count;
    memcpy(to, &value, sizeof(value));
    return 0;
}

/* All doubles are rates. Not-a-number and the like come of a division in the daemon, or of malice;
 * neither JSON nor an integer can hold them. */
static double sane_rate(double value)
{
    if (!(value >= 0))
        return 0;
    return value < RATE_MAX ? value : RATE_MAX;
}

static int get_elements(const struct schema_field *field, void *const *list, size_t count,
                        void *object, struct error *err)
{
    int rc = 0;
    const unsigned kept = count < field->max ? (unsigned)count : field->max;
    for (unsigned i = 0; rc == 0 && i < kept; i++) {
        char *element = (char *)object + field->offset + i * field->size;
        if (field->kind == SCHEMA_STRINGS)
            schema_copy_text(element, field->size, list[i]);
        else
            rc = schema_from_message(field->sub, list[i], element, err);
    }
    memcpy((char *)object + field->count_offset, &kept, sizeof(kept));
    return rc;
}

static int get_field(const struct schema *schema, const struct schema_field *field,
                     const ProtobufCMessage *message, void *object, struct error *err)
{
    const ProtobufCFieldDescriptor *descriptor = message_field(schema, field);
    const char *from = (const char *)message + descriptor->offset;
    char *to = (char *)object + field->offset;
    switch (field->kind) {
    case SCHEMA_U32:
    case SCHEMA_U64:
    case SCHEMA_I64:
        memcpy(to, from, scalar_size(field->kind));
        return 0;
    case SCHEMA_DOUBLE:
        *(double *)to = sane_rate(*(const double *)from);
        return 0;
    case SCHEMA_ENUM:
        return get_enum(field, from, to);
    case SCHEMA_BOOL:
        *(bool *)to = *(const protobuf_c_boolean *)from != 0;
        return 0;
    case SCHEMA_STRING:
        schema_copy_text(to, field->size, *(char *const *)from);
        return 0;
    case SCHEMA_OBJECT:
        /* A missing one stays zeroed. */
        return *(ProtobufCMessage *const *)from
                   ? schema_from_message(field->sub, *(ProtobufCMessage *const *)from, to, err)
                   : 0;
    case SCHEMA_OBJECTS:
    case SCHEMA_STRINGS:
        break;
    }
    return get_elements(field, *(void *const *const *)from,
                        *(const size_t *)((const char *)message + descriptor->quantifier_offset),
                        object, err);
}

int schema_from_message(const struct schema *schema, const ProtobufCMessage *message, void *object,
                        struct error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < schema->field_count; i++)
        rc = get_field(schema, &schema->fields[i], message, object, err);
    return rc;
}
