/* virtio-blk (virtio 1.2 §5.2): one request queue on a raw image.
 *
 *   ring ──pop──► job ──QUEUED──► worker thread: read, write, flush ──DONE──► I/O thread: push,
 *   interrupt, pop the next
 *
 * One job at a time is taken from the ring, so a checkpoint waits for one host operation at most
 * and everything behind it is still in the ring, in guest memory: no list of requests travels with
 * the state. (Held writes of a shared disk will add one; the ring's counters already allow for
 * requests in flight.) The worker never takes the device lock. It marks what it read into guest
 * memory dirty before it says DONE.
 *
 * Without VIRTIO_BLK_F_FLUSH the guest counts on every completed write being durable (§5.2.6.2). */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/blk_image.h"
#include "vmm/state.h"
#include "vmm/virtio_devices.h"
#include "vmm/virtio_pci.h"

#define TYPE_BLK        2
#define CLASS_STORAGE   0x018000
#define QUEUE_SIZE      256
#define QUEUE_REQUESTS  0
#define SEGMENTS_MAX    126 /* of data in one request, as the guest is told */
#define HEADER_SIZE     sizeof(struct virtio_blk_outhdr)
#define IMMEDIATE_BURST 64
#define COMPLAINTS_MAX  8

enum phase { PHASE_NONE, PHASE_QUEUED, PHASE_DONE };

/* The request that is being worked on. Owned by the device lock, except while PHASE_QUEUED: then by
 * the worker. */
struct job {
    struct virtqueue_chain chain;
    struct iovec parts[VIRTQUEUE_CHAIN_MAX];
    unsigned part_count;
    uint32_t type;
    uint64_t sector;
    uint64_t data_size; /* bytes */
    bool then_flush;
    int result; /* 0 or -errno */
};

struct blk {
    /* set at creation */
    const struct device_env *env;
    struct virtio_pci *transport;
    unsigned index;
    bool read_only;
    char serial[VIRTIO_BLK_ID_BYTES + 1];
    struct virtio_blk_config space;
    struct event *done_event;
    pthread_t worker;

    /* the worker's while a job is queued */
    struct blk_image image;
    struct job job;

    /* protected by the device lock */
    unsigned complaints;

    /* protected by `mutex`, which is taken inside the device lock */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum phase phase;
    bool quit;
};

/* --- the worker ----------------------------------------------------------------------------- */

static void mark_filled(struct blk *b)
{
    const struct virtqueue_chain *c = &b->job.chain;
    for (unsigned i = 0; i < c->in_count; i++)
        gmem_mark_dirty(b->env->memory, c->segments[c->out_count + i].gpa,
                        c->segments[c->out_count + i].size);
}

static int execute(struct blk *b)
{
    struct job *j = &b->job;
    const uint64_t offset = j->sector * BLK_SECTOR;
    int rc;
    switch (j->type) {
    case VIRTIO_BLK_T_IN:
        rc = blk_image_read(&b->image, j->parts, j->part_count, offset);
        mark_filled(b); /* after the write into guest memory, failed or not */
        return rc;
    case VIRTIO_BLK_T_OUT:
        rc = blk_image_write(&b->image, j->parts, j->part_count, offset);
        return rc == 0 && j->then_flush ? blk_image_flush(&b->image) : rc;
    default:
        return blk_image_flush(&b->image);
    }
}

static void *worker_main(void *context)
{
    struct blk *b = context;
    pthread_mutex_lock(&b->mutex);
    while (!b->quit) {
        if (b->phase != PHASE_QUEUED) {
            pthread_cond_wait(&b->changed, &b->mutex);
            continue;
        }
        pthread_mutex_unlock(&b->mutex);
        b->job.result = execute(b);
        pthread_mutex_lock(&b->mutex);
        b->phase = PHASE_DONE;
        pthread_cond_broadcast(&b->changed);
        event_active(b->done_event, EV_TIMEOUT, 0);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

static void set_phase(struct blk *b, enum phase phase)
{
    pthread_mutex_lock(&b->mutex);
    b->phase = phase;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static enum phase get_phase(struct blk *b)
{
    pthread_mutex_lock(&b->mutex);
    const enum phase phase = b->phase;
    pthread_mutex_unlock(&b->mutex);
    return phase;
}

/* Waits until the worker has nothing to do. */
static void drain(struct blk *b)
{
    pthread_mutex_lock(&b->mutex);
    while (b->phase == PHASE_QUEUED)
        pthread_cond_wait(&b->changed, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

/* Is the worker busy with something that a parked machine need not wait for? */
static bool is_flushing(struct blk *b)
{
    return get_phase(b) == PHASE_QUEUED && b->job.type == VIRTIO_BLK_T_FLUSH;
}

/* --- requests, under the device lock -------------------------------------------------------- */

/* The status byte is the last one the device may write (§5.2.6), the data what lies before it. */
static void complete(struct blk *b, uint8_t status, uint64_t filled)
{
    struct virtqueue *q = virtio_pci_queue(b->transport, QUEUE_REQUESTS);
    const struct virtqueue_chain *c = &b->job.chain;
    const uint64_t used = filled + 1;
    virtqueue_chain_write(q, c, c->in_size - 1, &status, 1);
    virtqueue_push(q, c->head, used > UINT32_MAX ? UINT32_MAX : (uint32_t)used);
}

static void complain(struct blk *b)
{
    const struct job *j = &b->job;
    if (b->complaints >= COMPLAINTS_MAX)
        return;
    b->complaints++;
    log_error("vmm", "disk %u: %s of %llu bytes at sector %llu failed: %s", b->index,
              j->type == VIRTIO_BLK_T_IN    ? "reading"
              : j->type == VIRTIO_BLK_T_OUT ? "writing"
                                            : "flushing",
              (unsigned long long)j->data_size, (unsigned long long)j->sector,
              strerror(-j->result));
}

static void finish_job(struct blk *b)
{
    const struct job *j = &b->job;
    if (get_phase(b) != PHASE_DONE)
        return;
    set_phase(b, PHASE_NONE);
    virtio_pci_queue(b->transport, QUEUE_REQUESTS)->replayed = 0;
    if (j->result < 0)
        complain(b);
    const bool filled = j->type == VIRTIO_BLK_T_IN && j->result == 0;
    const uint8_t status = (uint8_t)(j->result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
    complete(b, status, filled ? j->data_size : 0);
}

/* Collects the host addresses of [from, to) of `count` segments. */
static void collect_parts(struct job *j, const struct virtqueue_segment *segments, unsigned count,
                          uint64_t from, uint64_t to)
{
    uint64_t at = 0; /* of the segment's first byte */
    j->part_count = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct virtqueue_segment *s = &segments[i];
        const uint64_t begin = from > at ? from - at : 0;
        const uint64_t end = to - at < s->size ? to - at : s->size;
        if (begin < end)
            j->parts[j->part_count++] =
                (struct iovec){.iov_base = s->host + begin, .iov_len = end - begin};
        at += s->size;
        if (at >= to)
            break;
    }
}

static bool range_is_valid(const struct blk *b, const struct job *j)
{
    const uint64_t sectors = b->image.size / BLK_SECTOR;
    return j->data_size % BLK_SECTOR == 0 && j->sector <= sectors &&
           j->data_size / BLK_SECTOR <= sectors - j->sector;
}

static void answer_id(struct blk *b)
{
    struct virtqueue *q = virtio_pci_queue(b->transport, QUEUE_REQUESTS);
    const uint64_t room = b->job.chain.in_size - 1;
    const size_t size = room < VIRTIO_BLK_ID_BYTES ? (size_t)room : VIRTIO_BLK_ID_BYTES;
    virtqueue_chain_write(q, &b->job.chain, 0, b->serial, size);
    complete(b, VIRTIO_BLK_S_OK, size);
}

/* Answers the request in `job` at once, or prepares it for the worker and returns true. */
static bool prepare(struct blk *b, const struct virtio_blk_outhdr *header)
{
    struct job *j = &b->job;
    const struct virtqueue_chain *c = &j->chain;
    j->type = header->type;
    j->sector = header->sector;
    j->part_count = 0;
    j->data_size = 0;
    j->then_flush = false;
    switch (j->type) {
    case VIRTIO_BLK_T_IN:
        j->data_size = c->in_size - 1;
        collect_parts(j, c->segments + c->out_count, c->in_count, 0, j->data_size);
        break;
    case VIRTIO_BLK_T_OUT:
        j->data_size = c->out_size - HEADER_SIZE;
        collect_parts(j, c->segments, c->out_count, HEADER_SIZE, c->out_size);
        j->then_flush = !virtio_pci_has_feature(b->transport, VIRTIO_BLK_F_FLUSH);
        break;
    case VIRTIO_BLK_T_FLUSH:
        return true;
    case VIRTIO_BLK_T_GET_ID:
        answer_id(b);
        return false;
    default:
        complete(b, VIRTIO_BLK_S_UNSUPP, 0);
        return false;
    }
    if (range_is_valid(b, j) && !(j->type == VIRTIO_BLK_T_OUT && b->read_only))
        return true;
    complete(b, VIRTIO_BLK_S_IOERR, 0);
    return false;
}

/* Ends the job that is done and takes requests until one occupies the worker. */
static void serve(struct blk *b)
{
    struct virtqueue *q = virtio_pci_queue(b->transport, QUEUE_REQUESTS);
    finish_job(b);
    for (unsigned i = 0; i < IMMEDIATE_BURST && get_phase(b) == PHASE_NONE; i++) {
        if (virtqueue_pop(q, &b->job.chain) != 1)
            break;
        struct virtio_blk_outhdr header;
        if (b->job.chain.in_size == 0 ||
            virtqueue_chain_read(&b->job.chain, 0, &header, sizeof(header)) != sizeof(header)) {
            virtio_pci_fail(b->transport, "a disk request without header or status byte");
            break;
        }
        if (prepare(b, &header))
            set_phase(b, PHASE_QUEUED);
    }
    virtqueue_set_kicks(q, true);
    virtio_pci_settle(b->transport, QUEUE_REQUESTS);
    if (get_phase(b) == PHASE_NONE && virtqueue_waiting(q) && virtio_pci_is_running(b->transport))
        virtio_pci_defer(b->transport, QUEUE_REQUESTS);
}

static void on_done(evutil_socket_t fd, short what, void *context)
{
    struct blk *b = context;
    (void)fd;
    (void)what;
    device_lock_acquire(b->env->lock);
    if (virtio_pci_is_running(b->transport))
        serve(b); /* otherwise resume or reset will see to it */
    device_lock_release(b->env->lock);
}

static void on_stop(void *context)
{
    struct blk *b = context;
    drain(b);
    set_phase(b, PHASE_NONE);
}

static void on_notify(void *context, unsigned index)
{
    (void)index;
    serve(context);
}

static const struct virtio_device_ops transport_ops = {.stop = on_stop, .notify = on_notify};

/* --- driven by the machine ------------------------------------------------------------------ */

struct saved {
    uint64_t size;
    uint8_t read_only;
};

static const struct state_field fields[] = {
    STATE_UINT(struct saved, size, STATE_ANY64),
    STATE_UINT(struct saved, read_only, 0, 1),
};

static int check_config(const void *object, const void *context, struct error *err)
{
    const struct saved *s = object;
    const struct blk *b = context;
    if (s->size != b->image.size || s->read_only != b->read_only)
        return error_set(err, -EINVAL, "state: disk %u has %llu bytes%s there, %llu%s here",
                         b->index, (unsigned long long)s->size, s->read_only ? " read-only" : "",
                         (unsigned long long)b->image.size, b->read_only ? " read-only" : "");
    return 0;
}

static const struct state_table table = {"virtio-blk", 1, fields, ARRAY_SIZE(fields), check_config};

static void blk_reset(void *context)
{
    virtio_pci_reset(((struct blk *)context)->transport);
}

static void blk_quiesce(void *context)
{
    struct blk *b = context;
    virtio_pci_quiesce(b->transport);
    if (is_flushing(b)) {
        virtio_pci_queue(b->transport, QUEUE_REQUESTS)->replayed = 1;
        return;
    }
    drain(b);
    finish_job(b);
    virtio_pci_settle(b->transport, QUEUE_REQUESTS);
}

static void blk_resume(void *context)
{
    virtio_pci_resume(((struct blk *)context)->transport);
}

static int blk_save(const void *context, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    const struct blk *b = context;
    const struct saved s = {.size = b->image.size, .read_only = b->read_only};
    const int rc = state_save(&table, instance, &s, set, err);
    return rc < 0 ? rc : virtio_pci_save(b->transport, set, err);
}

static int blk_check(const void *context, uint32_t instance, const struct section_set *set,
                     struct error *err)
{
    const struct blk *b = context;
    struct saved s;
    const int rc = state_decode(&table, instance, &s, b, set, err);
    return rc < 0 ? rc : virtio_pci_check(b->transport, instance, set, err);
}

/* Nothing of our own travels but what check() compares. */
static void blk_load(void *context, uint32_t instance, const struct section_set *set)
{
    virtio_pci_load(((struct blk *)context)->transport, instance, set);
}

static void stop_worker(struct blk *b)
{
    pthread_mutex_lock(&b->mutex);
    b->quit = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->worker, NULL);
}

static void free_blk(struct blk *b)
{
    if (b->done_event)
        event_free(b->done_event);
    virtio_pci_destroy(&b->transport);
    blk_image_close(&b->image);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

static void blk_destroy(void *context)
{
    stop_worker(context);
    free_blk(context);
}

static const struct device_ops device_ops = {
    .name = "virtio-blk",
    .reset = blk_reset,
    .quiesce = blk_quiesce,
    .resume = blk_resume,
    .save = blk_save,
    .check = blk_check,
    .load = blk_load,
    .destroy = blk_destroy,
};

/* The worker takes no signals: they are for the threads that expect them. */
static int start_worker(struct blk *b, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&b->worker, NULL, worker_main, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? error_set(err, -rc, "disk %u: can't start its thread: %s", b->index, strerror(rc))
              : 0;
}

static int add_transport(struct blk *b, struct pci_host *host, uint8_t slot, struct error *err)
{
    uint64_t features =
        1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH;
    if (b->read_only)
        features |= 1ull << VIRTIO_BLK_F_RO;
    b->space.capacity = b->image.size / BLK_SECTOR;
    b->space.seg_max = SEGMENTS_MAX;
    b->space.blk_size = BLK_SECTOR;
    const struct virtio_pci_config transport = {
        .name = "virtio-blk",
        .instance = b->index,
        .slot = slot,
        .type = TYPE_BLK,
        .class_code = CLASS_STORAGE,
        .features = features,
        .queue_count = 1,
        .queue_size = QUEUE_SIZE,
        .device_config = &b->space,
        .device_config_size = sizeof(b->space),
        .ops = &transport_ops,
        .context = b,
    };
    return virtio_pci_create(b->env, host, &transport, &b->transport, err);
}

int virtio_blk_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_blk_options *options, struct device *out,
                      struct error *err)
{
    struct blk *b = calloc(1, sizeof(*b));
    if (!b)
        return error_set(err, -ENOMEM, "virtio-blk: out of memory");
    b->env = env;
    b->index = options->index;
    b->read_only = options->read_only;
    snprintf(b->serial, sizeof(b->serial), "kemari-disk%u", options->index);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    int rc = blk_image_open(&b->image, options->path, options->read_only, err);
    if (rc == 0)
        rc = add_transport(b, host, options->slot, err);
    if (rc == 0) {
        b->done_event = event_new(env->events, -1, EV_PERSIST, on_done, b);
        if (!b->done_event)
            rc = error_set(err, -ENOMEM, "virtio-blk: out of memory");
    }
    if (rc == 0)
        rc = start_worker(b, err);
    if (rc < 0) {
        free_blk(b);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = b, .instance = options->index};
    return 0;
}

uint64_t virtio_blk_size(const struct device *blk)
{
    return ((const struct blk *)blk->context)->image.size;
}
