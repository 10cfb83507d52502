/* The role's thread: a secondary until it is promoted, a primary from then on; and who tells it
 * what. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/node_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/prompt.h"

#define SEND_TIMEOUT_MS 1000 /* a standby that takes no byte for so long is lost */

void node_note(void *context, bool warning, const char *kind, const char *text)
{
    struct node *node = context;
    control_events_note(node->events, warning ? CONTROL_WARNING : CONTROL_INFO, kind, "%s", text);
}

static enum page_encoder_mode encoding_of(const struct config *config)
{
    static const enum page_encoder_mode modes[] = {
        [CONFIG_ENCODING_AUTO] = PAGE_ENCODER_AUTO,
        [CONFIG_ENCODING_RAW] = PAGE_ENCODER_RAW,
        [CONFIG_ENCODING_DELTA] = PAGE_ENCODER_DELTA,
        [CONFIG_ENCODING_LZ4] = PAGE_ENCODER_LZ4,
        [CONFIG_ENCODING_SMALLEST] = PAGE_ENCODER_SMALLEST,
    };
    return modes[config->encoding];
}

struct primary_config node_primary_config(struct node *node)
{
    return (struct primary_config){
        .vm = node->config->name,
        .who = node->who,
        .engine = {.machine = node->ops,
                   .slab = node->slab,
                   .outbox_cap = node->config->outbox_cap,
                   .policy = node_policy_of(node->config),
                   .encoding = encoding_of(node->config),
                   .encoding_cache = node->config->encoding_cache,
                   .stall_cap = node->config->stall_timeout,
                   .realtime = node->config->realtime,
                   .alive_interval = node->config->heartbeat_interval,
                   .first_epoch = 1},
        .local = &node->session.local,
        .door = node->door,
        .terms = node->terms,
        .arbiter = node->arbiter,
        .peers = &node->peers,
        .hosts = node->hosts,
        .host_wait = node->config->host_wait,
        .peer_wait = node->door ? node->config->peer_wait : 1,
        .arbiter_timeout = node->config->arbiter_timeout,
        .detection_time = node->config->heartbeat_interval * node->config->heartbeat_multiplier,
        .send_timeout_ms = SEND_TIMEOUT_MS,
        .note = node_note,
        .switchover_failed = node_switchover_failed,
        .switchover_done = node_switchover_done,
        .protection_ordered = node_protection_ordered,
        .context = node,
    };
}

struct secondary_config node_secondary_config(struct node *node)
{
    return (struct secondary_config){
        .vm = node->config->name,
        .who = node->who,
        .machine = node->ops,
        .slab = node->slab,
        .hosts = node->hosts,
        .tls = node->tls,
        .session = node->session,
        .terms = node->terms,
        .arbiter = node->arbiter,
        .peers = &node->peers,
        .detection_time = node->config->heartbeat_interval * node->config->heartbeat_multiplier,
        .arbiter_timeout = node->config->arbiter_timeout,
        .note = node_note,
        .switchover_failed = node_switchover_failed,
        .context = node,
    };
}

/* ---- the machine and the heartbeat ---- */

/* `detail`: what becomes of the guest, if not what is configured. */
static void note_panic(struct node *node, bool crash_kernel, const char *detail)
{
    static const char *const texts[] = {
        [CONFIG_ON_PANIC_RESTART] = "the guest's kernel panicked: it is reset",
        [CONFIG_ON_PANIC_STOP] = "the guest's kernel panicked: it is stopped",
        [CONFIG_ON_PANIC_IGNORE] = "the guest's kernel panicked: it is left alone",
    };
    pthread_mutex_lock(&node->lock);
    node->panics++;
    pthread_mutex_unlock(&node->lock);
    node_note(node, true, crash_kernel ? "guest.crash-loaded" : "guest.panicked",
              crash_kernel ? "the guest's kernel panicked: its own crash kernel goes on"
              : detail     ? detail
                           : texts[node->config->on_panic]);
}

void node_machine_event(void *context, enum machine_event event, const char *detail)
{
    struct node *node = context;
    if (event == MACHINE_EVENT_RESET) {
        node_note(node, false, "guest.reset", detail ? detail : "the guest rebooted");
        return;
    }
    if (event == MACHINE_EVENT_PANICKED || event == MACHINE_EVENT_CRASH_LOADED) {
        note_panic(node, event == MACHINE_EVENT_CRASH_LOADED, detail);
        return;
    }
    const bool failed = event == MACHINE_EVENT_FAILED;
    pthread_mutex_lock(&node->lock);
    node->guest_off = true;
    node->guest_failed = failed;
    if (node->primary)
        primary_guest_ended(node->primary, failed,
                            detail   ? detail
                            : failed ? "the guest can't go on"
                                     : "the guest switched itself off");
    pthread_mutex_unlock(&node->lock);
}

void node_disk_event(void *context, enum disk_store_event event, const char *text)
{
    static const char *const kinds[] = {
        [DISK_STORE_LOCAL_ERROR] = "disk.error",
        [DISK_STORE_REPLICA_FAILED] = "disk.replica-failed",
        [DISK_STORE_BEHIND] = "disk.behind",
        [DISK_STORE_CAUGHT_UP] = "disk.caught-up",
    };
    const bool trouble = event != DISK_STORE_CAUGHT_UP;
    if (trouble)
        log_error("app", "%s", text);
    else
        log_info("app", "%s", text);
    node_note(context, trouble, kinds[event], text);
}

/* Of several hosts it is told which. */
static void note_heartbeat(const struct node_ear *ear, bool warning, const char *kind,
                           const char *text)
{
    char whose[ERROR_TEXT_MAX];
    if (ear->node->peers.count < 2) {
        node_note(ear->node, warning, kind, text);
        return;
    }
    snprintf(whose, sizeof(whose), "%s: %s", ear->node->hosts[ear->host], text);
    node_note(ear->node, warning, kind, whose);
}

static void on_suspect(void *owner, enum detector_reason reason, nsec_t at)
{
    const struct node_ear *ear = owner;
    struct node *node = ear->node;
    const char *why = detector_reason_text(reason);
    const bool certain = reason != DETECTOR_REASON_SILENCE;
    (void)at;
    note_heartbeat(ear, true, "heartbeat.suspect", why);
    pthread_mutex_lock(&node->lock);
    node->news[ear->host].suspected = reason;
    if (node->primary)
        primary_suspect(node->primary, ear->host, why, certain);
    if (node->secondary)
        secondary_suspect(node->secondary, ear->host, why, certain);
    pthread_mutex_unlock(&node->lock);
}

static void on_alive(void *owner, enum detector_reason reason)
{
    const struct node_ear *ear = owner;
    struct node *node = ear->node;
    note_heartbeat(ear, false, "heartbeat.alive", detector_reason_text(reason));
    /* Another process in the old one's place does not have its guest. */
    const bool same_process = reason == DETECTOR_REASON_RESUMED;
    pthread_mutex_lock(&node->lock);
    node->news[ear->host].suspected = DETECTOR_REASON_START;
    if (node->secondary && same_process)
        secondary_alive(node->secondary, ear->host);
    pthread_mutex_unlock(&node->lock);
}

static void on_peer_stopping(void *owner, enum detector_reason reason)
{
    note_heartbeat(owner, false, "heartbeat.stopping", detector_reason_text(reason));
}

static void on_stalled(void *owner, nsec_t stalled_for)
{
    struct node *node = ((const struct node_ear *)owner)->node;
    control_events_note(node->events, CONTROL_WARNING, "heartbeat.stalled",
                        "this process did not run for %lld ms", (long long)(stalled_for / MSEC(1)));
}

static void on_peer_changed(void *owner, const struct heartbeat_peer *peer)
{
    struct node *node = ((const struct node_ear *)owner)->node;
    if (peer->role != PACKET_ROLE_PRIMARY && peer->role != PACKET_ROLE_SOLO)
        return;
    pthread_mutex_lock(&node->lock);
    if (peer->term > node->owner)
        node->owner = peer->term;
    if (node->primary)
        primary_superseded(node->primary, peer->term);
    if (node->secondary)
        secondary_superseded(node->secondary, peer->term);
    pthread_mutex_unlock(&node->lock);
}

const struct heartbeat_ops node_heartbeat_ops = {
    .suspect = on_suspect,
    .alive = on_alive,
    .peer_stopping = on_peer_stopping,
    .stalled = on_stalled,
    .peer_changed = on_peer_changed,
};

/* ---- the role ---- */

void node_stop_role(struct node *node, const char *why)
{
    pthread_mutex_lock(&node->lock);
    const bool first = !node->stopping;
    node->stopping = true;
    if (first)
        node->stop_why = why;
    if (first && node->primary)
        primary_stop(node->primary, why);
    if (first && node->secondary)
        secondary_stop(node->secondary, why);
    pthread_mutex_unlock(&node->lock);
}

/* What a role led to: 0, negative, or one of these. */
enum { GO_ON_AS_HANDED = 1, GO_ON_AS_REFUSED, GO_ON_AS_PRIMARY };

static int run_primary(struct node *node, struct error *err)
{
    struct primary_status status;
    switch (primary_run(node->primary)) {
    case PRIMARY_END_FAILED:
        return error_set(err, -EIO, "the guest can't go on: see the log");
    case PRIMARY_END_REFUSED:
        if (node->config->role == CONFIG_ROLE_AUTO)
            return GO_ON_AS_REFUSED;
        primary_snapshot(node->primary, &status);
        return error_set(err, -EPERM,
                         "another host owns the guest (%.200s): start this one with role = "
                         "secondary",
                         status.claim.answered ? status.claim.text : "its heartbeat says so");
    case PRIMARY_END_HANDED:
        return GO_ON_AS_HANDED;
    case PRIMARY_END_STOPPED:
        break;
    }
    return 0;
}

static void log_takeover(struct node *node, const struct secondary_takeover *t)
{
    struct control_event event;
    control_event_init(&event, t->link ? CONTROL_INFO : CONTROL_WARNING,
                       t->link ? "switchover.taken" : "failover.done",
                       "this host runs the guest since epoch %llu, term %llu: %s",
                       (unsigned long long)t->epoch, (unsigned long long)t->term, t->cause);
    const struct {
        const char *key;
        nsec_t at;
    } steps[] = {{"granted_ns", t->granted}, {"dropped_ns", t->dropped},
                 {"applied_ns", t->applied}, {"loaded_ns", t->loaded},
                 {"network_ns", t->network}, {"running_ns", node->running_at}};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        control_event_add(&event, steps[i].key, "%lld", (long long)(steps[i].at - t->suspected));
    control_events_append(node->events, &event);
    log_info("app", "%s (suspicion to running: %lld us)", event.text,
             (long long)((node->running_at - t->suspected) / USEC(1)));
}

/* The machine holds the guest: from here on this node is its primary, alone or, after a switchover,
 * with the old primary as its standby. */
static int become_primary(struct node *node, const struct secondary_takeover *takeover,
                          struct error *err)
{
    struct primary_config config = node_primary_config(node);
    config.solo = !takeover->link;
    config.heritage = (struct primary_heritage){
        .link = takeover->link,
        .host = takeover->host,
        .staging_cap = takeover->staging_cap,
        .capabilities = takeover->capabilities,
        .engine = {.offered_term = takeover->offered_term, .stood_since = takeover->stood_since}};
    config.life = takeover->life;
    config.engine.first_epoch = takeover->epoch + 1;
    struct standby_stats standby;
    secondary_standby_stats(node->secondary, &standby);
    if (standby.has_policy)
        config.engine.policy = standby.policy;
    struct primary *primary = NULL;
    const int rc = primary_create(&config, &primary, err);
    if (rc < 0)
        return rc;
    const nsec_t running_at = clock_now(); /* before the guest can say anything */
    if (config.solo)
        engine_start_guest(primary_engine(primary));
    pthread_mutex_lock(&node->lock);
    struct secondary *secondary = node->secondary;
    node->secondary = NULL;
    node->primary = primary;
    node->took_over = true;
    node->takeover = *takeover;
    node->takeover.link = NULL;
    node->running_at = running_at;
    const bool stop = node->stopping;
    const bool off = node->guest_off;
    const bool failed = node->guest_failed;
    primary_superseded(primary, node->owner); /* heard since the grant */
    pthread_mutex_unlock(&node->lock);
    if (config.solo) {
        node->announcements = 0;
        event_active(node->announcer, EV_TIMEOUT, 1);
        node_switchover_failed(node, "the primary failed meanwhile, and this host took over");
    }
    log_takeover(node, takeover);
    secondary_destroy(&secondary);
    if (off) {
        const char *end = failed ? "the guest had failed before this host took over"
                                 : "the guest had switched itself off before this host took over";
        log_info("app", "%s", end);
        primary_guest_ended(primary, failed, end);
    }
    if (stop)
        primary_stop(primary, node->stop_why);
    return GO_ON_AS_PRIMARY;
}

static int run_secondary(struct node *node, struct error *err)
{
    struct secondary_takeover takeover = {0};
    switch (secondary_run(node->secondary, &takeover, err)) {
    case SECONDARY_END_PROMOTED:
        return become_primary(node, &takeover, err);
    case SECONDARY_END_STOPPED:
        return 0;
    default:
        return err->code;
    }
}

void *node_role_main(void *context)
{
    struct node *node = context;
    prompt_thread("role");
    struct error err = {0};
    int rc;
    do {
        rc = node->primary ? run_primary(node, &err) : run_secondary(node, &err);
        if ((rc == GO_ON_AS_HANDED && node_follow_heir(node, &err) < 0) ||
            (rc == GO_ON_AS_REFUSED && node_follow_owner(node, &err) < 0))
            rc = err.code;
    } while (rc > 0);
    pthread_mutex_lock(&node->lock);
    node->result = rc;
    node->failure = err;
    pthread_mutex_unlock(&node->lock);
    event_active(node->role_ended, EV_TIMEOUT, 1);
    return NULL;
}
