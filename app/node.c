#include "app/node.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/config_use.h"
#include "app/node_internal.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/metrics_server.h"

#define EVENTS_KEPT           1024
#define HANDSHAKE_TIMEOUT_MS  3000
#define PROCESSORS_PER_STREAM 2
#define AUTO_STREAMS_MAX      4
#define SAMPLE_SECONDS        1
#define ANSWER_TIMEOUT        SEC(1)

/* Pauses between the announcements after a promotion. */
static const unsigned announce_after_ms[] = {20, 50, 100, 200, 500, 1000, 2000};

static void name_process(struct node *node)
{
    uint32_t random = 0;
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint32_t)clock_now();
    snprintf(node->who, sizeof(node->who), "%s/%d/%08x", host, (int)getpid(), random);
}

/* ---- building, in order ---- */

void node_note_made(struct node *node, const char *path, int (*remove)(const char *))
{
    node->made[node->made_count++] = (struct made){path, remove};
}

static int make_directory(struct node *node, const char *what, const char *path, mode_t mode,
                          struct error *err)
{
    if (mkdir(path, mode) == 0)
        node_note_made(node, path, rmdir);
    else if (errno != EEXIST)
        return error_set(err, -errno, "%s %s: %s", what, path, strerror(errno));
    return 0;
}

/* On the arbiter's thread. Nothing stops, but a failure now would find nobody to ask (DESIGN §6,
 * arbiter only). */
static void on_arbiter_reachable(void *context, bool reachable, const char *text)
{
    node_note(context, !reachable, reachable ? "arbiter.reachable" : "arbiter.unreachable", text);
}

static int build_arbiter(struct node *node, struct error *err)
{
    const int rc = term_store_open(node->config->state_dir, node->config->name, &node->terms, err);
    if (rc < 0)
        return rc;
    const struct config *c = node->config;
    struct arbiter_config config = config_arbiter(c);
    config.reachable = on_arbiter_reachable;
    config.context = node;
    if (c->host_count)
        term_store_name_standbys(node->terms);
    return arbiter_create(&config, &node->arbiter, err);
}

/* Each stream keeps a processor busy at either end when it matters, and the guest needs some, too.
 */
static unsigned choose_streams(void)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const long streams = processors / PROCESSORS_PER_STREAM;
    return streams < 1 ? 1 : streams > AUTO_STREAMS_MAX ? AUTO_STREAMS_MAX : (unsigned)streams;
}

/* What this host makes of each disk must be what the other one does. */
static int fill_identity(const struct node *node, struct session_party *p, struct error *err)
{
    const struct config *c = node->config;
    size_t used = strlen(node->ops.ops->identity(node->ops.context));
    if (used < sizeof(p->identity))
        memcpy(p->identity, node->ops.ops->identity(node->ops.context), used + 1);
    for (unsigned i = 0; used < sizeof(p->identity) && i < c->disk_count; i++)
        if (node_disk_protection(c, i) == DISK_SHARED)
            used += (size_t)snprintf(p->identity + used, sizeof(p->identity) - used,
                                     "disk.%u.shared=1\n", i);
    if (used >= sizeof(p->identity))
        return error_set(err, -E2BIG, "the machine's identity is too long for the handshake");
    return 0;
}

static int fill_session(struct node *node, struct error *err)
{
    struct session_party *p = &node->session.local;
    const struct gmem *memory = node->ops.ops->memory(node->ops.context);
    const int rc = fill_identity(node, p, err);
    if (rc < 0)
        return rc;
    p->major = SESSION_MAJOR;
    p->minor = SESSION_MINOR;
    p->role = SESSION_SECONDARY;
    p->memory_size = gmem_size(memory);
    p->staging_cap = node->config->staging_cap;
    p->streams = node->config->streams ? node->config->streams : choose_streams();
    p->capabilities = SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE | SESSION_CAP_SWITCHOVER |
                      SESSION_CAP_SPILL | SESSION_CAP_RELEASE;
    p->slot_count = (uint32_t)gmem_slot_count(memory);
    for (uint32_t i = 0; i < p->slot_count; i++)
        p->slots[i] =
            (struct session_slot){gmem_slot_at(memory, i)->gpa, gmem_slot_at(memory, i)->size};
    snprintf(p->vm_name, sizeof(p->vm_name), "%s", node->config->name);
    if (node->config->host_count)
        snprintf(p->host, sizeof(p->host), "%s", node->config->listen.text);
    node->session.timeout_ms = HANDSHAKE_TIMEOUT_MS;
    return key_derive(node->config->secret, node->config->secret_size, KEY_LABEL_SESSION,
                      node->session.key, err);
}

static int build_door(struct node *node, struct error *err)
{
    if (!node_is_pair(node->config))
        return 0;
    int rc = fill_session(node, err);
    if (rc == 0)
        rc = config_tls_credentials(node->config, &node->tls, err);
    if (rc < 0)
        return rc;
    struct listener *listener = NULL;
    rc = transport_listen(node->config->listen.text, node->tls, &listener, err);
    return rc < 0 ? rc : door_open(listener, &node->session, &node->door, err);
}

static void list_hosts(struct node *node)
{
    const struct config *c = node->config;
    if (!node_is_pair(c))
        return;
    node->hosts[node->peers.count++] = c->peer.text;
    for (unsigned i = 0; i < c->host_count; i++)
        node->hosts[node->peers.count++] = c->hosts[i].text;
}

static int build_heartbeat(struct node *node, unsigned host, struct error *err)
{
    const struct config *c = node->config;
    struct heartbeat_path paths[CONFIG_PATHS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < c->path_count; i++)
        if (c->paths[i].host == host)
            paths[count++] =
                (struct heartbeat_path){c->paths[i].local.text, c->paths[i].remote.text};
    const struct heartbeat_config config = {
        .speaker = host,
        .vm = c->name,
        .secret = c->secret,
        .secret_size = c->secret_size,
        .paths = paths,
        .path_count = count,
        .interval = c->heartbeat_interval,
        .multiplier = c->heartbeat_multiplier,
        .eof_is_suspicion = true,
        .realtime = c->realtime,
        .lock_memory = c->realtime,
        .last_words = true,
    };
    node->ears[host] = (struct node_ear){.node = node, .host = host};
    return heartbeat_create(&config, &node_heartbeat_ops, &node->ears[host],
                            &node->peers.heartbeats[host], err);
}

static int build_heartbeats(struct node *node, struct error *err)
{
    int rc = 0;
    list_hosts(node);
    for (unsigned i = 0; rc == 0 && i < node->peers.count; i++)
        rc = build_heartbeat(node, i, err);
    return rc;
}

static int start_heartbeats(struct node *node, struct error *err)
{
    const struct heartbeat_local local = {.role = node->primary ? PACKET_ROLE_PRIMARY
                                                                : PACKET_ROLE_SECONDARY};
    int rc = 0;
    peers_set_local(&node->peers, &local, false);
    for (unsigned i = 0; rc == 0 && i < node->peers.count; i++)
        rc = heartbeat_start(node->peers.heartbeats[i], err);
    return rc;
}

static void on_signal(evutil_socket_t signal, short what, void *context)
{
    (void)what;
    log_info("app", "signal %d: stopping", (int)signal);
    node_stop_role(context, signal == SIGTERM ? "stopped by SIGTERM" : "stopped by SIGINT");
}

static void on_sample(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    node_sample(context);
    node_service_beat(context);
    node_keep_socket(context);
}

/* The first announcement may fall into a moment in which a switch or a bridge port doesn't forward
 * yet; the guest's silence would last until it speaks by itself. */
static void on_announce(evutil_socket_t fd, short what, void *context)
{
    struct node *node = context;
    (void)fd, (void)what;
    /* The lock keeps the role, and with it the outbox. */
    pthread_mutex_lock(&node->lock);
    const bool primary = node->primary != NULL;
    if (primary && node->announcements < ARRAY_SIZE(announce_after_ms))
        node->ops.ops->announce(node->ops.context);
    pthread_mutex_unlock(&node->lock);
    if (!primary || node->announcements == ARRAY_SIZE(announce_after_ms))
        return;
    const unsigned ms = announce_after_ms[node->announcements++];
    const struct timeval next = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    event_add(node->announcer, &next);
}

static void on_role_ended(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    event_base_loopbreak(((struct node *)context)->base);
}

static int build_loop(struct node *node, struct error *err)
{
    static const struct timeval second = {.tv_sec = SAMPLE_SECONDS};
    node->base = event_base_new();
    if (node->base) {
        node->signals[0] = evsignal_new(node->base, SIGTERM, on_signal, node);
        node->signals[1] = evsignal_new(node->base, SIGINT, on_signal, node);
        node->sampler = event_new(node->base, -1, EV_PERSIST, on_sample, node);
        node->announcer = event_new(node->base, -1, 0, on_announce, node);
        node->role_ended = event_new(node->base, -1, 0, on_role_ended, node);
    }
    if (!node->base || !node->signals[0] || !node->signals[1] || !node->sampler ||
        !node->announcer || !node->role_ended || event_add(node->signals[0], NULL) < 0 ||
        event_add(node->signals[1], NULL) < 0 || event_add(node->sampler, &second) < 0)
        return error_set(err, -ENOMEM, "can't build the event loop");
    const struct control_server_config config = {.path = node->config->control_socket,
                                                 .group = node->config->control_group,
                                                 .vm = node->config->name,
                                                 .ops = &node_control_ops,
                                                 .context = node,
                                                 .events = node->events,
                                                 .event_file = node->history.file};
    const int rc = make_directory(node, "run-dir", node->config->run_dir, 0755, err);
    return rc < 0 ? rc : control_server_create(node->base, &config, &node->server, err);
}

int node_create(const struct config *config, struct node **out, struct error *err)
{
    *out = NULL;
    evthread_use_pthreads();
    struct node *node = calloc(1, sizeof(*node));
    if (!node)
        return error_set(err, -ENOMEM, "out of memory");
    node->config = config;
    node->console_fd = -1;
    node->started = clock_now();
    pthread_mutex_init(&node->lock, NULL);
    name_process(node);
    node->events = control_events_create(EVENTS_KEPT);
    node->console = control_console_create();
    int rc = node->events && node->console ? 0 : error_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = make_directory(node, "state-dir", config->state_dir, 0700, err);
    if (rc == 0)
        rc = node_build_history(node, err);
    if (rc == 0)
        rc = node_build_machine(node, err);
    if (rc == 0)
        rc = outlet_open_networks(node_outlet(node), err);
    if (rc == 0 && config->role != CONFIG_ROLE_SECONDARY)
        rc = node_boot(node, err);
    if (rc == 0)
        rc = build_door(node, err);
    if (rc == 0)
        rc = build_heartbeats(node, err);
    if (rc == 0)
        rc = build_loop(node, err);
    if (rc == 0)
        rc = node_build_metrics(node, err);
    if (rc == 0)
        rc = build_arbiter(node, err);
    if (rc < 0)
        node_destroy(&node);
    *out = node;
    return rc;
}

void node_destroy(struct node **node)
{
    struct node *n = *node;
    if (!n)
        return;
    metrics_server_destroy(&n->metrics);
    control_server_destroy(&n->server);
    for (size_t i = 0; i < PEERS_MAX; i++)
        heartbeat_destroy(&n->peers.heartbeats[i]);
    door_destroy(&n->door);
    tls_credentials_destroy(&n->tls);
    arbiter_destroy(&n->arbiter);
    term_store_close(&n->terms);
    slab_destroy(&n->slab);
    node_destroy_machine(n);
    disk_store_close(&n->disks);
    for (size_t i = 0; i < ARRAY_SIZE(n->signals); i++)
        if (n->signals[i])
            event_free(n->signals[i]);
    if (n->sampler)
        event_free(n->sampler);
    if (n->announcer)
        event_free(n->announcer);
    if (n->role_ended)
        event_free(n->role_ended);
    node_forget_checkpoint(n);
    if (n->base)
        event_base_free(n->base);
    node_end_history(n);
    control_events_destroy(&n->events);
    control_console_destroy(&n->console);
    if (n->console_fd_owned)
        fd_close(&n->console_fd);
    while (!n->ran && n->made_count) {
        const struct made *made = &n->made[--n->made_count];
        (void)made->remove(made->path);
    }
    pthread_mutex_destroy(&n->lock);
    free(n);
    *node = NULL;
}

/* ---- running ---- */

static int make_primary(struct node *node, struct error *err)
{
    int rc = node->ops.ops->output_open(node->ops.context, err);
    if (rc < 0)
        return rc;
    const struct term_record record = term_store_current(node->terms);
    struct disk_keeper *keeper = disk_store_keeper(node->disks);
    if (keeper)
        rc = disk_keeper_may_start(keeper, record.ownership == TERM_OWNER ? record.term : 0, err);
    if (rc < 0)
        return rc;
    const struct primary_config config = node_primary_config(node);
    rc = primary_create(&config, &node->primary, err);
    return rc;
}

static int make_secondary(struct node *node, struct error *err)
{
    const struct secondary_config config = node_secondary_config(node);
    return secondary_create(&config, &node->secondary, err);
}

/* Whether to ask for the guest. A record that says that it is elsewhere is believed unasked; one
 * that says it is here may be of a term that is over, and a primary asks before it begins. */
static bool begins_as_primary(const struct node *node)
{
    if (node->config->role != CONFIG_ROLE_AUTO)
        return node->config->role == CONFIG_ROLE_PRIMARY;
    const struct term_record record = term_store_current(node->terms);
    return !record.term || record.ownership == TERM_OWNER;
}

int node_run(struct node *node, struct error *err)
{
    int rc = begins_as_primary(node) ? make_primary(node, err) : make_secondary(node, err);
    if (rc == 0)
        rc = start_heartbeats(node, err);
    if (rc == 0 && node->metrics)
        rc = metrics_server_start(node->metrics, err);
    if (rc == 0 && pthread_create(&node->role_thread, NULL, node_role_main, node) != 0)
        rc = error_set(err, -EAGAIN, "can't start the role's thread");
    node->ran = rc == 0;
    if (rc == 0) {
        node_start_history(node);
        node_note(node, false, "daemon.started",
                  node->primary ? "started as primary" : "started as secondary");
        node_service_ready(node);
        event_base_dispatch(node->base);
        node_service_stopping(node);
        pthread_join(node->role_thread, NULL);
        node_finish_dump(node);
        rc = node->result;
        if (rc < 0 && err)
            *err = node->failure;
        control_server_complete(node->server, node->stop_token, 0, "stopped");
        control_server_flush(node->server, ANSWER_TIMEOUT);
    }
    metrics_server_destroy(&node->metrics); /* before the roles that it looks at */
    /* The heartbeats still tell their news to whoever is there. */
    pthread_mutex_lock(&node->lock);
    struct primary *primary = node->primary;
    struct secondary *secondary = node->secondary;
    node->primary = NULL;
    node->secondary = NULL;
    pthread_mutex_unlock(&node->lock);
    primary_destroy(&primary);
    secondary_destroy(&secondary);
    return rc;
}
