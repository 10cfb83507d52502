/* The handshake: see transport/session.h for the sequence and what it promises.
 *
 * Both sides feed the payload of every message into a transcript, in the order of the wire; a proof
 * covers the transcript so far. The verdict's body is fed as sent, so that nobody depends on how
 * protobuf would pack it again. */
#include "transport/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/codec.h"
#include "transport/handshake.h"
#include "transport/party.h"

/* One handshake under way. Large, on the heap. */
struct exchange {
    struct link *link;
    const struct session_config *config;
    struct session *out;
    struct transcript transcript;
    struct handshake message; /* the one to send, or the one received */
    size_t size;              /* of it, as it travels */
    uint8_t bytes[FRAME_CONTROL_MAX];
};

static int add_to_transcript(struct exchange *x, struct error *err)
{
    return transcript_add(&x->transcript, x->bytes, x->size, err);
}

/* Packs and sends x->message, and adds it to the transcript. */
static int say(struct exchange *x, enum handshake_kind kind, struct error *err)
{
    x->message.kind = kind;
    int rc = handshake_encode(&x->message, x->bytes, sizeof(x->bytes), err);
    if (rc < 0)
        return rc;
    x->size = (size_t)rc;
    const struct frame fields = {.type = FRAME_CONTROL};
    const struct iovec part = {x->bytes, x->size};
    rc = link_send(x->link, &fields, &part, 1, err);
    return rc < 0 ? rc : add_to_transcript(x, err);
}

/* Receives a message into x->message; not yet in the transcript. */
static int hear(struct exchange *x, struct error *err)
{
    struct frame header;
    int rc = link_receive_header(x->link, &header, err);
    if (rc < 0)
        return rc;
    if (header.type != FRAME_CONTROL || header.term || header.epoch)
        return error_set(err, -EPROTO, "a %s frame in the middle of the handshake",
                         frame_type_name(header.type));
    rc = link_receive_payload(x->link, x->bytes, header.size, err);
    if (rc < 0)
        return rc;
    x->size = header.size;
    return handshake_decode(x->bytes, x->size, &x->message, err);
}

static int unexpected(const struct exchange *x, enum handshake_kind wanted, struct error *err)
{
    return error_set(err, -EPROTO, "the peer sent %s where %s was expected",
                     handshake_kind_name(x->message.kind), handshake_kind_name(wanted));
}

/* The error for a judgement of ours. */
static int judged(struct exchange *x, enum session_reason reason, struct error *err)
{
    x->out->reason = reason;
    const int code = reason == SESSION_HIGHER_TERM ? -ESTALE : -ECONNREFUSED;
    if (err)
        err->code = code;
    error_prefix(err, "refused (%s)", session_reason_name(reason));
    return code;
}

/* Fills in what both sides know once they agree. */
static void agree(const struct session_config *config, struct session *out)
{
    const struct session_party *local = &config->local;
    const struct session_party *peer = &out->peer;
    out->term = local->role == SESSION_PRIMARY ? local->term : peer->term;
    out->minor = local->minor < peer->minor ? local->minor : peer->minor;
    out->capabilities = local->capabilities & peer->capabilities;
    out->staging_cap =
        local->staging_cap < peer->staging_cap ? local->staging_cap : peer->staging_cap;
    out->streams = local->streams < peer->streams ? local->streams : peer->streams;
    out->reason = SESSION_OK;
}

/* Secures the connection and ties the proofs to it: who splices two connections together has two
 * bindings, and neither proof fits the other. */
static int secure(struct exchange *x, struct error *err)
{
    const int rc = link_establish(x->link, err);
    const struct link_security *security = link_security(x->link);
    if (rc == -EKEYREJECTED)
        x->out->reason = SESSION_KEY;
    if (rc < 0 || !security->encrypted)
        return rc;
    return transcript_add(&x->transcript, security->binding, sizeof(security->binding), err);
}

/* --- connector --- */

/* A refusal without proof may say only what concerns the time before the proof: anything else, a
 * higher term above all, could be a stranger's. */
static int refused_without_proof(struct exchange *x, struct error *err)
{
    const enum session_reason reason = x->message.reason;
    if (reason != SESSION_VERSION && reason != SESSION_KEY)
        return error_set(err, -EPROTO, "the peer refused (%s) without a proof",
                         session_reason_name(reason));
    x->out->reason = reason;
    return error_set(err, reason == SESSION_KEY ? -EKEYREJECTED : -ECONNREFUSED,
                     "the peer refused (%s): %s", session_reason_name(reason), x->message.text);
}

static int connector_hello(struct exchange *x, struct error *err)
{
    const int rc = proof_nonce(x->message.nonce, err);
    if (rc < 0)
        return rc;
    x->message.party = x->config->local;
    return say(x, HANDSHAKE_HELLO, err);
}

static int connector_prove(struct exchange *x, struct error *err)
{
    int rc = hear(x, err);
    if (rc < 0)
        return rc;
    if (x->message.kind == HANDSHAKE_REFUSE)
        return refused_without_proof(x, err);
    if (x->message.kind != HANDSHAKE_CHALLENGE)
        return unexpected(x, HANDSHAKE_CHALLENGE, err);
    rc = add_to_transcript(x, err);
    if (rc == 0)
        rc = proof_make(x->config->key, PROOF_CONNECTOR, &x->transcript, x->message.hmac, err);
    return rc < 0 ? rc : say(x, HANDSHAKE_PROOF, err);
}

/* Receives the verdict, verifies its proof and leaves its body, decoded, in x->message. */
static int connector_hear_verdict(struct exchange *x, struct error *err)
{
    int rc = hear(x, err);
    if (rc < 0)
        return rc;
    if (x->message.kind == HANDSHAKE_REFUSE)
        return refused_without_proof(x, err);
    if (x->message.kind != HANDSHAKE_VERDICT)
        return unexpected(x, HANDSHAKE_VERDICT, err);
    memcpy(x->bytes, x->message.body, x->message.body_size);
    x->size = x->message.body_size;
    uint8_t expected[PROOF_SIZE];
    rc = add_to_transcript(x, err);
    memcpy(x->out->id, x->transcript.digest, SESSION_ID_SIZE);
    if (rc == 0)
        rc = proof_make(x->config->key, PROOF_LISTENER, &x->transcript, expected, err);
    if (rc < 0)
        return rc;
    if (!proof_equal(expected, x->message.hmac)) {
        x->out->reason = SESSION_KEY;
        return error_set(err, -EKEYREJECTED, "the peer does not hold this pair's secret");
    }
    return handshake_decode(x->bytes, x->size, &x->message, err);
}

static int connector_conclude(struct exchange *x, struct error *err)
{
    if (x->message.kind == HANDSHAKE_REFUSE) {
        x->out->reason = x->message.reason;
        return error_set(err, x->message.reason == SESSION_HIGHER_TERM ? -ESTALE : -ECONNREFUSED,
                         "the peer refused (%s): %s", session_reason_name(x->message.reason),
                         x->message.text);
    }
    if (x->message.kind != HANDSHAKE_WELCOME)
        return unexpected(x, HANDSHAKE_WELCOME, err);
    x->out->peer = x->message.party;
    const enum session_reason reason = session_judge(&x->config->local, &x->out->peer, err);
    return reason == SESSION_OK ? 0 : judged(x, reason, err);
}

static int run_connector(struct exchange *x, struct error *err)
{
    int rc = connector_hello(x, err);
    if (rc == 0)
        rc = connector_prove(x, err);
    if (rc == 0)
        rc = connector_hear_verdict(x, err);
    if (rc == 0)
        rc = connector_conclude(x, err);
    return rc;
}

/* --- listener --- */

/* Tells a peer that has not proved anything why it is refused. The peer may be gone: that is no
 * news. */
static void refuse_openly(struct exchange *x, enum session_reason reason, const char *text)
{
    x->message.reason = reason;
    codec_make_printable(x->message.text, sizeof(x->message.text), text);
    say(x, HANDSHAKE_REFUSE, NULL);
}

static int listener_hear_hello(struct exchange *x, struct error *err)
{
    int rc = hear(x, err);
    if (rc < 0)
        return rc;
    if (x->message.kind != HANDSHAKE_HELLO)
        return unexpected(x, HANDSHAKE_HELLO, err);
    x->out->peer = x->message.party;
    if (x->out->peer.major == x->config->local.major)
        return add_to_transcript(x, err);
    struct error theirs = {0};
    session_judge(&x->out->peer, &x->config->local, &theirs);
    refuse_openly(x, SESSION_VERSION, theirs.text);
    return judged(x, session_judge(&x->config->local, &x->out->peer, err), err);
}

static int listener_challenge(struct exchange *x, struct error *err)
{
    const int rc = proof_nonce(x->message.nonce, err);
    return rc < 0 ? rc : say(x, HANDSHAKE_CHALLENGE, err);
}

static int listener_hear_proof(struct exchange *x, struct error *err)
{
    uint8_t expected[PROOF_SIZE];
    int rc = proof_make(x->config->key, PROOF_CONNECTOR, &x->transcript, expected, err);
    if (rc == 0)
        rc = hear(x, err);
    if (rc < 0)
        return rc;
    if (x->message.kind != HANDSHAKE_PROOF)
        return unexpected(x, HANDSHAKE_PROOF, err);
    if (proof_equal(expected, x->message.hmac))
        return add_to_transcript(x, err);
    refuse_openly(x, SESSION_KEY, "this host does not hold the peer's secret");
    x->out->reason = SESSION_KEY;
    return error_set(err, -EKEYREJECTED, "the peer does not hold this pair's secret");
}

/* Seals what x->message says, a Welcome or a Refuse, and sends it. */
static int listener_send_verdict(struct exchange *x, enum handshake_kind kind, struct error *err)
{
    x->message.kind = kind;
    int rc = handshake_encode(&x->message, x->bytes, sizeof(x->message.body), err);
    if (rc < 0)
        return rc;
    x->size = (size_t)rc;
    memcpy(x->message.body, x->bytes, x->size);
    x->message.body_size = x->size;
    rc = add_to_transcript(x, err);
    memcpy(x->out->id, x->transcript.digest, SESSION_ID_SIZE);
    if (rc == 0)
        rc = proof_make(x->config->key, PROOF_LISTENER, &x->transcript, x->message.hmac, err);
    return rc < 0 ? rc : say(x, HANDSHAKE_VERDICT, err);
}

/* May the proved peer, who would be welcome, come in now? */
static enum session_reason admit(const struct session_config *config,
                                 const struct session_party *peer, struct error *why)
{
    if (peer->stream)
        return config->join && config->join(config->admit_context, peer) ? SESSION_OK
                                                                         : SESSION_BUSY;
    return config->admit ? config->admit(config->admit_context, peer, why) : SESSION_OK;
}

/* Judges the proved peer and says so to it, in its own words: its view is the mirror of ours. */
static int listener_conclude(struct exchange *x, struct error *err)
{
    const struct session_config *config = x->config;
    struct error theirs = {0};
    enum session_reason reason = session_judge(&config->local, &x->out->peer, err);
    if (reason != SESSION_OK) {
        x->message.reason = session_judge(&x->out->peer, &config->local, &theirs);
    } else {
        reason = x->message.reason = admit(config, &x->out->peer, &theirs);
        if (reason == SESSION_BUSY)
            error_set(&theirs, -ECONNREFUSED, "peer has a partner already");
        if (reason != SESSION_OK)
            error_set(err, -ECONNREFUSED, "%s",
                      reason == SESSION_BUSY ? "this host has a partner already" : theirs.text);
    }
    if (reason != SESSION_OK) {
        codec_make_printable(x->message.text, sizeof(x->message.text), theirs.text);
        listener_send_verdict(x, HANDSHAKE_REFUSE, NULL);
        return judged(x, reason, err);
    }
    x->message.party = config->local;
    return listener_send_verdict(x, HANDSHAKE_WELCOME, err);
}

static int run_listener(struct exchange *x, struct error *err)
{
    int rc = listener_hear_hello(x, err);
    if (rc == 0)
        rc = listener_challenge(x, err);
    if (rc == 0)
        rc = listener_hear_proof(x, err);
    if (rc == 0)
        rc = listener_conclude(x, err);
    return rc;
}

/* --- either --- */

static int run(struct link *link, const struct session_config *config,
               int (*side)(struct exchange *, struct error *), struct session *out,
               struct error *err)
{
    memset(out, 0, sizeof(*out));
    assert(config->timeout_ms > 0);
    int rc = party_validate(&config->local, err);
    if (rc < 0)
        return rc;
    struct exchange *x = calloc(1, sizeof(*x));
    if (!x)
        return error_set(err, -ENOMEM, "no memory for a handshake");
    x->link = link;
    x->config = config;
    x->out = out;
    link_set_deadline(link, clock_now() + MSEC(config->timeout_ms));
    rc = secure(x, err);
    if (rc == 0)
        rc = side(x, err);
    link_set_deadline(link, 0);
    free(x);
    if (rc == 0) {
        agree(config, out);
        link_trust(link);
    } else {
        error_prefix(err, "handshake with %s", link_peer_name(link));
    }
    return rc;
}

int session_connect(struct link *link, const struct session_config *config, struct session *out,
                    struct error *err)
{
    return run(link, config, run_connector, out, err);
}

int session_accept(struct link *link, const struct session_config *config, struct session *out,
                   struct error *err)
{
    return run(link, config, run_listener, out, err);
}
