/* Which devices a machine has, and where. Slots are fixed per kind and index, so that the address
 * of a device does not depend on how many others there are:
 *
 *   0 host bridge   1..8 networks   9..24 disks   25 console   26 entropy */
#include <stdlib.h>

#include "vmm/machine_internal.h"
#include "vmm/power.h"
#include "vmm/pvpanic.h"
#include "vmm/serial.h"
#include "vmm/virtio_devices.h"

#define SLOT_NET     1
#define SLOT_DISK    (SLOT_NET + MACHINE_NETS_MAX)
#define SLOT_CONSOLE (SLOT_DISK + MACHINE_DISKS_MAX)
#define SLOT_RNG     (SLOT_CONSOLE + 1)

_Static_assert(SLOT_RNG < PCI_SLOTS, "all devices fit on bus 0");

/* Keeps the device when `rc` says that it was created. */
static const struct device *keep(struct machine *m, int rc, const struct device *device)
{
    if (rc < 0)
        return NULL;
    m->devices[m->device_count] = *device;
    return &m->devices[m->device_count++];
}

static void on_serial_drained(void *context)
{
    const struct machine *m = context;
    if (m->serial_input)
        console_input_kick(m->serial_input);
}

static int create_platform(struct machine *m, struct error *err)
{
    struct device d;
    const struct serial_config serial = {.output = m->config.output,
                                         .output_context = m->config.output_context,
                                         .drained = on_serial_drained,
                                         .drained_context = m};
    int rc = serial_create(&m->env, m->ports, &serial, &d, err);
    m->serial = keep(m, rc, &d);
    if (rc == 0) {
        rc = power_create(&m->env, m->ports, &d, err);
        m->power = keep(m, rc, &d);
    }
    if (rc == 0) {
        const struct pvpanic_options panic = {.policy = m->config.on_panic,
                                              .limit = m->config.panic_limit,
                                              .power = m->power,
                                              .output = m->config.output,
                                              .output_context = m->config.output_context};
        rc = pvpanic_create(m->ports, &panic, &d, err);
        keep(m, rc, &d);
    }
    if (rc == 0)
        rc = pci_host_create(&m->env, m->ports, m->mmio, &m->pci, err);
    if (rc == 0) {
        d = pci_host_device(m->pci);
        keep(m, rc, &d);
    }
    return rc;
}

static int create_nets(struct machine *m, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->config.net_count; i++) {
        struct virtio_net_options net = {.index = i,
                                         .slot = (uint8_t)(SLOT_NET + i),
                                         .output = m->config.output,
                                         .output_context = m->config.output_context};
        for (size_t k = 0; k < sizeof(net.mac); k++)
            net.mac[k] = m->config.nets[i].mac[k];
        struct device d;
        rc = virtio_net_create(&m->env, m->pci, &net, &d, err);
        m->nets[i] = keep(m, rc, &d);
    }
    return rc;
}

static int create_disks(struct machine *m, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->config.disk_count; i++) {
        const struct virtio_blk_options disk = {
            .index = i, .slot = (uint8_t)(SLOT_DISK + i), .backend = m->config.disks[i]};
        struct device d;
        rc = virtio_blk_create(&m->env, m->pci, &disk, &d, err);
        keep(m, rc, &d);
    }
    return rc;
}

static int create_rest(struct machine *m, struct error *err)
{
    int rc = 0;
    struct device d;
    if (m->config.virtio_console) {
        const struct virtio_console_options console = {.slot = SLOT_CONSOLE,
                                                       .output = m->config.output,
                                                       .output_context = m->config.output_context};
        rc = virtio_console_create(&m->env, m->pci, &console, &d, err);
        m->console = keep(m, rc, &d);
    }
    if (rc == 0 && m->config.rng) {
        rc = virtio_rng_create(&m->env, m->pci, SLOT_RNG, &d, err);
        keep(m, rc, &d);
    }
    return rc;
}

static int create_inputs(struct machine *m, struct error *err)
{
    int rc = console_input_create(&m->env, serial_receive, m->serial, &m->serial_input, err);
    if (rc == 0 && m->console)
        rc =
            console_input_create(&m->env, virtio_console_input, m->console, &m->console_input, err);
    return rc;
}

int machine_create_devices(struct machine *m, struct error *err)
{
    int rc = create_platform(m, err);
    if (rc == 0)
        rc = create_nets(m, err);
    if (rc == 0)
        rc = create_disks(m, err);
    if (rc == 0)
        rc = create_rest(m, err);
    if (rc == 0)
        rc = create_inputs(m, err);
    return rc;
}

/* In reverse, because functions leave the PCI host before it goes. */
void machine_destroy_devices(struct machine *m)
{
    console_input_destroy(&m->serial_input);
    console_input_destroy(&m->console_input);
    while (m->device_count > 0) {
        const struct device *d = &m->devices[--m->device_count];
        d->ops->destroy(d->context);
    }
}
