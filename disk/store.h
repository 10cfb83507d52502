/* The disks of one machine: volumes, and what keeps the replicated ones in step with the other
 * host.
 *
 *   guest ─► volumes ─► log ─► batches ─► (the epochs) ═══► stage ─► replica ─► volumes
 *            (the executing side)                                 (the standby)
 *
 * Both halves are there on both hosts, since a standby becomes the executing side. The verbs below
 * the volumes are those of checkpoint/disk_ops.h, which app/ puts in front of them.
 *
 * The first copy (copy()) is read while the guest runs: a piece is read after everything that
 * take() gave before was sent, so that it never undoes a later write; pieces of zeroes travel as
 * marks.
 *
 * Threads: as disk_ops.h says; the volumes are used by anybody. */
#ifndef KEMARI_DISK_STORE_H
#define KEMARI_DISK_STORE_H

#include <sys/uio.h>

#include "disk/log.h"
#include "disk/replica.h"
#include "disk/volume.h"

struct disk_store;

enum disk_protection {
    DISK_PLAIN,      /* nothing travels: read-only, or there is no other host */
    DISK_REPLICATED, /* each host has its image */
};

struct disk_store_disk {
    const char *path;
    bool read_only;
    enum disk_protection protection;
    struct disk_image *image; /* instead of the path: taken over in every case. For tests */
};

enum disk_store_event {
    DISK_STORE_LOCAL_ERROR,   /* the guest was told of an error of an image */
    DISK_STORE_REPLICA_FAILED /* what was committed can't be applied */
};

struct disk_store_config {
    unsigned count;
    struct disk_store_disk disks[DISK_COUNT_MAX];
    /* `text` is a phrase that names the disk. Any thread, no locks held; must only take note. */
    void (*event)(void *context, enum disk_store_event event, const char *text);
    void *context;
};

struct disk_store_stats {
    struct disk_log_stats log;
    struct disk_replica_stats replica;
    unsigned waiting; /* requests that wait for room in the log */
    bool copying;     /* the first copy is being read */
    uint64_t copy_done;
    uint64_t copy_total; /* bytes, of the running or last copy */
};

int disk_store_open(const struct disk_store_config *config, struct disk_store **out,
                    struct error *err);
/* No device uses a volume any more. */
void disk_store_close(struct disk_store **store);

unsigned disk_store_count(const struct disk_store *store);
struct disk_volume *disk_store_volume(struct disk_store *store, unsigned index); /* borrowed */
/* Does any disk travel? */
bool disk_store_is_replicated(const struct disk_store *store);
void disk_store_snapshot(struct disk_store *store, struct disk_store_stats *out);

/* ---- the executing side ---- */

void disk_store_start(struct disk_store *store, void (*wake)(void *context), void *context);
void disk_store_stop(struct disk_store *store);
bool disk_store_is_pressing(struct disk_store *store);
struct disk_batch *disk_store_take(struct disk_store *store);
void disk_store_release(struct disk_store *store, struct disk_batch *batch);
/* Parts of the next piece, 0 at the end, or -errno when an image can't be read. */
int disk_store_copy(struct disk_store *store, struct iovec *parts, int max, struct error *err);

/* ---- the standby ---- */

struct disk_replica *disk_store_replica(struct disk_store *store); /* borrowed */
/* Who else hears of a failing replica; returns when the one before isn't being told any more. */
void disk_store_watch(struct disk_store *store,
                      void (*failed)(void *context, const struct error *why), void *context);

#endif
