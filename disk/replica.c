#include "disk/replica.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A payload that was checked. */
struct piece {
    struct piece *next;
    size_t size;
    bool ends_epoch; /* flushes asked for since the last one are carried out behind it */
    uint8_t bytes[];
};

struct list {
    struct piece *first;
    struct piece *last;
    size_t bytes;
};

struct disk_replica {
    /* set at creation */
    struct disk_replica_config config;
    struct disk_volume *volumes[DISK_COUNT_MAX];
    struct disk_geometry geometry;
    pthread_t applier;

    /* applying thread */
    bool flush[DISK_COUNT_MAX];

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    struct list staged;
    struct list queue;
    size_t applying; /* bytes in the applying thread's hands */
    bool quit;
    struct error why; /* code != 0: failed */
    struct disk_replica_stats stats;
};

static void append(struct list *list, struct piece *piece)
{
    piece->next = NULL;
    if (list->last)
        list->last->next = piece;
    else
        list->first = piece;
    list->last = piece;
    list->bytes += piece->size;
}

static struct piece *take_first(struct list *list)
{
    struct piece *piece = list->first;
    list->first = piece->next;
    if (!list->first)
        list->last = NULL;
    list->bytes -= piece->size;
    return piece;
}

static void empty(struct list *list)
{
    while (list->first)
        free(take_first(list));
}

/* ---- the applying thread ---- */

static int apply_record(struct disk_replica *r, const struct disk_record *record)
{
    if (record->op == DISK_FLUSH) {
        r->flush[record->disk] = true;
        return 0;
    }
    struct disk_request request = {.io = {.op = record->op,
                                          .may_unmap = record->may_unmap,
                                          .offset = record->offset,
                                          .size = record->length,
                                          .data = (uint8_t *)(uintptr_t)record->data}};
    return disk_volume_perform(r->volumes[record->disk], &request);
}

static int flush_asked(struct disk_replica *r, unsigned *disk)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < r->geometry.count; i++) {
        if (!r->flush[i])
            continue;
        struct disk_request request = {.io = {.op = DISK_FLUSH}};
        rc = disk_volume_perform(r->volumes[i], &request);
        r->flush[i] = false;
        *disk = i;
    }
    return rc;
}

static int apply_piece(struct disk_replica *r, const struct piece *piece, uint64_t *records,
                       struct error *err)
{
    struct disk_record record;
    size_t used = 0;
    while (disk_record_next(piece->bytes, piece->size, &used, &r->geometry, &record, NULL) == 1) {
        const int rc = apply_record(r, &record);
        if (rc < 0)
            return error_set(err, rc, "disk %u: applying %llu bytes at %llu failed: %s",
                             record.disk, (unsigned long long)record.length,
                             (unsigned long long)record.offset, strerror(-rc));
        (*records)++;
    }
    unsigned disk = 0;
    const int rc = piece->ends_epoch ? flush_asked(r, &disk) : 0;
    return rc < 0 ? error_set(err, rc, "disk %u: flushing failed: %s", disk, strerror(-rc)) : 0;
}

/* With the lock held. True when this is the first failure. */
static bool note_failure(struct disk_replica *r, const struct error *err)
{
    if (err->code == 0 || r->why.code != 0)
        return false;
    r->why = *err;
    empty(&r->queue);
    return true;
}

static void apply_one(struct disk_replica *r)
{
    struct piece *piece = take_first(&r->queue);
    r->applying = piece->size;
    const bool dead = r->why.code != 0;
    pthread_mutex_unlock(&r->lock);
    struct error err = {0};
    uint64_t records = 0;
    if (!dead)
        apply_piece(r, piece, &records, &err);
    pthread_mutex_lock(&r->lock);
    r->stats.records += records;
    r->stats.bytes += piece->size;
    const bool tell = note_failure(r, &err);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    free(piece);
    if (tell) /* before restart() may forget it */
        r->config.failed(r->config.context, &err);
    pthread_mutex_lock(&r->lock);
    r->applying = 0;
    pthread_cond_broadcast(&r->changed);
}

static void *applier_main(void *context)
{
    struct disk_replica *r = context;
    pthread_mutex_lock(&r->lock);
    while (!r->quit || r->queue.first) {
        if (r->queue.first)
            apply_one(r);
        else
            pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the receiving side ---- */

/* With the lock held. */
static int wait_for_room(struct disk_replica *r, size_t size, struct error *err)
{
    if (r->staged.bytes + size > r->config.cap)
        return error_set(err, -ENOBUFS, "the disk writes of one epoch outgrow %zu bytes",
                         r->config.cap);
    while (r->why.code == 0 &&
           r->staged.bytes + r->queue.bytes + r->applying + size > r->config.cap) {
        r->stats.waits++;
        pthread_cond_wait(&r->changed, &r->lock);
    }
    return 0;
}

int disk_replica_stage(struct disk_replica *replica, const uint8_t *payload, size_t size,
                       struct error *err)
{
    int rc = disk_payload_check(payload, size, &replica->geometry, err);
    if (rc < 0)
        return rc;
    struct piece *piece = malloc(sizeof(*piece) + size);
    if (!piece)
        return error_set(err, -ENOMEM, "disk records: out of memory");
    *piece = (struct piece){.size = size};
    memcpy(piece->bytes, payload, size);
    pthread_mutex_lock(&replica->lock);
    rc = wait_for_room(replica, size, err);
    if (rc == 0 && replica->why.code != 0)
        rc = error_set(err, -EIO, "%s", replica->why.text);
    if (rc == 0)
        append(&replica->staged, piece);
    pthread_mutex_unlock(&replica->lock);
    if (rc < 0)
        free(piece);
    return rc;
}

void disk_replica_commit(struct disk_replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    struct list *from = &replica->staged;
    if (from->last)
        from->last->ends_epoch = true;
    while (from->first)
        append(&replica->queue, take_first(from));
    if (replica->why.code != 0)
        empty(&replica->queue);
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->lock);
}

void disk_replica_drop(struct disk_replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    empty(&replica->staged);
    pthread_mutex_unlock(&replica->lock);
}

int disk_replica_check(struct disk_replica *replica, struct error *err)
{
    pthread_mutex_lock(&replica->lock);
    const int rc =
        replica->why.code ? error_set(err, replica->why.code, "%s", replica->why.text) : 0;
    pthread_mutex_unlock(&replica->lock);
    return rc;
}

/* With the lock held. */
static void wait_applied(struct disk_replica *r)
{
    while (r->queue.first || r->applying)
        pthread_cond_wait(&r->changed, &r->lock);
}

void disk_replica_restart(struct disk_replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    empty(&replica->staged);
    wait_applied(replica);
    replica->why = (struct error){0};
    pthread_mutex_unlock(&replica->lock);
}

int disk_replica_finish(struct disk_replica *replica, struct error *err)
{
    pthread_mutex_lock(&replica->lock);
    wait_applied(replica);
    pthread_mutex_unlock(&replica->lock);
    return disk_replica_check(replica, err);
}

void disk_replica_snapshot(struct disk_replica *replica, struct disk_replica_stats *out)
{
    pthread_mutex_lock(&replica->lock);
    *out = replica->stats;
    out->failed = replica->why.code != 0;
    snprintf(out->why, sizeof(out->why), "%.*s", (int)sizeof(out->why) - 1, replica->why.text);
    out->staged_bytes = replica->staged.bytes;
    out->pending_bytes = replica->queue.bytes + replica->applying;
    pthread_mutex_unlock(&replica->lock);
}

/* ---- life ---- */

int disk_replica_create(const struct disk_replica_config *config, struct disk_replica **out,
                        struct error *err)
{
    assert(config->count <= DISK_COUNT_MAX);
    *out = NULL;
    struct disk_replica *r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, -ENOMEM, "disk replica: out of memory");
    r->config = *config;
    r->geometry.count = config->count;
    for (unsigned i = 0; i < config->count; i++) {
        r->volumes[i] = config->volumes[i];
        if (r->volumes[i])
            r->geometry.sizes[i] = disk_image_size(disk_volume_image(r->volumes[i]));
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&r->applier, NULL, applier_main, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return error_set(err, -rc, "disk replica: can't start its thread: %s", strerror(rc));
    }
    *out = r;
    return 0;
}

void disk_replica_destroy(struct disk_replica **replica)
{
    struct disk_replica *r = *replica;
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->quit = true;
    empty(&r->staged);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->applier, NULL);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *replica = NULL;
}
