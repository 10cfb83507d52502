/* virtio-net: transmit, receive with merged and single buffers, backpressure, offload headers. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/runner.h"
#include "test/support/virtio_driver.h"

#define SLOT   4
#define RX     0
#define TX     1
#define HEADER 12
#define BIT(n) (1ull << (n))
#define MERGE  BIT(VIRTIO_NET_F_MRG_RXBUF)
#define CSUM   BIT(VIRTIO_NET_F_GUEST_CSUM)
#define TSO4   BIT(VIRTIO_NET_F_GUEST_TSO4)

static struct vd_machine m;
static struct device net;
static struct vd_driver d;
static int wire; /* the far end of what the device receives from */
static int near_end;

static void create(void)
{
    vd_machine_create(&m);
    const struct virtio_net_options options = {.index = 2,
                                               .slot = SLOT,
                                               .mac = {0x52, 0x54, 0, 1, 2, 3},
                                               .output = &vd_output,
                                               .output_context = &m};
    CU_ASSERT_EQUAL_FATAL(virtio_net_create(&m.env, m.host, &options, &net, NULL), 0);
    vd_probe(&d, &m, SLOT);
    int pair[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    wire = pair[0];
    near_end = pair[1];
}

static void start(uint64_t features)
{
    create();
    vd_start(&d, features, 2, 8);
    CU_ASSERT_EQUAL_FATAL(virtio_net_attach(&net, near_end, NULL), 0);
}

static void stop(void)
{
    vd_device_destroy(&net);
    vd_machine_destroy(&m);
    fd_close(&wire);
    fd_close(&near_end);
}

/* --- transmit ------------------------------------------------------------------------------- */

/* A frame of `size` bytes, header included, with a recognisable pattern. */
static gpa_t make_frame(uint32_t size)
{
    const gpa_t at = vd_alloc(&m, size);
    uint8_t *bytes = gmem_view(m.env.memory, at, size);
    for (uint32_t i = HEADER; i < size; i++)
        bytes[i] = (uint8_t)(i * 7);
    return at;
}

static void a_frame_leaves_at_once_with_its_header(void)
{
    start(0);
    const gpa_t at = make_frame(1000);
    const struct vd_buffer parts[] = {{at, HEADER, false}, {at + HEADER, 988, false}};
    const uint16_t head = vd_offer(&d, TX, parts, 2);
    vd_kick(&d, TX);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_take(&d, TX, &id, &length));
    CU_ASSERT_EQUAL(id, head);
    CU_ASSERT_EQUAL(m.frame_count, 1);
    CU_ASSERT_EQUAL(m.frame_network, 2);
    CU_ASSERT_EQUAL(m.frame_size, 1000);
    CU_ASSERT_EQUAL(memcmp(m.frame, gmem_view(m.env.memory, at, 1000), 1000), 0);
    CU_ASSERT_EQUAL(m.message_count, 1);
    CU_ASSERT_EQUAL(m.messages[0].data, 0x41);
    stop();
}

static void frames_of_impossible_size_are_swallowed(void)
{
    start(0);
    const uint32_t sizes[] = {1, HEADER, HEADER + 13, MACHINE_FRAME_MAX + 1};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct vd_buffer part = {make_frame(sizes[i]), sizes[i], false};
        vd_offer(&d, TX, &part, 1);
    }
    const struct vd_buffer in = {vd_alloc(&m, 64), 64, true}; /* nothing to send at all */
    vd_offer(&d, TX, &in, 1);
    vd_kick(&d, TX);
    uint32_t id, length;
    for (size_t i = 0; i < 5; i++)
        CU_ASSERT_TRUE(vd_take(&d, TX, &id, &length));
    CU_ASSERT_EQUAL(m.frame_count, 0);
    const struct vd_buffer largest = {make_frame(MACHINE_FRAME_MAX), MACHINE_FRAME_MAX, false};
    vd_offer(&d, TX, &largest, 1);
    vd_kick(&d, TX);
    CU_ASSERT_EQUAL(m.frame_size, MACHINE_FRAME_MAX);
    stop();
}

/* --- receive -------------------------------------------------------------------------------- */

/* Sends a frame of `size` bytes, header included, to the device. */
static void send_frame(size_t size, struct virtio_net_hdr_v1 header)
{
    static uint8_t bytes[MACHINE_FRAME_MAX];
    for (size_t i = HEADER; i < size; i++)
        bytes[i] = (uint8_t)(i * 3 + size);
    memcpy(bytes, &header, sizeof(header));
    CU_ASSERT_EQUAL_FATAL(send(wire, bytes, size, 0), (ssize_t)size);
}

static gpa_t offer_rx(uint32_t size)
{
    const struct vd_buffer buffer = {vd_alloc(&m, size), size, true};
    vd_offer(&d, RX, &buffer, 1);
    return buffer.gpa;
}

static bool pattern_is_right(const uint8_t *bytes, size_t from, size_t to, size_t size)
{
    for (size_t i = from; i < to; i++)
        if (bytes[i - from] != (uint8_t)(i * 3 + size))
            return false;
    return true;
}

static const struct virtio_net_hdr_v1 plain;

static void a_frame_arrives_in_one_buffer(void)
{
    start(0);
    const gpa_t at = offer_rx(2000);
    send_frame(100, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 100);
    CU_ASSERT_TRUE(pattern_is_right(gmem_view(m.env.memory, at + HEADER, 88), HEADER, 100, 100));
    CU_ASSERT_EQUAL(vd_get16(&m, at + 10), 1); /* num_buffers, merged or not (§5.1.6.4.1) */
    CU_ASSERT_EQUAL(m.message_count, 1);
    CU_ASSERT_EQUAL(m.messages[0].data, 0x40);
    stop();
}

static void a_large_frame_is_spread_over_merged_buffers(void)
{
    start(MERGE);
    gpa_t at[4];
    for (unsigned i = 0; i < 4; i++)
        at[i] = offer_rx(1000);
    send_frame(2500, plain);
    uint32_t id, length, total = 0;
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
        const uint32_t from = i == 0 ? HEADER : 0;
        CU_ASSERT_TRUE(pattern_is_right(gmem_view(m.env.memory, at[i] + from, length - from),
                                        total + from, total + length, 2500));
        total += length;
    }
    CU_ASSERT_EQUAL(total, 2500);
    CU_ASSERT_EQUAL(vd_get16(&m, at[0] + 10), 3);
    CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
    stop();
}

static void the_count_of_buffers_may_be_split_over_descriptors(void)
{
    start(MERGE);
    const gpa_t at = vd_alloc(&m, 200);
    const struct vd_buffer parts[] = {{at, 11, true}, {at + 100, 50, true}};
    vd_offer(&d, RX, parts, 2);
    offer_rx(100);
    send_frame(80, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 61);
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, at + 10, 1), 2);
    CU_ASSERT_EQUAL(*gmem_view(m.env.memory, at + 100, 1), 0);
    stop();
}

static bool nothing_left_to_read(void *context)
{
    (void)context;
    char byte;
    return recv(near_end, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static void without_merging_a_frame_that_does_not_fit_is_dropped(void)
{
    start(0);
    offer_rx(500);
    send_frame(1000, plain);
    send_frame(400, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 400);
    CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
    stop();
}

static void without_buffers_reading_stops_until_the_guest_refills(void)
{
    start(MERGE);
    for (unsigned i = 0; i < 3; i++)
        send_frame(100 + i, plain);
    for (unsigned i = 0; i < 5; i++)
        vd_pump(&m);
    CU_ASSERT_FALSE(nothing_left_to_read(NULL));         /* two frames wait on the wire */
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used), 0); /* the guest shall notify */
    uint32_t id, length;
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
        offer_rx(2000);
        vd_kick(&d, RX);
        CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
        CU_ASSERT_EQUAL(length, 100 + i);
    }
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used), VRING_USED_F_NO_NOTIFY);
    stop();
}

static void a_merged_frame_waits_until_all_its_buffers_are_there(void)
{
    start(MERGE | BIT(VIRTIO_RING_F_EVENT_IDX));
    send_frame(250, plain);
    offer_rx(100);
    vd_pump(&m);
    uint32_t id, length;
    CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used + 4 + 8 * 8), 1); /* notify after buffer 1 */
    offer_rx(100);
    vd_kick(&d, RX);
    CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(vd_get16(&m, d.queues[RX].used + 4 + 8 * 8), 2);
    offer_rx(100);
    vd_kick(&d, RX);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_TRUE(vd_take(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 50);
    stop();
}

static void a_waiting_frame_does_not_outlive_a_reset(void)
{
    start(MERGE);
    send_frame(100, plain);
    vd_pump(&m);
    CU_ASSERT_TRUE(nothing_left_to_read(NULL)); /* the device has it and waits for buffers */
    vd_start(&d, MERGE, 2, 8);
    offer_rx(500);
    vd_kick(&d, RX);
    send_frame(200, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 200);
    stop();
}

static void a_frame_that_a_full_ring_can_not_hold_is_dropped(void)
{
    start(MERGE);
    for (unsigned i = 0; i < 8; i++)
        offer_rx(50);
    send_frame(500, plain);
    send_frame(40, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 40);
    stop();
}

static void offloads_the_guest_declined_do_not_reach_it(void)
{
    const struct virtio_net_hdr_v1 csum = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
    const struct virtio_net_hdr_v1 tso = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                          .gso_type = VIRTIO_NET_HDR_GSO_TCPV4};
    const struct virtio_net_hdr_v1 udp = {.gso_type = VIRTIO_NET_HDR_GSO_UDP};
    const struct virtio_net_hdr_v1 valid = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    const struct {
        uint64_t features;
        unsigned arrive; /* of csum, tso, udp, valid */
    } rounds[] = {{0, 1}, {CSUM, 2}, {CSUM | TSO4, 3}};
    for (size_t r = 0; r < ARRAY_SIZE(rounds); r++) {
        start(rounds[r].features);
        gpa_t last = 0;
        for (unsigned i = 0; i < 4; i++)
            last = offer_rx(500);
        send_frame(100, csum);
        send_frame(101, tso);
        send_frame(102, udp);
        send_frame(103, valid);
        uint32_t id, length = 0;
        for (unsigned i = 0; i < rounds[r].arrive; i++)
            CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
        CU_ASSERT_EQUAL(length, 103);
        CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
        if (rounds[r].arrive == 1)
            CU_ASSERT_EQUAL(*gmem_view(m.env.memory, last - 3 * PAGE_SIZE, 1), 0);
        stop();
    }
}

static void short_frames_and_a_closed_backend_are_survived(void)
{
    start(0);
    offer_rx(500);
    CU_ASSERT_EQUAL(send(wire, "tiny", 4, 0), 4);
    send_frame(100, plain);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 100);
    fd_close(&wire);
    vd_pump(&m);
    vd_kick(&d, RX); /* not asked again: a level-triggered end of file would spin */
    CU_ASSERT_EQUAL(event_base_get_num_events(m.env.events, EVENT_BASE_COUNT_ADDED), 0);
    int pair[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    CU_ASSERT_EQUAL(virtio_net_attach(&net, pair[1], NULL), 0);
    fd_close(&near_end);
    wire = pair[0];
    near_end = pair[1];
    offer_rx(500);
    send_frame(200, plain);
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 200);
    stop();
}

static void a_detached_device_reads_nothing(void)
{
    start(0);
    offer_rx(500);
    CU_ASSERT_EQUAL(virtio_net_attach(&net, -1, NULL), 0);
    send_frame(100, plain);
    vd_pump(&m);
    CU_ASSERT_FALSE(nothing_left_to_read(NULL));
    CU_ASSERT_EQUAL(virtio_net_attach(&net, near_end, NULL), 0);
    uint32_t id, length;
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    stop();
}

static void nothing_is_received_while_the_machine_is_parked(void)
{
    start(0);
    offer_rx(500);
    net.ops->quiesce(net.context);
    send_frame(100, plain);
    vd_pump(&m);
    vd_pump(&m);
    uint32_t id, length;
    CU_ASSERT_FALSE(vd_take(&d, RX, &id, &length));
    net.ops->resume(net.context);
    CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    stop();
}

static void an_idle_resume_dirties_nothing(void)
{
    start(MERGE | BIT(VIRTIO_RING_F_EVENT_IDX));
    offer_rx(500);
    vd_kick(&d, RX);
    vd_kick(&d, TX);
    uint64_t bitmap[VD_MEMORY_SIZE / PAGE_SIZE / 64];
    for (unsigned i = 0; i < 2; i++) {
        memset(bitmap, 0, sizeof(bitmap));
        gmem_take_marks(m.env.memory, bitmap);
        net.ops->quiesce(net.context);
        net.ops->resume(net.context);
        vd_pump(&m);
    }
    memset(bitmap, 0, sizeof(bitmap));
    gmem_take_marks(m.env.memory, bitmap);
    for (size_t i = 0; i < ARRAY_SIZE(bitmap); i++)
        CU_ASSERT_EQUAL(bitmap[i], 0);
    stop();
}

/* --- features and configuration ------------------------------------------------------------- */

static void the_configuration_shows_mac_and_link(void)
{
    create();
    const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    for (unsigned i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(vd_mmio_read(&m, d.device + i, 1), mac[i]);
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.device + 6, 2), VIRTIO_NET_S_LINK_UP);
    CU_ASSERT_EQUAL(vd_mmio_read(&m, d.device + 8, 8), 0); /* behind the end */
    stop();
}

static void features_that_need_others_are_refused_alone(void)
{
    create();
    const uint64_t v1 = BIT(VIRTIO_F_VERSION_1);
    CU_ASSERT_FALSE(vd_negotiate(&d, v1 | TSO4));
    CU_ASSERT_FALSE(vd_negotiate(&d, v1 | BIT(VIRTIO_NET_F_HOST_TSO6)));
    CU_ASSERT_FALSE(vd_negotiate(&d, v1 | CSUM | BIT(VIRTIO_NET_F_GUEST_ECN)));
    CU_ASSERT_TRUE(vd_negotiate(&d, v1 | CSUM | TSO4));
    CU_ASSERT_TRUE(vd_negotiate(&d, vd_features(&d)));
    stop();
}

static void buffers_of_zero_bytes_do_not_hold_the_device_up(void)
{
    start(MERGE);
    const struct vd_buffer nothing = {vd_alloc(&m, 16), 0, true};
    for (unsigned i = 0; i < 7; i++)
        vd_offer(&d, RX, &nothing, 1);
    offer_rx(500);
    send_frame(100, plain);
    uint32_t id, length;
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT_TRUE(vd_wait(&d, RX, &id, &length));
    CU_ASSERT_EQUAL(length, 100);
    stop();
}

static void *io_thread(void *context)
{
    (void)context;
    event_base_loop(m.env.events, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

/* What a promotion and a park do, while the I/O thread is in the middle of receiving. */
static void backends_change_while_the_io_thread_receives(void)
{
    start(MERGE);
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, io_thread, NULL), 0);
    uint32_t id, length, received = 0;
    for (unsigned round = 0; round < 300; round++) {
        const struct vd_buffer buffer = {0x1000, 500, true};
        if (d.queues[RX].avail_idx - received < 8) { /* as many as the ring holds */
            vd_offer(&d, RX, &buffer, 1);
            vd_kick(&d, RX);
        }
        ssize_t sent = send(wire, "a frame of some length", 22, MSG_DONTWAIT);
        sent += send(wire, (uint8_t[100]){0}, 100, MSG_DONTWAIT);
        CU_ASSERT(sent >= -2);
        device_lock_acquire(m.env.lock);
        net.ops->quiesce(net.context);
        if (round % 3 == 0)
            CU_ASSERT_EQUAL(virtio_net_attach(&net, -1, NULL), 0);
        if (round % 3 != 1)
            CU_ASSERT_EQUAL(virtio_net_attach(&net, near_end, NULL), 0);
        net.ops->resume(net.context);
        device_lock_release(m.env.lock);
        device_lock_acquire(m.env.lock);
        while (vd_take(&d, RX, &id, &length))
            received++;
        device_lock_release(m.env.lock);
    }
    const struct timeval now = {0};
    event_base_loopexit(m.env.events, &now);
    pthread_join(thread, NULL);
    while (vd_take(&d, RX, &id, &length))
        received++;
    CU_ASSERT(received > 0 && received <= 300);
    CU_ASSERT_EQUAL(vd_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
    stop();
}

static const struct test_case cases[] = {
    {"a frame leaves at once with its header", a_frame_leaves_at_once_with_its_header},
    {"frames of impossible size are swallowed", frames_of_impossible_size_are_swallowed},
    {"a frame arrives in one buffer", a_frame_arrives_in_one_buffer},
    {"a large frame is spread over merged buffers", a_large_frame_is_spread_over_merged_buffers},
    {"the count of buffers may be split over descriptors",
     the_count_of_buffers_may_be_split_over_descriptors},
    {"without merging a frame that does not fit is dropped",
     without_merging_a_frame_that_does_not_fit_is_dropped},
    {"without buffers reading stops until the guest refills",
     without_buffers_reading_stops_until_the_guest_refills},
    {"a merged frame waits until all its buffers are there",
     a_merged_frame_waits_until_all_its_buffers_are_there},
    {"a waiting frame does not outlive a reset", a_waiting_frame_does_not_outlive_a_reset},
    {"a frame that a full ring can not hold is dropped",
     a_frame_that_a_full_ring_can_not_hold_is_dropped},
    {"offloads the guest declined do not reach it", offloads_the_guest_declined_do_not_reach_it},
    {"short frames and a closed backend are survived",
     short_frames_and_a_closed_backend_are_survived},
    {"a detached device reads nothing", a_detached_device_reads_nothing},
    {"nothing is received while the machine is parked",
     nothing_is_received_while_the_machine_is_parked},
    {"an idle resume dirties nothing", an_idle_resume_dirties_nothing},
    {"the configuration shows MAC and link", the_configuration_shows_mac_and_link},
    {"features that need others are refused alone", features_that_need_others_are_refused_alone},
    {"buffers of zero bytes do not hold the device up",
     buffers_of_zero_bytes_do_not_hold_the_device_up},
    {"backends change while the I/O thread receives", backends_change_while_the_io_thread_receives},
};

TEST_MAIN("virtio-net", cases)
