/* virtio-blk (virtio 1.2 §5.2): one request queue in front of a backend.
 *
 *   ring ──pop──► request ──pieces──► backend, any number at once ──done list──► I/O thread: copy,
 *   push, interrupt, pop more
 *
 * A slow disk must not make a long pause, so a checkpoint waits for nothing: requests that the
 * backend has are saved as the heads of their chains, in the order they were taken. Whoever loads
 * the state begins them anew, from the buffers and descriptors in guest memory, which belong to the
 * device until it gives them back. Doing a request twice gives the same as doing it once. Guest
 * memory stays still meanwhile: the backend works on buffers of the host, and they are copied under
 * the device lock, which a parked machine doesn't give away.
 *
 * Without VIRTIO_BLK_F_FLUSH the guest counts on every completed write being durable (§5.2.6.2). */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"
#include "vmm/virtio_blk_private.h"

#define TYPE_BLK          2
#define CLASS_STORAGE     0x018000
#define SEGMENTS_MAX      126        /* of data in one request, as the guest is told */
#define RANGE_SECTORS_MAX (1u << 21) /* 1 GiB: a range is one piece of work */
#define DISCARD_ALIGNMENT 8          /* sectors */

static void serve(struct blk *b)
{
    blk_take_done(b);
    const bool more = blk_take_new(b);
    virtqueue_set_kicks(virtio_pci_queue(b->transport, BLK_QUEUE_REQUESTS), true);
    virtio_pci_settle(b->transport, BLK_QUEUE_REQUESTS);
    /* A chain may have come while the driver was told not to kick. */
    if (more || (b->taken == 0 && virtqueue_waiting(virtio_pci_queue(b->transport, 0))))
        virtio_pci_defer(b->transport, BLK_QUEUE_REQUESTS);
}

static void on_done(evutil_socket_t fd, short what, void *context)
{
    struct blk *b = context;
    (void)fd;
    (void)what;
    device_lock_acquire(b->env->lock);
    if (virtio_pci_is_running(b->transport))
        serve(b);
    else
        blk_take_done(b); /* of a device that failed */
    device_lock_release(b->env->lock);
}

static void on_start(void *context)
{
    blk_begin_loaded(context);
}

static void on_stop(void *context)
{
    blk_forget_all(context);
}

static void on_notify(void *context, unsigned index)
{
    (void)index;
    serve(context);
}

static const struct virtio_device_ops transport_ops = {
    .start = on_start, .stop = on_stop, .notify = on_notify};

/* --- driven by the machine ------------------------------------------------------------------ */

struct saved {
    uint64_t size;
    uint8_t read_only;
    uint16_t count; /* of the heads, in the order the chains were taken; the rest is zero */
    uint16_t heads[BLK_QUEUE_SIZE];
};

static const struct state_field fields[] = {
    STATE_UINT(struct saved, size, STATE_ANY64),
    STATE_UINT(struct saved, read_only, 0, 1),
    STATE_UINT(struct saved, count, 0, BLK_QUEUE_SIZE),
    STATE_ARRAY(struct saved, heads, 0, BLK_QUEUE_SIZE - 1),
};

static int check_heads(const struct saved *s, const struct blk *b, struct error *err)
{
    bool seen[BLK_QUEUE_SIZE] = {false};
    for (unsigned i = 0; i < BLK_QUEUE_SIZE; i++) {
        const uint16_t head = s->heads[i];
        if (i >= s->count ? head != 0 : seen[head])
            return error_set(err, -EINVAL, "state: disk %u: bad request in flight", b->index);
        seen[head] = i < s->count;
    }
    return 0;
}

static int check_config(const void *object, const void *context, struct error *err)
{
    const struct saved *s = object;
    const struct blk *b = context;
    if (s->size != b->backend.size || s->read_only != b->backend.read_only)
        return error_set(err, -EINVAL, "state: disk %u has %llu bytes%s there, %llu%s here",
                         b->index, (unsigned long long)s->size, s->read_only ? " read-only" : "",
                         (unsigned long long)b->backend.size,
                         b->backend.read_only ? " read-only" : "");
    return check_heads(s, b, err);
}

static const struct state_table table = {"virtio-blk", 2, fields, ARRAY_SIZE(fields), check_config};

static void blk_reset(void *context)
{
    virtio_pci_reset(((struct blk *)context)->transport);
}

static void blk_quiesce(void *context)
{
    struct blk *b = context;
    virtio_pci_quiesce(b->transport);
    blk_take_done(b);
    virtio_pci_settle(b->transport, BLK_QUEUE_REQUESTS);
}

static void blk_resume(void *context)
{
    virtio_pci_resume(((struct blk *)context)->transport);
}

static int blk_save(const void *context, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    const struct blk *b = context;
    struct saved s = {.size = b->backend.size, .read_only = b->backend.read_only};
    for (const struct blk_request *r = b->first; r; r = r->next)
        s.heads[s.count++] = r->chain.head;
    const int rc = state_save(&table, instance, &s, set, err);
    return rc < 0 ? rc : virtio_pci_save(b->transport, set, err);
}

static int blk_check(const void *context, uint32_t instance, const struct section_set *set,
                     struct error *err)
{
    const struct blk *b = context;
    struct saved s;
    int rc = state_decode(&table, instance, &s, b, set, err);
    if (rc == 0)
        rc = virtio_pci_check(b->transport, instance, set, err);
    if (rc == 0 &&
        virtio_pci_saved_in_flight(b->transport, instance, set, BLK_QUEUE_REQUESTS) != s.count)
        rc = error_set(err, -EINVAL, "state: disk %u: requests in flight don't match the queue",
                       b->index);
    return rc;
}

static void blk_load(void *context, uint32_t instance, const struct section_set *set)
{
    struct blk *b = context;
    struct saved s;
    virtio_pci_load(b->transport, instance, set);
    const int rc = state_decode(&table, instance, &s, b, set, NULL);
    assert(rc == 0);
    (void)rc;
    for (unsigned i = 0; i < s.count; i++)
        if (!blk_add_loaded(b, s.heads[i]))
            abort();
}

static void free_blk(struct blk *b)
{
    if (b->done_event)
        event_free(b->done_event);
    virtio_pci_destroy(&b->transport);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

static void blk_destroy(void *context)
{
    struct blk *b = context;
    blk_forget_all(b);
    pthread_mutex_lock(&b->mutex);
    while (b->flying)
        pthread_cond_wait(&b->changed, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
    blk_take_done(b);
    free_blk(b);
}

static const struct device_ops device_ops = {
    .name = "virtio-blk",
    .reset = blk_reset,
    .quiesce = blk_quiesce,
    .resume = blk_resume,
    .save = blk_save,
    .check = blk_check,
    .load = blk_load,
    .destroy = blk_destroy,
};

static void fill_space(struct blk *b)
{
    b->space.capacity = b->backend.size / BLK_SECTOR;
    b->space.seg_max = SEGMENTS_MAX;
    b->space.blk_size = BLK_SECTOR;
    b->space.max_discard_sectors = RANGE_SECTORS_MAX;
    b->space.max_discard_seg = BLK_RANGES_MAX;
    b->space.discard_sector_alignment = DISCARD_ALIGNMENT;
    b->space.max_write_zeroes_sectors = RANGE_SECTORS_MAX;
    b->space.max_write_zeroes_seg = BLK_RANGES_MAX;
    b->space.write_zeroes_may_unmap = 1;
}

static int add_transport(struct blk *b, struct pci_host *host, uint8_t slot, struct error *err)
{
    uint64_t features =
        1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH;
    features |= b->backend.read_only
                    ? 1ull << VIRTIO_BLK_F_RO
                    : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
    const struct virtio_pci_config transport = {
        .name = "virtio-blk",
        .instance = b->index,
        .slot = slot,
        .type = TYPE_BLK,
        .class_code = CLASS_STORAGE,
        .features = features,
        .queue_count = 1,
        .queue_size = BLK_QUEUE_SIZE,
        .device_config = &b->space,
        .device_config_size = sizeof(b->space),
        .ops = &transport_ops,
        .context = b,
    };
    return virtio_pci_create(b->env, host, &transport, &b->transport, err);
}

int virtio_blk_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_blk_options *options, struct device *out,
                      struct error *err)
{
    assert(options->backend.size && options->backend.size % BLK_SECTOR == 0);
    struct blk *b = calloc(1, sizeof(*b));
    if (!b)
        return error_set(err, -ENOMEM, "virtio-blk: out of memory");
    b->env = env;
    b->index = options->index;
    b->backend = options->backend;
    b->done_last = &b->done;
    snprintf(b->serial, sizeof(b->serial), "kemari-disk%u", options->index);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    fill_space(b);
    int rc = add_transport(b, host, options->slot, err);
    if (rc == 0) {
        b->done_event = event_new(env->events, -1, EV_PERSIST, on_done, b);
        if (!b->done_event)
            rc = error_set(err, -ENOMEM, "virtio-blk: out of memory");
    }
    if (rc < 0) {
        free_blk(b);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = b, .instance = options->index};
    return 0;
}
