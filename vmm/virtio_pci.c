/* See virtio_pci.h. BAR 0 has four pages: common configuration, ISR, device configuration, notify.
 * The MSI-X page is BAR 1 and belongs to pci.c. State is in virtio_state.c. */
#include "vmm/virtio_pci.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/virtio_pci_private.h"

#define VENDOR_VIRTIO      0x1af4
#define DEVICE_MODERN_BASE 0x1040
#define SUBSYSTEM_BASE     0x40
#define COMPLAINTS_MAX     8

#define ISR_QUEUE          1u
#define ISR_CONFIG         2u

#define TRANSPORT_FEATURES                                                                         \
    (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                            \
     1ull << VIRTIO_RING_F_EVENT_IDX)

#define DRIVER_STATUS_BITS                                                                         \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |            \
     VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

/* --- status and interrupts ------------------------------------------------------------------ */

static bool is_ready(const struct virtio_pci *d)
{
    const uint8_t needed = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
    const uint8_t bad = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
    return (d->state.status & (needed | bad)) == needed;
}

bool virtio_pci_is_running(const struct virtio_pci *d)
{
    return is_ready(d) && !d->paused;
}

bool virtio_pci_has_feature(const struct virtio_pci *d, unsigned bit)
{
    return (d->state.status & VIRTIO_CONFIG_S_FEATURES_OK) && (d->state.driver_features >> bit & 1);
}

struct virtqueue *virtio_pci_queue(struct virtio_pci *d, unsigned index)
{
    assert(index < d->queue_count);
    return &d->queues[index];
}

static void interrupt(struct virtio_pci *d, uint8_t cause, uint16_t vector)
{
    d->state.isr |= cause;
    if (vector != VIRTQUEUE_NO_VECTOR)
        pci_function_signal(d->function, vector);
}

void virtio_pci_fail(struct virtio_pci *d, const char *why)
{
    if (d->state.status & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    const bool told = d->state.status & VIRTIO_CONFIG_S_DRIVER_OK;
    d->state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if (d->complaints < COMPLAINTS_MAX) {
        d->complaints++;
        log_warning("vmm", "%s %u stops until the guest resets it: %s", d->name, d->instance, why);
    }
    if (told)
        interrupt(d, ISR_CONFIG, d->state.config_vector);
}

void virtio_pci_settle(struct virtio_pci *d, unsigned index)
{
    struct virtqueue *q = virtio_pci_queue(d, index);
    if (q->enabled && virtqueue_publish(q))
        interrupt(d, ISR_QUEUE, q->vector);
    if (q->broken)
        virtio_pci_fail(d, q->broken);
}

static void notify_queue(struct virtio_pci *d, unsigned index)
{
    if (virtio_pci_is_running(d) && index < d->queue_count && d->queues[index].enabled)
        d->ops->notify(d->context, index);
}

static void on_deferred(evutil_socket_t fd, short what, void *context)
{
    struct virtio_pci *d = context;
    (void)fd;
    (void)what;
    device_lock_acquire(d->env->lock);
    const uint32_t queues = d->deferred;
    d->deferred = 0;
    for (unsigned i = 0; i < d->queue_count; i++)
        if (queues >> i & 1)
            notify_queue(d, i);
    device_lock_release(d->env->lock);
}

void virtio_pci_defer(struct virtio_pci *d, unsigned index)
{
    d->deferred |= 1u << index;
    event_active(d->defer_event, EV_TIMEOUT, 0);
}

static void reset_transport(struct virtio_pci *d)
{
    if (d->ops->stop)
        d->ops->stop(d->context);
    d->state = (struct virtio_state){.config_vector = VIRTQUEUE_NO_VECTOR};
    d->deferred = 0;
    for (unsigned i = 0; i < d->queue_count; i++)
        virtqueue_reset(&d->queues[i]);
}

bool virtio_features_acceptable(const struct virtio_pci *d, uint64_t features)
{
    return !(features & ~d->offered) && (features >> VIRTIO_F_VERSION_1 & 1) &&
           (!d->ops->accept_features || d->ops->accept_features(features));
}

void virtio_apply_features(struct virtio_pci *d)
{
    for (unsigned i = 0; i < d->queue_count; i++)
        d->queues[i].event_idx = virtio_pci_has_feature(d, VIRTIO_RING_F_EVENT_IDX);
}

/* Bits only ever get set; the way back is a reset. FEATURES_OK stays off for features we can't
 * serve (§3.1.1), and DRIVER_OK has no meaning without it. */
static void write_status(struct virtio_pci *d, uint8_t value)
{
    if (value == 0) {
        reset_transport(d);
        return;
    }
    const uint8_t before = d->state.status;
    uint8_t status = (uint8_t)(before | (value & DRIVER_STATUS_BITS));
    if (!(before & VIRTIO_CONFIG_S_FEATURES_OK) &&
        !virtio_features_acceptable(d, d->state.driver_features))
        status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
    if (!(status & VIRTIO_CONFIG_S_FEATURES_OK))
        status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
    d->state.status = status;
    virtio_apply_features(d);
    if (!(before & VIRTIO_CONFIG_S_DRIVER_OK) && virtio_pci_is_running(d) && d->ops->start)
        d->ops->start(d->context);
}

/* --- common configuration (§4.1.4.3) -------------------------------------------------------- */

static struct virtqueue *selected_queue(struct virtio_pci *d)
{
    return d->state.queue_select < d->queue_count ? &d->queues[d->state.queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void read_common(struct virtio_pci *d, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct virtio_pci_common_cfg c = {
        .device_feature_select = d->state.device_feature_select,
        .device_feature = feature_word(d->offered, d->state.device_feature_select),
        .guest_feature_select = d->state.driver_feature_select,
        .guest_feature = feature_word(d->state.driver_features, d->state.driver_feature_select),
        .msix_config = d->state.config_vector,
        .num_queues = (uint16_t)d->queue_count,
        .device_status = d->state.status,
        .queue_select = d->state.queue_select,
        .queue_msix_vector = VIRTQUEUE_NO_VECTOR,
    };
    const struct virtqueue *q = selected_queue(d);
    if (q) {
        c.queue_size = q->size;
        c.queue_msix_vector = q->vector;
        c.queue_enable = q->enabled;
        c.queue_notify_off = d->state.queue_select;
        c.queue_desc_lo = (uint32_t)q->desc;
        c.queue_desc_hi = (uint32_t)(q->desc >> 32);
        c.queue_avail_lo = (uint32_t)q->driver;
        c.queue_avail_hi = (uint32_t)(q->driver >> 32);
        c.queue_used_lo = (uint32_t)q->device;
        c.queue_used_hi = (uint32_t)(q->device >> 32);
    }
    memset(data, 0, size);
    if (offset < sizeof(c))
        memcpy(data, (const uint8_t *)&c + offset,
               size < sizeof(c) - offset ? size : sizeof(c) - offset);
}

static uint16_t accepted_vector(const struct virtio_pci *d, uint32_t value)
{
    return value <= d->queue_count ? (uint16_t)value : VIRTQUEUE_NO_VECTOR;
}

static void write_device_wide(struct virtio_pci *d, uint64_t offset, uint32_t value)
{
    struct virtio_state *s = &d->state;
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        s->device_feature_select = value;
        return;
    case VIRTIO_PCI_COMMON_GFSELECT:
        s->driver_feature_select = value;
        return;
    case VIRTIO_PCI_COMMON_GF:
        if (s->driver_feature_select < 2 && !(s->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
            const unsigned shift = 32 * s->driver_feature_select;
            s->driver_features &= ~((uint64_t)UINT32_MAX << shift);
            s->driver_features |= (uint64_t)value << shift;
        }
        return;
    case VIRTIO_PCI_COMMON_MSIX:
        s->config_vector = accepted_vector(d, value);
        return;
    case VIRTIO_PCI_COMMON_STATUS:
        write_status(d, (uint8_t)value);
        return;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        s->queue_select = (uint16_t)value;
        return;
    default:
        return;
    }
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
    const unsigned shift = high ? 32 : 0;
    *address = (*address & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static void write_queue(struct virtio_pci *d, uint64_t offset, uint32_t value)
{
    struct virtqueue *q = selected_queue(d);
    if (!q)
        return;
    if (offset == VIRTIO_PCI_COMMON_Q_MSIX)
        q->vector = accepted_vector(d, value);
    if (q->enabled)
        return;
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        q->size = (uint16_t)value;
        return;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        if (value == 1 && !virtqueue_enable(q))
            virtio_pci_fail(d, "a queue was enabled with a bad size or address");
        return;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        set_half(&q->desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        return;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        set_half(&q->driver, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        return;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        set_half(&q->device, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        return;
    default:
        return;
    }
}

/* Width of the field at `offset`, 0 when no writable field begins there. */
static uint32_t field_width(uint64_t offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        return 2;
    case VIRTIO_PCI_COMMON_DFSELECT:
    case VIRTIO_PCI_COMMON_GFSELECT:
    case VIRTIO_PCI_COMMON_GF:
        return 4;
    default:
        return offset >= VIRTIO_PCI_COMMON_Q_DESCLO && offset <= VIRTIO_PCI_COMMON_Q_USEDHI &&
                       offset % 4 == 0
                   ? 4
                   : 0;
    }
}

/* Fields must be accessed in their own width (§4.1.3.1); a 64-bit address also in one go. */
static void write_common(struct virtio_pci *d, uint64_t offset, const uint8_t *data, uint32_t size)
{
    if (size == 8 && offset >= VIRTIO_PCI_COMMON_Q_DESCLO) {
        write_common(d, offset, data, 4);
        write_common(d, offset + 4, data + 4, 4);
        return;
    }
    if (size != field_width(offset))
        return;
    uint32_t value = 0;
    memcpy(&value, data, size);
    if (offset > VIRTIO_PCI_COMMON_Q_SELECT)
        write_queue(d, offset, value);
    else
        write_device_wide(d, offset, value);
}

/* --- the BAR -------------------------------------------------------------------------------- */

static void bar_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct virtio_pci *d = context;
    const uint64_t part = offset & ~(uint64_t)(VIRTIO_BAR_PART - 1);
    const uint64_t at = offset - part;
    memset(data, 0, size);
    if (part == VIRTIO_BAR_COMMON) {
        read_common(d, at, data, size);
    } else if (part == VIRTIO_BAR_ISR && at == 0) {
        data[0] = d->state.isr;
        d->state.isr = 0; /* reading acknowledges (§4.1.4.5) */
    } else if (part == VIRTIO_BAR_DEVICE && at < d->device_config_size) {
        const size_t there = d->device_config_size - at;
        memcpy(data, d->device_config + at, size < there ? size : there);
    }
}

static void bar_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct virtio_pci *d = context;
    const uint64_t part = offset & ~(uint64_t)(VIRTIO_BAR_PART - 1);
    if (part == VIRTIO_BAR_COMMON)
        write_common(d, offset - part, data, size);
    else if (part == VIRTIO_BAR_NOTIFY)
        notify_queue(d, (unsigned)((offset - part) / VIRTIO_NOTIFY_STRIDE));
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

/* --- the window in configuration space (§4.1.4.9) ------------------------------------------- */

/* Where the driver points the window, or false when it points nowhere. */
static bool window_target(const struct virtio_pci *d, uint64_t offset, uint32_t size, uint32_t *at)
{
    struct virtio_pci_cap cap;
    memcpy(&cap, pci_function_config(d->function) + d->window_at, sizeof(cap));
    *at = cap.offset;
    return offset == 0 && cap.bar == VIRTIO_BAR && cap.length == size && cap.offset % size == 0 &&
           cap.offset < VIRTIO_BAR_SIZE;
}

static void window_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    uint32_t at;
    memset(data, 0, size);
    if (window_target(context, offset, size, &at))
        bar_read(context, at, data, size);
}

static void window_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    uint32_t at;
    if (window_target(context, offset, size, &at))
        bar_write(context, at, data, size);
}

static const struct bus_ops window_ops = {.read = window_read, .write = window_write};

/* --- creation ------------------------------------------------------------------------------- */

static uint8_t add_structure(struct virtio_pci *d, uint8_t type, uint32_t offset, uint32_t length,
                             uint32_t extra, uint8_t size)
{
    uint8_t bytes[sizeof(struct virtio_pci_cap) + sizeof(extra)] = {0};
    const struct virtio_pci_cap cap = {
        .cap_len = size, .cfg_type = type, .bar = VIRTIO_BAR, .offset = offset, .length = length};
    memcpy(bytes, &cap, sizeof(cap));
    memcpy(bytes + sizeof(cap), &extra, sizeof(extra));
    return pci_function_add_capability(d->function, PCI_CAP_ID_VNDR, bytes + 2,
                                       (uint8_t)(size - 2));
}

static void add_structures(struct virtio_pci *d)
{
    const uint8_t plain = sizeof(struct virtio_pci_cap);
    const uint8_t with_word = plain + 4;
    add_structure(d, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_BAR_COMMON,
                  sizeof(struct virtio_pci_common_cfg), 0, plain);
    add_structure(d, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_BAR_ISR, 1, 0, plain);
    if (d->device_config_size)
        add_structure(d, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_BAR_DEVICE,
                      (uint32_t)d->device_config_size, 0, plain);
    add_structure(d, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_BAR_NOTIFY,
                  d->queue_count * VIRTIO_NOTIFY_STRIDE, VIRTIO_NOTIFY_STRIDE, with_word);
    d->window_at = add_structure(d, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, with_word);
    const uint8_t any[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct pci_function *f = d->function;
    const uint8_t at = d->window_at;
    pci_function_make_writable(f, (uint8_t)(at + VIRTIO_PCI_CAP_BAR), any, 1);
    pci_function_make_writable(f, (uint8_t)(at + VIRTIO_PCI_CAP_OFFSET), any, 8);
    pci_function_set_config_window(f, (uint8_t)(at + plain), 4, &window_ops, d);
}

static int add_function(struct virtio_pci *d, struct pci_host *host,
                        const struct virtio_pci_config *config, struct error *err)
{
    const struct pci_function_config function = {
        .name = config->name,
        .slot = config->slot,
        .revision = 1,
        .vendor = VENDOR_VIRTIO,
        .device = (uint16_t)(DEVICE_MODERN_BASE + config->type),
        .subsystem_vendor = VENDOR_VIRTIO,
        .subsystem = (uint16_t)(SUBSYSTEM_BASE + config->type),
        .class_code = config->class_code,
    };
    int rc = pci_function_create(host, &function, &d->function, err);
    if (rc == 0)
        rc = pci_function_add_bar(d->function, VIRTIO_BAR, VIRTIO_BAR_SIZE, &bar_ops, d, err);
    if (rc == 0)
        rc = pci_function_add_msix(d->function, VIRTIO_BAR_MSIX, config->queue_count + 1, err);
    if (rc == 0)
        add_structures(d);
    return rc;
}

int virtio_pci_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_pci_config *config, struct virtio_pci **out,
                      struct error *err)
{
    *out = NULL;
    assert(config->queue_count <= VIRTIO_QUEUES_MAX && config->queue_size <= VIRTQUEUE_SIZE_MAX);
    struct virtio_pci *d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(err, -ENOMEM, "%s: out of memory", config->name);
    d->env = env;
    d->name = config->name;
    d->instance = config->instance;
    d->ops = config->ops;
    d->context = config->context;
    d->offered = config->features | TRANSPORT_FEATURES;
    d->queue_count = config->queue_count;
    d->device_config = config->device_config;
    d->device_config_size = config->device_config_size;
    d->state.config_vector = VIRTQUEUE_NO_VECTOR;
    for (unsigned i = 0; i < d->queue_count; i++) {
        d->queues[i].memory = env->memory;
        d->queues[i].size_max = config->queue_size;
        virtqueue_reset(&d->queues[i]);
    }
    virtio_state_name_section(d);
    d->defer_event = event_new(env->events, -1, EV_PERSIST, on_deferred, d);
    const int rc = d->defer_event ? add_function(d, host, config, err)
                                  : error_set(err, -ENOMEM, "%s: out of memory", config->name);
    if (rc < 0)
        virtio_pci_destroy(&d);
    *out = d;
    return rc;
}

void virtio_pci_destroy(struct virtio_pci **device)
{
    struct virtio_pci *d = *device;
    if (!d)
        return;
    if (d->defer_event)
        event_free(d->defer_event);
    pci_function_destroy(&d->function);
    free(d);
    *device = NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

void virtio_pci_reset(struct virtio_pci *d)
{
    reset_transport(d);
    pci_function_reset(d->function);
}

void virtio_pci_quiesce(struct virtio_pci *d)
{
    d->paused = true;
}

void virtio_pci_resume(struct virtio_pci *d)
{
    d->paused = false;
    d->deferred = 0;
    if (is_ready(d) && d->ops->start)
        d->ops->start(d->context);
    for (unsigned i = 0; i < d->queue_count; i++)
        notify_queue(d, i);
}
