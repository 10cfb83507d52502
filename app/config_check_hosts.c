/* The hosts that share a guest: a pair, or a list, and the heartbeat's paths between them. */
#include <errno.h>
#include <string.h>

#include "app/config_check_internal.h"
#include "heartbeat/term.h"

/* Both hosts of a pair need the same things, since either may become the other: the secondary calls
 * the primary at its `listen`. Without both addresses a primary runs alone, on purpose. */
int config_check_pair(const struct check *check)
{
    const struct config *config = check->config;
    /* Without a memory outside both hosts, each would begin a guest. */
    if (config->role == CONFIG_ROLE_AUTO && config->arbiter != CONFIG_ARBITER_ETCD)
        return FAIL(check, role, 0, -EINVAL,
                    "auto needs an arbiter that remembers who owns the guest, that is etcd");
    if (!config->listen.text && !config->peer.text) {
        if (config->role != CONFIG_ROLE_PRIMARY)
            return FAIL(check, peer, 0, -EINVAL,
                        "this option is needed, a secondary must know its primary");
        if (config->path_count)
            return FAIL(check, paths, 0, -EINVAL,
                        "a heartbeat needs a pair, that is listen and peer");
        return 0;
    }
    if (!config->listen.text)
        return FAIL(check, listen, 0, -EINVAL,
                    "this option is needed with peer, either host may have to let the other in");
    if (!config->peer.text)
        return FAIL(check, peer, 0, -EINVAL,
                    "this option is needed with listen, either host may have to call the other");
    if (strcmp(config->listen.text, config->peer.text) == 0)
        return FAIL(check, peer, 0, -EINVAL, "%s is this host's own listen", config->peer.text);
    if (strcmp(config->listen.scheme, config->peer.scheme) != 0)
        return FAIL(check, peer, 0, -EINVAL,
                    "%s is of another scheme than listen, %s; both hosts need the same",
                    config->peer.text, config->listen.text);
    if (!config->secret_file)
        return FAIL(check, secret_file, 0, -EINVAL,
                    "this option is needed in a pair, both hosts prove that they know the secret");
    if (!config->path_count)
        return FAIL(check, paths, 0, -EINVAL,
                    "this option is needed in a pair, without a heartbeat a silent host is never "
                    "noticed");
    return 0;
}

static bool is_wildcard(const struct config_address *address)
{
    static const struct in6_addr any6;
    if (address->address.ss_family == AF_INET)
        return ((const struct sockaddr_in *)&address->address)->sin_addr.s_addr == INADDR_ANY;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->address;
    return memcmp(&in6->sin6_addr, &any6, sizeof(any6)) == 0;
}

/* One of the list against those before it, peer and listen among them. */
static int check_host(const struct check *check, unsigned index)
{
    const struct config *config = check->config;
    const struct config_address *host = &config->hosts[index];
    bool has_path = false;
    if (strcmp(host->scheme, config->listen.scheme) != 0)
        return FAIL(check, hosts, index, -EINVAL,
                    "%s is of another scheme than listen, %s; all hosts need the same", host->text,
                    config->listen.text);
    if (strlen(host->text) >= TERM_STANDBY_MAX)
        return FAIL(check, hosts, index, -EINVAL, "%s is longer than %d characters", host->text,
                    TERM_STANDBY_MAX - 1);
    if (strcmp(host->text, config->listen.text) == 0)
        return FAIL(check, hosts, index, -EINVAL, "%s is this host's own listen", host->text);
    bool twice = strcmp(host->text, config->peer.text) == 0;
    for (unsigned i = 0; i < index; i++)
        twice = twice || strcmp(host->text, config->hosts[i].text) == 0;
    if (twice)
        return FAIL(check, hosts, index, -EINVAL, "%s is in the list already", host->text);
    for (unsigned i = 0; i < config->path_count; i++)
        has_path = has_path || config->paths[i].host == index + 1;
    if (!has_path)
        return FAIL(check, hosts, index, -EINVAL,
                    "no heartbeat path leads to it: one that ends in ,host=%u is needed", index);
    return 0;
}

/* Several hosts that may be the standby. The rule that keeps one that was left behind from being
 * promoted rests on an arbiter that compares terms (primary/roster.h). */
int config_check_hosts(const struct check *check)
{
    const struct config *config = check->config;
    if (!config->host_count)
        return 0;
    if (config->arbiter != CONFIG_ARBITER_ETCD)
        return FAIL(check, hosts, 0, -EINVAL,
                    "more than one standby host needs an arbiter that remembers the term, that is "
                    "etcd: any other could let one take over that was left behind");
    if (!config->peer.text)
        return FAIL(check, peer, 0, -EINVAL, "this option is needed with host.0");
    if (is_wildcard(&config->listen))
        return FAIL(check, listen, 0, -EINVAL,
                    "%s names no host: with host.0, the address at which the others list this one "
                    "is needed",
                    config->listen.text);
    if (strlen(config->peer.text) >= TERM_STANDBY_MAX ||
        strlen(config->listen.text) >= TERM_STANDBY_MAX)
        return FAIL(check, peer, 0, -EINVAL, "peer and listen may have %d characters at most",
                    TERM_STANDBY_MAX - 1);
    if (config->tls_cert_file && !config->tls_peer_name)
        return FAIL(check, tls_peer_name, 0, -EINVAL,
                    "this option is needed with host.0: one name that the certificates of all "
                    "hosts contain");
    for (unsigned i = 0; i < config->host_count; i++) {
        const int rc = check_host(check, i);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int config_check_heartbeat(const struct check *check)
{
    const struct config *config = check->config;
    bool to_peer = !config->path_count;
    for (unsigned i = 0; i < config->path_count; i++) {
        if (config->paths[i].host > config->host_count)
            return FAIL(check, paths, i, -EINVAL, "there is no host.%u", config->paths[i].host - 1);
        to_peer = to_peer || config->paths[i].host == 0;
    }
    if (!to_peer)
        return FAIL(check, paths, 0, -EINVAL, "no path leads to peer");
    for (unsigned i = 0; i < config->path_count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(config->paths[i].local.text, config->paths[j].local.text) == 0)
                return FAIL(check, paths, i, -EINVAL, "%s is already the local end of path.%u",
                            config->paths[i].local.text, j);
    return 0;
}
