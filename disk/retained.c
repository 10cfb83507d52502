#include "disk/retained.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* One payload. */
struct piece {
    struct piece *next;
    struct disk_mark mark;
    uint64_t count; /* of records */
    size_t size;
    uint8_t bytes[];
};

struct list {
    struct piece *first;
    struct piece **last;
    size_t bytes;
};

struct disk_retained {
    /* set at creation */
    struct disk_retained_config config;
    struct disk_volume *volumes[DISK_COUNT_MAX];
    struct disk_geometry geometry;

    /* of those who stage and commit */
    uint64_t staged_next; /* no record that comes has a smaller number */
    uint64_t next;        /* likewise, of what is committed */
    bool forgotten;       /* what was retained was needed: until a link begins anew */

    pthread_mutex_t lock; /* protects all below; only their owner changes the lists */
    struct list staged;
    struct list retained;
    uint64_t finished;
};

static void append(struct list *list, struct piece *piece)
{
    piece->next = NULL;
    *list->last = piece;
    list->last = &piece->next;
    list->bytes += piece->size;
}

static struct piece *take_first(struct list *list)
{
    struct piece *piece = list->first;
    list->first = piece->next;
    if (!list->first)
        list->last = &list->first;
    list->bytes -= piece->size;
    return piece;
}

static void empty(struct list *list)
{
    while (list->first)
        free(take_first(list));
}

/* ---- what arrives ---- */

/* Numbers count up, over epochs and links: of what is retained there is one history. */
static int check_number(struct disk_retained *r, const struct disk_mark *mark, struct error *err)
{
    if (mark->fresh || mark->first >= r->staged_next)
        return 0;
    return error_set(err, -EBADMSG, "disk record %llu comes again: %llu is next",
                     (unsigned long long)mark->first, (unsigned long long)r->staged_next);
}

int disk_retained_stage(struct disk_retained *retained, const uint8_t *payload, size_t size,
                        struct error *err)
{
    struct disk_mark mark;
    int count = disk_mark_check(payload, size, &retained->geometry, &mark, err);
    if (count >= 0 && check_number(retained, &mark, err) < 0)
        count = -EBADMSG;
    if (count < 0)
        return count;
    struct piece *piece = malloc(sizeof(*piece) + size);
    if (!piece)
        return error_set(err, -ENOMEM, "disk records: out of memory");
    *piece = (struct piece){.mark = mark, .count = (uint64_t)count, .size = size};
    memcpy(piece->bytes, payload, size);
    pthread_mutex_lock(&retained->lock);
    const size_t others = mark.fresh ? 0 : retained->retained.bytes;
    const bool fits = others + retained->staged.bytes + size <= retained->config.cap;
    if (fits)
        append(&retained->staged, piece);
    pthread_mutex_unlock(&retained->lock);
    if (!fits) {
        free(piece);
        return error_set(err, -ENOBUFS, "the disk writes that are not applied outgrow %zu bytes",
                         retained->config.cap);
    }
    retained->staged_next = mark.first + (uint64_t)count;
    return 0;
}

/* With the lock held. */
static void forget_applied(struct disk_retained *r, uint64_t applied)
{
    while (r->retained.first &&
           r->retained.first->mark.first + r->retained.first->count <= applied + 1)
        free(take_first(&r->retained));
}

void disk_retained_commit(struct disk_retained *retained)
{
    pthread_mutex_lock(&retained->lock);
    while (retained->staged.first) {
        struct piece *piece = take_first(&retained->staged);
        if (piece->mark.fresh) {
            empty(&retained->retained);
            retained->forgotten = false;
        }
        forget_applied(retained, piece->mark.applied);
        if (piece->count)
            append(&retained->retained, piece);
        else
            free(piece);
    }
    pthread_mutex_unlock(&retained->lock);
    retained->next = retained->staged_next;
}

void disk_retained_drop(struct disk_retained *retained)
{
    pthread_mutex_lock(&retained->lock);
    empty(&retained->staged);
    pthread_mutex_unlock(&retained->lock);
    retained->staged_next = retained->next;
}

static void empty_retained(struct disk_retained *r)
{
    pthread_mutex_lock(&r->lock);
    empty(&r->retained);
    pthread_mutex_unlock(&r->lock);
}

void disk_retained_forget(struct disk_retained *retained)
{
    disk_retained_drop(retained);
    empty_retained(retained);
    retained->forgotten = true;
}

/* ---- promotion ---- */

static int apply_record(struct disk_retained *r, const struct disk_record *record, uint8_t *aligned,
                        struct error *err)
{
    if (record->op == DISK_FLUSH) /* each is durable */
        return 0;
    struct disk_request request = {.io = {.op = record->op,
                                          .may_unmap = record->may_unmap,
                                          .durable = true,
                                          .offset = record->offset,
                                          .size = record->length}};
    if (record->op == DISK_WRITE) {
        memcpy(aligned, record->data, record->length);
        request.io.data = aligned;
    }
    const int rc = disk_volume_perform(r->volumes[record->disk], &request);
    return rc == 0 ? 0
                   : error_set(err, rc,
                               "disk %u: %llu bytes at %llu, which the guest was told are "
                               "written, can't be: %s",
                               record->disk, (unsigned long long)record->length,
                               (unsigned long long)record->offset, strerror(-rc));
}

static int apply_piece(struct disk_retained *r, const struct piece *piece, uint8_t *aligned,
                       struct error *err)
{
    struct disk_record record;
    size_t used = DISK_RECORD_HEADER_SIZE; /* of the mark */
    int rc = 0;
    while (rc == 0 &&
           disk_record_next(piece->bytes, piece->size, &used, &r->geometry, &record, NULL) == 1)
        rc = apply_record(r, &record, aligned, err);
    return rc;
}

int disk_retained_finish(struct disk_retained *retained, struct error *err)
{
    void *aligned = NULL;
    uint64_t records = 0;
    int rc = 0;
    disk_retained_drop(retained);
    if (retained->forgotten)
        return error_set(err, -ENODATA,
                         "the guest went on elsewhere: what it wrote to shared disks is not here");
    if (posix_memalign(&aligned, DISK_SECTOR, DISK_DATA_MAX) != 0)
        return error_set(err, -ENOMEM, "retained disk writes: out of memory");
    for (const struct piece *p = retained->retained.first; rc == 0 && p; p = p->next) {
        rc = apply_piece(retained, p, aligned, err);
        records += p->count;
    }
    free(aligned);
    if (rc < 0)
        return rc;
    empty_retained(retained);
    log_info("disk", "%llu retained changes of shared disks are in the image",
             (unsigned long long)records);
    pthread_mutex_lock(&retained->lock);
    retained->finished += records;
    pthread_mutex_unlock(&retained->lock);
    return 0;
}

void disk_retained_snapshot(struct disk_retained *retained, struct disk_retained_stats *out)
{
    pthread_mutex_lock(&retained->lock);
    *out = (struct disk_retained_stats){.staged_bytes = retained->staged.bytes,
                                        .retained_bytes = retained->retained.bytes,
                                        .finished = retained->finished};
    pthread_mutex_unlock(&retained->lock);
}

/* ---- life ---- */

int disk_retained_create(const struct disk_retained_config *config, struct disk_retained **out,
                         struct error *err)
{
    assert(config->count <= DISK_COUNT_MAX);
    struct disk_retained *r = *out = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, -ENOMEM, "retained disk writes: out of memory");
    r->config = *config;
    r->geometry.count = config->count;
    for (unsigned i = 0; i < config->count; i++) {
        r->volumes[i] = config->volumes[i];
        if (r->volumes[i])
            r->geometry.sizes[i] = disk_image_size(disk_volume_image(r->volumes[i]));
    }
    r->staged.last = &r->staged.first;
    r->retained.last = &r->retained.first;
    pthread_mutex_init(&r->lock, NULL);
    return 0;
}

void disk_retained_destroy(struct disk_retained **retained)
{
    if (!*retained)
        return;
    empty(&(*retained)->staged);
    empty(&(*retained)->retained);
    pthread_mutex_destroy(&(*retained)->lock);
    free(*retained);
    *retained = NULL;
}
