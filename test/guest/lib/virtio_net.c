#include "test/guest/lib/virtio_net.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/pci.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/virtio.h"

#define DEVICE_NET  0x1041 /* virtio 1.2 §4.1.2 */
#define FEATURE_MAC (1u << 5)
#define HEADER_SIZE 12
#define BUFFER_SIZE 2048

enum { RECEIVE, TRANSMIT, QUEUES };

static struct virtio_queue queues[QUEUES];
static uint8_t buffers[QUEUES][VIRTIO_RING_MAX][BUFFER_SIZE] __attribute__((section(".bss.noinit")));
static uint8_t mac[6];
static int taken = -1;      /* receive buffer lent to the caller */
static bool receive_posted; /* buffers given back since the last doorbell */

static void fill_queue(uint16_t number)
{
    struct virtio_queue *q = &queues[number];
    for (uint16_t i = 0; i < q->size; i++) {
        q->desc[i].address = (uint64_t)buffers[number][i];
        q->desc[i].length = BUFFER_SIZE;
        q->desc[i].flags = number == RECEIVE ? VIRTIO_DESC_WRITE : 0;
    }
}

bool net_init(unsigned nth, unsigned vector)
{
    struct virtio_device device;
    if (!virtio_find(&device, DEVICE_NET, nth, "virtio-net"))
        return false;
    if (vector && !pci_enable_msix(device.slot, vector))
        runtime_fail("virtio-net lacks MSI-X");
    virtio_negotiate(&device, FEATURE_MAC);
    virtio_start_queue(&device, &queues[RECEIVE], RECEIVE, vector != 0);
    virtio_start_queue(&device, &queues[TRANSMIT], TRANSMIT, false);
    fill_queue(RECEIVE);
    fill_queue(TRANSMIT);
    virtio_go(&device);
    for (unsigned i = 0; i < sizeof(mac); i++)
        mac[i] = mmio_read8(device.device + i);
    for (uint16_t i = 0; i < queues[RECEIVE].size; i++)
        virtio_post(&queues[RECEIVE], i);
    virtio_ring_doorbell(&queues[RECEIVE]);
    return true;
}

const uint8_t *net_mac(void)
{
    return mac;
}

const uint8_t *net_receive(size_t *size)
{
    struct virtio_queue *q = &queues[RECEIVE];
    if (taken >= 0) {
        virtio_post(q, (uint16_t)taken);
        taken = -1;
        receive_posted = true;
    }
    if (__atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) == q->seen) {
        if (receive_posted) { /* once per burst, after its answers are on their way */
            receive_posted = false;
            virtio_ring_doorbell(q);
        }
        return NULL;
    }
    const struct virtio_used_element *element = &q->used.ring[q->seen++ % q->size];
    if (element->id >= q->size || element->length < HEADER_SIZE || element->length > BUFFER_SIZE)
        runtime_fail("virtio-net returned a bad used element");
    taken = (int)element->id;
    *size = element->length - HEADER_SIZE;
    return buffers[RECEIVE][taken] + HEADER_SIZE;
}

uint8_t *net_transmit_buffer(void)
{
    struct virtio_queue *q = &queues[TRANSMIT];
    while ((uint16_t)(q->posted - __atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE)) >= q->size)
        cpu_relax();
    return buffers[TRANSMIT][q->posted % q->size] + HEADER_SIZE;
}

void net_transmit(size_t size)
{
    struct virtio_queue *q = &queues[TRANSMIT];
    const uint16_t id = q->posted % q->size;
    memset(buffers[TRANSMIT][id], 0, HEADER_SIZE);
    q->desc[id].length = (uint32_t)(HEADER_SIZE + size);
    virtio_post(q, id);
    virtio_ring_doorbell(q);
}
