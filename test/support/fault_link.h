/* A link that misbehaves on purpose, laid around another one: the rules say where and how. Layers
 * can be stacked. Deterministic: positions are frame and byte numbers, the seed decides the rest.
 *
 * Positions count per direction, from the moment of wrapping: the first frame is 1, the first byte
 * 0 (headers included). A rule acts once, except DELAY and SHORT, which act from there on. */
#ifndef KEMARI_TEST_SUPPORT_FAULT_LINK_H
#define KEMARI_TEST_SUPPORT_FAULT_LINK_H

#include "transport/link.h"

enum fault_direction { FAULT_SEND = 1, FAULT_RECEIVE = 2 };

enum fault_kind {
    FAULT_CUT,   /* the connection breaks (both directions) before the frame, or at the byte: the
                    bytes before it have been delivered, so the peer sees a truncated frame */
    FAULT_FLIP,  /* one bit of the byte at `at_byte` is inverted; the seed chooses the bit */
    FAULT_STALL, /* nothing moves any more in that direction, and no error but the caller's own
                    time-out, until fault_link_release(): a peer or path that went silent */
    FAULT_DELAY, /* every frame from `at_frame` on waits `delay_ms` */
    FAULT_SHORT, /* sending: from there on bytes are passed on in pieces of 1..7 bytes */
};

struct fault_rule {
    enum fault_direction direction;
    enum fault_kind kind;
    uint64_t at_frame; /* from 1; 0: by byte */
    uint64_t at_byte;  /* used when at_frame is 0; with at_frame, counted inside that frame */
    unsigned delay_ms; /* FAULT_DELAY */
};

/* Called with every frame before it is passed on (send: before any byte; receive: when its header
 * is complete, before the caller gets it), on the thread that sends or receives. May call
 * fault_link_cut(), or end the process. `message` is the kind of a control message
 * (enum message_kind), 0 for another frame, a handshake message or, when receiving, not known. */
typedef void fault_hook(void *context, enum fault_direction direction, const struct frame *frame,
                        int message);

#define FAULT_RULES_MAX 16

/* Takes over `*inner` (sets it to NULL; the fault link destroys it). The inner link must be fresh:
 * no frame has travelled on it. */
struct link *fault_link_wrap(struct link **inner, uint64_t seed);

/* Adds a rule; before or during use. */
void fault_link_add(struct link *link, struct fault_rule rule);

/* Before use. */
void fault_link_set_hook(struct link *link, fault_hook *hook, void *context);

/* Breaks the connection now. Any thread, also from a hook. */
void fault_link_cut(struct link *link);

/* Ends all stalls; what was held back goes on. */
void fault_link_release(struct link *link);

/* Waits until a stall holds somebody. False after `timeout_ms`. */
bool fault_link_wait_stalled(struct link *link, unsigned timeout_ms);

#endif
