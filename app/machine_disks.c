#include "app/machine_disks.h"

#include <errno.h>

#include "disk/sync_codec.h"

/* What follows is of the keeper and so of replicated disks, of which there may be none. */
static struct disk_keeper *keeper_of(void *disks)
{
    return disk_store_keeper(disks);
}

static int start(void *disks, void (*wake)(void *context), void *context, struct error *err)
{
    (void)err;
    disk_store_start(disks, wake, context);
    return 0;
}

static void stop(void *disks)
{
    if (keeper_of(disks))
        disk_keeper_lost(keeper_of(disks));
    disk_store_stop(disks);
}

static bool pressing(void *disks)
{
    return disk_store_is_pressing(disks);
}

static bool full(void *disks)
{
    return disk_store_is_full(disks);
}

static void *take(void *disks)
{
    return disk_store_take(disks);
}

static int payload(void *disks, void *batch, struct iovec *parts, int max)
{
    (void)disks;
    return disk_store_payload(batch, parts, max);
}

static void release(void *disks, void *batch, enum checkpoint_disk_end end)
{
    /* What is not committed stays marked, and is compared when a link comes, or stays pending, and
     * is told again. */
    (void)end;
    disk_store_release(disks, batch);
}

static void own(void *disks, term_t term)
{
    if (keeper_of(disks))
        disk_keeper_own(keeper_of(disks), term);
}

static void outdate(void *disks, term_t term)
{
    if (keeper_of(disks))
        disk_keeper_outdate(keeper_of(disks), term);
    disk_store_outdate(disks);
}

/* The channel of checkpoint/ as the one that disk/ asks for. */

static int channel_send(void *channel, const uint8_t *bytes, size_t size, struct error *err)
{
    const struct checkpoint_disk_channel *c = channel;
    return c->ops->send(c->context, bytes, size, err);
}

static int channel_receive(void *channel, uint8_t *bytes, size_t size, struct error *err)
{
    const struct checkpoint_disk_channel *c = channel;
    return c->ops->receive(c->context, bytes, size, err);
}

static int channel_drain(void *channel, struct error *err)
{
    const struct checkpoint_disk_channel *c = channel;
    return c->ops->drain(c->context, err);
}

static int channel_pause(void *channel, nsec_t until, struct error *err)
{
    const struct checkpoint_disk_channel *c = channel;
    return c->ops->pause(c->context, until, err);
}

static const struct sync_channel_ops channel_ops = {.send = channel_send,
                                                    .receive = channel_receive,
                                                    .drain = channel_drain,
                                                    .pause = channel_pause};

_Static_assert(CHECKPOINT_DISK_MESSAGE_MAX == SYNC_PAYLOAD_MAX, "what one sends the other takes");

static struct sync_channel adapt(const struct checkpoint_disk_channel *channel)
{
    return (struct sync_channel){.ops = &channel_ops, .context = (void *)(uintptr_t)channel};
}

static int synchronise(void *disks, const struct checkpoint_disk_channel *channel,
                       struct error *err)
{
    const struct sync_channel adapted = adapt(channel);
    disk_store_settle(disks);
    return keeper_of(disks) ? disk_keeper_synchronise(keeper_of(disks), &adapted, err) : 0;
}

static void in_step(void *disks)
{
    if (keeper_of(disks))
        disk_keeper_in_step(keeper_of(disks));
}

static int receive(void *disks, const uint8_t *bytes, size_t size,
                   const struct checkpoint_disk_channel *channel, struct error *err)
{
    const struct sync_channel adapted = adapt(channel);
    if (!keeper_of(disks))
        return error_set(err, -EBADMSG, "the other host compares disks, and none is replicated");
    return disk_keeper_receive(keeper_of(disks), bytes, size, &adapted, err);
}

static int follow(void *disks, term_t term, struct error *err)
{
    const int rc = disk_store_settle_replica(disks, err);
    return rc < 0 || !keeper_of(disks) ? rc : disk_keeper_follow(keeper_of(disks), term, err);
}

static void watch(void *disks, void (*failed)(void *context, const struct error *why),
                  void *context)
{
    disk_store_watch(disks, failed, context);
}

static void restart(void *disks)
{
    disk_store_restart(disks);
    if (keeper_of(disks))
        disk_keeper_restart(keeper_of(disks));
}

static int stage(void *disks, const uint8_t *bytes, size_t size, struct error *err)
{
    return disk_store_stage(disks, bytes, size, err);
}

static void commit(void *disks)
{
    disk_store_commit(disks);
}

static void drop(void *disks)
{
    disk_store_drop(disks);
}

static int check(void *disks, struct error *err)
{
    return disk_store_check(disks, err);
}

static int finish(void *disks, struct error *err)
{
    /* A replicated image that can't be used refuses before a shared one is touched. */
    int rc = disk_store_settle_replica(disks, err);
    if (rc == 0 && keeper_of(disks))
        rc = disk_keeper_may_promote(keeper_of(disks), err);
    return rc < 0 ? rc : disk_store_finish(disks, err);
}

struct checkpoint_disks machine_disks_ops(struct disk_store *store)
{
    static const struct checkpoint_disk_ops ops = {
        .own = own,
        .outdate = outdate,
        .start = start,
        .stop = stop,
        .pressing = pressing,
        .full = full,
        .take = take,
        .payload = payload,
        .release = release,
        .synchronise = synchronise,
        .in_step = in_step,
        .watch = watch,
        .restart = restart,
        .receive = receive,
        .follow = follow,
        .stage = stage,
        .commit = commit,
        .drop = drop,
        .check = check,
        .finish = finish,
    };
    const bool travels = store && disk_store_travels(store);
    return (struct checkpoint_disks){.ops = travels ? &ops : NULL, .context = store};
}
