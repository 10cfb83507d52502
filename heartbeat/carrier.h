/* Interfaces that lose their carrier, as the kernel tells it (rtnetlink(7)): a cable that was
 * pulled, a switch without power, an interface that was taken down or away. Whoever listens there
 * hears nobody any more, and need not wait to find out. */
#ifndef KEMARI_HEARTBEAT_CARRIER_H
#define KEMARI_HEARTBEAT_CARRIER_H

#include "heartbeat/address.h"

#define CARRIER_MESSAGES_MAX 8192 /* bytes of one read: more than the kernel sends at once */

struct carrier_event {
    unsigned interface; /* index, never 0 */
    bool carrier;       /* it can carry now */
};

/* A socket that tells changes from now on, non-blocking, to be closed by the caller; -errno where
 * the kernel tells nothing. */
int carrier_open(void);

/* Reads the next of the messages in `bytes` behind *used, which it moves on: true and *out, or
 * false when there is none left. Messages of other kinds and what is no message are passed over.
 * Pure. */
bool carrier_decode(const uint8_t *bytes, size_t size, size_t *used, struct carrier_event *out);

/* Fills `bytes` with messages of the kernel's: their size, or -EAGAIN when there are none. */
ssize_t carrier_receive(int fd, uint8_t bytes[CARRIER_MESSAGES_MAX]);

/* Index of the interface that has this address now; 0: none, or the address is that of any. */
unsigned carrier_interface_of(const struct address *address);

#endif
