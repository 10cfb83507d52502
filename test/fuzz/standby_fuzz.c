/* A hostile primary: whatever it sends on a session, the standby ends the session or goes on, gives
 * all staging memory back, and never becomes promotable by an epoch whose state does not load.
 *
 * The input is a script, one deed after the other:
 *   0 kind epoch             EpochBegin
 *   1 epoch lie              EpochEnd, true but for the bits of `lie`
 *   2 type epoch size bytes  a frame of any type with these bytes (size: two bytes, little-endian)
 *   3 epoch first count      a well-formed PAGES frame of zero pages
 *   4 epoch                  a STATE frame that loads
 *   5 epoch first fill       a PAGES frame of three pages as the encoder makes it
 * Digests of frames are always right: damage on the way is the link's business, and its fuzzer's.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/wire.h"
#include "checkpoint/epoch_digest.h"
#include "checkpoint/page_cache.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/page_encoder.h"
#include "secondary/standby.h"
#include "test/support/fake_machine.h"
#include "transport/inproc.h"

#define MEMORY ((uint64_t)2 << 20)
#define TERM   1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slab *slab;
static struct fake_machine *machine;
static struct page_encoder *encoder;

/* The books of an honest primary. */
struct primary {
    struct link *link;
    struct epoch_digest *digest;
    struct message_epoch_end end;
    struct page_encoder *encoder;
};

static void on_event(void *context, enum standby_event event, const struct error *why)
{
    (void)context;
    (void)event;
    (void)why;
}

static void set_up(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    machine = fake_machine_create(&(struct fake_machine_config){.memory = MEMORY});
    const struct page_encoder_config config = {.mode = PAGE_ENCODER_SMALLEST,
                                               .cache_size = PAGE_CACHE_SIZE_MIN,
                                               .memory =
                                                   fake_machine_ops(machine).ops->memory(machine)};
    if (slab_create(SLAB_SIZE_MIN, &slab, NULL) < 0 ||
        page_encoder_create(&config, &encoder, NULL) < 0)
        abort();
}

static void send_bulk(struct primary *p, enum frame_type type, epoch_t epoch, const void *bytes,
                      size_t size)
{
    struct frame frame = {.type = type, .term = TERM, .epoch = epoch};
    const struct iovec part = {(void *)(uintptr_t)bytes, size};
    if (link_send_frame(p->link, &frame, &part, 1, NULL) < 0)
        return;
    epoch_digest_add(p->digest, &frame);
    p->end.frames++;
    p->end.bytes += size;
    p->end.pages += type == FRAME_PAGES;
}

static void begin(struct primary *p, enum message_epoch_kind kind, epoch_t epoch)
{
    const struct message m = {.kind = MESSAGE_EPOCH_BEGIN, .epoch_begin = {.kind = kind}};
    message_send(p->link, TERM, epoch, &m, NULL);
    epoch_digest_reset(p->digest);
    memset(&p->end, 0, sizeof(p->end));
}

static void end(struct primary *p, epoch_t epoch, uint8_t lie)
{
    struct message m = {.kind = MESSAGE_EPOCH_END, .epoch_end = p->end};
    epoch_digest_result(p->digest, m.epoch_end.digest);
    m.epoch_end.pages += lie & 1;
    m.epoch_end.state_bytes += lie >> 1 & 1;
    m.epoch_end.digest[0] ^= lie >> 2;
    message_send(p->link, TERM, epoch, &m, NULL);
}

static void send_pages(struct primary *p, epoch_t epoch, gfn_t first, size_t count)
{
    gfn_t gfns[256];
    uint8_t encodings[256];
    uint8_t header[8 + 256 * 8];
    for (size_t i = 0; i < count; i++) {
        gfns[i] = first + i;
        encodings[i] = PAGE_ENCODING_ZERO;
    }
    if (count > PAGE_BATCH_MAX)
        return;
    send_bulk(p, FRAME_PAGES, epoch, header,
              page_batch_encode_header(gfns, encodings, count, header));
    p->end.pages += count - 1;
    p->end.zero_pages += count;
}

/* What it refers to is true unless the script went behind the encoder's back. */
static void send_encoded(struct primary *p, epoch_t epoch, gfn_t first, uint8_t fill)
{
    static uint8_t pages[3 * PAGE_SIZE];
    memset(pages, fill, PAGE_SIZE);
    for (size_t i = 0; i < PAGE_SIZE; i++)
        pages[PAGE_SIZE + i] = (uint8_t)(i * fill + i / 7);
    pages[2 * PAGE_SIZE + fill] ^= 1;
    const gfn_t gfns[] = {first, first + 1, first + 2};
    struct encoded_batch batch;
    page_encoder_encode(p->encoder, gfns, pages, 3, false, &batch);
    static uint8_t bytes[PAGE_BATCH_PAYLOAD_MAX];
    size_t size = 0;
    for (int i = 0; i < batch.part_count; i++) {
        memcpy(bytes + size, batch.parts[i].iov_base, batch.parts[i].iov_len);
        size += batch.parts[i].iov_len;
    }
    send_bulk(p, FRAME_PAGES, epoch, bytes, size);
    p->end.pages += 2;
    p->end.zero_pages += batch.zero_pages;
}

static void send_state(struct primary *p, epoch_t epoch)
{
    struct section_set *set = section_set_create();
    section_set_add(set, "steps", 0, 1, 8);
    uint8_t bytes[256];
    const int size = section_set_encode(set, bytes, sizeof(bytes));
    section_set_destroy(&set);
    send_bulk(p, FRAME_STATE, epoch, bytes, (size_t)size);
    p->end.state_bytes += (size_t)size;
}

static void play(struct primary *p, struct wire_reader *script)
{
    while (!script->bad && script->used < script->size) {
        const uint8_t deed = wire_get_u8(script) % 6;
        const uint8_t first = deed == 0 || deed == 2 ? wire_get_u8(script) : 0;
        const epoch_t epoch = wire_get_u8(script);
        if (deed == 0) {
            begin(p, first & 1 ? MESSAGE_EPOCH_FULL : MESSAGE_EPOCH_INCREMENTAL, epoch);
        } else if (deed == 1) {
            end(p, epoch, wire_get_u8(script));
        } else if (deed == 2) {
            const size_t wanted = wire_get_u16(script);
            const size_t left = script->size - script->used;
            const size_t size = wanted < left ? wanted : left;
            send_bulk(p, (enum frame_type)(1 + first % 4), epoch, wire_get_view(script, size),
                      size);
        } else if (deed == 3) {
            const gfn_t gfn = wire_get_u8(script) * 3u;
            send_pages(p, epoch, gfn, wire_get_u8(script));
        } else if (deed == 5) {
            const gfn_t gfn = wire_get_u8(script);
            send_encoded(p, epoch, gfn, wire_get_u8(script));
        } else {
            send_state(p, epoch);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!slab)
        set_up();
    struct standby *standby;
    const struct standby_config config = {
        .machine = fake_machine_ops(machine), .slab = slab, .event = on_event};
    struct link *ends[2];
    if (standby_create(&config, &standby, NULL) < 0 || inproc_pair("fuzz", ends, NULL) < 0 ||
        standby_follow(standby, ends[1], TERM, NULL) < 0)
        abort();
    struct primary primary = {.link = ends[0], .digest = epoch_digest_create(), .encoder = encoder};
    page_encoder_begin_link(encoder, true, 1);
    struct wire_reader script = {.bytes = data, .size = size};
    play(&primary, &script);
    link_destroy(&primary.link);
    standby_unfollow(standby);
    struct standby_stats stats;
    standby_snapshot(standby, &stats);
    struct standby_takeover takeover;
    const int rc = standby_promote(standby, &takeover, NULL);
    assert(rc == (stats.promotable ? 0 : -ENODATA));
    standby_destroy(&standby);
    epoch_digest_destroy(&primary.digest);
    assert(slab_free_count(slab) == slab_chunk_count(slab));
    return 0;
}
