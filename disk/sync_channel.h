/* How the two sides of a disk's synchronisation reach each other. Whoever owns the link provides
 * it; tests connect both ends directly. */
#ifndef KEMARI_DISK_SYNC_CHANNEL_H
#define KEMARI_DISK_SYNC_CHANNEL_H

#include "base/error.h"
#include "base/types.h"

struct sync_channel_ops {
    /* One message, in order. 0, or -errno after which the channel is of no use. */
    int (*send)(void *channel, const uint8_t *payload, size_t size, struct error *err);

    /* The rest of the table is the source's. Waits for the next message: its size, or -EPIPE when
     * the link was lost or this side is to stop. -EMSGSIZE if it is larger than `size`. */
    int (*receive)(void *channel, uint8_t *payload, size_t size, struct error *err);
    /* Hands what the guest wrote meanwhile to the other side, if it is much: all that was sent
     * before goes first. 0 or -errno. */
    int (*drain)(void *channel, struct error *err);
    /* Does nothing until `until` (clock_now()): 0 or -EPIPE. */
    int (*pause)(void *channel, nsec_t until, struct error *err);
};

struct sync_channel {
    const struct sync_channel_ops *ops;
    void *context;
};

#endif
