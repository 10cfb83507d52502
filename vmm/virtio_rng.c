/* virtio-rng (virtio 1.2 §5.4): every buffer the guest offers is filled from getrandom(), up to
 * FILL_MAX bytes: fewer than asked for is legal, and the work per notification stays bounded.
 * Without state of its own. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "vmm/virtio_devices.h"
#include "vmm/virtio_pci.h"

#define TYPE_RNG    4
#define CLASS_OTHER 0x00ff00
#define QUEUE_SIZE  64
#define FILL_MAX    256 /* getrandom() gives so many at once and uninterrupted */
#define BURST       16

struct rng {
    struct virtio_pci *transport;
    struct virtqueue_chain chain;
};

static void fill(struct rng *r, struct virtqueue *q)
{
    uint8_t bytes[FILL_MAX];
    const size_t wanted = r->chain.in_size < FILL_MAX ? (size_t)r->chain.in_size : FILL_MAX;
    const ssize_t got = getrandom(bytes, wanted, 0);
    const size_t size = got > 0 ? (size_t)got : 0;
    virtqueue_chain_write(q, &r->chain, 0, bytes, size);
    virtqueue_push(q, r->chain.head, (uint32_t)size);
}

static void on_notify(void *context, unsigned index)
{
    struct rng *r = context;
    struct virtqueue *q = virtio_pci_queue(r->transport, index);
    for (unsigned i = 0; i < BURST && virtqueue_pop(q, &r->chain) == 1; i++)
        fill(r, q);
    virtqueue_set_kicks(q, true);
    virtio_pci_settle(r->transport, index);
    if (virtqueue_waiting(q))
        virtio_pci_defer(r->transport, index);
}

static const struct virtio_device_ops transport_ops = {.notify = on_notify};

static void rng_reset(void *context)
{
    virtio_pci_reset(((struct rng *)context)->transport);
}

static void rng_quiesce(void *context)
{
    virtio_pci_quiesce(((struct rng *)context)->transport);
}

static void rng_resume(void *context)
{
    virtio_pci_resume(((struct rng *)context)->transport);
}

static int rng_save(const void *context, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    (void)instance;
    return virtio_pci_save(((const struct rng *)context)->transport, set, err);
}

static int rng_check(const void *context, uint32_t instance, const struct section_set *set,
                     struct error *err)
{
    return virtio_pci_check(((const struct rng *)context)->transport, instance, set, err);
}

static void rng_load(void *context, uint32_t instance, const struct section_set *set)
{
    virtio_pci_load(((struct rng *)context)->transport, instance, set);
}

static void rng_destroy(void *context)
{
    struct rng *r = context;
    virtio_pci_destroy(&r->transport);
    free(r);
}

static const struct device_ops device_ops = {
    .name = "virtio-rng",
    .reset = rng_reset,
    .quiesce = rng_quiesce,
    .resume = rng_resume,
    .save = rng_save,
    .check = rng_check,
    .load = rng_load,
    .destroy = rng_destroy,
};

int virtio_rng_create(const struct device_env *env, struct pci_host *host, uint8_t slot,
                      struct device *out, struct error *err)
{
    struct rng *r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, -ENOMEM, "virtio-rng: out of memory");
    const struct virtio_pci_config transport = {
        .name = "virtio-rng",
        .slot = slot,
        .type = TYPE_RNG,
        .class_code = CLASS_OTHER,
        .queue_count = 1,
        .queue_size = QUEUE_SIZE,
        .ops = &transport_ops,
        .context = r,
    };
    const int rc = virtio_pci_create(env, host, &transport, &r->transport, err);
    if (rc < 0) {
        free(r);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = r};
    return 0;
}
