/* The virtio 1.x PCI transport (virtio 1.2 §4.1) and what all virtio devices share: status, feature
 * negotiation, queues, interrupts, state.
 *
 *             ACKNOWLEDGE, DRIVER      FEATURES_OK           DRIVER_OK
 *   (reset) ─────────────────────► ──────────────────► ───────────────► ready ──► serving queues
 *      ▲                        refused: bit stays off                    │ the guest broke a ring
 *      └──────────── status := 0, or machine reset ◄── DEVICE_NEEDS_RESET ◄
 *
 * Modern only: VIRTIO_F_VERSION_1 must be accepted. A device's configuration never changes while it
 * lives, so config_generation stays 0. Bus mastering is not asked for before guest memory is used.
 *
 * Threads: all calls and callbacks hold the device lock. */
#ifndef KEMARI_VMM_VIRTIO_PCI_H
#define KEMARI_VMM_VIRTIO_PCI_H

#include "vmm/device.h"
#include "vmm/pci.h"
#include "vmm/virtqueue.h"

#define VIRTIO_QUEUES_MAX 2

/* BAR 0. Drivers find these through the capabilities. */
#define VIRTIO_BAR           0
#define VIRTIO_BAR_MSIX      1
#define VIRTIO_BAR_SIZE      0x4000
#define VIRTIO_BAR_COMMON    0x0000
#define VIRTIO_BAR_ISR       0x1000
#define VIRTIO_BAR_DEVICE    0x2000
#define VIRTIO_BAR_NOTIFY    0x3000
#define VIRTIO_BAR_PART      0x1000
#define VIRTIO_NOTIFY_STRIDE 4

struct virtio_pci;

/* What a device type adds. */
struct virtio_device_ops {
    /* Pure: may the driver use exactly these features? NULL: any subset. */
    bool (*accept_features)(uint64_t features);

    /* The device is ready and the machine runs: at DRIVER_OK, and at every resume of the machine in
     * that state. Followed by notify() for every enabled queue at a resume. May be NULL. */
    void (*start)(void *context);

    /* Reset, by guest or machine, or a load about to happen: drop what is in flight. No guest
     * memory is touched after it returns. May be NULL. */
    void (*stop)(void *context);

    /* The driver offers something in queue `index`. Bounded work only: virtio_pci_defer() the rest.
     * Called only while virtio_pci_is_running(). */
    void (*notify)(void *context, unsigned index);
};

struct virtio_pci_config {
    const char *name; /* static, "virtio-net" */
    uint32_t instance;
    uint8_t slot;
    uint16_t type;       /* virtio 1.2 §5: 1 net, 2 blk, 3 console, 4 rng */
    uint32_t class_code; /* PCI */
    uint64_t features;   /* of the device type; the transport adds its own */
    unsigned queue_count;
    uint16_t queue_size;
    const void *device_config; /* constant bytes, borrowed; may be NULL with size 0 */
    size_t device_config_size;
    const struct virtio_device_ops *ops;
    void *context;
};

int virtio_pci_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_pci_config *config, struct virtio_pci **out,
                      struct error *err);
/* After the I/O thread has ended. */
void virtio_pci_destroy(struct virtio_pci **device);

struct virtqueue *virtio_pci_queue(struct virtio_pci *device, unsigned index);

/* Negotiated? `bit` is a VIRTIO_*_F_* number. */
bool virtio_pci_has_feature(const struct virtio_pci *device, unsigned bit);

/* DRIVER_OK, not broken, and the machine is not parked: queues may be served. */
bool virtio_pci_is_running(const struct virtio_pci *device);

/* Ends every piece of work on queue `index`: publishes what was pushed, interrupts if the driver
 * wants that, and fails the device when the guest broke the queue. */
void virtio_pci_settle(struct virtio_pci *device, unsigned index);

/* Calls notify() for queue `index` again, soon, from the I/O thread. */
void virtio_pci_defer(struct virtio_pci *device, unsigned index);

/* DEVICE_NEEDS_RESET; `why` goes to the log (a few times in a device's life: the guest must not be
 * able to flood it). */
void virtio_pci_fail(struct virtio_pci *device, const char *why);

/* The transport's part of the device's life (device.h). Quiesce stops new work; what is in flight
 * is the device's own affair. Load leaves the device paused until resume. */
void virtio_pci_reset(struct virtio_pci *device);
void virtio_pci_quiesce(struct virtio_pci *device);
void virtio_pci_resume(struct virtio_pci *device);
int virtio_pci_save(const struct virtio_pci *device, struct section_set *set, struct error *err);
int virtio_pci_check(const struct virtio_pci *device, uint32_t instance,
                     const struct section_set *set, struct error *err);
/* Of a set that was checked: chains of queue `index` that were taken and not given back. */
unsigned virtio_pci_saved_in_flight(const struct virtio_pci *device, uint32_t instance,
                                    const struct section_set *set, unsigned index);
void virtio_pci_load(struct virtio_pci *device, uint32_t instance, const struct section_set *set);

#endif
