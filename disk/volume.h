/* A volume: one disk of the guest, between its device and its image. Everything that changes the
 * image passes here, on either side.
 *
 *   guest ─► queue ─► mode: admit ─┬► watch: before ─► image
 *   peer's records, resync ────────┘                      │
 *                  done ◄── mode: settle ◄── watch: after ┘
 *
 * The *mode* decides what protection means for this disk: plain (no pair, or read-only), replicated
 * (mode_replicated.h), shared (mode_shared.h, mode_buffered.h). It may keep a request and go on
 * with it later. The *watch* sees each change before it reaches the image: a bitmap of what may
 * differ between the hosts stands there.
 *
 * Order: changes that overlap are carried out one after the other, in the order they were
 * submitted; so what is logged in the order of completion gives the same bytes on another host.
 * Reads run at once, unless the mode wants those of the guest behind earlier changes that they
 * overlap; so does everything else. A flush covers what was done before it was submitted.
 *
 * Threads: any may submit, also from inside done(). Callbacks come without locks held, on the
 * submitting thread or one of the image's, and must not block for long. */
#ifndef KEMARI_DISK_VOLUME_H
#define KEMARI_DISK_VOLUME_H

#include "disk/image.h"

struct disk_volume;

struct disk_request {
    /* the submitter's. `io.data` is malloc()ed; the mode may take it over from a write that is done
     * (and leaves NULL); otherwise it is the submitter's again. `io.done` and `io.context` are the
     * volume's. */
    struct disk_io io;
    bool from_peer; /* not the guest's: records applied, resynchronisation. No mode looks at it */
    void (*done)(struct disk_request *request); /* once; io.result is set */
    void *context;

    /* the mode's, from admit() to the end */
    struct disk_request *mode_next;
    uint64_t mode_ticket;
    void *mode_data;
    int mode_state;
    bool mode_flag;

    struct disk_request *watch_next; /* the watch's, while it keeps the request */

    /* the volume's */
    struct disk_volume *volume;
    struct disk_request *prev, *next;
    int step;
};

/* The protection of one volume. */
struct disk_mode_ops {
    const char *name;  /* "plain", "replicated", "shared": for status */
    bool orders_reads; /* a read of the guest waits for earlier changes that it overlaps */
    bool sees_reads;   /* reads of the guest are admitted and settled, too */

    /* A change or flush of the guest is about to begin; overlapping ones before it have ended.
     * True: go on. False: the mode has taken it, and calls disk_volume_go() or disk_volume_end() on
     * it, from any thread; when that has happened, perhaps before admit() returns, the request may
     * be gone. */
    bool (*admit)(void *mode, struct disk_request *request);

    /* An admitted request is done, io.result says how (-ECANCELED: it was given up, and is no
     * error of the image); the guest doesn't know yet. Must not keep it. */
    void (*settle)(void *mode, struct disk_request *request);
};

/* Who wants to know of every change, the guest's and the peer's. */
struct disk_watch_ops {
    /* The change is about to reach the image. True: go on. False: as admit(). */
    bool (*before)(void *watch, struct disk_request *request);
    /* It has ended, io.result says how. */
    void (*after)(void *watch, struct disk_request *request);
};

struct disk_volume_stats {
    uint64_t reads, writes, discards,
        flushes; /* of the guest, done; write-zeroes count as discards */
    uint64_t bytes_read, bytes_written;
    uint64_t read_errors, write_errors; /* flushes and discards count as writes */
    uint64_t peer_writes;               /* changes that came from the peer */
    unsigned under_way;                 /* requests of the guest, waiting ones included */
    char last_error[128];               /* a phrase, or "" */
};

struct disk_volume_config {
    struct disk_image *image; /* taken over in every case */
    unsigned index;           /* of the disk */
    /* The image failed a request of the guest: for events. NULL: nobody cares. No locks held. */
    void (*failed)(void *context, unsigned index, const char *text);
    void *context;
};

int disk_volume_create(const struct disk_volume_config *config, struct disk_volume **out,
                       struct error *err);
/* Waits until everything submitted has ended. */
void disk_volume_destroy(struct disk_volume **volume);

/* While nothing is under way. Both are borrowed and outlive the volume; NULL: plain, or none. */
void disk_volume_set_mode(struct disk_volume *volume, const struct disk_mode_ops *ops, void *mode);
void disk_volume_set_watch(struct disk_volume *volume, const struct disk_watch_ops *ops,
                           void *watch);

/* The request must be valid for the image. */
void disk_volume_submit(struct disk_volume *volume, struct disk_request *request);

/* For modes and watches that kept a request: the next step, or the end with this result. */
void disk_volume_go(struct disk_request *request);
void disk_volume_end(struct disk_request *request, int result);

/* Submits a change that comes from the peer, and waits; returns the result. */
int disk_volume_perform(struct disk_volume *volume, struct disk_request *request);

struct disk_image *disk_volume_image(struct disk_volume *volume); /* borrowed */
unsigned disk_volume_index(const struct disk_volume *volume);
const char *disk_volume_mode_name(const struct disk_volume *volume);
void disk_volume_snapshot(struct disk_volume *volume, struct disk_volume_stats *out);

#endif
