/* A fault laid at a step of the replication protocol: "before the first PAGES frame of the fourth
 * epoch", on the link of either host.
 *
 *   struct protocol_fault fault = {.step = {.epoch = 4, .what = PROTOCOL_PAGES, .nth = 1},
 *                                  .kind = FAULT_CUT, .primary_side = true};
 *   protocol_fault_wrap(&fault, &ends[0]);
 *
 * LINKS fault_link. */
#ifndef KEMARI_TEST_SUPPORT_PROTOCOL_FAULT_H
#define KEMARI_TEST_SUPPORT_PROTOCOL_FAULT_H

#include <stdatomic.h>

#include "test/support/fault_link.h"

/* Epochs of a link are counted from 1. */
#define PROTOCOL_EPOCH_FULL  1 /* the synchronisation */
#define PROTOCOL_EPOCH_FIRST 2 /* the first commit */

enum protocol_what {
    PROTOCOL_BEGIN,
    PROTOCOL_PAGES,
    PROTOCOL_DISK,
    PROTOCOL_STATE,
    PROTOCOL_END,
    PROTOCOL_ACK
};

struct protocol_step {
    unsigned epoch; /* the first such frame of this epoch or a later one: not all have pages */
    enum protocol_what what;
    unsigned nth; /* frame of that kind in its epoch, from 1; 1 for ACK */
};

struct protocol_fault {
    /* Set by the test. */
    struct protocol_step step;
    enum fault_kind kind;
    uint64_t at_byte;  /* of the frame */
    bool primary_side; /* wrapped is the primary's end, else the secondary's */

    /* Inside: one thread of the link's, that of the step's direction. */
    struct link *link;
    uint64_t frames; /* of that direction */
    epoch_t number;  /* of the epoch in progress */
    unsigned epochs;
    unsigned in_epoch[PROTOCOL_ACK + 1];
    atomic_uint hit;
};

/* Replaces `*end`, a fresh link, by one with the fault in it. The fault outlives the link. */
void protocol_fault_wrap(struct protocol_fault *fault, struct link **end);

/* The epoch of the link in which it happened; 0: not yet. Any thread. */
unsigned protocol_fault_hit(const struct protocol_fault *fault);

const char *protocol_what_name(enum protocol_what what);

#endif
