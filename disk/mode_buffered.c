#include "disk/mode_buffered.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/prompt.h"
#include "disk/pending.h"

#define RETRY_INTERVAL SEC(1)

struct requests {
    struct disk_request *first, **last;
};

struct disk_buffered {
    /* set at creation */
    struct disk_buffered_config config;
    pthread_t applier;

    pthread_mutex_t lock; /* protects all below; not held while others are called */
    pthread_cond_t changed;
    void (*hold)(void *context, uint64_t ticket); /* NULL: nobody to tell */
    void *context;
    struct pending pending;
    struct disk_volume *volumes[DISK_COUNT_MAX]; /* of the changes, by index */
    struct requests unroomed;                    /* wait for room, in order */
    unsigned waiting;                            /* how many */
    unsigned telling;                            /* calls of hold() that have not returned */
    unsigned begun;                              /* of the image, not done */
    struct pending_change *broken; /* can't be carried out, and nobody waits for it; or NULL */
    int why;                       /* of `broken` */
    nsec_t retry_at;
    bool halted, quit;
    bool on, draining, pressing, full;
    bool fresh;    /* the link's first mark has not been taken */
    bool torn;     /* more is pending than the standby could take */
    uint64_t told; /* that all up to this number is in the image */
    uint64_t losses;
};

struct payload_head {
    struct payload_head *next;
    uint8_t bytes[2 * DISK_RECORD_HEADER_SIZE]; /* a mark, and the header of the first record */
};

struct disk_buffered_batch {
    struct pending_set set;
    size_t cursor; /* of payload() */
    struct disk_mark mark;
    uint64_t end; /* the number behind the last */
    bool marked;  /* a payload has been made */
    bool torn;
    struct payload_head *heads;
};

/* ---- lists of requests ---- */

static void append(struct requests *list, struct disk_request *r)
{
    r->mode_next = NULL;
    if (!list->first)
        list->last = &list->first;
    *list->last = r;
    list->last = &r->mode_next;
}

static struct disk_request *take_first(struct requests *list)
{
    struct disk_request *r = list->first;
    list->first = r->mode_next;
    return r;
}

/* Without the lock. */
static void end_all(struct requests *list, int result)
{
    while (list->first)
        disk_volume_end(take_first(list), result);
}

/* ---- taking in, with the lock held ---- */

static struct disk_record record_of(const struct disk_request *r)
{
    return (struct disk_record){.op = r->io.op,
                                .may_unmap = r->io.may_unmap,
                                .disk = disk_volume_index(r->volume),
                                .offset = r->io.offset,
                                .length = r->io.size,
                                .data = r->io.op == DISK_WRITE ? r->io.data : NULL};
}

/* For what comes while the guest is being stopped there is always room. */
static bool has_room(struct disk_buffered *m, const struct disk_request *r)
{
    const struct disk_record record = record_of(r);
    const size_t cost = pending_cost(&record), usual = m->config.cap / 2;
    assert(cost <= usual);
    return m->draining || m->pending.cost + cost <= usual;
}

/* The change is in the list, and kept until tell() has told of it. */
static struct pending_change *take_in(struct disk_buffered *m, struct disk_request *r)
{
    const struct disk_record record = record_of(r);
    struct pending_change *c = pending_add(&m->pending, &record);
    if (record.data)
        r->io.data = NULL;
    c->request = r;
    c->owner = m;
    m->volumes[record.disk] = r->volume;
    pending_ref(c);
    m->telling++;
    if (m->pending.cost > m->config.cap) {
        m->torn = true;
        m->losses++;
    }
    return c;
}

/* Half of what is usually there is untold, or somebody waits for room that a cut leads to. True
 * once until it is taken. */
static bool begins_to_press(struct disk_buffered *m)
{
    const bool press = m->on && !m->pressing && m->pending.untold &&
                       (m->unroomed.first || m->pending.untold_cost >= m->config.cap / 4);
    m->pressing |= press;
    return press;
}

static bool is_full(const struct disk_buffered *m)
{
    return m->on && m->pending.cost > m->config.cap / 2;
}

/* True once after it was. */
static bool ends_being_full(struct disk_buffered *m)
{
    const bool ends = m->full && !is_full(m);
    m->full = is_full(m);
    return ends;
}

/* Without the lock: the change is held, or released already. Who holds what it did is told that it
 * is done; who is alone hears when it is. */
static void tell(struct disk_buffered *m, struct pending_change *c,
                 void (*hold)(void *context, uint64_t ticket), void *context)
{
    struct disk_request *r = NULL;
    hold(context, c->number);
    pthread_mutex_lock(&m->lock);
    if (!c->released) {
        r = c->request;
        c->request = NULL;
    }
    pending_unref(c);
    m->telling--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (r)
        disk_volume_end(r, 0);
}

/* Without the lock: those who wait go on, as far as there is room. */
static void let_in(struct disk_buffered *m)
{
    for (;;) {
        struct pending_change *c = NULL;
        pthread_mutex_lock(&m->lock);
        void (*const hold)(void *, uint64_t) = m->hold;
        void *const context = m->context;
        if (hold && m->unroomed.first && has_room(m, m->unroomed.first)) {
            c = take_in(m, take_first(&m->unroomed));
            m->waiting--;
        }
        const bool wake = begins_to_press(m) || ends_being_full(m);
        pthread_mutex_unlock(&m->lock);
        if (wake)
            m->config.wake(m->config.context);
        if (!c)
            return;
        tell(m, c, hold, context);
    }
}

/* ---- the table ---- */

static void look(struct disk_buffered *m, struct disk_request *r)
{
    struct pending_set *set = calloc(1, sizeof(*set));
    if (!set)
        abort();
    pthread_mutex_lock(&m->lock);
    pending_look(&m->pending, disk_volume_index(r->volume), r->io.offset, r->io.size, set);
    pthread_mutex_unlock(&m->lock);
    r->mode_data = set;
}

static void patch(struct disk_buffered *m, struct disk_request *r)
{
    struct pending_set *set = r->mode_data;
    if (r->io.result == 0)
        pending_patch(set, r->io.offset, r->io.size, r->io.data);
    pthread_mutex_lock(&m->lock);
    pending_drop(set);
    pthread_mutex_unlock(&m->lock);
    free(set);
}

static bool admit(void *mode, struct disk_request *r)
{
    struct disk_buffered *m = mode;
    if (r->io.op == DISK_READ) {
        look(m, r);
        return true;
    }
    pthread_mutex_lock(&m->lock);
    const bool guest = m->hold;
    if (guest) { /* nobody overtakes: a large write would starve behind small ones */
        append(&m->unroomed, r);
        m->waiting++;
    }
    pthread_mutex_unlock(&m->lock);
    if (guest)
        let_in(m);
    else
        disk_volume_end(r, -ECANCELED);
    return false;
}

static void settle(void *mode, struct disk_request *r)
{
    if (r->io.op == DISK_READ)
        patch(mode, r);
}

const struct disk_mode_ops disk_mode_buffered_ops = {
    .name = "shared", .admit = admit, .settle = settle, .sees_reads = true};

/* ---- the image ---- */

/* With the lock held: nobody was promised anything of those that somebody waits for. Moves their
 * requests to `out`. */
static void withdraw_waited_for(struct disk_buffered *m, struct requests *out)
{
    for (struct pending_change *c = m->pending.first, *next; c; c = next) {
        next = c->next;
        if (!c->request || !c->released || c->begun || c->done)
            continue;
        append(out, c->request);
        c->request = NULL;
        pending_withdraw(&m->pending, c);
    }
}

static void describe(const struct pending_change *c, int rc, char *text, size_t size)
{
    snprintf(text, size,
             "%llu bytes at %llu, which the guest was told are %s, can't be: %s; it is tried again "
             "every second",
             (unsigned long long)c->record.length, (unsigned long long)c->record.offset,
             c->record.op == DISK_WRITE ? "written" : "zeroes", strerror(-rc));
}

/* A change came back from its image. */
static void on_applied(struct disk_io *io)
{
    struct pending_change *c = io->context;
    struct disk_buffered *m = c->owner;
    const int rc = io->result;
    const unsigned disk = c->record.disk;
    struct requests failed = {0};
    char text[192] = "";
    pthread_mutex_lock(&m->lock);
    struct disk_request *r = c->request;
    c->request = NULL;
    const bool healed = rc == 0 && m->broken == c;
    if (rc == 0) {
        m->broken = healed ? NULL : m->broken;
        pending_done(&m->pending, c); /* it may be gone now */
    } else {
        pending_failed(c);
        if (r) {
            pending_withdraw(&m->pending, c);
        } else if (!m->broken || m->broken == c) {
            if (!m->broken)
                describe(c, rc, text, sizeof(text));
            m->broken = c;
            m->why = rc;
            m->retry_at = clock_now() + RETRY_INTERVAL;
            withdraw_waited_for(m, &failed);
        }
    }
    pthread_mutex_unlock(&m->lock);
    if (healed || text[0])
        m->config.failed(m->config.context, disk, healed ? NULL : text);
    if (r)
        disk_volume_end(r, rc);
    end_all(&failed, rc);
    let_in(m);
    pthread_mutex_lock(&m->lock);
    m->begun--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

/* With the lock held, which is given up meanwhile. */
static void apply(struct disk_buffered *m, struct pending_change *c)
{
    const struct disk_record *r = &c->record;
    struct disk_image *image = disk_volume_image(m->volumes[r->disk]);
    pending_begin(c);
    m->begun++;
    /* A write is durable by how the image was opened (image.h), and so a flush has nothing to do.
     */
    c->io = (struct disk_io){.op = r->op,
                             .may_unmap = r->may_unmap,
                             .durable = r->op != DISK_WRITE,
                             .offset = r->offset,
                             .size = r->length,
                             .data = (uint8_t *)(uintptr_t)r->data,
                             .done = on_applied,
                             .context = c};
    pthread_mutex_unlock(&m->lock);
    if (c->io.op == DISK_FLUSH)
        on_applied(&c->io);
    else
        disk_image_submit(image, &c->io);
    pthread_mutex_lock(&m->lock);
}

/* With the lock held: what may begin now. */
static struct pending_change *next_change(struct disk_buffered *m)
{
    if (m->halted)
        return NULL;
    if (!m->broken)
        return pending_next(&m->pending);
    return !m->broken->begun && clock_now() >= m->retry_at ? m->broken : NULL;
}

static void *applier_main(void *context)
{
    struct disk_buffered *m = context;
    prompt_thread("shared-disk");
    pthread_mutex_lock(&m->lock);
    while (!m->quit) {
        struct pending_change *c = next_change(m);
        const struct timespec retry = clock_to_timespec(m->retry_at);
        if (c)
            apply(m, c);
        else if (m->broken && !m->broken->begun && !m->halted)
            pthread_cond_timedwait(&m->changed, &m->lock, &retry);
        else
            pthread_cond_wait(&m->changed, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- for those who hold output ---- */

void disk_buffered_begin(struct disk_buffered *mode, void (*hold)(void *context, uint64_t ticket),
                         void *context)
{
    pthread_mutex_lock(&mode->lock);
    assert(!mode->hold && !mode->pending.first);
    mode->hold = hold;
    mode->context = context;
    mode->halted = false;
    pthread_mutex_unlock(&mode->lock);
}

void disk_buffered_release(struct disk_buffered *mode, uint64_t ticket)
{
    struct disk_request *failed = NULL;
    pthread_mutex_lock(&mode->lock);
    struct pending_change *c = pending_release(&mode->pending, ticket);
    const int why = mode->halted ? -ECANCELED : mode->why;
    if (c && c->request && (mode->broken || mode->halted)) {
        failed = c->request;
        c->request = NULL;
        pending_withdraw(&mode->pending, c);
    }
    pthread_cond_broadcast(&mode->changed);
    pthread_mutex_unlock(&mode->lock);
    if (failed)
        disk_volume_end(failed, why);
}

/* With the lock held: what was let out and will not come to the image. */
static unsigned count_lost(const struct disk_buffered *m)
{
    unsigned lost = 0;
    const bool stuck = m->broken && !m->halted;
    for (const struct pending_change *c = m->pending.first; c && stuck; c = c->next)
        lost += c->released && !c->done && c->record.op != DISK_FLUSH;
    return lost;
}

void disk_buffered_end(struct disk_buffered *mode)
{
    struct requests given_up = {0};
    char text[160];
    pthread_mutex_lock(&mode->lock);
    mode->hold = NULL;
    while (mode->unroomed.first)
        append(&given_up, take_first(&mode->unroomed));
    mode->waiting = 0;
    while (mode->telling || mode->begun ||
           (!mode->broken && !mode->halted && pending_is_moving(&mode->pending)))
        pthread_cond_wait(&mode->changed, &mode->lock);
    withdraw_waited_for(mode, &given_up);
    const unsigned lost = count_lost(mode);
    const unsigned disk = lost ? mode->broken->record.disk : 0;
    snprintf(text, sizeof(text), "%u changes that the guest was told are done are lost: %s", lost,
             strerror(-mode->why));
    mode->broken = NULL;
    pending_clear(&mode->pending);
    pthread_mutex_unlock(&mode->lock);
    if (lost)
        mode->config.failed(mode->config.context, disk, text);
    end_all(&given_up, -ECANCELED);
}

void disk_buffered_halt(struct disk_buffered *mode)
{
    struct requests given_up = {0};
    pthread_mutex_lock(&mode->lock);
    mode->halted = true;
    withdraw_waited_for(mode, &given_up);
    pthread_cond_broadcast(&mode->changed);
    pthread_mutex_unlock(&mode->lock);
    end_all(&given_up, -ECANCELED);
}

bool disk_buffered_is_quiet(struct disk_buffered *mode)
{
    pthread_mutex_lock(&mode->lock);
    const bool quiet = !mode->begun && !pending_is_moving(&mode->pending);
    pthread_mutex_unlock(&mode->lock);
    return quiet;
}

unsigned disk_buffered_held(struct disk_buffered *mode, const struct disk_volume *volume)
{
    pthread_mutex_lock(&mode->lock);
    const unsigned held = pending_count(&mode->pending, disk_volume_index(volume));
    pthread_mutex_unlock(&mode->lock);
    return held;
}

unsigned disk_buffered_writing(struct disk_buffered *mode, const struct disk_volume *volume)
{
    pthread_mutex_lock(&mode->lock);
    const unsigned writing = pending_count_moving(&mode->pending, disk_volume_index(volume));
    pthread_mutex_unlock(&mode->lock);
    return writing;
}

/* ---- the epochs ---- */

void disk_buffered_start(struct disk_buffered *mode)
{
    pthread_mutex_lock(&mode->lock);
    mode->on = true;
    mode->fresh = true;
    mode->pressing = false;
    mode->torn = false;
    pending_tell_again(&mode->pending);
    pthread_mutex_unlock(&mode->lock);
}

void disk_buffered_stop(struct disk_buffered *mode)
{
    pthread_mutex_lock(&mode->lock);
    mode->on = false;
    mode->pressing = false;
    mode->torn = false;
    pthread_mutex_unlock(&mode->lock);
}

void disk_buffered_drain(struct disk_buffered *mode, bool draining)
{
    pthread_mutex_lock(&mode->lock);
    mode->draining = draining;
    pthread_mutex_unlock(&mode->lock);
    if (draining)
        let_in(mode);
}

bool disk_buffered_is_pressing(struct disk_buffered *mode)
{
    pthread_mutex_lock(&mode->lock);
    const bool pressing = mode->pressing;
    pthread_mutex_unlock(&mode->lock);
    return pressing;
}

bool disk_buffered_is_full(struct disk_buffered *mode)
{
    pthread_mutex_lock(&mode->lock);
    const bool full = is_full(mode);
    pthread_mutex_unlock(&mode->lock);
    return full;
}

struct disk_buffered_batch *disk_buffered_take(struct disk_buffered *mode)
{
    struct disk_buffered_batch *batch = calloc(1, sizeof(*batch));
    if (!batch)
        abort();
    pthread_mutex_lock(&mode->lock);
    const uint64_t applied = mode->pending.retired;
    const bool due =
        mode->on && (mode->pending.untold || mode->fresh || mode->torn || applied > mode->told);
    if (due) {
        batch->mark = (struct disk_mark){.fresh = mode->fresh, .applied = applied};
        batch->end = mode->pending.last_number + 1;
        batch->torn = mode->torn;
        pending_take(&mode->pending, &batch->set);
        mode->fresh = false;
        mode->told = applied;
        mode->pressing = false;
    }
    pthread_mutex_unlock(&mode->lock);
    if (!due)
        free(batch);
    return due ? batch : NULL;
}

/* A mark, and of the record that follows it, if any, the header. */
static size_t begin_payload(struct disk_buffered_batch *batch, struct iovec *part)
{
    const struct pending_change *first =
        batch->cursor < batch->set.count ? batch->set.changes[batch->cursor] : NULL;
    struct payload_head *head = calloc(1, sizeof(*head));
    if (!head)
        abort();
    head->next = batch->heads;
    batch->heads = head;
    batch->mark.first = first ? first->number : batch->end;
    disk_mark_encode(&batch->mark, head->bytes);
    batch->mark.fresh = false;
    batch->marked = true;
    size_t size = DISK_RECORD_HEADER_SIZE;
    if (first) {
        memcpy(head->bytes + size, first->header, sizeof(first->header));
        size += sizeof(first->header);
    }
    *part = (struct iovec){head->bytes, size};
    return size;
}

int disk_buffered_payload(struct disk_buffered_batch *batch, struct iovec *parts, int max)
{
    assert(max >= 2);
    if (batch->torn)
        return -ENOBUFS;
    if (batch->marked && batch->cursor == batch->set.count)
        return 0;
    size_t size = begin_payload(batch, &parts[0]);
    int count = 1;
    for (uint64_t number = batch->mark.first; batch->cursor < batch->set.count; number++) {
        struct pending_change *c = batch->set.changes[batch->cursor];
        const bool begins = number == batch->mark.first; /* its header is there */
        const size_t more = disk_record_size(&c->record) - (begins ? sizeof(c->header) : 0);
        if (c->number != number || count + (begins ? 1 : 2) > max || size + more > DISK_PAYLOAD_MAX)
            break;
        if (!begins)
            parts[count++] = (struct iovec){c->header, sizeof(c->header)};
        if (c->record.op == DISK_WRITE)
            parts[count++] =
                (struct iovec){(void *)(uintptr_t)c->record.data, (size_t)c->record.length};
        size += more;
        batch->cursor++;
    }
    return count;
}

void disk_buffered_drop(struct disk_buffered *mode, struct disk_buffered_batch *batch)
{
    if (!batch)
        return;
    pthread_mutex_lock(&mode->lock);
    pending_drop(&batch->set);
    pthread_mutex_unlock(&mode->lock);
    while (batch->heads) {
        struct payload_head *head = batch->heads;
        batch->heads = head->next;
        free(head);
    }
    free(batch);
}

void disk_buffered_snapshot(struct disk_buffered *mode, struct disk_buffered_stats *out)
{
    pthread_mutex_lock(&mode->lock);
    *out = (struct disk_buffered_stats){.on = mode->on,
                                        .pending_bytes = mode->pending.cost,
                                        .waiting = mode->waiting,
                                        .failing = mode->broken,
                                        .losses = mode->losses};
    pthread_mutex_unlock(&mode->lock);
}

/* ---- life ---- */

int disk_buffered_create(const struct disk_buffered_config *config, struct disk_buffered **out,
                         struct error *err)
{
    struct disk_buffered *m = *out = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "shared disks: out of memory");
    m->config = *config;
    pending_init(&m->pending);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&m->applier, NULL, applier_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        return 0;
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *out = NULL;
    return error_set(err, -rc, "shared disks: can't start their thread: %s", strerror(rc));
}

void disk_buffered_destroy(struct disk_buffered **mode)
{
    struct disk_buffered *m = *mode;
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->quit = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->applier, NULL);
    pending_clear(&m->pending);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *mode = NULL;
}
