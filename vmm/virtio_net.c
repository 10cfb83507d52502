/* virtio-net (virtio 1.2 §5.1): one queue pair.
 *
 * Transmit: the frame goes to output->network() while the guest's notification is being handled,
 * and the descriptor completes at once; holding output is the receiver's affair (DESIGN §5).
 *
 * Receive: the I/O thread reads one frame at a time from the descriptor into `frame` and copies it
 * into guest buffers. When the guest has too few, the frame stays here, reading stops, and the
 * guest's next refill notification goes on with it. That frame is not state: to the guest it is
 * still on the wire, and a wire may lose it.
 *
 * Offloads pass through in the virtio-net header. The tap is told what the guest can take; a frame
 * that needs more all the same (any socket can send one) is dropped.
 *
 * Left out: control queue, multiqueue, announcements by the guest (the host announces after a
 * failover, DESIGN §5), link state (always up). */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/state.h"
#include "vmm/tap.h"
#include "vmm/virtio_devices.h"
#include "vmm/virtio_pci.h"

#define TYPE_NET       1
#define CLASS_ETHERNET 0x020000
#define QUEUE_SIZE     256
#define QUEUE_RX       0
#define QUEUE_TX       1
#define HEADER_SIZE    sizeof(struct virtio_net_hdr_v1)
#define FRAME_MIN      (HEADER_SIZE + ETH_HLEN)
#define BURST          16 /* frames moved before others get the device lock */

#define BIT(n)         (1ull << (n))
#define FEATURES                                                                                   \
    (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |              \
     BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |          \
     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |    \
     BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))

_Static_assert(sizeof(struct virtio_net_hdr_v1) == 12, "virtio 1.2 §5.1.6");

struct net {
    /* set at creation */
    const struct device_env *env;
    struct virtio_pci *transport;
    unsigned index;
    const struct machine_output_ops *output;
    void *output_context;
    struct virtio_net_config_space {
        uint8_t mac[6];
        uint16_t status;
    } __attribute__((packed)) space;

    /* protected by the device lock */
    int fd; /* receive side, borrowed; -1: none */
    struct event *readable;
    bool reading;          /* `readable` is added */
    bool backend_lost;     /* reading failed; wait for another descriptor */
    uint64_t told_backend; /* features it was last told the guest can take */
    size_t frame_size;     /* bytes in `frame` that wait for guest buffers; 0: none */
    struct virtqueue_chain first;
    struct virtqueue_chain chain;
    uint8_t frame[MACHINE_FRAME_MAX];
};

/* --- transmit ------------------------------------------------------------------------------- */

static void send_chain(struct net *n, const struct virtqueue_chain *chain)
{
    if (chain->out_size < FRAME_MIN || chain->out_size > MACHINE_FRAME_MAX)
        return;
    struct iovec parts[VIRTQUEUE_CHAIN_MAX];
    for (unsigned i = 0; i < chain->out_count; i++)
        parts[i] = (struct iovec){chain->segments[i].host, chain->segments[i].size};
    n->output->network(n->output_context, n->index, parts, (int)chain->out_count);
}

static void transmit(struct net *n)
{
    struct virtqueue *q = virtio_pci_queue(n->transport, QUEUE_TX);
    for (unsigned i = 0; i < BURST; i++) {
        if (virtqueue_pop(q, &n->chain) != 1)
            break;
        send_chain(n, &n->chain);
        virtqueue_push(q, n->chain.head, 0);
    }
    virtqueue_set_kicks(q, true);
    virtio_pci_settle(n->transport, QUEUE_TX);
    if (virtqueue_waiting(q))
        virtio_pci_defer(n->transport, QUEUE_TX);
}

/* --- receive -------------------------------------------------------------------------------- */

static void set_reading(struct net *n, bool on)
{
    if (!n->readable || n->reading == on)
        return;
    n->reading = on;
    if (on)
        event_add(n->readable, NULL);
    else
        event_del_noblock(n->readable);
}

/* Can the guest take a frame with this header? Also clears the hint it did not ask for. */
static bool header_is_welcome(const struct net *n, struct virtio_net_hdr_v1 *header)
{
    const struct virtio_pci *t = n->transport;
    if (!virtio_pci_has_feature(t, VIRTIO_NET_F_GUEST_CSUM)) {
        header->flags &= (uint8_t)~VIRTIO_NET_HDR_F_DATA_VALID;
        if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            return false;
    }
    if ((header->gso_type & VIRTIO_NET_HDR_GSO_ECN) &&
        !virtio_pci_has_feature(t, VIRTIO_NET_F_GUEST_ECN))
        return false;
    switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return true;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return virtio_pci_has_feature(t, VIRTIO_NET_F_GUEST_TSO4);
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return virtio_pci_has_feature(t, VIRTIO_NET_F_GUEST_TSO6);
    default:
        return false;
    }
}

enum delivery { DELIVERED, DROPPED, NO_BUFFERS };

/* Copies the waiting frame into as many guest buffers as it takes, or one when the guest can't
 * merge. Their number stands in the first one's header and is written last (§5.1.6.4). Nothing is
 * published yet, so what does not work out is taken back unseen. */
static enum delivery deliver(struct net *n)
{
    struct virtqueue *q = virtio_pci_queue(n->transport, QUEUE_RX);
    const bool merge = virtio_pci_has_feature(n->transport, VIRTIO_NET_F_MRG_RXBUF);
    const bool all_offered = virtqueue_waiting(q) == q->size;
    uint16_t used = 0;
    for (size_t done = 0; done < n->frame_size; used++) {
        struct virtqueue_chain *chain = used == 0 ? &n->first : &n->chain;
        const bool too_small = !merge && used == 1;
        if (too_small || virtqueue_pop(q, chain) != 1) {
            virtqueue_rewind(q, used, used);
            return too_small || all_offered ? DROPPED : NO_BUFFERS;
        }
        const size_t put =
            virtqueue_chain_write(q, chain, 0, n->frame + done, n->frame_size - done);
        virtqueue_push(q, chain->head, (uint32_t)put);
        done += put;
    }
    virtqueue_chain_write(q, &n->first, offsetof(struct virtio_net_hdr_v1, num_buffers), &used,
                          sizeof(used));
    return DELIVERED;
}

/* Reads the next frame that the guest can take into `frame`; false when there is none now. A
 * backend that fails or closes is not asked again until another one is attached. */
static bool read_frame(struct net *n)
{
    const ssize_t size = read(n->fd, n->frame, sizeof(n->frame));
    if (size <= 0) {
        if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
            log_warning("vmm", "virtio-net %u: can't receive any more: %s", n->index,
                        size == 0 ? "the backend closed" : strerror(errno));
            n->backend_lost = true;
            set_reading(n, false);
        }
        return false;
    }
    struct virtio_net_hdr_v1 header;
    memcpy(&header, n->frame, sizeof(header));
    if ((size_t)size >= FRAME_MIN && header_is_welcome(n, &header)) {
        memcpy(n->frame, &header, sizeof(header));
        n->frame_size = (size_t)size;
    }
    return true;
}

/* Stops reading until the guest offers more buffers. False when it just did. */
static bool wait_for_buffers(struct net *n, uint16_t seen)
{
    struct virtqueue *q = virtio_pci_queue(n->transport, QUEUE_RX);
    virtqueue_set_kicks(q, true);
    if (virtqueue_waiting(q) > seen)
        return false;
    set_reading(n, false);
    return true;
}

static void receive(struct net *n)
{
    struct virtqueue *q = virtio_pci_queue(n->transport, QUEUE_RX);
    set_reading(n, true);
    for (unsigned i = 0; i < BURST; i++) {
        if (!n->frame_size && !read_frame(n))
            break;
        if (!n->frame_size)
            continue;
        const uint16_t seen = virtqueue_waiting(q);
        const enum delivery delivery = deliver(n);
        if (delivery != NO_BUFFERS) {
            n->frame_size = 0;
            virtqueue_set_kicks(q, false);
        } else if (wait_for_buffers(n, seen)) {
            break;
        }
    }
    virtio_pci_settle(n->transport, QUEUE_RX);
}

static void continue_receive(struct net *n)
{
    if (n->fd < 0 || n->backend_lost)
        return;
    if (n->frame_size)
        receive(n);
    else
        set_reading(n, true);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct net *n = context;
    (void)what;
    device_lock_acquire(n->env->lock);
    if (fd != n->fd)
        ; /* detached while we waited for the lock */
    else if (virtio_pci_is_running(n->transport))
        receive(n);
    else
        set_reading(n, false); /* start() goes on */
    device_lock_release(n->env->lock);
}

/* --- driven by the transport ---------------------------------------------------------------- */

static bool accept_features(uint64_t f)
{
    const uint64_t host_tso = BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6);
    const uint64_t guest_tso = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
    if ((f & host_tso) && !(f & BIT(VIRTIO_NET_F_CSUM))) /* §5.1.3.1 */
        return false;
    if ((f & guest_tso) && !(f & BIT(VIRTIO_NET_F_GUEST_CSUM)))
        return false;
    return (!(f & BIT(VIRTIO_NET_F_HOST_ECN)) || (f & host_tso)) &&
           (!(f & BIT(VIRTIO_NET_F_GUEST_ECN)) || (f & guest_tso));
}

static uint64_t negotiated_features(const struct net *n)
{
    uint64_t features = 0;
    for (unsigned bit = 0; bit < 64; bit++)
        if ((FEATURES >> bit & 1) && virtio_pci_has_feature(n->transport, bit))
            features |= BIT(bit);
    return features;
}

static void on_start(void *context)
{
    struct net *n = context;
    const uint64_t features = negotiated_features(n);
    if (n->fd >= 0 && n->told_backend != features) {
        tap_set_receive_offloads(n->fd, features);
        n->told_backend = features;
    }
    continue_receive(n);
}

static void on_stop(void *context)
{
    struct net *n = context;
    n->frame_size = 0;
    set_reading(n, false);
}

static void on_notify(void *context, unsigned index)
{
    if (index == QUEUE_TX)
        transmit(context);
    else
        continue_receive(context);
}

static const struct virtio_device_ops transport_ops = {
    .accept_features = accept_features,
    .start = on_start,
    .stop = on_stop,
    .notify = on_notify,
};

/* --- driven by the machine ------------------------------------------------------------------ */

struct saved {
    uint8_t mac[6];
};

static const struct state_field fields[] = {
    STATE_BYTES(struct saved, mac),
};

static int check_config(const void *object, const void *context, struct error *err)
{
    const struct saved *s = object;
    const struct net *n = context;
    if (memcmp(s->mac, n->space.mac, sizeof(s->mac)) != 0)
        return error_set(err, -EINVAL, "state: virtio-net %u has another MAC address", n->index);
    return 0;
}

static const struct state_table table = {"virtio-net", 1, fields, ARRAY_SIZE(fields), check_config};

static void net_reset(void *context)
{
    virtio_pci_reset(((struct net *)context)->transport);
}

static void net_quiesce(void *context)
{
    virtio_pci_quiesce(((struct net *)context)->transport);
}

static void net_resume(void *context)
{
    virtio_pci_resume(((struct net *)context)->transport);
}

static int net_save(const void *context, uint32_t instance, struct section_set *set,
                    struct error *err)
{
    const struct net *n = context;
    struct saved s;
    memcpy(s.mac, n->space.mac, sizeof(s.mac));
    const int rc = state_save(&table, instance, &s, set, err);
    return rc < 0 ? rc : virtio_pci_save(n->transport, set, err);
}

static int net_check(const void *context, uint32_t instance, const struct section_set *set,
                     struct error *err)
{
    const struct net *n = context;
    struct saved s;
    const int rc = state_decode(&table, instance, &s, n, set, err);
    return rc < 0 ? rc : virtio_pci_check(n->transport, instance, set, err);
}

/* Nothing of our own travels but what check() compares. */
static void net_load(void *context, uint32_t instance, const struct section_set *set)
{
    virtio_pci_load(((struct net *)context)->transport, instance, set);
}

static void net_destroy(void *context)
{
    struct net *n = context;
    if (n->readable)
        event_free(n->readable);
    virtio_pci_destroy(&n->transport);
    free(n);
}

static const struct device_ops device_ops = {
    .name = "virtio-net",
    .reset = net_reset,
    .quiesce = net_quiesce,
    .resume = net_resume,
    .save = net_save,
    .check = net_check,
    .load = net_load,
    .destroy = net_destroy,
};

int virtio_net_create(const struct device_env *env, struct pci_host *host,
                      const struct virtio_net_options *options, struct device *out,
                      struct error *err)
{
    struct net *n = calloc(1, sizeof(*n));
    if (!n)
        return error_set(err, -ENOMEM, "virtio-net: out of memory");
    n->env = env;
    n->index = options->index;
    n->output = options->output;
    n->output_context = options->output_context;
    n->fd = -1;
    memcpy(n->space.mac, options->mac, sizeof(n->space.mac));
    n->space.status = VIRTIO_NET_S_LINK_UP;
    const struct virtio_pci_config transport = {
        .name = "virtio-net",
        .instance = options->index,
        .slot = options->slot,
        .type = TYPE_NET,
        .class_code = CLASS_ETHERNET,
        .features = FEATURES,
        .queue_count = 2,
        .queue_size = QUEUE_SIZE,
        .device_config = &n->space,
        .device_config_size = sizeof(n->space),
        .ops = &transport_ops,
        .context = n,
    };
    const int rc = virtio_pci_create(env, host, &transport, &n->transport, err);
    if (rc < 0) {
        free(n);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = n, .instance = options->index};
    return 0;
}

static void on_finalized(struct event *event, void *context)
{
    (void)event;
    (void)context;
}

/* The I/O thread may be inside on_readable(), waiting for the lock we hold: the event must not be
 * waited for, and is freed by the loop itself. */
static void detach(struct net *n)
{
    set_reading(n, false);
    if (n->readable)
        event_free_finalize(0, n->readable, on_finalized);
    n->readable = NULL;
    n->fd = -1;
    n->backend_lost = false;
    n->frame_size = 0;
}

int virtio_net_attach(const struct device *net, int fd, struct error *err)
{
    struct net *n = net->context;
    struct event *readable = NULL;
    if (fd >= 0) {
        readable =
            event_new(n->env->events, fd, EV_READ | EV_PERSIST | EV_FINALIZE, on_readable, n);
        if (!readable)
            return error_set(err, -ENOMEM, "virtio-net %u: can't watch descriptor %d", n->index,
                             fd);
    }
    detach(n);
    if (fd < 0)
        return 0;
    n->fd = fd;
    n->readable = readable;
    n->told_backend = UINT64_MAX;
    if (virtio_pci_is_running(n->transport))
        on_start(n);
    return 0;
}
