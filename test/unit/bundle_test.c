/* Several connections as one link: order and contents are kept whatever the sizes, and one that
 * dies, lies or stands still is the end of all. */
#include "transport/bundle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "transport/inproc.h"

#define AMPLE_MS 60000
#define SHORT_MS 50

static void make_pair(unsigned count, struct link *pair[2])
{
    struct link *near[BUNDLE_MAX], *far[BUNDLE_MAX];
    for (unsigned i = 0; i < count; i++) {
        CU_ASSERT_EQUAL_FATAL(inproc_pair("test", pair, NULL), 0);
        near[i] = pair[0];
        far[i] = pair[1];
    }
    CU_ASSERT_EQUAL_FATAL(bundle_create(near, count, &pair[0], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(far, count, &pair[1], NULL), 0);
    CU_ASSERT_PTR_NULL(near[count - 1]);
    CU_ASSERT_EQUAL(link_streams(pair[0]), count);
}

static void drop(struct link *pair[2])
{
    link_destroy(&pair[0]);
    link_destroy(&pair[1]);
}

/* Around every place where slices begin, end, or are none. */
static const size_t sizes[] = {
    1,
    4095,
    BUNDLE_SLICE_MIN - 1,
    BUNDLE_SLICE_MIN,
    BUNDLE_SLICE_MIN + 1,
    8 * PAGE_SIZE + 17,
    17 * PAGE_SIZE,
    24 * PAGE_SIZE - 1,
    (256 * PAGE_SIZE) + 3000,
    FRAME_PAYLOAD_MAX,
};

static uint8_t byte_at(size_t frame, size_t i)
{
    return (uint8_t)((i + 1) * (frame + 7) * 2654435761u >> 13);
}

/* All sizes, each in pieces that don't end where slices do. */
static void *send_all(void *link)
{
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    for (size_t f = 0; f < ARRAY_SIZE(sizes); f++) {
        for (size_t i = 0; i < sizes[f]; i++)
            bytes[i] = byte_at(f, i);
        struct iovec parts[400];
        int count = 0;
        for (size_t at = 0; at < sizes[f]; count++) {
            const size_t n = sizes[f] - at < 3001 ? sizes[f] - at : 3001;
            parts[count] = (struct iovec){bytes + at, n};
            at += n;
        }
        const struct frame fields = {.type = FRAME_PAGES, .term = 1, .epoch = f + 1};
        CU_ASSERT_EQUAL(link_send(link, &fields, parts, count, NULL), 0);
    }
    free(bytes);
    return NULL;
}

static void receive_all(struct link *link)
{
    uint8_t *bytes = malloc(FRAME_PAYLOAD_MAX);
    for (size_t f = 0; f < ARRAY_SIZE(sizes); f++) {
        struct frame header;
        CU_ASSERT_EQUAL_FATAL(link_receive_header(link, &header, NULL), 0);
        CU_ASSERT_EQUAL(header.epoch, f + 1);
        CU_ASSERT_EQUAL_FATAL(header.size, sizes[f]);
        CU_ASSERT_EQUAL_FATAL(link_receive_payload(link, bytes, header.size, NULL), 0);
        size_t wrong = 0;
        for (size_t i = 0; i < sizes[f]; i++)
            wrong += bytes[i] != byte_at(f, i);
        CU_ASSERT_EQUAL(wrong, 0);
    }
    free(bytes);
}

static void *receive_all_main(void *link)
{
    receive_all(link);
    return NULL;
}

static void frames_of_every_size_arrive_in_order_on_any_number_of_streams(void)
{
    for (unsigned count = 2; count <= BUNDLE_MAX; count++) {
        struct link *pair[2];
        pthread_t senders[2], receiver;
        make_pair(count, pair);
        /* Both directions at once. */
        pthread_create(&senders[0], NULL, send_all, pair[0]);
        pthread_create(&senders[1], NULL, send_all, pair[1]);
        pthread_create(&receiver, NULL, receive_all_main, pair[0]);
        receive_all(pair[1]);
        pthread_join(receiver, NULL);
        pthread_join(senders[0], NULL);
        pthread_join(senders[1], NULL);
        drop(pair);
    }
}

/* --- faults of one member --- */

/* Two streams; the second one's bytes pass through the test's hands. */
struct wire {
    struct link *pair[2];
    int ends[2];
};

static void make_wire(struct wire *w)
{
    struct link *first[2], *near[2], *far[2];
    int a[2], b[2];
    CU_ASSERT_EQUAL_FATAL(inproc_pair("test", first, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    near[0] = first[0];
    far[0] = first[1];
    CU_ASSERT_EQUAL_FATAL(inproc_adopt(a[0], "near", &near[1], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(inproc_adopt(b[0], "far", &far[1], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(near, 2, &w->pair[0], NULL), 0);
    CU_ASSERT_EQUAL_FATAL(bundle_create(far, 2, &w->pair[1], NULL), 0);
    w->ends[0] = a[1];
    w->ends[1] = b[1];
    for (int i = 0; i < 2; i++)
        link_set_timeouts(w->pair[i], AMPLE_MS, AMPLE_MS);
}

static void drop_wire(struct wire *w)
{
    drop(w->pair);
    fd_close(&w->ends[0]);
    fd_close(&w->ends[1]);
}

#define LARGE (2 * BUNDLE_SLICE_MIN)

static void *send_large(void *link)
{
    uint8_t *bytes = calloc(1, LARGE);
    const struct iovec part = {bytes, LARGE};
    const struct frame fields = {.type = FRAME_PAGES, .term = 1, .epoch = 1};
    const int rc = link_send(link, &fields, &part, 1, NULL);
    free(bytes);
    return (void *)(intptr_t)rc;
}

static int receive_large(struct link *link)
{
    uint8_t *bytes = malloc(LARGE);
    struct frame header;
    int rc = link_receive_header(link, &header, NULL);
    if (rc == 0)
        rc = link_receive_payload(link, bytes, header.size, NULL);
    free(bytes);
    return rc;
}

/* Sends one large frame, hands the receiver `deliver` bytes of the second stream's half, the one at
 * `flip` changed, and closes that stream if asked to. The receiver's result. */
static int receive_spoilt(size_t deliver, size_t flip, bool close)
{
    struct wire w;
    pthread_t sender;
    void *sent;
    uint8_t *half = malloc(LARGE / 2);
    make_wire(&w);
    pthread_create(&sender, NULL, send_large, w.pair[0]);
    CU_ASSERT_EQUAL_FATAL(fd_read_all(w.ends[0], half, LARGE / 2), 0);
    if (flip < LARGE / 2)
        half[flip] ^= 4;
    CU_ASSERT_EQUAL(fd_write_all(w.ends[1], half, deliver), 0);
    /* All that is to come lies in the sockets: nothing is late but what never comes. */
    pthread_join(sender, &sent);
    CU_ASSERT_PTR_NULL(sent);
    if (close)
        fd_close(&w.ends[1]);
    else
        link_set_timeouts(w.pair[1], AMPLE_MS, SHORT_MS);
    const int rc = receive_large(w.pair[1]);
    struct frame header;
    if (rc < 0)
        CU_ASSERT_EQUAL(link_receive_header(w.pair[1], &header, NULL), rc);
    drop_wire(&w);
    free(half);
    return rc;
}

static void one_stream_that_lies_ends_or_stands_still_is_the_end_of_all(void)
{
    CU_ASSERT_EQUAL(receive_spoilt(LARGE / 2, SIZE_MAX, false), 0);
    CU_ASSERT_EQUAL(receive_spoilt(LARGE / 2, 0, false), -EBADMSG);
    CU_ASSERT_EQUAL(receive_spoilt(LARGE / 2, LARGE / 2 - 1, false), -EBADMSG);
    CU_ASSERT_EQUAL(receive_spoilt(0, SIZE_MAX, true), -ECONNRESET);
    CU_ASSERT_EQUAL(receive_spoilt(LARGE / 2 - 1, SIZE_MAX, true), -ECONNRESET);
    CU_ASSERT_EQUAL(receive_spoilt(LARGE / 2 - 1, SIZE_MAX, false), -ETIMEDOUT);
}

static void a_sender_whose_stream_died_fails_and_so_does_its_receiver(void)
{
    struct wire w;
    make_wire(&w);
    fd_close(&w.ends[0]);
    CU_ASSERT((intptr_t)send_large(w.pair[0]) < 0);
    CU_ASSERT((intptr_t)send_large(w.pair[0]) < 0);
    fd_close(&w.ends[1]); /* as a wire whose other end is gone */
    CU_ASSERT(receive_large(w.pair[1]) < 0);
    drop_wire(&w);
}

static void *receive_main(void *link)
{
    return (void *)(intptr_t)receive_large(link);
}

static void *send_until_error(void *link)
{
    void *rc = NULL;
    while (!rc)
        rc = send_large(link);
    return rc;
}

static void shutdown_wakes_a_blocked_sender_and_receiver(void)
{
    struct link *pair[2];
    make_pair(3, pair);
    pthread_t sender, receiver;
    void *rc;
    pthread_create(&sender, NULL, send_until_error, pair[0]);
    pthread_create(&receiver, NULL, receive_main, pair[0]);
    while (link_counters(pair[0]).frames_sent == 0)
        sched_yield();
    link_shutdown(pair[0]);
    pthread_join(sender, &rc);
    CU_ASSERT_EQUAL((intptr_t)rc, -EPIPE);
    pthread_join(receiver, &rc);
    CU_ASSERT_EQUAL((intptr_t)rc, -ECONNRESET);
    drop(pair);
}

static const struct test_case cases[] = {
    {"frames of every size arrive in order on any number of streams",
     frames_of_every_size_arrive_in_order_on_any_number_of_streams},
    {"one stream that lies, ends or stands still is the end of all",
     one_stream_that_lies_ends_or_stands_still_is_the_end_of_all},
    {"a sender whose stream died fails, and so does its receiver",
     a_sender_whose_stream_died_fails_and_so_does_its_receiver},
    {"shutdown wakes a blocked sender and receiver", shutdown_wakes_a_blocked_sender_and_receiver},
};

TEST_MAIN("bundle", cases)
