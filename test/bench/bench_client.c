#include "test/bench/bench_client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/bench/bench_pair.h"

#define VNET_HEADER_SIZE 12
#define REPLY_TIMEOUT_MS 10000

static void send_request(struct echo_client *client, int wire)
{
    uint8_t frame[VNET_HEADER_SIZE + ECHO_CLIENT_FRAME_MAX] = {0};
    const size_t size = echo_client_request(++client->sent, 0, frame + VNET_HEADER_SIZE);
    if (write(wire, frame, VNET_HEADER_SIZE + size) < 0)
        bench_die("request", NULL);
}

static void await_reply(struct echo_client *client, int wire)
{
    for (;;) {
        struct pollfd waiting = {.fd = wire, .events = POLLIN};
        if (poll(&waiting, 1, REPLY_TIMEOUT_MS) == 0)
            errno = ETIMEDOUT;
        uint8_t frame[VNET_HEADER_SIZE + ECHO_CLIENT_FRAME_MAX];
        const ssize_t size = waiting.revents ? read(wire, frame, sizeof(frame)) : -1;
        if (size < VNET_HEADER_SIZE)
            bench_die("reply", NULL);
        struct error err = {0};
        uint64_t sequence = 0;
        const enum echo_verdict verdict = echo_client_judge(
            client, frame + VNET_HEADER_SIZE, (size_t)size - VNET_HEADER_SIZE, &sequence, &err);
        if (verdict == ECHO_WRONG)
            bench_die("the guest", &err);
        if (verdict == ECHO_REPLY && sequence == client->sent)
            return;
    }
}

void bench_client_run(struct echo_client *client, int wire, unsigned count, nsec_t limit,
                      struct histogram *times)
{
    const nsec_t begin = clock_now();
    for (unsigned i = 0; i < count; i++) {
        const nsec_t start = clock_now();
        if (start - begin > limit)
            return;
        send_request(client, wire);
        await_reply(client, wire);
        if (times)
            histogram_add(times, clock_now() - start);
    }
}
