/* The fault layer does to a link exactly what its rules say, at exactly the place they say. */
#include "test/support/fault_link.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test/support/runner.h"
#include "transport/inproc.h"
#include "transport/message.h"

#define FRAME_BYTES (FRAME_HEADER_SIZE + 5) /* of every frame sent here: the payload is "hello" */
#define WAIT_MS     10000                   /* longest wait for a condition */

/* pair[0] is faulty, pair[1] is the honest peer. */
static void make(struct link *pair[2])
{
    CU_ASSERT_EQUAL_FATAL(inproc_pair("fault", pair, NULL), 0);
    pair[0] = fault_link_wrap(&pair[0], 7);
}

static void drop(struct link *pair[2])
{
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
}

static int send_hello(struct link *link)
{
    const struct frame fields = {.type = FRAME_PAGES, .term = 1, .epoch = 1};
    char text[] = "hello";
    const struct iovec part = {text, 5};
    return link_send(link, &fields, &part, 1, NULL);
}

/* 0 only when the frame and its payload are as sent. */
static int receive_hello(struct link *link)
{
    struct frame header;
    char text[6] = "";
    int rc = link_receive_header(link, &header, NULL);
    if (rc == 0)
        rc = link_receive_payload(link, text, header.size, NULL);
    if (rc == 0)
        CU_ASSERT_STRING_EQUAL(text, "hello");
    return rc;
}

static void without_rules_nothing_changes(void)
{
    struct link *pair[2];
    make(pair);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
        CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
        CU_ASSERT_EQUAL(send_hello(pair[1]), 0);
        CU_ASSERT_EQUAL(receive_hello(pair[0]), 0);
    }
    CU_ASSERT_EQUAL(link_counters(pair[0]).bytes_sent, 3 * FRAME_BYTES);
    drop(pair);
}

static void a_cut_before_a_frame_lets_the_frames_before_it_through(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_CUT, .at_frame = 3});
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    CU_ASSERT_EQUAL(send_hello(pair[0]), -ECONNRESET);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), -EPIPE);
    CU_ASSERT_EQUAL(receive_hello(pair[0]), -ECONNRESET);
    drop(pair);
}

static void a_cut_at_any_byte_truncates_there(void)
{
    for (uint64_t at = 0; at < 2 * FRAME_BYTES; at++) {
        struct link *pair[2];
        make(pair);
        fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_CUT, .at_byte = at});
        const bool first = at >= FRAME_BYTES;
        CU_ASSERT_EQUAL(send_hello(pair[0]), first ? 0 : -ECONNRESET);
        CU_ASSERT_EQUAL(send_hello(pair[0]), -ECONNRESET);
        if (first)
            CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
        CU_ASSERT_EQUAL(receive_hello(pair[1]), at % FRAME_BYTES ? -ECONNRESET : -EPIPE);
        drop(pair);
    }
}

static void a_flip_at_any_byte_is_noticed_by_the_receiver_in_either_direction(void)
{
    for (uint64_t at = 0; at < FRAME_BYTES; at++) {
        struct link *pair[2];
        make(pair);
        struct fault_rule rule = {FAULT_SEND, FAULT_FLIP, .at_frame = 2, .at_byte = at};
        fault_link_add(pair[0], rule);
        rule.direction = FAULT_RECEIVE;
        fault_link_add(pair[0], rule);
        for (int side = 0; side < 2; side++) {
            CU_ASSERT_EQUAL(send_hello(pair[side]), 0);
            CU_ASSERT_EQUAL(send_hello(pair[side]), 0);
            CU_ASSERT_EQUAL(receive_hello(pair[1 - side]), 0);
            const int rc = receive_hello(pair[1 - side]);
            CU_ASSERT(rc == -EBADMSG || (rc == -EPROTONOSUPPORT && (at == 4 || at == 5)));
        }
        drop(pair);
    }
}

static void *send_hello_thread(void *link)
{
    return (void *)(intptr_t)send_hello(link);
}

static void *receive_hello_thread(void *link)
{
    return (void *)(intptr_t)receive_hello(link);
}

static void a_stalled_sender_goes_on_once_released(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0],
                   (struct fault_rule){FAULT_SEND, FAULT_STALL, .at_frame = 2, .at_byte = 10});
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    pthread_t thread;
    pthread_create(&thread, NULL, send_hello_thread, pair[0]);
    CU_ASSERT_TRUE(fault_link_wait_stalled(pair[0], WAIT_MS));
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    fault_link_release(pair[0]);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    void *result;
    pthread_join(thread, &result);
    CU_ASSERT_PTR_NULL(result);
    drop(pair);
}

static void a_stalled_receiver_honours_its_time_out_and_may_try_again(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0], (struct fault_rule){FAULT_RECEIVE, FAULT_STALL, .at_frame = 1});
    CU_ASSERT_EQUAL(send_hello(pair[1]), 0);
    link_set_timeouts(pair[0], 0, 20);
    CU_ASSERT_EQUAL(receive_hello(pair[0]), -ETIMEDOUT);
    fault_link_release(pair[0]);
    CU_ASSERT_EQUAL(receive_hello(pair[0]), 0);
    drop(pair);
}

static void shutdown_frees_whoever_is_stalled(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_STALL, .at_byte = 0});
    pthread_t sender, receiver;
    pthread_create(&sender, NULL, send_hello_thread, pair[0]);
    pthread_create(&receiver, NULL, receive_hello_thread, pair[0]);
    CU_ASSERT_TRUE(fault_link_wait_stalled(pair[0], WAIT_MS));
    link_shutdown(pair[0]);
    void *result;
    pthread_join(sender, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -EPIPE);
    pthread_join(receiver, &result);
    CU_ASSERT_EQUAL((intptr_t)result, -ECONNRESET);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), -EPIPE);
    drop(pair);
}

static void delay_and_short_writes_change_nothing_but_time(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_SHORT, .at_frame = 2});
    fault_link_add(pair[0],
                   (struct fault_rule){FAULT_SEND, FAULT_DELAY, .at_frame = 3, .delay_ms = 5});
    const nsec_t before = clock_now();
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
        CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    }
    CU_ASSERT(clock_now() - before >= 2 * MSEC(5));
    drop(pair);
}

static void layers_can_be_stacked(void)
{
    struct link *pair[2];
    make(pair);
    fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_FLIP, .at_frame = 2});
    pair[0] = fault_link_wrap(&pair[0], 9);
    fault_link_add(pair[0], (struct fault_rule){FAULT_SEND, FAULT_SHORT, .at_frame = 1});
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), -EBADMSG);
    drop(pair);
}

#define FRAMES 12 /* of one composition */

static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

/* A rule for the way from pair[0] to pair[1]; returns the byte from which on nothing whole arrives,
 * or UINT64_MAX for a rule that only takes time. Two flips could undo each other: one is enough. */
static uint64_t add_random_rule(struct link *link, enum fault_direction direction, bool *flipped,
                                uint64_t *state)
{
    struct fault_rule rule = {.direction = direction,
                              .kind = (enum fault_kind)(draw(state) % 5),
                              .at_byte = draw(state) % (2 * FRAMES * FRAME_BYTES)};
    if (rule.kind == FAULT_FLIP && *flipped)
        rule.kind = FAULT_CUT;
    *flipped = *flipped || rule.kind == FAULT_FLIP;
    if (rule.kind == FAULT_DELAY) {
        rule.at_frame = FRAMES - 1;
        rule.delay_ms = 1;
    }
    fault_link_add(link, rule);
    return rule.kind >= FAULT_DELAY ? UINT64_MAX : rule.at_byte;
}

/* Any rules, in any layers, on either side: exactly the frames before the first of them arrive. */
static void rules_compose_over_layers_and_sides(void)
{
    unsigned whole = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t state = seed * 0x9e3779b97f4a7c15;
        struct link *pair[2];
        make(pair);
        bool flipped = false;
        uint64_t first = UINT64_MAX;
        pair[1] = fault_link_wrap(&pair[1], seed);
        for (unsigned layer = 0; layer < 2; layer++) {
            for (unsigned side = 0; side < 2; side++) {
                const enum fault_direction direction = side ? FAULT_RECEIVE : FAULT_SEND;
                for (uint64_t rules = draw(&state) % 3; rules; rules--) {
                    const uint64_t at = add_random_rule(pair[side], direction, &flipped, &state);
                    first = at < first ? at : first;
                }
            }
            if (layer == 0)
                pair[0] = fault_link_wrap(&pair[0], seed + 1);
            link_set_timeouts(pair[layer], 30, 30);
        }
        for (unsigned i = 0; i < FRAMES && send_hello(pair[0]) == 0; i++) {
        }
        unsigned arrived = 0;
        while (receive_hello(pair[1]) == 0)
            arrived++;
        const uint64_t expected = first / FRAME_BYTES < FRAMES ? first / FRAME_BYTES : FRAMES;
        CU_ASSERT_EQUAL(arrived, expected);
        whole += arrived == FRAMES;
        drop(pair);
    }
    CU_ASSERT(whole > 30 && whole < 270);
}

struct seen {
    struct link *link;
    unsigned frames;
    int message;
    epoch_t epoch;
};

static void cut_at_epoch_end(void *context, enum fault_direction direction,
                             const struct frame *frame, int message)
{
    struct seen *seen = context;
    if (direction != FAULT_SEND)
        return;
    seen->frames++;
    seen->message = message;
    seen->epoch = frame->epoch;
    if (message == MESSAGE_EPOCH_END)
        fault_link_cut(seen->link);
}

static void a_hook_can_cut_at_a_step_of_the_protocol(void)
{
    struct link *pair[2];
    make(pair);
    struct seen seen = {.link = pair[0]};
    fault_link_set_hook(pair[0], cut_at_epoch_end, &seen);
    struct message begin = {.kind = MESSAGE_EPOCH_BEGIN,
                            .epoch_begin = {.kind = MESSAGE_EPOCH_FULL}};
    struct message end = {.kind = MESSAGE_EPOCH_END};
    CU_ASSERT_EQUAL(message_send(pair[0], 1, 42, &begin, NULL), 0);
    CU_ASSERT_EQUAL(seen.message, MESSAGE_EPOCH_BEGIN);
    CU_ASSERT_EQUAL(send_hello(pair[0]), 0);
    CU_ASSERT_EQUAL(seen.message, 0);
    CU_ASSERT_EQUAL(message_send(pair[0], 1, 42, &end, NULL), -ECONNRESET);
    CU_ASSERT_EQUAL(seen.frames, 3);
    CU_ASSERT_EQUAL(seen.epoch, 42);
    struct frame header;
    struct message message;
    CU_ASSERT_EQUAL(link_receive_header(pair[1], &header, NULL), 0);
    CU_ASSERT_EQUAL(message_receive(pair[1], &header, &message, NULL), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), 0);
    CU_ASSERT_EQUAL(receive_hello(pair[1]), -EPIPE);
    drop(pair);
}

static const struct test_case cases[] = {
    {"without rules nothing changes", without_rules_nothing_changes},
    {"a cut before a frame lets the frames before it through",
     a_cut_before_a_frame_lets_the_frames_before_it_through},
    {"a cut at any byte truncates there", a_cut_at_any_byte_truncates_there},
    {"a flip at any byte is noticed by the receiver, in either direction",
     a_flip_at_any_byte_is_noticed_by_the_receiver_in_either_direction},
    {"a stalled sender goes on once released", a_stalled_sender_goes_on_once_released},
    {"a stalled receiver honours its time-out and may try again",
     a_stalled_receiver_honours_its_time_out_and_may_try_again},
    {"shutdown frees whoever is stalled", shutdown_frees_whoever_is_stalled},
    {"delay and short writes change nothing but time",
     delay_and_short_writes_change_nothing_but_time},
    {"layers can be stacked", layers_can_be_stacked},
    {"rules compose over layers and sides", rules_compose_over_layers_and_sides},
    {"a hook can cut at a step of the protocol", a_hook_can_cut_at_a_step_of_the_protocol},
};

TEST_MAIN("fault_link", cases)
