#include "test/support/echo_client.h"

#include <errno.h>
#include <string.h>

#define ETHERNET 14
#define IPV4     20
#define UDP      8
#define PAYLOAD  (ETHERNET + IPV4 + UDP)
#define PORT     40007

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t get16(const uint8_t *at)
{
    return (size_t)at[0] << 8 | at[1];
}

static uint16_t sum(const uint8_t *data, size_t size)
{
    size_t total = 0;
    for (size_t i = 0; i + 1 < size; i += 2)
        total += get16(data + i);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)total;
}

size_t echo_client_request(uint64_t sequence, size_t padding, uint8_t *frame)
{
    static const uint8_t start[PAYLOAD] = {
        0x52, 0x54, 0x00, 0x4b, 0x45, 0x01, 0x02, 0, 0,  0,  0, 0x01, 0x08, 0x00, /* Ethernet */
        0x45, 0,    0,    0,    0,    0,    0x40, 0, 64, 17, 0, 0,    10,   0,
        0,    1,    10,   0,    0,    2, /* IPv4 */
    };
    const struct echo_request request = {.magic = ECHO_MAGIC, .sequence = sequence};
    const size_t payload = sizeof(request) + padding;
    memcpy(frame, start, sizeof(start));
    put16(frame + ETHERNET + 2, IPV4 + UDP + payload);
    put16(frame + ETHERNET + 10, (uint16_t)~sum(frame + ETHERNET, IPV4));
    put16(frame + ETHERNET + IPV4, PORT);
    put16(frame + ETHERNET + IPV4 + 2, ECHO_PORT);
    put16(frame + ETHERNET + IPV4 + 4, UDP + payload);
    memcpy(frame + PAYLOAD, &request, sizeof(request));
    memset(frame + PAYLOAD + sizeof(request), (int)(sequence & 0x7f), padding);
    return PAYLOAD + payload;
}

static enum echo_verdict wrong(struct error *err, const char *what, uint64_t is, uint64_t was)
{
    error_set(err, -EPROTO, "%s: %llu after %llu", what, (unsigned long long)is,
              (unsigned long long)was);
    return ECHO_WRONG;
}

enum echo_verdict echo_client_judge(struct echo_client *c, const uint8_t *frame, size_t size,
                                    uint64_t *sequence, struct error *err)
{
    struct echo_reply reply;
    if (size < PAYLOAD + sizeof(reply) || get16(frame + 12) != 0x0800 || frame[ETHERNET + 9] != 17)
        return ECHO_FOREIGN;
    memcpy(&reply, frame + PAYLOAD, sizeof(reply));
    if (reply.magic != ECHO_MAGIC)
        return ECHO_FOREIGN;
    if (sum(frame + ETHERNET, IPV4) != 0xffff)
        return wrong(err, "IP checksum", get16(frame + ETHERNET + 10), 0);
    if (reply.corrupt)
        return wrong(err, "the guest lost a page, replies", reply.counter, c->counter);
    if (reply.counter <= c->counter)
        return wrong(err, "counter", reply.counter, c->counter);
    if (reply.time_ns < c->time_ns)
        return wrong(err, "time", reply.time_ns, c->time_ns);
    if (reply.handled < c->handled)
        return wrong(err, "handled", reply.handled, c->handled);
    c->counter = reply.counter;
    c->time_ns = reply.time_ns;
    c->handled = reply.handled;
    if (reply.sequence == ECHO_TICK) {
        c->ticks++;
        return ECHO_TICKED;
    }
    if (reply.sequence == 0 || reply.sequence > c->sent)
        return wrong(err, "reply to a request never sent", reply.sequence, c->sent);
    c->replies++;
    if (sequence)
        *sequence = reply.sequence;
    return ECHO_REPLY;
}
