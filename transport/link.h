/* A link: one connected, full-duplex, ordered session of frames with the peer, whatever carries it.
 *
 * Errors of send and receive, the same for every carrier:
 *   -EPIPE       receive: the peer closed between two frames (EOF). A process that was killed looks
 *                the same; only a Goodbye before it makes an end orderly.
 *                send: the peer or link_shutdown() closed; nothing more can be sent.
 *   -ECONNRESET  the connection broke, ended inside a frame, or link_shutdown() was called here.
 *   -ETIMEDOUT   no byte moved for the time-out, or the deadline passed.
 *   -EBADMSG     what arrived is no valid frame, or its digest is wrong.
 *   -EPROTONOSUPPORT  the peer speaks another frame version.
 *   others       as the carrier reports them (-EHOSTUNREACH, -ENOMEM, ...).
 * A failure is final for its direction and later calls repeat it, with one exception: a
 * link_receive_header() that timed out before any byte of the header came may be called again.
 *
 * Threads: any number of senders, serialised inside frame by frame. One receiver at a time.
 * link_shutdown(), counters and the peer's name: any thread. Set time-outs and deadline before
 * other threads use the link, or on the thread they concern. */
#ifndef KEMARI_TRANSPORT_LINK_H
#define KEMARI_TRANSPORT_LINK_H

#include "base/error.h"
#include "base/types.h"
#include "transport/frame.h"

#define LINK_PARTS_MAX    1000 /* parts of one frame: IOV_MAX less the header and some room */
#define LINK_PEER_MAX     96   /* including the terminating zero */
#define LINK_CIPHER_MAX   40   /* likewise */
#define LINK_BINDING_SIZE 32   /* bytes */

struct link;

struct link_counters {
    uint64_t frames_sent;
    uint64_t bytes_sent; /* headers included */
    uint64_t frames_received;
    uint64_t bytes_received;
};

/* What protects the bytes of a link on their way. All zero: nothing does. */
struct link_security {
    bool encrypted; /* and authenticated, by what the transport was given for that */
    bool kernel;    /* the kernel encrypts what is sent */
    char cipher[LINK_CIPHER_MAX];
    uint8_t binding[LINK_BINDING_SIZE]; /* known to the two ends of this one connection only */
};

/* Secures the connection where its carrier does that (TLS); nothing for others, nor a second time.
 * Before the first frame, on one thread, within the link's deadline; frames fail with -EINVAL until
 * then. Errors beside the above:
 *   -EKEYREJECTED     the two sides don't hold the same secret
 *   -EACCES           a certificate was refused, the peer's here or ours there
 *   -EPROTONOSUPPORT  no TLS 1.3, -EPROTO: no TLS at all, or another failure of it */
int link_establish(struct link *link, struct error *err);

/* After link_establish(). Owned by the link. */
const struct link_security *link_security(const struct link *link);

/* The peer has proved that it holds the key: carriers that give it memory to write to (RDMA) do so
 * from now on. Once, by the session. */
void link_trust(struct link *link);

/* Says that `size` bytes at `base` will stay where they are as long as the link, and that many
 * frames will be sent from there: a carrier that can (RDMA) registers them and sends them without
 * copying. Once, before the first frame with pages. */
void link_lend(struct link *link, void *base, size_t size);

/* How many connections carry it: 1, or more for a bundle (transport/bundle.h). */
unsigned link_streams(const struct link *link);

/* Sends one frame: type, flags, term and epoch from `fields`, size and digest computed from the
 * parts (which may be empty, but not all of them). Blocks until the carrier has taken every byte;
 * the parts may be reused then. -EINVAL, -EMSGSIZE: refused before anything was sent, the link is
 * unharmed. */
int link_send(struct link *link, const struct frame *fields, const struct iovec *parts, int count,
              struct error *err);

/* As link_send(), and on success leaves the size and digest that were sent in `frame`: for digests
 * over several frames. */
int link_send_frame(struct link *link, struct frame *frame, const struct iovec *parts, int count,
                    struct error *err);

/* Waits for the next header and validates it. `out->size` bytes of payload follow and must be
 * fetched with link_receive_payload() before the next header (-EINVAL). */
int link_receive_header(struct link *link, struct frame *out, struct error *err);

/* Reads the payload of the last header into the caller's `buffer` and verifies its digest. `size`
 * must equal the header's (-EINVAL, nothing consumed). */
int link_receive_payload(struct link *link, void *buffer, size_t size, struct error *err);

/* Longest time without progress, in ms, of a send or a receive; 0 waits for ever (the default). */
void link_set_timeouts(struct link *link, unsigned send_ms, unsigned receive_ms);

/* A moment (clock_now()) at which whatever send or receive is under way fails with -ETIMEDOUT, even
 * if bytes drip in; 0 removes it. For the handshake. */
void link_set_deadline(struct link *link, nsec_t deadline);

/* Makes both directions fail here, at once and for ever, and the peer see the end of the
 * connection. Does not free: threads inside a call leave it with an error. Idempotent. */
void link_shutdown(struct link *link);

/* Shuts down, frees, sets *link to NULL. No thread may be inside a call. */
void link_destroy(struct link **link);

/* "tcp 192.0.2.7:7700", for messages. Owned by the link. */
const char *link_peer_name(const struct link *link);

struct link_counters link_counters(const struct link *link);

#endif
