/* A client of the echo guest, and the judge of what it says.
 *
 * Builds and reads the UDP frames of test/guest/echo_protocol.h and keeps the promises of DESIGN P1
 * in view: counters never repeat or go back, time never goes back, every reply belongs to a request
 * that was sent. Requests may be lost on the way (frames in flight at a failover): send again.
 *
 * Not thread safe. */
#ifndef KEMARI_TEST_SUPPORT_ECHO_CLIENT_H
#define KEMARI_TEST_SUPPORT_ECHO_CLIENT_H

#include "base/error.h"
#include "base/types.h"
#include "test/guest/echo_protocol.h"

#define ECHO_CLIENT_FRAME_MAX 1514

struct echo_client {
    uint64_t sent;    /* sequence of the last new request; they start at 1 */
    uint64_t counter; /* highest seen */
    uint64_t handled; /* highest seen */
    uint64_t time_ns; /* latest seen */
    uint64_t replies; /* good ones so far */
    uint64_t ticks;   /* unsolicited ones so far */
};

enum echo_verdict {
    ECHO_FOREIGN, /* no echo datagram: ARP, announcement, ... */
    ECHO_REPLY,
    ECHO_TICKED,
    ECHO_WRONG, /* the guest contradicted itself or is corrupt; the phrase says how */
};

/* Builds the request with that sequence number and `padding` (<= 1400) further bytes, Ethernet
 * frame without virtio header, into `frame` (ECHO_CLIENT_FRAME_MAX bytes); returns its size. Guest
 * MAC and address are those of the harness (52:54:00:4b:45:01, 10.0.0.2). */
size_t echo_client_request(uint64_t sequence, size_t padding, uint8_t *frame);

/* Reads a frame from the guest and updates the client. `*sequence`, if not NULL, gets the one of a
 * reply. */
enum echo_verdict echo_client_judge(struct echo_client *client, const uint8_t *frame, size_t size,
                                    uint64_t *sequence, struct error *err);

#endif
