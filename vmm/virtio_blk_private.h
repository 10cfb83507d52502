/* Shared by virtio_blk.c (the device) and blk_request.c (its requests); nobody else. */
#ifndef KEMARI_VMM_VIRTIO_BLK_PRIVATE_H
#define KEMARI_VMM_VIRTIO_BLK_PRIVATE_H

#include <linux/virtio_blk.h>
#include <pthread.h>

#include "vmm/blk_backend.h"
#include "vmm/virtio_devices.h"
#include "vmm/virtio_pci.h"

#define BLK_QUEUE_SIZE     256
#define BLK_QUEUE_REQUESTS 0
#define BLK_RANGES_MAX     16 /* of one discard or write-zeroes, as the guest is told */

struct blk_range {
    uint64_t offset; /* bytes */
    uint64_t size;
    bool may_unmap;
};

/* A chain that was taken from the ring and not given back.
 *
 *   LOADED ──begin──► ACTIVE ──last piece done──► given back, freed
 *                        └──reset──► ORPHAN: its piece is waited for, nobody wants the result */
struct blk_request {
    struct blk_request *prev, *next; /* in the order they were taken; device lock */
    struct blk *owner;
    enum blk_phase { BLK_LOADED, BLK_ACTIVE, BLK_ORPHAN } phase;
    bool claimed;                 /* the head of `chain` is among the device's heads */
    struct virtqueue_chain chain; /* of a loaded state: only `head` */
    uint32_t type;
    enum blk_op op;
    unsigned range; /* the one that is being worked on */
    unsigned range_count;
    struct blk_range ranges[BLK_RANGES_MAX];
    uint64_t moved; /* bytes of data that are done */
    bool then_flush;

    struct blk_io io;              /* the backend's while it is under way */
    struct blk_request *done_next; /* protected by the device's mutex */
};

struct blk {
    /* set at creation */
    const struct device_env *env;
    struct virtio_pci *transport;
    struct blk_backend backend;
    unsigned index;
    char serial[VIRTIO_BLK_ID_BYTES + 1];
    struct virtio_blk_config space;
    struct event *done_event;

    /* protected by the device lock */
    struct blk_request *first; /* LOADED and ACTIVE */
    struct blk_request *last;
    unsigned taken;       /* of them */
    bool heads[BLK_QUEUE_SIZE]; /* of theirs: a chain is in flight once, or no standby takes the
                                   state */
    uint64_t data_flying; /* bytes in buffers */
    unsigned complaints;

    /* protected by `mutex`, which is taken inside the device lock */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned flying; /* ios that the backend has */
    struct blk_request *done;
    struct blk_request **done_last;
};

/* Takes up what the backend has done, and goes on with the requests it belongs to. Writes guest
 * memory; chains may be pushed, but are not published. */
void blk_take_done(struct blk *b);

/* Takes requests from the ring as long as there are any and buffers for them; true when it stopped
 * for another reason than an empty ring: look again soon. */
bool blk_take_new(struct blk *b);

/* Makes a LOADED request for a chain that was in flight when the state was saved. NULL: no memory.
 */
struct blk_request *blk_add_loaded(struct blk *b, uint16_t head);
/* Begins the loaded ones, from guest memory as it is now. */
void blk_begin_loaded(struct blk *b);

/* Forgets all requests: what the backend works on becomes an orphan. */
void blk_forget_all(struct blk *b);

#endif
