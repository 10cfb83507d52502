#include "heartbeat/path.h"

#include <errno.h>
#include <netinet/ip.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "heartbeat/carrier.h"

#define ROUND_TRIP_MAX SEC(60) /* above: an echo that can't be right */

/* Beats are network control traffic: where the network knows classes, they pass first (RFC 4594
 * §3.1, CS6). A hint; networks that ignore it are fine. */
static void mark_urgent(int fd, int family)
{
    const int class = IPTOS_CLASS_CS6;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof(class));
    else
        setsockopt(fd, IPPROTO_IP, IP_TOS, &class, sizeof(class));
}

static int bind_socket(struct path *path, const struct address *address, struct error *err)
{
    const int family = address->any.sa_family;
    path->fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (path->fd < 0)
        return error_set(err, -errno, "heartbeat path %u: no socket: %s", path->index,
                         strerror(errno));
    const int only = 1;
    if (family == AF_INET6)
        setsockopt(path->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    mark_urgent(path->fd, family);
    if (bind(path->fd, &address->any, address->size) == 0)
        return 0;
    const int rc = -errno;
    fd_close(&path->fd);
    return error_set(err, rc, "heartbeat path %u: cannot bind %s: %s", path->index,
                     path->status.bind,
                     rc == -EADDRINUSE      ? "the address is in use by another program"
                     : rc == -EADDRNOTAVAIL ? "no interface of this host has this address"
                                            : strerror(-rc));
}

int path_open(struct path *path, unsigned index, const struct heartbeat_path *config,
              struct error *err)
{
    *path = (struct path){.index = index, .fd = -1, .opened_at = clock_now()};
    int rc = address_resolve(config->bind, &path->own, err);
    if (rc == 0)
        rc = address_resolve(config->peer, &path->peer, err);
    if (rc < 0) {
        error_prefix(err, "heartbeat path %u", index);
        return rc;
    }
    if (path->own.any.sa_family != path->peer.any.sa_family)
        return error_set(err, -EINVAL, "heartbeat path %u: %s and %s are not of one IP version",
                         index, config->bind, config->peer);
    address_format(&path->own, path->status.bind);
    address_format(&path->peer, path->status.peer);
    path_find_interface(path);
    return bind_socket(path, &path->own, err);
}

void path_close(struct path *path)
{
    fd_close(&path->fd);
}

void path_find_interface(struct path *path)
{
    path->interface = carrier_interface_of(&path->own);
}

void path_send(struct path *path, struct packet *beat, const struct packet_key *key)
{
    const nsec_t now = clock_now();
    uint8_t bytes[PACKET_SIZE];
    beat->path = (uint8_t)path->index;
    beat->sequence = ++path->sequence;
    beat->sent_at = (uint64_t)now;
    beat->echo_time = path->echo_time;
    beat->echo_delay = path->echo_time ? (uint64_t)(now - path->echo_heard_at) : 0;
    packet_encode(beat, key, bytes);
    if (sendto(path->fd, bytes, sizeof(bytes), MSG_NOSIGNAL, &path->peer.any, path->peer.size) ==
        (ssize_t)sizeof(bytes)) {
        path->status.sent++;
        path->status.send_errno = 0;
    } else {
        path->status.send_failed++;
        path->status.send_errno = errno;
    }
}

void path_make_last_word(const struct path *path, struct packet beat, const struct packet_key *key,
                         struct quick_exit_word *out)
{
    _Static_assert(PACKET_SIZE <= QUICK_EXIT_WORD_SIZE, "a beat is a word");
    _Static_assert(PACKET_PATH_MAX <= QUICK_EXIT_WORDS_MAX, "a word for each path");
    /* The process may end after the next beat has left and before the next word is made. */
    beat.sequence += 2;
    beat.flags |= PACKET_FLAG_EXITED;
    *out = (struct quick_exit_word){
        .from_size = path->own.size, .to_size = path->peer.size, .size = PACKET_SIZE};
    memcpy(&out->from, &path->own.any, path->own.size);
    memcpy(&out->to, &path->peer.any, path->peer.size);
    packet_encode(&beat, key, out->bytes);
}

ssize_t path_receive(struct path *path, uint8_t *bytes, size_t size)
{
    for (;;) {
        const ssize_t n = recv(path->fd, bytes, size, MSG_TRUNC);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        /* Whatever it is (ICMP errors of earlier sends among it), nothing can be read now. */
        return -EAGAIN;
    }
}

void path_count_refused(struct path *path, enum packet_verdict verdict)
{
    if (verdict == PACKET_BAD_MAC)
        path->status.bad_mac++;
    else
        path->status.bad_other++;
}

void path_count_judged(struct path *path, const struct packet *beat, enum replay_verdict verdict,
                       uint64_t newest_before)
{
    struct heartbeat_path_status *status = &path->status;
    switch (verdict) {
    case REPLAY_FRESH:
        status->received++;
        if (newest_before)
            status->lost += beat->sequence - newest_before - 1;
        break;
    case REPLAY_ADOPTED:
        status->received++;
        break;
    case REPLAY_LATE:
        status->late++;
        if (status->lost)
            status->lost--;
        break;
    case REPLAY_DUPLICATE:
    case REPLAY_TOO_OLD:
    case REPLAY_REFLECTED:
        status->replayed++;
        break;
    case REPLAY_UNPROVEN:
        status->unproven++;
        break;
    case REPLAY_MISROUTED:
        status->bad_other++;
        break;
    }
}

/* Smoothed as TCP does (RFC 6298 §2.3, alpha 1/8). */
static void take_round_trip(struct path *path, const struct packet *beat, nsec_t now)
{
    const uint64_t away = (uint64_t)now - beat->echo_time;
    if (beat->echo_delay > away || away - beat->echo_delay > (uint64_t)ROUND_TRIP_MAX)
        return;
    const nsec_t sample = (nsec_t)(away - beat->echo_delay);
    nsec_t *smoothed = &path->status.round_trip;
    *smoothed = *smoothed ? *smoothed + (sample - *smoothed) / 8 : sample;
}

void path_take_times(struct path *path, const struct packet *beat, nsec_t now)
{
    path->echo_time = beat->sent_at;
    path->echo_heard_at = now;
    path->status.last_heard = now;
    /* Only an echo of this process's own beats, and each only once. */
    if (beat->echo_time <= path->own_echo || beat->echo_time < (uint64_t)path->opened_at ||
        beat->echo_time > (uint64_t)now)
        return;
    path->own_echo = beat->echo_time;
    path->own_echo_at = now;
    take_round_trip(path, beat, now);
}

void path_forget_times(struct path *path)
{
    path->echo_time = 0;
    path->own_echo_at = 0;
    path->status.round_trip = 0;
}
