/* Peers that hold the key, answer, and don't do their part: none stops the guest for longer than
 * the cap, and none gets memory beyond the staging cap. Peers that die or damage bytes are the
 * failure matrix's. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/engine.h"
#include "checkpoint/page_codec.h"
#include "secondary/standby.h"
#include "test/support/fake_machine.h"
#include "test/support/runner.h"
#include "transport/inproc.h"
#include "transport/link_backend.h"
#include "transport/session.h"

#define TERM   7
#define MEMORY ((uint64_t)32 << 20)
/* More than an oversize epoch may have. */
#define MEMORY_ENDLESS ((uint64_t)96 << 20)
#define STAGING        (16 * SLAB_CHUNK_SIZE)
#define STALL_CAP      MSEC(100)
#define DRIP           MSEC(20) /* between two bytes */

enum temper {
    SILENT,  /* takes everything, acknowledges nothing */
    DEAF,    /* takes nothing */
    SIPPER,  /* takes one byte from time to time: the connection never stands still */
    DRIPPER, /* takes everything, and says one byte from time to time of what is never whole */
    TALKER,  /* says all the time that something was applied */
    PREVIOUS /* acknowledges what it has acknowledged before */
};

/* A standby that behaves for some epochs, then shows its temper. */
struct peer {
    struct link *link;
    int fd; /* below the link, and its own */
    pthread_t thread;
    unsigned good;
    enum temper temper;
};

/* What the primary of the test has seen. */
struct scene {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned lost;
    struct error why;
    unsigned standby_broken;
    struct slab *slab;
    struct fake_machine *machine;
    struct engine *engine;
    struct peer peer;
};

static void note_engine(void *context, enum engine_event event, const struct error *why)
{
    struct scene *s = context;
    pthread_mutex_lock(&s->lock);
    if (event == ENGINE_EVENT_LINK_LOST) {
        s->lost++;
        s->why = *why;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void note_standby(void *context, enum standby_event event, const struct error *why)
{
    struct scene *s = context;
    pthread_mutex_lock(&s->lock);
    if (event == STANDBY_EVENT_BROKEN) {
        s->standby_broken++;
        s->why = *why;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void ignore_visible(void *context, uint64_t step)
{
    (void)context;
    (void)step;
}

/* A minute is for ever. */
static bool wait_for(struct scene *s, const unsigned *counter)
{
    const struct timespec until = clock_to_timespec(clock_now() + SEC(60));
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while (!*counter && rc == 0)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    pthread_mutex_unlock(&s->lock);
    return rc == 0;
}

/* ---- the peer ---- */

static bool take_frame(struct link *link, uint8_t *buffer, struct frame *frame)
{
    return link_receive_header(link, frame, NULL) == 0 &&
           link_receive_payload(link, buffer, frame->size, NULL) == 0;
}

static bool say(struct link *link, enum message_kind kind, epoch_t epoch)
{
    const struct message message = {.kind = kind};
    return message_send(link, TERM, epoch, &message, NULL) == 0;
}

static void rest(void)
{
    const struct timespec pace = clock_to_timespec(DRIP);
    nanosleep(&pace, NULL);
}

/* From the socket itself: a link reads ahead. */
static void sip(const struct peer *p)
{
    uint8_t byte;
    while (!atomic_load(&p->link->down) && recv(p->fd, &byte, 1, 0) == 1)
        rest();
}

static void *drip_main(void *context)
{
    static const struct link_wait for_ever = {0};
    struct peer *p = context;
    const struct frame frame = {
        .type = FRAME_CONTROL, .size = MESSAGE_SIZE_MAX, .term = TERM, .epoch = 2, .digest = 1};
    uint8_t bytes[FRAME_HEADER_SIZE + MESSAGE_SIZE_MAX] = {0};
    frame_encode(&frame, bytes);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        struct iovec part = {bytes + i, 1};
        if (p->link->ops->send(p->link, &part, 1, &for_ever, NULL) < 0)
            break;
        rest();
    }
    return NULL;
}

static void drip(struct peer *p, uint8_t *buffer)
{
    struct frame frame;
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, drip_main, p), 0);
    while (take_frame(p->link, buffer, &frame)) {
    }
    pthread_join(thread, NULL);
}

static void show_temper(struct peer *p, epoch_t last, uint8_t *buffer)
{
    struct frame frame;
    switch (p->temper) {
    case SILENT:
        while (take_frame(p->link, buffer, &frame)) {
        }
        break;
    case DEAF:
        break;
    case SIPPER:
        sip(p);
        break;
    case DRIPPER:
        drip(p, buffer);
        break;
    case TALKER:
        while (say(p->link, MESSAGE_APPLIED, last)) {
        }
        break;
    case PREVIOUS:
        say(p->link, MESSAGE_EPOCH_ACK, last);
        while (take_frame(p->link, buffer, &frame)) {
        }
        break;
    }
}

static void *peer_main(void *context)
{
    struct peer *p = context;
    uint8_t *buffer = malloc(FRAME_PAYLOAD_MAX);
    struct frame frame;
    epoch_t last = 1;
    for (unsigned done = 0; done < p->good && take_frame(p->link, buffer, &frame);) {
        struct message message;
        if (frame.type != FRAME_CONTROL || message_decode(buffer, frame.size, &message, NULL) < 0 ||
            message.kind != MESSAGE_EPOCH_END)
            continue;
        say(p->link, MESSAGE_EPOCH_ACK, frame.epoch);
        last = frame.epoch;
        done++;
    }
    show_temper(p, last, buffer);
    free(buffer);
    return NULL;
}

/* ---- a primary ---- */

static void start(struct scene *s, enum policy_kind policy, enum temper temper, unsigned good,
                  nsec_t stall_cap)
{
    memset(s, 0, sizeof(*s));
    log_set_level(LOG_LEVEL_ERROR);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    CU_ASSERT_EQUAL_FATAL(slab_create(STAGING, &s->slab, NULL), 0);
    const struct fake_machine_config machine = {.memory = MEMORY,
                                                .output_every = 2,
                                                .step_usec = 1,
                                                .visible = ignore_visible,
                                                .context = s};
    s->machine = fake_machine_create(&machine);
    const struct engine_config engine = {.machine = fake_machine_ops(s->machine),
                                         .slab = s->slab,
                                         .outbox_cap = OUTBOX_CAP_MIN,
                                         .policy = {.kind = policy,
                                                    .interval = MSEC(10),
                                                    .max_interval = MSEC(10),
                                                    .window = 2,
                                                    .dirty_budget = 64,
                                                    .staging_cap = SLAB_SIZE_MAX},
                                         .first_epoch = 1,
                                         .stall_cap = stall_cap,
                                         .event = note_engine,
                                         .context = s};
    CU_ASSERT_EQUAL_FATAL(engine_create(&engine, &s->engine, NULL), 0);
    engine_start_guest(s->engine);
    struct link *ends[2];
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(inproc_adopt(fds[i], "hostile", &ends[i], NULL), 0);
    s->peer = (struct peer){.link = ends[1], .fd = fds[1], .good = good, .temper = temper};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&s->peer.thread, NULL, peer_main, &s->peer), 0);
    CU_ASSERT_EQUAL_FATAL(
        engine_protect(s->engine, ends[0], TERM, STAGING, SESSION_CAP_ENCODED, NULL), 0);
}

static void end(struct scene *s)
{
    engine_destroy(&s->engine);
    link_shutdown(s->peer.link);
    pthread_join(s->peer.thread, NULL);
    link_destroy(&s->peer.link);
    CU_ASSERT_EQUAL(slab_free_count(s->slab), slab_chunk_count(s->slab));
    fake_machine_destroy(&s->machine);
    slab_destroy(&s->slab);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

/* The guest makes steps once it may speak alone. */
static bool goes_on(struct scene *s)
{
    if (engine_open(s->engine, NULL) < 0)
        return false;
    const uint64_t before = fake_machine_steps(s->machine);
    const nsec_t deadline = clock_now() + SEC(60);
    while (fake_machine_steps(s->machine) < before + 1000 && clock_now() < deadline)
        sched_yield();
    return fake_machine_steps(s->machine) >= before + 1000;
}

static void survives(enum temper temper, int code)
{
    for (int policy = POLICY_PIPELINED; policy <= POLICY_INTERVAL; policy++) {
        /* From the acknowledgement of the first copy on, and in the middle of replication. */
        for (unsigned good = 1; good <= 5; good += 2) {
            struct scene s;
            /* A busy host must not make one late that is judged by what it says. */
            start(&s, (enum policy_kind)policy, temper, good,
                  code == -ETIMEDOUT ? STALL_CAP : SEC(60));
            CU_ASSERT_TRUE(wait_for(&s, &s.lost));
            CU_ASSERT_EQUAL(s.why.code, code);
            CU_ASSERT_TRUE(goes_on(&s));
            end(&s);
        }
    }
}

static void a_standby_that_acknowledges_nothing_is_given_up(void)
{
    survives(SILENT, -ETIMEDOUT);
}

static void a_standby_that_takes_nothing_is_given_up(void)
{
    survives(DEAF, -ETIMEDOUT);
}

static void a_standby_that_takes_bytes_one_by_one_is_given_up(void)
{
    survives(SIPPER, -ETIMEDOUT);
}

static void a_standby_that_answers_byte_by_byte_is_given_up(void)
{
    survives(DRIPPER, -ETIMEDOUT);
}

static void a_standby_that_never_stops_talking_is_given_up(void)
{
    survives(TALKER, -ETIMEDOUT);
}

static void a_standby_that_acknowledges_twice_is_given_up(void)
{
    survives(PREVIOUS, -EPROTO);
}

static void a_first_copy_that_is_never_acknowledged_is_given_up(void)
{
    struct scene s;
    start(&s, POLICY_PIPELINED, SILENT, 0, STALL_CAP);
    CU_ASSERT_TRUE(wait_for(&s, &s.lost));
    CU_ASSERT_EQUAL(s.why.code, -ETIMEDOUT);
    CU_ASSERT_TRUE(goes_on(&s));
    end(&s);
}

/* ---- a standby ---- */

static void begin(struct link *link, epoch_t epoch, enum message_epoch_kind kind)
{
    const struct message m = {.kind = MESSAGE_EPOCH_BEGIN, .epoch_begin = {.kind = kind}};
    CU_ASSERT_EQUAL_FATAL(message_send(link, TERM, epoch, &m, NULL), 0);
}

/* A full batch of raw pages, each batch of other pages; false when the standby has had enough. */
static bool send_batch(struct link *link, epoch_t epoch, unsigned number)
{
    static uint8_t pages[PAGE_BATCH_MAX * PAGE_SIZE];
    gfn_t gfns[PAGE_BATCH_MAX];
    uint8_t encodings[PAGE_BATCH_MAX];
    uint8_t header[PAGE_BATCH_HEADER_MAX];
    for (size_t i = 0; i < PAGE_BATCH_MAX; i++) {
        gfns[i] = number * PAGE_BATCH_MAX + i;
        encodings[i] = PAGE_ENCODING_RAW;
    }
    const size_t size = page_batch_encode_header(gfns, encodings, PAGE_BATCH_MAX, header);
    const struct iovec parts[] = {{header, size}, {pages, sizeof(pages)}};
    const struct frame frame = {.type = FRAME_PAGES, .term = TERM, .epoch = epoch};
    return link_send(link, &frame, parts, 2, NULL) == 0;
}

static void an_epoch_without_an_end_gets_no_more_than_the_staging_memory(void)
{
    struct scene s = {0};
    pthread_mutex_init(&s.lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    CU_ASSERT_EQUAL_FATAL(slab_create(SLAB_SIZE_MIN, &s.slab, NULL), 0);
    const struct fake_machine_config machine = {.memory = MEMORY_ENDLESS};
    s.machine = fake_machine_create(&machine);
    struct standby *standby;
    const struct standby_config config = {.machine = fake_machine_ops(s.machine),
                                          .slab = s.slab,
                                          .event = note_standby,
                                          .context = &s};
    CU_ASSERT_EQUAL_FATAL(standby_create(&config, &standby, NULL), 0);
    struct link *ends[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("endless", ends, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(standby_follow(standby, ends[1], TERM, NULL), 0);

    /* An empty first copy: digest of no frames. */
    begin(ends[0], 1, MESSAGE_EPOCH_FULL);
    struct message m = {.kind = MESSAGE_EPOCH_END};
    static const uint8_t nothing[] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                      0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
    memcpy(m.epoch_end.digest, nothing, sizeof(nothing));
    CU_ASSERT_EQUAL_FATAL(message_send(ends[0], TERM, 1, &m, NULL), 0);
    begin(ends[0], 2, MESSAGE_EPOCH_INCREMENTAL);
    unsigned batches = 0;
    while (batches < MEMORY_ENDLESS / SLAB_CHUNK_SIZE && send_batch(ends[0], 2, batches))
        batches++;
    CU_ASSERT_TRUE(wait_for(&s, &s.standby_broken));
    CU_ASSERT_EQUAL(s.why.code, -ENOBUFS);
    standby_unfollow(standby);
    struct standby_stats stats;
    standby_snapshot(standby, &stats);
    const size_t allowed = slab_chunk_count(s.slab) - 2 + SESSION_SPILL_BATCHES; /* see stage.c */
    CU_ASSERT_EQUAL(stats.bytes, allowed * (PAGE_BATCH_MAX * (PAGE_SIZE + 8) + 8));
    CU_ASSERT_EQUAL(stats.staging_used, 0);
    CU_ASSERT_FALSE(stats.promotable);
    link_destroy(&ends[0]);
    standby_destroy(&standby);
    fake_machine_destroy(&s.machine);
    slab_destroy(&s.slab);
    pthread_cond_destroy(&s.changed);
    pthread_mutex_destroy(&s.lock);
}

static const struct test_case cases[] = {
    {"a standby that acknowledges nothing is given up",
     a_standby_that_acknowledges_nothing_is_given_up},
    {"a standby that takes nothing is given up", a_standby_that_takes_nothing_is_given_up},
    {"a standby that takes bytes one by one is given up",
     a_standby_that_takes_bytes_one_by_one_is_given_up},
    {"a standby that answers byte by byte is given up",
     a_standby_that_answers_byte_by_byte_is_given_up},
    {"a standby that never stops talking is given up",
     a_standby_that_never_stops_talking_is_given_up},
    {"a standby that acknowledges twice is given up",
     a_standby_that_acknowledges_twice_is_given_up},
    {"a first copy that is never acknowledged is given up",
     a_first_copy_that_is_never_acknowledged_is_given_up},
    {"an epoch without an end gets no more than the staging memory",
     an_epoch_without_an_end_gets_no_more_than_the_staging_memory},
};

TEST_MAIN("hostile peer", cases)
