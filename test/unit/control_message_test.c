/* What travels over the control socket: schema, requests, replies, and bytes that are neither. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "control/message.h"
#include "control/schema.h"
#include "proto/control.pb-c.h"
#include "test/support/control_sample.h"
#include "test/support/runner.h"

static ProtobufCType wanted_type(enum schema_kind kind)
{
    switch (kind) {
    case SCHEMA_U32:
        return PROTOBUF_C_TYPE_UINT32;
    case SCHEMA_U64:
        return PROTOBUF_C_TYPE_UINT64;
    case SCHEMA_I64:
        return PROTOBUF_C_TYPE_INT64;
    case SCHEMA_DOUBLE:
        return PROTOBUF_C_TYPE_DOUBLE;
    case SCHEMA_BOOL:
        return PROTOBUF_C_TYPE_BOOL;
    case SCHEMA_ENUM:
        return PROTOBUF_C_TYPE_ENUM;
    case SCHEMA_STRING:
    case SCHEMA_STRINGS:
        return PROTOBUF_C_TYPE_STRING;
    case SCHEMA_OBJECT:
    case SCHEMA_OBJECTS:
        break;
    }
    return PROTOBUF_C_TYPE_MESSAGE;
}

static void compare_with_proto(const struct schema *schema)
{
    CU_ASSERT_EQUAL(schema->field_count, schema->message->n_fields);
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct schema_field *field = &schema->fields[i];
        const ProtobufCFieldDescriptor *d =
            protobuf_c_message_descriptor_get_field_by_name(schema->message, field->name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(d);
        CU_ASSERT_EQUAL(d->type, wanted_type(field->kind));
        const bool repeated = field->kind == SCHEMA_OBJECTS || field->kind == SCHEMA_STRINGS;
        CU_ASSERT_EQUAL(d->label == PROTOBUF_C_LABEL_REPEATED, repeated);
        if (field->kind == SCHEMA_ENUM) {
            const ProtobufCEnumDescriptor *e = d->descriptor;
            CU_ASSERT_EQUAL(e->n_values, field->name_count);
        }
        if (field->sub) {
            CU_ASSERT_PTR_EQUAL(d->descriptor, field->sub->message);
            compare_with_proto(field->sub);
        }
    }
}

static void every_field_of_the_protocol_is_in_the_schema(void)
{
    compare_with_proto(&control_status_schema);
    compare_with_proto(&control_event_schema);
    compare_with_proto(&control_policy_schema);
}

static void a_reply_survives_a_round_trip(const struct control_reply *reply,
                                          struct control_reply *copy)
{
    uint8_t *frame;
    size_t size;
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(control_reply_encode(reply, &frame, &size), 0);
    CU_ASSERT_EQUAL(control_frame_length(frame, CONTROL_REPLY_MAX), size - CONTROL_PREFIX_SIZE);
    CU_ASSERT_EQUAL(
        control_reply_decode(frame + CONTROL_PREFIX_SIZE, size - CONTROL_PREFIX_SIZE, copy, &err),
        0);
    /* Compared as bytes on the wire: in memory, what follows a string's end may differ. */
    uint8_t *again;
    size_t again_size;
    CU_ASSERT_EQUAL_FATAL(control_reply_encode(copy, &again, &again_size), 0);
    CU_ASSERT_EQUAL_FATAL(again_size, size);
    CU_ASSERT_EQUAL(memcmp(frame, again, size), 0);
    CU_ASSERT_EQUAL(copy->kind, reply->kind);
    free(frame);
    free(again);
}

static void every_reply_survives_a_round_trip(void)
{
    struct control_reply *reply = calloc(1, sizeof(*reply));
    struct control_reply *copy = calloc(1, sizeof(*copy));
    reply->kind = CONTROL_REPLY_STATUS;
    control_sample_protected(&reply->status);
    a_reply_survives_a_round_trip(reply, copy);
    control_sample_unprotected(&reply->status);
    a_reply_survives_a_round_trip(reply, copy);
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_EVENT;
    control_sample_event(&reply->event);
    a_reply_survives_a_round_trip(reply, copy);
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_REFUSED;
    reply->code = -EBUSY;
    strcpy(reply->text, "a switchover is running");
    a_reply_survives_a_round_trip(reply, copy);
    reply->kind = CONTROL_REPLY_DONE;
    reply->code = 0;
    a_reply_survives_a_round_trip(reply, copy);
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_PONG;
    strcpy(reply->daemon_version, "9.9");
    strcpy(reply->vm, "web");
    reply->pid = 7;
    a_reply_survives_a_round_trip(reply, copy);
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_END_OF_EVENTS;
    reply->last_id = UINT64_MAX;
    a_reply_survives_a_round_trip(reply, copy);
    memset(reply, 0, sizeof(*reply));
    reply->kind = CONTROL_REPLY_POLICY;
    reply->policy = (struct control_policy){2, {{"policy", "kemari"}, {"interval", "5ms"}}};
    a_reply_survives_a_round_trip(reply, copy);
    CU_ASSERT_STRING_EQUAL(copy->policy.settings[1].value, "5ms");
    free(reply);
    free(copy);
}

static void every_request_survives_a_round_trip(void)
{
    for (int verb = CONTROL_VERB_UNKNOWN; verb <= CONTROL_VERB_CONSOLE; verb++) {
        struct control_request request = {.verb = (enum control_verb)verb}, copy;
        if (verb == CONTROL_VERB_EVENTS) {
            request.since = 17;
            request.follow = true;
        }
        if (verb == CONTROL_VERB_DUMP)
            strcpy(request.file, "core.1");
        if (verb == CONTROL_VERB_CONSOLE) {
            request.typed_size = 2;
            memcpy(request.typed, "ls", 2);
        }
        if (verb == CONTROL_VERB_FREEZE)
            request.duration_ns = 5;
        if (verb == CONTROL_VERB_SET_POLICY)
            request.policy =
                (struct control_policy){2, {{"policy", "kemari"}, {"interval", "5ms"}}};
        if (verb == CONTROL_VERB_GRANT || verb == CONTROL_VERB_DENY)
            request.term = 5;
        uint8_t *frame;
        size_t size;
        CU_ASSERT_EQUAL_FATAL(control_request_encode(&request, &frame, &size), 0);
        CU_ASSERT_EQUAL(control_request_decode(frame + CONTROL_PREFIX_SIZE,
                                               size - CONTROL_PREFIX_SIZE, &copy, NULL),
                        0);
        CU_ASSERT_EQUAL(copy.verb, request.verb);
        CU_ASSERT_EQUAL(copy.since, request.since);
        CU_ASSERT_EQUAL(copy.follow, request.follow);
        CU_ASSERT_EQUAL(copy.typed_size, request.typed_size);
        CU_ASSERT_EQUAL(memcmp(copy.typed, request.typed, request.typed_size), 0);
        CU_ASSERT_EQUAL(copy.duration_ns, request.duration_ns);
        CU_ASSERT_EQUAL(copy.term, request.term);
        CU_ASSERT_STRING_EQUAL(copy.file, request.file);
        CU_ASSERT_EQUAL(copy.policy.count, request.policy.count);
        for (unsigned i = 0; i < copy.policy.count; i++) {
            CU_ASSERT_STRING_EQUAL(copy.policy.settings[i].key, request.policy.settings[i].key);
            CU_ASSERT_STRING_EQUAL(copy.policy.settings[i].value, request.policy.settings[i].value);
        }
        free(frame);
    }
}

/* Cut to size, a long setting would come out as another one. */
static void a_setting_that_is_too_long_is_refused(void)
{
    char text[CONTROL_NAME_MAX + 1] = "";
    memset(text, '9', sizeof(text) - 1);
    for (int i = 0; i < 2; i++) {
        Kemari__Control__PolicySetting setting = KEMARI__CONTROL__POLICY_SETTING__INIT;
        Kemari__Control__PolicySetting *list[] = {&setting};
        Kemari__Control__Policy policy = KEMARI__CONTROL__POLICY__INIT;
        Kemari__Control__Request message = KEMARI__CONTROL__REQUEST__INIT;
        setting.key = i ? text : "window";
        setting.value = i ? "2" : text;
        policy.n_settings = 1;
        policy.settings = list;
        message.version = CONTROL_PROTOCOL_VERSION;
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_SET_POLICY;
        message.set_policy = &policy;
        uint8_t bytes[256];
        const size_t size = kemari__control__request__pack(&message, bytes);
        struct control_request request;
        CU_ASSERT_EQUAL(control_request_decode(bytes, size, &request, NULL), -EBADMSG);
        setting.key = "window";
        setting.value = "2";
        CU_ASSERT_EQUAL(control_request_decode(
                            bytes, kemari__control__request__pack(&message, bytes), &request, NULL),
                        0);
    }
}

static void too_many_settings_are_refused(void)
{
    Kemari__Control__PolicySetting setting = KEMARI__CONTROL__POLICY_SETTING__INIT;
    Kemari__Control__PolicySetting *list[CONTROL_SETTINGS_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(list); i++)
        list[i] = &setting;
    Kemari__Control__Policy policy = KEMARI__CONTROL__POLICY__INIT;
    Kemari__Control__Request message = KEMARI__CONTROL__REQUEST__INIT;
    policy.settings = list;
    message.version = CONTROL_PROTOCOL_VERSION;
    message.body_case = KEMARI__CONTROL__REQUEST__BODY_SET_POLICY;
    message.set_policy = &policy;
    for (size_t count = CONTROL_SETTINGS_MAX; count <= CONTROL_SETTINGS_MAX + 1; count++) {
        policy.n_settings = count;
        uint8_t bytes[256];
        struct control_request request;
        CU_ASSERT_EQUAL(control_request_decode(
                            bytes, kemari__control__request__pack(&message, bytes), &request, NULL),
                        count <= CONTROL_SETTINGS_MAX ? 0 : -EBADMSG);
    }
}

static void golden_bytes_of_a_request(void)
{
    const struct control_request request = {
        .verb = CONTROL_VERB_EVENTS, .since = 300, .follow = true};
    /* length 9; field 1 varint 1; field 6, 5 bytes: field 1 varint 300, field 2 varint 1 */
    const uint8_t golden[] = {9, 0, 0, 0, 0x08, 1, 0x32, 5, 0x08, 0xac, 0x02, 0x10, 1};
    uint8_t *frame;
    size_t size;
    CU_ASSERT_EQUAL_FATAL(control_request_encode(&request, &frame, &size), 0);
    CU_ASSERT_EQUAL_FATAL(size, sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(frame, golden, size), 0);
    free(frame);
}

static void a_status_cut_short_at_any_byte_is_refused(void)
{
    struct control_reply *reply = calloc(1, sizeof(*reply));
    reply->kind = CONTROL_REPLY_STATUS;
    control_sample_protected(&reply->status);
    uint8_t *frame;
    size_t size;
    CU_ASSERT_EQUAL_FATAL(control_reply_encode(reply, &frame, &size), 0);
    for (size_t cut = 0; cut < size - CONTROL_PREFIX_SIZE; cut++) {
        struct error err = {0};
        const int rc = control_reply_decode(frame + CONTROL_PREFIX_SIZE, cut, reply, &err);
        CU_ASSERT(rc < 0 && err.text[0]);
    }
    free(frame);
    free(reply);
}

static int decode_message(const ProtobufCMessage *message, struct control_reply *reply,
                          struct error *err)
{
    uint8_t bytes[8192];
    CU_ASSERT_FATAL(protobuf_c_message_get_packed_size(message) <= sizeof(bytes));
    return control_reply_decode(bytes, protobuf_c_message_pack(message, bytes), reply, err);
}

static void what_is_longer_than_we_keep_is_cut_and_made_printable(void)
{
    char name[200];
    memset(name, 'x', sizeof(name));
    strcpy(name + 150, "\033[2J");
    name[3] = '\033';
    name[4] = '\xc3';
    char *warnings[CONTROL_WARNINGS_MAX + 5];
    for (size_t i = 0; i < ARRAY_SIZE(warnings); i++)
        warnings[i] = name;
    Kemari__Control__Status status = KEMARI__CONTROL__STATUS__INIT;
    status.vm = name;
    status.warnings = warnings;
    status.n_warnings = ARRAY_SIZE(warnings);
    Kemari__Control__Reply message = KEMARI__CONTROL__REPLY__INIT;
    message.version = 1;
    message.body_case = KEMARI__CONTROL__REPLY__BODY_STATUS;
    message.status = &status;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    CU_ASSERT_EQUAL(decode_message(&message.base, reply, NULL), 0);
    CU_ASSERT_EQUAL(strlen(reply->status.vm), CONTROL_NAME_MAX - 1);
    CU_ASSERT_EQUAL(strncmp(reply->status.vm, "xxx??xxx", 8), 0);
    CU_ASSERT_EQUAL(reply->status.warning_count, CONTROL_WARNINGS_MAX);
    CU_ASSERT_STRING_EQUAL(reply->status.warnings[0] + 150, "?[2J");
    free(reply);
}

static void a_rate_that_is_no_number_becomes_one(void)
{
    const double odd[] = {(double)NAN, (double)INFINITY, -1.0};
    const double wanted[] = {0, 1e18, 0};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        Kemari__Control__Replication replication = KEMARI__CONTROL__REPLICATION__INIT;
        replication.epochs_per_second = odd[i];
        Kemari__Control__Status status = KEMARI__CONTROL__STATUS__INIT;
        status.replication = &replication;
        Kemari__Control__Reply message = KEMARI__CONTROL__REPLY__INIT;
        message.version = 1;
        message.body_case = KEMARI__CONTROL__REPLY__BODY_STATUS;
        message.status = &status;
        struct control_reply *reply = calloc(1, sizeof(*reply));
        CU_ASSERT_EQUAL(decode_message(&message.base, reply, NULL), 0);
        CU_ASSERT_EQUAL(reply->status.replication.epochs_per_second, wanted[i]);
        free(reply);
    }
}

static void more_console_than_fits_is_refused(void)
{
    uint8_t bytes[CONTROL_CONSOLE_PART + 1] = {0};
    struct control_reply *reply = calloc(1, sizeof(*reply)), *copy = calloc(1, sizeof(*copy));
    reply->kind = CONTROL_REPLY_CONSOLE;
    reply->console = (struct control_console_reply){.next = 77, .typed = 3, .size = 2};
    memcpy(reply->console.said, "\0x", 2);
    a_reply_survives_a_round_trip(reply, copy);
    CU_ASSERT_EQUAL(copy->console.next, 77);
    CU_ASSERT_EQUAL(copy->console.typed, 3);
    CU_ASSERT_EQUAL(memcmp(copy->console.said, "\0x", 2), 0);
    Kemari__Control__Console console = KEMARI__CONTROL__CONSOLE__INIT;
    Kemari__Control__Reply message = KEMARI__CONTROL__REPLY__INIT;
    struct error err = {0};
    console.said = (ProtobufCBinaryData){sizeof(bytes), bytes};
    message.version = 1;
    message.body_case = KEMARI__CONTROL__REPLY__BODY_CONSOLE;
    message.console = &console;
    CU_ASSERT_EQUAL(decode_message(&message.base, copy, &err), -EBADMSG);
    Kemari__Control__ConsoleRequest typing = KEMARI__CONTROL__CONSOLE_REQUEST__INIT;
    Kemari__Control__Request question = KEMARI__CONTROL__REQUEST__INIT;
    struct control_request request;
    typing.typed = (ProtobufCBinaryData){CONTROL_TYPED_MAX + 1, bytes};
    question.version = 1;
    question.body_case = KEMARI__CONTROL__REQUEST__BODY_CONSOLE;
    question.console = &typing;
    uint8_t packed[CONTROL_TYPED_MAX + 64];
    const size_t size = kemari__control__request__pack(&question, packed);
    CU_ASSERT_EQUAL(control_request_decode(packed, size, &request, &err), -EBADMSG);
    free(reply);
    free(copy);
}

static void an_enum_value_without_a_name_is_unknown(void)
{
    Kemari__Control__Status status = KEMARI__CONTROL__STATUS__INIT;
    Kemari__Control__Guest guest = KEMARI__CONTROL__GUEST__INIT;
    Kemari__Control__HeartbeatPath path = KEMARI__CONTROL__HEARTBEAT_PATH__INIT, *paths = &path;
    Kemari__Control__Heartbeat heartbeat = KEMARI__CONTROL__HEARTBEAT__INIT;
    Kemari__Control__Arbiter arbiter = KEMARI__CONTROL__ARBITER__INIT;
    status.role = (Kemari__Control__Role)17;
    status.state = (Kemari__Control__State)-1;
    guest.state = (Kemari__Control__GuestState)6;
    arbiter.state = (Kemari__Control__ArbiterState)5;
    path.state = (Kemari__Control__PathState)3;
    heartbeat.n_paths = 1;
    heartbeat.paths = &paths;
    status.guest = &guest;
    status.arbiter = &arbiter;
    status.heartbeat = &heartbeat;
    Kemari__Control__Reply message = KEMARI__CONTROL__REPLY__INIT;
    message.version = 1;
    message.body_case = KEMARI__CONTROL__REPLY__BODY_STATUS;
    message.status = &status;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    CU_ASSERT_EQUAL(decode_message(&message.base, reply, NULL), 0);
    const struct control_status *got = &reply->status;
    CU_ASSERT_STRING_EQUAL(control_role_names[got->role], "unknown");
    CU_ASSERT_STRING_EQUAL(control_state_names[got->state], "unknown");
    CU_ASSERT_STRING_EQUAL(control_guest_state_names[got->guest.state], "unknown");
    CU_ASSERT_STRING_EQUAL(control_arbiter_state_names[got->arbiter.state], "unknown");
    CU_ASSERT_STRING_EQUAL(control_path_state_names[got->heartbeat.paths[0].state], "unknown");
    free(reply);
}

/* ---- what the previous minor version says and understands ---- */

#define FROZEN_MAX (64 << 10)

/* One line per field of the message and of those in it: "Status.term 9 uint64 single". */
static void describe(const ProtobufCMessageDescriptor *message, FILE *out)
{
    static const char *const types[] = {
        [PROTOBUF_C_TYPE_INT32] = "int32",   [PROTOBUF_C_TYPE_INT64] = "int64",
        [PROTOBUF_C_TYPE_UINT32] = "uint32", [PROTOBUF_C_TYPE_UINT64] = "uint64",
        [PROTOBUF_C_TYPE_DOUBLE] = "double", [PROTOBUF_C_TYPE_BOOL] = "bool",
        [PROTOBUF_C_TYPE_ENUM] = "enum",     [PROTOBUF_C_TYPE_STRING] = "string",
        [PROTOBUF_C_TYPE_BYTES] = "bytes",   [PROTOBUF_C_TYPE_MESSAGE] = "message"};
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        fprintf(out, "%s.%s %u %s %s\n", message->short_name, field->name, field->id,
                types[field->type],
                field->label == PROTOBUF_C_LABEL_REPEATED ? "repeated" : "single");
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            describe(field->descriptor, out);
    }
}

static void describe_enum(const ProtobufCEnumDescriptor *list, FILE *out)
{
    for (unsigned i = 0; i < list->n_values; i++)
        fprintf(out, "%s.%s %d value single\n", list->short_name, list->values[i].name,
                list->values[i].value);
}

static char *describe_protocol(void)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    describe(&kemari__control__request__descriptor, out);
    describe(&kemari__control__reply__descriptor, out);
    describe_enum(&kemari__control__role__descriptor, out);
    describe_enum(&kemari__control__state__descriptor, out);
    describe_enum(&kemari__control__guest_state__descriptor, out);
    describe_enum(&kemari__control__arbiter_state__descriptor, out);
    describe_enum(&kemari__control__path_state__descriptor, out);
    describe_enum(&kemari__control__severity__descriptor, out);
    fclose(out);
    return text;
}

/* Both directions follow from this, since each side ignores what it does not know: a field that the
 * previous minor version had still means the same, under its number. */
static void every_field_of_the_previous_minor_version_is_still_there(void)
{
    char *frozen = calloc(1, FROZEN_MAX);
    FILE *file = fopen(FROZEN_FIELDS, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fread(frozen, 1, FROZEN_MAX - 1, file) > 0);
    fclose(file);
    char *now = describe_protocol();
    char *rest = frozen;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char whole[256];
        snprintf(whole, sizeof(whole), "%s\n", line);
        if (*line && *line != '#' && !strstr(now, whole)) {
            CU_FAIL("a field of the previous minor version is gone or another one");
            printf("\n  missing: %s\n", line);
        }
    }
    if (getenv("KEMARI_SHOW_FIELDS"))
        fputs(now, stdout);
    free(now);
    free(frozen);
}

static void another_protocol_version_is_told_apart_from_garbage(void)
{
    const uint8_t newer[] = {0x08, 2, 0x12, 0};
    const uint8_t none[] = {0x12, 0};
    const uint8_t garbage[] = {0xff, 0xff, 0xff};
    struct control_request request;
    struct error err = {0};
    CU_ASSERT_EQUAL(control_request_decode(newer, sizeof(newer), &request, &err), -EPROTONOSUPPORT);
    CU_ASSERT_STRING_EQUAL(err.text,
                           "control protocol version 2 is not supported, this daemon speaks 1");
    CU_ASSERT_EQUAL(control_request_decode(none, sizeof(none), &request, &err), -EBADMSG);
    CU_ASSERT_EQUAL(control_request_decode(garbage, sizeof(garbage), &request, &err), -EBADMSG);
}

static void a_request_of_a_newer_kind_is_unknown_not_garbage(void)
{
    const uint8_t bytes[] = {0x08, 1, 0xea, 0x07, 2, 0x08, 1}; /* field 125 */
    struct control_request request;
    CU_ASSERT_EQUAL(control_request_decode(bytes, sizeof(bytes), &request, NULL), 0);
    CU_ASSERT_EQUAL(request.verb, CONTROL_VERB_UNKNOWN);
}

static void impossible_lengths_have_no_frame(void)
{
    const uint8_t zero[4] = {0, 0, 0, 0}, large[4] = {1, 0, 1, 0}, huge[4] = {255, 255, 255, 255};
    const uint8_t exact[4] = {0, 0, 1, 0};
    CU_ASSERT_EQUAL(control_frame_length(zero, CONTROL_REQUEST_MAX), 0);
    CU_ASSERT_EQUAL(control_frame_length(large, CONTROL_REQUEST_MAX), 0);
    CU_ASSERT_EQUAL(control_frame_length(huge, CONTROL_REQUEST_MAX), 0);
    CU_ASSERT_EQUAL(control_frame_length(exact, CONTROL_REQUEST_MAX), CONTROL_REQUEST_MAX);
}

static const struct test_case cases[] = {
    {"a setting that is too long is refused", a_setting_that_is_too_long_is_refused},
    {"too many settings are refused", too_many_settings_are_refused},
    {"every field of the protocol is in the schema", every_field_of_the_protocol_is_in_the_schema},
    {"every reply survives a round trip", every_reply_survives_a_round_trip},
    {"every request survives a round trip", every_request_survives_a_round_trip},
    {"golden bytes of a request", golden_bytes_of_a_request},
    {"a status cut short at any byte is refused", a_status_cut_short_at_any_byte_is_refused},
    {"what is longer than we keep is cut and made printable",
     what_is_longer_than_we_keep_is_cut_and_made_printable},
    {"a rate that is no number becomes one", a_rate_that_is_no_number_becomes_one},
    {"more console than fits is refused", more_console_than_fits_is_refused},
    {"an enum value without a name is unknown", an_enum_value_without_a_name_is_unknown},
    {"every field of the previous minor version is still there",
     every_field_of_the_previous_minor_version_is_still_there},
    {"another protocol version is told apart from garbage",
     another_protocol_version_is_told_apart_from_garbage},
    {"a request of a newer kind is unknown, not garbage",
     a_request_of_a_newer_kind_is_unknown_not_garbage},
    {"impossible lengths have no frame", impossible_lengths_have_no_frame},
};

TEST_MAIN("control-message", cases)
