/* The half of a link that is the same for every carrier: frames, digests, limits, one sender at a
 * time, sticky errors, counters. The carriers only move bytes (transport/link_backend.h). */
#include "transport/link.h"

#include <errno.h>
#include <stdio.h>

#include "transport/digest.h"
#include "transport/link_backend.h"

#define TLS_PREFIX_SIZE 2 /* bytes that tell TLS from frames */
#define TLS_ALERT       0x15
#define TLS_HANDSHAKE   0x16
#define TLS_MAJOR       3

void link_init(struct link *link, const struct link_ops *ops, const char *peer)
{
    link->ops = ops;
    snprintf(link->peer, sizeof(link->peer), "%s", peer);
    link->established = ops->establish == NULL;
    link->streams = 1;
    pthread_mutex_init(&link->send_lock, NULL);
}

/* Says once more why a direction is dead. */
static int repeat_error(const struct link *link, int code, struct error *err)
{
    return error_set(err, code, "%s: the connection has failed before", link->peer);
}

static int closed_here(const struct link *link, int code, struct error *err)
{
    return error_set(err, code, "%s: the connection was closed on this side", link->peer);
}

static int not_established(const struct link *link, struct error *err)
{
    return error_set(err, -EINVAL, "%s: the connection is not secured yet", link->peer);
}

int link_establish(struct link *link, struct error *err)
{
    if (link->established)
        return 0;
    if (atomic_load(&link->down))
        return closed_here(link, -ECONNRESET, err);
    const struct link_wait wait = {link->receive_idle_ms, link->deadline};
    const int rc = link->ops->establish(link, &wait, &link->security, err);
    if (rc < 0 && atomic_load(&link->down))
        return closed_here(link, -ECONNRESET, err);
    link->established = rc == 0;
    return rc;
}

const struct link_security *link_security(const struct link *link)
{
    return &link->security;
}

unsigned link_streams(const struct link *link)
{
    return link->streams;
}

/* Lays header and parts out for the carrier, which gets no empty part. Returns their number. */
static int gather(struct iovec *out, uint8_t *header, const struct iovec *parts, int count)
{
    int used = 0;
    out[used++] = (struct iovec){header, FRAME_HEADER_SIZE};
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len)
            out[used++] = parts[i];
    return used;
}

static int send_locked(struct link *link, const struct frame *frame, const struct iovec *parts,
                       int count, struct error *err)
{
    if (atomic_load(&link->down))
        return closed_here(link, -EPIPE, err);
    if (link->send_error)
        return repeat_error(link, link->send_error, err);
    if (!link->established)
        return not_established(link, err);
    uint8_t header[FRAME_HEADER_SIZE];
    frame_encode(frame, header);
    const int used = gather(link->scratch, header, parts, count);
    const struct link_wait wait = {link->send_idle_ms, link->deadline};
    int rc = link->ops->send(link, link->scratch, used, &wait, err);
    if (rc < 0) {
        link->send_error = rc;
        if (atomic_load(&link->down))
            return closed_here(link, -EPIPE, err);
        error_prefix(err, "%s: sending", link->peer);
        return rc;
    }
    atomic_fetch_add(&link->frames_sent, 1);
    atomic_fetch_add(&link->bytes_sent, FRAME_HEADER_SIZE + (uint64_t)frame->size);
    return 0;
}

int link_send_frame(struct link *link, struct frame *frame, const struct iovec *parts, int count,
                    struct error *err)
{
    if (count < 1 || count > LINK_PARTS_MAX)
        return error_set(err, -EINVAL, "a frame of %d parts, legal are 1 to %d", count,
                         LINK_PARTS_MAX);
    frame->size = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > FRAME_PAYLOAD_MAX - frame->size)
            return error_set(err, -EMSGSIZE, "%s frame of more than %u bytes",
                             frame_type_name(frame->type), FRAME_PAYLOAD_MAX);
        frame->size += (uint32_t)parts[i].iov_len;
    }
    int rc = frame_validate(frame, err);
    if (rc < 0)
        return rc;
    frame->digest = frame_digest(parts, count);
    pthread_mutex_lock(&link->send_lock);
    rc = send_locked(link, frame, parts, count, err);
    pthread_mutex_unlock(&link->send_lock);
    return rc;
}

int link_send(struct link *link, const struct frame *fields, const struct iovec *parts, int count,
              struct error *err)
{
    struct frame frame = *fields;
    return link_send_frame(link, &frame, parts, count, err);
}

/* Makes a receive error final, unless it may be tried again, and puts it into the words of link.h.
 */
static int receive_failed(struct link *link, int rc, bool between_frames, struct error *err)
{
    if (atomic_load(&link->down)) {
        link->receive_error = -ECONNRESET;
        return closed_here(link, -ECONNRESET, err);
    }
    if (between_frames && rc == -ETIMEDOUT)
        return error_set(err, rc, "%s: nothing received in time", link->peer);
    if (between_frames && rc == -EPIPE) {
        link->receive_error = rc;
        return error_set(err, rc, "%s: the peer closed the connection", link->peer);
    }
    if (rc == -EPIPE)
        rc = error_set(err, -ECONNRESET, "the connection ended inside a frame");
    link->receive_error = rc;
    error_prefix(err, "%s: receiving", link->peer);
    return rc;
}

/* The first bytes of a TLS handshake record or alert (RFC 8446 §5.1): no frame begins so. */
static bool looks_like_tls(const uint8_t bytes[TLS_PREFIX_SIZE])
{
    return (bytes[0] == TLS_HANDSHAKE || bytes[0] == TLS_ALERT) && bytes[1] == TLS_MAJOR;
}

int link_receive_header(struct link *link, struct frame *out, struct error *err)
{
    *out = (struct frame){0};
    if (link->receive_error)
        return repeat_error(link, link->receive_error, err);
    if (!link->established)
        return not_established(link, err);
    if (link->expected.size)
        return error_set(err, -EINVAL, "%s: the payload of the last frame was not fetched",
                         link->peer);
    const struct link_wait wait = {link->receive_idle_ms, link->deadline};
    size_t got = 0;
    int rc = link->ops->receive(link, link->header, FRAME_HEADER_SIZE, &got, &wait, err);
    if (rc == 0)
        rc = frame_decode(link->header, out, err);
    if (rc < 0 && got >= TLS_PREFIX_SIZE && looks_like_tls(link->header))
        rc = error_set(
            err, -EPROTO,
            "the peer speaks TLS and this host does not: write the same scheme, tls:// or "
            "tcp://, on both hosts");
    if (rc < 0)
        return receive_failed(link, rc, got == 0, err);
    link->expected = *out;
    return 0;
}

int link_receive_payload(struct link *link, void *buffer, size_t size, struct error *err)
{
    if (link->receive_error)
        return repeat_error(link, link->receive_error, err);
    if (link->expected.size == 0 || size != link->expected.size)
        return error_set(err, -EINVAL, "%s: payload of %u bytes asked for as %zu", link->peer,
                         link->expected.size, size);
    const struct link_wait wait = {link->receive_idle_ms, link->deadline};
    size_t got = 0;
    int rc = link->ops->receive(link, buffer, size, &got, &wait, err);
    if (rc == 0 && digest_of(buffer, size) != link->expected.digest)
        rc = error_set(err, -EBADMSG, "payload of a %s frame is damaged",
                       frame_type_name(link->expected.type));
    link->expected.size = 0;
    if (rc < 0)
        return receive_failed(link, rc, false, err);
    atomic_fetch_add(&link->frames_received, 1);
    atomic_fetch_add(&link->bytes_received, FRAME_HEADER_SIZE + size);
    return 0;
}

void link_set_timeouts(struct link *link, unsigned send_ms, unsigned receive_ms)
{
    link->send_idle_ms = send_ms;
    link->receive_idle_ms = receive_ms;
}

void link_set_deadline(struct link *link, nsec_t deadline)
{
    link->deadline = deadline;
}

void link_shutdown(struct link *link)
{
    if (!atomic_exchange(&link->down, true))
        link->ops->shutdown(link);
}

void link_trust(struct link *link)
{
    if (link->ops->trust)
        link->ops->trust(link);
}

void link_lend(struct link *link, void *base, size_t size)
{
    if (link->ops->lend)
        link->ops->lend(link, base, size);
}

void link_destroy(struct link **link)
{
    if (!*link)
        return;
    const int saved = errno;
    link_shutdown(*link);
    pthread_mutex_destroy(&(*link)->send_lock);
    (*link)->ops->destroy(*link);
    *link = NULL;
    errno = saved;
}

const char *link_peer_name(const struct link *link)
{
    return link->peer;
}

struct link_counters link_counters(const struct link *link)
{
    return (struct link_counters){
        .frames_sent = atomic_load(&link->frames_sent),
        .bytes_sent = atomic_load(&link->bytes_sent),
        .frames_received = atomic_load(&link->frames_received),
        .bytes_received = atomic_load(&link->bytes_received),
    };
}
