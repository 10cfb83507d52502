/* Shared by virtio_pci.c (the transport) and virtio_state.c (its state on the wire); nobody else.
 */
#ifndef KEMARI_VMM_VIRTIO_PCI_PRIVATE_H
#define KEMARI_VMM_VIRTIO_PCI_PRIVATE_H

#include "vmm/virtio_pci.h"

/* Registers that belong to the device, not to a queue. */
struct virtio_state {
    uint64_t driver_features;
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
    uint8_t status;
    uint8_t isr;
};

struct virtio_pci {
    /* set at creation */
    const struct device_env *env;
    const char *name;
    uint32_t instance;
    const struct virtio_device_ops *ops;
    void *context;
    uint64_t offered; /* features */
    unsigned queue_count;
    const uint8_t *device_config;
    size_t device_config_size;
    struct pci_function *function;
    uint8_t window_at; /* offset of the configuration access capability */
    struct event *defer_event;
    char section[SECTION_NAME_MAX];

    /* protected by the device lock */
    struct virtio_state state;
    struct virtqueue queues[VIRTIO_QUEUES_MAX];
    bool paused;       /* between quiesce or load, and resume */
    uint32_t deferred; /* queues to look at again, one bit each */
    unsigned complaints;
};

/* Would the driver's choice be served? Pure. */
bool virtio_features_acceptable(const struct virtio_pci *device, uint64_t features);

/* Tells the queues what was negotiated. */
void virtio_apply_features(struct virtio_pci *device);

void virtio_state_name_section(struct virtio_pci *device);

#endif
