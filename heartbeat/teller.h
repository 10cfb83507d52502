/* Tells the owner what happened, on a thread of its own, in order.
 *
 * The thread that beats must not wait for anybody: an owner that waits for a lock, or for a log
 * line to go into a full pipe, would fall silent and be suspected by its peer. Internal to
 * heartbeat/. */
#ifndef KEMARI_HEARTBEAT_TELLER_H
#define KEMARI_HEARTBEAT_TELLER_H

#include "heartbeat/heartbeat.h"

enum telling_kind {
    TELLING_SUSPECT,
    TELLING_ALIVE,
    TELLING_STOPPING,
    TELLING_STALLED,
    TELLING_PEER,
    TELLING_COUNT,
};

/* One call of a callback. */
struct telling {
    enum telling_kind kind;
    enum detector_reason reason; /* SUSPECT, ALIVE, STOPPING */
    nsec_t at;                   /* SUSPECT */
    nsec_t stalled_for;          /* STALLED */
    struct heartbeat_peer peer;  /* PEER */
};

struct teller;

/* `ops` is copied. */
int teller_create(const struct heartbeat_ops *ops, void *owner, struct teller **out,
                  struct error *err);

/* Starts the thread, at most once; with real-time priority `priority` unless that is 0 or not
 * permitted. */
int teller_start(struct teller *teller, int priority, struct error *err);

/* Queues; never waits for the owner. When the owner is so slow that the queue is full, the oldest
 * news that has been overtaken by newer one of its kind is dropped. */
void teller_post(struct teller *teller, const struct telling *telling);

/* Waits for a callback that runs, drops what is queued, ends the thread. Not from a callback. */
void teller_destroy(struct teller **teller);

#endif
