/* See outbox.h for the rules. Items form one list in order of arrival; an item knows the epoch it
 * was gathered for. Lock order: emit_lock, then lock. */
#include "checkpoint/outbox.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* The guest is asked to stop at 3/4 of the cap; the rest takes what its vCPUs still produce. */
#define FULL_NUMERATOR   3
#define FULL_DENOMINATOR 4
/* A byte stream may exceed the cap by this factor before bytes are dropped. */
#define STREAM_RESERVE_FACTOR 2

struct item {
    struct item *next;
    epoch_t epoch;
    nsec_t arrived;
    uint32_t port;
    enum outbox_kind kind;
    size_t size;
    uint8_t data[];
};

struct outbox {
    struct outbox_config config; /* set at creation */

    pthread_mutex_t emit_lock; /* one emitter at a time; keeps order */

    pthread_mutex_t lock; /* protects all below */
    enum outbox_mode mode;
    epoch_t gathering;
    epoch_t released;
    struct item *head;
    struct item **tail;
    size_t held_bytes;
    size_t held_items;
    nsec_t waiting_since; /* arrival of the first item of `gathering`; 0 when none */
    struct outbox_stats stats;
};

int outbox_create(const struct outbox_config *config, epoch_t first_epoch, struct outbox **out,
                  struct error *err)
{
    assert(first_epoch > 0);
    *out = NULL;
    if (config->cap_bytes < OUTBOX_CAP_MIN)
        return error_set(err, -EINVAL, "outbox cap of %zu bytes: at least %zu are needed",
                         config->cap_bytes, OUTBOX_CAP_MIN);
    struct outbox *outbox = calloc(1, sizeof(*outbox));
    if (!outbox)
        return error_set(err, -ENOMEM, "outbox: out of memory");
    outbox->config = *config;
    outbox->gathering = first_epoch;
    outbox->released = first_epoch - 1;
    outbox->tail = &outbox->head;
    pthread_mutex_init(&outbox->lock, NULL);
    pthread_mutex_init(&outbox->emit_lock, NULL);
    *out = outbox;
    return 0;
}

static bool is_order(enum outbox_kind kind)
{
    return kind == OUTBOX_ORDER || kind == OUTBOX_LAZY_ORDER;
}

static void free_items(struct item *item)
{
    while (item) {
        struct item *next = item->next;
        free(item);
        item = next;
    }
}

void outbox_destroy(struct outbox **outbox)
{
    if (!*outbox)
        return;
    free_items((*outbox)->head);
    pthread_mutex_destroy(&(*outbox)->lock);
    pthread_mutex_destroy(&(*outbox)->emit_lock);
    free(*outbox);
    *outbox = NULL;
}

static struct item *item_create(uint32_t port, const struct iovec *parts, int count,
                                enum outbox_kind kind)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    struct item *item = malloc(sizeof(*item) + size);
    if (!item && is_order(kind)) /* what the guest waits for would never end */
        abort();
    if (!item)
        return NULL;
    *item = (struct item){.port = port, .kind = kind, .size = size, .arrived = clock_now()};
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len)
            memcpy(item->data + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    return item;
}

/* With lock held. True when the item was queued; otherwise the caller frees it. */
static bool enqueue(struct outbox *outbox, struct item *item, bool *first)
{
    const size_t factor = item->kind == OUTBOX_STREAM ? STREAM_RESERVE_FACTOR : 1;
    const size_t limit = outbox->config.cap_bytes * factor;
    if (outbox->mode == OUTBOX_DISCARDING)
        return false;
    if (!is_order(item->kind) && (item->size > limit || outbox->held_bytes > limit - item->size)) {
        outbox->stats.dropped_items++;
        return false;
    }
    item->epoch = outbox->gathering;
    *outbox->tail = item;
    outbox->tail = &item->next;
    outbox->held_bytes += item->size;
    outbox->held_items++;
    *first = outbox->waiting_since == 0 && item->kind != OUTBOX_LAZY_ORDER;
    if (*first)
        outbox->waiting_since = item->arrived;
    return true;
}

static void count_emitted(struct outbox *outbox, const struct item *item, nsec_t now, bool held)
{
    outbox->stats.released_items++;
    outbox->stats.released_bytes += item->size;
    outbox->stats.last_emit = now;
    if (item->kind == OUTBOX_NOTICE || item->kind == OUTBOX_LAZY_ORDER)
        return;
    if (outbox->mode == OUTBOX_OPEN && !outbox->stats.first_emit_after_open &&
        item->kind != OUTBOX_ORDER)
        outbox->stats.first_emit_after_open = now;
    if (held)
        histogram_add(&outbox->stats.hold, now - item->arrived);
}

/* True when the item was queued after all. */
static bool pass_through(struct outbox *outbox, struct item *item, bool *first)
{
    bool queued = false;
    pthread_mutex_lock(&outbox->emit_lock);
    /* Fenced while this thread waited for its turn: P2 outweighs the packet. An order may also
     * have met a cut that began to hold: it stays. */
    pthread_mutex_lock(&outbox->lock);
    const bool still_open = outbox->mode == OUTBOX_OPEN;
    if (!still_open && is_order(item->kind))
        queued = enqueue(outbox, item, first);
    pthread_mutex_unlock(&outbox->lock);
    if (still_open) {
        outbox->config.emit(outbox->config.context, item->port, item->data, item->size);
        const nsec_t now = clock_now();
        pthread_mutex_lock(&outbox->lock);
        count_emitted(outbox, item, now, false);
        pthread_mutex_unlock(&outbox->lock);
    }
    pthread_mutex_unlock(&outbox->emit_lock);
    return queued;
}

void outbox_put(struct outbox *outbox, uint32_t port, const struct iovec *parts, int count,
                enum outbox_kind kind)
{
    struct item *item = item_create(port, parts, count, kind);
    bool first = false;
    bool open = false;
    bool queued = false;
    pthread_mutex_lock(&outbox->lock);
    if (!item)
        outbox->stats.dropped_items++;
    else if (outbox->mode == OUTBOX_OPEN && !outbox->head)
        open = true;
    else
        queued = enqueue(outbox, item, &first);
    pthread_mutex_unlock(&outbox->lock);
    if (open)
        queued = pass_through(outbox, item, &first);
    if (!queued)
        free(item);
    if (first && outbox->config.wake)
        outbox->config.wake(outbox->config.context);
}

nsec_t outbox_waiting_since(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    const nsec_t since = outbox->waiting_since;
    pthread_mutex_unlock(&outbox->lock);
    return since;
}

bool outbox_is_empty(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    const bool empty = outbox->held_items == 0;
    pthread_mutex_unlock(&outbox->lock);
    return empty;
}

bool outbox_is_full(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    const bool full =
        outbox->held_bytes >= outbox->config.cap_bytes / FULL_DENOMINATOR * FULL_NUMERATOR;
    pthread_mutex_unlock(&outbox->lock);
    return full;
}

void outbox_cut(struct outbox *outbox, epoch_t epoch)
{
    pthread_mutex_lock(&outbox->lock);
    assert(outbox->gathering == epoch);
    outbox->gathering = epoch + 1;
    outbox->waiting_since = 0;
    pthread_mutex_unlock(&outbox->lock);
}

/* Detaches the items of epochs <= `epoch`, in order. */
static struct item *take_until(struct outbox *outbox, epoch_t epoch)
{
    struct item *first = outbox->head;
    struct item **end = &outbox->head;
    while (*end && (*end)->epoch <= epoch) {
        outbox->held_bytes -= (*end)->size;
        outbox->held_items--;
        end = &(*end)->next;
    }
    if (end == &outbox->head)
        return NULL;
    outbox->head = *end;
    *end = NULL;
    if (!outbox->head)
        outbox->tail = &outbox->head;
    return first;
}

static bool is_discarding(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    const bool discarding = outbox->mode == OUTBOX_DISCARDING;
    pthread_mutex_unlock(&outbox->lock);
    return discarding;
}

/* With emit_lock held. Returns those that may not leave: `asked` asks may_emit() for each. */
static struct item *emit_items(struct outbox *outbox, struct item *items, bool asked)
{
    while (items) {
        if (is_discarding(outbox) ||
            (asked && outbox->config.may_emit && !outbox->config.may_emit(outbox->config.context)))
            break;
        struct item *item = items;
        items = item->next;
        outbox->config.emit(outbox->config.context, item->port, item->data, item->size);
        const nsec_t now = clock_now();
        pthread_mutex_lock(&outbox->lock);
        count_emitted(outbox, item, now, true);
        pthread_mutex_unlock(&outbox->lock);
        free(item);
    }
    return items;
}

/* What take_until() took goes back before all that came since; with emit_lock held nobody took
 * anything meanwhile. */
static void put_back(struct outbox *outbox, struct item *items)
{
    struct item *last = items;
    for (struct item *item = items; item; item = item->next) {
        outbox->held_bytes += item->size;
        outbox->held_items++;
        last = item;
    }
    last->next = outbox->head;
    if (!outbox->head)
        outbox->tail = &last->next;
    outbox->head = items;
}

bool outbox_release(struct outbox *outbox, epoch_t epoch)
{
    pthread_mutex_lock(&outbox->emit_lock);
    pthread_mutex_lock(&outbox->lock);
    /* P1: only output of an epoch that was cut, hence sent and acknowledged, may leave. */
    assert(epoch < outbox->gathering);
    struct item *items = outbox->mode == OUTBOX_DISCARDING ? NULL : take_until(outbox, epoch);
    if (epoch > outbox->released)
        outbox->released = epoch;
    pthread_mutex_unlock(&outbox->lock);
    struct item *left = emit_items(outbox, items, true);
    if (left) {
        pthread_mutex_lock(&outbox->lock);
        put_back(outbox, left);
        pthread_mutex_unlock(&outbox->lock);
    }
    pthread_mutex_unlock(&outbox->emit_lock);
    return !left;
}

void outbox_open(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->emit_lock);
    pthread_mutex_lock(&outbox->lock);
    if (outbox->mode == OUTBOX_HOLDING) {
        outbox->mode = OUTBOX_OPEN;
        outbox->waiting_since = 0;
        outbox->stats.first_emit_after_open = 0;
    }
    /* Output that arrives while the held items are being emitted queues behind them (put sees a
     * non-empty list), so drain until the list is empty under the lock. */
    while (outbox->mode == OUTBOX_OPEN && outbox->head) {
        struct item *items = take_until(outbox, UINT64_MAX);
        outbox->waiting_since = 0;
        pthread_mutex_unlock(&outbox->lock);
        struct item *left = emit_items(outbox, items, false);
        pthread_mutex_lock(&outbox->lock);
        if (left)
            put_back(outbox, left);
    }
    pthread_mutex_unlock(&outbox->lock);
    pthread_mutex_unlock(&outbox->emit_lock);
}

void outbox_hold(struct outbox *outbox, epoch_t epoch)
{
    pthread_mutex_lock(&outbox->lock);
    assert(epoch >= outbox->gathering);
    if (outbox->mode == OUTBOX_OPEN)
        outbox->mode = OUTBOX_HOLDING;
    outbox->gathering = epoch;
    pthread_mutex_unlock(&outbox->lock);
}

void outbox_discard(struct outbox *outbox)
{
    /* First, so that what is being let out ends with the piece that is on its way. */
    pthread_mutex_lock(&outbox->lock);
    outbox->mode = OUTBOX_DISCARDING;
    outbox->waiting_since = 0;
    pthread_mutex_unlock(&outbox->lock);
    pthread_mutex_lock(&outbox->emit_lock);
    pthread_mutex_lock(&outbox->lock);
    struct item *items = take_until(outbox, UINT64_MAX);
    pthread_mutex_unlock(&outbox->lock);
    pthread_mutex_unlock(&outbox->emit_lock);
    free_items(items);
}

void outbox_snapshot(struct outbox *outbox, struct outbox_stats *out)
{
    pthread_mutex_lock(&outbox->lock);
    *out = outbox->stats;
    out->mode = outbox->mode;
    out->held_bytes = outbox->held_bytes;
    out->held_items = outbox->held_items;
    out->released_epoch = outbox->released;
    pthread_mutex_unlock(&outbox->lock);
}

void outbox_reset_hold_histogram(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    memset(&outbox->stats.hold, 0, sizeof(outbox->stats.hold));
    pthread_mutex_unlock(&outbox->lock);
}
