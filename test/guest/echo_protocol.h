/* What the echo guest says on its UDP port, for the guest and for the tests that talk to it.
 *
 * Fields are little-endian (both ends are x86-64). A request is at least struct echo_request; what
 * follows it comes back behind struct echo_reply. A datagram without the magic is sent back as it
 * came. */
#ifndef KEMARI_GUEST_ECHO_PROTOCOL_H
#define KEMARI_GUEST_ECHO_PROTOCOL_H

#include <stdint.h>

#define ECHO_PORT      7
#define ECHO_TICK_PORT 7007 /* where unsolicited counters go */
#define ECHO_MAGIC     0x4f48434543484f21ull
#define ECHO_MAGIC_SAY 0x2159415321594153ull /* as ECHO_MAGIC, and "say SEQUENCE" on the console */
#define ECHO_MAGIC_OFF 0x2146464f2146464full /* says "off" on the console, switches off; no answer */
#define ECHO_TICK      UINT64_MAX /* `sequence` of an unsolicited counter */

struct echo_request {
    uint64_t magic;
    uint64_t sequence; /* the client's; comes back */
};

struct echo_reply {
    uint64_t magic;
    uint64_t sequence;
    uint64_t counter; /* grows by one with every reply and tick: no value is ever seen twice */
    uint64_t handled; /* requests with magic handled so far, this one included */
    uint64_t time_ns; /* the guest's clock: never smaller than in an earlier reply */
    uint64_t corrupt; /* not 0: a page had lost its stamp; the guest stops after this */
};

#endif
