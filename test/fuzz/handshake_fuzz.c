/* A stranger at the handshake. The input is, by its first byte,
 *   0: one payload for the decoder; a party in it is judged against ours, both ways
 *   1: a stream of bytes for a listener      2: the same for a connector
 *   3: payloads, each with its length in two bytes before it, framed rightly, for a listener
 *   4: the same for a connector
 * No input may crash, hang or be accepted: nobody here knows the key. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/wire.h"
#include "test/support/party.h"
#include "transport/handshake.h"
#include "transport/inproc.h"

#define INPUT_MAX    (32u << 10) /* what surely fits in the socket without a reader */
#define PAYLOADS_MAX 8           /* more than any handshake has */
#define TIMEOUT_MS   60000       /* not reached: the stream ends after the input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum session_reason mirror(enum session_reason reason)
{
    if (reason == SESSION_LOWER_TERM)
        return SESSION_HIGHER_TERM;
    return reason == SESSION_HIGHER_TERM ? SESSION_LOWER_TERM : reason;
}

static void try_payload(const struct session_config *config, const uint8_t *data, size_t size)
{
    struct handshake *h = malloc(sizeof(*h));
    assert(h);
    struct error err = {0};
    const int rc = handshake_decode(data, size, h, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc == 0 && (h->kind == HANDSHAKE_HELLO || h->kind == HANDSHAKE_WELCOME)) {
        const enum session_reason here = session_judge(&config->local, &h->party, &err);
        assert(mirror(here) == session_judge(&h->party, &config->local, &err));
    }
    free(h);
}

/* Frames the payloads of the input onto `link`. */
static void send_payloads(struct link *link, const uint8_t *data, size_t size)
{
    struct wire_reader r = {.bytes = data, .size = size};
    for (int i = 0; i < PAYLOADS_MAX; i++) {
        const uint16_t length = wire_get_u16(&r);
        const uint8_t *payload = wire_get_view(&r, length);
        if (!payload || length == 0)
            return;
        const struct frame fields = {.type = FRAME_CONTROL};
        const struct iovec part = {(void *)(uintptr_t)payload, length};
        if (link_send(link, &fields, &part, 1, NULL) < 0)
            return;
    }
}

static void try_stranger(const struct session_config *config, bool listen, bool framed,
                         const uint8_t *data, size_t size)
{
    int fds[2];
    struct link *link = NULL, *stranger = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    if (!framed && fd_write_all(fds[1], data, size) < 0)
        abort();
    if (inproc_adopt(fds[0], "fuzz", &link, NULL) < 0 ||
        inproc_adopt(fds[1], "stranger", &stranger, NULL) < 0)
        abort();
    if (framed)
        send_payloads(stranger, data, size);
    shutdown(fds[1], SHUT_WR);
    struct session *session = malloc(sizeof(*session));
    assert(session);
    struct error err = {0};
    const int rc = listen ? session_accept(link, config, session, &err)
                          : session_connect(link, config, session, &err);
    assert(rc < 0 && rc != -ESTALE && rc != -ETIMEDOUT && err.text[0]);
    free(session);
    link_destroy(&link);
    link_destroy(&stranger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct session_config config;
    if (!config.timeout_ms)
        party_config(&config, SESSION_PRIMARY, TIMEOUT_MS);
    if (size == 0 || size > INPUT_MAX || data[0] > 4)
        return -1;
    const uint8_t how = data[0];
    if (how == 0)
        try_payload(&config, data + 1, size - 1);
    else
        try_stranger(&config, how % 2 == 1, how > 2, data + 1, size - 1);
    return 0;
}
