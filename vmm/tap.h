/* A tap interface of the host, as the backend of a virtio-net device.
 *
 * Frames carry the 12-byte virtio-net header in both directions (IFF_VNET_HDR, header size 12), so
 * checksum and segmentation offloads pass through unchanged. */
#ifndef KEMARI_VMM_TAP_H
#define KEMARI_VMM_TAP_H

#include "base/error.h"
#include "base/types.h"

/* Attaches to the existing tap interface `name` (single queue) and returns a non-blocking
 * descriptor that the caller closes, or -errno with a sentence that tells missing, busy, and
 * forbidden apart. */
int tap_open(const char *name, struct error *err);

/* What the guest can accept on receive, as VIRTIO_NET_F_* bit numbers in `features`: the kernel
 * does the rest in software. A descriptor that is not a tap is left alone. */
void tap_set_receive_offloads(int fd, uint64_t features);

#endif
