/* The virtio devices of the machine: what machine.c creates and talks to.
 *
 * Every create function fills `out` on success and leaves nothing behind on error. `env`, `host`
 * and the output table are borrowed and outlive the device. A device is destroyed only after the
 * I/O thread and the vCPU threads have ended, and before the PCI host.
 *
 * Register layout, the same for all: BAR 0 holds the four structures of the virtio 1.x PCI
 * transport (find them through the capabilities), BAR 1 the MSI-X table; vector 0.. are free for
 * the driver to assign. Devices are modern-only (VIRTIO_F_VERSION_1 is required).
 *
 * Threads: all calls hold the device lock. */
#ifndef KEMARI_VMM_VIRTIO_DEVICES_H
#define KEMARI_VMM_VIRTIO_DEVICES_H

#include "vmm/blk_backend.h"
#include "vmm/device.h"
#include "vmm/machine.h"
#include "vmm/pci.h"

#define VIRTIO_CONSOLE_INPUT_MAX 1024 /* bytes of input that wait for the guest */

struct virtio_net_options {
    unsigned index; /* of the network: instance, and the index given to output->network() */
    uint8_t slot;
    uint8_t mac[6];
    const struct machine_output_ops *output;
    void *output_context;
};

int virtio_net_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_net_options *options, struct device *out,
                      struct error *err);

/* Receives from `fd` (machine_net_attach()): a tap or datagram-like socket whose every read gives
 * one frame behind a 12-byte virtio-net header; must be non-blocking. -1 detaches; afterwards the
 * device doesn't touch the old descriptor any more. */
int virtio_net_attach(const struct device *net, int fd, struct error *err);

struct virtio_blk_options {
    unsigned index; /* of the disk: instance, and part of its serial "kemari-disk<index>" */
    uint8_t slot;
    struct blk_backend backend;
};

int virtio_blk_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_blk_options *options, struct device *out,
                      struct error *err);

struct virtio_console_options {
    uint8_t slot;
    const struct machine_output_ops *output;
    void *output_context;
};

int virtio_console_create(const struct device_env *env, struct pci_host *host,
                          const struct virtio_console_options *options, struct device *out,
                          struct error *err);

/* Returns how many bytes were taken; the rest did not fit into the input buffer. */
size_t virtio_console_input(const struct device *console, const uint8_t *data, size_t size);

int virtio_rng_create(const struct device_env *env, struct pci_host *host, uint8_t slot,
                      struct device *out, struct error *err);

#endif
