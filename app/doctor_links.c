/* The ways to the other hosts: where they call us, where we call them, and the heartbeat's paths.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "app/doctor_checks.h"
#include "base/clock.h"
#include "base/fd.h"
#include "heartbeat/carrier.h"
#include "transport/transport.h"

#define CONNECT_TIMEOUT_MS 2000

static bool is_rdma(const struct config_address *address)
{
    return strncmp(address->scheme, "rdma", 4) == 0;
}

static enum doctor_reason listen_refusal(const struct doctor *doctor, int rc)
{
    if (rc == -EADDRINUSE)
        return doctor->daemon_runs ? DOCTOR_DAEMON_RUNS : DOCTOR_LISTEN_IN_USE;
    if (is_rdma(&doctor->config->listen))
        return DOCTOR_RDMA_MISSING;
    return rc == -EADDRNOTAVAIL ? DOCTOR_LISTEN_NOT_HERE : DOCTOR_LISTEN_REFUSED;
}

static void check_listen(const struct doctor *doctor, const struct tls_credentials *tls)
{
    const struct config_address *address = &doctor->config->listen;
    struct listener *listener = NULL;
    struct error err = {0};
    const int rc = transport_listen(address->text, tls, &listener, &err);
    if (rc < 0)
        doctor_say(doctor->report, "listen", "", listen_refusal(doctor, rc), "%s", err.text);
    else
        doctor_say(doctor->report, "listen", "", DOCTOR_FINE, "%s can be listened on",
                   address->text);
    if (listener)
        listener_destroy(&listener);
}

/* 0, or -errno of what became of it. */
static int finish_connect(int fd)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    int result = 0;
    socklen_t size = sizeof(result);
    if (poll(&writable, 1, CONNECT_TIMEOUT_MS) != 1)
        return -ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &size) < 0 ? -errno : -result;
}

/* To where a TCP connection is let in, refused or lost; nothing is sent on it. */
static int connect_tcp(const struct config_address *address)
{
    int fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0 && connect(fd, (const struct sockaddr *)&address->address, address->length) < 0)
        rc = errno == EINPROGRESS ? finish_connect(fd) : -errno;
    fd_close(&fd);
    return rc;
}

static int connect_rdma(const struct config_address *address, const struct tls_credentials *tls)
{
    struct link *link = NULL;
    const int rc = transport_connect(address->text, tls, CONNECT_TIMEOUT_MS, -1, &link, NULL);
    if (link)
        link_destroy(&link);
    return rc;
}

/* `first`: without this host there is no pair. */
static void check_host(const struct doctor *doctor, const struct tls_credentials *tls,
                       const struct config_address *address, const char *subject, bool first)
{
    const nsec_t start = clock_now();
    const int rc = is_rdma(address) ? connect_rdma(address, tls) : connect_tcp(address);
    const nsec_t took = clock_now() - start;
    const double ms = (double)took / (double)MSEC(1);
    if (rc == -ECONNREFUSED)
        doctor_say(doctor->report, "peer", subject, DOCTOR_PEER_NOT_LISTENING,
                   "%s: the host answers after %.2f ms, nobody listens there yet", address->text,
                   ms);
    else if (rc == -ENODEV && is_rdma(address))
        doctor_say(doctor->report, "peer", subject, DOCTOR_NOT_TRIED,
                   "%s: no RDMA device of this host reaches it", address->text);
    else if (rc < 0)
        doctor_say(doctor->report, "peer", subject,
                   first ? DOCTOR_PEER_UNREACHABLE : DOCTOR_HOST_UNREACHABLE, "%s: %s",
                   address->text, strerror(-rc));
    else
        doctor_say(doctor->report, "peer", subject,
                   took > doctor->config->heartbeat_interval ? DOCTOR_PEER_FAR : DOCTOR_FINE,
                   "%s lets a connection in after %.2f ms", address->text, ms);
}

static void check_hosts(const struct doctor *doctor, const struct tls_credentials *tls)
{
    const struct config *config = doctor->config;
    check_host(doctor, tls, &config->peer, "", true);
    for (unsigned i = 0; i < config->host_count; i++) {
        char subject[DOCTOR_SUBJECT_MAX];
        snprintf(subject, sizeof(subject), "host.%u", i);
        check_host(doctor, tls, &config->hosts[i], subject, false);
    }
}

/* Binds as the heartbeat does, and asks the kernel for a route; nothing is sent. */
static int try_path(const struct config_path *path, bool *bound)
{
    int fd = socket(path->local.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : 0;
    *bound = false;
    if (rc == 0 && bind(fd, (const struct sockaddr *)&path->local.address, path->local.length) < 0)
        rc = -errno;
    *bound = rc == 0;
    if (rc == 0 &&
        connect(fd, (const struct sockaddr *)&path->remote.address, path->remote.length) < 0)
        rc = -errno;
    fd_close(&fd);
    return rc;
}

static void check_path(const struct doctor *doctor, unsigned index)
{
    const struct config_path *path = &doctor->config->paths[index];
    char subject[DOCTOR_SUBJECT_MAX];
    bool bound;
    snprintf(subject, sizeof(subject), "path.%u", index);
    const int rc = try_path(path, &bound);
    if (rc == 0)
        doctor_say(doctor->report, "path", subject, DOCTOR_FINE,
                   "%s is this host's, and a route leads to %s", path->local.text,
                   path->remote.text);
    else
        doctor_say(doctor->report, "path", subject,
                   bound                                      ? DOCTOR_PATH_NO_ROUTE
                   : rc == -EADDRINUSE && doctor->daemon_runs ? DOCTOR_DAEMON_RUNS
                   : rc == -EADDRINUSE                        ? DOCTOR_PATH_IN_USE
                                                              : DOCTOR_PATH_REFUSED,
                   "%s: %s", bound ? path->remote.text : path->local.text, strerror(-rc));
}

static unsigned interface_of(const struct config_address *from)
{
    struct address address = {.size = from->length};
    if (from->length > sizeof(address.v6))
        return 0;
    memcpy(&address.v6, &from->address, from->length);
    return carrier_interface_of(&address);
}

/* Paths that fall silent together are one. */
static void check_independence(const struct doctor *doctor)
{
    const struct config *config = doctor->config;
    unsigned count = 0, interface = 0;
    bool different = false;
    for (unsigned i = 0; i < config->path_count; i++) {
        if (config->paths[i].host != 0)
            continue;
        const unsigned own = interface_of(&config->paths[i].local);
        different = different || (count && own != interface);
        interface = own;
        count++;
    }
    if (count > 1 && different)
        doctor_say(doctor->report, "paths", "", DOCTOR_FINE,
                   "%u paths to the peer, by different interfaces", count);
    else
        doctor_say(doctor->report, "paths", "", DOCTOR_PATHS_SINGLE,
                   count > 1 ? "all %u paths to the peer leave by one interface"
                             : "%u path leads to the peer",
                   count);
}

void doctor_check_links(const struct doctor *doctor, const struct tls_credentials *tls)
{
    if (doctor->config->listen.encrypted && !tls) {
        doctor_say(doctor->report, "listen", "", DOCTOR_NOT_TRIED,
                   "there are no credentials to listen with");
    } else {
        check_listen(doctor, tls);
    }
    check_hosts(doctor, tls);
    for (unsigned i = 0; i < doctor->config->path_count; i++)
        check_path(doctor, i);
    check_independence(doctor);
}
