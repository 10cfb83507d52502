/* All virtio devices but the disk (which has a thread) under a hostile guest: any access to
 * registers and configuration space, any bytes in guest memory.
 *
 * Property: whatever state the guest gets a device into, it can be saved, a second machine accepts
 * it, and what that one saves is the same. Otherwise a guest could make itself unprotectable. */
#include <event2/event.h>
#include <event2/thread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/wire.h"
#include "vmm/virtio_devices.h"

#define MEMORY  ((uint64_t)2 << 20)
#define IMAGE   0x400 /* guest memory the fuzzer writes */
#define DEVICES 4
#define SLOTS   4 /* the bridge and three devices */
#define BYTES   32768

struct host {
    struct device_env env;
    struct bus *ports;
    struct bus *mmio;
    struct pci_host *pci;
    struct device devices[DEVICES];
};

static struct host a, b;
static int wire[2]; /* [0] feeds the network device of `a` */

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void ignore_message(void *context, uint64_t address, uint32_t data)
{
    (void)context;
    (void)address;
    (void)data;
}

static void count_frame(void *context, unsigned index, const struct iovec *parts, int count)
{
    (void)context;
    (void)index;
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    require(size <= MACHINE_FRAME_MAX);
}

static void count_console(void *context, enum machine_console which, const uint8_t *data,
                          size_t size)
{
    (void)context;
    (void)which;
    (void)data;
    require(size <= MEMORY);
}

static const struct irq_ops irq_ops = {.message = ignore_message};
static const struct machine_output_ops output = {.network = count_frame, .console = count_console};

static void create(struct host *h)
{
    const struct gmem_config memory = {.size = MEMORY};
    require(gmem_create(&memory, &h->env.memory, NULL) == 0);
    h->env.irq.ops = &irq_ops;
    h->env.lock = device_lock_create();
    h->env.events = event_base_new();
    h->ports = bus_create();
    h->mmio = bus_create();
    require(pci_host_create(&h->env, h->ports, h->mmio, &h->pci, NULL) == 0);
    h->devices[0] = pci_host_device(h->pci);
    const struct virtio_net_options net = {.slot = 1, .output = &output};
    const struct virtio_console_options console = {.slot = 2, .output = &output};
    require(virtio_net_create(&h->env, h->pci, &net, &h->devices[1], NULL) == 0);
    require(virtio_console_create(&h->env, h->pci, &console, &h->devices[2], NULL) == 0);
    require(virtio_rng_create(&h->env, h->pci, 3, &h->devices[3], NULL) == 0);
}

static size_t save(const struct host *h, struct section_set *set, uint8_t *bytes)
{
    section_set_reset(set);
    for (unsigned i = 0; i < DEVICES; i++)
        require(h->devices[i].ops->save(h->devices[i].context, 0, set, NULL) == 0);
    const int size = section_set_encode(set, bytes, BYTES);
    require(size > 0);
    return (size_t)size;
}

static void move(void)
{
    static struct section_set *set;
    static uint8_t first[BYTES], second[BYTES];
    if (!set)
        set = section_set_create();
    for (unsigned i = 0; i < DEVICES; i++)
        if (a.devices[i].ops->quiesce)
            a.devices[i].ops->quiesce(a.devices[i].context);
    const size_t size = save(&a, set, first);
    for (unsigned i = 0; i < DEVICES; i++)
        require(b.devices[i].ops->check(b.devices[i].context, 0, set, NULL) == 0);
    for (unsigned i = 0; i < DEVICES; i++)
        b.devices[i].ops->load(b.devices[i].context, 0, set);
    require(save(&b, set, second) == size && memcmp(first, second, size) == 0);
    for (unsigned i = 0; i < DEVICES; i++)
        if (a.devices[i].ops->resume)
            a.devices[i].ops->resume(a.devices[i].context);
}

static void access_config(uint8_t slot, uint8_t offset, uint32_t value)
{
    const uint32_t address = 0x80000000u | (uint32_t)(slot % SLOTS) << 11 | (offset & 0xfcu);
    bus_write(a.ports, PCI_CONFIG_ADDRESS, (const uint8_t *)&address, 4);
    bus_write(a.ports, PCI_CONFIG_DATA, (const uint8_t *)&value, 4);
    uint8_t data[4];
    bus_read(a.ports, PCI_CONFIG_DATA + (offset & 3), data, 1);
}

/* The BARs of the three devices lie close together at the start of the window. */
static void access_bar(uint16_t where, uint8_t how, uint32_t value)
{
    const uint32_t size = 1u << (how & 3);
    const uint64_t address = PCI_WINDOW_START + (((uint64_t)(how >> 2) << 12) | (where & 0xfffu));
    uint8_t data[8] = {0};
    bus_read(a.mmio, address, data, size);
    memcpy(data, &value, sizeof(value));
    bus_write(a.mmio, address, data, size);
}

/* A frame of `size` bytes whose header begins with `header`. */
static void send_frame(size_t size, uint32_t header)
{
    static uint8_t frame[2048];
    memcpy(frame, &header, sizeof(header));
    require(send(wire[0], frame, size % sizeof(frame), 0) >= -1);
}

static void step(struct wire_reader *r)
{
    const uint8_t op = wire_get_u8(r);
    const uint16_t where = wire_get_u16(r);
    const uint8_t how = wire_get_u8(r);
    const uint32_t value = wire_get_u32(r);
    if (r->bad)
        return;
    uint8_t byte = how;
    switch (op % 8) {
    case 0:
        access_config((uint8_t)where, how, value);
        break;
    case 1:
        memcpy(gmem_view(a.env.memory, where % (IMAGE - 4), 4), &value, 4);
        break;
    case 2:
        event_base_loop(a.env.events, EVLOOP_NONBLOCK);
        break;
    case 3:
        move();
        break;
    case 4:
        if (how & 1)
            virtio_console_input(&a.devices[2], &byte, 1);
        else
            send_frame(where, value);
        break;
    default:
        access_bar(where, how, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!a.pci) {
        log_set_level(LOG_LEVEL_ERROR);
        evthread_use_pthreads();
        create(&a);
        create(&b);
        require(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, wire) == 0);
    }
    if (size < IMAGE)
        return 0;
    for (unsigned i = 0; i < DEVICES; i++)
        a.devices[i].ops->reset(a.devices[i].context);
    uint8_t stale[2048];
    while (recv(wire[1], stale, sizeof(stale), 0) >= 0)
        ;
    require(virtio_net_attach(&a.devices[1], wire[1], NULL) == 0);
    memcpy(gmem_view(a.env.memory, 0, IMAGE), data, IMAGE);
    struct wire_reader r = {.bytes = data + IMAGE, .size = size - IMAGE};
    while (!r.bad && r.used < r.size)
        step(&r);
    move();
    return 0;
}
