/* The log: what the guest did to its disks in the epoch that gathers, on its way to the standby.
 *
 *                reserve           put                 take (cut)              release (commit)
 *   guest write ────────► promised ───► gathering batch ─────────► batch in flight ───────────►
 * free │         └─ cancel: the write failed  ▲            │ └ no room: the request waits └
 * give_back ─┘ the epoch was not sent
 *
 * Everything above counts against one cap (DESIGN §4: throttle the guest before breaking the cap).
 * A request that finds no room waits; when half of the cap gathers, or somebody waits, the log
 * *presses*: it asks for a cut, whose commit makes room again. So a guest that writes faster than
 * the link carries is slowed down and never fails. The peer relies on the cap: it has memory for
 * that much uncommitted data (replica.h).
 *
 * A machine whose cut waits until its requests have ended (qemu/) would wait for its own cut. For
 * it a part of the cap is kept back, `cut_room`, and given out while it is stopped
 * (disk_log_drain()). What finds no room even then goes on unkept, and the epoch that gathers can't
 * be sent any more: the standby is given up, and compares what is marked when it comes back.
 *
 * The log is off until a standby is there; then nothing is kept and nothing waits.
 *
 * Thread safe. */
#ifndef KEMARI_DISK_LOG_H
#define KEMARI_DISK_LOG_H

#include <sys/uio.h>

#include "base/error.h"
#include "disk/record.h"

#define DISK_LOG_CAP ((size_t)32 << 20) /* bytes; a constant of the protocol */

struct disk_log;

/* The records of one epoch, in order. */
struct disk_batch;

struct disk_log_config {
    size_t cap;
    size_t cut_room; /* of it, for disk_log_drain() alone; less than the cap by a record at least */
    /* There is room again for somebody who was refused. No locks held; any thread. */
    void (*room)(void *context);
    /* The log begins to press, once until it is taken. No locks held; any thread. */
    void (*press)(void *context);
    void *context;
};

struct disk_log_stats {
    bool on;
    uint64_t gathering_bytes; /* put since the last cut */
    uint64_t used_bytes;      /* of the cap */
    uint64_t records;         /* ever put */
    uint64_t bytes;           /* likewise */
    uint64_t refusals;        /* reservations that had to wait */
    uint64_t losses;          /* records that weren't kept: no room in a drain */
};

int disk_log_create(const struct disk_log_config *config, struct disk_log **out, struct error *err);
void disk_log_destroy(struct disk_log **log);

/* From now on every reservation counts. */
void disk_log_start(struct disk_log *log);
/* Drops what gathers. Batches in flight stay their owner's. Whoever waits may go on. */
void disk_log_stop(struct disk_log *log);
bool disk_log_is_on(struct disk_log *log);
/* The guest is being stopped, and its requests must end: nobody is refused until it is said that
 * this is over. Whoever waits may go on. */
void disk_log_drain(struct disk_log *log, bool draining);

enum disk_log_answer { DISK_LOG_OFF, DISK_LOG_PROMISED, DISK_LOG_FULL };

/* Room for a record with `length` bytes of data, before the write begins. OFF: it isn't to be put.
 * FULL: wait for room(). */
enum disk_log_answer disk_log_reserve(struct disk_log *log, size_t length);
/* The write failed, or isn't to be logged: gives the promise back. */
void disk_log_cancel(struct disk_log *log, size_t length);

/* Appends a record in the place of its promise. `record->data` was malloc()ed and is the log's from
 * now on. */
void disk_log_put(struct disk_log *log, const struct disk_record *record);

/* Is half of the cap, without `cut_room`, gathering? */
bool disk_log_is_pressing(struct disk_log *log);

/* Moves out what gathered, in order; NULL when that is nothing. */
struct disk_batch *disk_log_take(struct disk_log *log);
/* Puts a batch back in front of what gathered since: its epoch was not sent. */
void disk_log_give_back(struct disk_log *log, struct disk_batch *batch);
/* The batch is not needed any more: its room is free. NULL is fine. */
void disk_batch_release(struct disk_log *log, struct disk_batch *batch);

/* The next payload of the batch, as parts for a frame (at most `max`, at least 2), valid until the
 * batch is released. Returns how many parts, 0 at the end, -ENOBUFS when a record is missing. */
int disk_batch_payload(struct disk_batch *batch, struct iovec *parts, int max);
/* payload() starts at the first record again. */
void disk_batch_rewind(struct disk_batch *batch);

/* Visits the records of a batch in order; what they point to is valid until the batch is released.
 */
void disk_batch_visit(const struct disk_batch *batch,
                      void (*visit)(void *context, const struct disk_record *record),
                      void *context);

void disk_log_snapshot(struct disk_log *log, struct disk_log_stats *out);

#endif
