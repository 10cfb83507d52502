#include "secondary/stage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoint/epoch_digest.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/state_codec.h"
#include "transport/session.h"

/* Of the slab: one for the frame that arrives, one for the state. */
#define SPARE_CHUNKS 2

struct stage {
    struct gmem *memory;
    struct slab *slab;
    void (*settle)(void *context);
    void *settle_context;
    struct checkpoint_disks disks;
    struct epoch_digest *digest;

    bool filling;
    epoch_t epoch;
    enum message_epoch_kind kind;
    uint64_t pages;
    uint64_t zero_pages;
    uint64_t frames;
    uint64_t bytes;
    uint64_t disk_bytes;
    bool has_last; /* ascending order over the batches of an incremental epoch */
    gfn_t last_gfn;
    struct staged_batch *batches;
    size_t batch_count;
    size_t batch_capacity;
    size_t spill_from; /* batches from this one on are not kept in the slab */
    uint8_t *state;    /* encoded sections, gathered from their frames */
    size_t state_size;
    size_t state_capacity;
    uint8_t *base; /* the plain state of the last whole epoch on this link, or NULL */
    size_t base_size;
};

int stage_create(struct gmem *memory, struct slab *slab, void (*settle)(void *context),
                 void *context, const struct checkpoint_disks *disks, struct stage **out,
                 struct error *err)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    if (stage) {
        stage->memory = memory;
        stage->slab = slab;
        stage->settle = settle;
        stage->settle_context = context;
        stage->disks = *disks;
        const size_t chunks = slab_chunk_count(slab);
        stage->spill_from = chunks > SPARE_CHUNKS ? chunks - SPARE_CHUNKS : 1;
        stage->batch_capacity = stage->spill_from + SESSION_SPILL_BATCHES;
        stage->digest = epoch_digest_create();
        stage->batches = calloc(stage->batch_capacity, sizeof(*stage->batches));
    }
    *out = stage;
    if (stage && stage->digest && stage->batches)
        return 0;
    stage_destroy(out);
    return error_set(err, -ENOMEM, "stage: out of memory");
}

void stage_destroy(struct stage **stage)
{
    struct stage *s = *stage;
    if (!s)
        return;
    if (s->filling)
        stage_drop(s);
    epoch_digest_destroy(&s->digest);
    free(s->batches);
    free(s->state);
    free(s->base);
    free(s);
    *stage = NULL;
}

bool stage_is_filling(const struct stage *stage)
{
    return stage->filling;
}

epoch_t stage_epoch(const struct stage *stage)
{
    return stage->epoch;
}

enum message_epoch_kind stage_kind(const struct stage *stage)
{
    return stage->kind;
}

int stage_begin(struct stage *stage, epoch_t epoch, enum message_epoch_kind kind, struct error *err)
{
    if (stage->filling)
        return error_set(err, -EPROTO, "epoch %llu begins inside epoch %llu",
                         (unsigned long long)epoch, (unsigned long long)stage->epoch);
    stage->filling = true;
    stage->epoch = epoch;
    stage->kind = kind;
    stage->pages = stage->zero_pages = stage->frames = stage->bytes = stage->disk_bytes = 0;
    stage->has_last = false;
    stage->state_size = 0;
    epoch_digest_reset(stage->digest);
    return 0;
}

/* Takes over `chunk` on success. */
static int add_pages(struct stage *stage, const struct frame *frame, uint8_t *chunk,
                     struct error *err)
{
    const bool incremental = stage->kind == MESSAGE_EPOCH_INCREMENTAL;
    struct page_batch batch;
    int rc = page_batch_decode(&batch, chunk, frame->size, stage->memory,
                               incremental && stage->has_last, stage->last_gfn, err);
    if (rc == 0 && page_batch_depends(&batch) && stage->settle)
        stage->settle(stage->settle_context);
    if (rc == 0)
        rc = page_batch_verify(&batch, stage->memory, err);
    if (rc < 0)
        return rc;
    if (incremental && stage->batch_count == stage->batch_capacity)
        return error_set(err, -ENOBUFS, "epoch %llu outgrows the staging memory",
                         (unsigned long long)stage->epoch);
    const bool spills = incremental && stage->batch_count >= stage->spill_from;
    uint8_t *spilled = spills ? malloc(frame->size) : NULL;
    if (spills && !spilled)
        return error_set(err, -ENOMEM, "stage: out of memory for an oversize epoch");
    stage->has_last = true;
    stage->last_gfn = batch.last;
    stage->pages += batch.count;
    stage->zero_pages += page_batch_zero_count(&batch);
    if (incremental)
        stage->batches[stage->batch_count++] = (struct staged_batch){
            .chunk = spills ? spilled : chunk, .size = frame->size, .spilled = spills};
    if (spills) {
        memcpy(spilled, chunk, frame->size);
        slab_give(stage->slab, chunk);
    }
    if (incremental)
        return 0;
    page_batch_apply(&batch, stage->memory);
    slab_give(stage->slab, chunk);
    return 0;
}

static int add_state(struct stage *stage, const struct frame *frame, uint8_t *chunk,
                     struct error *err)
{
    if (stage->kind != MESSAGE_EPOCH_INCREMENTAL)
        return error_set(err, -EPROTO, "state inside a full synchronisation");
    if (frame->size > STATE_SIZE_MAX - stage->state_size)
        return error_set(err, -EBADMSG, "state of more than %u bytes", STATE_SIZE_MAX);
    const size_t needed = stage->state_size + frame->size;
    if (needed > stage->state_capacity) {
        uint8_t *grown = realloc(stage->state, needed);
        if (!grown)
            return error_set(err, -ENOMEM, "stage: out of memory for the state");
        stage->state = grown;
        stage->state_capacity = needed;
    }
    memcpy(stage->state + stage->state_size, chunk, frame->size);
    stage->state_size = needed;
    slab_give(stage->slab, chunk);
    return 0;
}

static int add_disk(struct stage *stage, const struct frame *frame, uint8_t *chunk,
                    struct error *err)
{
    const struct checkpoint_disks *d = &stage->disks;
    if (!d->ops)
        return error_set(err, -EPROTO, "disk writes for a machine without replicated disks");
    const int rc = d->ops->stage(d->context, chunk, frame->size, err);
    if (rc < 0)
        return rc;
    if (stage->kind != MESSAGE_EPOCH_INCREMENTAL)
        d->ops->commit(d->context);
    stage->disk_bytes += frame->size;
    slab_give(stage->slab, chunk);
    return 0;
}

int stage_add(struct stage *stage, const struct frame *frame, uint8_t *chunk, struct error *err)
{
    int rc;
    if (!stage->filling || frame->epoch != stage->epoch)
        rc = error_set(err, -EPROTO, "%s frame of epoch %llu outside of it",
                       frame_type_name(frame->type), (unsigned long long)frame->epoch);
    else if (frame->type == FRAME_PAGES)
        rc = add_pages(stage, frame, chunk, err);
    else if (frame->type == FRAME_STATE)
        rc = add_state(stage, frame, chunk, err);
    else if (frame->type == FRAME_DISK)
        rc = add_disk(stage, frame, chunk, err);
    else
        rc = error_set(err, -EPROTO, "%s frames are not expected here",
                       frame_type_name(frame->type));
    if (rc < 0) {
        slab_give(stage->slab, chunk);
        return rc;
    }
    stage->frames++;
    stage->bytes += frame->size;
    epoch_digest_add(stage->digest, frame);
    return 0;
}

static int compare_end(struct stage *stage, const struct message_epoch_end *end, struct error *err)
{
    const struct {
        const char *what;
        uint64_t announced;
        uint64_t arrived;
    } counts[] = {
        {"pages", end->pages, stage->pages},
        {"zero pages", end->zero_pages, stage->zero_pages},
        {"frames", end->frames, stage->frames},
        {"bytes", end->bytes, stage->bytes},
        {"bytes of state", end->state_bytes, stage->state_size},
        {"bytes of disk writes", end->disk_bytes, stage->disk_bytes},
    };
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        if (counts[i].announced != counts[i].arrived)
            return error_set(err, -EBADMSG, "epoch %llu: %llu %s announced, %llu arrived",
                             (unsigned long long)stage->epoch,
                             (unsigned long long)counts[i].announced, counts[i].what,
                             (unsigned long long)counts[i].arrived);
    uint8_t digest[MESSAGE_DIGEST_SIZE];
    epoch_digest_result(stage->digest, digest);
    if (memcmp(digest, end->digest, sizeof(digest)) != 0)
        return error_set(err, -EBADMSG, "epoch %llu: digest differs",
                         (unsigned long long)stage->epoch);
    return 0;
}

/* Makes the plain state out of what came: a copy of its own. */
static int make_plain(const struct stage *stage, uint8_t **plain, size_t *size, struct error *err)
{
    const bool relative = state_is_relative(stage->state, stage->state_size);
    const int needed =
        relative ? state_check_relative(stage->base_size, stage->state, stage->state_size, err)
                 : (int)stage->state_size;
    if (needed < 0)
        return needed;
    *size = (size_t)needed;
    *plain = malloc(*size + 1);
    if (!*plain)
        return error_set(err, -ENOMEM, "stage: out of memory for the state");
    if (relative)
        return state_decode_relative(stage->base, stage->state, stage->state_size, *plain, err);
    if (*size)
        memcpy(*plain, stage->state, *size);
    return 0;
}

static int decode_state(struct stage *stage, struct staged_epoch *out, struct error *err)
{
    if (stage->kind != MESSAGE_EPOCH_INCREMENTAL)
        return 0;
    uint8_t *plain = NULL;
    size_t size = 0;
    int rc = make_plain(stage, &plain, &size, err);
    out->state = section_set_create();
    if (rc == 0 && !out->state)
        rc = error_set(err, -ENOMEM, "stage: out of memory");
    if (rc == 0)
        rc = section_set_decode(out->state, plain, size, err);
    if (rc < 0) {
        free(plain);
        section_set_destroy(&out->state);
        return rc;
    }
    free(stage->base);
    stage->base = plain;
    stage->base_size = size;
    return 0;
}

int stage_finish(struct stage *stage, epoch_t epoch, const struct message_epoch_end *end,
                 struct staged_epoch *out, struct error *err)
{
    *out = (struct staged_epoch){
        .epoch = epoch, .kind = stage->kind, .pages = stage->pages, .received_at = clock_now()};
    if (!stage->filling || epoch != stage->epoch)
        return error_set(err, -EPROTO, "end of epoch %llu outside of it",
                         (unsigned long long)epoch);
    int rc = compare_end(stage, end, err);
    if (rc < 0)
        return rc;
    struct staged_batch *batches = calloc(stage->batch_count + 1, sizeof(*batches));
    if (!batches)
        return error_set(err, -ENOMEM, "stage: out of memory");
    rc = decode_state(stage, out, err);
    if (rc < 0) {
        free(batches);
        return rc;
    }
    memcpy(batches, stage->batches, stage->batch_count * sizeof(*batches));
    out->batches = batches;
    out->batch_count = stage->batch_count;
    stage->batch_count = 0;
    stage->filling = false;
    return 0;
}

void stage_begin_link(struct stage *stage)
{
    assert(!stage->filling);
    free(stage->base);
    stage->base = NULL;
    stage->base_size = 0;
}

static void recycle_batch(const struct staged_batch *batch, struct slab *slab)
{
    if (batch->spilled)
        free(batch->chunk);
    else
        slab_give(slab, batch->chunk);
}

void stage_drop(struct stage *stage)
{
    while (stage->batch_count)
        recycle_batch(&stage->batches[--stage->batch_count], stage->slab);
    if (stage->disks.ops)
        stage->disks.ops->drop(stage->disks.context);
    stage->filling = false;
}

void staged_epoch_apply(const struct staged_epoch *epoch, struct gmem *memory)
{
    for (size_t i = 0; i < epoch->batch_count; i++) {
        struct page_batch batch;
        const int rc = page_batch_decode(&batch, epoch->batches[i].chunk, epoch->batches[i].size,
                                         memory, false, 0, NULL);
        assert(rc == 0);
        (void)rc;
        page_batch_apply(&batch, memory);
    }
}

void staged_epoch_recycle(struct staged_epoch *epoch, struct slab *slab)
{
    for (size_t i = 0; i < epoch->batch_count; i++)
        recycle_batch(&epoch->batches[i], slab);
    free(epoch->batches);
    section_set_destroy(&epoch->state);
    *epoch = (struct staged_epoch){0};
}
