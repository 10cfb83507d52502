#include "test/guest/lib/tcp.h"

#include "test/guest/lib/clock.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/virtio_net.h"

#define FIN          0x01
#define SYN          0x02
#define RST          0x04
#define PSH          0x08
#define ACK          0x10

#define SEGMENT_DATA 1400
#define MSS_OPTION   4 /* bytes */

/*   CLOSED ── SYN ──► OPENING ── ACK ──► OPEN ── FIN ──► ENDING ── ACK of ours ──► CLOSED
 *
 * OPENING has sent SYN, ENDING has sent FIN; each takes one sequence number. */
enum state { CLOSED, OPENING, OPEN, ENDING };

struct tcp_connection {
    enum state state;
    struct inet_flow flow; /* from us */
    uint32_t received;     /* the next sequence number of the peer */
    uint32_t said;         /* the first of ours that is not acknowledged */
    size_t input_size, output_size;
    size_t sent; /* bytes of output that were sent at least once */
    uint64_t resend_at;
    uint64_t used_at;
    uint8_t input[TCP_INPUT], output[TCP_OUTPUT];
};

static struct tcp_connection connections[TCP_CONNECTIONS] __attribute__((section(".bss.noinit")));
static uint32_t own_ip;
static uint16_t own_port;
static tcp_hear_fn hear;

void tcp_init(uint32_t ip, uint16_t port, tcp_hear_fn function)
{
    own_ip = ip;
    own_port = port;
    hear = function;
    for (unsigned i = 0; i < TCP_CONNECTIONS; i++)
        connections[i].state = CLOSED;
}

static void send_segment(const struct inet_flow *flow, uint32_t sequence, uint32_t acknowledged,
                         uint8_t flags, size_t window, const void *data, size_t size)
{
    uint8_t *frame = net_transmit_buffer();
    struct tcp *tcp = (struct tcp *)(frame + INET_SEGMENT);
    const size_t options = flags & SYN ? MSS_OPTION : 0;
    *tcp = (struct tcp){
        .sequence = inet32(sequence),
        .acknowledged = inet32(acknowledged),
        .words = (uint8_t)((sizeof(*tcp) + options) / 4 << 4),
        .flags = flags,
        .window = inet16((uint16_t)window),
    };
    uint8_t *rest = (uint8_t *)(tcp + 1);
    if (options) {
        static const uint8_t mss[MSS_OPTION] = {2, MSS_OPTION, SEGMENT_DATA >> 8,
                                                SEGMENT_DATA & 0xff};
        memcpy(rest, mss, sizeof(mss));
    }
    memcpy(rest + options, data, size);
    net_transmit(inet_finish_tcp(frame, flow, sizeof(*tcp) + options + size));
}

static void send_flags(const struct tcp_connection *c, uint32_t sequence, uint8_t flags)
{
    send_segment(&c->flow, sequence, c->received, flags, TCP_INPUT - c->input_size, NULL, 0);
}

static void send_output(struct tcp_connection *c, size_t from)
{
    while (from < c->output_size) {
        size_t size = c->output_size - from;
        size = size < SEGMENT_DATA ? size : SEGMENT_DATA;
        send_segment(&c->flow, c->said + (uint32_t)from, c->received, ACK | PSH,
                     TCP_INPUT - c->input_size, c->output + from, size);
        from += size;
    }
    c->sent = c->output_size;
    c->resend_at = clock_ns() + TCP_RESEND_NS;
}

/* What the connection says last, whether for the first time or again. */
static void send_state(struct tcp_connection *c)
{
    if (c->state == OPENING)
        send_flags(c, c->said, SYN | ACK);
    else if (c->state == ENDING)
        send_flags(c, c->said, FIN | ACK);
    c->resend_at = clock_ns() + TCP_RESEND_NS;
}

static struct tcp_connection *find(uint32_t ip, uint16_t port)
{
    for (unsigned i = 0; i < TCP_CONNECTIONS; i++)
        if (connections[i].state != CLOSED && connections[i].flow.to_ip == ip &&
            connections[i].flow.to_port == port)
            return &connections[i];
    return NULL;
}

/* A free one, or the one that was silent for longest. */
static struct tcp_connection *take(void)
{
    struct tcp_connection *oldest = &connections[0];
    for (unsigned i = 0; i < TCP_CONNECTIONS; i++) {
        if (connections[i].state == CLOSED)
            return &connections[i];
        if (connections[i].used_at < oldest->used_at)
            oldest = &connections[i];
    }
    return oldest;
}

static void open(struct tcp_connection *c, const struct inet_flow *flow, uint32_t sequence)
{
    c->state = OPENING;
    c->flow = *flow;
    c->received = sequence + 1;
    c->said = (uint32_t)(clock_ns() >> 10);
    c->input_size = c->output_size = c->sent = 0;
    c->used_at = clock_ns();
    send_state(c);
}

/* What the peer acknowledges is forgotten. */
static void acknowledge(struct tcp_connection *c, uint32_t acknowledged)
{
    uint32_t news = acknowledged - c->said;
    if (c->state == OPENING && news == 1) {
        c->state = OPEN;
        c->said++;
        news = 0;
    } else if (c->state == ENDING && news == 1) {
        c->state = CLOSED;
        return;
    }
    if (c->state != OPEN || news == 0 || news > c->sent)
        return;
    c->said += news;
    c->output_size -= news;
    c->sent -= news;
    for (size_t i = 0; i < c->output_size; i++) /* memmove() to lower addresses */
        c->output[i] = c->output[i + news];
    c->resend_at = clock_ns() + TCP_RESEND_NS;
}

/* The program takes what it can; more room for answers lets it take the rest. */
static void offer_input(struct tcp_connection *c)
{
    if (!c->input_size)
        return;
    const size_t taken = hear(c, c->input, c->input_size);
    c->input_size -= taken;
    for (size_t i = 0; i < c->input_size; i++)
        c->input[i] = c->input[i + taken];
}

static void receive(struct tcp_connection *c, const struct tcp *tcp, const uint8_t *data,
                    size_t size)
{
    c->used_at = clock_ns();
    if (tcp->flags & ACK)
        acknowledge(c, inet32(tcp->acknowledged));
    if (c->state != OPEN)
        return;
    const uint32_t sequence = inet32(tcp->sequence);
    if (size && sequence == c->received && size <= TCP_INPUT - c->input_size) {
        memcpy(c->input + c->input_size, data, size);
        c->input_size += size;
        c->received += (uint32_t)size;
    }
    offer_input(c);
    if ((tcp->flags & FIN) && sequence + (uint32_t)size == c->received) {
        c->received++;
        c->state = ENDING; /* what was not acknowledged is not owed to one who leaves */
        c->said += (uint32_t)c->sent;
        c->output_size = c->sent = 0;
        send_state(c);
    } else if (c->sent < c->output_size) {
        send_output(c, c->sent);
    } else if (size || (tcp->flags & FIN)) {
        send_flags(c, c->said + (uint32_t)c->sent, ACK);
    }
}

void tcp_receive(const uint8_t *frame, const struct ipv4 *ip, size_t ip_size)
{
    const struct ethernet *ethernet = (const struct ethernet *)frame;
    const struct tcp *tcp = (const struct tcp *)(ip + 1);
    const size_t size = ip_size - sizeof(*ip);
    if (size < sizeof(*tcp))
        return;
    const size_t header = (size_t)(tcp->words >> 4) * 4;
    if (header < sizeof(*tcp) || header > size || tcp->to != inet16(own_port) ||
        inet_transport_sum(ip, tcp, size) != 0xffff)
        return;
    struct inet_flow flow = {
        .from_ip = own_ip,
        .to_ip = inet32(ip->from),
        .from_port = own_port,
        .to_port = inet16(tcp->from),
    };
    memcpy(flow.from_mac, net_mac(), 6);
    memcpy(flow.to_mac, ethernet->from, 6);
    struct tcp_connection *c = find(flow.to_ip, flow.to_port);
    const uint32_t sequence = inet32(tcp->sequence);
    const size_t data = size - header;
    if (tcp->flags & RST) {
        if (c && sequence == c->received)
            c->state = CLOSED;
    } else if (tcp->flags & SYN) {
        if (c && c->state == OPENING && sequence + 1 == c->received)
            send_state(c);
        else
            open(c ? c : take(), &flow, sequence);
    } else if (c) {
        receive(c, tcp, (const uint8_t *)tcp + header, data);
    } else {
        send_segment(&flow, inet32(tcp->acknowledged), sequence + (uint32_t)data, RST | ACK, 0,
                     NULL, 0);
    }
}

size_t tcp_room(const struct tcp_connection *c)
{
    return TCP_OUTPUT - c->output_size;
}

void tcp_say(struct tcp_connection *c, const void *data, size_t size)
{
    memcpy(c->output + c->output_size, data, size);
    c->output_size += size;
}

void tcp_tick(void)
{
    const uint64_t now = clock_ns();
    for (unsigned i = 0; i < TCP_CONNECTIONS; i++) {
        struct tcp_connection *c = &connections[i];
        if (c->state == CLOSED || now < c->resend_at)
            continue;
        if (c->state == OPEN && c->sent)
            send_output(c, 0);
        else if (c->state != OPEN)
            send_state(c);
    }
}
