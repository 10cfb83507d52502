#include "disk/log.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* What an entry costs besides its data: counted, so that a guest that discards sector by sector
 * can't outgrow the cap either. */
#define ENTRY_COST 160

struct entry {
    struct entry *next;
    struct disk_record record;
    uint8_t *data; /* owned; NULL without data */
    uint8_t header[DISK_RECORD_HEADER_SIZE];
};
_Static_assert(sizeof(struct entry) <= ENTRY_COST, "an entry costs what is counted for it");

struct disk_batch {
    struct entry *first;
    struct entry *last;
    struct entry *cursor; /* of payload() */
    size_t cost;
    bool torn; /* a record is missing */
};

struct disk_log {
    struct disk_log_config config; /* set at creation */

    pthread_mutex_t lock; /* protects all below */
    bool on;
    struct disk_batch *gathering; /* NULL: nothing */
    size_t used;                  /* promised, gathering and in flight */
    bool refused;                 /* somebody waits for room */
    bool pressing;
    bool draining;
    bool torn; /* a record was not kept: until the log is off */
    struct disk_log_stats stats;
};

static size_t cost_of(size_t length)
{
    return length + ENTRY_COST;
}

int disk_log_create(const struct disk_log_config *config, struct disk_log **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return error_set(err, -ENOMEM, "disk log: out of memory");
    (*out)->config = *config;
    pthread_mutex_init(&(*out)->lock, NULL);
    return 0;
}

static void free_batch(struct disk_batch *batch)
{
    if (!batch)
        return;
    for (struct entry *e = batch->first; e;) {
        struct entry *next = e->next;
        free(e->data);
        free(e);
        e = next;
    }
    free(batch);
}

void disk_log_destroy(struct disk_log **log)
{
    if (!*log)
        return;
    free_batch((*log)->gathering);
    pthread_mutex_destroy(&(*log)->lock);
    free(*log);
    *log = NULL;
}

void disk_log_start(struct disk_log *log)
{
    pthread_mutex_lock(&log->lock);
    log->on = true;
    pthread_mutex_unlock(&log->lock);
}

/* With the lock held, gives it up: room for those who were refused. */
static void unlock_and_tell(struct disk_log *log)
{
    const bool tell = log->refused;
    log->refused = false;
    pthread_mutex_unlock(&log->lock);
    if (tell)
        log->config.room(log->config.context);
}

void disk_log_stop(struct disk_log *log)
{
    pthread_mutex_lock(&log->lock);
    log->on = false;
    log->pressing = false;
    log->torn = false;
    struct disk_batch *dropped = log->gathering;
    log->gathering = NULL;
    if (dropped)
        log->used -= dropped->cost;
    unlock_and_tell(log);
    free_batch(dropped);
}

bool disk_log_is_on(struct disk_log *log)
{
    pthread_mutex_lock(&log->lock);
    const bool on = log->on;
    pthread_mutex_unlock(&log->lock);
    return on;
}

void disk_log_drain(struct disk_log *log, bool draining)
{
    pthread_mutex_lock(&log->lock);
    log->draining = draining;
    if (draining)
        unlock_and_tell(log);
    else
        pthread_mutex_unlock(&log->lock);
}

/* What reservations may use, but for those of a drain. */
static size_t usual_cap(const struct disk_log *log)
{
    return log->config.cap - log->config.cut_room;
}

/* With the lock held: half of the cap gathers, or somebody waits for room and a cut would make
 * some. True once until the log is taken. */
static bool begins_to_press(struct disk_log *log)
{
    const bool press = !log->pressing && log->gathering &&
                       (log->refused || log->gathering->cost >= usual_cap(log) / 2);
    log->pressing |= press;
    return press;
}

enum disk_log_answer disk_log_reserve(struct disk_log *log, size_t length)
{
    enum disk_log_answer answer = DISK_LOG_OFF;
    bool press = false;
    assert(cost_of(length) <= usual_cap(log));
    pthread_mutex_lock(&log->lock);
    const size_t cap = log->draining ? log->config.cap : usual_cap(log);
    const bool full = log->on && log->used + cost_of(length) > cap;
    if (full && log->draining) {
        log->torn = true;
        log->stats.losses++;
    } else if (full) {
        answer = DISK_LOG_FULL;
        log->refused = true;
        log->stats.refusals++;
        press = begins_to_press(log);
    } else if (log->on) {
        answer = DISK_LOG_PROMISED;
        log->used += cost_of(length);
    }
    pthread_mutex_unlock(&log->lock);
    if (press)
        log->config.press(log->config.context);
    return answer;
}

void disk_log_cancel(struct disk_log *log, size_t length)
{
    pthread_mutex_lock(&log->lock);
    assert(log->used >= cost_of(length));
    log->used -= cost_of(length);
    unlock_and_tell(log);
}

/* With the lock held. */
static struct disk_batch *gathering(struct disk_log *log)
{
    if (!log->gathering)
        log->gathering = calloc(1, sizeof(*log->gathering));
    if (!log->gathering)
        abort();
    return log->gathering;
}

/* With the lock held. */
static void append(struct disk_log *log, struct entry *entry, size_t cost)
{
    struct disk_batch *batch = gathering(log);
    if (batch->last)
        batch->last->next = entry;
    else
        batch->first = entry;
    batch->last = entry;
    batch->cost += cost;
}

void disk_log_put(struct disk_log *log, const struct disk_record *record)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    if (!entry) /* a record that gets lost would be silent divergence */
        abort();
    entry->record = *record;
    entry->data = (uint8_t *)(uintptr_t)record->data;
    disk_record_encode(record, entry->header);
    const size_t length = record->op == DISK_WRITE ? (size_t)record->length : 0;
    pthread_mutex_lock(&log->lock);
    if (!log->on) { /* the standby went away meanwhile */
        log->used -= cost_of(length);
        unlock_and_tell(log);
        free(entry->data);
        free(entry);
        return;
    }
    append(log, entry, cost_of(length));
    log->stats.records++;
    log->stats.bytes += length;
    const bool press = begins_to_press(log);
    pthread_mutex_unlock(&log->lock);
    if (press)
        log->config.press(log->config.context);
}

bool disk_log_is_pressing(struct disk_log *log)
{
    pthread_mutex_lock(&log->lock);
    const bool pressing = log->pressing;
    pthread_mutex_unlock(&log->lock);
    return pressing;
}

struct disk_batch *disk_log_take(struct disk_log *log)
{
    pthread_mutex_lock(&log->lock);
    if (log->torn)
        gathering(log)->torn = true;
    struct disk_batch *batch = log->gathering;
    log->gathering = NULL;
    log->pressing = false;
    pthread_mutex_unlock(&log->lock);
    if (batch)
        batch->cursor = batch->first;
    return batch;
}

void disk_log_give_back(struct disk_log *log, struct disk_batch *batch)
{
    if (!batch)
        return;
    pthread_mutex_lock(&log->lock);
    struct disk_batch *newer = log->gathering;
    if (!log->on) {
        log->used -= batch->cost;
        unlock_and_tell(log);
        free_batch(batch);
        return;
    }
    if (newer && newer->first) {
        if (batch->last)
            batch->last->next = newer->first;
        else
            batch->first = newer->first;
        batch->last = newer->last;
        batch->cost += newer->cost;
    }
    log->gathering = batch;
    const bool press = begins_to_press(log);
    pthread_mutex_unlock(&log->lock);
    free(newer);
    if (press)
        log->config.press(log->config.context);
}

void disk_batch_release(struct disk_log *log, struct disk_batch *batch)
{
    if (!batch)
        return;
    pthread_mutex_lock(&log->lock);
    assert(log->used >= batch->cost);
    log->used -= batch->cost;
    unlock_and_tell(log);
    free_batch(batch);
}

int disk_batch_payload(struct disk_batch *batch, struct iovec *parts, int max)
{
    int count = 0;
    size_t size = 0;
    assert(max >= 2);
    if (batch->torn)
        return -ENOBUFS;
    for (; batch->cursor && count + 2 <= max; batch->cursor = batch->cursor->next) {
        struct entry *e = batch->cursor;
        if (size + disk_record_size(&e->record) > DISK_PAYLOAD_MAX)
            break;
        size += disk_record_size(&e->record);
        parts[count++] = (struct iovec){e->header, sizeof(e->header)};
        if (e->record.op == DISK_WRITE)
            parts[count++] = (struct iovec){e->data, (size_t)e->record.length};
    }
    return count;
}

void disk_batch_rewind(struct disk_batch *batch)
{
    batch->cursor = batch->first;
}

void disk_batch_visit(const struct disk_batch *batch,
                      void (*visit)(void *context, const struct disk_record *record), void *context)
{
    for (const struct entry *e = batch->first; e; e = e->next)
        visit(context, &e->record);
}

void disk_log_snapshot(struct disk_log *log, struct disk_log_stats *out)
{
    pthread_mutex_lock(&log->lock);
    *out = log->stats;
    out->on = log->on;
    out->used_bytes = log->used;
    out->gathering_bytes = log->gathering ? log->gathering->cost : 0;
    pthread_mutex_unlock(&log->lock);
}
