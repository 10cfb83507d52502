#include "app/kvm_disks.h"

static int start(void *disks, void (*wake)(void *context), void *context, struct error *err)
{
    (void)err;
    disk_store_start(disks, wake, context);
    return 0;
}

static void stop(void *disks)
{
    disk_store_stop(disks);
}

static bool pressing(void *disks)
{
    return disk_store_is_pressing(disks);
}

static void *take(void *disks)
{
    return disk_store_take(disks);
}

static int payload(void *disks, void *batch, struct iovec *parts, int max)
{
    (void)disks;
    return disk_batch_payload(batch, parts, max);
}

static void release(void *disks, void *batch, enum checkpoint_disk_end end)
{
    (void)end; /* a link that comes later begins with a copy */
    disk_store_release(disks, batch);
}

static int copy(void *disks, struct iovec *parts, int max, struct error *err)
{
    return disk_store_copy(disks, parts, max, err);
}

static void watch(void *disks, void (*failed)(void *context, const struct error *why),
                  void *context)
{
    disk_store_watch(disks, failed, context);
}

static void restart(void *disks)
{
    disk_replica_restart(disk_store_replica(disks));
}

static int stage(void *disks, const uint8_t *bytes, size_t size, struct error *err)
{
    return disk_replica_stage(disk_store_replica(disks), bytes, size, err);
}

static void commit(void *disks)
{
    disk_replica_commit(disk_store_replica(disks));
}

static void drop(void *disks)
{
    disk_replica_drop(disk_store_replica(disks));
}

static int check(void *disks, struct error *err)
{
    return disk_replica_check(disk_store_replica(disks), err);
}

static int finish(void *disks, struct error *err)
{
    return disk_replica_finish(disk_store_replica(disks), err);
}

struct checkpoint_disks kvm_disks_ops(struct disk_store *store)
{
    static const struct checkpoint_disk_ops ops = {
        .start = start,
        .stop = stop,
        .pressing = pressing,
        .take = take,
        .payload = payload,
        .release = release,
        .copy = copy,
        .watch = watch,
        .restart = restart,
        .stage = stage,
        .commit = commit,
        .drop = drop,
        .check = check,
        .finish = finish,
    };
    const bool travels = store && disk_store_is_replicated(store);
    return (struct checkpoint_disks){.ops = travels ? &ops : NULL, .context = store};
}
