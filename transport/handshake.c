/* Handshake messages between structs and protobuf: see transport/handshake.h. */
#include "transport/handshake.h"

#include <errno.h>
#include <string.h>

#include "transport/codec.h"
#include "transport/party.h"

_Static_assert((int)SESSION_PRIMARY == KEMARI__SESSION__ROLE__ROLE_PRIMARY &&
                   (int)SESSION_SECONDARY == KEMARI__SESSION__ROLE__ROLE_SECONDARY,
               "roles");
_Static_assert((int)SESSION_VERSION == KEMARI__SESSION__REFUSE_REASON__REFUSE_VERSION &&
                   (int)SESSION_TURN == KEMARI__SESSION__REFUSE_REASON__REFUSE_TURN,
               "reasons to refuse");

/* Protobuf's side of a message to send. */
struct parts {
    Kemari__Session__Slot slots[SESSION_SLOTS_MAX];
    Kemari__Session__Slot *slot_list[SESSION_SLOTS_MAX];
    Kemari__Session__Party party;
    char text[MESSAGE_TEXT_MAX];
    union {
        Kemari__Session__Hello hello;
        Kemari__Session__Challenge challenge;
        Kemari__Session__Proof proof;
        Kemari__Session__Verdict verdict;
        Kemari__Session__Welcome welcome;
        Kemari__Session__Refuse refuse;
    };
};

/* --- encoding --- */

static ProtobufCBinaryData view(uint8_t *bytes, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = bytes};
}

static int fill_party(struct session_party *in, struct parts *parts, struct error *err)
{
    const int rc = party_validate(in, err);
    if (rc < 0)
        return rc;
    Kemari__Session__Party *out = &parts->party;
    kemari__session__party__init(out);
    out->major = in->major;
    out->minor = in->minor;
    out->role = (Kemari__Session__Role)in->role;
    out->term = in->term;
    out->vm_name = in->vm_name;
    out->host = in->host;
    out->identity = in->identity;
    out->memory_size = in->memory_size;
    out->staging_cap = in->staging_cap;
    out->capabilities = in->capabilities;
    out->life = in->life;
    out->streams = in->streams > 1 ? in->streams : 0;
    out->stream = in->stream;
    if (in->stream)
        out->session = view(in->joins, SESSION_ID_SIZE);
    for (uint32_t i = 0; i < in->slot_count; i++) {
        kemari__session__slot__init(&parts->slots[i]);
        parts->slots[i].gpa = in->slots[i].gpa;
        parts->slots[i].size = in->slots[i].size;
        parts->slot_list[i] = &parts->slots[i];
    }
    out->n_slots = in->slot_count;
    out->slots = parts->slot_list;
    return 0;
}

static int fill(struct handshake *in, struct parts *parts, Kemari__Session__Message *wire,
                struct error *err)
{
    switch (in->kind) {
    case HANDSHAKE_HELLO:
        kemari__session__hello__init(&parts->hello);
        parts->hello.party = &parts->party;
        parts->hello.nonce = view(in->nonce, PROOF_SIZE);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_HELLO;
        wire->hello = &parts->hello;
        return fill_party(&in->party, parts, err);
    case HANDSHAKE_CHALLENGE:
        kemari__session__challenge__init(&parts->challenge);
        parts->challenge.nonce = view(in->nonce, PROOF_SIZE);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_CHALLENGE;
        wire->challenge = &parts->challenge;
        return 0;
    case HANDSHAKE_PROOF:
        kemari__session__proof__init(&parts->proof);
        parts->proof.hmac = view(in->hmac, PROOF_SIZE);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_PROOF;
        wire->proof = &parts->proof;
        return 0;
    case HANDSHAKE_VERDICT:
        kemari__session__verdict__init(&parts->verdict);
        parts->verdict.body = view(in->body, in->body_size);
        parts->verdict.hmac = view(in->hmac, PROOF_SIZE);
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_VERDICT;
        wire->verdict = &parts->verdict;
        return 0;
    case HANDSHAKE_WELCOME:
        kemari__session__welcome__init(&parts->welcome);
        parts->welcome.party = &parts->party;
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_WELCOME;
        wire->welcome = &parts->welcome;
        return fill_party(&in->party, parts, err);
    case HANDSHAKE_REFUSE:
        codec_make_printable(parts->text, sizeof(parts->text), in->text);
        kemari__session__refuse__init(&parts->refuse);
        parts->refuse.reason = (Kemari__Session__RefuseReason)in->reason;
        parts->refuse.text = parts->text;
        wire->body_case = KEMARI__SESSION__MESSAGE__BODY_REFUSE;
        wire->refuse = &parts->refuse;
        return 0;
    }
    return error_set(err, -EINVAL, "handshake message of unknown kind %d", (int)in->kind);
}

int handshake_encode(struct handshake *message, uint8_t *out, size_t size, struct error *err)
{
    struct parts parts;
    Kemari__Session__Message wire = KEMARI__SESSION__MESSAGE__INIT;
    const int rc = fill(message, &parts, &wire, err);
    return rc < 0 ? rc : codec_pack(&wire, out, size, err);
}

/* --- decoding --- */

/* A peer that knows of no streams says nothing of them, and has one. */
static int take_stream(const Kemari__Session__Party *in, struct session_party *out,
                       struct error *err)
{
    out->streams = in->streams == 0                    ? 1
                   : in->streams < SESSION_STREAMS_MAX ? in->streams
                                                       : SESSION_STREAMS_MAX;
    out->stream = in->stream;
    if (in->session.len != (in->stream ? SESSION_ID_SIZE : 0))
        return error_set(err, -EBADMSG, "stream %u of a session named by %zu bytes", in->stream,
                         in->session.len);
    if (in->stream)
        memcpy(out->joins, in->session.data, SESSION_ID_SIZE);
    return 0;
}

static int take_party(const Kemari__Session__Party *in, struct session_party *out,
                      struct error *err)
{
    if (!in)
        return error_set(err, -EBADMSG, "handshake without a party");
    out->major = in->major;
    out->minor = in->minor;
    if (in->major != SESSION_MAJOR)
        return 0;
    if (in->n_slots > SESSION_SLOTS_MAX)
        return error_set(err, -EBADMSG, "%zu memory slots, legal are 1 to %d", in->n_slots,
                         SESSION_SLOTS_MAX);
    out->role = (enum session_role)in->role;
    out->term = in->term;
    out->memory_size = in->memory_size;
    out->staging_cap = in->staging_cap;
    out->capabilities = in->capabilities;
    out->life = in->life;
    out->slot_count = (uint32_t)in->n_slots;
    for (size_t i = 0; i < in->n_slots; i++)
        out->slots[i] = (struct session_slot){in->slots[i]->gpa, in->slots[i]->size};
    int rc = take_stream(in, out, err);
    if (rc == 0)
        rc = codec_take_text(out->vm_name, sizeof(out->vm_name), in->vm_name, false,
                             "the machine's name", err);
    if (rc == 0)
        rc = codec_take_text(out->host, sizeof(out->host), in->host, false, "the host's name", err);
    if (rc == 0)
        rc = codec_take_text(out->identity, sizeof(out->identity), in->identity, true,
                             "the machine's identity", err);
    if (rc == 0 && party_validate(out, err) < 0) {
        error_prefix(err, "party");
        rc = -EBADMSG;
    }
    return rc;
}

static int take_fixed(const ProtobufCBinaryData *in, uint8_t *out, const char *what,
                      struct error *err)
{
    if (in->len != PROOF_SIZE)
        return error_set(err, -EBADMSG, "%s of %zu bytes, legal are %d", what, in->len, PROOF_SIZE);
    memcpy(out, in->data, PROOF_SIZE);
    return 0;
}

static int take_verdict(const Kemari__Session__Verdict *in, struct handshake *out,
                        struct error *err)
{
    if (in->body.len == 0 || in->body.len > sizeof(out->body))
        return error_set(err, -EBADMSG, "Verdict with a body of %zu bytes", in->body.len);
    out->body_size = in->body.len;
    memcpy(out->body, in->body.data, in->body.len);
    return take_fixed(&in->hmac, out->hmac, "Verdict.hmac", err);
}

static int take_refuse(const Kemari__Session__Refuse *in, struct handshake *out, struct error *err)
{
    if ((int)in->reason < SESSION_VERSION || (int)in->reason > SESSION_TURN)
        return error_set(err, -EBADMSG, "Refuse with unknown reason %d", (int)in->reason);
    out->reason = (enum session_reason)in->reason;
    return codec_take_text(out->text, sizeof(out->text), in->text, false, "Refuse.text", err);
}

static int take(const Kemari__Session__Message *wire, struct handshake *out, struct error *err)
{
    int rc;
    switch (wire->body_case) {
    case KEMARI__SESSION__MESSAGE__BODY_HELLO:
        out->kind = HANDSHAKE_HELLO;
        rc = take_party(wire->hello->party, &out->party, err);
        if (rc == 0 && out->party.major == SESSION_MAJOR)
            rc = take_fixed(&wire->hello->nonce, out->nonce, "Hello.nonce", err);
        return rc;
    case KEMARI__SESSION__MESSAGE__BODY_CHALLENGE:
        out->kind = HANDSHAKE_CHALLENGE;
        return take_fixed(&wire->challenge->nonce, out->nonce, "Challenge.nonce", err);
    case KEMARI__SESSION__MESSAGE__BODY_PROOF:
        out->kind = HANDSHAKE_PROOF;
        return take_fixed(&wire->proof->hmac, out->hmac, "Proof.hmac", err);
    case KEMARI__SESSION__MESSAGE__BODY_VERDICT:
        out->kind = HANDSHAKE_VERDICT;
        return take_verdict(wire->verdict, out, err);
    case KEMARI__SESSION__MESSAGE__BODY_WELCOME:
        out->kind = HANDSHAKE_WELCOME;
        return take_party(wire->welcome->party, &out->party, err);
    case KEMARI__SESSION__MESSAGE__BODY_REFUSE:
        out->kind = HANDSHAKE_REFUSE;
        return take_refuse(wire->refuse, out, err);
    default:
        return error_set(err, -EBADMSG, "a message that has no place in the handshake");
    }
}

int handshake_decode(const uint8_t *payload, size_t size, struct handshake *out, struct error *err)
{
    memset(out, 0, offsetof(struct handshake, body));
    if (size > FRAME_CONTROL_MAX)
        return error_set(err, -EBADMSG, "handshake message of %zu bytes", size);
    struct codec_scratch scratch = {.bytes = out->scratch, .size = sizeof(out->scratch)};
    Kemari__Session__Message *wire = NULL;
    int rc = codec_unpack(payload, size, &scratch, &wire, err);
    if (rc == 0)
        rc = take(wire, out, err);
    if (rc < 0) {
        memset(out, 0, offsetof(struct handshake, body));
        if (err)
            err->code = rc;
    }
    return rc;
}

const char *handshake_kind_name(enum handshake_kind kind)
{
    static const char *const names[] = {"?",       "Hello",   "Challenge", "Proof",
                                        "Verdict", "Welcome", "Refuse"};
    return (unsigned)kind < ARRAY_SIZE(names) ? names[kind] : "?";
}
