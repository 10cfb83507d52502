/* See virtqueue.h. Memory order: the driver publishes with a store-release of avail->idx and reads
 * used->idx with load-acquire; event suppression needs a full fence on both sides (§2.7.7.1). */
#include "vmm/virtqueue.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define AVAIL_HEADER 4 /* flags, idx */
#define USED_HEADER  4

static size_t desc_bytes(uint16_t size)
{
    return (size_t)size * sizeof(struct vring_desc);
}

/* Both with the trailing event word, negotiated or not: the ring is laid out for it. */
static size_t avail_bytes(uint16_t size)
{
    return AVAIL_HEADER + 2u * size + 2u;
}

static size_t used_bytes(uint16_t size)
{
    return USED_HEADER + (size_t)size * sizeof(struct vring_used_elem) + 2u;
}

static int break_queue(struct virtqueue *q, const char *why)
{
    q->broken = why;
    return -EPROTO;
}

static uint16_t load_u16(const uint8_t *p)
{
    return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

/* A used-ring word at byte `offset`: store, then mark. */
static void store_used_u16(struct virtqueue *q, size_t offset, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)(q->device_view + offset), value, __ATOMIC_RELEASE);
    gmem_mark_dirty(q->memory, q->device + offset, sizeof(value));
}

void virtqueue_reset(struct virtqueue *q)
{
    *q = (struct virtqueue){
        .memory = q->memory,
        .size_max = q->size_max,
        .size = q->size_max,
        .vector = VIRTQUEUE_NO_VECTOR,
    };
}

bool virtqueue_is_valid(const struct virtqueue *q)
{
    if (q->size == 0 || q->size > q->size_max || (q->size & (q->size - 1)))
        return false;
    if (q->desc % 16 || q->driver % 2 || q->device % 4)
        return false;
    return gmem_view(q->memory, q->desc, desc_bytes(q->size)) &&
           gmem_view(q->memory, q->driver, avail_bytes(q->size)) &&
           gmem_view(q->memory, q->device, used_bytes(q->size));
}

bool virtqueue_enable(struct virtqueue *q)
{
    if (!virtqueue_is_valid(q))
        return false;
    q->desc_view = gmem_view(q->memory, q->desc, desc_bytes(q->size));
    q->driver_view = gmem_view(q->memory, q->driver, avail_bytes(q->size));
    q->device_view = gmem_view(q->memory, q->device, used_bytes(q->size));
    q->enabled = true;
    return true;
}

uint16_t virtqueue_waiting(struct virtqueue *q)
{
    if (!q->enabled || q->broken)
        return 0;
    const uint16_t waiting = (uint16_t)(load_u16(q->driver_view + 2) - q->next_avail);
    if (waiting > q->size) {
        break_queue(q, "the available index jumped");
        return 0;
    }
    return waiting;
}

/* Copies one descriptor out of guest memory. The barrier keeps the compiler from reading the
 * guest's bytes a second time in place of the copy. */
static struct vring_desc copy_desc(const uint8_t *table, uint32_t index)
{
    struct vring_desc d;
    memcpy(&d, table + (size_t)index * sizeof(d), sizeof(d));
    __asm__ volatile("" : : : "memory");
    return d;
}

/* Adds one buffer; empty ones are legal and carry nothing. */
static int add_segment(struct virtqueue *q, struct virtqueue_chain *chain,
                       const struct vring_desc *d)
{
    const bool in = d->flags & VRING_DESC_F_WRITE;
    if (!in && chain->in_count)
        return break_queue(q, "a readable buffer follows a writable one");
    if (d->len == 0)
        return 0;
    uint8_t *host = gmem_view(q->memory, d->addr, d->len);
    if (!host)
        return break_queue(q, "a buffer lies outside guest memory");
    chain->segments[chain->out_count + chain->in_count] =
        (struct virtqueue_segment){.host = host, .gpa = d->addr, .size = d->len};
    if (in) {
        chain->in_count++;
        chain->in_size += d->len;
    } else {
        chain->out_count++;
        chain->out_size += d->len;
    }
    return 0;
}

/* Where descriptors are read from while walking a chain. */
struct table {
    const uint8_t *bytes;
    uint32_t count;
    bool indirect;
};

/* Replaces the main table by the indirect one that `d` points to (§2.7.5.3). */
static int enter_indirect(struct virtqueue *q, const struct vring_desc *d, struct table *table)
{
    if (table->indirect || (d->flags & VRING_DESC_F_NEXT))
        return break_queue(q, "an indirect descriptor is nested or continued");
    if (d->len == 0 || d->len % sizeof(struct vring_desc))
        return break_queue(q, "an indirect table has an odd size");
    table->bytes = gmem_view(q->memory, d->addr, d->len);
    if (!table->bytes)
        return break_queue(q, "an indirect table lies outside guest memory");
    table->count = d->len / (uint32_t)sizeof(struct vring_desc);
    table->indirect = true;
    return 0;
}

/* Follows the chain from `head`. Every step counts against VIRTQUEUE_CHAIN_MAX, so a loop ends, and
 * an entered indirect table starts at its own descriptor 0. */
static int walk(struct virtqueue *q, struct virtqueue_chain *chain, uint16_t head)
{
    struct table table = {.bytes = q->desc_view, .count = q->size};
    chain->head = head;
    chain->out_count = chain->in_count = 0;
    chain->out_size = chain->in_size = 0;
    uint32_t index = chain->head;
    for (unsigned steps = 0; steps < VIRTQUEUE_CHAIN_MAX; steps++) {
        if (index >= table.count)
            return break_queue(q, "a descriptor index is out of range");
        const struct vring_desc d = copy_desc(table.bytes, index);
        int rc;
        if (d.flags & VRING_DESC_F_INDIRECT) {
            rc = enter_indirect(q, &d, &table);
            index = 0;
        } else {
            rc = add_segment(q, chain, &d);
            if (rc == 0 && !(d.flags & VRING_DESC_F_NEXT))
                return 0;
            index = d.next;
        }
        if (rc < 0)
            return rc;
    }
    return break_queue(q, "a chain is endless or too long");
}

int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain)
{
    const uint16_t waiting = virtqueue_waiting(q);
    if (q->broken)
        return -EPROTO;
    if (waiting == 0)
        return 0;
    /* More chains taken than the ring has places: the driver offers what it has not got back. */
    if ((uint16_t)(q->next_avail - q->next_used) >= q->size)
        return break_queue(q, "more buffers are offered than the queue holds");
    const size_t slot = q->next_avail & (q->size - 1u);
    const int rc = walk(q, chain, load_u16(q->driver_view + AVAIL_HEADER + 2 * slot));
    if (rc < 0)
        return rc;
    q->next_avail++;
    return 1;
}

int virtqueue_fetch(struct virtqueue *q, uint16_t head, struct virtqueue_chain *chain)
{
    return q->enabled && !q->broken ? walk(q, chain, head) : -EPROTO;
}

void virtqueue_rewind(struct virtqueue *q, uint16_t popped, uint16_t pushed)
{
    assert(pushed <= (uint16_t)(q->next_used - q->published));
    q->next_avail = (uint16_t)(q->next_avail - popped);
    q->next_used = (uint16_t)(q->next_used - pushed);
}

void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
    const size_t slot = q->next_used & (q->size - 1u);
    const size_t offset = USED_HEADER + slot * sizeof(struct vring_used_elem);
    const struct vring_used_elem elem = {.id = head, .len = written};
    gmem_store(q->device_view + offset, &elem, sizeof(elem));
    gmem_mark_dirty(q->memory, q->device + offset, sizeof(elem));
    q->next_used++;
}

bool virtqueue_publish(struct virtqueue *q)
{
    const uint16_t before = q->published;
    if (before == q->next_used)
        return false;
    q->published = q->next_used;
    store_used_u16(q, 2, q->published);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!q->event_idx)
        return !(load_u16(q->driver_view) & VRING_AVAIL_F_NO_INTERRUPT);
    const uint16_t used_event = load_u16(q->driver_view + AVAIL_HEADER + 2u * q->size);
    return vring_need_event(used_event, q->published, before);
}

void virtqueue_set_kicks(struct virtqueue *q, bool on)
{
    if (!q->enabled)
        return;
    if (q->event_idx) {
        /* The driver notifies when it passes avail_event; one that it has passed keeps quiet.
         * Written only when it changes: an idle queue must not dirty a page in every epoch. */
        const size_t at = USED_HEADER + q->size * sizeof(struct vring_used_elem);
        const uint16_t offered = load_u16(q->driver_view + 2);
        if (on && load_u16(q->device_view + at) != offered)
            store_used_u16(q, at, offered);
    } else if (q->kicks_off == on) {
        store_used_u16(q, 0, on ? 0 : VRING_USED_F_NO_NOTIFY);
    }
    q->kicks_off = !on;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

size_t virtqueue_chain_read(const struct virtqueue_chain *chain, uint64_t offset, void *data,
                            size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < chain->out_count && done < size; i++) {
        const struct virtqueue_segment *s = &chain->segments[i];
        if (offset >= s->size) {
            offset -= s->size;
            continue;
        }
        const size_t here = s->size - offset < size - done ? s->size - offset : size - done;
        memcpy((uint8_t *)data + done, s->host + offset, here);
        done += here;
        offset = 0;
    }
    return done;
}

size_t virtqueue_chain_write(struct virtqueue *q, const struct virtqueue_chain *chain,
                             uint64_t offset, const void *data, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < chain->in_count && done < size; i++) {
        const struct virtqueue_segment *s = &chain->segments[chain->out_count + i];
        if (offset >= s->size) {
            offset -= s->size;
            continue;
        }
        const size_t here = s->size - offset < size - done ? s->size - offset : size - done;
        gmem_store(s->host + offset, (const uint8_t *)data + done, here);
        gmem_mark_dirty(q->memory, s->gpa + offset, here);
        done += here;
        offset = 0;
    }
    return done;
}
