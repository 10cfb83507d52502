/* Driver of one virtio 1.x network device over PCI: split rings, no offloads, polled; or woken by
 * an MSI-X interrupt when a frame was received.
 *
 * Every frame lies in one buffer behind its 12-byte virtio header (virtio 1.2 §5.1.6). Works at
 * CPL 3 with IOPL 3; one vCPU. */
#ifndef KEMARI_GUEST_VIRTIO_NET_H
#define KEMARI_GUEST_VIRTIO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_FRAME_MAX 1514 /* with Ethernet header, without FCS */

/* Finds and starts the `nth` network device; false when there is none (or it refuses: fails). With
 * a `vector` other than 0, every received frame interrupts APIC 0 with it: the handler is the
 * program's, acknowledging at the APIC is all it must do. */
bool net_init(unsigned nth, unsigned vector);

const uint8_t *net_mac(void);

/* The next received frame, or NULL. It stays valid until the next call. */
const uint8_t *net_receive(size_t *size);

/* A buffer of NET_FRAME_MAX bytes for the next frame. Waits while the ring is full. */
uint8_t *net_transmit_buffer(void);

/* Sends `size` bytes of that buffer. */
void net_transmit(size_t size);

#endif
