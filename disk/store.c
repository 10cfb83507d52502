#include "disk/store.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk/mode_replicated.h"
#include "disk/mode_shared.h"

/* A broken disk fails a thousand times a second: the first few say it, the counters the rest. */
#define LOCAL_ERRORS_TOLD 16

struct disk_store {
    /* set at creation */
    struct disk_store_config config;
    struct disk_volume *volumes[DISK_COUNT_MAX];
    struct disk_log *log; /* these three: NULL when nothing is replicated */
    struct disk_replicated *mode;
    struct disk_replica *replica;
    struct disk_keeper *keeper;
    struct disk_shared *shared;     /* NULL: no disk is shared, or they are buffered */
    struct disk_buffered *buffered; /* these two: NULL when no shared disk is buffered */
    struct disk_retained *retained;

    _Atomic unsigned local_errors;

    pthread_mutex_t lock; /* protects all below, held while they are called: taken before all
                             others, and the callbacks must not come back */
    void (*wake)(void *context);
    void *wake_context;
    void (*failed)(void *context, const struct error *why);
    void *failed_context;
};

struct disk_store_batch {
    struct disk_batch *logged;
    struct disk_buffered_batch *buffered;
};

static bool is_replicated(const struct disk_store *s, unsigned i)
{
    return s->config.disks[i].protection == DISK_REPLICATED;
}

/* ---- callbacks of the parts ---- */

static void on_local_error(void *context, unsigned index, const char *text)
{
    struct disk_store *s = context;
    char phrase[192];
    if (atomic_fetch_add(&s->local_errors, 1) >= LOCAL_ERRORS_TOLD)
        return;
    snprintf(phrase, sizeof(phrase), "disk %u: %s", index, text);
    if (s->config.event)
        s->config.event(s->config.context, DISK_STORE_LOCAL_ERROR, phrase);
}

static void on_replica_failed(void *context, const struct error *why)
{
    struct disk_store *s = context;
    pthread_mutex_lock(&s->lock);
    if (s->failed)
        s->failed(s->failed_context, why);
    pthread_mutex_unlock(&s->lock);
    /* P5: who reads of it finds a standby that says that it protects nothing. */
    if (s->config.event)
        s->config.event(s->config.context, DISK_STORE_REPLICA_FAILED, why->text);
}

static void on_room(void *context)
{
    disk_replicated_room(((struct disk_store *)context)->mode);
}

static void on_press(void *context)
{
    struct disk_store *s = context;
    pthread_mutex_lock(&s->lock);
    if (s->wake)
        s->wake(s->wake_context);
    pthread_mutex_unlock(&s->lock);
}

static void on_behind(void *context, unsigned index, const char *text)
{
    struct disk_store *s = context;
    char phrase[256];
    snprintf(phrase, sizeof(phrase), "disk %u: %s", index,
             text ? text : "the image has taken what the guest was told is done");
    if (s->config.event)
        s->config.event(s->config.context, text ? DISK_STORE_BEHIND : DISK_STORE_CAUGHT_UP, phrase);
}

/* ---- life ---- */

static int open_volume(struct disk_store *s, unsigned i, struct error *err)
{
    const struct disk_store_disk *disk = &s->config.disks[i];
    const struct disk_image_config image = {.path = disk->path,
                                            .read_only = disk->read_only,
                                            .shared = disk->protection == DISK_SHARED};
    struct disk_volume_config config = {
        .image = disk->image, .index = i, .failed = on_local_error, .context = s};
    s->config.disks[i].image = NULL;
    int rc = config.image ? 0 : disk_image_open(&image, &config.image, err);
    if (rc == 0)
        rc = disk_volume_create(&config, &s->volumes[i], err);
    return rc;
}

static int create_replication(struct disk_store *s, struct error *err)
{
    const struct disk_log_config log = {.cap = DISK_LOG_CAP,
                                        .cut_room = s->config.cuts_drain ? DISK_LOG_CAP / 2 : 0,
                                        .room = on_room,
                                        .press = on_press,
                                        .context = s};
    struct disk_volume *taking[DISK_COUNT_MAX] = {NULL};
    int rc = disk_log_create(&log, &s->log, err);
    if (rc == 0)
        rc = disk_replicated_create(s->log, &s->mode, err);
    for (unsigned i = 0; rc == 0 && i < s->config.count; i++) {
        if (!is_replicated(s, i))
            continue;
        taking[i] = s->volumes[i];
        disk_volume_set_mode(s->volumes[i], &disk_mode_replicated_ops, s->mode);
    }
    const struct disk_replica_config replica = {.volumes = taking,
                                                .count = s->config.count,
                                                .cap = DISK_REPLICA_CAP,
                                                .failed = on_replica_failed,
                                                .context = s};
    if (rc == 0)
        rc = disk_replica_create(&replica, &s->replica, err);
    return rc;
}

static int create_buffering(struct disk_store *s, struct error *err)
{
    const struct disk_buffered_config config = {
        .cap = DISK_LOG_CAP, .wake = on_press, .failed = on_behind, .context = s};
    struct disk_retained_config retained = {.count = s->config.count, .cap = DISK_RETAINED_CAP};
    struct disk_volume *taking[DISK_COUNT_MAX] = {NULL};
    const int rc = disk_buffered_create(&config, &s->buffered, err);
    for (unsigned i = 0; rc == 0 && i < s->config.count; i++) {
        if (s->config.disks[i].protection != DISK_SHARED)
            continue;
        taking[i] = s->volumes[i];
        disk_volume_set_mode(s->volumes[i], &disk_mode_buffered_ops, s->buffered);
    }
    retained.volumes = taking;
    return rc < 0 ? rc : disk_retained_create(&retained, &s->retained, err);
}

static int create_sharing(struct disk_store *s, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < s->config.count; i++) {
        if (s->config.disks[i].protection != DISK_SHARED)
            continue;
        if (!s->shared)
            rc = disk_shared_create(&s->shared, err);
        if (rc == 0)
            disk_volume_set_mode(s->volumes[i], &disk_mode_shared_ops, s->shared);
    }
    return rc;
}

static int open_keeper(struct disk_store *s, struct error *err)
{
    struct disk_keeper_config config = {.vm = s->config.vm,
                                        .state_dir = s->config.state_dir,
                                        .count = s->config.count,
                                        .failed = on_replica_failed,
                                        .context = s,
                                        .rate = s->config.sync_rate};
    for (unsigned i = 0; i < s->config.count; i++) {
        if (!is_replicated(s, i))
            continue;
        config.disks[i].volume = s->volumes[i];
        config.disks[i].path = s->config.disks[i].path;
        config.disks[i].map = s->config.disks[i].map;
    }
    return disk_keeper_open(&config, &s->keeper, err);
}

int disk_store_open(const struct disk_store_config *config, struct disk_store **out,
                    struct error *err)
{
    assert(config->count <= DISK_COUNT_MAX);
    *out = NULL;
    struct disk_store *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "disks: out of memory");
    s->config = *config;
    pthread_mutex_init(&s->lock, NULL);
    int rc = 0;
    bool replicated = false, shared = false;
    for (unsigned i = 0; rc == 0 && i < config->count; i++) {
        rc = open_volume(s, i, err);
        if (rc == 0 && config->state_dir && !config->disks[i].read_only && !is_replicated(s, i))
            rc = disk_keeper_forget(config->vm, config->state_dir, i, err);
        replicated |= is_replicated(s, i);
        shared |= config->disks[i].protection == DISK_SHARED;
    }
    if (rc == 0 && shared)
        rc = config->cuts_drain ? create_buffering(s, err) : create_sharing(s, err);
    if (rc == 0 && replicated)
        rc = create_replication(s, err);
    if (rc == 0 && replicated)
        rc = open_keeper(s, err);
    if (rc < 0)
        disk_store_close(&s);
    *out = s;
    return rc;
}

void disk_store_close(struct disk_store **store)
{
    struct disk_store *s = *store;
    if (!s)
        return;
    if (s->log)
        disk_log_stop(s->log); /* requests that wait for room end */
    disk_store_end_held(s);
    disk_replica_destroy(&s->replica);
    for (unsigned i = 0; i < s->config.count; i++) {
        disk_volume_destroy(&s->volumes[i]);
        disk_image_close(&s->config.disks[i].image); /* was never taken */
    }
    disk_keeper_close(&s->keeper);
    disk_shared_destroy(&s->shared);
    disk_buffered_destroy(&s->buffered);
    disk_retained_destroy(&s->retained);
    disk_replicated_destroy(&s->mode);
    disk_log_destroy(&s->log);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *store = NULL;
}

unsigned disk_store_count(const struct disk_store *store)
{
    return store->config.count;
}

struct disk_volume *disk_store_volume(struct disk_store *store, unsigned index)
{
    return store->volumes[index];
}

struct disk_keeper *disk_store_keeper(struct disk_store *store)
{
    return store->keeper;
}

bool disk_store_travels(const struct disk_store *store)
{
    return store->log || store->buffered;
}

void disk_store_snapshot(struct disk_store *store, struct disk_store_stats *out)
{
    *out = (struct disk_store_stats){0};
    if (store->buffered) {
        disk_buffered_snapshot(store->buffered, &out->buffered);
        disk_retained_snapshot(store->retained, &out->retained);
        out->waiting = out->buffered.waiting;
    }
    if (!store->log)
        return;
    disk_log_snapshot(store->log, &out->log);
    disk_replica_snapshot(store->replica, &out->replica);
    if (!out->replica.failed)
        out->replica.failed =
            disk_keeper_failure(store->keeper, out->replica.why, sizeof(out->replica.why));
    out->waiting += disk_replicated_waiting(store->mode);
}

/* ---- shared disks ---- */

bool disk_store_is_buffered(const struct disk_store *store)
{
    return store->buffered;
}

void disk_store_hold(struct disk_store *store, void (*hold)(void *context, uint64_t ticket),
                     void *context)
{
    if (store->shared)
        disk_shared_begin(store->shared, hold, context);
    if (store->buffered)
        disk_buffered_begin(store->buffered, hold, context);
}

void disk_store_emit(struct disk_store *store, uint64_t ticket)
{
    if (store->shared)
        disk_shared_release(store->shared, ticket);
    if (store->buffered)
        disk_buffered_release(store->buffered, ticket);
}

void disk_store_end_held(struct disk_store *store)
{
    if (store->shared)
        disk_shared_end(store->shared);
    if (store->buffered)
        disk_buffered_end(store->buffered);
}

bool disk_store_is_quiet(struct disk_store *store)
{
    return (!store->shared || disk_shared_is_quiet(store->shared)) &&
           (!store->buffered || disk_buffered_is_quiet(store->buffered));
}

unsigned disk_store_held(struct disk_store *store, unsigned index)
{
    struct disk_volume *volume = store->volumes[index];
    return store->shared     ? disk_shared_held(store->shared, volume)
           : store->buffered ? disk_buffered_held(store->buffered, volume)
                             : 0;
}

unsigned disk_store_writing(struct disk_store *store, unsigned index)
{
    struct disk_volume *volume = store->volumes[index];
    return store->shared     ? disk_shared_writing(store->shared, volume)
           : store->buffered ? disk_buffered_writing(store->buffered, volume)
                             : 0;
}

void disk_store_outdate(struct disk_store *store)
{
    if (!store->buffered)
        return;
    disk_buffered_halt(store->buffered);
    disk_retained_forget(store->retained);
}

/* ---- the executing side ---- */

void disk_store_start(struct disk_store *store, void (*wake)(void *context), void *context)
{
    pthread_mutex_lock(&store->lock);
    store->wake = wake;
    store->wake_context = context;
    pthread_mutex_unlock(&store->lock);
    if (store->log)
        disk_log_start(store->log);
    if (store->buffered)
        disk_buffered_start(store->buffered);
}

void disk_store_stop(struct disk_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->wake = NULL;
    pthread_mutex_unlock(&store->lock);
    if (store->log)
        disk_log_stop(store->log);
    if (store->buffered)
        disk_buffered_stop(store->buffered);
}

bool disk_store_is_pressing(struct disk_store *store)
{
    return (store->log && disk_log_is_pressing(store->log)) ||
           (store->buffered && disk_buffered_is_pressing(store->buffered));
}

bool disk_store_is_full(struct disk_store *store)
{
    return store->buffered && disk_buffered_is_full(store->buffered);
}

void disk_store_drain(struct disk_store *store, bool draining)
{
    if (store->log)
        disk_log_drain(store->log, draining);
    if (store->buffered)
        disk_buffered_drain(store->buffered, draining);
}

struct disk_store_batch *disk_store_take(struct disk_store *store)
{
    const struct disk_store_batch taken = {
        .logged = store->log ? disk_log_take(store->log) : NULL,
        .buffered = store->buffered ? disk_buffered_take(store->buffered) : NULL};
    if (!taken.logged && !taken.buffered)
        return NULL;
    struct disk_store_batch *batch = malloc(sizeof(*batch));
    if (!batch)
        abort();
    *batch = taken;
    return batch;
}

int disk_store_payload(struct disk_store_batch *batch, struct iovec *parts, int max)
{
    int count = batch->logged ? disk_batch_payload(batch->logged, parts, max) : 0;
    if (count == 0 && batch->buffered)
        count = disk_buffered_payload(batch->buffered, parts, max);
    return count;
}

void disk_store_release(struct disk_store *store, struct disk_store_batch *batch)
{
    if (!batch)
        return;
    if (store->log)
        disk_batch_release(store->log, batch->logged);
    if (store->buffered)
        disk_buffered_drop(store->buffered, batch->buffered);
    free(batch);
}

void disk_store_settle(struct disk_store *store)
{
    if (store->mode)
        disk_replicated_settle(store->mode);
}

/* ---- the standby ---- */

int disk_store_stage(struct disk_store *store, const uint8_t *payload, size_t size,
                     struct error *err)
{
    const bool marked = size > 0 && payload[0] == DISK_MARK_OP;
    if (marked ? !store->retained : !store->replica)
        return error_set(err, -EBADMSG, "the other host sends changes of %s disks, there are none",
                         marked ? "shared" : "replicated");
    return marked ? disk_retained_stage(store->retained, payload, size, err)
                  : disk_replica_stage(store->replica, payload, size, err);
}

void disk_store_commit(struct disk_store *store)
{
    if (store->replica)
        disk_replica_commit(store->replica);
    if (store->retained)
        disk_retained_commit(store->retained);
}

void disk_store_drop(struct disk_store *store)
{
    if (store->replica)
        disk_replica_drop(store->replica);
    if (store->retained)
        disk_retained_drop(store->retained);
}

void disk_store_restart(struct disk_store *store)
{
    if (store->replica)
        disk_replica_restart(store->replica);
    /* What is retained is needed still, unless this is another link: its first mark says so. */
    if (store->retained)
        disk_retained_drop(store->retained);
}

int disk_store_check(struct disk_store *store, struct error *err)
{
    return store->replica ? disk_replica_check(store->replica, err) : 0;
}

int disk_store_settle_replica(struct disk_store *store, struct error *err)
{
    return store->replica ? disk_replica_finish(store->replica, err) : 0;
}

int disk_store_finish(struct disk_store *store, struct error *err)
{
    const int rc = disk_store_settle_replica(store, err);
    return rc == 0 && store->retained ? disk_retained_finish(store->retained, err) : rc;
}

void disk_store_watch(struct disk_store *store,
                      void (*failed)(void *context, const struct error *why), void *context)
{
    pthread_mutex_lock(&store->lock);
    store->failed = failed;
    store->failed_context = context;
    pthread_mutex_unlock(&store->lock);
}
