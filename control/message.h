/* Requests and replies of the control socket: plain structs ↔ bytes of proto/control.proto.
 *
 * A frame is a little-endian u32 length and that many bytes of one protobuf message. Decoders are
 * pure and bounded; encoders allocate the frame. */
#ifndef KEMARI_CONTROL_MESSAGE_H
#define KEMARI_CONTROL_MESSAGE_H

#include "base/error.h"
#include "control/console.h"
#include "control/events.h"
#include "control/policy.h"
#include "control/status.h"

#define CONTROL_PROTOCOL_VERSION 1
#define CONTROL_PREFIX_SIZE      4
#define CONTROL_REQUEST_MAX      (64u << 10) /* bytes of a request without its prefix */
#define CONTROL_REPLY_MAX        (1u << 20)

enum control_verb {
    CONTROL_VERB_UNKNOWN, /* of a newer kemarictl */
    CONTROL_VERB_PING,
    CONTROL_VERB_STATUS,
    CONTROL_VERB_FAILOVER,
    CONTROL_VERB_SWITCHOVER,
    CONTROL_VERB_STOP,
    CONTROL_VERB_EVENTS,
    CONTROL_VERB_GRANT,
    CONTROL_VERB_DENY,
    CONTROL_VERB_DUMP,
    CONTROL_VERB_POLICY,     /* read */
    CONTROL_VERB_SET_POLICY, /* change */
    CONTROL_VERB_FREEZE,
    CONTROL_VERB_CHECKPOINT,
    CONTROL_VERB_CONSOLE,
    CONTROL_VERB_UNPROTECT,
    CONTROL_VERB_PROTECT,
};

struct control_request {
    enum control_verb verb;
    uint64_t since;               /* events, console */
    bool follow;                  /* events */
    int64_t since_wall_ns;        /* events; 0: by `since` */
    term_t term;                  /* grant, deny; 0: whichever is asked */
    char file[CONTROL_NAME_MAX];  /* dump: a name, to be judged by who makes the file */
    struct control_policy policy; /* set_policy: what is to change */
    uint64_t duration_ns;         /* freeze */
    size_t typed_size;            /* console */
    uint8_t typed[CONTROL_TYPED_MAX];
};

enum control_reply_kind {
    CONTROL_REPLY_DONE,
    CONTROL_REPLY_REFUSED,
    CONTROL_REPLY_PONG,
    CONTROL_REPLY_STATUS,
    CONTROL_REPLY_EVENT,
    CONTROL_REPLY_END_OF_EVENTS,
    CONTROL_REPLY_POLICY,
    CONTROL_REPLY_CONSOLE,
};

struct control_console_reply {
    uint64_t next;
    uint32_t typed;
    size_t size; /* of `said` */
    uint8_t said[CONTROL_CONSOLE_PART];
};

struct control_reply {
    enum control_reply_kind kind;
    int code;                              /* refused: negative errno */
    char text[ERROR_TEXT_MAX];             /* done, refused */
    char daemon_version[CONTROL_NAME_MAX]; /* pong */
    char vm[CONTROL_NAME_MAX];             /* pong */
    uint32_t pid;                          /* pong */
    uint64_t last_id;                      /* end of events */
    union {
        struct control_status status;
        struct control_event event;
        struct control_policy policy;
        struct control_console_reply console;
    };
};

/* Length that the prefix announces; 0 when it is out of 1..max. */
size_t control_frame_length(const uint8_t prefix[CONTROL_PREFIX_SIZE], size_t max);

/* Encoders give a whole frame, prefix included, in *frame, which the caller frees. 0 or -ENOMEM. */
int control_request_encode(const struct control_request *request, uint8_t **frame, size_t *size);
int control_reply_encode(const struct control_reply *reply, uint8_t **frame, size_t *size);

/* Decoders take the bytes after the prefix. -EBADMSG for garbage, -EPROTONOSUPPORT for another
 * protocol version. A request of a kind we don't know is CONTROL_VERB_UNKNOWN, not an error. */
int control_request_decode(const uint8_t *bytes, size_t size, struct control_request *request,
                           struct error *err);
int control_reply_decode(const uint8_t *bytes, size_t size, struct control_reply *reply,
                         struct error *err);

#endif
