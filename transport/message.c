/* Control messages of a running session between plain structs and protobuf: see
 * transport/message.h. Enum values are those of proto/session.proto, asserted below. */
#include "transport/message.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "transport/codec.h"

/* Unpacked form of one message of MESSAGE_SIZE_MAX with its longest text; what needs more is not
 * one of ours. */
#define MESSAGE_SCRATCH (2 * MESSAGE_SIZE_MAX)

_Static_assert((int)MESSAGE_EPOCH_FULL == KEMARI__SESSION__EPOCH_KIND__EPOCH_FULL &&
                   (int)MESSAGE_EPOCH_INCREMENTAL == KEMARI__SESSION__EPOCH_KIND__EPOCH_INCREMENTAL,
               "epoch kinds");
_Static_assert((int)MESSAGE_NACK_DIGEST == KEMARI__SESSION__NACK_REASON__NACK_DIGEST &&
                   (int)MESSAGE_NACK_RESOURCES == KEMARI__SESSION__NACK_REASON__NACK_RESOURCES,
               "nack reasons");
_Static_assert((int)MESSAGE_GOODBYE_STOP == KEMARI__SESSION__GOODBYE_REASON__GOODBYE_STOP &&
                   (int)MESSAGE_GOODBYE_ERROR == KEMARI__SESSION__GOODBYE_REASON__GOODBYE_ERROR,
               "goodbye reasons");
_Static_assert((int)MESSAGE_POLICY_PIPELINED == KEMARI__SESSION__POLICY_KIND__POLICY_PIPELINED &&
                   (int)MESSAGE_POLICY_INTERVAL == KEMARI__SESSION__POLICY_KIND__POLICY_INTERVAL,
               "policy kinds");
_Static_assert((int)MESSAGE_SWITCHOVER_REQUEST ==
                       KEMARI__SESSION__SWITCHOVER_STEP__SWITCHOVER_REQUEST &&
                   (int)MESSAGE_SWITCHOVER_RELEASED ==
                       KEMARI__SESSION__SWITCHOVER_STEP__SWITCHOVER_RELEASED,
               "steps of a switchover");

/* Protobuf's side of every kind, so that encoding needs no heap. */
struct parts {
    char text[MESSAGE_TEXT_MAX];
    union {
        struct {
            Kemari__Session__EpochBegin begin;
            Kemari__Session__Policy policy;
        };
        Kemari__Session__EpochEnd end;
        Kemari__Session__EpochAck ack;
        Kemari__Session__EpochNack nack;
        Kemari__Session__Alive alive;
        Kemari__Session__Applied applied;
        Kemari__Session__Resync resync;
        Kemari__Session__Goodbye goodbye;
        Kemari__Session__Switchover switchover;
    };
};

static bool epoch_kind_known(int kind)
{
    return kind == MESSAGE_EPOCH_FULL || kind == MESSAGE_EPOCH_INCREMENTAL;
}

static bool policy_kind_known(int kind)
{
    return kind >= MESSAGE_POLICY_PIPELINED && kind <= MESSAGE_POLICY_INTERVAL;
}

static bool nack_reason_known(int reason)
{
    return reason >= MESSAGE_NACK_DIGEST && reason <= MESSAGE_NACK_RESOURCES;
}

static bool goodbye_reason_known(int reason)
{
    return reason >= MESSAGE_GOODBYE_STOP && reason <= MESSAGE_GOODBYE_ERROR;
}

/* Each step has its own fields, and no others. */
static bool switchover_legal(const struct message_switchover *s)
{
    const int step = (int)s->step;
    const bool about_term = step >= MESSAGE_SWITCHOVER_PREPARE;
    const bool known = step >= MESSAGE_SWITCHOVER_REQUEST && step <= MESSAGE_SWITCHOVER_RELEASED;
    const bool about_pause = step == MESSAGE_SWITCHOVER_TAKE || step == MESSAGE_SWITCHOVER_TAKEN;
    return known && about_term == (s->term != 0) && (s->pause == 0 || about_pause) &&
           (s->text[0] == '\0' || step == MESSAGE_SWITCHOVER_REFUSED);
}

/* --- encoding --- */

/* False when a field is illegal. */
static bool fill_begin(const struct message_epoch_begin *in, struct parts *parts)
{
    kemari__session__epoch_begin__init(&parts->begin);
    parts->begin.kind = (Kemari__Session__EpochKind)in->kind;
    if (in->has_policy) {
        kemari__session__policy__init(&parts->policy);
        parts->policy.kind = (Kemari__Session__PolicyKind)in->policy.kind;
        parts->policy.interval_ns = in->policy.interval_ns;
        parts->policy.max_interval_ns = in->policy.max_interval_ns;
        parts->policy.window = in->policy.window;
        parts->policy.dirty_budget_pages = in->policy.dirty_budget_pages;
        parts->policy.staging_cap_bytes = in->policy.staging_cap_bytes;
        parts->begin.policy = &parts->policy;
    }
    return epoch_kind_known((int)in->kind) &&
           (!in->has_policy || policy_kind_known((int)in->policy.kind));
}

static void fill_end(const struct message_epoch_end *in, Kemari__Session__EpochEnd *out)
{
    kemari__session__epoch_end__init(out);
    out->pages = in->pages;
    out->zero_pages = in->zero_pages;
    out->frames = in->frames;
    out->bytes = in->bytes;
    out->state_bytes = in->state_bytes;
    out->disk_bytes = in->disk_bytes;
    out->digest.data = (uint8_t *)(uintptr_t)in->digest;
    out->digest.len = sizeof(in->digest);
}

static void fill_nack(const struct message_epoch_nack *in, struct parts *parts)
{
    codec_make_printable(parts->text, sizeof(parts->text), in->text);
    kemari__session__epoch_nack__init(&parts->nack);
    parts->nack.reason = (Kemari__Session__NackReason)in->reason;
    parts->nack.text = parts->text;
}

static void fill_goodbye(const struct message_goodbye *in, struct parts *parts)
{
    codec_make_printable(parts->text, sizeof(parts->text), in->text);
    kemari__session__goodbye__init(&parts->goodbye);
    parts->goodbye.reason = (Kemari__Session__GoodbyeReason)in->reason;
    parts->goodbye.final = in->final;
    parts->goodbye.text = parts->text;
}

static void fill_switchover(const struct message_switchover *in, struct parts *parts)
{
    codec_make_printable(parts->text, sizeof(parts->text), in->text);
    kemari__session__switchover__init(&parts->switchover);
    parts->switchover.step = (Kemari__Session__SwitchoverStep)in->step;
    parts->switchover.term = in->term;
    parts->switchover.pause_ns = in->pause;
    parts->switchover.text = parts->text;
}

/* Fills `wire` so that it points into `in` and `parts`. False when a field is illegal. */
static bool fill(const struct message *in, struct parts *parts, Kemari__Session__Message *wire)
{
    switch (in->kind) {
    case MESSAGE_EPOCH_BEGIN:
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_EPOCH_BEGIN;
        wire->epoch_begin = &parts->begin;
        return fill_begin(&in->epoch_begin, parts);
    case MESSAGE_EPOCH_END:
        fill_end(&in->epoch_end, &parts->end);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_EPOCH_END;
        wire->epoch_end = &parts->end;
        return in->epoch_end.zero_pages <= in->epoch_end.pages;
    case MESSAGE_EPOCH_ACK:
        kemari__session__epoch_ack__init(&parts->ack);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_EPOCH_ACK;
        wire->epoch_ack = &parts->ack;
        return true;
    case MESSAGE_EPOCH_NACK:
        fill_nack(&in->epoch_nack, parts);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_EPOCH_NACK;
        wire->epoch_nack = &parts->nack;
        return nack_reason_known((int)in->epoch_nack.reason);
    case MESSAGE_APPLIED:
        kemari__session__applied__init(&parts->applied);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_APPLIED;
        wire->applied = &parts->applied;
        return true;
    case MESSAGE_RESYNC:
        codec_make_printable(parts->text, sizeof(parts->text), in->resync.text);
        kemari__session__resync__init(&parts->resync);
        parts->resync.text = parts->text;
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_RESYNC;
        wire->resync = &parts->resync;
        return true;
    case MESSAGE_GOODBYE:
        fill_goodbye(&in->goodbye, parts);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_GOODBYE;
        wire->goodbye = &parts->goodbye;
        return goodbye_reason_known((int)in->goodbye.reason);
    case MESSAGE_ALIVE:
        kemari__session__alive__init(&parts->alive);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_ALIVE;
        wire->alive = &parts->alive;
        return true;
    case MESSAGE_SWITCHOVER:
        fill_switchover(&in->switchover, parts);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_SWITCHOVER;
        wire->switchover = &parts->switchover;
        return switchover_legal(&in->switchover);
    }
    return false;
}

int message_encode(const struct message *message, uint8_t *out, size_t size, struct error *err)
{
    struct parts parts;
    Kemari__Session__Message wire = KEMARI__SESSION__MESSAGE__INIT;
    if (!fill(message, &parts, &wire))
        return error_set(err, -EINVAL, "message %s with an illegal field",
                         message_kind_name(message->kind));
    return codec_pack(&wire, out, size, err);
}

/* --- decoding --- */

static int take_begin(const Kemari__Session__EpochBegin *in, struct message_epoch_begin *out,
                      struct error *err)
{
    const Kemari__Session__Policy *policy = in->policy;
    if (!epoch_kind_known((int)in->kind))
        return error_set(err, -EBADMSG, "EpochBegin of unknown kind %d", (int)in->kind);
    if (policy && !policy_kind_known((int)policy->kind))
        return error_set(err, -EBADMSG, "EpochBegin with unknown policy %d", (int)policy->kind);
    out->kind = (enum message_epoch_kind)in->kind;
    out->has_policy = policy != NULL;
    if (policy)
        out->policy = (struct message_policy){
            .kind = (enum message_policy_kind)policy->kind,
            .window = policy->window,
            .interval_ns = policy->interval_ns,
            .max_interval_ns = policy->max_interval_ns,
            .dirty_budget_pages = policy->dirty_budget_pages,
            .staging_cap_bytes = policy->staging_cap_bytes,
        };
    return 0;
}

static int take_end(const Kemari__Session__EpochEnd *in, struct message_epoch_end *out,
                    struct error *err)
{
    if (in->digest.len != sizeof(out->digest))
        return error_set(err, -EBADMSG, "EpochEnd with a digest of %zu bytes", in->digest.len);
    if (in->zero_pages > in->pages)
        return error_set(err, -EBADMSG, "EpochEnd with more zero pages than pages");
    out->pages = in->pages;
    out->zero_pages = in->zero_pages;
    out->frames = in->frames;
    out->bytes = in->bytes;
    out->state_bytes = in->state_bytes;
    out->disk_bytes = in->disk_bytes;
    memcpy(out->digest, in->digest.data, sizeof(out->digest));
    return 0;
}

static int take_nack(const Kemari__Session__EpochNack *in, struct message_epoch_nack *out,
                     struct error *err)
{
    if (!nack_reason_known((int)in->reason))
        return error_set(err, -EBADMSG, "EpochNack with unknown reason %d", (int)in->reason);
    out->reason = (enum message_nack_reason)in->reason;
    return codec_take_text(out->text, sizeof(out->text), in->text, false, "EpochNack.text", err);
}

static int take_goodbye(const Kemari__Session__Goodbye *in, struct message_goodbye *out,
                        struct error *err)
{
    if (!goodbye_reason_known((int)in->reason))
        return error_set(err, -EBADMSG, "Goodbye with unknown reason %d", (int)in->reason);
    out->reason = (enum message_goodbye_reason)in->reason;
    out->final = in->final;
    return codec_take_text(out->text, sizeof(out->text), in->text, false, "Goodbye.text", err);
}

static int take_switchover(const Kemari__Session__Switchover *in, struct message_switchover *out,
                           struct error *err)
{
    out->step = (enum message_switchover_step)in->step;
    out->term = in->term;
    out->pause = in->pause_ns;
    const int rc =
        codec_take_text(out->text, sizeof(out->text), in->text, false, "Switchover.text", err);
    if (rc == 0 && !switchover_legal(out))
        return error_set(err, -EBADMSG, "Switchover with an illegal step or field (step %d)",
                         (int)in->step);
    return rc;
}

static int take(const Kemari__Session__Message *wire, struct message *out, struct error *err)
{
    switch (wire->body_case) {
    case KEMARI__SESSION__MESSAGE__BODY_EPOCH_BEGIN:
        out->kind = MESSAGE_EPOCH_BEGIN;
        return take_begin(wire->epoch_begin, &out->epoch_begin, err);
    case KEMARI__SESSION__MESSAGE__BODY_EPOCH_END:
        out->kind = MESSAGE_EPOCH_END;
        return take_end(wire->epoch_end, &out->epoch_end, err);
    case KEMARI__SESSION__MESSAGE__BODY_EPOCH_ACK:
        out->kind = MESSAGE_EPOCH_ACK;
        return 0;
    case KEMARI__SESSION__MESSAGE__BODY_EPOCH_NACK:
        out->kind = MESSAGE_EPOCH_NACK;
        return take_nack(wire->epoch_nack, &out->epoch_nack, err);
    case KEMARI__SESSION__MESSAGE__BODY_APPLIED:
        out->kind = MESSAGE_APPLIED;
        return 0;
    case KEMARI__SESSION__MESSAGE__BODY_RESYNC:
        out->kind = MESSAGE_RESYNC;
        return codec_take_text(out->resync.text, sizeof(out->resync.text), wire->resync->text,
                               false, "Resync.text", err);
    case KEMARI__SESSION__MESSAGE__BODY_GOODBYE:
        out->kind = MESSAGE_GOODBYE;
        return take_goodbye(wire->goodbye, &out->goodbye, err);
    case KEMARI__SESSION__MESSAGE__BODY_ALIVE:
        out->kind = MESSAGE_ALIVE;
        return 0;
    case KEMARI__SESSION__MESSAGE__BODY_SWITCHOVER:
        out->kind = MESSAGE_SWITCHOVER;
        return take_switchover(wire->switchover, &out->switchover, err);
    default:
        return error_set(err, -EBADMSG, "a message of the handshake in a running session");
    }
}

int message_decode(const uint8_t *payload, size_t size, struct message *out, struct error *err)
{
    memset(out, 0, sizeof(*out));
    if (size > MESSAGE_SIZE_MAX)
        return error_set(err, -EBADMSG, "control message of %zu bytes, legal are %d", size,
                         MESSAGE_SIZE_MAX);
    alignas(16) uint8_t bytes[MESSAGE_SCRATCH];
    struct codec_scratch scratch = {.bytes = bytes, .size = sizeof(bytes)};
    Kemari__Session__Message *wire = NULL;
    int rc = codec_unpack(payload, size, &scratch, &wire, err);
    if (rc == 0)
        rc = take(wire, out, err);
    if (rc < 0)
        memset(out, 0, sizeof(*out));
    return rc;
}

/* --- on a link --- */

int message_send(struct link *link, term_t term, epoch_t epoch, const struct message *message,
                 struct error *err)
{
    uint8_t bytes[MESSAGE_SIZE_MAX];
    const int size = message_encode(message, bytes, sizeof(bytes), err);
    if (size < 0)
        return size;
    const struct frame fields = {.type = FRAME_CONTROL, .term = term, .epoch = epoch};
    const struct iovec part = {bytes, (size_t)size};
    return link_send(link, &fields, &part, 1, err);
}

static bool needs_epoch(enum message_kind kind)
{
    return kind != MESSAGE_RESYNC && kind != MESSAGE_GOODBYE && kind != MESSAGE_ALIVE &&
           kind != MESSAGE_SWITCHOVER;
}

int message_receive(struct link *link, const struct frame *header, struct message *out,
                    struct error *err)
{
    memset(out, 0, sizeof(*out));
    if (header->type != FRAME_CONTROL || header->size > MESSAGE_SIZE_MAX)
        return error_set(err, -EBADMSG, "%s: %s frame of %u bytes where a message was expected",
                         link_peer_name(link), frame_type_name(header->type), header->size);
    uint8_t bytes[MESSAGE_SIZE_MAX];
    int rc = link_receive_payload(link, bytes, header->size, err);
    if (rc < 0)
        return rc;
    rc = message_decode(bytes, header->size, out, err);
    if (rc == 0 && needs_epoch(out->kind) && header->epoch == 0) {
        rc = error_set(err, -EBADMSG, "%s without an epoch", message_kind_name(out->kind));
        memset(out, 0, sizeof(*out));
    }
    if (rc < 0)
        error_prefix(err, "%s", link_peer_name(link));
    return rc;
}

const char *message_kind_name(enum message_kind kind)
{
    switch (kind) {
    case MESSAGE_EPOCH_BEGIN:
        return "EpochBegin";
    case MESSAGE_EPOCH_END:
        return "EpochEnd";
    case MESSAGE_EPOCH_ACK:
        return "EpochAck";
    case MESSAGE_EPOCH_NACK:
        return "EpochNack";
    case MESSAGE_APPLIED:
        return "Applied";
    case MESSAGE_RESYNC:
        return "Resync";
    case MESSAGE_GOODBYE:
        return "Goodbye";
    case MESSAGE_ALIVE:
        return "Alive";
    case MESSAGE_SWITCHOVER:
        return "Switchover";
    }
    return "?";
}
