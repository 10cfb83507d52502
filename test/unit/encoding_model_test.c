/* A primary, its standbys, and everything that goes wrong between them: whatever is lost on the
 * way, what a standby applies is what the guest had. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/page_cache.h"
#include "checkpoint/page_encoder.h"
#include "test/support/page_samples.h"
#include "test/support/runner.h"

#define MODEL_FLIGHT 6

struct model_epoch {
    struct page_samples_batch batch;
    bool any;                         /* an epoch without pages has no batch */
    uint8_t after[PAGE_SAMPLES_SIZE]; /* the guest at the cut */
};

struct model {
    struct gmem *guest;
    struct gmem *standby;
    struct page_encoder *encoder;
    bool dirty[PAGE_SAMPLES];
    struct model_epoch *flight; /* sent, not yet arrived; oldest first */
    size_t flight_count;
    struct model_epoch *staged; /* arrived and acknowledged, not yet applied */
    size_t staged_count;
    uint8_t older[PAGE_SAMPLES][PAGE_SIZE]; /* contents that pages return to */
    unsigned refused;
};

static void touch_page(struct model *m, gfn_t gfn)
{
    uint8_t *page = gmem_page(m->guest, gfn);
    m->dirty[gfn] = true;
    switch (page_samples_draw() % 8) {
    case 0:
        page_samples_random(page);
        break;
    case 1:
        memset(page, 0, PAGE_SIZE);
        break;
    case 2:
        page_samples_text(page);
        break;
    case 3:
        memcpy(m->older[gfn], page, PAGE_SIZE);
        break;
    case 4: /* as it was once */
        memcpy(page, m->older[gfn], PAGE_SIZE);
        break;
    case 5: /* dirty, and the same */
        break;
    default:
        for (uint64_t i = page_samples_draw() % 40; i; i--)
            page[page_samples_draw() % PAGE_SIZE] = (uint8_t)page_samples_draw();
    }
}

static void cut_and_send(struct model *m)
{
    if (m->flight_count == MODEL_FLIGHT)
        return;
    static uint8_t pages[PAGE_BATCH_MAX * PAGE_SIZE];
    gfn_t gfns[PAGE_BATCH_MAX];
    size_t count = 0;
    for (gfn_t gfn = 0; gfn < PAGE_SAMPLES && count < PAGE_BATCH_MAX; gfn++) {
        if (!m->dirty[gfn])
            continue;
        m->dirty[gfn] = false;
        memcpy(pages + count * PAGE_SIZE, gmem_page(m->guest, gfn), PAGE_SIZE);
        gfns[count++] = gfn;
    }
    struct model_epoch *epoch = &m->flight[m->flight_count++];
    epoch->any = count > 0;
    memcpy(epoch->after, gmem_page(m->guest, 0), PAGE_SAMPLES_SIZE);
    if (!count)
        return;
    struct encoded_batch batch;
    page_encoder_encode(m->encoder, gfns, pages, count, false, &batch);
    page_samples_gather(&batch, &epoch->batch);
}

static void apply_oldest(struct model *m)
{
    if (!m->staged_count)
        return;
    struct page_batch batch;
    if (m->staged[0].any) {
        page_batch_decode(&batch, m->staged[0].batch.bytes, m->staged[0].batch.size, m->standby,
                          false, 0, NULL);
        page_batch_apply(&batch, m->standby);
    }
    memmove(m->staged, m->staged + 1, --m->staged_count * sizeof(*m->staged));
}

static void arrive(struct model *m)
{
    if (!m->flight_count || m->staged_count == MODEL_FLIGHT)
        return;
    struct model_epoch *epoch = &m->flight[0];
    if (epoch->any) {
        struct page_batch batch;
        CU_ASSERT_EQUAL_FATAL(page_batch_decode(&batch, epoch->batch.bytes, epoch->batch.size,
                                                m->standby, false, 0, NULL),
                              0);
        while (page_batch_depends(&batch) && m->staged_count)
            apply_oldest(m);
        m->refused += page_batch_verify(&batch, m->standby, NULL) < 0;
    }
    m->staged[m->staged_count++] = *epoch;
    memmove(m->flight, m->flight + 1, --m->flight_count * sizeof(*m->flight));
}

/* The link breaks anywhere; what comes then is the same standby or one that holds other things. */
static void break_link(struct model *m)
{
    m->flight_count = 0;
    while (m->staged_count)
        apply_oldest(m);
    if (page_samples_draw() % 2)
        for (gfn_t gfn = 0; gfn < PAGE_SAMPLES; gfn++)
            memset(gmem_page(m->standby, gfn), (int)page_samples_draw(), PAGE_SIZE);
    page_encoder_begin_link(m->encoder, true, page_samples_draw());
    memset(m->dirty, true, sizeof(m->dirty));
    for (unsigned pass = 0; pass * PAGE_BATCH_MAX < PAGE_SAMPLES; pass++)
        cut_and_send(m);
}

/* Everything that was sent is applied: what the standby holds is the guest at the last cut. */
static void settle_and_compare(struct model *m)
{
    if (!m->flight_count && !m->staged_count)
        return;
    const struct model_epoch *last =
        m->flight_count ? &m->flight[m->flight_count - 1] : &m->staged[m->staged_count - 1];
    uint8_t *expected = malloc(PAGE_SAMPLES_SIZE);
    memcpy(expected, last->after, PAGE_SAMPLES_SIZE);
    /* Pages beyond one batch are still dirty: as long as there are some, nothing is to compare. */
    bool whole = true;
    for (gfn_t gfn = 0; gfn < PAGE_SAMPLES; gfn++)
        whole = whole && !m->dirty[gfn];
    while (m->flight_count) {
        arrive(m);
        apply_oldest(m);
    }
    while (m->staged_count)
        apply_oldest(m);
    if (whole)
        CU_ASSERT_EQUAL_FATAL(memcmp(gmem_page(m->standby, 0), expected, PAGE_SAMPLES_SIZE), 0);
    free(expected);
}

static void run_model(enum page_encoder_mode mode)
{
    static struct model m;
    memset(&m, 0, sizeof(m));
    m.guest = page_samples_memory();
    m.standby = page_samples_memory();
    m.encoder = page_samples_encoder(mode, m.guest);
    m.flight = calloc(MODEL_FLIGHT, sizeof(*m.flight));
    m.staged = calloc(MODEL_FLIGHT, sizeof(*m.staged));
    break_link(&m);
    for (unsigned step = 0; step < 4000; step++) {
        switch (page_samples_draw() % 16) {
        case 0:
            if (page_samples_draw() % 8 == 0)
                break_link(&m);
            break;
        case 1:
        case 2:
        case 3:
        case 4:
            arrive(&m);
            break;
        case 5:
        case 6:
        case 7:
            apply_oldest(&m);
            break;
        case 8:
            cut_and_send(&m);
            settle_and_compare(&m);
            break;
        case 9:
        case 10:
            cut_and_send(&m);
            break;
        default:
            for (unsigned i = 0; i < 8; i++)
                touch_page(&m,
                           page_samples_draw() % (page_samples_draw() % 4 ? 100 : PAGE_SAMPLES));
        }
    }
    CU_ASSERT_EQUAL(m.refused, 0);
    const struct page_encoder_stats *stats = page_encoder_stats(m.encoder);
    if (mode == PAGE_ENCODER_SMALLEST)
        for (int kind = PAGE_ENCODING_RAW; kind < PAGE_ENCODING_COUNT; kind++)
            CU_ASSERT(stats->methods[kind].pages > 100);
    free(m.flight);
    free(m.staged);
    page_encoder_destroy(&m.encoder);
    gmem_destroy(&m.guest);
    gmem_destroy(&m.standby);
}

static void a_standby_always_gets_what_the_guest_had(void)
{
    for (int mode = PAGE_ENCODER_AUTO; mode <= PAGE_ENCODER_SMALLEST; mode++)
        run_model((enum page_encoder_mode)mode);
}

static const struct test_case cases[] = {
    {"a standby always gets what the guest had", a_standby_always_gets_what_the_guest_had},
};

TEST_MAIN("encoding model", cases)
