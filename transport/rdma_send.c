/* Sending over RDMA. Small sends are copied into a message; larger ones go by WRITEs into the
 * peer's ring, from where they lie if that memory was lent (link_lend()), otherwise by way of the
 * *mirror*, a registered copy of the peer's ring. A byte of the mirror is free again when the peer
 * has consumed it and the WRITE that read it is complete; both are counters. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "transport/rdma_parts.h"

#define BULK_MIN   2048u        /* smaller sends are messages */
#define DIRECT_MIN 4096u        /* smaller parts of lent memory are copied */
#define WRITE_MAX  (256u << 10) /* so that a long send and its acknowledgements overlap */

static bool may_begin_segment(const struct rdma_link *l)
{
    return l->connected && l->segments_out - l->segments_back < RDMA_SLOTS &&
           l->send_queue_used < SEND_QUEUE;
}

static int wait_for_segment(struct rdma_link *l, const struct link_wait *wait, struct error *err)
{
    int rc = 0;
    while (rc == 0 && !may_begin_segment(l))
        rc = rdma_link_wait(l, &l->writable, wait, err);
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
        while (rc == 0 && (slot = rdma_link_free_slot(l, 0, SEND_SLOTS)) < 0)
            rc = rdma_link_wait(l, &l->writable, wait, err);
        if (rc < 0)
            return rc;
        uint8_t *out = l->send_slots.bytes + (size_t)slot * RDMA_SLOT_SIZE;
        const size_t n = gather(&parts, &count, out + RDMA_MESSAGE_OVERHEAD, RDMA_MESSAGE_MAX);
        const struct rdma_message m = {.type = RDMA_MESSAGE_DATA, .data = {.size = (uint32_t)n}};
        rdma_message_encode(&m, out);
        rdma_link_post_message(l, (unsigned)slot, RDMA_MESSAGE_OVERHEAD + n);
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
    rdma_link_post(l, &wr);
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
            rc = rdma_link_wait(l, &l->writable, wait, err);
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
        rc = rdma_link_wait(l, &l->writable, wait, err);
    return rc;
}

int rdma_link_send(struct link *link, struct iovec *parts, int count, const struct link_wait *wait,
                   struct error *err)
{
    struct rdma_link *l = (struct rdma_link *)link;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    pthread_mutex_lock(&l->lock);
    int rc = 0;
    if (l->failure || l->stopped)
        rc = rdma_link_wait(l, &l->writable, wait, err);
    else if (l->mirror.mr && total >= BULK_MIN)
        rc = send_bulk(l, parts, count, wait, err);
    else
        rc = send_messages(l, parts, count, total, wait, err);
    if (rc == 0 && l->failure)
        rc = error_set(err, l->failure, "%s", l->failure_text.text);
    pthread_mutex_unlock(&l->lock);
    return rc;
}
