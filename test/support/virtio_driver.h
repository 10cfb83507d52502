/* The driver's side of virtio, for tests of our devices without KVM: a small guest memory, buses, a
 * PCI host, recorded interrupts and output; and a driver that finds its device through PCI
 * capabilities and builds rings in guest memory, as a guest's would. Nothing here includes the
 * devices' private knowledge: layouts come from the specification's headers.
 *
 * Single-threaded but for the devices' own threads. Every access takes the device lock as a vCPU
 * would. Failing set-up is fatal to the test (CUnit). */
#ifndef KEMARI_TEST_SUPPORT_VIRTIO_DRIVER_H
#define KEMARI_TEST_SUPPORT_VIRTIO_DRIVER_H

#include "vmm/virtio_devices.h"

#define VD_MEMORY_SIZE  (4u << 20)
#define VD_MESSAGES_MAX 64
#define VD_OUTPUT_MAX   70000
#define VD_QUEUES_MAX   2

struct vd_message {
    uint64_t address;
    uint32_t data;
};

struct vd_machine {
    struct device_env env;
    struct bus *ports;
    struct bus *mmio;
    struct pci_host *host;
    struct device bridge;
    gpa_t next; /* free guest memory */

    unsigned message_count; /* interrupts sent; the first VD_MESSAGES_MAX are kept */
    struct vd_message messages[VD_MESSAGES_MAX];

    unsigned frame_count;
    unsigned frame_network; /* of the last frame, which is kept */
    size_t frame_size;
    uint8_t frame[VD_OUTPUT_MAX];

    size_t console_size;
    uint8_t console[VD_OUTPUT_MAX];
};

struct vd_queue {
    uint16_t size;
    gpa_t desc;
    gpa_t avail;
    gpa_t used;
    uint16_t next_desc; /* next free descriptor, handed out round-robin */
    uint16_t avail_idx;
    uint16_t seen; /* used elements taken */
};

struct vd_driver {
    struct vd_machine *machine;
    uint8_t slot;
    uint64_t common; /* guest physical addresses of the structures */
    uint64_t isr;
    uint64_t device; /* 0: none */
    uint64_t notify;
    uint32_t notify_multiplier;
    uint64_t msix; /* vector table */
    uint8_t msix_cap;
    uint8_t window_cap; /* configuration access capability */
    struct vd_queue queues[VD_QUEUES_MAX];
};

struct vd_buffer {
    gpa_t gpa;
    uint32_t size;
    bool in; /* the device writes it */
};

extern const struct machine_output_ops vd_output; /* context: struct vd_machine */

void vd_machine_create(struct vd_machine *m);
void vd_machine_destroy(struct vd_machine *m); /* devices first */
void vd_device_destroy(struct device *device);

/* `size` bytes of zeroed guest memory, aligned to 4096. */
gpa_t vd_alloc(struct vd_machine *m, size_t size);

/* Runs what the devices left to the I/O thread, without waiting. */
void vd_pump(struct vd_machine *m);

/* Runs the I/O thread's work until `condition(context)`; false after 20 s. */
bool vd_pump_until(struct vd_machine *m, bool (*condition)(void *context), void *context);

uint32_t vd_config_read(struct vd_machine *m, uint8_t slot, unsigned offset, uint32_t size);
void vd_config_write(struct vd_machine *m, uint8_t slot, unsigned offset, uint32_t size,
                     uint32_t value);
uint64_t vd_mmio_read(struct vd_machine *m, uint64_t address, uint32_t size);
void vd_mmio_write(struct vd_machine *m, uint64_t address, uint32_t size, uint64_t value);

uint16_t vd_get16(struct vd_machine *m, gpa_t at);
void vd_put16(struct vd_machine *m, gpa_t at, uint16_t value);

/* The steps of virtio 1.2 §3.1.1. */
void vd_probe(struct vd_driver *d, struct vd_machine *m, uint8_t slot);
uint64_t vd_features(struct vd_driver *d);
bool vd_negotiate(struct vd_driver *d, uint64_t features); /* FEATURES_OK stayed set */
void vd_setup_queue(struct vd_driver *d, unsigned index, uint16_t size);
void vd_enable_msix(struct vd_driver *d, unsigned vectors); /* vector v: data 0x40 + v */
uint8_t vd_status(struct vd_driver *d);
void vd_set_status(struct vd_driver *d, uint8_t status);

/* All of them: features (VERSION_1 is added), `queues` of `size`, MSI-X with vector i for queue i
 * and the last one for configuration, DRIVER_OK. */
void vd_start(struct vd_driver *d, uint64_t features, unsigned queues, uint16_t size);

/* Puts a chain into the ring and returns its head. */
uint16_t vd_offer(struct vd_driver *d, unsigned queue, const struct vd_buffer *buffers,
                  unsigned count);
uint16_t vd_offer_indirect(struct vd_driver *d, unsigned queue, const struct vd_buffer *buffers,
                           unsigned count);
/* Writes one raw descriptor. */
void vd_set_desc(struct vd_driver *d, unsigned queue, unsigned index, uint64_t addr, uint32_t len,
                 uint16_t flags, uint16_t next);
/* Makes `head` available without touching descriptors. */
void vd_publish(struct vd_driver *d, unsigned queue, uint16_t head);
void vd_kick(struct vd_driver *d, unsigned queue);

/* Takes the next used element; false when there is none. */
bool vd_take(struct vd_driver *d, unsigned queue, uint32_t *id, uint32_t *length);
/* The same, but waits for it. */
bool vd_wait(struct vd_driver *d, unsigned queue, uint32_t *id, uint32_t *length);

#endif
