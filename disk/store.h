/* The disks of one machine: volumes, and what keeps the replicated ones in step with the other
 * host.
 *
 *   guest ─► volumes ─► log ─► batches ─► (the epochs) ═══► stage ─► replica ─► volumes
 *            (the executing side)                                 (the standby)
 *
 * Shared disks travel only if they are buffered (mode_buffered.h): as changes that the standby
 * retains (retained.h) in the replica's place.
 *
 * Both halves are there on both hosts, since a standby becomes the executing side. The verbs below
 * the volumes are those of checkpoint/disk_ops.h, which app/ puts in front of them.
 *
 * What a link begins with, making the images equal, and what a host remembers about its images, is
 * the keeper's (keeper.h).
 *
 * Threads: as disk_ops.h says; the volumes are used by anybody. */
#ifndef KEMARI_DISK_STORE_H
#define KEMARI_DISK_STORE_H

#include <sys/uio.h>

#include "disk/keeper.h"
#include "disk/log.h"
#include "disk/mode_buffered.h"
#include "disk/replica.h"
#include "disk/retained.h"
#include "disk/volume.h"

struct disk_store;

enum disk_protection {
    DISK_PLAIN,      /* nothing travels: read-only, or there is no other host */
    DISK_REPLICATED, /* each host has its image */
    DISK_SHARED,     /* both hosts have the same */
};

struct disk_store_disk {
    const char *path;
    bool read_only;
    enum disk_protection protection;
    struct disk_image *image; /* instead of the path: taken over in every case. For tests */
    struct divergence_io map; /* instead of a map in the state directory: likewise */
};

enum disk_store_event {
    DISK_STORE_LOCAL_ERROR,    /* the guest was told of an error of an image */
    DISK_STORE_REPLICA_FAILED, /* the image of this standby can't take what the primary sends */
    DISK_STORE_BEHIND,         /* an image can't take what the guest believes done */
    DISK_STORE_CAUGHT_UP,      /* it could after all */
};

struct disk_store_config {
    unsigned count;
    struct disk_store_disk disks[DISK_COUNT_MAX];
    /* For the keeper; needed if a disk is replicated. NULL otherwise: no map is looked for. */
    const char *vm;
    const char *state_dir;
    uint64_t sync_rate; /* bytes of disk per second; 0: no limit */
    /* A cut of the machine waits for its requests: room is kept for them (log.h), and
     * disk_store_drain() says when it is needed. Shared disks are buffered. */
    bool cuts_drain;
    /* `text` is a phrase that names the disk. Any thread, no locks held; must only take note. */
    void (*event)(void *context, enum disk_store_event event, const char *text);
    void *context;
};

struct disk_store_stats {
    struct disk_log_stats log;
    struct disk_replica_stats replica;
    struct disk_buffered_stats buffered;
    struct disk_retained_stats retained;
    unsigned waiting; /* requests that wait for room in the log, or of a buffer */
};

int disk_store_open(const struct disk_store_config *config, struct disk_store **out,
                    struct error *err);
/* No device uses a volume any more. */
void disk_store_close(struct disk_store **store);

unsigned disk_store_count(const struct disk_store *store);
struct disk_volume *disk_store_volume(struct disk_store *store, unsigned index); /* borrowed */
/* Of the replicated disks; NULL when there is none. Borrowed. */
struct disk_keeper *disk_store_keeper(struct disk_store *store);
/* Does any disk travel? */
bool disk_store_travels(const struct disk_store *store);
void disk_store_snapshot(struct disk_store *store, struct disk_store_stats *out);

/* ---- shared disks: mode_shared.h, mode_buffered.h; all without effect when there is none ---- */

/* Are they buffered: does the guest go on while its changes are held? */
bool disk_store_is_buffered(const struct disk_store *store);
void disk_store_hold(struct disk_store *store, void (*hold)(void *context, uint64_t ticket),
                     void *context);
void disk_store_emit(struct disk_store *store, uint64_t ticket);
void disk_store_end_held(struct disk_store *store);
bool disk_store_is_quiet(struct disk_store *store);
unsigned disk_store_held(struct disk_store *store, unsigned index);
/* Changes that were let out and that the image lacks still; what is held is not among them. */
unsigned disk_store_writing(struct disk_store *store, unsigned index);
/* Another host has the guest: what was let out and has not begun stays undone. */
void disk_store_outdate(struct disk_store *store);

/* ---- the executing side; disks travel ---- */

void disk_store_start(struct disk_store *store, void (*wake)(void *context), void *context);
void disk_store_stop(struct disk_store *store);
bool disk_store_is_pressing(struct disk_store *store);
bool disk_store_is_full(struct disk_store *store); /* disk_buffered_is_full() */
/* Around the stopping of a machine whose cut waits for its requests. Any thread. */
void disk_store_drain(struct disk_store *store, bool draining);
/* What was written since the last time; NULL: nothing. */
struct disk_store_batch *disk_store_take(struct disk_store *store);
/* As disk_batch_payload(). */
int disk_store_payload(struct disk_store_batch *batch, struct iovec *parts, int max);
void disk_store_release(struct disk_store *store, struct disk_store_batch *batch);
/* Waits until every change that began before the start has ended: before images are compared. */
void disk_store_settle(struct disk_store *store);

/* ---- the standby; disks travel: replica.h and retained.h, for each what is its own ---- */

int disk_store_stage(struct disk_store *store, const uint8_t *payload, size_t size,
                     struct error *err);
void disk_store_commit(struct disk_store *store);
void disk_store_drop(struct disk_store *store);
/* A synchronisation begins: replicated images take what is committed, or forget it. */
void disk_store_restart(struct disk_store *store);
int disk_store_check(struct disk_store *store, struct error *err);
/* Waits until replicated images have what is committed. */
int disk_store_settle_replica(struct disk_store *store, struct error *err);
/* Promotion: all images have what is committed, or why they can't. */
int disk_store_finish(struct disk_store *store, struct error *err);
/* Who else hears of a failing replica, before the event; returns when the one before isn't being
 * told any more. */
void disk_store_watch(struct disk_store *store,
                      void (*failed)(void *context, const struct error *why), void *context);

#endif
