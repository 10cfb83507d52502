/* Work for an RDMA device: see transport/rdma_parts.h. */
#include <assert.h>

#include "base/clock.h"
#include "transport/rdma_parts.h"

void rdma_link_fail(struct rdma_link *l, int rc, const char *text)
{
    if (!l->failure)
        l->failure = error_set(&l->failure_text, rc, "%s", text);
    pthread_cond_broadcast(&l->readable);
    pthread_cond_broadcast(&l->writable);
}

void rdma_link_post_receive(struct rdma_link *l, uint32_t slot)
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
        rdma_link_fail(l, -rc, "the RDMA device takes no receive buffer");
}

void rdma_link_post(struct rdma_link *l, struct ibv_send_wr *wr)
{
    struct ibv_send_wr *bad;
    assert(l->send_queue_used < SEND_QUEUE);
    wr->send_flags = IBV_SEND_SIGNALED;
    const int rc = ibv_post_send(l->id->qp, wr, &bad);
    if (rc) {
        rdma_link_fail(l, -rc, "the RDMA device takes no work");
        return;
    }
    l->send_queue_used++;
    l->last_posted = clock_now();
}

void rdma_link_post_message(struct rdma_link *l, unsigned slot, size_t size)
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
    rdma_link_post(l, &wr);
}

int rdma_link_free_slot(const struct rdma_link *l, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (!(l->busy_slots >> i & 1))
            return (int)i;
    return -1;
}

/* False: no slot now; a completion tries again. */
static bool post_control(struct rdma_link *l, const struct rdma_message *message)
{
    const int slot = rdma_link_free_slot(l, SEND_SLOTS, CONTROL_SLOTS);
    if (slot < 0 || l->send_queue_used == SEND_QUEUE || !l->connected || l->failure)
        return false;
    const size_t size =
        rdma_message_encode(message, l->send_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE);
    rdma_link_post_message(l, (unsigned)slot, size);
    return true;
}

void rdma_link_give_credit(struct rdma_link *l)
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

void rdma_link_tell_ring(struct rdma_link *l)
{
    if (!l->ring_due)
        return;
    const struct rdma_message m = {
        .type = RDMA_MESSAGE_RING,
        .ring = {(uintptr_t)l->ring.bytes, l->ring.mr->rkey, (uint32_t)l->ring.size}};
    l->ring_due = !post_control(l, &m);
}

void rdma_link_keep_alive(struct rdma_link *l)
{
    if (l->send_queue_used > 0 || clock_now() - l->last_posted < ALIVE_INTERVAL)
        return;
    const struct rdma_message m = {.type = RDMA_MESSAGE_ALIVE};
    (void)post_control(l, &m);
}
