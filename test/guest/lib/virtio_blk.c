#include "test/guest/lib/virtio_blk.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/virtio.h"

#define DEVICE_BLK           0x1042 /* virtio 1.2 §4.1.2 */
#define FEATURE_FLUSH        (1u << 9)
#define FEATURE_DISCARD      (1u << 13)
#define FEATURE_WRITE_ZEROES (1u << 14)
#define PARTS                3 /* header, data, status */

static struct virtio_queue queue;
static uint32_t features;
static uint64_t sectors;

static struct {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } range;
    uint8_t status;
} slots[BLK_SLOTS];

bool blk_init(unsigned nth)
{
    struct virtio_device device;
    if (!virtio_find(&device, DEVICE_BLK, nth, "virtio-blk"))
        return false;
    features = virtio_negotiate(&device, FEATURE_FLUSH | FEATURE_DISCARD | FEATURE_WRITE_ZEROES);
    virtio_start_queue(&device, &queue, 0, false);
    if (queue.size < BLK_SLOTS * PARTS)
        runtime_fail("virtio-blk has a small queue");
    sectors = mmio_read32(device.device) | (uint64_t)mmio_read32(device.device + 4) << 32;
    virtio_go(&device);
    return true;
}

uint64_t blk_sectors(void)
{
    return sectors;
}

bool blk_can(enum blk_request request)
{
    return request == BLK_FLUSH          ? features & FEATURE_FLUSH
           : request == BLK_DISCARD      ? features & FEATURE_DISCARD
           : request == BLK_WRITE_ZEROES ? features & FEATURE_WRITE_ZEROES
                                         : true;
}

static void set_part(unsigned slot, unsigned part, const void *data, size_t size, uint16_t flags)
{
    struct virtio_descriptor *d = &queue.desc[slot * PARTS + part];
    d->address = (uint64_t)data;
    d->length = (uint32_t)size;
    d->flags = (uint16_t)(flags | (part + 1 < PARTS ? VIRTIO_DESC_NEXT : 0));
    d->next = (uint16_t)(slot * PARTS + part + 1);
}

void blk_submit(unsigned slot, enum blk_request request, uint64_t sector, uint32_t count,
                void *data)
{
    const bool ranges = request == BLK_DISCARD || request == BLK_WRITE_ZEROES;
    slots[slot].header.type = request;
    slots[slot].header.sector = ranges || request == BLK_FLUSH ? 0 : sector;
    slots[slot].range.sector = sector;
    slots[slot].range.sectors = count;
    slots[slot].status = 0xff;
    set_part(slot, 0, &slots[slot].header, sizeof(slots[slot].header), 0);
    if (ranges)
        set_part(slot, 1, &slots[slot].range, sizeof(slots[slot].range), 0);
    else
        set_part(slot, 1, data, request == BLK_FLUSH ? 0 : (size_t)count * BLK_SECTOR,
                 request == BLK_READ ? VIRTIO_DESC_WRITE : 0);
    set_part(slot, 2, &slots[slot].status, 1, VIRTIO_DESC_WRITE);
    virtio_post(&queue, (uint16_t)(slot * PARTS));
    virtio_ring_doorbell(&queue);
}

bool blk_poll(unsigned *slot, bool *ok)
{
    struct virtio_used_element used;
    if (!virtio_take_used(&queue, &used))
        return false;
    if (used.id % PARTS || used.id / PARTS >= BLK_SLOTS)
        runtime_fail("virtio-blk returned a bad used element");
    *slot = used.id / PARTS;
    *ok = *(volatile uint8_t *)&slots[*slot].status == 0;
    return true;
}
