/* The ring of events: order, loss that is told, and appends from many threads. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "control/events.h"
#include "test/support/runner.h"

#define CAPACITY   8
#define THREADS    4
#define PER_THREAD 500

static void events_come_back_in_order_with_growing_ids(void)
{
    struct control_events *events = control_events_create(CAPACITY);
    struct control_event event;
    CU_ASSERT_FALSE(control_events_next(events, 0, &event));
    CU_ASSERT_EQUAL(control_events_last(events), 0);
    CU_ASSERT_EQUAL(control_events_note(events, CONTROL_INFO, "a.b", "first of %d", 2), 1);
    CU_ASSERT_EQUAL(control_events_note(events, CONTROL_ERROR, "a.c", "second"), 2);
    CU_ASSERT_TRUE(control_events_next(events, 0, &event));
    CU_ASSERT_EQUAL(event.id, 1);
    CU_ASSERT_STRING_EQUAL(event.text, "first of 2");
    CU_ASSERT_TRUE(control_events_next(events, 1, &event));
    CU_ASSERT_EQUAL(event.severity, CONTROL_ERROR);
    CU_ASSERT(event.wall_ns > 0 && event.monotonic_ns > 0);
    CU_ASSERT_FALSE(control_events_next(events, 2, &event));
    CU_ASSERT_FALSE(control_events_next(events, UINT64_MAX, &event));
    control_events_destroy(&events);
    CU_ASSERT_PTR_NULL(events);
}

static void an_overflown_ring_keeps_the_newest_and_shows_the_gap(void)
{
    struct control_events *events = control_events_create(CAPACITY);
    struct control_event event;
    for (int i = 1; i <= 3 * CAPACITY + 1; i++)
        control_events_note(events, CONTROL_INFO, "n", "%d", i);
    uint64_t seen = 0;
    int count = 0;
    for (; control_events_next(events, seen, &event); seen = event.id, count++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", (int)event.id);
        CU_ASSERT_STRING_EQUAL(event.text, text);
    }
    CU_ASSERT_EQUAL(count, CAPACITY);
    CU_ASSERT_EQUAL(seen, 3 * CAPACITY + 1);
    CU_ASSERT_TRUE(control_events_next(events, 1, &event));
    CU_ASSERT_EQUAL(event.id, 2 * CAPACITY + 2);
    control_events_destroy(&events);
}

static void what_does_not_fit_is_cut_not_written_past_its_end(void)
{
    char text[2 * CONTROL_EVENT_TEXT_MAX];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct control_event event;
    control_event_init(&event, CONTROL_INFO, text, "%s", text);
    for (int i = 0; i < CONTROL_EVENT_FIELDS_MAX + 3; i++)
        control_event_add(&event, text, "%s", text);
    CU_ASSERT_EQUAL(strlen(event.kind), CONTROL_EVENT_KIND_MAX - 1);
    CU_ASSERT_EQUAL(strlen(event.text), CONTROL_EVENT_TEXT_MAX - 1);
    CU_ASSERT_EQUAL(event.field_count, CONTROL_EVENT_FIELDS_MAX);
    CU_ASSERT_EQUAL(strlen(event.fields[0].value), CONTROL_EVENT_VALUE_MAX - 1);
}

static void count_call(void *context)
{
    ++*(int *)context; /* under the ring's lock */
}

static void *append_many(void *context)
{
    struct control_events *events = context;
    for (int i = 0; i < PER_THREAD; i++)
        control_events_note(events, CONTROL_INFO, "thread", "%d", i);
    return NULL;
}

static void many_threads_lose_no_event_and_each_is_notified(void)
{
    struct control_events *events = control_events_create(THREADS * PER_THREAD);
    int calls = 0;
    control_events_set_notify(events, count_call, &calls);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, append_many, events), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    control_events_set_notify(events, NULL, NULL);
    CU_ASSERT_EQUAL(calls, THREADS * PER_THREAD);
    struct control_event event;
    uint64_t seen = 0;
    nsec_t before = 0;
    while (control_events_next(events, seen, &event)) {
        CU_ASSERT_EQUAL(event.id, seen + 1);
        CU_ASSERT(event.monotonic_ns >= before);
        before = event.monotonic_ns;
        seen = event.id;
    }
    CU_ASSERT_EQUAL(seen, THREADS * PER_THREAD);
    control_events_destroy(&events);
}

static const struct test_case cases[] = {
    {"events come back in order with growing ids", events_come_back_in_order_with_growing_ids},
    {"an overflown ring keeps the newest and shows the gap",
     an_overflown_ring_keeps_the_newest_and_shows_the_gap},
    {"what does not fit is cut, not written past its end",
     what_does_not_fit_is_cut_not_written_past_its_end},
    {"many threads lose no event and each is notified",
     many_threads_lose_no_event_and_each_is_notified},
};

TEST_MAIN("control-events", cases)
