#include "app/drill_filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* What becomes of a matching packet. The altered byte is the first behind a TCP header with time
 * stamps; acknowledgements without data are not counted. */
static const char *const verdicts[] = {
    [DRILL_CUT] = "drop",
    [DRILL_SLOW] = "limit rate over 1 mbytes/second burst 64 kbytes drop",
    [DRILL_CORRUPT] = "meta length > 200 numgen inc mod 10 == 9 @th,256,8 set 0x5a",
};

/* One chain's rules are gathered in a stream each. */
struct chains {
    FILE *in;
    FILE *out;
    const char *verdict;
};

/* Packets of `protocol` whose source (or destination) is that address and port. */
static void add_rule(FILE *chain, const struct sockaddr *address, const char *protocol, bool source,
                     const char *verdict)
{
    char text[INET6_ADDRSTRLEN];
    const bool v6 = address->sa_family == AF_INET6;
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    inet_ntop(address->sa_family, v6 ? (const void *)&in6->sin6_addr : (const void *)&in4->sin_addr,
              text, sizeof(text));
    fprintf(chain, "        %s %s %s %s %s %u meta l4proto @armed %s\n", v6 ? "ip6" : "ip",
            source ? "saddr" : "daddr", text, protocol, source ? "sport" : "dport",
            ntohs(v6 ? in6->sin6_port : in4->sin_port), verdict);
}

/* Everything to and from a place elsewhere. */
static void add_remote(struct chains *c, const struct sockaddr *address, const char *protocol)
{
    add_rule(c->out, address, protocol, false, c->verdict);
    add_rule(c->in, address, protocol, true, c->verdict);
}

/* Everything to and from a place of this host. */
static void add_local(struct chains *c, const struct sockaddr *address, const char *protocol)
{
    add_rule(c->out, address, protocol, true, c->verdict);
    add_rule(c->in, address, protocol, false, c->verdict);
}

/* "http://HOST:PORT", checked when the configuration was read. */
static int add_endpoint(struct chains *c, const char *url, struct error *err)
{
    char host[256];
    const char *begin = strstr(url, "://");
    begin = begin ? begin + 3 : url;
    const char *colon = strrchr(begin, ':');
    if (!colon || (size_t)(colon - begin) >= sizeof(host))
        return error_set(err, -ENOTSUP, "%s: has no port", url);
    const bool bracket = *begin == '[';
    const size_t length = (size_t)(colon - begin) - (bracket ? 2 : 0);
    memcpy(host, begin + bracket, length);
    host[length] = '\0';
    char port[16];
    snprintf(port, sizeof(port), "%.*s", (int)strspn(colon + 1, "0123456789"), colon + 1);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return error_set(err, -ENOTSUP, "the arbiter %s: %s", url, gai_strerror(rc));
    for (const struct addrinfo *a = found; a; a = a->ai_next)
        add_remote(c, a->ai_addr, "tcp");
    freeaddrinfo(found);
    return 0;
}

static int add_wires(struct chains *c, const struct config *config, unsigned wires,
                     struct error *err)
{
    int rc = 0;
    if (wires & DRILL_DATA && config->listen.text) {
        add_local(c, (const struct sockaddr *)&config->listen.address, "tcp");
        add_remote(c, (const struct sockaddr *)&config->peer.address, "tcp");
    }
    for (unsigned i = 0; wires & DRILL_HEARTBEAT && i < config->path_count; i++)
        add_remote(c, (const struct sockaddr *)&config->paths[i].remote.address, "udp");
    if (wires & DRILL_ARBITER && config->arbiter == CONFIG_ARBITER_ETCD)
        for (unsigned i = 0; rc == 0 && config->arbiter_endpoints.list[i]; i++)
            rc = add_endpoint(c, config->arbiter_endpoints.list[i], err);
    return rc;
}

static int check_wires(const struct config *config, unsigned wires, struct error *err)
{
    if (wires & DRILL_DATA && config->listen.text && strcmp(config->listen.scheme, "rdma") == 0)
        return error_set(err, -ENOTSUP,
                         "checkpoints travel over RDMA, past the kernel's packet filter: cut that "
                         "network by hand");
    if (wires == DRILL_ARBITER && config->arbiter != CONFIG_ARBITER_ETCD)
        return error_set(err, -ENOTSUP, "only an arbiter of type etcd has a way that can be cut");
    return 0;
}

void drill_filter_table(const struct config *config, char out[DRILL_TABLE_MAX])
{
    snprintf(out, DRILL_TABLE_MAX, "kemari-drill-%s", config->name);
}

int drill_filter_write(const struct config *config, const struct drill_scenario *scenario,
                       unsigned seconds, FILE *out, struct error *err)
{
    char table[DRILL_TABLE_MAX];
    char *in_rules = NULL, *out_rules = NULL;
    size_t in_size, out_size;
    int rc = check_wires(config, scenario->wires, err);
    if (rc < 0)
        return rc;
    struct chains chains = {open_memstream(&in_rules, &in_size),
                            open_memstream(&out_rules, &out_size), verdicts[scenario->kind]};
    if (!chains.in || !chains.out)
        rc = error_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = add_wires(&chains, config, scenario->wires, err);
    if (chains.in)
        fclose(chains.in);
    if (chains.out)
        fclose(chains.out);
    drill_filter_table(config, table);
    if (rc == 0) {
        drill_filter_write_end(config, out);
        fprintf(out,
                "table inet %s {\n"
                "    set armed {\n        type inet_proto\n        flags timeout\n    }\n"
                "    chain in {\n        type filter hook input priority -300\n%s    }\n"
                "    chain out {\n        type filter hook output priority -300\n%s    }\n}\n"
                "add element inet %s armed { tcp timeout %us, udp timeout %us }\n",
                table, in_rules, out_rules, table, seconds, seconds);
    }
    free(in_rules);
    free(out_rules);
    return rc;
}

/* Declared first, so that deleting it is no error where it is not. */
void drill_filter_write_end(const struct config *config, FILE *out)
{
    char table[DRILL_TABLE_MAX];
    drill_filter_table(config, table);
    fprintf(out, "table inet %s\ndelete table inet %s\n", table, table);
}

static const char *const nft_paths[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"};

static const char *find_nft(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(nft_paths); i++)
        if (access(nft_paths[i], X_OK) == 0)
            return nft_paths[i];
    return NULL;
}

bool drill_filter_available(void)
{
    return find_nft() != NULL;
}

static void become_nft(int netns, int input)
{
    char *const argv[] = {(char *)"nft", (char *)"-f", (char *)"-", NULL};
    if (setns(netns, CLONE_NEWNET) == 0 && dup2(input, STDIN_FILENO) >= 0)
        execv(find_nft(), argv);
    _exit(127);
}

int drill_filter_run(int netns, const char *program, struct error *err)
{
    int ends[2];
    if (!find_nft())
        return error_set(err, -ENOENT, "nft is missing (package nftables)");
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child == 0)
        become_nft(netns, ends[0]);
    fd_close(&ends[0]);
    const int rc = child < 0 ? -errno : fd_write_all(ends[1], program, strlen(program));
    fd_close(&ends[1]);
    int status = 0;
    if (child < 0)
        return error_set(err, rc, "can't start nft: %s", strerror(-rc));
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, -EIO,
                         "nft did not take the rules (root, and a kernel with nf_tables, needed)");
    return 0;
}
