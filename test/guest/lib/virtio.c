#include "test/guest/lib/virtio.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/pci.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

/* virtio 1.2: §4.1.2 ids, §4.1.4 capabilities, §4.1.4.3 common configuration */
#define VENDOR_VIRTIO                0x1af4

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

#define FEATURE_VERSION_1            (1u << 0) /* bit 32: in the upper word */

#define NO_VECTOR                    0xffff
#define MSIX_ENTRY                   0
#define AVAIL_NO_INTERRUPT           1
#define USED_NO_NOTIFY               1

static void __attribute__((noreturn)) fail(const struct virtio_device *device, const char *what)
{
    serial_print("%s ", device->name);
    runtime_fail(what);
}

static void find_layout(struct virtio_device *device)
{
    const unsigned slot = device->slot;
    for (unsigned at = 0; (at = pci_capability(slot, PCI_CAP_VENDOR, at));) {
        const uintptr_t address = pci_bar(slot, pci_read8(slot, at + 4)) + pci_read32(slot, at + 8);
        switch (pci_read8(slot, at + 3)) {
        case CAP_COMMON:
            device->common = address;
            break;
        case CAP_NOTIFY:
            device->notify = address;
            device->notify_multiplier = pci_read32(slot, at + 16);
            break;
        case CAP_DEVICE:
            device->device = address;
            break;
        default:
            break;
        }
    }
}

bool virtio_find(struct virtio_device *device, uint32_t id, unsigned nth, const char *name)
{
    const int slot = pci_find(VENDOR_VIRTIO, id, nth);
    if (slot < 0)
        return false;
    *device = (struct virtio_device){.name = name, .slot = (unsigned)slot};
    const uint32_t command = pci_read32(device->slot, PCI_COMMAND) & 0xffff;
    pci_write32(device->slot, PCI_COMMAND, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    find_layout(device);
    if (!device->common || !device->notify || !device->device)
        fail(device, "lacks a capability or a BAR address");
    return true;
}

uint32_t virtio_negotiate(const struct virtio_device *device, uint32_t wanted)
{
    const uintptr_t common = device->common;
    mmio_write8(common + COMMON_DEVICE_STATUS, 0);
    while (mmio_read8(common + COMMON_DEVICE_STATUS))
        cpu_relax();
    mmio_write8(common + COMMON_DEVICE_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    mmio_write32(common + COMMON_DEVICE_FEATURE_SELECT, 0);
    const uint32_t features = mmio_read32(common + COMMON_DEVICE_FEATURE) & wanted;
    mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 0);
    mmio_write32(common + COMMON_DRIVER_FEATURE, features);
    mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 1);
    mmio_write32(common + COMMON_DRIVER_FEATURE, FEATURE_VERSION_1);
    mmio_write8(common + COMMON_DEVICE_STATUS,
                STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    if (!(mmio_read8(common + COMMON_DEVICE_STATUS) & STATUS_FEATURES_OK))
        fail(device, "refuses VIRTIO_F_VERSION_1");
    return features;
}

static void write_address(uintptr_t at, const void *pointer)
{
    mmio_write32(at, (uint32_t)(uintptr_t)pointer);
    mmio_write32(at + 4, (uint32_t)((uintptr_t)pointer >> 32));
}

void virtio_start_queue(const struct virtio_device *device, struct virtio_queue *q, uint16_t number,
                        bool interrupts)
{
    const uintptr_t common = device->common;
    mmio_write16(common + COMMON_QUEUE_SELECT, number);
    const uint16_t offered = mmio_read16(common + COMMON_QUEUE_SIZE);
    if (!offered)
        fail(device, "lacks a queue");
    q->size = offered < VIRTIO_RING_MAX ? offered : VIRTIO_RING_MAX;
    q->number = number;
    q->available.flags = interrupts ? 0 : AVAIL_NO_INTERRUPT;
    q->doorbell = device->notify + (uintptr_t)mmio_read16(common + COMMON_QUEUE_NOTIFY_OFF) *
                                       device->notify_multiplier;
    mmio_write16(common + COMMON_QUEUE_SIZE, q->size);
    mmio_write16(common + COMMON_QUEUE_MSIX_VECTOR, interrupts ? MSIX_ENTRY : NO_VECTOR);
    write_address(common + COMMON_QUEUE_DESC, q->desc);
    write_address(common + COMMON_QUEUE_DRIVER, &q->available);
    write_address(common + COMMON_QUEUE_DEVICE, &q->used);
    mmio_write16(common + COMMON_QUEUE_ENABLE, 1);
}

void virtio_go(const struct virtio_device *device)
{
    mmio_write8(device->common + COMMON_DEVICE_STATUS,
                STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

void virtio_post(struct virtio_queue *q, uint16_t id)
{
    q->available.ring[q->posted % q->size] = id;
    q->posted++;
    __atomic_store_n(&q->available.index, q->posted, __ATOMIC_RELEASE);
}

void virtio_ring_doorbell(struct virtio_queue *q)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* index before flags, virtio 1.2 §2.7.13.4.1 */
    if (!(__atomic_load_n(&q->used.flags, __ATOMIC_RELAXED) & USED_NO_NOTIFY))
        mmio_write16(q->doorbell, q->number);
}

bool virtio_take_used(struct virtio_queue *q, struct virtio_used_element *out)
{
    if (__atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) == q->seen)
        return false;
    *out = q->used.ring[q->seen++ % q->size];
    return true;
}
