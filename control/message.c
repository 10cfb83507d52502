#include "control/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "control/schema.h"
#include "proto/control.pb-c.h"

size_t control_frame_length(const uint8_t prefix[CONTROL_PREFIX_SIZE], size_t max)
{
    struct wire_reader r = {.bytes = prefix, .size = CONTROL_PREFIX_SIZE};
    const size_t length = wire_get_u32(&r);
    return length <= max ? length : 0;
}

static int pack_frame(const ProtobufCMessage *message, uint8_t **frame, size_t *size)
{
    const size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(CONTROL_PREFIX_SIZE + length);
    if (!bytes)
        return -ENOMEM;
    struct wire_writer w = {.bytes = bytes, .size = CONTROL_PREFIX_SIZE};
    wire_put_u32(&w, (uint32_t)length);
    protobuf_c_message_pack(message, bytes + CONTROL_PREFIX_SIZE);
    *frame = bytes;
    *size = CONTROL_PREFIX_SIZE + length;
    return 0;
}

static int encode_set_policy(const struct control_policy *policy, uint8_t **frame, size_t *size)
{
    Kemari__Control__Request message = KEMARI__CONTROL__REQUEST__INIT;
    ProtobufCMessage *body = schema_to_message(&control_policy_schema, policy);
    if (!body)
        return -ENOMEM;
    message.version = CONTROL_PROTOCOL_VERSION;
    message.body_case = KEMARI__CONTROL__REQUEST__BODY_SET_POLICY;
    message.set_policy = (Kemari__Control__Policy *)body;
    const int rc = pack_frame(&message.base, frame, size);
    protobuf_c_message_free_unpacked(body, NULL);
    return rc;
}

int control_request_encode(const struct control_request *request, uint8_t **frame, size_t *size)
{
    if (request->verb == CONTROL_VERB_SET_POLICY)
        return encode_set_policy(&request->policy, frame, size);
    Kemari__Control__Request message = KEMARI__CONTROL__REQUEST__INIT;
    Kemari__Control__Ping ping = KEMARI__CONTROL__PING__INIT;
    Kemari__Control__StatusRequest status = KEMARI__CONTROL__STATUS_REQUEST__INIT;
    Kemari__Control__FailoverRequest failover = KEMARI__CONTROL__FAILOVER_REQUEST__INIT;
    Kemari__Control__SwitchoverRequest switchover = KEMARI__CONTROL__SWITCHOVER_REQUEST__INIT;
    Kemari__Control__StopRequest stop = KEMARI__CONTROL__STOP_REQUEST__INIT;
    Kemari__Control__EventsRequest events = KEMARI__CONTROL__EVENTS_REQUEST__INIT;
    Kemari__Control__Verdict verdict = KEMARI__CONTROL__VERDICT__INIT;
    Kemari__Control__DumpRequest dump = KEMARI__CONTROL__DUMP_REQUEST__INIT;
    Kemari__Control__ConsoleRequest console = KEMARI__CONTROL__CONSOLE_REQUEST__INIT;
    Kemari__Control__CheckpointRequest checkpoint = KEMARI__CONTROL__CHECKPOINT_REQUEST__INIT;
    Kemari__Control__FreezeRequest freeze = KEMARI__CONTROL__FREEZE_REQUEST__INIT;
    Kemari__Control__PolicyRequest policy = KEMARI__CONTROL__POLICY_REQUEST__INIT;
    Kemari__Control__UnprotectRequest unprotect = KEMARI__CONTROL__UNPROTECT_REQUEST__INIT;
    Kemari__Control__ProtectRequest protect = KEMARI__CONTROL__PROTECT_REQUEST__INIT;
    message.version = CONTROL_PROTOCOL_VERSION;
    dump.file = (char *)request->file;
    freeze.duration_ns = request->duration_ns;
    console.since = request->since;
    console.typed.len = request->typed_size;
    console.typed.data = (uint8_t *)request->typed;
    events.since = request->since;
    events.follow = request->follow;
    events.since_wall_ns = request->since_wall_ns;
    verdict.term = request->term;
    switch (request->verb) {
    case CONTROL_VERB_UNKNOWN:
        break;
    case CONTROL_VERB_PING:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_PING;
        message.ping = &ping;
        break;
    case CONTROL_VERB_STATUS:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_STATUS;
        message.status = &status;
        break;
    case CONTROL_VERB_FAILOVER:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_FAILOVER;
        message.failover = &failover;
        break;
    case CONTROL_VERB_SWITCHOVER:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_SWITCHOVER;
        message.switchover = &switchover;
        break;
    case CONTROL_VERB_STOP:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_STOP;
        message.stop = &stop;
        break;
    case CONTROL_VERB_EVENTS:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_EVENTS;
        message.events = &events;
        break;
    case CONTROL_VERB_GRANT:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_GRANT;
        message.grant = &verdict;
        break;
    case CONTROL_VERB_DENY:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_DENY;
        message.deny = &verdict;
        break;
    case CONTROL_VERB_DUMP:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_DUMP;
        message.dump = &dump;
        break;
    case CONTROL_VERB_POLICY:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_POLICY;
        message.policy = &policy;
        break;
    case CONTROL_VERB_FREEZE:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_FREEZE;
        message.freeze = &freeze;
        break;
    case CONTROL_VERB_CHECKPOINT:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_CHECKPOINT;
        message.checkpoint = &checkpoint;
        break;
    case CONTROL_VERB_CONSOLE:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_CONSOLE;
        message.console = &console;
        break;
    case CONTROL_VERB_UNPROTECT:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_UNPROTECT;
        message.unprotect = &unprotect;
        break;
    case CONTROL_VERB_PROTECT:
        message.body_case = KEMARI__CONTROL__REQUEST__BODY_PROTECT;
        message.protect = &protect;
        break;
    case CONTROL_VERB_SET_POLICY: /* above */
        break;
    }
    return pack_frame(&message.base, frame, size);
}

/* A setting that is too long would come out as another one, and one too many not at all. */
static int take_set_policy(const Kemari__Control__Policy *message, struct control_policy *policy,
                           struct error *err)
{
    if (message->n_settings > CONTROL_SETTINGS_MAX)
        return error_set(err, -EBADMSG, "the request has too many settings");
    for (size_t i = 0; i < message->n_settings; i++)
        if (strlen(message->settings[i]->key) >= CONTROL_NAME_MAX ||
            strlen(message->settings[i]->value) >= CONTROL_NAME_MAX)
            return error_set(err, -EBADMSG, "a setting of the request is too long");
    return schema_from_message(&control_policy_schema, &message->base, policy, err);
}

static int take_request(const Kemari__Control__Request *message, struct control_request *request,
                        struct error *err)
{
    switch (message->body_case) {
    case KEMARI__CONTROL__REQUEST__BODY_PING:
        request->verb = CONTROL_VERB_PING;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_STATUS:
        request->verb = CONTROL_VERB_STATUS;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_FAILOVER:
        request->verb = CONTROL_VERB_FAILOVER;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_SWITCHOVER:
        request->verb = CONTROL_VERB_SWITCHOVER;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_STOP:
        request->verb = CONTROL_VERB_STOP;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_EVENTS:
        request->verb = CONTROL_VERB_EVENTS;
        request->since = message->events->since;
        request->follow = message->events->follow;
        request->since_wall_ns = message->events->since_wall_ns;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_GRANT:
        request->verb = CONTROL_VERB_GRANT;
        request->term = message->grant->term;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_DENY:
        request->verb = CONTROL_VERB_DENY;
        request->term = message->deny->term;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_DUMP:
        request->verb = CONTROL_VERB_DUMP;
        /* One that is too long is none, not another one. */
        if (strlen(message->dump->file) < sizeof(request->file))
            strcpy(request->file, message->dump->file);
        break;
    case KEMARI__CONTROL__REQUEST__BODY_POLICY:
        request->verb = CONTROL_VERB_POLICY;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_SET_POLICY:
        request->verb = CONTROL_VERB_SET_POLICY;
        return take_set_policy(message->set_policy, &request->policy, err);
    case KEMARI__CONTROL__REQUEST__BODY_FREEZE:
        request->verb = CONTROL_VERB_FREEZE;
        request->duration_ns = message->freeze->duration_ns;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_CHECKPOINT:
        request->verb = CONTROL_VERB_CHECKPOINT;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_UNPROTECT:
        request->verb = CONTROL_VERB_UNPROTECT;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_PROTECT:
        request->verb = CONTROL_VERB_PROTECT;
        break;
    case KEMARI__CONTROL__REQUEST__BODY_CONSOLE:
        request->verb = CONTROL_VERB_CONSOLE;
        request->since = message->console->since;
        if (message->console->typed.len > sizeof(request->typed))
            return error_set(err, -EBADMSG, "the request types too much at a time");
        request->typed_size = message->console->typed.len;
        if (request->typed_size)
            memcpy(request->typed, message->console->typed.data, request->typed_size);
        break;
    default:
        request->verb = CONTROL_VERB_UNKNOWN;
        break;
    }
    return 0;
}

int control_request_decode(const uint8_t *bytes, size_t size, struct control_request *request,
                           struct error *err)
{
    *request = (struct control_request){0};
    if (size > CONTROL_REQUEST_MAX)
        return error_set(err, -EBADMSG, "the request is too long");
    Kemari__Control__Request *message = kemari__control__request__unpack(NULL, size, bytes);
    if (!message)
        return error_set(err, -EBADMSG, "the request is malformed");
    int rc = 0;
    if (message->version == 0)
        rc = error_set(err, -EBADMSG, "the request has no version");
    else if (message->version != CONTROL_PROTOCOL_VERSION)
        rc = error_set(err, -EPROTONOSUPPORT,
                       "control protocol version %u is not supported, this daemon speaks %d",
                       message->version, CONTROL_PROTOCOL_VERSION);
    else
        rc = take_request(message, request, err);
    kemari__control__request__free_unpacked(message, NULL);
    return rc;
}

/* Strings are borrowed from `reply` for the time of the call. */
static int encode_plain(const struct control_reply *reply, Kemari__Control__Reply *message,
                        uint8_t **frame, size_t *size)
{
    Kemari__Control__Done done = KEMARI__CONTROL__DONE__INIT;
    Kemari__Control__Refused refused = KEMARI__CONTROL__REFUSED__INIT;
    Kemari__Control__Pong pong = KEMARI__CONTROL__PONG__INIT;
    Kemari__Control__EndOfEvents end = KEMARI__CONTROL__END_OF_EVENTS__INIT;
    Kemari__Control__Console console = KEMARI__CONTROL__CONSOLE__INIT;
    if (reply->kind == CONTROL_REPLY_DONE) {
        done.text = (char *)reply->text;
        message->body_case = KEMARI__CONTROL__REPLY__BODY_DONE;
        message->done = &done;
    } else if (reply->kind == CONTROL_REPLY_REFUSED) {
        refused.code = reply->code;
        refused.text = (char *)reply->text;
        message->body_case = KEMARI__CONTROL__REPLY__BODY_REFUSED;
        message->refused = &refused;
    } else if (reply->kind == CONTROL_REPLY_PONG) {
        pong.daemon_version = (char *)reply->daemon_version;
        pong.vm = (char *)reply->vm;
        pong.pid = reply->pid;
        message->body_case = KEMARI__CONTROL__REPLY__BODY_PONG;
        message->pong = &pong;
    } else if (reply->kind == CONTROL_REPLY_CONSOLE) {
        console.next = reply->console.next;
        console.typed = reply->console.typed;
        console.said.len = reply->console.size;
        console.said.data = (uint8_t *)reply->console.said;
        message->body_case = KEMARI__CONTROL__REPLY__BODY_CONSOLE;
        message->console = &console;
    } else {
        end.last_id = reply->last_id;
        message->body_case = KEMARI__CONTROL__REPLY__BODY_END_OF_EVENTS;
        message->end_of_events = &end;
    }
    return pack_frame(&message->base, frame, size);
}

int control_reply_encode(const struct control_reply *reply, uint8_t **frame, size_t *size)
{
    Kemari__Control__Reply message = KEMARI__CONTROL__REPLY__INIT;
    message.version = CONTROL_PROTOCOL_VERSION;
    ProtobufCMessage *body = NULL;
    switch (reply->kind) {
    case CONTROL_REPLY_STATUS:
        body = schema_to_message(&control_status_schema, &reply->status);
        message.body_case = KEMARI__CONTROL__REPLY__BODY_STATUS;
        message.status = (Kemari__Control__Status *)body;
        break;
    case CONTROL_REPLY_EVENT:
        body = schema_to_message(&control_event_schema, &reply->event);
        message.body_case = KEMARI__CONTROL__REPLY__BODY_EVENT;
        message.event = (Kemari__Control__Event *)body;
        break;
    case CONTROL_REPLY_POLICY:
        body = schema_to_message(&control_policy_schema, &reply->policy);
        message.body_case = KEMARI__CONTROL__REPLY__BODY_POLICY;
        message.policy = (Kemari__Control__Policy *)body;
        break;
    default:
        return encode_plain(reply, &message, frame, size);
    }
    if (!body)
        return -ENOMEM;
    const int rc = pack_frame(&message.base, frame, size);
    protobuf_c_message_free_unpacked(body, NULL);
    return rc;
}

static int take_reply(const Kemari__Control__Reply *message, struct control_reply *reply,
                      struct error *err)
{
    switch (message->body_case) {
    case KEMARI__CONTROL__REPLY__BODY_DONE:
        reply->kind = CONTROL_REPLY_DONE;
        schema_copy_text(reply->text, sizeof(reply->text), message->done->text);
        return 0;
    case KEMARI__CONTROL__REPLY__BODY_REFUSED:
        reply->kind = CONTROL_REPLY_REFUSED;
        reply->code = message->refused->code;
        schema_copy_text(reply->text, sizeof(reply->text), message->refused->text);
        return 0;
    case KEMARI__CONTROL__REPLY__BODY_PONG:
        reply->kind = CONTROL_REPLY_PONG;
        schema_copy_text(reply->daemon_version, sizeof(reply->daemon_version),
                         message->pong->daemon_version);
        schema_copy_text(reply->vm, sizeof(reply->vm), message->pong->vm);
        reply->pid = message->pong->pid;
        return 0;
    case KEMARI__CONTROL__REPLY__BODY_STATUS:
        reply->kind = CONTROL_REPLY_STATUS;
        return schema_from_message(&control_status_schema, &message->status->base, &reply->status,
                                   err);
    case KEMARI__CONTROL__REPLY__BODY_EVENT:
        reply->kind = CONTROL_REPLY_EVENT;
        return schema_from_message(&control_event_schema, &message->event->base, &reply->event,
                                   err);
    case KEMARI__CONTROL__REPLY__BODY_END_OF_EVENTS:
        reply->kind = CONTROL_REPLY_END_OF_EVENTS;
        reply->last_id = message->end_of_events->last_id;
        return 0;
    case KEMARI__CONTROL__REPLY__BODY_POLICY:
        reply->kind = CONTROL_REPLY_POLICY;
        return schema_from_message(&control_policy_schema, &message->policy->base, &reply->policy,
                                   err);
    case KEMARI__CONTROL__REPLY__BODY_CONSOLE:
        reply->kind = CONTROL_REPLY_CONSOLE;
        reply->console.next = message->console->next;
        reply->console.typed = message->console->typed;
        if (message->console->said.len > sizeof(reply->console.said))
            return error_set(err, -EBADMSG, "the reply says too much at a time");
        reply->console.size = message->console->said.len;
        if (reply->console.size)
            memcpy(reply->console.said, message->console->said.data, reply->console.size);
        return 0;
    default:
        return error_set(err, -EBADMSG, "the reply is of an unknown kind");
    }
}

int control_reply_decode(const uint8_t *bytes, size_t size, struct control_reply *reply,
                         struct error *err)
{
    memset(reply, 0, sizeof(*reply));
    if (size > CONTROL_REPLY_MAX)
        return error_set(err, -EBADMSG, "the reply is too long");
    Kemari__Control__Reply *message = kemari__control__reply__unpack(NULL, size, bytes);
    if (!message)
        return error_set(err, -EBADMSG, "the reply is malformed");
    int rc = 0;
    if (message->version != CONTROL_PROTOCOL_VERSION)
        rc = error_set(err, -EPROTONOSUPPORT,
                       "the daemon speaks control protocol version %u, this kemarictl %d",
                       message->version, CONTROL_PROTOCOL_VERSION);
    else
        rc = take_reply(message, reply, err);
    kemari__control__reply__free_unpacked(message, NULL);
    return rc;
}
