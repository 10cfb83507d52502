#include "checkpoint/capture.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/page_copy.h"

/* About what a core's own cache keeps until the sender reads it. */
#define NEAR_PAGES 256

/* Of one disk frame, record headers and data. */
#define DISK_PARTS 512

struct capture *capture_create(size_t max_chunks)
{
    struct capture *capture = calloc(1, sizeof(*capture));
    if (!capture)
        return NULL;
    capture->chunk_capacity = max_chunks;
    capture->page_capacity = max_chunks * PAGE_BATCH_MAX;
    capture->gfns = calloc(capture->page_capacity, sizeof(*capture->gfns));
    capture->chunks = calloc(capture->chunk_capacity, sizeof(*capture->chunks));
    capture->state = section_set_create();
    if (!capture->gfns || !capture->chunks || !capture->state)
        capture_destroy(&capture);
    return capture;
}

void capture_destroy(struct capture **capture)
{
    struct capture *c = *capture;
    if (!c)
        return;
    assert(c->chunk_count == 0 && !c->disk_batch);
    section_set_destroy(&c->state);
    free(c->gfns);
    free(c->chunks);
    free(c);
    *capture = NULL;
}

size_t capture_chunks_for(uint64_t pages)
{
    return (size_t)((pages + PAGE_BATCH_MAX - 1) / PAGE_BATCH_MAX);
}

int capture_pages(struct capture *capture, struct gmem *memory, const struct dirty_set *set,
                  uint64_t *next, size_t max_chunks, bool running, struct slab *slab)
{
    int rc = 0;
    uint64_t index = dirty_set_next(set, *next);
    while (index < set->page_count) {
        const size_t slot = capture->page_count % PAGE_BATCH_MAX;
        if (slot == 0) {
            if (capture->chunk_count == max_chunks ||
                capture->chunk_count == capture->chunk_capacity)
                break;
            uint8_t *chunk = slab_take(slab);
            if (!chunk) {
                rc = -ENOBUFS;
                break;
            }
            capture->chunks[capture->chunk_count++] = chunk;
        }
        const gfn_t gfn = gmem_gfn_at(memory, index);
        uint8_t *copy = capture->chunks[capture->chunk_count - 1] + slot * PAGE_SIZE;
        if (running)
            gmem_copy_page(memory, gfn, copy);
        else if (capture->page_count < NEAR_PAGES)
            page_copy_near(copy, gmem_page(memory, gfn));
        else
            page_copy_far(copy, gmem_page(memory, gfn));
        capture->gfns[capture->page_count++] = gfn;
        index = dirty_set_next(set, index + 1);
    }
    page_copy_far_done();
    *next = index;
    return rc;
}

static int send_bulk(struct link *link, struct frame *frame, const struct iovec *parts, int count,
                     struct epoch_digest *digest, struct capture_sent *sent, struct error *err)
{
    const nsec_t start = clock_now();
    const int rc = link_send_frame(link, frame, parts, count, err);
    sent->sending += clock_now() - start;
    if (rc < 0)
        return rc;
    epoch_digest_add(digest, frame);
    sent->frames++;
    sent->bytes += frame->size;
    return 0;
}

int capture_send_pages(const struct capture *capture, struct page_encoder *encoder, bool passing,
                       struct link *link, term_t term, struct epoch_digest *digest,
                       struct capture_sent *sent, struct error *err)
{
    struct encoded_batch batch;
    for (size_t first = 0; first < capture->page_count; first += PAGE_BATCH_MAX) {
        const size_t left = capture->page_count - first;
        const size_t count = left < PAGE_BATCH_MAX ? left : PAGE_BATCH_MAX;
        page_encoder_encode(encoder, capture->gfns + first, capture->chunks[first / PAGE_BATCH_MAX],
                            count, passing, &batch);
        sent->pages += count;
        sent->zero_pages += batch.zero_pages;
        struct frame frame = {.type = FRAME_PAGES, .term = term, .epoch = capture->epoch};
        const nsec_t before = sent->sending;
        const int rc = send_bulk(link, &frame, batch.parts, batch.part_count, digest, sent, err);
        if (rc < 0)
            return rc;
        link_cost_sent(page_encoder_link_cost(encoder), frame.size, sent->sending - before);
    }
    return 0;
}

int capture_send_state(const struct capture *capture, struct state_encoder *encoder,
                       struct link *link, term_t term, struct epoch_digest *digest,
                       struct capture_sent *sent, uint64_t *state_bytes, struct error *err)
{
    const uint8_t *bytes;
    size_t size;
    const int encoded = state_encoder_encode(encoder, capture->state, &bytes, &size, err);
    if (encoded < 0)
        return encoded;
    *state_bytes = size;
    for (size_t sent_bytes = 0; sent_bytes < size;) {
        const size_t left = size - sent_bytes;
        struct iovec part = {(uint8_t *)(uintptr_t)bytes + sent_bytes,
                             left < SLAB_CHUNK_SIZE ? left : SLAB_CHUNK_SIZE};
        struct frame frame = {.type = FRAME_STATE, .term = term, .epoch = capture->epoch};
        const int rc = send_bulk(link, &frame, &part, 1, digest, sent, err);
        if (rc < 0)
            return rc;
        sent_bytes += part.iov_len;
    }
    return 0;
}

int capture_send_disk_parts(const struct iovec *parts, int count, struct link *link, term_t term,
                            epoch_t epoch, struct epoch_digest *digest, struct capture_sent *sent,
                            struct error *err)
{
    struct frame frame = {.type = FRAME_DISK, .term = term, .epoch = epoch};
    const int rc = send_bulk(link, &frame, parts, count, digest, sent, err);
    sent->disk_bytes += rc == 0 ? frame.size : 0;
    return rc;
}

int capture_send_disks(const struct checkpoint_disks *disks, void *batch, struct link *link,
                       term_t term, epoch_t epoch, struct epoch_digest *digest,
                       struct capture_sent *sent, struct error *err)
{
    struct iovec parts[DISK_PARTS];
    int count = 0, rc = 0;
    while (batch && rc == 0 &&
           (count = disks->ops->payload(disks->context, batch, parts, DISK_PARTS)) > 0)
        rc = capture_send_disk_parts(parts, count, link, term, epoch, digest, sent, err);
    if (count < 0)
        rc = error_set(err, count,
                       "the guest's disks wrote more while it was stopped than the log takes");
    return rc;
}

void capture_give_back(const struct capture *capture, const struct gmem *memory,
                       struct dirty_set *set)
{
    for (size_t i = 0; i < capture->page_count; i++) {
        uint64_t index = 0;
        if (gmem_index_of(memory, capture->gfns[i], &index))
            dirty_set_add(set, index);
    }
}

void capture_recycle(struct capture *capture, struct slab *slab)
{
    while (capture->chunk_count)
        slab_give(slab, capture->chunks[--capture->chunk_count]);
    capture->page_count = 0;
    section_set_reset(capture->state);
}
