/* What a carrier (TCP, TLS, RDMA, in-process, and the fault layer of the tests) provides.
 *
 * A carrier moves bytes in order; frames, digests, limits, locking, counters and sticky errors are
 * link.c's. A carrier embeds `struct link` as its first member and calls link_init(). */
#ifndef KEMARI_TRANSPORT_LINK_BACKEND_H
#define KEMARI_TRANSPORT_LINK_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>

#include "transport/link.h"

/* Until when a call may wait. */
struct link_wait {
    unsigned idle_ms; /* longest time without progress; 0: none */
    nsec_t deadline;  /* absolute; 0: none */
};

struct link_ops {
    /* As link_establish(); called once, before the others, and fills in `out`. NULL where there is
     * nothing to do. */
    int (*establish)(struct link *link, const struct link_wait *wait, struct link_security *out,
                     struct error *err);

    /* Sends all bytes of `parts`, a frame whose header is the first of them, in order, or fails;
     * after a failure an unknown prefix has gone and send is not called again. `parts` is scratch
     * of the caller and may be modified. Called under the link's send lock, by one thread at a
     * time, possibly while another receives. */
    int (*send)(struct link *link, struct iovec *parts, int count, const struct link_wait *wait,
                struct error *err);

    /* Fills exactly `size` bytes, a header's or those of a whole payload. Sets *got to the bytes
     * consumed, also on failure. End of stream: -EPIPE; the caller makes it -ECONNRESET inside a
     * frame. May read ahead into a buffer of its own. One thread at a time. */
    int (*receive)(struct link *link, void *buffer, size_t size, size_t *got,
                   const struct link_wait *wait, struct error *err);

    /* As link_trust() and link_lend(); NULL where it makes no difference. */
    void (*trust)(struct link *link);
    void (*lend)(struct link *link, void *base, size_t size);

    /* Makes a running and every later send and receive return soon with any error, and tells the
     * peer. Called once, from any thread, without locks. Must not block. */
    void (*shutdown)(struct link *link);

    /* Frees the carrier. After shutdown, with nobody inside. */
    void (*destroy)(struct link *link);
};

struct link {
    /* set at creation */
    const struct link_ops *ops;
    char peer[LINK_PEER_MAX];

    /* set by link_establish(), before other threads use the link */
    bool established;
    struct link_security security;
    unsigned streams;

    atomic_bool down; /* link_shutdown() was called */
    _Atomic uint64_t frames_sent, bytes_sent, frames_received, bytes_received;

    /* protected by send_lock */
    pthread_mutex_t send_lock;
    int send_error; /* sticky */
    struct iovec scratch[LINK_PARTS_MAX + 1];

    /* owned by the receiving thread */
    int receive_error;     /* sticky */
    struct frame expected; /* whose payload comes next; size 0: a header comes next */
    uint8_t header[FRAME_HEADER_SIZE];

    /* set while quiet, or by the thread concerned */
    unsigned send_idle_ms;
    unsigned receive_idle_ms;
    nsec_t deadline;
};

void link_init(struct link *link, const struct link_ops *ops, const char *peer);

#endif
