#include "disk/sync_target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/sync_digest.h"

struct sync_target {
    struct sync_target_config config;
    uint64_t disk_size;
    bool failed;  /* the image did, in this handling */
    bool started; /* START was taken on this link: the image may be overwritten */
    uint8_t *block;
    uint8_t *message; /* SYNC_PAYLOAD_MAX, outgoing */
};

static unsigned index_of(const struct sync_target *t)
{
    return disk_volume_index(t->config.volume);
}

static int say(struct sync_target *t, struct sync_message *m, const struct sync_channel *channel,
               struct error *err)
{
    m->disk = index_of(t);
    const size_t size = sync_encode(m, t->message, SYNC_PAYLOAD_MAX);
    return channel->ops->send(channel->context, t->message, size, err);
}

/* ---- the image ---- */

/* Of the image: 0, or the error with its sentence. */
static int judge(struct sync_target *t, int rc, struct error *err, const char *what, uint64_t size,
                 uint64_t offset)
{
    if (rc == 0)
        return 0;
    t->failed = true;
    return error_set(err, rc, "disk %u: %s %llu bytes at %llu failed: %s", index_of(t), what,
                     (unsigned long long)size, (unsigned long long)offset, strerror(-rc));
}

static int read_block(struct sync_target *t, uint64_t block, struct error *err)
{
    struct disk_io io = {.op = DISK_READ,
                         .offset = block << BLOCK_SHIFT,
                         .size = sync_block_size(block, t->disk_size),
                         .data = t->block};
    const int rc = disk_image_perform(disk_volume_image(t->config.volume), &io);
    return judge(t, rc, err, "comparing", io.size, io.offset);
}

static int change(struct sync_target *t, struct disk_io io, struct error *err)
{
    struct disk_request request = {.io = io};
    const int rc = disk_volume_perform(t->config.volume, &request);
    return judge(t, rc, err, io.op == DISK_FLUSH ? "flushing" : "synchronising", io.size,
                 io.offset);
}

static int flush(struct sync_target *t, struct error *err)
{
    return change(t, (struct disk_io){.op = DISK_FLUSH}, err);
}

/* ---- messages ---- */

static int send_marks(struct sync_target *t, const struct sync_channel *channel, struct error *err)
{
    uint8_t bits[SYNC_MARKS_MAX];
    struct block_map map;
    int rc = block_map_init(&map, block_count_of(t->disk_size));
    if (rc < 0)
        return error_set(err, rc, "disk synchronisation: out of memory");
    divergence_marks(t->config.divergence, &map);
    for (uint64_t at = 0; rc == 0 && at < map.count;) {
        const uint64_t left = (map.count - at + 7) / 8;
        const size_t size = (size_t)(left < sizeof(bits) ? left : sizeof(bits));
        block_map_get_bytes(&map, at, bits, size);
        struct sync_message m = {.kind = SYNC_MARKS,
                                 .block = at,
                                 .count = (uint32_t)size,
                                 .items = bits,
                                 .items_size = size};
        rc = say(t, &m, channel, err);
        at += 8 * (uint64_t)size;
    }
    block_map_free(&map);
    return rc;
}

static int on_ask(struct sync_target *t, const struct sync_channel *channel, struct error *err)
{
    struct sync_message m = {.kind = SYNC_STATE};
    const struct pairing_side side = divergence_side(t->config.divergence, &m.lineage);
    m.known = side.lineage != NULL;
    m.trusted = m.known && side.trusted;
    t->started = false;
    const int rc = say(t, &m, channel, err);
    return rc == 0 && m.trusted ? send_marks(t, channel, err) : rc;
}

static int on_start(struct sync_target *t, const struct sync_message *m,
                    const struct sync_channel *channel, struct error *err)
{
    const int rc = divergence_target(t->config.divergence, &m->lineage, err);
    if (rc < 0)
        return rc;
    t->started = true;
    return say(t, &(struct sync_message){.kind = SYNC_READY}, channel, err);
}

static int on_digests(struct sync_target *t, const struct sync_message *m,
                      const struct sync_channel *channel, struct error *err)
{
    uint8_t bits[SYNC_DIGESTS_MAX / 8] = {0};
    for (uint32_t i = 0; i < m->count; i++) {
        uint8_t digest[SYNC_DIGEST_SIZE];
        const uint64_t block = sync_item_block(m, i);
        const int rc = read_block(t, block, err);
        if (rc < 0)
            return rc;
        sync_digest(t->block, sync_block_size(block, t->disk_size), digest);
        if (memcmp(digest, sync_item_digests(m, i), sizeof(digest)) != 0)
            bits[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    struct sync_message answer = {.kind = SYNC_DIFFER, .count = (m->count + 7) / 8, .items = bits};
    answer.items_size = answer.count;
    return say(t, &answer, channel, err);
}

static int on_pieces(struct sync_target *t, const struct sync_message *m,
                     const struct sync_channel *channel, struct error *err)
{
    uint8_t masks[SYNC_PIECES_MAX * 2];
    uint8_t digests[SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE];
    for (uint32_t i = 0; i < m->count; i++) {
        const uint64_t block = sync_item_block(m, i);
        const int rc = read_block(t, block, err);
        if (rc < 0)
            return rc;
        sync_digest_pieces(t->block, sync_block_size(block, t->disk_size), digests);
        uint16_t mask = 0;
        for (unsigned p = 0; p < SYNC_BLOCK_PIECES; p++)
            if (memcmp(digests + p * SYNC_DIGEST_SIZE,
                       sync_item_digests(m, i) + p * SYNC_DIGEST_SIZE, SYNC_DIGEST_SIZE) != 0)
                mask |= (uint16_t)(1u << p);
        masks[2 * i] = (uint8_t)mask;
        masks[2 * i + 1] = (uint8_t)(mask >> 8);
    }
    struct sync_message answer = {.kind = SYNC_DIFFER_PIECES,
                                  .count = m->count,
                                  .items = masks,
                                  .items_size = (size_t)m->count * 2};
    return say(t, &answer, channel, err);
}

static int on_data(struct sync_target *t, const struct sync_message *m, struct error *err)
{
    const size_t size = sync_block_size(m->block, t->disk_size);
    const uint8_t *data = m->items;
    int rc = 0;
    for (unsigned p = 0; rc == 0 && p < SYNC_BLOCK_PIECES; p++) {
        const bool zero = m->zero_mask >> p & 1;
        if (!zero && !(m->data_mask >> p & 1))
            continue;
        struct disk_io io = {.op = zero ? DISK_WRITE_ZEROES : DISK_WRITE,
                             .may_unmap = zero,
                             .offset = (m->block << BLOCK_SHIFT) + p * SYNC_PIECE_SIZE,
                             .size = sync_piece_size(p, size),
                             .data = zero ? NULL : (uint8_t *)(uintptr_t)data};
        rc = change(t, io, err);
        data += zero ? 0 : SYNC_PIECE_SIZE;
    }
    return rc;
}

static int on_flush(struct sync_target *t, const struct sync_message *m,
                    const struct sync_channel *channel, struct error *err)
{
    const int rc = flush(t, err);
    struct sync_message answer = {.kind = SYNC_DURABLE, .cookie = m->cookie};
    return rc < 0 ? rc : say(t, &answer, channel, err);
}

int sync_target_handle(struct sync_target *target, const struct sync_message *message,
                       const struct sync_channel *channel, struct error *err)
{
    const enum sync_kind kind = message->kind;
    target->failed = false;
    if (kind == SYNC_ASK)
        return on_ask(target, channel, err);
    if (kind == SYNC_START)
        return on_start(target, message, channel, err);
    if (kind >= SYNC_STATE || kind == SYNC_ROUND)
        return error_set(err, -EBADMSG, "disk %u: the primary sent \"%s\"", index_of(target),
                         sync_kind_name(kind));
    if (!target->started)
        return error_set(err, -EPROTO, "disk %u: \"%s\" came before \"start\"", index_of(target),
                         sync_kind_name(kind));
    switch (kind) {
    case SYNC_DIGESTS:
        return on_digests(target, message, channel, err);
    case SYNC_PIECES:
        return on_pieces(target, message, channel, err);
    case SYNC_DATA:
        return on_data(target, message, err);
    default:
        return on_flush(target, message, channel, err);
    }
}

bool sync_target_failed(const struct sync_target *target)
{
    return target->failed;
}

void sync_target_restart(struct sync_target *target)
{
    target->started = false;
}

int sync_target_in_step(struct sync_target *target, term_t term, struct error *err)
{
    if (!target->started)
        return 0;
    target->started = false;
    const int rc = flush(target, err);
    return rc < 0 ? rc : divergence_in_step(target->config.divergence, term, err);
}

int sync_target_create(const struct sync_target_config *config, struct sync_target **out,
                       struct error *err)
{
    *out = NULL;
    struct sync_target *t = calloc(1, sizeof(*t));
    if (t) {
        t->config = *config;
        t->disk_size = disk_image_size(disk_volume_image(config->volume));
        t->block = malloc(BLOCK_SIZE);
        t->message = malloc(SYNC_PAYLOAD_MAX);
    }
    if (!t || !t->block || !t->message) {
        sync_target_destroy(&t);
        return error_set(err, -ENOMEM, "disk synchronisation: out of memory");
    }
    *out = t;
    return 0;
}

void sync_target_destroy(struct sync_target **target)
{
    if (!*target)
        return;
    free((*target)->block);
    free((*target)->message);
    free(*target);
    *target = NULL;
}
