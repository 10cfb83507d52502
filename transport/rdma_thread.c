/* What comes from an RDMA device and the connection manager: one thread per link takes completions
 * and events and wakes the sender and the receiver, see transport/rdma_parts.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "transport/rdma_parts.h"

#define COMPLETION_BATCH 32
#define DRAIN_TIME       MSEC(200) /* for what was sent before a shutdown to arrive */

/* --- under the lock: what came --- */

static void push_segment(struct rdma_link *l, struct segment segment)
{
    if (l->queue_count == RDMA_SLOTS) {
        rdma_link_fail(l, -EBADMSG, "the peer sent more than it had room for");
        return;
    }
    l->queue[(l->queue_first + l->queue_count++) % RDMA_SLOTS] = segment;
    pthread_cond_signal(&l->readable);
}

static void take_bulk(struct rdma_link *l, uint32_t slot, uint32_t size)
{
    rdma_link_post_receive(l, slot);
    if (!l->ring.mr || size == 0 || size > l->ring.size - (l->ring_written - l->bytes_in)) {
        rdma_link_fail(l, -EBADMSG, "the peer announced more than fits into the ring");
        return;
    }
    l->ring_written += size;
    push_segment(l, (struct segment){.size = size, .bulk = true});
}

static void take_credit(struct rdma_link *l, uint64_t segments, uint64_t bytes)
{
    if (segments < l->segments_back || segments > l->segments_out || bytes < l->bulk_back ||
        bytes > l->bulk_out) {
        rdma_link_fail(l, -EBADMSG, "the peer gave back what it never had");
        return;
    }
    l->segments_back = segments;
    l->bulk_back = bytes;
    pthread_cond_signal(&l->writable);
}

static void take_ring(struct rdma_link *l, const struct rdma_message *m)
{
    if (l->peer_size) {
        rdma_link_fail(l, -EBADMSG, "the peer named its ring twice");
        return;
    }
    l->peer_ring = m->ring.address;
    l->peer_key = m->ring.key;
    l->peer_size = m->ring.size;
    rdma_link_make_mirror(l);
}

static void take_message(struct rdma_link *l, uint32_t slot, uint32_t size)
{
    struct rdma_message m;
    struct error err = {0};
    if (rdma_message_decode(l->receive_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE, size, &m,
                            &err) < 0) {
        rdma_link_fail(l, -EBADMSG, err.text);
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
    rdma_link_post_receive(l, slot);
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
            rdma_link_fail(l, -ECONNRESET,
                           "the RDMA device ended the connection: the peer broke its rules");
        return;
    }
    if (wc->status != IBV_WC_SUCCESS) {
        rdma_link_fail(l, -ECONNRESET, ibv_wc_status_str(wc->status));
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
        rdma_link_tell_ring(l);
        rdma_link_give_credit(l);
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
        rdma_link_tell_ring(l);
        pthread_cond_broadcast(&l->writable);
    } else if (type == RDMA_CM_EVENT_DISCONNECTED) {
        rdma_link_fail(l, -EPIPE, "the peer closed the connection");
    } else if (type != RDMA_CM_EVENT_TIMEWAIT_EXIT && type != RDMA_CM_EVENT_ADDR_CHANGE) {
        rdma_link_fail(l, -ECONNRESET, rdma_event_str(type));
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

void *rdma_link_run(void *argument)
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
        rdma_link_keep_alive(l);
        pthread_mutex_unlock(&l->lock);
    }
    rdma_disconnect(l->id);
    return NULL;
}
