/* service: counters and registers over UDP and TCP, and a journal on the first disk if there is
 * one, for the oracle (service_protocol.h).
 *
 *   ip=A.B.C.D  its address (10.0.0.2)
 *   dirty=N     pages stamped per request (0); base= stride= fill= see lib/stamp.h
 *   wait=hlt    sleeps until a frame interrupts (MSI-X) or a timer does; otherwise polls without
 * end
 *
 * Says "ready mac=.." when the network works. Whatever a client was told must stay true: a guest
 * that goes on from an older state than the one that spoke contradicts itself. */
#include "test/guest/lib/apic.h"
#include "test/guest/lib/clock.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/host.h"
#include "test/guest/lib/inet.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"
#include "test/guest/lib/stamp.h"
#include "test/guest/lib/tcp.h"
#include "test/guest/lib/virtio_net.h"
#include "test/guest/service_journal.h"
#include "test/guest/service_protocol.h"

#define VECTOR_FRAME  VECTOR_IRQ_BASE
#define VECTOR_TIMER  (VECTOR_IRQ_BASE + 1)
#define TIMER_NS      10000000ull
#define PM1_CONTROL   0x604
#define PM1_SLEEP_OFF (5u << 10 | 1u << 13)

/* The newest request of a client, and what it was told. */
struct client {
    uint64_t sequence, value;
    uint32_t status;
};

static uint32_t own_ip;
static struct stamp_area area;
static struct client clients[SERVICE_CLIENTS];
static uint64_t counters[SERVICE_COUNTERS], registers[SERVICE_REGISTERS];
static uint64_t utterance, rounds;
static bool corrupt, sleeps;

static uint32_t swap(const struct service_request *request, uint64_t *value)
{
    uint64_t *place = &registers[request->key];
    *value = *place;
    if (*place != request->expected)
        return SERVICE_DIFFERS;
    *place = request->value;
    return SERVICE_DONE;
}

/* Does what is asked for the first time. */
static uint32_t execute(const struct service_request *request, uint64_t *value)
{
    *value = request->value;
    if (request->key >= SERVICE_REGISTERS)
        return SERVICE_UNKNOWN;
    switch (request->operation) {
    case SERVICE_ADD:
        *value = ++counters[request->key];
        return SERVICE_DONE;
    case SERVICE_COUNT:
        *value = counters[request->key];
        return SERVICE_DONE;
    case SERVICE_READ:
        *value = registers[request->key];
        return SERVICE_DONE;
    case SERVICE_WRITE:
        registers[request->key] = request->value;
        return SERVICE_DONE;
    case SERVICE_SWAP:
        return swap(request, value);
    case SERVICE_SAY:
        serial_print("say %u\n", request->value);
        return SERVICE_DONE;
    case SERVICE_APPEND:
        *value = journal_append(request->value);
        return *value ? SERVICE_DONE : SERVICE_UNKNOWN;
    case SERVICE_RECORD:
        return journal_read(request->value, value) ? SERVICE_DONE : SERVICE_UNKNOWN;
    case SERVICE_OFF:
        serial_print("off\n");
        port_out16(PM1_CONTROL, PM1_SLEEP_OFF);
        runtime_fail("still here");
    default:
        return SERVICE_UNKNOWN;
    }
}

static struct service_reply answer(const struct service_request *request)
{
    uint64_t value = 0;
    uint32_t status = SERVICE_UNKNOWN;
    if (request->client < SERVICE_CLIENTS) {
        struct client *client = &clients[request->client];
        if (request->sequence > client->sequence) {
            client->sequence = request->sequence;
            client->status = execute(request, &client->value);
        }
        value = client->value;
        status = request->sequence == client->sequence ? client->status : SERVICE_OLD;
    }
    if (area.count && !corrupt)
        corrupt = !stamp_round(&area, 0, area.count, ++rounds);
    return (struct service_reply){
        .magic = SERVICE_REPLY,
        .sequence = request->sequence,
        .client = request->client,
        .status = status,
        .value = value,
        .utterance = ++utterance,
        .time_ns = clock_ns(),
        .corrupt = corrupt,
    };
}

static void answer_udp(const uint8_t *frame, const struct ipv4 *ip, size_t ip_size)
{
    const struct udp *udp = (const struct udp *)(ip + 1);
    struct service_request request;
    if (ip_size < sizeof(*ip) + sizeof(*udp) + sizeof(request) || udp->to != inet16(SERVICE_PORT) ||
        inet16(udp->size) < sizeof(*udp) + sizeof(request))
        return;
    memcpy(&request, udp + 1, sizeof(request));
    if (request.magic != SERVICE_REQUEST)
        return;
    struct inet_flow flow = {
        .from_ip = own_ip,
        .to_ip = inet32(ip->from),
        .from_port = SERVICE_PORT,
        .to_port = inet16(udp->from),
    };
    memcpy(flow.from_mac, net_mac(), 6);
    memcpy(flow.to_mac, ((const struct ethernet *)frame)->from, 6);
    const struct service_reply reply = answer(&request);
    uint8_t *out = net_transmit_buffer();
    memcpy(out + INET_UDP_PAYLOAD, &reply, sizeof(reply));
    net_transmit(inet_finish_udp(out, &flow, sizeof(reply)));
}

/* tcp_hear_fn. A stream without the magic has lost its frame, which nothing can mend. */
static size_t answer_stream(struct tcp_connection *connection, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    struct service_request request;
    while (size - taken >= sizeof(request) &&
           tcp_room(connection) >= sizeof(struct service_reply)) {
        memcpy(&request, data + taken, sizeof(request));
        taken += sizeof(request);
        if (request.magic != SERVICE_REQUEST)
            request.client = SERVICE_CLIENTS; /* is told that it is not understood */
        const struct service_reply reply = answer(&request);
        tcp_say(connection, &reply, sizeof(reply));
    }
    return taken;
}

static void receive(const uint8_t *frame, size_t size)
{
    size_t ip_size;
    const struct ipv4 *ip = host_receive(own_ip, frame, size, &ip_size);
    if (!ip)
        return;
    if (ip->protocol == PROTOCOL_UDP)
        answer_udp(frame, ip, ip_size);
    else if (ip->protocol == PROTOCOL_TCP)
        tcp_receive(frame, ip, ip_size);
    if (corrupt)
        runtime_fail("a page is of another round");
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

static void serve(void *unused)
{
    (void)unused;
    if (!net_init(0, sleeps ? VECTOR_FRAME : 0))
        runtime_fail("no virtio-net device");
    tcp_init(own_ip, SERVICE_PORT, answer_stream);
    journal_init();
    uint64_t mac = 0;
    for (unsigned i = 0; i < 6; i++)
        mac = mac << 8 | net_mac()[i];
    serial_print("ready mac=%x dirty=%u kvmclock=%u\n", mac, area.count,
                 (uint64_t)clock_is_kvmclock());
    for (;;) {
        size_t size;
        const uint8_t *frame = net_receive(&size);
        if (frame)
            receive(frame, size);
        else if (sleeps)
            supervisor_call(sleep, 0);
        else
            cpu_relax();
        tcp_tick();
    }
}

void guest_main(void)
{
    char ip[16] = "10.0.0.2", wait[8];
    args_string("ip", ip, sizeof(ip));
    if (!inet_parse(ip, &own_ip))
        runtime_fail("ip= is not an address");
    area = stamp_area_from_args(args_number("dirty", 0));
    clock_init();
    if (args_string("wait", wait, sizeof(wait)) && wait[0] == 'h') {
        sleeps = true;
        runtime_set_handler(VECTOR_FRAME, on_interrupt);
        runtime_set_handler(VECTOR_TIMER, on_interrupt);
        apic_enable();
        apic_start_timer(VECTOR_TIMER, TIMER_NS);
    }
    runtime_user(0, serve, NULL);
}
