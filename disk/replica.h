/* The replica: the standby's side of replicated disks.
 *
 *   payload ──stage: checked, copied──► staged epoch ──commit──► queue ──applying thread──► volumes
 *                                            └──drop: the epoch was never whole
 *
 * Nothing of an epoch touches an image before its commit; then its records are applied in order,
 * off the critical path. A promotion drops the staged epoch and waits for the queue (finish()).
 *
 * Memory: what is staged is bounded by the primary's log (DISK_LOG_CAP); what is committed may lag
 * behind up to DISK_REPLICA_CAP, then stage() waits for the applying thread. Nothing is spilled to
 * a file: a standby whose disk is slower than the link slows the acknowledgements down, the
 * primary's log fills, and the guest's writes take as long as the slower of both disks.
 *
 * A record that can't be applied (an I/O error, no space) is the end: what follows can't be applied
 * either, the images of this host are not of one moment any more, and the standby must say so. Only
 * a full synchronisation begins anew (restart()).
 *
 * Threads: stage, commit, drop, restart and finish belong to one thread at a time; the rest to any.
 */
#ifndef KEMARI_DISK_REPLICA_H
#define KEMARI_DISK_REPLICA_H

#include "base/error.h"
#include "disk/record.h"
#include "disk/volume.h"

#define DISK_REPLICA_CAP ((size_t)48 << 20) /* bytes staged and not yet applied */

struct disk_replica;

struct disk_replica_config {
    struct disk_volume *const *volumes; /* by index, copied; NULL: takes no records */
    unsigned count;
    size_t cap;
    /* Applying failed for the first time since restart(). On the applying thread, no locks held. */
    void (*failed)(void *context, const struct error *why);
    void *context;
};

struct disk_replica_stats {
    bool failed;
    char why[128];
    uint64_t staged_bytes;  /* of the epoch that is not committed */
    uint64_t pending_bytes; /* committed, not applied */
    uint64_t records;       /* ever applied */
    uint64_t bytes;
    uint64_t waits; /* of stage() for the applying thread */
};

int disk_replica_create(const struct disk_replica_config *config, struct disk_replica **out,
                        struct error *err);
/* Applies what is committed first. */
void disk_replica_destroy(struct disk_replica **replica);

/* Takes the records of a payload, which it copies, after checking every one. -EBADMSG; -ENOBUFS
 * when the epoch alone outgrows the cap; -ENOMEM; -EIO when the replica has failed. */
int disk_replica_stage(struct disk_replica *replica, const uint8_t *payload, size_t size,
                       struct error *err);
/* The staged epoch is whole and acknowledged: it will be applied. */
void disk_replica_commit(struct disk_replica *replica);
void disk_replica_drop(struct disk_replica *replica);

/* 0, or why nothing can be applied any more: asked before an epoch is acknowledged. */
int disk_replica_check(struct disk_replica *replica, struct error *err);

/* A full synchronisation begins: what is committed is applied (or dropped if it failed), what
 * failed is forgotten. */
void disk_replica_restart(struct disk_replica *replica);

/* Waits until everything committed is in the images: 0, or why it can't be. */
int disk_replica_finish(struct disk_replica *replica, struct error *err);

void disk_replica_snapshot(struct disk_replica *replica, struct disk_replica_stats *out);

#endif
