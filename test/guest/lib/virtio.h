/* What the drivers of virtio 1.x devices over PCI share: finding the device, negotiation, split
 * rings. Works at CPL 3 with IOPL 3; a device is used by one vCPU. */
#ifndef KEMARI_GUEST_VIRTIO_H
#define KEMARI_GUEST_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIRTIO_RING_MAX   64
#define VIRTIO_DESC_NEXT  1
#define VIRTIO_DESC_WRITE 2

struct virtio_descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct virtio_used_element {
    uint32_t id, length;
};

struct virtio_queue {
    struct virtio_descriptor desc[VIRTIO_RING_MAX];
    struct {
        uint16_t flags, index, ring[VIRTIO_RING_MAX], used_event;
    } available;
    struct {
        uint16_t flags, index;
        struct virtio_used_element ring[VIRTIO_RING_MAX];
        uint16_t available_event;
    } used __attribute__((aligned(4)));
    uint16_t size;      /* entries, a power of two */
    uint16_t seen;      /* used entries taken */
    uint16_t posted;    /* available entries given */
    uintptr_t doorbell; /* MMIO address */
    uint16_t number;
} __attribute__((aligned(16)));

struct virtio_device {
    const char *name; /* for complaints */
    unsigned slot;
    uintptr_t common, notify, device; /* MMIO addresses of the structures */
    uint32_t notify_multiplier;
};

/* Finds the `nth` device of that PCI id and switches it on; false when there is none. Fails when it
 * is no whole virtio device. */
bool virtio_find(struct virtio_device *device, uint32_t id, unsigned nth, const char *name);

/* Resets it and takes those of `wanted` (feature bits 0..31) that it offers, which it returns. */
uint32_t virtio_negotiate(const struct virtio_device *device, uint32_t wanted);

/* Starts queue `number` in `queue`, zeroed memory; with `interrupts` used buffers raise MSI-X entry
 * 0. After negotiation, before virtio_go(). */
void virtio_start_queue(const struct virtio_device *device, struct virtio_queue *queue,
                        uint16_t number, bool interrupts);

/* The driver is ready. */
void virtio_go(const struct virtio_device *device);

/* Offers the chain that begins at descriptor `id`; seen by the device after the doorbell. */
void virtio_post(struct virtio_queue *queue, uint16_t id);
void virtio_ring_doorbell(struct virtio_queue *queue);

/* The next used element; false when there is none. */
bool virtio_take_used(struct virtio_queue *queue, struct virtio_used_element *out);

#endif
