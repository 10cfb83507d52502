/* Split virtqueues (virtio 1.2 §2.7), the device's side.
 *
 * The guest owns every byte of the rings and may be hostile. So: the ring addresses are translated
 * once, when the queue is enabled; each descriptor is copied once and then only the copy is
 * believed; a chain is bounded in descriptors; nothing is taken back from the used ring. What can't
 * be right breaks the queue: no further chain comes out of it and the device needs a reset.
 *
 * Order of one request: virtqueue_pop() -> work on the chain -> virtqueue_push() -> after a batch
 * virtqueue_publish(), which makes the used elements visible and says whether to interrupt.
 *
 * Every write into guest memory is marked dirty after it was made (gmem.h), the used ring and the
 * avail_event word included.
 *
 * Threads: all calls hold the device lock. A popped chain's segments may be read and filled without
 * it, as long as the queue is not reset meanwhile. */
#ifndef KEMARI_VMM_VIRTQUEUE_H
#define KEMARI_VMM_VIRTQUEUE_H

#include "base/types.h"
#include "gmem/gmem.h"

#define VIRTQUEUE_SIZE_MAX  256
#define VIRTQUEUE_CHAIN_MAX 256 /* descriptors of one chain, indirect ones included */
#define VIRTQUEUE_NO_VECTOR 0xffff

struct virtqueue {
    /* set at creation */
    struct gmem *memory;
    uint16_t size_max; /* power of two, <= VIRTQUEUE_SIZE_MAX */

    /* written by the driver while the queue is not enabled */
    uint16_t size;
    uint64_t desc;
    uint64_t driver; /* the available ring */
    uint64_t device; /* the used ring */

    /* state */
    uint16_t vector; /* MSI-X; VIRTQUEUE_NO_VECTOR: none */
    bool enabled;
    bool kicks_off;      /* the driver was asked not to notify */
    uint16_t next_avail; /* free-running count of chains taken */
    uint16_t next_used;  /* free-running count of chains given back */
    uint16_t published;  /* of these, visible to the driver */

    /* derived */
    bool event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
    const uint8_t *desc_view;
    const uint8_t *driver_view;
    uint8_t *device_view;
    const char *broken; /* why no chain comes out any more, or NULL */
};

struct virtqueue_segment {
    uint8_t *host;
    gpa_t gpa;
    uint32_t size; /* never 0 */
};

/* One request: `out_count` segments to read, then `in_count` segments to fill. */
struct virtqueue_chain {
    uint16_t head;
    unsigned out_count;
    unsigned in_count;
    uint64_t out_size; /* bytes */
    uint64_t in_size;
    struct virtqueue_segment segments[VIRTQUEUE_CHAIN_MAX];
};

/* Back to the state before the driver touched it. */
void virtqueue_reset(struct virtqueue *q);

/* True when size and addresses would make a usable queue: power of two up to size_max, aligned
 * (§2.7), and all three parts inside guest memory. Pure. */
bool virtqueue_is_valid(const struct virtqueue *q);

/* Enables the queue; false, and nothing changed, when it is not valid. */
bool virtqueue_enable(struct virtqueue *q);

/* Takes the next chain. 1, 0 when there is none, or -EPROTO when the queue is or becomes broken. */
int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain);

/* Walks again a chain that was taken and not given back, by its head: 0 or -EPROTO as above. For
 * whoever loads a state with chains in flight. */
int virtqueue_fetch(struct virtqueue *q, uint16_t head, struct virtqueue_chain *chain);

/* Puts the last `popped` chains back and takes back the last `pushed` pushes, which must not have
 * been published: those chains come again. */
void virtqueue_rewind(struct virtqueue *q, uint16_t popped, uint16_t pushed);

/* Number of chains the driver offers and nobody has taken; 0 when broken. */
uint16_t virtqueue_waiting(struct virtqueue *q);

/* Returns a chain to the driver, `written` bytes of its in-segments filled. */
void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);

/* Makes what was pushed visible. True when the driver wants an interrupt for it. */
bool virtqueue_publish(struct virtqueue *q);

/* Asks the driver to notify for new chains, or not to bother. After switching on, look at
 * virtqueue_waiting() again: a chain may have arrived unannounced. */
void virtqueue_set_kicks(struct virtqueue *q, bool on);

/* Copies between the chain's bytes at `offset` and a buffer; returns how many bytes were there. The
 * write marks them dirty. */
size_t virtqueue_chain_read(const struct virtqueue_chain *chain, uint64_t offset, void *data,
                            size_t size);
size_t virtqueue_chain_write(struct virtqueue *q, const struct virtqueue_chain *chain,
                             uint64_t offset, const void *data, size_t size);

#endif
