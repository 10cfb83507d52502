/* State of the virtio transport: section "<device>.virtio" (registers and queues) next to the PCI
 * function's own "<device>.pci".
 *
 * A saved queue is its ring addresses and two counters. Everything else about it is in guest memory
 * or follows from the features. Counters may be apart only by what was in flight, at most the
 * queue's size; published and pushed are the same between two pieces of work. */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>

#include "vmm/state.h"
#include "vmm/virtio_pci_private.h"

struct saved {
    struct virtio_state common;
    uint64_t desc[VIRTIO_QUEUES_MAX];
    uint64_t driver[VIRTIO_QUEUES_MAX];
    uint64_t device[VIRTIO_QUEUES_MAX];
    uint16_t size[VIRTIO_QUEUES_MAX];
    uint16_t vector[VIRTIO_QUEUES_MAX];
    uint16_t next_avail[VIRTIO_QUEUES_MAX];
    uint16_t next_used[VIRTIO_QUEUES_MAX];
    uint8_t enabled[VIRTIO_QUEUES_MAX];
    uint8_t kicks_off[VIRTIO_QUEUES_MAX];
};

#define STATUS_BITS                                                                                \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |            \
     VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)

static const struct state_field fields[] = {
    STATE_UINT(struct saved, common.driver_features, STATE_ANY64),
    STATE_UINT(struct saved, common.device_feature_select, STATE_ANY32),
    STATE_UINT(struct saved, common.driver_feature_select, STATE_ANY32),
    STATE_UINT(struct saved, common.queue_select, STATE_ANY16),
    STATE_UINT(struct saved, common.config_vector, STATE_ANY16),
    STATE_UINT(struct saved, common.status, 0, STATUS_BITS),
    STATE_UINT(struct saved, common.isr, 0, 3),
    STATE_ARRAY(struct saved, desc, STATE_ANY64),
    STATE_ARRAY(struct saved, driver, STATE_ANY64),
    STATE_ARRAY(struct saved, device, STATE_ANY64),
    STATE_ARRAY(struct saved, size, STATE_ANY16),
    STATE_ARRAY(struct saved, vector, STATE_ANY16),
    STATE_ARRAY(struct saved, next_avail, STATE_ANY16),
    STATE_ARRAY(struct saved, next_used, STATE_ANY16),
    STATE_ARRAY(struct saved, enabled, 0, 1),
    STATE_ARRAY(struct saved, kicks_off, 0, 1),
};

static int bad(const struct virtio_pci *d, const char *what, struct error *err)
{
    return error_set(err, -EINVAL, "state: section %s: bad %s", d->section, what);
}

static bool vector_is_valid(const struct virtio_pci *d, uint16_t vector)
{
    return vector <= d->queue_count || vector == VIRTQUEUE_NO_VECTOR;
}

static int check_common(const struct virtio_pci *d, const struct virtio_state *s, struct error *err)
{
    const bool features_ok = s->status & VIRTIO_CONFIG_S_FEATURES_OK;
    if (s->status & ~STATUS_BITS)
        return bad(d, "status", err);
    if ((s->status & VIRTIO_CONFIG_S_DRIVER_OK) && !features_ok)
        return bad(d, "status", err);
    if (features_ok && !virtio_features_acceptable(d, s->driver_features))
        return bad(d, "features", err);
    if (!vector_is_valid(d, s->config_vector))
        return bad(d, "configuration vector", err);
    return 0;
}

static int check_queue(const struct virtio_pci *d, const struct saved *s, unsigned i,
                       struct error *err)
{
    const struct virtqueue q = {
        .memory = d->env->memory,
        .size_max = d->queues[i].size_max,
        .size = s->size[i],
        .desc = s->desc[i],
        .driver = s->driver[i],
        .device = s->device[i],
    };
    if (!vector_is_valid(d, s->vector[i]))
        return bad(d, "queue vector", err);
    if (!s->enabled[i])
        return s->next_avail[i] || s->next_used[i] || s->kicks_off[i] ? bad(d, "idle queue", err)
                                                                      : 0;
    if (!virtqueue_is_valid(&q))
        return bad(d, "queue size or address", err);
    if ((uint16_t)(s->next_avail[i] - s->next_used[i]) > q.size)
        return bad(d, "queue position", err);
    return 0;
}

static int check_absent_queue(const struct virtio_pci *d, const struct saved *s, unsigned i,
                              struct error *err)
{
    const bool empty = !s->desc[i] && !s->driver[i] && !s->device[i] && !s->size[i] &&
                       !s->vector[i] && !s->next_avail[i] && !s->next_used[i] && !s->enabled[i] &&
                       !s->kicks_off[i];
    return empty ? 0 : bad(d, "queue that does not exist", err);
}

static int check(const void *object, const void *context, struct error *err)
{
    const struct saved *s = object;
    const struct virtio_pci *d = context;
    int rc = check_common(d, &s->common, err);
    for (unsigned i = 0; rc == 0 && i < VIRTIO_QUEUES_MAX; i++)
        rc = i < d->queue_count ? check_queue(d, s, i, err) : check_absent_queue(d, s, i, err);
    return rc;
}

static struct state_table table_of(const struct virtio_pci *d)
{
    return (struct state_table){d->section, 1, fields, ARRAY_SIZE(fields), check};
}

void virtio_state_name_section(struct virtio_pci *d)
{
    snprintf(d->section, sizeof(d->section), "%s.virtio", d->name);
}

int virtio_pci_save(const struct virtio_pci *d, struct section_set *set, struct error *err)
{
    struct saved s = {.common = d->state};
    for (unsigned i = 0; i < d->queue_count; i++) {
        const struct virtqueue *q = &d->queues[i];
        assert(q->published == q->next_used);
        s.desc[i] = q->desc;
        s.driver[i] = q->driver;
        s.device[i] = q->device;
        s.size[i] = q->size;
        s.vector[i] = q->vector;
        s.next_avail[i] = q->next_avail;
        s.next_used[i] = q->next_used;
        s.enabled[i] = q->enabled;
        s.kicks_off[i] = q->kicks_off;
    }
    const struct state_table table = table_of(d);
    const int rc = pci_function_save(d->function, d->instance, set, err);
    return rc < 0 ? rc : state_save(&table, d->instance, &s, set, err);
}

int virtio_pci_check(const struct virtio_pci *d, uint32_t instance, const struct section_set *set,
                     struct error *err)
{
    struct saved s;
    const struct state_table table = table_of(d);
    const int rc = pci_function_check(d->function, instance, set, err);
    return rc < 0 ? rc : state_decode(&table, instance, &s, d, set, err);
}

unsigned virtio_pci_saved_in_flight(const struct virtio_pci *d, uint32_t instance,
                                    const struct section_set *set, unsigned index)
{
    struct saved s;
    const struct state_table table = table_of(d);
    const int rc = state_decode(&table, instance, &s, d, set, NULL);
    assert(rc == 0 && index < VIRTIO_QUEUES_MAX);
    (void)rc;
    return (uint16_t)(s.next_avail[index] - s.next_used[index]);
}

static void load_queue(struct virtqueue *q, const struct saved *s, unsigned i)
{
    virtqueue_reset(q);
    q->desc = s->desc[i];
    q->driver = s->driver[i];
    q->device = s->device[i];
    q->size = s->size[i];
    q->vector = s->vector[i];
    if (!s->enabled[i])
        return;
    const bool enabled = virtqueue_enable(q);
    assert(enabled);
    (void)enabled;
    q->next_avail = s->next_avail[i];
    q->next_used = q->published = s->next_used[i];
    q->kicks_off = s->kicks_off[i];
}

void virtio_pci_load(struct virtio_pci *d, uint32_t instance, const struct section_set *set)
{
    struct saved s;
    const struct state_table table = table_of(d);
    const int rc = state_decode(&table, instance, &s, d, set, NULL);
    assert(rc == 0);
    (void)rc;
    if (d->ops->stop)
        d->ops->stop(d->context);
    d->paused = true;
    d->deferred = 0;
    d->state = s.common;
    for (unsigned i = 0; i < d->queue_count; i++)
        load_queue(&d->queues[i], &s, i);
    virtio_apply_features(d);
    pci_function_load(d->function, instance, set);
}
