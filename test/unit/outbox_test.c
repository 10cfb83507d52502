/* The outbox: promise P1, output by output. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/outbox.h"
#include "test/support/runner.h"

#define SEEN_MAX 20000

/* The outside: what became visible, in order. Emits never overlap, so it needs no lock. */
struct outside {
    uint32_t ports[SEEN_MAX];
    uint32_t values[SEEN_MAX];
    size_t count;
    atomic_int emitting;
    bool overlapped;
    atomic_uint wakes;
};

static struct outside outside;

static void emit(void *context, uint32_t port, const uint8_t *data, size_t size)
{
    struct outside *o = context;
    o->overlapped = atomic_fetch_add(&o->emitting, 1) != 0 || o->overlapped;
    uint32_t value = 0;
    memcpy(&value, data, size < sizeof(value) ? size : sizeof(value));
    o->ports[o->count] = port;
    o->values[o->count++] = value;
    atomic_fetch_sub(&o->emitting, 1);
}

static void wake(void *context)
{
    atomic_fetch_add(&((struct outside *)context)->wakes, 1);
}

static struct outbox *make(epoch_t first)
{
    const struct outbox_config config = {
        .cap_bytes = OUTBOX_CAP_MIN, .emit = emit, .wake = wake, .context = &outside};
    struct outbox *outbox = NULL;
    memset(&outside, 0, sizeof(outside));
    CU_ASSERT_EQUAL_FATAL(outbox_create(&config, first, &outbox, NULL), 0);
    return outbox;
}

static void put_on(struct outbox *outbox, uint32_t port, uint32_t value)
{
    const struct iovec part = {&value, sizeof(value)};
    outbox_put(outbox, port, &part, 1, OUTBOX_PACKET);
}

static void put(struct outbox *outbox, uint32_t value)
{
    put_on(outbox, 0, value);
}

static bool seen_in_order(uint32_t first, uint32_t last)
{
    bool right = outside.count == last - first + 1;
    for (size_t i = 0; right && i < outside.count; i++)
        right = outside.values[i] == first + i;
    return right;
}

static struct outbox_stats stats_of(struct outbox *outbox)
{
    struct outbox_stats stats;
    outbox_snapshot(outbox, &stats);
    return stats;
}

static void nothing_leaves_before_its_epoch_is_released(void)
{
    struct outbox *outbox = make(5);
    put(outbox, 1);
    put(outbox, 2);
    outbox_cut(outbox, 5);
    put(outbox, 3);
    CU_ASSERT_EQUAL(outside.count, 0);
    outbox_release(outbox, 5);
    CU_ASSERT_TRUE(seen_in_order(1, 2));
    outbox_cut(outbox, 6);
    put(outbox, 4);
    outbox_cut(outbox, 7);
    put(outbox, 5);
    outbox_release(outbox, 7); /* 6 with it */
    CU_ASSERT_TRUE(seen_in_order(1, 4));
    outbox_release(outbox, 7);
    outbox_release(outbox, 5);
    CU_ASSERT_TRUE(seen_in_order(1, 4));
    const struct outbox_stats stats = stats_of(outbox);
    CU_ASSERT_EQUAL(stats.held_items, 1);
    CU_ASSERT_EQUAL(stats.held_bytes, 4);
    CU_ASSERT_EQUAL(stats.released_items, 4);
    CU_ASSERT_EQUAL(stats.released_bytes, 16);
    CU_ASSERT_EQUAL(stats.released_epoch, 7);
    CU_ASSERT_EQUAL(stats.hold.count, 4);
    outbox_destroy(&outbox);
    CU_ASSERT_TRUE(seen_in_order(1, 4));
    CU_ASSERT_PTR_NULL(outbox);
}

static void order_holds_over_all_ports_and_parts_are_joined(void)
{
    struct outbox *outbox = make(1);
    for (uint32_t i = 1; i <= 9; i++)
        put_on(outbox, i % 3, i);
    uint32_t value = 10;
    const struct iovec parts[] = {
        {(char *)&value, 1}, {NULL, 0}, {(char *)&value + 1, 2}, {(char *)&value + 3, 1}};
    outbox_put(outbox, 7, parts, 4, OUTBOX_STREAM);
    outbox_cut(outbox, 1);
    outbox_release(outbox, 1);
    CU_ASSERT_TRUE(seen_in_order(1, 10));
    CU_ASSERT_EQUAL(outside.ports[4], 5 % 3);
    CU_ASSERT_EQUAL(outside.ports[9], 7);
    outbox_destroy(&outbox);
}

static void the_first_output_of_an_epoch_wakes_and_the_others_do_not(void)
{
    struct outbox *outbox = make(1);
    CU_ASSERT_EQUAL(outbox_waiting_since(outbox), 0);
    put(outbox, 1);
    const nsec_t since = outbox_waiting_since(outbox);
    CU_ASSERT(since > 0);
    put(outbox, 2);
    CU_ASSERT_EQUAL(outside.wakes, 1);
    CU_ASSERT_EQUAL(outbox_waiting_since(outbox), since);
    outbox_cut(outbox, 1);
    CU_ASSERT_EQUAL(outbox_waiting_since(outbox), 0);
    put(outbox, 3);
    CU_ASSERT_EQUAL(outside.wakes, 2);
    outbox_destroy(&outbox);
}

static void open_lets_out_what_was_held_and_then_everything(void)
{
    struct outbox *outbox = make(1);
    put(outbox, 1);
    outbox_cut(outbox, 1);
    put(outbox, 2);
    outbox_open(outbox);
    CU_ASSERT_TRUE(seen_in_order(1, 2));
    put(outbox, 3);
    CU_ASSERT_TRUE(seen_in_order(1, 3));
    CU_ASSERT_EQUAL(outbox_waiting_since(outbox), 0);
    CU_ASSERT(stats_of(outbox).first_emit_after_open > 0);
    outbox_open(outbox);
    put(outbox, 4);
    CU_ASSERT_TRUE(seen_in_order(1, 4));
    outbox_destroy(&outbox);
}

static void hold_ends_open_and_skips_epochs_that_committed_nothing(void)
{
    struct outbox *outbox = make(1);
    outbox_open(outbox);
    put(outbox, 1);
    outbox_hold(outbox, 2);
    put(outbox, 2);
    CU_ASSERT_TRUE(seen_in_order(1, 1));
    CU_ASSERT_EQUAL(stats_of(outbox).mode, OUTBOX_HOLDING);
    outbox_cut(outbox, 2);
    put(outbox, 3);
    /* Epoch 2 is aborted; 3 was a synchronisation; 4 commits. */
    outbox_hold(outbox, 4);
    put(outbox, 4);
    outbox_cut(outbox, 4);
    put(outbox, 5);
    outbox_release(outbox, 4);
    CU_ASSERT_TRUE(seen_in_order(1, 4));
    outbox_destroy(&outbox);
}

static void a_discarding_outbox_never_speaks_again(void)
{
    struct outbox *outbox = make(1);
    put(outbox, 1);
    outbox_cut(outbox, 1);
    put(outbox, 2);
    outbox_discard(outbox);
    put(outbox, 3);
    outbox_release(outbox, 1);
    outbox_hold(outbox, 2);
    outbox_open(outbox);
    put(outbox, 4);
    outbox_cut(outbox, 2);
    outbox_release(outbox, 2);
    CU_ASSERT_EQUAL(outside.count, 0);
    const struct outbox_stats stats = stats_of(outbox);
    CU_ASSERT_EQUAL(stats.mode, OUTBOX_DISCARDING);
    CU_ASSERT_EQUAL(stats.held_items, 0);
    CU_ASSERT_EQUAL(stats.held_bytes, 0);
    outbox_destroy(&outbox);

    outbox = make(1);
    outbox_open(outbox);
    put(outbox, 1);
    outbox_discard(outbox);
    put(outbox, 2);
    CU_ASSERT_TRUE(seen_in_order(1, 1));
    outbox_destroy(&outbox);
}

static void the_cap_drops_packets_before_bytes_of_a_stream(void)
{
    struct outbox *outbox = make(1);
    static uint8_t big[OUTBOX_CAP_MIN / 4];
    const struct iovec part = {big, sizeof(big)};
    outbox_put(outbox, 0, &part, 1, OUTBOX_PACKET);
    outbox_put(outbox, 0, &part, 1, OUTBOX_PACKET);
    CU_ASSERT_FALSE(outbox_is_full(outbox));
    outbox_put(outbox, 0, &part, 1, OUTBOX_PACKET);
    CU_ASSERT_TRUE(outbox_is_full(outbox));
    outbox_put(outbox, 0, &part, 1, OUTBOX_PACKET);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 0);
    put(outbox, 1);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 1);
    for (int i = 0; i < 4; i++)
        outbox_put(outbox, 0, &part, 1, OUTBOX_STREAM);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 1);
    outbox_put(outbox, 0, &part, 1, OUTBOX_STREAM);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 2);
    CU_ASSERT_EQUAL(stats_of(outbox).held_bytes, 2 * OUTBOX_CAP_MIN);
    outbox_cut(outbox, 1);
    outbox_release(outbox, 1);
    CU_ASSERT_EQUAL(outside.count, 8);
    CU_ASSERT_FALSE(outbox_is_full(outbox));
    outbox_destroy(&outbox);
}

static unsigned may_leave;

static bool may_emit(void *context)
{
    (void)context;
    return may_leave && may_leave--;
}

static void a_release_that_is_ended_keeps_the_rest_in_order(void)
{
    const struct outbox_config config = {
        .cap_bytes = OUTBOX_CAP_MIN, .emit = emit, .may_emit = may_emit, .context = &outside};
    struct outbox *outbox;
    struct error err = {0};
    memset(&outside, 0, sizeof(outside));
    CU_ASSERT_EQUAL_FATAL(outbox_create(&config, 1, &outbox, &err), 0);
    for (uint32_t i = 1; i <= 5; i++)
        put(outbox, i);
    outbox_cut(outbox, 1);
    put(outbox, 6);
    may_leave = 2;
    CU_ASSERT_FALSE(outbox_release(outbox, 1));
    CU_ASSERT_TRUE(seen_in_order(1, 2));
    CU_ASSERT_EQUAL(stats_of(outbox).held_items, 4);
    CU_ASSERT_EQUAL(stats_of(outbox).held_bytes, 16);
    CU_ASSERT_FALSE(outbox_release(outbox, 1));
    put(outbox, 7);
    outbox_cut(outbox, 2);
    put(outbox, 8);
    may_leave = 5;
    CU_ASSERT_TRUE(outbox_release(outbox, 2));
    CU_ASSERT_TRUE(seen_in_order(1, 7));
    /* The last one held, put back onto an empty list: what follows goes behind it. */
    outbox_cut(outbox, 3);
    CU_ASSERT_FALSE(outbox_release(outbox, 3));
    put(outbox, 9);
    outbox_cut(outbox, 4);
    may_leave = 2;
    CU_ASSERT_TRUE(outbox_release(outbox, 4));
    CU_ASSERT_TRUE(seen_in_order(1, 9));
    /* An open outbox asks nobody: that needs a grant. */
    put(outbox, 10);
    outbox_open(outbox);
    CU_ASSERT_TRUE(seen_in_order(1, 10));
    outbox_destroy(&outbox);
}

static void a_notice_is_held_like_a_packet_and_not_measured(void)
{
    struct outbox *outbox = make(1);
    const uint32_t value = 1;
    const struct iovec part = {(void *)&value, sizeof(value)};
    outbox_put(outbox, 0, &part, 1, OUTBOX_NOTICE);
    CU_ASSERT_EQUAL(outside.count, 0);
    outbox_cut(outbox, 1);
    outbox_release(outbox, 1);
    CU_ASSERT_TRUE(seen_in_order(1, 1));
    CU_ASSERT_EQUAL(stats_of(outbox).hold.count, 0);
    outbox_open(outbox);
    outbox_put(outbox, 0, &part, 1, OUTBOX_NOTICE);
    CU_ASSERT_EQUAL(outside.count, 2);
    CU_ASSERT_EQUAL(stats_of(outbox).first_emit_after_open, 0);
    put(outbox, 2);
    CU_ASSERT(stats_of(outbox).first_emit_after_open > 0);
    outbox_discard(outbox);
    outbox_put(outbox, 0, &part, 1, OUTBOX_NOTICE);
    CU_ASSERT_EQUAL(outside.count, 3);
    outbox_destroy(&outbox);
}

static void put_order_of(struct outbox *outbox, uint32_t value, enum outbox_kind kind)
{
    const struct iovec part = {&value, sizeof(value)};
    outbox_put(outbox, 9, &part, 1, kind);
}

static void put_order(struct outbox *outbox, uint32_t value)
{
    put_order_of(outbox, value, OUTBOX_ORDER);
}

/* A write to a shared disk: the guest would wait for it for ever. */
static void an_order_is_kept_beyond_the_cap(void)
{
    struct outbox *outbox = make(1);
    static uint8_t big[OUTBOX_CAP_MIN];
    const struct iovec part = {big, sizeof(big)};
    outbox_put(outbox, 0, &part, 1, OUTBOX_PACKET);
    put(outbox, 1);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 1);
    put_order(outbox, 2);
    CU_ASSERT_EQUAL(stats_of(outbox).dropped_items, 1);
    outbox_cut(outbox, 1);
    outbox_release(outbox, 1);
    CU_ASSERT(outside.count == 2 && outside.ports[1] == 9 && outside.values[1] == 2);
    CU_ASSERT_EQUAL(stats_of(outbox).hold.count, 2);
    outbox_open(outbox);
    put_order(outbox, 3);
    CU_ASSERT_EQUAL(outside.count, 3);
    CU_ASSERT_EQUAL(stats_of(outbox).first_emit_after_open, 0); /* nobody heard anything yet */
    outbox_discard(outbox);
    put_order(outbox, 4);
    CU_ASSERT_EQUAL(outside.count, 3);
    outbox_destroy(&outbox);
}

/* A write to a shared disk that the guest does not wait for. */
static void a_lazy_order_waits_for_a_checkpoint_and_asks_for_none(void)
{
    struct outbox *outbox = make(1);
    put_order_of(outbox, 1, OUTBOX_LAZY_ORDER);
    CU_ASSERT_EQUAL(outside.wakes, 0);
    CU_ASSERT_EQUAL(outbox_waiting_since(outbox), 0);
    CU_ASSERT_FALSE(outbox_is_empty(outbox));
    put(outbox, 2);
    CU_ASSERT_EQUAL(outside.wakes, 1);
    outbox_cut(outbox, 1);
    put_order_of(outbox, 3, OUTBOX_LAZY_ORDER);
    CU_ASSERT_EQUAL(outside.count, 0);
    outbox_release(outbox, 1);
    CU_ASSERT(outside.count == 2 && outside.values[0] == 1 && outside.values[1] == 2);
    CU_ASSERT_EQUAL(stats_of(outbox).hold.count, 1);
    outbox_open(outbox);
    CU_ASSERT_EQUAL(outside.count, 3);
    put_order_of(outbox, 4, OUTBOX_LAZY_ORDER);
    CU_ASSERT_EQUAL(outside.count, 4);
    CU_ASSERT_EQUAL(stats_of(outbox).first_emit_after_open, 0);
    outbox_discard(outbox);
    put_order_of(outbox, 5, OUTBOX_LAZY_ORDER);
    CU_ASSERT_EQUAL(outside.count, 4);
    outbox_destroy(&outbox);
}

/* A thread that puts an order while another one emits, and a cut that comes between. */
struct late {
    struct outbox *outbox;
    _Atomic pid_t thread;
    pthread_t handle;
};

static void *late_main(void *context)
{
    struct late *late = context;
    atomic_store(&late->thread, gettid());
    put_order(late->outbox, 2);
    return NULL;
}

static bool sleeps(pid_t thread)
{
    char name[64], state = 0;
    snprintf(name, sizeof(name), "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(name, "re");
    const int found = file ? fscanf(file, "%*d %*s %c", &state) : 0;
    if (file)
        fclose(file);
    return found == 1 && state == 'S';
}

static struct late late;

static void emit_and_hold(void *context, uint32_t port, const uint8_t *data, size_t size)
{
    emit(context, port, data, size);
    if (outside.count > 1)
        return;
    pthread_create(&late.handle, NULL, late_main, &late);
    while (!atomic_load(&late.thread) || !sleeps(late.thread)) /* waits for us to have emitted */
        sched_yield();
    outbox_hold(late.outbox, 2);
}

static void an_order_that_meets_a_cut_is_held(void)
{
    const struct outbox_config config = {
        .cap_bytes = OUTBOX_CAP_MIN, .emit = emit_and_hold, .wake = wake, .context = &outside};
    memset(&outside, 0, sizeof(outside));
    CU_ASSERT_EQUAL_FATAL(outbox_create(&config, 1, &late.outbox, NULL), 0);
    outbox_open(late.outbox);
    put_order(late.outbox, 1);
    pthread_join(late.handle, NULL);
    CU_ASSERT_EQUAL(outside.count, 1);
    CU_ASSERT_EQUAL(stats_of(late.outbox).held_items, 1);
    CU_ASSERT_EQUAL(atomic_load(&outside.wakes), 1);
    outbox_cut(late.outbox, 2);
    outbox_release(late.outbox, 2);
    CU_ASSERT_TRUE(seen_in_order(1, 2));
    outbox_destroy(&late.outbox);
}

static void too_small_a_cap_is_refused(void)
{
    const struct outbox_config config = {.cap_bytes = OUTBOX_CAP_MIN - 1, .emit = emit};
    struct outbox *outbox = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL(outbox_create(&config, 1, &outbox, &err), -22);
    CU_ASSERT_PTR_NULL(outbox);
    CU_ASSERT(strstr(err.text, "outbox cap") != NULL);
}

/* Runs in a child what must kill it, and says whether it did. */
static bool dies(void (*what)(struct outbox *))
{
    struct outbox *outbox = make(3);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        prctl(PR_SET_DUMPABLE, 0);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        what(outbox);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    outbox_destroy(&outbox);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void release_uncut(struct outbox *outbox)
{
    put(outbox, 1);
    outbox_release(outbox, 3);
}

static void cut_wrong_epoch(struct outbox *outbox)
{
    outbox_cut(outbox, 4);
}

static void hold_backwards(struct outbox *outbox)
{
    outbox_hold(outbox, 2);
}

static void a_process_that_would_break_p1_dies_instead(void)
{
    CU_ASSERT_TRUE(dies(release_uncut));
    CU_ASSERT_TRUE(dies(cut_wrong_epoch));
    CU_ASSERT_TRUE(dies(hold_backwards));
}

#define PUTTERS 4
#define PUTS    2000

struct putter {
    pthread_t thread;
    struct outbox *outbox;
    uint32_t port;
};

static void *putter_main(void *context)
{
    const struct putter *p = context;
    for (uint32_t i = 1; i <= PUTS; i++)
        put_on(p->outbox, p->port, i);
    return NULL;
}

static void start_putters(struct putter *putters, struct outbox *outbox)
{
    for (uint32_t i = 0; i < PUTTERS; i++) {
        putters[i] = (struct putter){.outbox = outbox, .port = i};
        pthread_create(&putters[i].thread, NULL, putter_main, &putters[i]);
    }
}

static void join_putters(struct putter *putters)
{
    for (uint32_t i = 0; i < PUTTERS; i++)
        pthread_join(putters[i].thread, NULL);
}

/* Each port's pieces: all of them, in order. */
static void judge_putters(void)
{
    uint32_t next[PUTTERS] = {0};
    bool ordered = true;
    for (size_t i = 0; i < outside.count; i++)
        ordered = ordered && outside.values[i] == ++next[outside.ports[i]];
    CU_ASSERT_TRUE(ordered);
    CU_ASSERT_EQUAL(outside.count, PUTTERS * PUTS);
    CU_ASSERT_FALSE(outside.overlapped);
}

static void concurrent_putters_lose_nothing_while_epochs_pass(void)
{
    struct outbox *outbox = make(1);
    struct putter putters[PUTTERS];
    start_putters(putters, outbox);
    epoch_t epoch = 1;
    while (stats_of(outbox).released_items + stats_of(outbox).held_items < PUTTERS * PUTS) {
        outbox_cut(outbox, epoch);
        outbox_release(outbox, epoch++);
    }
    join_putters(putters);
    outbox_cut(outbox, epoch);
    outbox_release(outbox, epoch);
    judge_putters();
    outbox_destroy(&outbox);
}

static void opening_under_fire_keeps_every_port_in_order(void)
{
    struct outbox *outbox = make(1);
    struct putter putters[PUTTERS];
    start_putters(putters, outbox);
    while (stats_of(outbox).held_items < 100)
        ;
    outbox_open(outbox);
    join_putters(putters);
    judge_putters();
    outbox_destroy(&outbox);
}

static void after_discard_returned_nothing_is_emitted_even_under_fire(void)
{
    struct outbox *outbox = make(1);
    struct putter putters[PUTTERS];
    outbox_open(outbox);
    start_putters(putters, outbox);
    while (stats_of(outbox).released_items < 100)
        ;
    outbox_discard(outbox);
    const size_t seen = outside.count;
    join_putters(putters);
    CU_ASSERT_EQUAL(outside.count, seen);
    outbox_destroy(&outbox);
}

static void *discard(void *context)
{
    outbox_discard(context);
    return NULL;
}

static struct outbox *discarded; /* by another thread, while the first piece leaves */
static pthread_t discarder;

static void emit_and_discard(void *context, uint32_t port, const uint8_t *data, size_t size)
{
    struct outbox_stats stats;
    unsigned looks = 0;
    emit(context, port, data, size);
    if (outside.count > 1)
        return;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&discarder, NULL, discard, discarded), 0);
    do {
        outbox_snapshot(discarded, &stats);
        sched_yield();
    } while (stats.mode != OUTBOX_DISCARDING && ++looks < 10000000);
    CU_ASSERT_EQUAL(stats.mode, OUTBOX_DISCARDING);
}

/* Somebody else may speak already: no further piece of a release leaves. */
static void check_discarded_in_the_middle(bool open)
{
    const struct outbox_config config = {
        .cap_bytes = OUTBOX_CAP_MIN, .emit = emit_and_discard, .wake = wake, .context = &outside};
    memset(&outside, 0, sizeof(outside));
    CU_ASSERT_EQUAL_FATAL(outbox_create(&config, 1, &discarded, NULL), 0);
    for (uint32_t i = 1; i <= 100; i++)
        put(discarded, i);
    if (open) {
        outbox_open(discarded);
    } else {
        outbox_cut(discarded, 1);
        CU_ASSERT_FALSE(outbox_release(discarded, 1));
    }
    pthread_join(discarder, NULL);
    CU_ASSERT_EQUAL(outside.count, 1);
    outbox_destroy(&discarded);
}

static void a_release_ends_with_the_piece_that_is_leaving(void)
{
    check_discarded_in_the_middle(false);
    check_discarded_in_the_middle(true);
}

static const struct test_case cases[] = {
    {"nothing leaves before its epoch is released", nothing_leaves_before_its_epoch_is_released},
    {"order holds over all ports, and parts are joined",
     order_holds_over_all_ports_and_parts_are_joined},
    {"the first output of an epoch wakes, the others don't",
     the_first_output_of_an_epoch_wakes_and_the_others_do_not},
    {"open lets out what was held, and then everything",
     open_lets_out_what_was_held_and_then_everything},
    {"hold ends open and skips epochs that committed nothing",
     hold_ends_open_and_skips_epochs_that_committed_nothing},
    {"a discarding outbox never speaks again", a_discarding_outbox_never_speaks_again},
    {"the cap drops packets before bytes of a stream",
     the_cap_drops_packets_before_bytes_of_a_stream},
    {"a release that is ended keeps the rest in order",
     a_release_that_is_ended_keeps_the_rest_in_order},
    {"a notice is held like a packet and not measured",
     a_notice_is_held_like_a_packet_and_not_measured},
    {"an order is kept beyond the cap", an_order_is_kept_beyond_the_cap},
    {"a lazy order waits for a checkpoint and asks for none",
     a_lazy_order_waits_for_a_checkpoint_and_asks_for_none},
    {"an order that meets a cut is held", an_order_that_meets_a_cut_is_held},
    {"too small a cap is refused", too_small_a_cap_is_refused},
    {"a process that would break P1 dies instead", a_process_that_would_break_p1_dies_instead},
    {"concurrent putters lose nothing while epochs pass",
     concurrent_putters_lose_nothing_while_epochs_pass},
    {"opening under fire keeps every port in order", opening_under_fire_keeps_every_port_in_order},
    {"after discard returned nothing is emitted, even under fire",
     after_discard_returned_nothing_is_emitted_even_under_fire},
    {"a release ends with the piece that is leaving",
     a_release_ends_with_the_piece_that_is_leaving},
};

TEST_MAIN("outbox", cases)
