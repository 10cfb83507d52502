#include "test/support/virtio_driver.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/clock.h"
#include "test/support/runner.h"

#define DEADLINE SEC(20)

static void record_message(void *context, uint64_t address, uint32_t data)
{
    struct vd_machine *m = context;
    if (m->message_count < VD_MESSAGES_MAX)
        m->messages[m->message_count] = (struct vd_message){address, data};
    m->message_count++;
}

static void refuse_level(void *context, unsigned gsi, bool asserted)
{
    (void)context;
    (void)gsi;
    (void)asserted;
    CU_FAIL("a virtio device used a line interrupt");
}

static const struct irq_ops irq_ops = {.message = record_message, .level = refuse_level};

static void record_frame(void *context, unsigned index, const struct iovec *parts, int count)
{
    struct vd_machine *m = context;
    m->frame_count++;
    m->frame_network = index;
    m->frame_size = 0;
    for (int i = 0; i < count; i++) {
        CU_ASSERT_FATAL(m->frame_size + parts[i].iov_len <= sizeof(m->frame));
        memcpy(m->frame + m->frame_size, parts[i].iov_base, parts[i].iov_len);
        m->frame_size += parts[i].iov_len;
    }
}

static void record_console(void *context, enum machine_console which, const uint8_t *data,
                           size_t size)
{
    struct vd_machine *m = context;
    CU_ASSERT_EQUAL(which, MACHINE_CONSOLE_VIRTIO);
    CU_ASSERT_FATAL(m->console_size + size <= sizeof(m->console));
    memcpy(m->console + m->console_size, data, size);
    m->console_size += size;
}

const struct machine_output_ops vd_output = {.network = record_frame, .console = record_console};

void vd_machine_create(struct vd_machine *m)
{
    memset(m, 0, sizeof(*m));
    evthread_use_pthreads();
    const struct gmem_config memory = {.size = VD_MEMORY_SIZE};
    CU_ASSERT_EQUAL_FATAL(gmem_create(&memory, &m->env.memory, NULL), 0);
    m->env.irq = (struct irq){.ops = &irq_ops, .context = m};
    m->env.lock = device_lock_create();
    m->env.events = event_base_new();
    m->ports = bus_create();
    m->mmio = bus_create();
    m->next = 0x10000;
    CU_ASSERT_EQUAL_FATAL(pci_host_create(&m->env, m->ports, m->mmio, &m->host, NULL), 0);
    m->bridge = pci_host_device(m->host);
}

void vd_device_destroy(struct device *device)
{
    device->ops->destroy(device->context);
}

void vd_machine_destroy(struct vd_machine *m)
{
    vd_device_destroy(&m->bridge);
    bus_destroy(&m->ports);
    bus_destroy(&m->mmio);
    event_base_free(m->env.events);
    device_lock_destroy(&m->env.lock);
    gmem_destroy(&m->env.memory);
}

gpa_t vd_alloc(struct vd_machine *m, size_t size)
{
    const gpa_t at = m->next;
    m->next += (size + PAGE_SIZE - 1) & ~(gpa_t)(PAGE_SIZE - 1);
    CU_ASSERT_FATAL(m->next <= VD_MEMORY_SIZE);
    memset(gmem_view(m->env.memory, at, size), 0, size);
    return at;
}

void vd_pump(struct vd_machine *m)
{
    event_base_loop(m->env.events, EVLOOP_NONBLOCK);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

bool vd_pump_until(struct vd_machine *m, bool (*condition)(void *context), void *context)
{
    const nsec_t deadline = clock_now() + DEADLINE;
    const struct timeval period = {.tv_usec = 10000};
    struct event *tick = event_new(m->env.events, -1, EV_PERSIST, on_tick, NULL);
    event_add(tick, &period); /* so that the loop comes back to look at the deadline */
    bool met = condition(context);
    while (!met && clock_now() < deadline) {
        event_base_loop(m->env.events, EVLOOP_ONCE);
        met = condition(context);
    }
    event_free(tick);
    return met;
}

/* --- accesses of a vCPU --------------------------------------------------------------------- */

static void access_bus(struct vd_machine *m, struct bus *bus, uint64_t address, uint32_t size,
                       uint64_t *value, bool write)
{
    uint8_t bytes[8] = {0};
    device_lock_acquire(m->env.lock);
    if (write) {
        memcpy(bytes, value, size);
        bus_write(bus, address, bytes, size);
    } else {
        bus_read(bus, address, bytes, size);
        *value = 0;
        memcpy(value, bytes, size);
    }
    device_lock_release(m->env.lock);
}

static void select_config(struct vd_machine *m, uint8_t slot, unsigned offset)
{
    uint64_t address = 0x80000000u | (uint32_t)slot << 11 | (offset & 0xfcu);
    access_bus(m, m->ports, PCI_CONFIG_ADDRESS, 4, &address, true);
}

uint32_t vd_config_read(struct vd_machine *m, uint8_t slot, unsigned offset, uint32_t size)
{
    uint64_t value;
    select_config(m, slot, offset);
    access_bus(m, m->ports, PCI_CONFIG_DATA + (offset & 3), size, &value, false);
    return (uint32_t)value;
}

void vd_config_write(struct vd_machine *m, uint8_t slot, unsigned offset, uint32_t size,
                     uint32_t value)
{
    uint64_t wide = value;
    select_config(m, slot, offset);
    access_bus(m, m->ports, PCI_CONFIG_DATA + (offset & 3), size, &wide, true);
}

uint64_t vd_mmio_read(struct vd_machine *m, uint64_t address, uint32_t size)
{
    uint64_t value;
    access_bus(m, m->mmio, address, size, &value, false);
    return value;
}

void vd_mmio_write(struct vd_machine *m, uint64_t address, uint32_t size, uint64_t value)
{
    access_bus(m, m->mmio, address, size, &value, true);
}

uint16_t vd_get16(struct vd_machine *m, gpa_t at)
{
    uint16_t value;
    CU_ASSERT_EQUAL_FATAL(gmem_read(m->env.memory, at, &value, sizeof(value)), 0);
    return value;
}

/* A guest's write: not marked, KVM's log would see it. */
void vd_put16(struct vd_machine *m, gpa_t at, uint16_t value)
{
    memcpy(gmem_view(m->env.memory, at, sizeof(value)), &value, sizeof(value));
}

/* --- the driver ----------------------------------------------------------------------------- */

static uint64_t bar_base(struct vd_driver *d, unsigned bar)
{
    return vd_config_read(d->machine, d->slot, PCI_BASE_ADDRESS_0 + 4 * bar, 4) & ~0xfu;
}

static void use_virtio_cap(struct vd_driver *d, unsigned cap)
{
    struct vd_machine *m = d->machine;
    const uint64_t at = bar_base(d, vd_config_read(m, d->slot, cap + VIRTIO_PCI_CAP_BAR, 1)) +
                        vd_config_read(m, d->slot, cap + VIRTIO_PCI_CAP_OFFSET, 4);
    switch (vd_config_read(m, d->slot, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        d->common = at;
        break;
    case VIRTIO_PCI_CAP_ISR_CFG:
        d->isr = at;
        break;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        d->device = at;
        break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        d->notify = at;
        d->notify_multiplier = vd_config_read(m, d->slot, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
        break;
    case VIRTIO_PCI_CAP_PCI_CFG:
        d->window_cap = (uint8_t)cap;
        break;
    default:
        CU_FAIL("unknown virtio structure");
    }
}

void vd_probe(struct vd_driver *d, struct vd_machine *m, uint8_t slot)
{
    *d = (struct vd_driver){.machine = m, .slot = slot};
    CU_ASSERT_EQUAL_FATAL(vd_config_read(m, slot, PCI_VENDOR_ID, 2), 0x1af4);
    unsigned cap = vd_config_read(m, slot, PCI_CAPABILITY_LIST, 1);
    for (unsigned steps = 0; cap && steps < 48; steps++) {
        const uint32_t id = vd_config_read(m, slot, cap, 1);
        if (id == PCI_CAP_ID_VNDR) {
            use_virtio_cap(d, cap);
        } else if (id == PCI_CAP_ID_MSIX) {
            d->msix_cap = (uint8_t)cap;
            const uint32_t table = vd_config_read(m, slot, cap + PCI_MSIX_TABLE, 4);
            d->msix = bar_base(d, table & PCI_MSIX_TABLE_BIR) + (table & PCI_MSIX_TABLE_OFFSET);
        }
        cap = vd_config_read(m, slot, cap + PCI_CAP_LIST_NEXT, 1);
    }
    CU_ASSERT_FATAL(d->common && d->isr && d->notify && d->msix && d->window_cap);
}

static void put_common(struct vd_driver *d, unsigned offset, uint32_t size, uint64_t value)
{
    vd_mmio_write(d->machine, d->common + offset, size, value);
}

uint64_t vd_features(struct vd_driver *d)
{
    uint64_t features = 0;
    for (unsigned half = 0; half < 2; half++) {
        put_common(d, VIRTIO_PCI_COMMON_DFSELECT, 4, half);
        features |= vd_mmio_read(d->machine, d->common + VIRTIO_PCI_COMMON_DF, 4) << (32 * half);
    }
    return features;
}

uint8_t vd_status(struct vd_driver *d)
{
    return (uint8_t)vd_mmio_read(d->machine, d->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

void vd_set_status(struct vd_driver *d, uint8_t status)
{
    put_common(d, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

bool vd_negotiate(struct vd_driver *d, uint64_t features)
{
    vd_set_status(d, 0);
    vd_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    vd_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    for (unsigned half = 0; half < 2; half++) {
        put_common(d, VIRTIO_PCI_COMMON_GFSELECT, 4, half);
        put_common(d, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> (32 * half)));
    }
    vd_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                         VIRTIO_CONFIG_S_FEATURES_OK);
    return vd_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

void vd_setup_queue(struct vd_driver *d, unsigned index, uint16_t size)
{
    struct vd_queue *q = &d->queues[index];
    *q = (struct vd_queue){
        .size = size,
        .desc = vd_alloc(d->machine, 16u * size),
        .avail = vd_alloc(d->machine, 6 + 2u * size),
        .used = vd_alloc(d->machine, 6 + 8u * size),
    };
    put_common(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
    put_common(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
    put_common(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, (uint32_t)q->desc);
    put_common(d, VIRTIO_PCI_COMMON_Q_DESCHI, 4, q->desc >> 32);
    put_common(d, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, q->avail);
    put_common(d, VIRTIO_PCI_COMMON_Q_USEDLO, 8, q->used);
    put_common(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

void vd_enable_msix(struct vd_driver *d, unsigned vectors)
{
    for (unsigned v = 0; v < vectors; v++) {
        const uint64_t entry = d->msix + v * PCI_MSIX_ENTRY_SIZE;
        vd_mmio_write(d->machine, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, 0xfee00000u);
        vd_mmio_write(d->machine, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
        vd_mmio_write(d->machine, entry + PCI_MSIX_ENTRY_DATA, 4, 0x40 + v);
        vd_mmio_write(d->machine, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
    }
    vd_config_write(d->machine, d->slot, d->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

void vd_start(struct vd_driver *d, uint64_t features, unsigned queues, uint16_t size)
{
    CU_ASSERT_FATAL(vd_negotiate(d, features | 1ull << VIRTIO_F_VERSION_1));
    vd_enable_msix(d, queues + 1);
    put_common(d, VIRTIO_PCI_COMMON_MSIX, 2, queues);
    for (unsigned i = 0; i < queues; i++) {
        vd_setup_queue(d, i, size);
        put_common(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, i);
    }
    vd_set_status(d, (uint8_t)(vd_status(d) | VIRTIO_CONFIG_S_DRIVER_OK));
}

/* --- rings ---------------------------------------------------------------------------------- */

static void put_desc(struct vd_machine *m, gpa_t table, unsigned index, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    const struct vring_desc desc = {.addr = addr, .len = len, .flags = flags, .next = next};
    memcpy(gmem_view(m->env.memory, table + 16u * index, sizeof(desc)), &desc, sizeof(desc));
}

void vd_set_desc(struct vd_driver *d, unsigned queue, unsigned index, uint64_t addr, uint32_t len,
                 uint16_t flags, uint16_t next)
{
    put_desc(d->machine, d->queues[queue].desc, index, addr, len, flags, next);
}

void vd_publish(struct vd_driver *d, unsigned queue, uint16_t head)
{
    struct vd_queue *q = &d->queues[queue];
    vd_put16(d->machine, q->avail + 4 + 2u * (q->avail_idx & (q->size - 1u)), head);
    q->avail_idx++;
    vd_put16(d->machine, q->avail + 2, q->avail_idx);
}

static uint16_t buffer_flags(const struct vd_buffer *b, bool last)
{
    return (uint16_t)((b->in ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
}

uint16_t vd_offer(struct vd_driver *d, unsigned queue, const struct vd_buffer *buffers,
                  unsigned count)
{
    struct vd_queue *q = &d->queues[queue];
    const uint16_t head = q->next_desc;
    for (unsigned i = 0; i < count; i++) {
        const uint16_t at = q->next_desc;
        q->next_desc = (uint16_t)((at + 1) % q->size);
        vd_set_desc(d, queue, at, buffers[i].gpa, buffers[i].size,
                    buffer_flags(&buffers[i], i + 1 == count), q->next_desc);
    }
    vd_publish(d, queue, head);
    return head;
}

uint16_t vd_offer_indirect(struct vd_driver *d, unsigned queue, const struct vd_buffer *buffers,
                           unsigned count)
{
    const gpa_t table = vd_alloc(d->machine, 16u * count);
    for (unsigned i = 0; i < count; i++)
        put_desc(d->machine, table, i, buffers[i].gpa, buffers[i].size,
                 buffer_flags(&buffers[i], i + 1 == count), (uint16_t)(i + 1));
    struct vd_queue *q = &d->queues[queue];
    const uint16_t head = q->next_desc;
    q->next_desc = (uint16_t)((head + 1) % q->size);
    vd_set_desc(d, queue, head, table, 16u * count, VRING_DESC_F_INDIRECT, 0);
    vd_publish(d, queue, head);
    return head;
}

void vd_kick(struct vd_driver *d, unsigned queue)
{
    vd_mmio_write(d->machine, d->notify + queue * d->notify_multiplier, 2, queue);
}

bool vd_take(struct vd_driver *d, unsigned queue, uint32_t *id, uint32_t *length)
{
    struct vd_queue *q = &d->queues[queue];
    if (vd_get16(d->machine, q->used + 2) == q->seen)
        return false;
    struct vring_used_elem elem;
    gmem_read(d->machine->env.memory, q->used + 4 + 8u * (q->seen & (q->size - 1u)), &elem,
              sizeof(elem));
    q->seen++;
    *id = elem.id;
    *length = elem.len;
    return true;
}

struct wait {
    struct vd_machine *machine;
    const struct vd_queue *queue;
};

static bool has_used(void *context)
{
    const struct wait *w = context;
    return vd_get16(w->machine, w->queue->used + 2) != w->queue->seen;
}

bool vd_wait(struct vd_driver *d, unsigned queue, uint32_t *id, uint32_t *length)
{
    struct wait w = {.machine = d->machine, .queue = &d->queues[queue]};
    return vd_pump_until(d->machine, has_used, &w) && vd_take(d, queue, id, length);
}
