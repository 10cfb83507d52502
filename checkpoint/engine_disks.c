/* Synchronisation of disks, as the engine carries it: messages of FRAME_SYNC in both directions
 * while a full synchronisation is being sent (docs/protocol.md). What they say is the affair of
 * those behind checkpoint/disk_ops.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoint/engine_internal.h"

/* Answers that may wait: more are sent only by who does not keep to the protocol. */
#define WORDS_MAX 4096

struct channel {
    struct engine *e;
    epoch_t epoch;
    struct capture_sent *sent;
};

int engine_send_disk_writes(struct engine *e, epoch_t epoch, struct capture_sent *sent,
                            struct error *err)
{
    void *batch = e->disks_started ? e->disks.ops->take(e->disks.context) : NULL;
    if (!batch)
        return 0;
    const int rc =
        capture_send_disks(&e->disks, batch, e->link, e->term, epoch, e->digest, sent, err);
    e->disks.ops->release(e->disks.context, batch,
                          rc == 0 ? CHECKPOINT_DISK_SENT : CHECKPOINT_DISK_ABORTED);
    return rc;
}

/* ---- the channel ---- */

static int interrupted(struct error *err)
{
    return error_set(err, -EPIPE, "synchronisation interrupted");
}

static int channel_send(void *context, const uint8_t *payload, size_t size, struct error *err)
{
    const struct channel *c = context;
    const struct frame frame = {.type = FRAME_SYNC, .term = c->e->term, .epoch = c->epoch};
    const struct iovec part = {(void *)(uintptr_t)payload, size};
    return link_send(c->e->link, &frame, &part, 1, err);
}

static int channel_receive(void *context, uint8_t *payload, size_t size, struct error *err)
{
    struct engine *e = ((const struct channel *)context)->e;
    pthread_mutex_lock(&e->lock);
    while (!e->words && !engine_interrupted_locked(e))
        pthread_cond_wait(&e->changed, &e->lock);
    struct sync_word *word = e->words;
    if (word) {
        e->words = word->next;
        e->word_count--;
        if (!e->words)
            e->last_word = &e->words;
    }
    pthread_mutex_unlock(&e->lock);
    if (!word)
        return interrupted(err);
    const int length = word->size <= size ? (int)word->size : -EMSGSIZE;
    if (length > 0)
        memcpy(payload, word->bytes, word->size);
    free(word);
    return length < 0 ? error_set(err, length, "a message about disks is too long") : length;
}

static int channel_drain(void *context, struct error *err)
{
    const struct channel *c = context;
    return engine_send_disk_writes(c->e, c->epoch, c->sent, err);
}

static int channel_pause(void *context, nsec_t until, struct error *err)
{
    struct engine *e = ((const struct channel *)context)->e;
    const struct timespec end = clock_to_timespec(until);
    pthread_mutex_lock(&e->lock);
    while (clock_now() < until && !engine_interrupted_locked(e))
        pthread_cond_timedwait(&e->changed, &e->lock, &end);
    const bool stop = engine_interrupted_locked(e);
    pthread_mutex_unlock(&e->lock);
    return stop ? interrupted(err) : 0;
}

int engine_synchronise_disks(struct engine *e, epoch_t epoch, struct capture_sent *sent,
                             struct error *err)
{
    static const struct checkpoint_disk_channel_ops ops = {.send = channel_send,
                                                           .receive = channel_receive,
                                                           .drain = channel_drain,
                                                           .pause = channel_pause};
    struct channel context = {.e = e, .epoch = epoch, .sent = sent};
    const struct checkpoint_disk_channel channel = {.ops = &ops, .context = &context};
    const int rc = e->disks.ops->synchronise(e->disks.context, &channel, err);
    pthread_mutex_lock(&e->lock);
    e->disks_synchronised = rc == 0;
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* ---- what the standby says ---- */

int engine_hear_disks(struct engine *e, struct link *link, const struct frame *frame,
                      struct error *err)
{
    if (!e->disks.ops || frame->size > CHECKPOINT_DISK_MESSAGE_MAX)
        return error_set(err, -EPROTO,
                         "the standby sent %u bytes about disks, which nobody asked for",
                         frame->size);
    struct sync_word *word = malloc(sizeof(*word) + frame->size);
    if (!word)
        return error_set(err, -ENOMEM, "disk synchronisation: out of memory");
    *word = (struct sync_word){.size = frame->size};
    int rc = link_receive_payload(link, word->bytes, frame->size, err);
    pthread_mutex_lock(&e->lock);
    if (rc == 0 && e->word_count == WORDS_MAX)
        rc = error_set(err, -EPROTO, "the standby says more about disks than it was asked");
    if (rc == 0) {
        *e->last_word = word;
        e->last_word = &word->next;
        e->word_count++;
        engine_signal(e);
    }
    pthread_mutex_unlock(&e->lock);
    if (rc < 0)
        free(word);
    return rc;
}

void engine_forget_words(struct engine *e)
{
    while (e->words) {
        struct sync_word *word = e->words;
        e->words = word->next;
        free(word);
    }
    e->last_word = &e->words;
    e->word_count = 0;
}
