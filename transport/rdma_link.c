/* One connection over RDMA: the bytes of a link as segments, see transport/rdma_wire.h.
 *
 * A thread per link takes completions and events of the connection manager and wakes the sender and
 * the receiver, who post work themselves: transport/rdma_parts.h says which file does what. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "transport/rdma_parts.h"

#define AREA             "transport"

#define COMPLETION_QUEUE (SEND_QUEUE + RECEIVE_SLOTS)

struct link *rdma_link_base(struct rdma_link *l)
{
    return &l->link;
}

/* --- waiting --- */

int rdma_link_wait(struct rdma_link *l, pthread_cond_t *changed, const struct link_wait *wait,
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
        rdma_link_post_receive(l, s->slot);
    l->queue_first = (l->queue_first + 1) % RDMA_SLOTS;
    l->queue_count--;
    l->segments_in++;
    rdma_link_give_credit(l);
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
            rc = rdma_link_wait(l, &l->readable, wait, err);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

/* --- the rest of a link's life --- */

static void rdma_trust(struct link *link)
{
    struct rdma_link *l = (struct rdma_link *)link;
    struct region ring = {0};
    struct error err = {0};
    const int rc = rdma_region_create(l, &ring, RING_SIZE,
                                      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, &err);
    if (rc < 0) {
        log_warning(AREA, "%s: %s", link_peer_name(link), err.text);
        rdma_region_destroy(&ring);
    }
    pthread_mutex_lock(&l->lock);
    l->trusted = true;
    if (rc == 0) {
        l->ring = ring;
        l->ring_due = true;
        rdma_link_tell_ring(l);
    }
    rdma_link_make_mirror(l);
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
    rdma_region_destroy(&l->ring);
    rdma_region_destroy(&l->mirror);
    rdma_region_destroy(&l->send_slots);
    rdma_region_destroy(&l->receive_slots);
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
    .send = rdma_link_send,
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
        rc = rdma_region_create(l, &l->receive_slots, (size_t)RECEIVE_SLOTS * RDMA_SLOT_SIZE,
                                IBV_ACCESS_LOCAL_WRITE, err);
    if (rc == 0)
        rc = rdma_region_create(l, &l->send_slots,
                                (size_t)(SEND_SLOTS + CONTROL_SLOTS) * RDMA_SLOT_SIZE, 0, err);
    for (uint32_t i = 0; rc == 0 && i < RECEIVE_SLOTS; i++)
        rdma_link_post_receive(l, i);
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
    const int rc = pthread_create(&l->thread, NULL, rdma_link_run, l);
    if (rc != 0)
        return error_set(err, -rc, "can't start a thread for RDMA: %s", strerror(rc));
    l->thread_started = true;
    return 0;
}
