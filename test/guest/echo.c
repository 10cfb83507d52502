/* echo: answers ARP, ICMP echo and UDP, and dirties a known number of pages per request.
 *
 *   ip=A.B.C.D  its address (10.0.0.2)
 *   dirty=N     pages stamped per UDP request (0); base= stride= fill= see lib/stamp.h
 *   wait=hlt    sleeps until a frame interrupts (MSI-X), or a tick is due; otherwise polls without
 * end tick=US     sends a counter to the broadcast address every US microseconds; 0: never (0)
 *
 * Says "ready mac=.." when the network works. The protocol is in echo_protocol.h. Everything a
 * client can see (counter, handled, time) must grow; a guest that was set back would contradict
 * itself. */
#include "test/guest/echo_protocol.h"
#include "test/guest/lib/apic.h"
#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/host.h"
#include "test/guest/lib/inet.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"
#include "test/guest/lib/stamp.h"
#include "test/guest/lib/virtio_net.h"

#define VECTOR_FRAME    VECTOR_IRQ_BASE
#define VECTOR_TICK     (VECTOR_IRQ_BASE + 1)
#define PM1_CONTROL     0x604
#define PM1_SLEEP_OFF   (5u << 10 | 1u << 13)
#define UDP_PAYLOAD_MAX (NET_FRAME_MAX - INET_UDP_PAYLOAD)

static uint32_t own_ip;
static struct stamp_area area;
static uint64_t counter, handled, rounds, tick_ns, next_tick;
static bool corrupt, sleeps;

static struct echo_reply next_reply(uint64_t sequence)
{
    return (struct echo_reply){
        .magic = ECHO_MAGIC,
        .sequence = sequence,
        .counter = ++counter,
        .handled = handled,
        .time_ns = clock_ns(),
        .corrupt = corrupt,
    };
}

/* Fills the payload of the answer; returns its size. */
static size_t put_answer(uint8_t *payload, const uint8_t *request, size_t size)
{
    struct echo_request header = {0};
    if (size >= sizeof(header))
        memcpy(&header, request, sizeof(header));
    if (header.magic == ECHO_MAGIC_SAY)
        serial_print("say %u\n", header.sequence);
    if (header.magic == ECHO_MAGIC_OFF) {
        serial_print("off\n");
        port_out16(PM1_CONTROL, PM1_SLEEP_OFF);
        runtime_fail("still here");
    }
    if (header.magic != ECHO_MAGIC && header.magic != ECHO_MAGIC_SAY) {
        memcpy(payload, request, size);
        return size;
    }
    handled++;
    if (area.count && !corrupt)
        corrupt = !stamp_round(&area, 0, area.count, ++rounds);
    const struct echo_reply reply = next_reply(header.sequence);
    size_t rest = size - sizeof(header);
    if (rest > UDP_PAYLOAD_MAX - sizeof(reply))
        rest = UDP_PAYLOAD_MAX - sizeof(reply);
    memcpy(payload, &reply, sizeof(reply));
    memcpy(payload + sizeof(reply), request + sizeof(header), rest);
    return sizeof(reply) + rest;
}

static void answer_udp(const uint8_t *frame, size_t ip_size)
{
    const struct ethernet *ethernet = (const struct ethernet *)frame;
    const struct ipv4 *ip = (const struct ipv4 *)(ethernet + 1);
    const struct udp *udp = (const struct udp *)(ip + 1);
    if (ip_size < sizeof(*ip) + sizeof(*udp))
        return;
    const size_t udp_size = inet16(udp->size);
    if (udp->to != inet16(ECHO_PORT) || udp_size < sizeof(*udp) || udp_size > ip_size - sizeof(*ip))
        return;
    struct inet_flow flow = {
        .from_ip = own_ip,
        .to_ip = inet32(ip->from),
        .from_port = ECHO_PORT,
        .to_port = inet16(udp->from),
    };
    memcpy(flow.from_mac, net_mac(), 6);
    memcpy(flow.to_mac, ethernet->from, 6);
    uint8_t *out = net_transmit_buffer();
    const size_t payload =
        put_answer(out + INET_UDP_PAYLOAD, (const uint8_t *)(udp + 1), udp_size - sizeof(*udp));
    net_transmit(inet_finish_udp(out, &flow, payload));
    if (corrupt)
        runtime_fail("a page is of another round");
}

static void answer(const uint8_t *frame, size_t size)
{
    size_t ip_size;
    const struct ipv4 *ip = host_receive(own_ip, frame, size, &ip_size);
    if (ip && ip->protocol == PROTOCOL_UDP)
        answer_udp(frame, ip_size);
}

static void send_tick(void)
{
    struct inet_flow flow = {
        .to_mac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
        .from_ip = own_ip,
        .to_ip = UINT32_MAX,
        .from_port = ECHO_PORT,
        .to_port = ECHO_TICK_PORT,
    };
    memcpy(flow.from_mac, net_mac(), 6);
    uint8_t *out = net_transmit_buffer();
    const struct echo_reply tick = next_reply(ECHO_TICK);
    memcpy(out + INET_UDP_PAYLOAD, &tick, sizeof(tick));
    net_transmit(inet_finish_udp(out, &flow, sizeof(tick)));
}

static void on_interrupt(struct trap_frame *frame)
{
    (void)frame;
    apic_end();
}

/* At CPL 3 interrupts are off: one that came since the ring was looked at is pending and ends the
 * sleep at once. */
static uint64_t sleep(uint64_t unused)
{
    (void)unused;
    __asm__ volatile("sti; hlt; cli" : : : "memory");
    return 0;
}

static void idle(void)
{
    if (sleeps)
        supervisor_call(sleep, 0);
    else
        cpu_relax();
}

static void serve(void *unused)
{
    (void)unused;
    if (!net_init(0, sleeps ? VECTOR_FRAME : 0))
        runtime_fail("no virtio-net device");
    uint64_t mac = 0;
    for (unsigned i = 0; i < 6; i++)
        mac = mac << 8 | net_mac()[i];
    serial_print("ready mac=%x dirty=%u kvmclock=%u\n", mac, area.count,
                 (uint64_t)clock_is_kvmclock());
    for (;;) {
        size_t size;
        const uint8_t *frame = net_receive(&size);
        if (frame)
            answer(frame, size);
        else
            idle();
        if (tick_ns && clock_ns() >= next_tick) {
            send_tick();
            next_tick = clock_ns() + tick_ns;
        }
    }
}

static void prepare_sleep(void)
{
    sleeps = true;
    runtime_set_handler(VECTOR_FRAME, on_interrupt);
    runtime_set_handler(VECTOR_TICK, on_interrupt);
    apic_enable();
    if (tick_ns)
        apic_start_timer(VECTOR_TICK, tick_ns);
}

void guest_main(void)
{
    char ip[16] = "10.0.0.2", wait[8];
    args_string("ip", ip, sizeof(ip));
    if (!inet_parse(ip, &own_ip))
        runtime_fail("ip= is not an address");
    area = stamp_area_from_args(args_number("dirty", 0));
    tick_ns = args_number("tick", 0) * 1000;
    clock_init();
    if (args_string("wait", wait, sizeof(wait)) && wait[0] == 'h')
        prepare_sleep();
    runtime_user(0, serve, NULL);
}
