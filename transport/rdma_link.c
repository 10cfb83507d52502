/* One connection over RDMA: the bytes of a link as segments, see transport/rdma_wire.h.
 *
 * A thread per link takes completions and events of the connection manager and wakes the sender and
 * the receiver, who post work themselves. Small sends are copied into a message; larger ones go by
 * WRITEs into the peer's ring, from where they lie if that memory was lent (link_lend()), otherwise
 * by way of the *mirror*, a registered copy of the peer's ring. A byte of the mirror is free again
 * when the peer has consumed it and the WRITE that read it is complete; both are counters.
 *
 * Work request ids: kind in the upper 8 bits (enum wr_kind), below it the number of a slot, or for
 * a WRITE the position in the stream of bulk bytes where it ends. Completions of sends come in
 * order, so that position is all that has to be remembered. */
#include "transport/rdma_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "transport/rdma_wire.h"

#define AREA          "transport"

#define RECEIVE_SLOTS (RDMA_SLOTS + RDMA_CONTROL_SLOTS)
#define SEND_SLOTS    32 /* for messages with data */
#define CONTROL_SLOTS                                                                              \
    4 /* for ours without: one of each kind is under way at most, and one more                     \
       */
#define SEND_QUEUE       128
#define COMPLETION_QUEUE (SEND_QUEUE + RECEIVE_SLOTS)
#define COMPLETION_BATCH 32

#define RING_SIZE        (8u << 20)
#define BULK_MIN         2048u        /* smaller sends are messages */
#define DIRECT_MIN       4096u        /* smaller parts of lent memory are copied */
#define WRITE_MAX        (256u << 10) /* so that a long send and its acknowledgements overlap */

#define ALIVE_INTERVAL   SEC(1)
#define DRAIN_TIME       MSEC(200) /* for what was sent before a shutdown to arrive */

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

struct link *rdma_link_base(struct rdma_link *l)
{
    return &l->link;
}

/* --- memory --- */

static int region_create(struct rdma_link *l, struct region *r, size_t size, unsigned access,
                         struct error *err)
{
    r->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->bytes == MAP_FAILED) {
        r->bytes = NULL;
        return error_set(err, -ENOMEM, "out of memory for RDMA buffers");
    }
    r->size = size;
    r->mr = ibv_reg_mr(l->pd, r->bytes, size, access);
    if (r->mr)
        return 0;
    return error_set(err, -errno,
                     "%zu KiB can't be registered for RDMA: %s; raise the limit of locked memory",
                     size >> 10, strerror(errno));
}

static void region_destroy(struct region *r)
{
    if (r->mr)
        ibv_dereg_mr(r->mr);
    if (r->bytes)
        munmap(r->bytes, r->size);
    *r = (struct region){0};
}

/* --- under the lock: posting --- */

static void fail(struct rdma_link *l, int rc, const char *text)
{
    if (!l->failure)
        l->failure = error_set(&l->failure_text, rc, "%s", text);
    pthread_cond_broadcast(&l->readable);
    pthread_cond_broadcast(&l->writable);
}

static void post_receive(struct rdma_link *l, uint32_t slot)
{
    struct ibv_sge part = {
        .addr = (uintptr_t)(l->receive_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE),
        .length = RDMA_SLOT_SIZE,
        .lkey = l->receive_slots.mr->lkey,
    };
    struct ibv_recv_wr wr = {
        .wr_id = (uint64_t)WR_RECEIVE << WR_SHIFT | slot, .sg_list = &part, .num_sge = 1};
    struct ibv_recv_wr *bad;
    const int rc = ibv_post_recv(l->id->qp, &wr, &bad);
    if (rc)
        fail(l, -rc, "the RDMA device takes no receive buffer");
}

static void post(struct rdma_link *l, struct ibv_send_wr *wr)
{
    struct ibv_send_wr *bad;
    assert(l->send_queue_used < SEND_QUEUE);
    wr->send_flags = IBV_SEND_SIGNALED;
    const int rc = ibv_post_send(l->id->qp, wr, &bad);
    if (rc) {
        fail(l, -rc, "the RDMA device takes no work");
        return;
    }
    l->send_queue_used++;
    l->last_posted = clock_now();
}

static void post_message(struct rdma_link *l, unsigned slot, size_t size)
{
    struct ibv_sge part = {
        .addr = (uintptr_t)(l->send_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE),
        .length = (uint32_t)size,
        .lkey = l->send_slots.mr->lkey,
    };
    struct ibv_send_wr wr = {.wr_id = (uint64_t)WR_MESSAGE << WR_SHIFT | slot,
                             .sg_list = &part,
                             .num_sge = 1,
                             .opcode = IBV_WR_SEND};
    l->busy_slots |= UINT64_C(1) << slot;
    post(l, &wr);
}

/* Slots [0, SEND_SLOTS) carry data, the others control messages. -1: all busy. */
static int free_slot(const struct rdma_link *l, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (!(l->busy_slots >> i & 1))
            return (int)i;
    return -1;
}

/* False: no slot now; a completion tries again. */
static bool post_control(struct rdma_link *l, const struct rdma_message *message)
{
    const int slot = free_slot(l, SEND_SLOTS, CONTROL_SLOTS);
    if (slot < 0 || l->send_queue_used == SEND_QUEUE || !l->connected || l->failure)
        return false;
    const size_t size =
        rdma_message_encode(message, l->send_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE);
    post_message(l, (unsigned)slot, size);
    return true;
}

/* Gives room back to the peer when a quarter of it has been consumed since the last time: the peer
 * never starves, and few messages are under way. */
static void give_credit(struct rdma_link *l)
{
    if (l->segments_in - l->told_segments < RDMA_SLOTS / 4 &&
        l->bytes_in - l->told_bytes < RING_SIZE / 4)
        return;
    const struct rdma_message m = {.type = RDMA_MESSAGE_CREDIT,
                                   .credit = {l->segments_in, l->bytes_in}};
    if (!post_control(l, &m))
        return;
    l->told_segments = l->segments_in;
    l->told_bytes = l->bytes_in;
}

static void tell_ring(struct rdma_link *l)
{
    if (!l->ring_due)
        return;
    const struct rdma_message m = {
        .type = RDMA_MESSAGE_RING,
        .ring = {(uintptr_t)l->ring.bytes, l->ring.mr->rkey, (uint32_t)l->ring.size}};
    l->ring_due = !post_control(l, &m);
}

/* One at a time: its completion is the peer's host that lives. */
static void keep_alive(struct rdma_link *l)
{
    if (l->send_queue_used > 0 || clock_now() - l->last_posted < ALIVE_INTERVAL)
        return;
    const struct rdma_message m = {.type = RDMA_MESSAGE_ALIVE};
    (void)post_control(l, &m);
}

/* --- under the lock: what came --- */

static void push_segment(struct rdma_link *l, struct segment segment)
{
    if (l->queue_count == RDMA_SLOTS) {
        fail(l, -EBADMSG, "the peer sent more than it had room for");
        return;
    }
    l->queue[(l->queue_first + l->queue_count++) % RDMA_SLOTS] = segment;
    pthread_cond_signal(&l->readable);
}

static void take_bulk(struct rdma_link *l, uint32_t slot, uint32_t size)
{
    post_receive(l, slot);
    if (!l->ring.mr || size == 0 || size > l->ring.size - (l->ring_written - l->bytes_in)) {
        fail(l, -EBADMSG, "the peer announced more than fits into the ring");
        return;
    }
    l->ring_written += size;
    push_segment(l, (struct segment){.size = size, .bulk = true});
}

static void take_credit(struct rdma_link *l, uint64_t segments, uint64_t bytes)
{
    if (segments < l->segments_back || segments > l->segments_out || bytes < l->bulk_back ||
        bytes > l->bulk_out) {
        fail(l, -EBADMSG, "the peer gave back what it never had");
        return;
    }
    l->segments_back = segments;
    l->bulk_back = bytes;
    pthread_cond_signal(&l->writable);
}

/* Without a mirror everything goes by messages: slower, and right. */
static void make_mirror(struct rdma_link *l)
{
    struct error err = {0};
    if (!l->trusted || !l->peer_size || l->mirror.mr)
        return;
    if (region_create(l, &l->mirror, l->peer_size, 0, &err) < 0) {
        log_warning(AREA, "%s: %s", link_peer_name(&l->link), err.text);
        region_destroy(&l->mirror);
    }
}

static void take_ring(struct rdma_link *l, const struct rdma_message *m)
{
    if (l->peer_size) {
        fail(l, -EBADMSG, "the peer named its ring twice");
        return;
    }
    l->peer_ring = m->ring.address;
    l->peer_key = m->ring.key;
    l->peer_size = m->ring.size;
    make_mirror(l);
}

static void take_message(struct rdma_link *l, uint32_t slot, uint32_t size)
{
    struct rdma_message m;
    struct error err = {0};
    if (rdma_message_decode(l->receive_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE, size, &m,
                            &err) < 0) {
        fail(l, -EBADMSG, err.text);
        return;
    }
    if (m.type == RDMA_MESSAGE_DATA) {
        push_segment(l, (struct segment){.size = m.data.size, .slot = (uint16_t)slot});
        return;
    }
    if (m.type == RDMA_MESSAGE_CREDIT)
        take_credit(l, m.credit.segments, m.credit.bytes);
    else if (m.type == RDMA_MESSAGE_RING)
        take_ring(l, &m);
    post_receive(l, slot);
}

static void take_completion(struct rdma_link *l, const struct ibv_wc *wc)
{
    const enum wr_kind kind = (enum wr_kind)(wc->wr_id >> WR_SHIFT);
    const uint64_t value = wc->wr_id & WR_VALUE;
    if (kind != WR_RECEIVE)
        l->send_queue_used--;
    /* Work that was flushed is what a connection leaves behind; why it ended was told by an event
     * or by the first failure. If not, the device has ended it by itself: the peer wrote where it
     * may not, for one. */
    if (wc->status == IBV_WC_WR_FLUSH_ERR) {
        if (kind == WR_RECEIVE && !l->stopped)
            fail(l, -ECONNRESET, "the RDMA device ended the connection: the peer broke its rules");
        return;
    }
    if (wc->status != IBV_WC_SUCCESS) {
        fail(l, -ECONNRESET, ibv_wc_status_str(wc->status));
        return;
    }
    if (kind == WR_MESSAGE)
        l->busy_slots &= ~(UINT64_C(1) << value);
    else if (kind == WR_BULK)
        l->bulk_done = value;
    else if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
        take_bulk(l, (uint32_t)value, ntohl(wc->imm_data));
    else
        take_message(l, (uint32_t)value, wc->byte_len);
    if (kind != WR_RECEIVE)
        pthread_cond_signal(&l->writable);
}

/* --- the thread --- */

static void take_completions(struct rdma_link *l)
{
    struct ibv_wc wc[COMPLETION_BATCH];
    int count;
    while ((count = ibv_poll_cq(l->cq, COMPLETION_BATCH, wc)) > 0) {
        pthread_mutex_lock(&l->lock);
        for (int i = 0; i < count; i++)
            take_completion(l, &wc[i]);
        tell_ring(l);
        give_credit(l);
        pthread_mutex_unlock(&l->lock);
    }
}

static void on_completions(struct rdma_link *l)
{
    struct ibv_cq *cq;
    void *context;
    if (ibv_get_cq_event(l->completions, &cq, &context) < 0)
        return;
    ibv_ack_cq_events(cq, 1);
    /* Armed first: what comes while the queue is emptied makes another event. */
    ibv_req_notify_cq(l->cq, 0);
    take_completions(l);
}

static void on_cm_event(struct rdma_link *l)
{
    struct rdma_cm_event *event;
    if (rdma_get_cm_event(l->events, &event) < 0)
        return;
    const enum rdma_cm_event_type type = event->event;
    rdma_ack_cm_event(event);
    /* What the peer sent before it left has arrived. */
    take_completions(l);
    pthread_mutex_lock(&l->lock);
    if (type == RDMA_CM_EVENT_ESTABLISHED) {
        l->connected = true;
        tell_ring(l);
        pthread_cond_broadcast(&l->writable);
    } else if (type == RDMA_CM_EVENT_DISCONNECTED) {
        fail(l, -EPIPE, "the peer closed the connection");
    } else if (type != RDMA_CM_EVENT_TIMEWAIT_EXIT && type != RDMA_CM_EVENT_ADDR_CHANGE) {
        fail(l, -ECONNRESET, rdma_event_str(type));
    }
    pthread_mutex_unlock(&l->lock);
}

/* True when the thread has nothing left to do: what was sent before the shutdown has arrived, or
 * had its time. */
static bool has_drained(struct rdma_link *l)
{
    pthread_mutex_lock(&l->lock);
    const bool stopped = l->stopped;
    const bool idle = l->send_queue_used == 0 || l->failure;
    pthread_mutex_unlock(&l->lock);
    if (!stopped)
        return false;
    if (!l->disconnect_at)
        l->disconnect_at = clock_now() + DRAIN_TIME;
    return idle || clock_now() >= l->disconnect_at;
}

static int next_wait_ms(const struct rdma_link *l)
{
    return (int)((l->disconnect_at ? DRAIN_TIME / 10 : ALIVE_INTERVAL) / MSEC(1));
}

static void *run_thread(void *argument)
{
    struct rdma_link *l = argument;
    struct pollfd fds[] = {{.fd = l->completions->fd, .events = POLLIN},
                           {.fd = l->events->fd, .events = POLLIN},
                           {.fd = l->wake_fd, .events = POLLIN}};
    while (!has_drained(l)) {
        const int n = poll(fds, l->disconnect_at ? 2 : 3, next_wait_ms(l));
        if (n > 0 && fds[0].revents)
            on_completions(l);
        if (n > 0 && fds[1].revents)
            on_cm_event(l);
        pthread_mutex_lock(&l->lock);
        keep_alive(l);
        pthread_mutex_unlock(&l->lock);
    }
    rdma_disconnect(l->id);
    return NULL;
}

/* --- waiting --- */

/* Under the lock: waits until something changes; -ETIMEDOUT, or how the connection ended. Whoever
 * waits for bytes looks at the queue first. */
static int wait_for(struct rdma_link *l, pthread_cond_t *changed, const struct link_wait *wait,
                    struct error *err)
{
    if (l->stopped)
        return error_set(err, -ECONNRESET, "closed here");
    if (l->failure)
        return error_set(err, l->failure, "%s", l->failure_text.text);
    nsec_t until = wait->idle_ms ? clock_now() + MSEC(wait->idle_ms) : 0;
    if (wait->deadline && (!until || wait->deadline < until))
        until = wait->deadline;
    if (!until) {
        pthread_cond_wait(changed, &l->lock);
        return 0;
    }
    const struct timespec at = clock_to_timespec(until);
    if (pthread_cond_timedwait(changed, &l->lock, &at) == ETIMEDOUT)
        return error_set(err, -ETIMEDOUT, "no progress in time");
    return 0;
}

/* --- sending --- */

static bool may_begin_segment(const struct rdma_link *l)
{
    return l->connected && l->segments_out - l->segments_back < RDMA_SLOTS &&
           l->send_queue_used < SEND_QUEUE;
}

static int wait_for_segment(struct rdma_link *l, const struct link_wait *wait, struct error *err)
{
    int rc = 0;
    while (rc == 0 && !may_begin_segment(l))
        rc = wait_for(l, &l->writable, wait, err);
    return rc;
}

/* Moves up to `room` bytes out of the parts; returns how many. */
static size_t gather(struct iovec **parts, int *count, uint8_t *out, size_t room)
{
    size_t used = 0;
    while (*count > 0 && used < room) {
        struct iovec *part = *parts;
        const size_t n = part->iov_len < room - used ? part->iov_len : room - used;
        if (n)
            memcpy(out + used, part->iov_base, n);
        used += n;
        part->iov_base = (uint8_t *)part->iov_base + n;
        part->iov_len -= n;
        if (part->iov_len == 0) {
            (*parts)++;
            (*count)--;
        }
    }
    return used;
}

static int send_messages(struct rdma_link *l, struct iovec *parts, int count, size_t total,
                         const struct link_wait *wait, struct error *err)
{
    while (total > 0) {
        int rc = wait_for_segment(l, wait, err);
        int slot = -1;
        while (rc == 0 && (slot = free_slot(l, 0, SEND_SLOTS)) < 0)
            rc = wait_for(l, &l->writable, wait, err);
        if (rc < 0)
            return rc;
        uint8_t *out = l->send_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE;
        const size_t n = gather(&parts, &count, out + RDMA_MESSAGE_OVERHEAD, RDMA_MESSAGE_MAX);
        const struct rdma_message m = {.type = RDMA_MESSAGE_DATA, .data = {.size = (uint32_t)n}};
        rdma_message_encode(&m, out);
        post_message(l, (unsigned)slot, RDMA_MESSAGE_OVERHEAD + n);
        l->segments_out++;
        total -= n;
    }
    return 0;
}

/* Posts the run that was held back, as the end of a segment or not. */
static void post_run(struct rdma_link *l, bool ends_segment)
{
    struct run *r = &l->run;
    struct ibv_sge part = {.addr = r->address, .length = r->size, .lkey = r->key};
    struct ibv_send_wr wr = {
        .wr_id = (uint64_t)WR_BULK << WR_SHIFT | r->end,
        .sg_list = &part,
        .num_sge = 1,
        .opcode = ends_segment ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE,
        .wr.rdma = {.remote_addr = l->peer_ring + (r->end - r->size) % l->peer_size,
                    .rkey = l->peer_key},
    };
    l->unannounced += r->size;
    if (ends_segment) {
        wr.imm_data = htonl(l->unannounced);
        l->unannounced = 0;
        l->segments_out++;
    }
    r->size = 0;
    post(l, &wr);
}

static int end_segment(struct rdma_link *l, const struct link_wait *wait, struct error *err)
{
    if (!l->run.size)
        return 0;
    const int rc = wait_for_segment(l, wait, err);
    if (rc == 0)
        post_run(l, true);
    return rc;
}

static size_t bulk_room(const struct rdma_link *l)
{
    const uint64_t back = l->bulk_back < l->bulk_done ? l->bulk_back : l->bulk_done;
    return (size_t)(l->peer_size - (l->bulk_out - back));
}

/* For one more WRITE besides the run that is held back. */
static bool has_room(const struct rdma_link *l)
{
    return bulk_room(l) > 0 && l->send_queue_used + 2 <= SEND_QUEUE;
}

/* With nothing unannounced meanwhile: the peer makes room only by consuming what it knows of. */
static int wait_for_room(struct rdma_link *l, const struct link_wait *wait, struct error *err)
{
    int rc = 0;
    while (rc == 0 && !has_room(l)) {
        rc = end_segment(l, wait, err);
        if (rc == 0 && !has_room(l))
            rc = wait_for(l, &l->writable, wait, err);
    }
    return rc;
}

static bool is_lent(const struct rdma_link *l, const struct iovec *part)
{
    const uint8_t *at = part->iov_base;
    return l->lent.mr && part->iov_len >= DIRECT_MIN && at >= l->lent.bytes &&
           part->iov_len <= l->lent.size &&
           (size_t)(at - l->lent.bytes) <= l->lent.size - part->iov_len;
}

/* Adds the next piece of a part to the run, or begins another; returns its size. */
static size_t add_piece(struct rdma_link *l, const uint8_t *from, size_t left, bool direct)
{
    const size_t at = (size_t)(l->bulk_out % l->peer_size);
    size_t n = left < l->peer_size - at ? left : l->peer_size - at;
    n = n < bulk_room(l) ? n : bulk_room(l);
    n = n < WRITE_MAX ? n : WRITE_MAX;
    const uint64_t source = direct ? (uintptr_t)from : (uintptr_t)(l->mirror.bytes + at);
    const uint32_t key = direct ? l->lent.mr->lkey : l->mirror.mr->lkey;
    struct run *r = &l->run;
    const bool goes_on = r->size && at != 0 && r->key == key && r->address + r->size == source &&
                         r->size + n <= WRITE_MAX;
    if (r->size && !goes_on)
        post_run(l, false);
    if (!goes_on)
        *r = (struct run){.address = source, .key = key};
    /* Nobody else touches this part of the mirror. */
    if (!direct) {
        pthread_mutex_unlock(&l->lock);
        memcpy(l->mirror.bytes + at, from, n);
        pthread_mutex_lock(&l->lock);
    }
    r->size += (uint32_t)n;
    l->bulk_out += n;
    r->end = l->bulk_out;
    return n;
}

static int send_bulk(struct rdma_link *l, const struct iovec *parts, int count,
                     const struct link_wait *wait, struct error *err)
{
    uint64_t direct_end = 0;
    int rc = 0;
    for (int i = 0; rc == 0 && i < count; i++) {
        const bool direct = is_lent(l, &parts[i]);
        for (size_t done = 0; rc == 0 && done < parts[i].iov_len;) {
            rc = wait_for_room(l, wait, err);
            if (rc < 0)
                break;
            done += add_piece(l, (const uint8_t *)parts[i].iov_base + done, parts[i].iov_len - done,
                              direct);
            direct_end = direct ? l->bulk_out : direct_end;
        }
    }
    if (rc == 0)
        rc = end_segment(l, wait, err);
    /* Lent memory is the caller's again when this returns. */
    while (rc == 0 && l->bulk_done < direct_end)
        rc = wait_for(l, &l->writable, wait, err);
    return rc;
}

static int rdma_send(struct link *link, struct iovec *parts, int count,
                     const struct link_wait *wait, struct error *err)
{
    struct rdma_link *l = (struct rdma_link *)link;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    pthread_mutex_lock(&l->lock);
    int rc = 0;
    if (l->failure || l->stopped)
        rc = wait_for(l, &l->writable, wait, err);
    else if (l->mirror.mr && total >= BULK_MIN)
        rc = send_bulk(l, parts, count, wait, err);
    else
        rc = send_messages(l, parts, count, total, wait, err);
    if (rc == 0 && l->failure)
        rc = error_set(err, l->failure, "%s", l->failure_text.text);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

/* --- receiving --- */

/* Under the lock: takes up to `size` bytes of the first segment. Nobody writes to them now, except
 * a peer that breaks the rules, and what it changes is either before the copy or not seen. */
static size_t take_bytes(struct rdma_link *l, uint8_t *out, size_t size)
{
    struct segment *s = &l->queue[l->queue_first];
    size_t n = s->size - l->taken < size ? s->size - l->taken : size;
    const uint8_t *from = l->receive_slots.bytes + (size_t)s->slot * RDMA_SLOT_SIZE +
                          RDMA_MESSAGE_OVERHEAD + l->taken;
    if (s->bulk) {
        const size_t at = (size_t)(l->bytes_in % l->ring.size);
        n = n < l->ring.size - at ? n : l->ring.size - at;
        from = l->ring.bytes + at;
    }
    pthread_mutex_unlock(&l->lock);
    memcpy(out, from, n);
    pthread_mutex_lock(&l->lock);
    l->taken += (uint32_t)n;
    if (s->bulk)
        l->bytes_in += n;
    if (l->taken < s->size)
        return n;
    l->taken = 0;
    if (!s->bulk)
        post_receive(l, s->slot);
    l->queue_first = (l->queue_first + 1) % RDMA_SLOTS;
    l->queue_count--;
    l->segments_in++;
    give_credit(l);
    return n;
}

static int rdma_receive(struct link *link, void *buffer, size_t size, size_t *got,
                        const struct link_wait *wait, struct error *err)
{
    struct rdma_link *l = (struct rdma_link *)link;
    int rc = 0;
    *got = 0;
    pthread_mutex_lock(&l->lock);
    while (rc == 0 && *got < size)
        if (l->queue_count > 0 && !l->stopped)
            *got += take_bytes(l, (uint8_t *)buffer + *got, size - *got);
        else
            rc = wait_for(l, &l->readable, wait, err);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

/* --- the rest of a link's life --- */

static void rdma_trust(struct link *link)
{
    struct rdma_link *l = (struct rdma_link *)link;
    struct region ring = {0};
    struct error err = {0};
    const int rc =
        region_create(l, &ring, RING_SIZE, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, &err);
    if (rc < 0) {
        log_warning(AREA, "%s: %s", link_peer_name(link), err.text);
        region_destroy(&ring);
    }
    pthread_mutex_lock(&l->lock);
    l->trusted = true;
    if (rc == 0) {
        l->ring = ring;
        l->ring_due = true;
        tell_ring(l);
    }
    make_mirror(l);
    pthread_mutex_unlock(&l->lock);
}

static void rdma_lend(struct link *link, void *base, size_t size)
{
    struct rdma_link *l = (struct rdma_link *)link;
    struct ibv_mr *mr = ibv_reg_mr(l->pd, base, size, 0);
    if (!mr) {
        log_warning(AREA,
                    "%s: %zu MiB of staging memory can't be registered (%s): pages are copied",
                    link_peer_name(link), size >> 20, strerror(errno));
        return;
    }
    pthread_mutex_lock(&l->lock);
    assert(!l->lent.mr);
    l->lent = (struct region){base, size, mr};
    pthread_mutex_unlock(&l->lock);
}

static void wake(const struct rdma_link *l)
{
    const uint64_t one = 1;
    (void)!write(l->wake_fd, &one, sizeof(one));
}

static void rdma_shutdown(struct link *link)
{
    struct rdma_link *l = (struct rdma_link *)link;
    pthread_mutex_lock(&l->lock);
    l->stopped = true;
    pthread_cond_broadcast(&l->readable);
    pthread_cond_broadcast(&l->writable);
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

static void release(struct rdma_link *l)
{
    if (l->id->qp)
        rdma_destroy_qp(l->id);
    if (l->lent.mr)
        ibv_dereg_mr(l->lent.mr);
    region_destroy(&l->ring);
    region_destroy(&l->mirror);
    region_destroy(&l->send_slots);
    region_destroy(&l->receive_slots);
    if (l->cq)
        ibv_destroy_cq(l->cq);
    if (l->completions)
        ibv_destroy_comp_channel(l->completions);
    if (l->pd)
        ibv_dealloc_pd(l->pd);
    fd_close(&l->wake_fd);
    pthread_cond_destroy(&l->readable);
    pthread_cond_destroy(&l->writable);
    pthread_mutex_destroy(&l->lock);
}

void rdma_link_abandon(struct rdma_link *l)
{
    release(l);
    free(l);
}

static void rdma_destroy(struct link *link)
{
    struct rdma_link *l = (struct rdma_link *)link;
    if (l->thread_started)
        pthread_join(l->thread, NULL);
    release(l);
    rdma_destroy_id(l->id);
    rdma_destroy_event_channel(l->events);
    free(l);
}

static const struct link_ops rdma_ops = {
    .send = rdma_send,
    .receive = rdma_receive,
    .trust = rdma_trust,
    .lend = rdma_lend,
    .shutdown = rdma_shutdown,
    .destroy = rdma_destroy,
};

/* --- creation --- */

static int create_queues(struct rdma_link *l, struct error *err)
{
    struct ibv_context *device = l->id->verbs;
    l->pd = ibv_alloc_pd(device);
    l->completions = l->pd ? ibv_create_comp_channel(device) : NULL;
    l->cq =
        l->completions ? ibv_create_cq(device, COMPLETION_QUEUE, NULL, l->completions, 0) : NULL;
    if (!l->cq || ibv_req_notify_cq(l->cq, 0))
        return error_set(err, -errno, "RDMA device %s has no room for queues: %s",
                         ibv_get_device_name(device->device), strerror(errno));
    struct ibv_qp_init_attr attributes = {
        .send_cq = l->cq,
        .recv_cq = l->cq,
        .cap = {.max_send_wr = SEND_QUEUE,
                .max_recv_wr = RECEIVE_SLOTS,
                .max_send_sge = 1,
                .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC,
    };
    if (rdma_create_qp(l->id, l->pd, &attributes) < 0)
        return error_set(err, -errno, "RDMA device %s makes no queue pair: %s",
                         ibv_get_device_name(device->device), strerror(errno));
    return 0;
}

static int create_parts(struct rdma_link *l, struct error *err)
{
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0)
        return error_set(err, -errno, "eventfd: %s", strerror(errno));
    int rc = create_queues(l, err);
    if (rc == 0)
        rc = region_create(l, &l->receive_slots, (size_t)RECEIVE_SLOTS * RDMA_SLOT_SIZE,
                           IBV_ACCESS_LOCAL_WRITE, err);
    if (rc == 0)
        rc = region_create(l, &l->send_slots, (size_t)(SEND_SLOTS + CONTROL_SLOTS) * RDMA_SLOT_SIZE,
                           0, err);
    for (uint32_t i = 0; rc == 0 && i < RECEIVE_SLOTS; i++)
        post_receive(l, i);
    return rc == 0 && l->failure ? error_set(err, l->failure, "%s", l->failure_text.text) : rc;
}

int rdma_link_create(struct rdma_cm_id *id, struct rdma_event_channel *events, bool encrypted,
                     const char *peer, struct rdma_link **out, struct error *err)
{
    struct rdma_link *l = calloc(1, sizeof(*l));
    if (!l)
        return error_set(err, -ENOMEM, "%s: out of memory for a link", peer);
    l->id = id;
    l->events = events;
    l->wake_fd = -1;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->readable, &monotonic);
    pthread_cond_init(&l->writable, &monotonic);
    pthread_condattr_destroy(&monotonic);
    rdma_offer_encode(encrypted, l->offer);
    link_init(&l->link, &rdma_ops, peer);
    const int rc = create_parts(l, err);
    if (rc < 0) {
        rdma_link_abandon(l);
        return rc;
    }
    *out = l;
    return 0;
}

struct rdma_conn_param rdma_link_parameters(struct rdma_link *l)
{
    return (struct rdma_conn_param){
        .private_data = l->offer,
        .private_data_len = sizeof(l->offer),
        .flow_control = 1,
        .retry_count = 7,
        .rnr_retry_count = 7, /* for ever: a peer that is frozen is the detector's business */
    };
}

int rdma_link_start(struct rdma_link *l, bool connected, struct error *err)
{
    l->connected = connected;
    l->last_posted = clock_now();
    const int rc = pthread_create(&l->thread, NULL, run_thread, l);
    if (rc != 0)
        return error_set(err, -rc, "can't start a thread for RDMA: %s", strerror(rc));
    l->thread_started = true;
    return 0;
}
