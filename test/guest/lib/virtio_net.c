#include "test/guest/lib/virtio_net.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/pci.h"
#include "test/guest/lib/runtime.h"

/* virtio 1.2: §4.1.2 ids, §4.1.4 capabilities, §4.1.4.3 common configuration */
#define VENDOR_VIRTIO                0x1af4
#define DEVICE_NET                   0x1041

#define CAP_COMMON                   1
#define CAP_NOTIFY                   2
#define CAP_DEVICE                   4

#define COMMON_DEVICE_FEATURE_SELECT 0x00
#define COMMON_DEVICE_FEATURE        0x04
#define COMMON_DRIVER_FEATURE_SELECT 0x08
#define COMMON_DRIVER_FEATURE        0x0c
#define COMMON_DEVICE_STATUS         0x14
#define COMMON_QUEUE_SELECT          0x16
#define COMMON_QUEUE_SIZE            0x18
#define COMMON_QUEUE_MSIX_VECTOR     0x1a
#define COMMON_QUEUE_ENABLE          0x1c
#define COMMON_QUEUE_NOTIFY_OFF      0x1e
#define COMMON_QUEUE_DESC            0x20
#define COMMON_QUEUE_DRIVER          0x28
#define COMMON_QUEUE_DEVICE          0x30

#define STATUS_ACKNOWLEDGE           1
#define STATUS_DRIVER                2
#define STATUS_DRIVER_OK             4
#define STATUS_FEATURES_OK           8

#define FEATURE_MAC                  (1u << 5)
#define FEATURE_VERSION_1            (1u << 0) /* bit 32: in the upper word */

#define NO_VECTOR                    0xffff
#define MSIX_ENTRY                   0
#define DESC_WRITE                   2
#define AVAIL_NO_INTERRUPT           1
#define USED_NO_NOTIFY               1

#define RING_MAX                     64
#define HEADER_SIZE                  12
#define BUFFER_SIZE                  2048

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct available {
    uint16_t flags, index, ring[RING_MAX], used_event;
};

struct used_element {
    uint32_t id, length;
};

struct used {
    uint16_t flags, index;
    struct used_element ring[RING_MAX];
    uint16_t available_event;
};

struct queue {
    struct descriptor desc[RING_MAX];
    struct available available;
    struct used used __attribute__((aligned(4)));
    uint16_t size;      /* entries, a power of two */
    uint16_t seen;      /* used entries taken */
    uint16_t posted;    /* available entries given */
    uintptr_t doorbell; /* MMIO address */
    uint16_t number;
} __attribute__((aligned(16)));

enum { RECEIVE, TRANSMIT, QUEUES };

static struct queue queues[QUEUES];
static uint8_t buffers[QUEUES][RING_MAX][BUFFER_SIZE] __attribute__((section(".noinit")));
static uint8_t mac[6];
static int taken = -1;      /* receive buffer lent to the caller */
static bool receive_posted; /* buffers given back since the last doorbell */

/* Where each structure of the device lies. */
struct layout {
    uintptr_t common, notify, device;
    uint32_t notify_multiplier;
};

static void find_layout(unsigned slot, struct layout *layout)
{
    for (unsigned at = 0; (at = pci_capability(slot, PCI_CAP_VENDOR, at));) {
        const uintptr_t address = pci_bar(slot, pci_read8(slot, at + 4)) + pci_read32(slot, at + 8);
        switch (pci_read8(slot, at + 3)) {
        case CAP_COMMON:
            layout->common = address;
            break;
        case CAP_NOTIFY:
            layout->notify = address;
            layout->notify_multiplier = pci_read32(slot, at + 16);
            break;
        case CAP_DEVICE:
            layout->device = address;
            break;
        default:
            break;
        }
    }
}

static void write_address(uintptr_t at, const void *pointer)
{
    mmio_write32(at, (uint32_t)(uintptr_t)pointer);
    mmio_write32(at + 4, (uint32_t)((uintptr_t)pointer >> 32));
}

static void start_queue(const struct layout *layout, uint16_t number, bool interrupts)
{
    struct queue *q = &queues[number];
    mmio_write16(layout->common + COMMON_QUEUE_SELECT, number);
    const uint16_t offered = mmio_read16(layout->common + COMMON_QUEUE_SIZE);
    if (!offered)
        runtime_fail("virtio-net lacks a queue");
    q->size = offered < RING_MAX ? offered : RING_MAX;
    q->number = number;
    q->available.flags = interrupts ? 0 : AVAIL_NO_INTERRUPT;
    q->doorbell =
        layout->notify + (uintptr_t)mmio_read16(layout->common + COMMON_QUEUE_NOTIFY_OFF) *
                             layout->notify_multiplier;
    mmio_write16(layout->common + COMMON_QUEUE_SIZE, q->size);
    mmio_write16(layout->common + COMMON_QUEUE_MSIX_VECTOR, interrupts ? MSIX_ENTRY : NO_VECTOR);
    write_address(layout->common + COMMON_QUEUE_DESC, q->desc);
    write_address(layout->common + COMMON_QUEUE_DRIVER, &q->available);
    write_address(layout->common + COMMON_QUEUE_DEVICE, &q->used);
    mmio_write16(layout->common + COMMON_QUEUE_ENABLE, 1);
    for (uint16_t i = 0; i < q->size; i++) {
        q->desc[i].address = (uint64_t)buffers[number][i];
        q->desc[i].length = BUFFER_SIZE;
        q->desc[i].flags = number == RECEIVE ? DESC_WRITE : 0;
    }
}

static void negotiate(const struct layout *layout, bool interrupts)
{
    const uintptr_t common = layout->common;
    mmio_write8(common + COMMON_DEVICE_STATUS, 0);
    while (mmio_read8(common + COMMON_DEVICE_STATUS))
        cpu_relax();
    mmio_write8(common + COMMON_DEVICE_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    mmio_write32(common + COMMON_DEVICE_FEATURE_SELECT, 0);
    const uint32_t offered = mmio_read32(common + COMMON_DEVICE_FEATURE);
    mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 0);
    mmio_write32(common + COMMON_DRIVER_FEATURE, offered & FEATURE_MAC);
    mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 1);
    mmio_write32(common + COMMON_DRIVER_FEATURE, FEATURE_VERSION_1);
    const uint8_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    mmio_write8(common + COMMON_DEVICE_STATUS, status);
    if (!(mmio_read8(common + COMMON_DEVICE_STATUS) & STATUS_FEATURES_OK))
        runtime_fail("virtio-net refuses VIRTIO_F_VERSION_1");
    start_queue(layout, RECEIVE, interrupts);
    start_queue(layout, TRANSMIT, false);
    mmio_write8(common + COMMON_DEVICE_STATUS, status | STATUS_DRIVER_OK);
}

static void post(struct queue *q, uint16_t id)
{
    q->available.ring[q->posted % q->size] = id;
    q->posted++;
    __atomic_store_n(&q->available.index, q->posted, __ATOMIC_RELEASE);
}

static void ring_doorbell(struct queue *q)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* index before flags, virtio 1.2 §2.7.13.4.1 */
    if (!(__atomic_load_n(&q->used.flags, __ATOMIC_RELAXED) & USED_NO_NOTIFY))
        mmio_write16(q->doorbell, q->number);
}

bool net_init(unsigned nth, unsigned vector)
{
    const int slot = pci_find(VENDOR_VIRTIO, DEVICE_NET, nth);
    if (slot < 0)
        return false;
    const uint32_t command = pci_read32((unsigned)slot, PCI_COMMAND) & 0xffff;
    pci_write32((unsigned)slot, PCI_COMMAND, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    struct layout layout = {0};
    find_layout((unsigned)slot, &layout);
    if (!layout.common || !layout.notify || !layout.device)
        runtime_fail("virtio-net lacks a capability or a BAR address");
    if (vector && !pci_enable_msix((unsigned)slot, vector))
        runtime_fail("virtio-net lacks MSI-X");
    negotiate(&layout, vector != 0);
    for (unsigned i = 0; i < sizeof(mac); i++)
        mac[i] = mmio_read8(layout.device + i);
    for (uint16_t i = 0; i < queues[RECEIVE].size; i++)
        post(&queues[RECEIVE], i);
    ring_doorbell(&queues[RECEIVE]);
    return true;
}

const uint8_t *net_mac(void)
{
    return mac;
}

const uint8_t *net_receive(size_t *size)
{
    struct queue *q = &queues[RECEIVE];
    if (taken >= 0) {
        post(q, (uint16_t)taken);
        taken = -1;
        receive_posted = true;
    }
    if (__atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) == q->seen) {
        if (receive_posted) { /* once per burst, after its answers are on their way */
            receive_posted = false;
            ring_doorbell(q);
        }
        return NULL;
    }
    const struct used_element *element = &q->used.ring[q->seen++ % q->size];
    if (element->id >= q->size || element->length < HEADER_SIZE || element->length > BUFFER_SIZE)
        runtime_fail("virtio-net returned a bad used element");
    taken = (int)element->id;
    *size = element->length - HEADER_SIZE;
    return buffers[RECEIVE][taken] + HEADER_SIZE;
}

uint8_t *net_transmit_buffer(void)
{
    struct queue *q = &queues[TRANSMIT];
    while ((uint16_t)(q->posted - __atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE)) >= q->size)
        cpu_relax();
    return buffers[TRANSMIT][q->posted % q->size] + HEADER_SIZE;
}

void net_transmit(size_t size)
{
    struct queue *q = &queues[TRANSMIT];
    const uint16_t id = q->posted % q->size;
    memset(buffers[TRANSMIT][id], 0, HEADER_SIZE);
    q->desc[id].length = (uint32_t)(HEADER_SIZE + size);
    post(q, id);
    ring_doorbell(q);
}
