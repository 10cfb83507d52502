#include "disk/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "disk/sync_codec.h"
#include "disk/sync_target.h"
#include "disk/tracker.h"

struct kept {
    char *path; /* of the image */
    char *map_path;
    struct divergence *map; /* NULL: this disk is not replicated */
    struct disk_tracker *tracker;
    struct sync_source *source;
    struct sync_target *target;
};

struct disk_keeper {
    /* set at creation */
    unsigned count;
    struct kept disks[DISK_COUNT_MAX];
    struct disk_geometry geometry;
    void (*failed)(void *context, const struct error *why);
    void *context;
    pthread_t thread;
    bool thread_started;

    /* Held while a synchronisation's rounds are finished or given up: never both. */
    pthread_mutex_t rounds;

    pthread_mutex_t lock; /* protects below */
    pthread_cond_t changed;
    bool finish; /* the standby holds a complete state: rounds are to be finished */
    bool quit;
    struct error failure; /* of an image of this standby, since it was last in step */
};

/* ---- whose images they are ---- */

static int refuse_unusable(struct disk_keeper *k, term_t owned, struct error *err)
{
    for (unsigned i = 0; i < k->count; i++) {
        struct kept *d = &k->disks[i];
        if (!d->map)
            continue;
        struct lineage lineage;
        const struct pairing_side side = divergence_side(d->map, &lineage);
        const int rc = pairing_may_start(side.lineage, owned, d->path, d->map_path, err);
        if (rc < 0)
            return error_prefix(err, "disk %u", i);
    }
    return 0;
}

int disk_keeper_may_start(struct disk_keeper *keeper, term_t owned, struct error *err)
{
    return refuse_unusable(keeper, owned, err);
}

int disk_keeper_may_promote(struct disk_keeper *keeper, struct error *err)
{
    for (unsigned i = 0; i < keeper->count; i++) {
        struct lineage lineage;
        if (!keeper->disks[i].map)
            continue;
        const struct pairing_side side = divergence_side(keeper->disks[i].map, &lineage);
        if (!side.lineage || lineage.state == IMAGE_SYNCING || lineage.state == IMAGE_OUTDATED)
            return error_set(err, -ESTALE, "disk %u: the image %.200s is %s: it can't be promoted",
                             i, keeper->disks[i].path,
                             side.lineage ? image_state_name(lineage.state)
                                          : "not known to be in step");
    }
    return 0;
}

void disk_keeper_own(struct disk_keeper *keeper, term_t term)
{
    for (unsigned i = 0; i < keeper->count; i++)
        if (keeper->disks[i].map)
            divergence_own(keeper->disks[i].map, term);
}

void disk_keeper_outdate(struct disk_keeper *keeper, term_t term)
{
    for (unsigned i = 0; i < keeper->count; i++) {
        struct error err = {0};
        if (keeper->disks[i].map && divergence_outdate(keeper->disks[i].map, term, &err) < 0)
            log_error("disk", "disk %u can't be marked outdated: %s", i, err.text);
    }
}

/* ---- the executing side ---- */

int disk_keeper_synchronise(struct disk_keeper *keeper, const struct sync_channel *channel,
                            struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < keeper->count; i++) {
        struct kept *d = &keeper->disks[i];
        if (!d->map)
            continue;
        rc = sync_source_run(d->source, channel, err);
        struct sync_progress p;
        sync_source_snapshot(d->source, &p);
        if (rc == 0)
            log_info("disk", "disk %u: compared %llu bytes%s%s%s, %llu differed, %llu sent", i,
                     (unsigned long long)p.bytes_done, p.full ? " (all: " : "", p.why,
                     p.full ? ")" : "", (unsigned long long)p.bytes_differed,
                     (unsigned long long)p.bytes_sent);
    }
    if (rc < 0)
        disk_keeper_lost(keeper);
    return rc;
}

void disk_keeper_in_step(struct disk_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->finish = true;
    pthread_cond_signal(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

void disk_keeper_lost(struct disk_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->finish = false;
    pthread_mutex_unlock(&keeper->lock);
    pthread_mutex_lock(&keeper->rounds);
    for (unsigned i = 0; i < keeper->count; i++)
        if (keeper->disks[i].map)
            sync_source_abandon(keeper->disks[i].source);
    pthread_mutex_unlock(&keeper->rounds);
}

static void finish_rounds(struct disk_keeper *k)
{
    pthread_mutex_lock(&k->rounds);
    for (unsigned i = 0; i < k->count; i++) {
        struct error err = {0};
        if (k->disks[i].map && sync_source_finish(k->disks[i].source, &err) < 0)
            log_error("disk", "disk %u: %s", i, err.text);
    }
    pthread_mutex_unlock(&k->rounds);
}

static void *keeper_main(void *context)
{
    struct disk_keeper *k = context;
    pthread_mutex_lock(&k->lock);
    while (!k->quit) {
        if (!k->finish) {
            pthread_cond_wait(&k->changed, &k->lock);
            continue;
        }
        k->finish = false;
        pthread_mutex_unlock(&k->lock);
        finish_rounds(k);
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

/* ---- the standby ---- */

void disk_keeper_restart(struct disk_keeper *keeper)
{
    for (unsigned i = 0; i < keeper->count; i++)
        if (keeper->disks[i].map)
            sync_target_restart(keeper->disks[i].target);
}

static void set_failure(struct disk_keeper *k, const struct error *why)
{
    pthread_mutex_lock(&k->lock);
    k->failure = *why;
    pthread_mutex_unlock(&k->lock);
}

int disk_keeper_receive(struct disk_keeper *keeper, const uint8_t *payload, size_t size,
                        const struct sync_channel *channel, struct error *err)
{
    struct sync_message message;
    struct error why = {0};
    int rc = sync_decode(payload, size, &keeper->geometry, &message, err);
    if (rc < 0)
        return rc;
    struct sync_target *target = keeper->disks[message.disk].target;
    rc = sync_target_handle(target, &message, channel, &why);
    if (rc < 0 && err)
        *err = why;
    if (rc == 0 || !sync_target_failed(target))
        return rc;
    set_failure(keeper, &why);
    if (keeper->failed)
        keeper->failed(keeper->context, &why);
    return rc;
}

int disk_keeper_follow(struct disk_keeper *keeper, term_t term, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < keeper->count; i++)
        if (keeper->disks[i].map)
            rc = sync_target_in_step(keeper->disks[i].target, term, err);
    if (rc == 0)
        set_failure(keeper, &(struct error){0});
    return rc;
}

/* ---- status ---- */

bool disk_keeper_failure(struct disk_keeper *keeper, char *why, size_t size)
{
    pthread_mutex_lock(&keeper->lock);
    const bool failed = keeper->failure.code != 0;
    if (failed)
        snprintf(why, size, "%s", keeper->failure.text);
    pthread_mutex_unlock(&keeper->lock);
    return failed;
}

bool disk_keeper_snapshot(struct disk_keeper *keeper, unsigned index,
                          struct disk_keeper_status *out)
{
    if (index >= keeper->count || !keeper->disks[index].map)
        return false;
    divergence_snapshot(keeper->disks[index].map, &out->map);
    sync_source_snapshot(keeper->disks[index].source, &out->progress);
    return true;
}

/* ---- life ---- */

/* Of the image at `path`; with `durable` everything written to it is on the medium first. */
static int stamp_of(const char *path, bool durable, struct image_stamp *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || (durable && fdatasync(fd) < 0) ? -errno : divergence_stamp(fd, out);
    fd_close(&fd);
    return rc;
}

static int open_map(struct kept *d, const struct disk_keeper_config *config, unsigned i,
                    struct error *err)
{
    struct divergence_config map = {
        .vm = config->vm,
        .index = i,
        .size = disk_image_size(disk_volume_image(config->disks[i].volume)),
    };
    map.io = config->disks[i].map;
    if (map.io.ops)
        return divergence_open(&map, &d->map, err);
    int rc = stamp_of(d->path, false, &map.stamp);
    if (rc < 0)
        return error_set(err, rc, "disk %u: %s can't be examined: %s", i, d->path, strerror(-rc));
    rc = divergence_file_open(d->map_path, &map.io, err);
    return rc < 0 ? rc : divergence_open(&map, &d->map, err);
}

static char *path_of_map(const char *vm, const char *state_dir, unsigned index)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s.disk%u.map", state_dir, vm, index) < 0 ? NULL : path;
}

int disk_keeper_forget(const char *vm, const char *state_dir, unsigned index, struct error *err)
{
    char *path = path_of_map(vm, state_dir, index);
    if (!path)
        return error_set(err, -ENOMEM, "disk %u: out of memory", index);
    int rc = 0;
    if (unlink(path) == 0)
        log_warning(
            "disk",
            "disk %u is not replicated any more: its map %s is removed, so that a secondary "
            "compares all of it",
            index, path);
    else if (errno != ENOENT)
        rc = error_set(err, -errno, "disk %u: its map %s can't be removed: %s", index, path,
                       strerror(errno));
    free(path);
    return rc;
}

static int open_disk(struct disk_keeper *k, const struct disk_keeper_config *config, unsigned i,
                     struct error *err)
{
    struct kept *d = &k->disks[i];
    struct disk_volume *volume = config->disks[i].volume;
    d->path = strdup(config->disks[i].path ? config->disks[i].path : "");
    d->map_path = path_of_map(config->vm, config->state_dir, i);
    if (!d->path || !d->map_path)
        return error_set(err, -ENOMEM, "disk %u: out of memory", i);
    int rc = open_map(d, config, i, err);
    if (rc == 0)
        rc = disk_tracker_create(d->map, &d->tracker, err);
    const struct sync_source_config source = {
        .volume = volume, .divergence = d->map, .rate = config->rate};
    const struct sync_target_config target = {.volume = volume, .divergence = d->map};
    if (rc == 0)
        rc = sync_source_create(&source, &d->source, err);
    if (rc == 0)
        rc = sync_target_create(&target, &d->target, err);
    if (rc < 0)
        return rc;
    k->geometry.sizes[i] = disk_image_size(disk_volume_image(volume));
    return 0;
}

static int start_thread(struct disk_keeper *k, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&k->thread, NULL, keeper_main, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    k->thread_started = rc == 0;
    return rc ? error_set(err, -rc, "disks: can't start a thread: %s", strerror(rc)) : 0;
}

int disk_keeper_open(const struct disk_keeper_config *config, struct disk_keeper **out,
                     struct error *err)
{
    *out = NULL;
    struct disk_keeper *k = calloc(1, sizeof(*k));
    if (!k)
        return error_set(err, -ENOMEM, "disks: out of memory");
    k->count = config->count;
    k->geometry.count = config->count;
    k->failed = config->failed;
    k->context = config->context;
    pthread_mutex_init(&k->rounds, NULL);
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->changed, NULL);
    int rc = start_thread(k, err);
    for (unsigned i = 0; rc == 0 && i < config->count; i++)
        if (config->disks[i].volume)
            rc = open_disk(k, config, i, err);
    if (rc < 0) {
        disk_keeper_close(&k);
        return rc;
    }
    for (unsigned i = 0; i < config->count; i++)
        if (config->disks[i].volume)
            disk_volume_set_watch(config->disks[i].volume, &disk_tracker_ops, k->disks[i].tracker);
    *out = k;
    return 0;
}

static void close_disk(struct kept *d)
{
    struct image_stamp stamp;
    disk_tracker_destroy(&d->tracker);
    sync_source_destroy(&d->source);
    sync_target_destroy(&d->target);
    const bool orderly = d->map && stamp_of(d->path, true, &stamp) == 0;
    divergence_close(&d->map, orderly ? &stamp : NULL);
    free(d->path);
    free(d->map_path);
}

void disk_keeper_close(struct disk_keeper **keeper)
{
    struct disk_keeper *k = *keeper;
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->quit = true;
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->lock);
    if (k->thread_started)
        pthread_join(k->thread, NULL);
    for (unsigned i = 0; i < k->count; i++)
        close_disk(&k->disks[i]);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    pthread_mutex_destroy(&k->rounds);
    free(k);
    *keeper = NULL;
}
