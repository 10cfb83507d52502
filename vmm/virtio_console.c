/* virtio-console (virtio 1.2 §5.3) with the one port that needs no control queue: hvc0.
 *
 * What was typed and not yet read by the guest waits in a small buffer, which is state: it was
 * accepted, so it must survive a failover. Output goes on while the guest's notification is
 * handled. A single buffer of the guest carries OUTPUT_MAX bytes at most; a driver writes far less,
 * and the host should not copy gigabytes because a guest says so. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"
#include "vmm/virtio_devices.h"
#include "vmm/virtio_pci.h"

#define TYPE_CONSOLE 3
#define CLASS_COMM   0x078000
#define QUEUE_SIZE   64
#define QUEUE_RX     0
#define QUEUE_TX     1
#define OUTPUT_MAX   65536
#define BURST        32

struct input {
    uint16_t size; /* bytes waiting */
    uint8_t bytes[VIRTIO_CONSOLE_INPUT_MAX];
};

struct console {
    /* set at creation */
    struct virtio_pci *transport;
    const struct machine_output_ops *output;
    void *output_context;

    /* protected by the device lock */
    struct input input;
    struct virtqueue_chain chain;
};

static void give_input(struct console *c)
{
    struct virtqueue *q = virtio_pci_queue(c->transport, QUEUE_RX);
    struct input *in = &c->input;
    for (unsigned i = 0; i < BURST && in->size && virtqueue_pop(q, &c->chain) == 1; i++) {
        const size_t put = virtqueue_chain_write(q, &c->chain, 0, in->bytes, in->size);
        virtqueue_push(q, c->chain.head, (uint32_t)put);
        in->size = (uint16_t)(in->size - put);
        memmove(in->bytes, in->bytes + put, in->size);
        memset(in->bytes + in->size, 0, put); /* two saves of one state are equal */
    }
    /* Only a guest that we wait for needs to tell us of new buffers. */
    virtqueue_set_kicks(q, in->size > 0);
    virtio_pci_settle(c->transport, QUEUE_RX);
    if (in->size && virtqueue_waiting(q))
        virtio_pci_defer(c->transport, QUEUE_RX);
}

static void print_chain(struct console *c)
{
    size_t left = OUTPUT_MAX;
    for (unsigned i = 0; i < c->chain.out_count && left; i++) {
        const struct virtqueue_segment *s = &c->chain.segments[i];
        const size_t size = s->size < left ? s->size : left;
        c->output->console(c->output_context, MACHINE_CONSOLE_VIRTIO, s->host, size);
        left -= size;
    }
}

static void take_output(struct console *c)
{
    struct virtqueue *q = virtio_pci_queue(c->transport, QUEUE_TX);
    for (unsigned i = 0; i < BURST && virtqueue_pop(q, &c->chain) == 1; i++) {
        print_chain(c);
        virtqueue_push(q, c->chain.head, 0);
    }
    virtqueue_set_kicks(q, true);
    virtio_pci_settle(c->transport, QUEUE_TX);
    if (virtqueue_waiting(q))
        virtio_pci_defer(c->transport, QUEUE_TX);
}

static void on_notify(void *context, unsigned index)
{
    if (index == QUEUE_TX)
        take_output(context);
    else
        give_input(context);
}

static const struct virtio_device_ops transport_ops = {.notify = on_notify};

size_t virtio_console_input(const struct device *console, const uint8_t *data, size_t size)
{
    struct console *c = console->context;
    struct input *in = &c->input;
    const size_t room = sizeof(in->bytes) - in->size;
    const size_t taken = size < room ? size : room;
    memcpy(in->bytes + in->size, data, taken);
    in->size = (uint16_t)(in->size + taken);
    if (virtio_pci_is_running(c->transport))
        give_input(c);
    return taken;
}

/* --- driven by the machine ------------------------------------------------------------------ */

static const struct state_field fields[] = {
    STATE_UINT(struct input, size, 0, VIRTIO_CONSOLE_INPUT_MAX),
    STATE_BYTES(struct input, bytes),
};

static const struct state_table table = {"virtio-console", 1, fields, ARRAY_SIZE(fields), NULL};

static void console_reset(void *context)
{
    struct console *c = context;
    c->input = (struct input){0};
    virtio_pci_reset(c->transport);
}

static void console_quiesce(void *context)
{
    virtio_pci_quiesce(((struct console *)context)->transport);
}

static void console_resume(void *context)
{
    virtio_pci_resume(((struct console *)context)->transport);
}

static int console_save(const void *context, uint32_t instance, struct section_set *set,
                        struct error *err)
{
    const struct console *c = context;
    const int rc = state_save(&table, instance, &c->input, set, err);
    return rc < 0 ? rc : virtio_pci_save(c->transport, set, err);
}

static int console_check(const void *context, uint32_t instance, const struct section_set *set,
                         struct error *err)
{
    const struct console *c = context;
    struct input scratch;
    const int rc = state_decode(&table, instance, &scratch, c, set, err);
    return rc < 0 ? rc : virtio_pci_check(c->transport, instance, set, err);
}

static void console_load(void *context, uint32_t instance, const struct section_set *set)
{
    struct console *c = context;
    const int rc = state_decode(&table, instance, &c->input, c, set, NULL);
    assert(rc == 0);
    (void)rc;
    virtio_pci_load(c->transport, instance, set);
}

static void console_destroy(void *context)
{
    struct console *c = context;
    virtio_pci_destroy(&c->transport);
    free(c);
}

static const struct device_ops device_ops = {
    .name = "virtio-console",
    .reset = console_reset,
    .quiesce = console_quiesce,
    .resume = console_resume,
    .save = console_save,
    .check = console_check,
    .load = console_load,
    .destroy = console_destroy,
};

int virtio_console_create(const struct device_env *env, struct pci_host *host,
                          const struct virtio_console_options *options, struct device *out,
                          struct error *err)
{
    struct console *c = calloc(1, sizeof(*c));
    if (!c)
        return error_set(err, -ENOMEM, "virtio-console: out of memory");
    c->output = options->output;
    c->output_context = options->output_context;
    const struct virtio_pci_config transport = {
        .name = "virtio-console",
        .slot = options->slot,
        .type = TYPE_CONSOLE,
        .class_code = CLASS_COMM,
        .queue_count = 2,
        .queue_size = QUEUE_SIZE,
        .ops = &transport_ops,
        .context = c,
    };
    const int rc = virtio_pci_create(env, host, &transport, &c->transport, err);
    if (rc < 0) {
        free(c);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = c};
    return 0;
}
