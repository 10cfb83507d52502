/* Requests of virtio-blk (virtio 1.2 §5.2.6): from a chain to pieces for the backend, and back.
 *
 * A request is carried out piece by piece, BLK_DATA_MAX bytes or one range at a time, so that the
 * size of a chain, which the guest chooses, bounds nothing of ours. Data is copied between guest
 * memory and buffers under the device lock; DATA_FLYING_MAX bounds the buffers of a disk. */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/virtio_blk_private.h"

#define HEADER_SIZE     sizeof(struct virtio_blk_outhdr)
#define BURST           64
#define COMPLAINTS_MAX  8
#define DATA_FLYING_MAX ((uint64_t)8 << 20)

static struct virtqueue *queue_of(const struct blk *b)
{
    return virtio_pci_queue(b->transport, BLK_QUEUE_REQUESTS);
}

/* ---- the list ---- */

static struct blk_request *add(struct blk *b, enum blk_phase phase)
{
    struct blk_request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->owner = b;
    r->phase = phase;
    r->prev = b->last;
    if (b->last)
        b->last->next = r;
    else
        b->first = r;
    b->last = r;
    b->taken++;
    return r;
}

static void unlink_request(struct blk *b, struct blk_request *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else
        b->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        b->last = r->prev;
    b->taken--;
    if (r->claimed)
        b->heads[r->chain.head] = false;
}

/* Of a request that has its chain. False: another one has the same. */
static bool claim_head(struct blk_request *r)
{
    bool *taken = &r->owner->heads[r->chain.head];
    if (*taken)
        return false;
    *taken = r->claimed = true;
    return true;
}

/* The status byte is the last one the device may write (§5.2.6), the data what lies before it. */
static void complete(struct blk_request *r, uint8_t status, uint64_t filled)
{
    struct blk *b = r->owner;
    const uint64_t used = filled + 1;
    virtqueue_chain_write(queue_of(b), &r->chain, r->chain.in_size - 1, &status, 1);
    virtqueue_push(queue_of(b), r->chain.head, used > UINT32_MAX ? UINT32_MAX : (uint32_t)used);
    unlink_request(b, r);
    free(r);
}

/* ---- pieces ---- */

static void on_io_done(struct blk_io *io)
{
    struct blk_request *r =
        (struct blk_request *)(void *)((char *)io - offsetof(struct blk_request, io));
    struct blk *b = r->owner;
    pthread_mutex_lock(&b->mutex);
    const bool wake = b->done == NULL;
    r->done_next = NULL;
    *b->done_last = r;
    b->done_last = &r->done_next;
    b->flying--;
    /* Inside of the lock: the device goes when nothing flies. */
    if (wake)
        event_active(b->done_event, EV_TIMEOUT, 0);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static uint64_t buffer_size(const struct blk_io *io)
{
    return io->op == BLK_READ || io->op == BLK_WRITE ? io->size : 0;
}

static void submit(struct blk_request *r)
{
    struct blk *b = r->owner;
    r->io.done = on_io_done;
    r->io.result = 0;
    b->data_flying += buffer_size(&r->io);
    pthread_mutex_lock(&b->mutex);
    b->flying++;
    pthread_mutex_unlock(&b->mutex);
    b->backend.ops->submit(b->backend.context, &r->io);
}

static void fail_for_memory(struct blk_request *r)
{
    log_error("vmm", "disk %u: out of memory for a request", r->owner->index);
    complete(r, VIRTIO_BLK_S_IOERR, 0);
}

static void submit_data(struct blk_request *r)
{
    const struct blk_range *range = &r->ranges[0];
    const uint64_t left = range->size - r->moved;
    r->io = (struct blk_io){.op = r->op,
                            .offset = range->offset + r->moved,
                            .size = left < BLK_DATA_MAX ? left : BLK_DATA_MAX};
    void *data;
    if (posix_memalign(&data, BLK_SECTOR, r->io.size) != 0) {
        fail_for_memory(r);
        return;
    }
    r->io.data = data;
    if (r->op == BLK_WRITE)
        virtqueue_chain_read(&r->chain, HEADER_SIZE + r->moved, r->io.data, r->io.size);
    submit(r);
}

/* The next piece, or the end. */
static void proceed(struct blk_request *r)
{
    const bool data = r->op == BLK_READ || r->op == BLK_WRITE;
    if (data && r->moved < r->ranges[0].size) {
        submit_data(r);
    } else if (!data && r->range < r->range_count) {
        const struct blk_range *range = &r->ranges[r->range++];
        r->io = (struct blk_io){.op = r->op,
                                .may_unmap = range->may_unmap,
                                .offset = range->offset,
                                .size = range->size};
        submit(r);
    } else if (r->then_flush) {
        r->then_flush = false;
        r->io = (struct blk_io){.op = BLK_FLUSH};
        submit(r);
    } else {
        complete(r, VIRTIO_BLK_S_OK, r->op == BLK_READ ? r->moved : 0);
    }
}

static void complain(struct blk *b, const struct blk_io *io)
{
    static const char *const names[] = {"reading", "writing", "discarding", "zeroing", "flushing"};
    if (b->complaints >= COMPLAINTS_MAX || io->result == -ECANCELED)
        return;
    b->complaints++;
    log_error("vmm", "disk %u: %s of %llu bytes at %llu failed: %s", b->index, names[io->op],
              (unsigned long long)io->size, (unsigned long long)io->offset, strerror(-io->result));
}

static void take_up(struct blk_request *r)
{
    struct blk *b = r->owner;
    struct blk_io *io = &r->io;
    uint8_t *data = io->op == BLK_READ ? io->data : NULL;
    b->data_flying -= buffer_size(io);
    if (r->phase == BLK_ORPHAN) {
        free(r);
    } else if (io->result < 0) {
        complain(b, io);
        complete(r, VIRTIO_BLK_S_IOERR, 0);
    } else {
        if (data)
            virtqueue_chain_write(queue_of(b), &r->chain, r->moved, data, io->size);
        r->moved += buffer_size(io);
        proceed(r);
    }
    free(data);
}

void blk_take_done(struct blk *b)
{
    pthread_mutex_lock(&b->mutex);
    struct blk_request *r = b->done;
    b->done = NULL;
    b->done_last = &b->done;
    pthread_mutex_unlock(&b->mutex);
    while (r) {
        struct blk_request *next = r->done_next;
        take_up(r);
        r = next;
    }
}

/* ---- new requests ---- */

static bool set_range(const struct blk *b, uint64_t sector, uint64_t size, struct blk_range *out)
{
    const uint64_t sectors = b->backend.size / BLK_SECTOR;
    if (size % BLK_SECTOR || sector > sectors || size / BLK_SECTOR > sectors - sector)
        return false;
    *out = (struct blk_range){.offset = sector * BLK_SECTOR, .size = size};
    return true;
}

static uint8_t parse_data(struct blk_request *r, uint64_t sector)
{
    const struct virtqueue_chain *c = &r->chain;
    struct blk *b = r->owner;
    const bool write = r->type == VIRTIO_BLK_T_OUT;
    r->op = write ? BLK_WRITE : BLK_READ;
    r->then_flush = write && !virtio_pci_has_feature(b->transport, VIRTIO_BLK_F_FLUSH);
    const uint64_t size = write ? c->out_size - HEADER_SIZE : c->in_size - 1;
    if ((write && b->backend.read_only) || !set_range(b, sector, size, &r->ranges[0]))
        return VIRTIO_BLK_S_IOERR;
    return VIRTIO_BLK_S_OK;
}

/* §5.2.6.2: whatever flag isn't known is unsupported; a discard has none. */
static uint8_t parse_segment(struct blk_request *r,
                             const struct virtio_blk_discard_write_zeroes *segment)
{
    const uint32_t flags = le32toh(segment->flags);
    const bool zeroes = r->op == BLK_WRITE_ZEROES;
    if (flags & ~(zeroes ? (uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
        return VIRTIO_BLK_S_UNSUPP;
    struct blk_range *range = &r->ranges[r->range_count];
    const uint64_t size = (uint64_t)le32toh(segment->num_sectors) * BLK_SECTOR;
    if (!set_range(r->owner, le64toh(segment->sector), size, range))
        return VIRTIO_BLK_S_IOERR;
    range->may_unmap = flags != 0;
    r->range_count += size > 0;
    return VIRTIO_BLK_S_OK;
}

static uint8_t parse_ranges(struct blk_request *r)
{
    struct virtio_blk_discard_write_zeroes segments[BLK_RANGES_MAX];
    const bool discard = r->type == VIRTIO_BLK_T_DISCARD;
    const unsigned feature = discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    const uint64_t size = r->chain.out_size - HEADER_SIZE;
    if (!virtio_pci_has_feature(r->owner->transport, feature))
        return VIRTIO_BLK_S_UNSUPP;
    if (size == 0 || size % sizeof(segments[0]) || size > sizeof(segments))
        return VIRTIO_BLK_S_IOERR;
    r->op = discard ? BLK_DISCARD : BLK_WRITE_ZEROES;
    r->then_flush = !discard && !virtio_pci_has_feature(r->owner->transport, VIRTIO_BLK_F_FLUSH);
    virtqueue_chain_read(&r->chain, HEADER_SIZE, segments, size);
    uint8_t status = VIRTIO_BLK_S_OK;
    for (size_t i = 0; status == VIRTIO_BLK_S_OK && i < size / sizeof(segments[0]); i++)
        status = parse_segment(r, &segments[i]);
    return status;
}

static void answer_id(struct blk_request *r)
{
    struct blk *b = r->owner;
    const uint64_t room = r->chain.in_size - 1;
    const size_t size = room < VIRTIO_BLK_ID_BYTES ? (size_t)room : VIRTIO_BLK_ID_BYTES;
    virtqueue_chain_write(queue_of(b), &r->chain, 0, b->serial, size);
    complete(r, VIRTIO_BLK_S_OK, size);
}

static void begin_known(struct blk_request *r, uint64_t sector)
{
    uint8_t status = VIRTIO_BLK_S_OK;
    switch (r->type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        status = parse_data(r, sector);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        status = parse_ranges(r);
        break;
    case VIRTIO_BLK_T_FLUSH:
        r->op = BLK_FLUSH;
        r->then_flush = true;
        break;
    case VIRTIO_BLK_T_GET_ID:
        answer_id(r);
        return;
    default:
        status = VIRTIO_BLK_S_UNSUPP;
    }
    if (status == VIRTIO_BLK_S_OK)
        proceed(r);
    else
        complete(r, status, 0);
}

/* The chain is there. False when it is no request at all: the device fails, and the chain stays
 * taken until the reset. */
static bool begin(struct blk_request *r)
{
    struct blk *b = r->owner;
    struct virtio_blk_outhdr header;
    if (r->chain.in_size == 0 ||
        virtqueue_chain_read(&r->chain, 0, &header, sizeof(header)) != sizeof(header)) {
        virtio_pci_fail(b->transport, "a disk request without header or status byte");
        return false;
    }
    r->phase = BLK_ACTIVE;
    r->type = le32toh(header.type);
    begin_known(r, le64toh(header.sector));
    return true;
}

bool blk_take_new(struct blk *b)
{
    for (unsigned i = 0; i < BURST; i++) {
        if (b->data_flying >= DATA_FLYING_MAX)
            return false; /* its end brings us here again */
        if (virtqueue_waiting(queue_of(b)) == 0)
            return false;
        struct blk_request *r = add(b, BLK_LOADED);
        if (!r)
            return true;
        if (virtqueue_pop(queue_of(b), &r->chain) != 1) {
            unlink_request(b, r);
            free(r);
            return false;
        }
        if (!claim_head(r)) {
            virtqueue_rewind(queue_of(b), 1, 0);
            virtio_pci_fail(b->transport,
                            "a disk request is offered again before it was given back");
            unlink_request(b, r);
            free(r);
            return false;
        }
        if (!begin(r))
            return false;
    }
    return true;
}

/* ---- requests of another host ---- */

struct blk_request *blk_add_loaded(struct blk *b, uint16_t head)
{
    struct blk_request *r = add(b, BLK_LOADED);
    if (!r)
        return NULL;
    r->chain.head = head;
    const bool first = claim_head(r);
    assert(first); /* checked before the state was loaded */
    (void)first;
    return r;
}

void blk_begin_loaded(struct blk *b)
{
    for (struct blk_request *r = b->first, *next; r; r = next) {
        next = r->next;
        if (r->phase != BLK_LOADED)
            continue;
        /* A broken queue makes the device fail when it is settled. */
        if (virtqueue_fetch(queue_of(b), r->chain.head, &r->chain) < 0 || !begin(r))
            return;
    }
}

void blk_forget_all(struct blk *b)
{
    while (b->first) {
        struct blk_request *r = b->first;
        unlink_request(b, r);
        if (r->phase == BLK_LOADED)
            free(r);
        else
            r->phase = BLK_ORPHAN;
    }
    blk_take_done(b);
}
