#include "disk/sync_source.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "disk/sync_digest.h"

#define BATCH_BLOCKS   256  /* read, compared and sent before the guest's writes are handed over */
#define BARRIER_BLOCKS 4096 /* compared before both sides make it durable */

struct sync_source {
    struct sync_source_config config;
    uint64_t disk_size;
    struct disk_geometry geometry;

    /* of the thread in run() */
    const struct sync_channel *channel;
    uint8_t *buffer;  /* BATCH_BLOCKS blocks */
    uint8_t *message; /* SYNC_PAYLOAD_MAX, outgoing */
    uint8_t *reply;   /* SYNC_PAYLOAD_MAX */
    struct block_map todo;
    struct block_map sent; /* compared since the last barrier */
    uint64_t sent_count;
    uint64_t blocks[BATCH_BLOCKS]; /* of the batch; in `buffer` in that order */
    unsigned batch;
    bool differs[BATCH_BLOCKS];
    uint64_t next_point;
    uint64_t cookie;
    bool round;

    pthread_mutex_t lock; /* protects below */
    struct sync_progress progress;
};

/* ---- the channel ---- */

static int say(struct sync_source *s, struct sync_message *m, struct error *err)
{
    m->disk = disk_volume_index(s->config.volume);
    const size_t size = sync_encode(m, s->message, SYNC_PAYLOAD_MAX);
    pthread_mutex_lock(&s->lock);
    s->progress.bytes_sent += size;
    pthread_mutex_unlock(&s->lock);
    return s->channel->ops->send(s->channel->context, s->message, size, err);
}

static int hear(struct sync_source *s, enum sync_kind kind, struct sync_message *m,
                struct error *err)
{
    const int size = s->channel->ops->receive(s->channel->context, s->reply, SYNC_PAYLOAD_MAX, err);
    int rc = size < 0 ? size : sync_decode(s->reply, (size_t)size, &s->geometry, m, err);
    if (rc == 0 && (m->kind != kind || m->disk != disk_volume_index(s->config.volume)))
        rc = error_set(err, -EPROTO, "disk %u: the standby answered \"%s\" instead of \"%s\"",
                       disk_volume_index(s->config.volume), sync_kind_name(m->kind),
                       sync_kind_name(kind));
    return rc;
}

/* ---- the image ---- */

static int read_block(struct sync_source *s, uint64_t block, uint8_t *out, struct error *err)
{
    struct disk_io io = {.op = DISK_READ,
                         .offset = block << BLOCK_SHIFT,
                         .size = sync_block_size(block, s->disk_size),
                         .data = out};
    const int rc = disk_image_perform(disk_volume_image(s->config.volume), &io);
    return rc == 0 ? 0
                   : error_set(err, rc, "disk %u: reading block %llu to synchronise it failed: %s",
                               disk_volume_index(s->config.volume), (unsigned long long)block,
                               strerror(-rc));
}

static int flush_image(struct sync_source *s, struct error *err)
{
    struct disk_io io = {.op = DISK_FLUSH};
    const int rc = disk_image_perform(disk_volume_image(s->config.volume), &io);
    return rc == 0 ? 0
                   : error_set(err, rc, "disk %u: flushing failed: %s",
                               disk_volume_index(s->config.volume), strerror(-rc));
}

/* ---- the beginning ---- */

/* The other side's marks, which follow its state if its map is trusted. */
static int hear_marks(struct sync_source *s, struct block_map *theirs, struct error *err)
{
    for (uint64_t at = 0; at < theirs->count;) {
        struct sync_message m;
        const int rc = hear(s, SYNC_MARKS, &m, err);
        if (rc < 0)
            return rc;
        if (m.block != at)
            return error_set(err, -EPROTO, "the standby's marks come out of order");
        block_map_put_bytes(theirs, at, m.items, m.items_size);
        at += 8 * (uint64_t)m.items_size;
    }
    return 0;
}

static void note_plan(struct sync_source *s, bool full, const char *why)
{
    pthread_mutex_lock(&s->lock);
    s->progress.full = full;
    snprintf(s->progress.why, sizeof(s->progress.why), "%.127s", why);
    pthread_mutex_unlock(&s->lock);
}

static int decide(struct sync_source *s, const struct sync_message *state, bool *full,
                  struct error *err)
{
    struct lineage ours;
    struct error why = {0};
    const struct pairing_side primary = divergence_side(s->config.divergence, &ours);
    const struct pairing_side secondary = {.lineage = state->known ? &state->lineage : NULL,
                                           .trusted = state->trusted};
    const enum pairing plan = pairing_decide(&primary, &secondary, &why);
    *full = plan == PAIRING_FULL;
    note_plan(s, *full || pairing_is_refusal(plan), plan == PAIRING_MARKED ? "" : why.text);
    if (!pairing_is_refusal(plan))
        return 0;
    return error_set(err, -ESTALE,
                     "disk %u: %s; decide which copy to give up, and remove its map on that host",
                     disk_volume_index(s->config.volume), why.text);
}

/* Ends with both maps durable, the other side SYNCING, and a round running here. */
static int begin(struct sync_source *s, struct error *err)
{
    struct block_map theirs;
    struct sync_message state;
    bool full = true;
    int rc = block_map_init(&theirs, s->todo.count);
    if (rc < 0)
        return error_set(err, rc, "disk synchronisation: out of memory");
    rc = say(s, &(struct sync_message){.kind = SYNC_ASK}, err);
    if (rc == 0)
        rc = hear(s, SYNC_STATE, &state, err);
    const bool trusted = rc == 0 && state.trusted;
    if (rc == 0)
        rc = decide(s, &state, &full, err);
    if (rc == 0 && trusted)
        rc = hear_marks(s, &theirs, err);
    struct sync_message start = {.kind = SYNC_START};
    if (rc == 0)
        rc = divergence_source(s->config.divergence, full ? NULL : &theirs, &start.lineage, err);
    block_map_free(&theirs);
    if (rc < 0)
        return rc;
    s->next_point = start.lineage.next_point;
    divergence_round_begin(s->config.divergence);
    s->round = true;
    divergence_marks(s->config.divergence, &s->todo);
    rc = say(s, &start, err);
    return rc < 0 ? rc : hear(s, SYNC_READY, &state, err);
}

/* ---- a batch ---- */

static uint8_t *block_at(const struct sync_source *s, unsigned i)
{
    return s->buffer + (size_t)i * BLOCK_SIZE;
}

/* Digests leave while the next are computed, so that both sides work at the same time. */
static int send_digests(struct sync_source *s, unsigned *messages, struct error *err)
{
    uint8_t items[SYNC_DIGESTS_MAX * (8 + SYNC_DIGEST_SIZE)];
    *messages = 0;
    for (unsigned from = 0; from < s->batch; from += SYNC_DIGESTS_MAX) {
        const unsigned left = s->batch - from;
        struct sync_message m = {.kind = SYNC_DIGESTS,
                                 .count = left < SYNC_DIGESTS_MAX ? left : SYNC_DIGESTS_MAX,
                                 .items = items};
        for (unsigned i = 0; i < m.count; i++) {
            uint8_t *item = items + i * (8 + SYNC_DIGEST_SIZE);
            const uint64_t block = s->blocks[from + i];
            int rc = read_block(s, block, block_at(s, from + i), err);
            if (rc < 0)
                return rc;
            for (unsigned b = 0; b < 8; b++)
                item[b] = (uint8_t)(block >> (8 * b));
            sync_digest(block_at(s, from + i), sync_block_size(block, s->disk_size), item + 8);
        }
        m.items_size = m.count * (8 + SYNC_DIGEST_SIZE);
        const int rc = say(s, &m, err);
        if (rc < 0)
            return rc;
        (*messages)++;
    }
    return 0;
}

static int hear_differences(struct sync_source *s, unsigned messages, struct error *err)
{
    for (unsigned n = 0; n < messages; n++) {
        const unsigned from = n * SYNC_DIGESTS_MAX;
        const unsigned left = s->batch - from;
        const unsigned count = left < SYNC_DIGESTS_MAX ? left : SYNC_DIGESTS_MAX;
        struct sync_message m;
        const int rc = hear(s, SYNC_DIFFER, &m, err);
        if (rc < 0)
            return rc;
        if (m.count != (count + 7) / 8)
            return error_set(err, -EPROTO, "the standby answered to other digests");
        for (unsigned i = 0; i < count; i++)
            s->differs[from + i] = m.items[i / 8] >> (i % 8) & 1;
    }
    return 0;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static int send_data(struct sync_source *s, unsigned i, uint16_t mask, struct error *err)
{
    uint8_t data[BLOCK_SIZE];
    const uint8_t *block = block_at(s, i);
    const size_t size = sync_block_size(s->blocks[i], s->disk_size);
    struct sync_message m = {.kind = SYNC_DATA, .block = s->blocks[i], .items = data};
    uint64_t differed = 0;
    for (unsigned p = 0; p < SYNC_BLOCK_PIECES; p++) {
        const size_t length = sync_piece_size(p, size);
        const uint8_t *piece = block + (size_t)p * SYNC_PIECE_SIZE;
        if (!(mask >> p & 1) || length == 0)
            continue;
        differed += length;
        if (is_zero(piece, length)) {
            m.zero_mask |= (uint16_t)(1u << p);
            continue;
        }
        memset(data + m.items_size, 0, SYNC_PIECE_SIZE);
        memcpy(data + m.items_size, piece, length);
        m.data_mask |= (uint16_t)(1u << p);
        m.items_size += SYNC_PIECE_SIZE;
    }
    pthread_mutex_lock(&s->lock);
    s->progress.bytes_differed += differed;
    pthread_mutex_unlock(&s->lock);
    return m.data_mask | m.zero_mask ? say(s, &m, err) : 0;
}

/* The blocks that differ, some at a time: which of their pieces do? */
static int send_differences(struct sync_source *s, struct error *err)
{
    uint8_t *items = malloc(SYNC_PIECES_MAX * (8 + SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE));
    int rc = items ? 0 : error_set(err, -ENOMEM, "disk synchronisation: out of memory");
    for (unsigned next = 0; rc == 0 && next < s->batch;) {
        unsigned chosen[SYNC_PIECES_MAX];
        struct sync_message m = {.kind = SYNC_PIECES, .items = items};
        for (; next < s->batch && m.count < SYNC_PIECES_MAX; next++) {
            if (!s->differs[next])
                continue;
            uint8_t *item = items + m.items_size;
            for (unsigned b = 0; b < 8; b++)
                item[b] = (uint8_t)(s->blocks[next] >> (8 * b));
            sync_digest_pieces(block_at(s, next), sync_block_size(s->blocks[next], s->disk_size),
                               item + 8);
            m.items_size += 8 + SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE;
            chosen[m.count++] = next;
        }
        if (m.count == 0)
            break;
        struct sync_message answer;
        rc = say(s, &m, err);
        if (rc == 0)
            rc = hear(s, SYNC_DIFFER_PIECES, &answer, err);
        if (rc == 0 && answer.count != m.count)
            rc = error_set(err, -EPROTO, "the standby answered to other pieces");
        for (unsigned i = 0; rc == 0 && i < m.count; i++)
            rc = send_data(s, chosen[i], sync_item_mask(&answer, i), err);
    }
    free(items);
    return rc;
}

/* Both sides durable: what was compared since the last time need not be compared again. */
static int barrier(struct sync_source *s, struct error *err)
{
    struct sync_message flush = {.kind = SYNC_FLUSH, .cookie = ++s->cookie};
    struct sync_message answer;
    if (s->sent_count == 0)
        return 0;
    int rc = say(s, &flush, err);
    if (rc == 0)
        rc = flush_image(s, err);
    if (rc == 0)
        rc = hear(s, SYNC_DURABLE, &answer, err);
    if (rc == 0 && answer.cookie != s->cookie)
        rc = error_set(err, -EPROTO, "the standby made another moment durable");
    if (rc < 0)
        return rc;
    for (uint64_t b = block_map_next(&s->sent, 0); b != BLOCK_NONE;
         b = block_map_next(&s->sent, b + 1))
        divergence_unmark(s->config.divergence, b, 1);
    block_map_empty(&s->sent);
    s->sent_count = 0;
    return divergence_tidy(s->config.divergence);
}

static int run_batch(struct sync_source *s, struct error *err)
{
    unsigned messages;
    int rc = send_digests(s, &messages, err);
    if (rc == 0)
        rc = hear_differences(s, messages, err);
    if (rc == 0)
        rc = send_differences(s, err);
    for (unsigned i = 0; rc == 0 && i < s->batch; i++)
        block_map_set(&s->sent, s->blocks[i], 1);
    s->sent_count += s->batch;
    return rc;
}

/* No faster than the rate: the guest wants its disk, too. */
static int throttle(struct sync_source *s, nsec_t began, struct error *err)
{
    if (!s->config.rate)
        return 0;
    const uint64_t bytes = (uint64_t)s->batch << BLOCK_SHIFT;
    const nsec_t until = began + (nsec_t)((double)bytes * (double)SEC(1) / (double)s->config.rate);
    return s->channel->ops->pause(s->channel->context, until, err);
}

static int run_batches(struct sync_source *s, struct error *err)
{
    int rc = 0;
    for (uint64_t next = block_map_next(&s->todo, 0); rc == 0 && next != BLOCK_NONE;) {
        const nsec_t began = clock_now();
        for (s->batch = 0; s->batch < BATCH_BLOCKS && next != BLOCK_NONE;
             next = block_map_next(&s->todo, next + 1))
            s->blocks[s->batch++] = next;
        rc = run_batch(s, err);
        if (rc == 0)
            rc = s->channel->ops->drain(s->channel->context, err);
        pthread_mutex_lock(&s->lock);
        s->progress.bytes_done += (uint64_t)s->batch << BLOCK_SHIFT;
        pthread_mutex_unlock(&s->lock);
        if (rc == 0)
            rc = throttle(s, began, err);
        if (rc == 0 && s->sent_count >= BARRIER_BLOCKS)
            rc = barrier(s, err);
    }
    return rc == 0 ? barrier(s, err) : rc;
}

/* ---- the interface ---- */

int sync_source_run(struct sync_source *source, const struct sync_channel *channel,
                    struct error *err)
{
    struct sync_source *s = source;
    s->channel = channel;
    block_map_empty(&s->sent);
    s->sent_count = 0;
    pthread_mutex_lock(&s->lock);
    s->progress = (struct sync_progress){.active = true, .started = clock_now()};
    pthread_mutex_unlock(&s->lock);
    int rc = begin(s, err);
    pthread_mutex_lock(&s->lock);
    s->progress.bytes_total = rc < 0 ? 0 : block_map_population(&s->todo) << BLOCK_SHIFT;
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        rc = run_batches(s, err);
    pthread_mutex_lock(&s->lock);
    s->progress.active = false;
    pthread_mutex_unlock(&s->lock);
    if (rc < 0)
        sync_source_abandon(s);
    return rc;
}

int sync_source_finish(struct sync_source *source, struct error *err)
{
    if (!source->round)
        return 0;
    source->round = false;
    return divergence_round_end(source->config.divergence, source->next_point, err);
}

void sync_source_abandon(struct sync_source *source)
{
    if (source->round)
        divergence_round_drop(source->config.divergence);
    source->round = false;
}

void sync_source_snapshot(struct sync_source *source, struct sync_progress *out)
{
    pthread_mutex_lock(&source->lock);
    *out = source->progress;
    pthread_mutex_unlock(&source->lock);
}

int sync_source_create(const struct sync_source_config *config, struct sync_source **out,
                       struct error *err)
{
    *out = NULL;
    struct sync_source *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "disk synchronisation: out of memory");
    s->config = *config;
    s->disk_size = disk_image_size(disk_volume_image(config->volume));
    const unsigned index = disk_volume_index(config->volume);
    s->geometry.count = index + 1;
    s->geometry.sizes[index] = s->disk_size;
    pthread_mutex_init(&s->lock, NULL);
    const uint64_t blocks = block_count_of(s->disk_size);
    s->buffer = malloc(BATCH_BLOCKS * BLOCK_SIZE);
    s->message = malloc(SYNC_PAYLOAD_MAX);
    s->reply = malloc(SYNC_PAYLOAD_MAX);
    if (!s->buffer || !s->message || !s->reply || block_map_init(&s->todo, blocks) < 0 ||
        block_map_init(&s->sent, blocks) < 0) {
        sync_source_destroy(&s);
        return error_set(err, -ENOMEM, "disk synchronisation: out of memory");
    }
    *out = s;
    return 0;
}

void sync_source_destroy(struct sync_source **source)
{
    struct sync_source *s = *source;
    if (!s)
        return;
    sync_source_abandon(s);
    block_map_free(&s->todo);
    block_map_free(&s->sent);
    free(s->buffer);
    free(s->message);
    free(s->reply);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *source = NULL;
}
