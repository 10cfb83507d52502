/* Keeps the replicated disks of one machine in step with the other host's: their divergence maps,
 * and synchronisation when a link begins. Both halves are on both hosts, as in store.h.
 *
 * The map of disk N of machine VM is the file VM.diskN.map in the state directory.
 *
 * Threads: as said; one of its own writes what must not delay an epoch. */
#ifndef KEMARI_DISK_KEEPER_H
#define KEMARI_DISK_KEEPER_H

#include "disk/divergence.h"
#include "disk/record.h"
#include "disk/sync_source.h"
#include "disk/volume.h"

struct disk_keeper;

struct disk_keeper_config {
    const char *vm;
    const char *state_dir;
    unsigned count;
    struct {
        struct disk_volume *volume; /* borrowed; NULL: this disk is not replicated */
        const char *path;           /* of its image */
        struct divergence_io map;   /* taken over, instead of a file: for tests */
    } disks[DISK_COUNT_MAX];
    /* This standby's image can't be made equal: for events. On the receiving thread. NULL: nobody
     * cares. */
    void (*failed)(void *context, const struct error *why);
    void *context;
    uint64_t rate; /* of a synchronisation, bytes of disk per second; 0: no limit */
};

/* Becomes the watch of the volumes, on which nothing is under way. One sentence when a map can't be
 * opened. */
int disk_keeper_open(const struct disk_keeper_config *config, struct disk_keeper **out,
                     struct error *err);
/* After the volumes are gone. */
void disk_keeper_close(struct disk_keeper **keeper);

/* Nobody will count what is written to disk `index` from now on: removes its map, if there is one.
 */
int disk_keeper_forget(const char *vm, const char *state_dir, unsigned index, struct error *err);

/* ---- whose images they are; any thread ---- */

/* May a daemon whose role is primary, and that owns term `owned` (0: none), start a guest from
 * them? -ESTALE with one sentence. */
int disk_keeper_may_start(struct disk_keeper *keeper, term_t owned, struct error *err);
/* May this standby go on with them? -ESTALE likewise. */
int disk_keeper_may_promote(struct disk_keeper *keeper, struct error *err);
/* The guest is about to run here with leave of `term`, or to go on without its standby. */
void disk_keeper_own(struct disk_keeper *keeper, term_t term);
/* A newer state exists elsewhere: durable when it returns, and logged when it can't be. */
void disk_keeper_outdate(struct disk_keeper *keeper, term_t term);

/* ---- the executing side; the thread that synchronises ---- */

/* Makes the other host's images equal, one after the other. See sync_source_run(). */
int disk_keeper_synchronise(struct disk_keeper *keeper, const struct sync_channel *channel,
                            struct error *err);
/* The standby holds a complete state. Any thread; does not wait. */
void disk_keeper_in_step(struct disk_keeper *keeper);
/* The link is gone. */
void disk_keeper_lost(struct disk_keeper *keeper);

/* ---- the standby; its receiving thread ---- */

/* A link begins. */
void disk_keeper_restart(struct disk_keeper *keeper);
/* A message of a synchronisation came; the answer goes over the channel. */
int disk_keeper_receive(struct disk_keeper *keeper, const uint8_t *payload, size_t size,
                        const struct sync_channel *channel, struct error *err);
/* Everything received is in the images, and of one moment: of the state held in `term`. */
int disk_keeper_follow(struct disk_keeper *keeper, term_t term, struct error *err);

/* ---- status; any thread ---- */

/* Why this standby's images can't be made equal, since the last time they could. False: nothing. */
bool disk_keeper_failure(struct disk_keeper *keeper, char *why, size_t size);

struct disk_keeper_status {
    struct divergence_status map;
    struct sync_progress progress;
};

/* False: the disk is not replicated. */
bool disk_keeper_snapshot(struct disk_keeper *keeper, unsigned index,
                          struct disk_keeper_status *out);

#endif
