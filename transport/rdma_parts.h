/* What a connection over RDMA is made of, shared by the files that make one work:
 *
 *   rdma_link.c    its life, waiting, receiving
 *   rdma_memory.c  memory that the device knows: slots, rings, the mirror
 *   rdma_post.c    work for the device: messages, credits, signs of life
 *   rdma_thread.c  what comes from the device and the connection manager
 *   rdma_send.c    sending: by message, by WRITE into the peer's ring
 *
 * Work request ids: kind in the upper 8 bits (enum wr_kind), below it the number of a slot, or for
 * a WRITE the position in the stream of bulk bytes where it ends. Completions of sends come in
 * order, so that position is all that has to be remembered. */
#ifndef KEMARI_TRANSPORT_RDMA_PARTS_H
#define KEMARI_TRANSPORT_RDMA_PARTS_H

#include "transport/rdma_internal.h"
#include "transport/rdma_wire.h"

#define RECEIVE_SLOTS  (RDMA_SLOTS + RDMA_CONTROL_SLOTS)
#define SEND_SLOTS     32 /* for messages with data */
#define CONTROL_SLOTS  4  /* for ours without: at most one of each kind is under way, and another */
#define SEND_QUEUE     128
#define RING_SIZE      (8u << 20)
#define ALIVE_INTERVAL SEC(1)

enum wr_kind { WR_RECEIVE = 1, WR_MESSAGE = 2, WR_BULK = 3 };
#define WR_SHIFT 56
#define WR_VALUE ((UINT64_C(1) << WR_SHIFT) - 1)

struct segment {
    uint32_t size;
    uint16_t slot; /* of a message */
    bool bulk;
};

/* A WRITE that may still grow, or turn out to be the last of its segment. */
struct run {
    uint64_t end;     /* position behind it */
    uint64_t address; /* local */
    uint32_t key;     /* local */
    uint32_t size;    /* 0: there is none */
};

struct region {
    uint8_t *bytes;
    size_t size;
    struct ibv_mr *mr; /* NULL: not registered */
};

struct rdma_link {
    struct link link; /* first member */

    /* set at creation */
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    struct ibv_pd *pd;
    struct ibv_comp_channel *completions;
    struct ibv_cq *cq;
    struct region receive_slots, send_slots;
    uint8_t offer[RDMA_OFFER_SIZE];
    int wake_fd;
    pthread_t thread;
    bool thread_started;

    /* the thread's */
    nsec_t disconnect_at; /* 0: nobody asked for it */

    /* the sender's */
    struct run run;
    uint32_t unannounced; /* bulk bytes posted since the last segment */

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t readable, writable;
    bool connected;
    bool stopped; /* by link_shutdown() */
    int failure;  /* of the connection, sticky */
    struct error failure_text;
    nsec_t last_posted;

    struct region ring; /* the peer writes here */
    struct segment queue[RDMA_SLOTS];
    unsigned queue_first, queue_count;
    uint32_t taken;                     /* bytes of the first segment */
    uint64_t ring_written;              /* by the peer, as announced */
    uint64_t segments_in;               /* consumed */
    uint64_t bytes_in;                  /* consumed, of the ring */
    uint64_t told_segments, told_bytes; /* by our last CREDIT */

    struct region lent;
    struct region mirror;
    bool trusted;       /* the peer proved the key */
    uint64_t peer_ring; /* address */
    uint32_t peer_key;
    uint32_t peer_size;    /* 0: not told yet */
    uint64_t segments_out; /* sent */
    uint64_t segments_back;
    uint64_t bulk_out;
    uint64_t bulk_back; /* consumed by the peer */
    uint64_t bulk_done; /* WRITEs complete up to here */
    unsigned send_queue_used;
    uint64_t busy_slots; /* bit per send slot */
    bool ring_due;       /* tell the peer where ours is */
};

_Static_assert(SEND_SLOTS + CONTROL_SLOTS <= 64, "one bit per send slot");

/* --- rdma_memory.c --- */

/* Memory of `size` bytes, zero, registered with `access` (IBV_ACCESS_*). On failure the region may
 * hold memory without registration: destroy it in any case. */
int rdma_region_create(struct rdma_link *l, struct region *r, size_t size, unsigned access,
                       struct error *err);
void rdma_region_destroy(struct region *r);

/* Under the lock: makes the mirror when the peer is trusted and has told its ring. Without one
 * everything goes by messages: slower, and right. */
void rdma_link_make_mirror(struct rdma_link *l);

/* --- rdma_post.c; all under the lock --- */

/* Ends the connection, unless it has failed before, for the reason given; wakes who waits. */
void rdma_link_fail(struct rdma_link *l, int rc, const char *text);

/* Gives a receive slot to the device. */
void rdma_link_post_receive(struct rdma_link *l, uint32_t slot);

/* Gives work to the device, where there is room for it (SEND_QUEUE, asserted). */
void rdma_link_post(struct rdma_link *l, struct ibv_send_wr *wr);

/* Sends the first `size` bytes of a send slot. */
void rdma_link_post_message(struct rdma_link *l, unsigned slot, size_t size);

/* One of `count` send slots from `first` on that isn't under way. Slots [0, SEND_SLOTS) carry data,
 * the others control messages. -1: all busy. */
int rdma_link_free_slot(const struct rdma_link *l, unsigned first, unsigned count);

/* Gives room back to the peer when a quarter of it has been consumed since the last time: the peer
 * never starves, and few messages are under way. */
void rdma_link_give_credit(struct rdma_link *l);

/* Tells the peer where our ring is, if that is due and there is a slot for it. */
void rdma_link_tell_ring(struct rdma_link *l);

/* Asks an idle peer for a sign of life. One at a time: its completion is the peer's host that
 * lives.
 */
void rdma_link_keep_alive(struct rdma_link *l);

/* --- rdma_thread.c --- */

/* The link's thread, until the link is shut down and what was sent has arrived. */
void *rdma_link_run(void *link);

/* --- rdma_link.c --- */

/* Under the lock: waits until something changes; -ETIMEDOUT, or how the connection ended. Whoever
 * waits for bytes looks at the queue first. */
int rdma_link_wait(struct rdma_link *l, pthread_cond_t *changed, const struct link_wait *wait,
                   struct error *err);

/* --- rdma_send.c --- */

/* As link_ops.send. */
int rdma_link_send(struct link *link, struct iovec *parts, int count, const struct link_wait *wait,
                   struct error *err);

#endif
