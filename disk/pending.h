/* Pending changes: what the guest of a buffered disk (mode_buffered.h) believes done, and the image
 * may lack. One list in the order in which the guest was answered, over all disks of a machine;
 * each change has a number, from 1.
 *
 *   add ──► (told to the standby: take) ──► released ──► begun ──► done ──► retired
 *                                               └── failed: may begin once more
 *
 * It is four things at once, so that none of them can disagree with another:
 *
 * - the *overlay*: what the guest reads is the image and, over it, everything in here, in order
 *   (pending_look(), before the image is read; pending_patch(), after). A change that is retired
 *   between the two is in both, and the bytes are the same.
 * - the *log*: what the standby has to be told, in order (pending_take()). For each link it begins
 *   with the oldest change that is not retired: what comes before is on the medium.
 * - the *order* of the image. Nothing begins before it and all before it are released. Several may
 *   be under way, but none that overlaps an earlier one that isn't done, and none before the
 *   changes in front of a flush are done. So what a loss of everything at once leaves is a disk
 *   after a power cut, some moments earlier.
 * - the *watermark*: changes are retired in order only, so all up to a number are on the medium.
 *
 * No lock and no thread: the caller has one lock for all calls. Memory is bounded by who adds. */
#ifndef KEMARI_DISK_PENDING_H
#define KEMARI_DISK_PENDING_H

#include "disk/io.h"
#include "disk/record.h"

struct disk_request;

/* What a change costs besides its data, in memory and in the standby's. */
#define PENDING_COST 256

struct pending_change {
    /* set by pending_add() */
    struct disk_record record; /* its data are the change's own, aligned as the image wants them */
    uint64_t number;
    uint8_t header[DISK_RECORD_HEADER_SIZE]; /* of the record, encoded */

    /* the caller's */
    struct disk_request *request; /* who waits until it is done; NULL: nobody */
    void *owner;
    struct disk_io io; /* while it is begun */

    /* the list's */
    bool released, begun, done;
    unsigned refs;
    struct pending_change *next;
};
_Static_assert(sizeof(struct pending_change) <= PENDING_COST, "a change costs what is counted");

struct pending {
    struct pending_change *first; /* not retired, in order */
    struct pending_change **last;
    struct pending_change *unreleased; /* the first that isn't; NULL: none */
    struct pending_change *untold;     /* the first that take() has not given; NULL: none */
    uint64_t last_number;              /* ever added */
    uint64_t retired;                  /* all up to this number are on the medium */
    size_t cost;                       /* of all in the list, in bytes */
    size_t untold_cost;                /* of those that take() has not given */
};

/* Changes, each held by a reference, in order. */
struct pending_set {
    struct pending_change **changes;
    size_t count;
};

void pending_init(struct pending *pending);
/* Gives up what is left, except what a set holds. Nothing is begun. */
void pending_clear(struct pending *pending);

size_t pending_cost(const struct disk_record *record);

/* Appends a change, and takes over record->data, malloc()ed. */
struct pending_change *pending_add(struct pending *pending, const struct disk_record *record);

/* Keeps a change's memory beyond its retirement. */
void pending_ref(struct pending_change *change);
void pending_unref(struct pending_change *change);

/* The change may reach the image. NULL when nothing unreleased has that number. */
struct pending_change *pending_release(struct pending *pending, uint64_t number);

/* A change that may begin now, or NULL. */
struct pending_change *pending_next(const struct pending *pending);
void pending_begin(struct pending_change *change);
/* It is on the medium: retires all that are done in front. */
void pending_done(struct pending *pending, struct pending_change *change);
/* It is not, and may begin again. */
void pending_failed(struct pending_change *change);
/* Takes a released change that has not begun out of the list, as if it had never been: it was not
 * promised to anybody. */
void pending_withdraw(struct pending *pending, struct pending_change *change);

/* Is something on its way to the image? */
bool pending_is_moving(const struct pending *pending);
/* Changes of one disk in the list. */
unsigned pending_count(const struct pending *pending, unsigned disk);
/* Of those, the ones that are released and not done. */
unsigned pending_count_moving(const struct pending *pending, unsigned disk);

/* The changes that a read of [offset, offset + size) sees; to be dropped. */
void pending_look(const struct pending *pending, unsigned disk, uint64_t offset, uint64_t size,
                  struct pending_set *out);
/* Puts their bytes over those that the image gave. Needs no lock. */
void pending_patch(const struct pending_set *set, uint64_t offset, uint64_t size, uint8_t *data);
void pending_drop(struct pending_set *set);

/* A link begins: all that is in the list is to be told. */
void pending_tell_again(struct pending *pending);
/* Everything that has not been given yet; to be dropped. */
void pending_take(struct pending *pending, struct pending_set *out);

#endif
