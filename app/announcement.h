/* The frame that tells switches on which port a guest's address is now: RARP (RFC 903), which needs
 * no IP address. */
#ifndef KEMARI_APP_ANNOUNCEMENT_H
#define KEMARI_APP_ANNOUNCEMENT_H

#include "base/types.h"

/* Header of the tap (virtio-net), Ethernet, RARP, padding. */
#define ANNOUNCEMENT_HEADER 12
#define ANNOUNCEMENT_SIZE   (ANNOUNCEMENT_HEADER + 60)

void announcement_make(const uint8_t mac[6], uint8_t frame[ANNOUNCEMENT_SIZE]);

#endif
