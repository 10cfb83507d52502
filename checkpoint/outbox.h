/* The outbox: where the guest's output waits until the epoch that produced it is committed.
 *
 * This is promise P1 (output commit). Everything that the guest says goes through outbox_put();
 * nothing leaves except by outbox_release(n), which is called when, and only when, the secondary
 * has acknowledged epoch n, or by outbox_open(), which needs an arbiter's grant (DESIGN §4.5, §6).
 *
 *                    put                        cut(n)                     release(n)
 *        guest ───────────► gathering (epoch n) ─────► waiting for ack(n) ───────────► emit
 *
 *   HOLDING ──open (solo grant)──► OPEN ──hold (a standby is about to commit)──► HOLDING
 *      │
 *      └──discard (fenced)──► DISCARDING, for good
 *
 * Order is kept over all ports. Memory is capped: `outbox_is_full` tells the engine to park the
 * guest, at which point nothing more arrives; what still comes beyond the cap is dropped for
 * packets (a network may) and kept for consoles up to a reserve. Orders, of a few bytes, are kept.
 *
 * Threads: put on any thread, orders also while the guest is parked; cut, open, hold on the
 * engine's; release on the thread that receives acknowledgements. One lock inside; emit runs
 * outside of it but serialised by a second one, so a slow tap never blocks a vCPU that only wants
 * to put. */
#ifndef KEMARI_CHECKPOINT_OUTBOX_H
#define KEMARI_CHECKPOINT_OUTBOX_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/histogram.h"
#include "base/types.h"

struct outbox;

/* What is put. */
enum outbox_kind {
    OUTBOX_STREAM, /* bytes of a console: kept up to a reserve beyond the cap */
    OUTBOX_PACKET, /* may be dropped */
    OUTBOX_NOTICE, /* a packet that the guest did not say: the same rules, but not measured */
    /* An order to carry out what the guest waits for, a write to a shared disk: never dropped,
     * whatever the cap, except by a discard. Who puts it bounds how many there are. */
    OUTBOX_ORDER,
    /* One that nobody waits for: it asks for no checkpoint, and isn't measured. */
    OUTBOX_LAZY_ORDER,
};

enum outbox_mode { OUTBOX_HOLDING, OUTBOX_OPEN, OUTBOX_DISCARDING };

struct outbox_config {
    size_t cap_bytes; /* of held payload; at least OUTBOX_CAP_MIN */
    void (*emit)(void *context, uint32_t port, const uint8_t *data, size_t size);
    /* Asked before each piece that a release lets out; false: it stays, and so does what follows.
     * NULL: yes. On the releasing thread, without `lock`. */
    bool (*may_emit)(void *context);
    /* Called, without locks held, when output arrives while none was gathering: the trigger. */
    void (*wake)(void *context);
    void *context;
};

#define OUTBOX_CAP_MIN ((size_t)1 << 20)

struct outbox_stats {
    enum outbox_mode mode;
    size_t held_bytes;
    size_t held_items;
    uint64_t released_items;
    uint64_t released_bytes;
    uint64_t dropped_items;       /* beyond the cap */
    epoch_t released_epoch;       /* the last released */
    nsec_t last_emit;             /* clock_now() of the last emit; 0 when none */
    nsec_t first_emit_after_open; /* of the guest's, for the promotion record; 0 when none */
    struct histogram hold;        /* ns from put to emit, held items only */
};

/* Starts HOLDING, gathering for `first_epoch`. */
int outbox_create(const struct outbox_config *config, epoch_t first_epoch, struct outbox **out,
                  struct error *err);
void outbox_destroy(struct outbox **outbox);

/* Takes a copy of one piece of output. */
void outbox_put(struct outbox *outbox, uint32_t port, const struct iovec *parts, int count,
                enum outbox_kind kind);

/* Time at which the oldest piece of the gathering epoch arrived, 0 when there is none. */
nsec_t outbox_waiting_since(struct outbox *outbox);
/* True when the guest should be parked until something is released. */
bool outbox_is_full(struct outbox *outbox);

/* True when nothing is held: all that the guest has said is visible. */
bool outbox_is_empty(struct outbox *outbox);

/* Everything put so far belongs to the gathering epoch, which must be `epoch`; the next one begins.
 * The guest is parked. */
void outbox_cut(struct outbox *outbox, epoch_t epoch);

/* Emits all output of epochs <= `epoch`. The epoch must have been cut (assertion: P1). False when
 * may_emit() ended it: what is left waits for the next release. */
bool outbox_release(struct outbox *outbox, epoch_t epoch);

/* OPEN: emits what is held, in order, then passes output through at once. */
void outbox_open(struct outbox *outbox);
/* HOLDING from now on (if it was OPEN; the guest is parked then), gathering for `epoch`, which
 * never decreases. What is held stays held until that epoch or a later one is released: epochs
 * without a commit (a full synchronisation, an aborted epoch) are skipped this way. */
void outbox_hold(struct outbox *outbox, epoch_t epoch);
/* Drops what is held and all that comes, for good: this side lost the term (P2). */
void outbox_discard(struct outbox *outbox);

void outbox_snapshot(struct outbox *outbox, struct outbox_stats *out);
void outbox_reset_hold_histogram(struct outbox *outbox);

#endif
