/* The control messages of a running session, as plain structs. The wire form is the `Message` of
 * proto/session.proto inside a FRAME_CONTROL; term and epoch travel in the frame's header. The
 * messages of the handshake are handshake.h's, and are refused here.
 *
 * Decoding is pure and bounded: no heap, fixed scratch, every enum known, every string bounded and
 * printable. Fields of a newer minor version are skipped. */
#ifndef KEMARI_TRANSPORT_MESSAGE_H
#define KEMARI_TRANSPORT_MESSAGE_H

#include "transport/link.h"

#define MESSAGE_SIZE_MAX    4096 /* payload bytes of any message declared here */
#define MESSAGE_TEXT_MAX    256  /* bytes of a text, including the terminating zero */
#define MESSAGE_DIGEST_SIZE 16

enum message_kind {
    MESSAGE_EPOCH_BEGIN = 1, /* primary → secondary */
    MESSAGE_EPOCH_END,       /* primary → secondary */
    MESSAGE_EPOCH_ACK,       /* secondary → primary: complete, verified, loadable, in memory */
    MESSAGE_EPOCH_NACK, /* secondary → primary: this epoch can't be taken; send it again full */
    MESSAGE_APPLIED,    /* secondary → primary, for information: applied to its memory */
    MESSAGE_RESYNC,     /* secondary → primary: start again with a full synchronisation */
    MESSAGE_GOODBYE,    /* either: an orderly end, no reason for suspicion */
    MESSAGE_ALIVE,      /* primary → secondary: nothing to say, and the connection works */
    MESSAGE_SWITCHOVER, /* either: a step of a planned switchover; needs SESSION_CAP_SWITCHOVER */
};

enum message_epoch_kind { MESSAGE_EPOCH_FULL = 1, MESSAGE_EPOCH_INCREMENTAL };

enum message_nack_reason {
    MESSAGE_NACK_DIGEST = 1, /* contents don't match END's counts or digest */
    MESSAGE_NACK_STATE,      /* the machine state would not load here */
    MESSAGE_NACK_STAGING,    /* would outgrow the staging cap */
    MESSAGE_NACK_PROTOCOL,   /* out of order, a page outside memory, ... */
    MESSAGE_NACK_RESOURCES,  /* out of memory, disk log full, ... */
};

enum message_goodbye_reason {
    MESSAGE_GOODBYE_STOP = 1,   /* an operator stops this side */
    MESSAGE_GOODBYE_SWITCHOVER, /* the peer takes over by agreement */
    MESSAGE_GOODBYE_SUPERSEDED, /* a higher term exists */
    MESSAGE_GOODBYE_ERROR,      /* `text` says what failed */
};

enum message_policy_kind {
    MESSAGE_POLICY_PIPELINED = 1,
    MESSAGE_POLICY_KEMARI,
    MESSAGE_POLICY_INTERVAL,
};

/* Only the kind is checked here; what the numbers may be is known to checkpoint/policy.h. */
struct message_policy {
    enum message_policy_kind kind;
    uint32_t window;
    uint64_t interval_ns;
    uint64_t max_interval_ns;
    uint64_t dirty_budget_pages;
    uint64_t staging_cap_bytes;
};

struct message_epoch_begin {
    enum message_epoch_kind kind;
    bool has_policy;
    struct message_policy policy; /* that holds from this epoch on, once it is committed */
};

struct message_epoch_end {
    uint64_t pages;                      /* in all FRAME_PAGES of the epoch, zero pages included */
    uint64_t zero_pages;                 /* of those, sent as a mark only */
    uint64_t frames;                     /* bulk frames (pages, state, disk) */
    uint64_t bytes;                      /* of their payloads */
    uint64_t state_bytes;                /* of the encoded section set */
    uint64_t disk_bytes;                 /* of the payloads of FRAME_DISK */
    uint8_t digest[MESSAGE_DIGEST_SIZE]; /* over the bulk frames; computed by checkpoint/ */
};

struct message_epoch_nack {
    enum message_nack_reason reason;
    char text[MESSAGE_TEXT_MAX];
};

struct message_resync {
    char text[MESSAGE_TEXT_MAX]; /* why */
};

struct message_goodbye {
    enum message_goodbye_reason reason;
    bool final; /* the sender's guest will never run again under this term */
    char text[MESSAGE_TEXT_MAX];
};

/* In their order; REQUEST and REFUSED are optional. docs/protocol.md tells the whole exchange. */
enum message_switchover_step {
    MESSAGE_SWITCHOVER_REQUEST = 1, /* secondary → primary: an operator wants it */
    MESSAGE_SWITCHOVER_REFUSED,     /* primary → secondary: no, or not any more: `text` */
    MESSAGE_SWITCHOVER_PREPARE,     /* primary → secondary: `term` is for a hand-over only */
    MESSAGE_SWITCHOVER_PREPARED,    /* secondary → primary: understood */
    MESSAGE_SWITCHOVER_TAKE,     /* primary → secondary: the guest stands still at this epoch */
    MESSAGE_SWITCHOVER_TAKEN,    /* secondary → primary: it runs here; directions swap now */
    MESSAGE_SWITCHOVER_RELEASE,  /* primary → secondary: goes on alone: give up what you hold */
    MESSAGE_SWITCHOVER_RELEASED, /* secondary → primary: that is given up */
};

struct message_switchover {
    enum message_switchover_step step;
    term_t term;                 /* PREPARE to TAKEN: the one that is handed over, else 0 */
    uint64_t pause;              /* ns that the guest has stood still so far: TAKE, TAKEN; else 0 */
    char text[MESSAGE_TEXT_MAX]; /* REFUSED; else "" */
};

/* BEGIN, END, ACK, NACK and APPLIED concern the epoch of the frame's header, which is not 0. */
struct message {
    enum message_kind kind;
    union {
        struct message_epoch_begin epoch_begin;
        struct message_epoch_end epoch_end;
        struct message_epoch_nack epoch_nack;
        struct message_resync resync;
        struct message_goodbye goodbye;
        struct message_switchover switchover;
    };
};

/* Bytes written to `out`, or -EINVAL when a field is illegal, -ENOSPC when `size` is too small. */
int message_encode(const struct message *message, uint8_t *out, size_t size, struct error *err);

/* -EBADMSG for anything that isn't one legal message; `out` is zeroed then. */
int message_decode(const uint8_t *payload, size_t size, struct message *out, struct error *err);

/* Encodes and sends one FRAME_CONTROL. Errors as link_send(). */
int message_send(struct link *link, term_t term, epoch_t epoch, const struct message *message,
                 struct error *err);

/* Receives the payload announced by `header` (type FRAME_CONTROL) and decodes it. Errors as
 * link_receive_payload(); -EBADMSG also when the kind needs an epoch and the header has none. */
int message_receive(struct link *link, const struct frame *header, struct message *out,
                    struct error *err);

/* "EpochBegin", ...; "?" for no known kind. Static. */
const char *message_kind_name(enum message_kind kind);

#endif
