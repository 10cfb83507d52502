/* Any state of a disk from a peer, with any guest memory around it: requests that were in flight
 * are taken up from the rings as they stand there, by a backend that answers late, or not before
 * the device is reset.
 *
 * Property: what check() accepts loads, and what is saved then, before and after the requests were
 * taken up, is accepted again. Input: u8 flags (1: the disk answers before the reset, 2: with
 * errors), u16 size of the guest's memory that follows, its pieces (u16 address / 16, u8 size,
 * bytes; all else is zero), the section set. */
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/wire.h"
#include "vmm/virtio_devices.h"

#define MEMORY    ((uint64_t)2 << 20)
#define IMAGE_MAX ((uint64_t)1 << 20) /* the pieces lie below */
#define SECTORS   64
#define SLOT      9
#define INDEX     3
#define IOS_MAX   512
#define BYTES     65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct device_env env;
static struct device blk;
static struct blk_io *ios[IOS_MAX]; /* that the disk has */
static unsigned io_count;

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

static void ignore_level(void *context, unsigned gsi, bool asserted)
{
    (void)context;
    (void)gsi;
    (void)asserted;
}

static void submit(void *backend, struct blk_io *io)
{
    (void)backend;
    require(io->size <= BLK_DATA_MAX || io->op == BLK_DISCARD || io->op == BLK_WRITE_ZEROES);
    require(io->offset <= SECTORS * BLK_SECTOR && io->size <= SECTORS * BLK_SECTOR - io->offset);
    require(io->offset % BLK_SECTOR == 0 && io->size % BLK_SECTOR == 0);
    require(io_count < IOS_MAX);
    ios[io_count++] = io;
}

/* Until nothing is under way: what is done may lead to more. */
static void answer_all(int result)
{
    while (io_count) {
        struct blk_io *io = ios[--io_count];
        if (io->op == BLK_WRITE)
            free(io->data);
        else if (io->op == BLK_READ)
            memset(io->data, 0x5a, io->size);
        io->result = result;
        io->done(io);
        if (!io_count)
            event_base_loop(env.events, EVLOOP_NONBLOCK);
    }
}

static void set_up(void)
{
    static const struct irq_ops irq = {.message = ignore_message, .level = ignore_level};
    static const struct blk_backend_ops disk = {.submit = submit};
    log_set_level(LOG_LEVEL_ERROR);
    evthread_use_pthreads();
    env.irq.ops = &irq;
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &env.memory, NULL) == 0);
    env.lock = device_lock_create();
    env.events = event_base_new();
    struct bus *ports = bus_create();
    struct bus *mmio = bus_create();
    struct pci_host *pci;
    const struct virtio_blk_options options = {
        .index = INDEX, .slot = SLOT, .backend = {.ops = &disk, .size = SECTORS * BLK_SECTOR}};
    require(pci_host_create(&env, ports, mmio, &pci, NULL) == 0);
    require(virtio_blk_create(&env, pci, &options, &blk, NULL) == 0);
}

/* What the device says of itself now is a state that it accepts. */
static void expect_saveable(struct section_set *set)
{
    section_set_reset(set);
    require(blk.ops->save(blk.context, blk.instance, set, NULL) == 0);
    require(blk.ops->check(blk.context, blk.instance, set, NULL) == 0);
}

static void live(struct section_set *set, unsigned flags)
{
    blk.ops->load(blk.context, blk.instance, set);
    expect_saveable(set);
    blk.ops->resume(blk.context);
    if (flags & 1) {
        event_base_loop(env.events, EVLOOP_NONBLOCK);
        answer_all(flags & 2 ? -EIO : 0);
    }
    blk.ops->quiesce(blk.context);
    expect_saveable(set);
}

static void fill_memory(const uint8_t *pieces, size_t size)
{
    struct wire_reader r = {.bytes = pieces, .size = size};
    uint8_t *memory = gmem_view(env.memory, 0, IMAGE_MAX + UINT8_MAX);
    memset(memory, 0, IMAGE_MAX + UINT8_MAX);
    while (!r.bad && r.used < r.size) {
        uint8_t *at = memory + (size_t)wire_get_u16(&r) * 16;
        const size_t count = wire_get_u8(&r);
        wire_get(&r, at, count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct section_set *set;
    if (!set) {
        set = section_set_create();
        set_up();
    }
    struct wire_reader r = {.bytes = data, .size = size};
    const unsigned flags = wire_get_u8(&r);
    const size_t image = wire_get_u16(&r);
    if (r.bad || size - r.used < image)
        return 0;
    const size_t at = r.used + image;
    if (section_set_decode(set, data + at, size - at, NULL) < 0 ||
        blk.ops->check(blk.context, blk.instance, set, NULL) < 0)
        return 0;
    fill_memory(data + r.used, image);
    live(set, flags);
    blk.ops->reset(blk.context);
    answer_all(0);
    return 0;
}
