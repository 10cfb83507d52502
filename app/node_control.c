/* What the operator sees and may ask for. Main thread, but for node_describe(). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/node_snapshots.h"
#include "base/clock.h"
#include "base/log.h"

/* ---- the rates ---- */

/* At most one event per sample, however many strangers knock. */
static void note_refusals(struct node *node)
{
    enum session_reason reason;
    struct error refusal;
    const uint64_t refused = node->door ? door_last_refusal(node->door, &reason, &refusal) : 0;
    if (refused == node->sample.refused)
        return;
    node->sample.refused = refused;
    control_events_note(node->events, CONTROL_WARNING, "peer.refused",
                        "a connection was turned away (%llu in all): %.200s",
                        (unsigned long long)refused, refusal.text);
}

void node_sample(struct node *node)
{
    struct snapshots *s = snapshots_take(node);
    const nsec_t now = clock_now();
    const uint64_t epochs = s->is_primary ? s->engine.epochs_committed : s->standby.epochs;
    const uint64_t dirty = s->is_primary ? s->engine.dirty_total : s->standby.pages;
    const uint64_t sync = s->is_primary ? s->engine.sync_done_pages : s->standby.sync_pages;
    struct sample *last = &node->sample;
    const double seconds = (double)(now - last->at) / 1e9;
    pthread_mutex_lock(&node->lock);
    if (last->at && seconds > 0)
        node->rates = (struct node_rates){
            .epochs = epochs >= last->epochs ? (double)(epochs - last->epochs) / seconds : 0,
            .dirty = dirty >= last->dirty ? (double)(dirty - last->dirty) / seconds : 0,
            .sync = sync >= last->sync_pages ? (double)(sync - last->sync_pages) / seconds : 0,
        };
    pthread_mutex_unlock(&node->lock);
    note_refusals(node);
    last->at = now;
    last->epochs = epochs;
    last->dirty = dirty;
    last->sync_pages = sync;
    snapshots_free(&s);
}

void node_keep_socket(struct node *node)
{
    struct error err = {0};
    const int rc = control_server_renew(node->server, &err);
    if (rc > 0)
        control_events_note(node->events, CONTROL_WARNING, "control.renewed",
                            "the control socket was gone and is made anew");
    if (rc < 0 && !node->unreachable) {
        log_warning("app", "the control socket is gone: %s", err.text);
        control_events_note(node->events, CONTROL_ERROR, "control.gone", "%.200s", err.text);
    }
    node->unreachable = rc < 0;
}

/* ---- status ---- */

static void fill_primary_state(const struct snapshots *s, struct control_status *out)
{
    static const enum control_state states[] = {
        [PRIMARY_WAITING] = CONTROL_STATE_CONNECTING,
        [PRIMARY_SYNCHRONISING] = CONTROL_STATE_SYNCHRONISING,
        [PRIMARY_PROTECTED] = CONTROL_STATE_REPLICATING,
        [PRIMARY_ASKING] = CONTROL_STATE_HOLDING,
        [PRIMARY_OUTRUN] = CONTROL_STATE_HOLDING,
        [PRIMARY_SOLO] = CONTROL_STATE_ALONE,
        [PRIMARY_FENCED] = CONTROL_STATE_STOPPED,
        [PRIMARY_PREPARING] = CONTROL_STATE_REPLICATING,
        [PRIMARY_HANDING] = CONTROL_STATE_HOLDING,
        [PRIMARY_HANDED] = CONTROL_STATE_HOLDING,
        [PRIMARY_RELEASING] = CONTROL_STATE_REPLICATING,
        [PRIMARY_LEAVING] = CONTROL_STATE_REPLICATING,
    };
    const struct primary_status *p = &s->primary;
    out->role = p->state == PRIMARY_SOLO ? CONTROL_ROLE_SOLO : CONTROL_ROLE_PRIMARY;
    out->state = states[p->state];
    out->term = p->term;
    snprintf(out->peer.address, sizeof(out->peer.address), "%.*s", CONTROL_NAME_MAX - 1, p->peer);
    out->peer.connected = p->peer[0] != '\0';
    /* Protected is what the engine says, at this moment: a commit without a link is history. */
    const bool paired = p->state == PRIMARY_PROTECTED || p->state == PRIMARY_PREPARING ||
                        p->state == PRIMARY_HANDING;
    out->protected = paired && s->engine.state == ENGINE_REPLICATING;
    out->unprotected_by_order = p->released;
    switch (p->state) {
    case PRIMARY_WAITING:
        snprintf(out->reason, sizeof(out->reason), "%s",
                 p->beginning ? "the guest has not begun: the arbiter must first say that no other "
                                "host owns it"
                 : p->bound == ROSTER_UNKNOWN
                     ? "it is not recorded which host was the secondary in this term: none is let "
                       "in before the arbiter has granted the next one; output is held"
                     : "no secondary has connected yet; output is held");
        break;
    case PRIMARY_SYNCHRONISING:
        snprintf(out->reason, sizeof(out->reason), "memory is being copied to the secondary");
        break;
    case PRIMARY_HANDING:
    case PRIMARY_HANDED:
        snprintf(out->reason, sizeof(out->reason),
                 "the guest stands still: it is being handed over to the secondary");
        break;
    case PRIMARY_PROTECTED:
    case PRIMARY_PREPARING:
        if (!out->protected)
            snprintf(out->reason, sizeof(out->reason), "the secondary is catching up (%s)",
                     engine_state_name(s->engine.state));
        break;
    case PRIMARY_ASKING:
        snprintf(out->reason, sizeof(out->reason),
                 "output is held until the secondary is back or the arbiter answers: %.180s",
                 p->why);
        break;
    case PRIMARY_OUTRUN:
        snprintf(out->reason, sizeof(out->reason),
                 "another host was granted the guest, which is parked here until that host is "
                 "heard or hands the term back: %.120s",
                 p->why);
        break;
    case PRIMARY_SOLO:
        snprintf(out->reason, sizeof(out->reason), "%s",
                 p->released ? "by order of the operator, until \"kemarictl protect\""
                             : "running alone, without a secondary");
        break;
    case PRIMARY_RELEASING:
    case PRIMARY_LEAVING:
        /* The secondary may be refused the guest from now on. */
        snprintf(out->reason, sizeof(out->reason),
                 "protection is being ended by order of the operator");
        break;
    default:
        snprintf(out->reason, sizeof(out->reason),
                 "this host lost the guest, which is stopped for good: %.180s", p->why);
        break;
    }
}

static void fill_secondary_state(const struct snapshots *s, struct control_status *out)
{
    static const enum control_state states[] = {
        [SECONDARY_CONNECTING] = CONTROL_STATE_CONNECTING,
        [SECONDARY_SYNCHRONISING] = CONTROL_STATE_SYNCHRONISING,
        [SECONDARY_READY] = CONTROL_STATE_REPLICATING,
        [SECONDARY_ORPHANED] = CONTROL_STATE_HOLDING,
        [SECONDARY_ASKING] = CONTROL_STATE_HOLDING,
        [SECONDARY_PROMOTING] = CONTROL_STATE_PROMOTING,
    };
    const struct secondary_status *p = &s->secondary;
    out->role = CONTROL_ROLE_SECONDARY;
    out->state = states[p->state];
    out->term = p->term;
    snprintf(out->peer.address, sizeof(out->peer.address), "%.*s", CONTROL_NAME_MAX - 1, p->peer);
    out->peer.connected = s->standby.following;
    out->protected = p->state == SECONDARY_READY && s->standby.promotable && s->standby.following;
    if (out->protected)
        return;
    switch (p->state) {
    case SECONDARY_CONNECTING:
        snprintf(out->reason, sizeof(out->reason), "not connected to the primary%s%.200s",
                 p->trouble[0] ? ": " : "", p->trouble);
        break;
    case SECONDARY_SYNCHRONISING:
        snprintf(out->reason, sizeof(out->reason), "memory is being copied from the primary");
        break;
    case SECONDARY_ASKING:
        snprintf(out->reason, sizeof(out->reason), "taking over needs the arbiter's grant: %.200s",
                 p->why);
        break;
    default:
        snprintf(out->reason, sizeof(out->reason), "%s: %.200s", secondary_state_name(p->state),
                 p->why);
        break;
    }
}

static void fill_encodings(const struct engine_stats *e, struct control_replication *out)
{
    snprintf(out->encoding, sizeof(out->encoding), "%s", page_encoder_mode_name(e->encoding));
    out->dirty_bytes = e->dirty_total * PAGE_SIZE;
    out->checkpoint_bytes = e->epoch_bytes;
    for (int kind = PAGE_ENCODING_RAW; kind < PAGE_ENCODING_COUNT; kind++) {
        const struct page_encoder_method *from = &e->encodings.methods[kind];
        struct control_encoding *to = &out->encodings[out->encoding_count++];
        snprintf(to->name, sizeof(to->name), "%s", page_encoding_name((enum page_encoding)kind));
        to->pages = from->pages;
        to->page_bytes = from->pages * PAGE_SIZE;
        to->sent_bytes = from->bytes;
        to->encode_ns = (uint64_t)from->time;
    }
}

static void fill_replication(const struct node *node, const struct snapshots *s,
                             struct control_status *out)
{
    struct control_replication *r = &out->replication;
    const struct policy configured = node_policy_of(node->config);
    const struct policy *policy = s->is_primary           ? &s->engine.policy
                                  : s->standby.has_policy ? &s->standby.policy
                                                          : &configured;
    snprintf(r->policy, sizeof(r->policy), "%s", policy_kind_name(policy->kind));
    r->staging_cap_bytes =
        policy->staging_cap < configured.staging_cap ? policy->staging_cap : configured.staging_cap;
    r->epochs_per_second = s->rates.epochs;
    r->dirty_pages_per_second = s->rates.dirty;
    r->staging_bytes =
        (slab_chunk_count(node->slab) - slab_free_count(node->slab)) * SLAB_CHUNK_SIZE;
    r->window = policy->window;
    if (s->is_secondary) {
        r->epoch_committed = s->standby.committed;
        r->epochs_committed = s->standby.epochs;
        return;
    }
    const struct engine_stats *e = &s->engine;
    r->epoch_committed = e->committed;
    r->epoch_in_flight = e->in_flight ? e->next_epoch - 1 : 0;
    r->in_flight = e->in_flight;
    r->epochs_committed = e->epochs_committed;
    r->epochs_aborted = e->epochs_aborted;
    control_distribution_from(&r->pause, &e->pause);
    control_distribution_from(&r->commit, &e->commit);
    control_distribution_from(&r->hold, &s->outbox.hold);
    r->dirty_pages_last = e->dirty_last;
    r->pages_sent = e->pages_sent;
    r->zero_pages = e->zero_pages;
    r->bytes_sent = e->bytes_sent;
    r->throttle_percent = e->throttle_percent;
    r->throttled_ns = (uint64_t)e->throttled;
    r->overflows = e->overflows;
    r->oversize = e->oversize;
    if (out->peer.connected && e->committed_cut && e->state == ENGINE_REPLICATING)
        r->lag_ns = (uint64_t)(clock_now() - e->committed_cut);
    fill_encodings(e, r);
    out->outbox = (struct control_outbox){.bytes = s->outbox.held_bytes,
                                          .frames = s->outbox.held_items,
                                          .cap_bytes = node->config->outbox_cap};
}

static void fill_synchronisation(const struct node *node, const struct snapshots *s,
                                 struct control_status *out)
{
    struct control_synchronisation *sync = &out->synchronisation;
    sync->active = out->state == CONTROL_STATE_SYNCHRONISING;
    const uint64_t done = s->is_primary ? s->engine.sync_done_pages : s->standby.sync_pages;
    const uint64_t total =
        s->is_primary ? s->engine.sync_total_pages : node->config->memory >> PAGE_SHIFT;
    sync->bytes_done = done << PAGE_SHIFT;
    sync->bytes_total = total << PAGE_SHIFT;
    if (!sync->active)
        return;
    sync->bytes_per_second = s->rates.sync * (double)PAGE_SIZE;
    if (sync->bytes_per_second > 0 && total > done)
        sync->eta_ns = (uint64_t)((double)(sync->bytes_total - sync->bytes_done) /
                                  sync->bytes_per_second * 1e9);
}

static void fill_paths(const struct heartbeat_status *heartbeat, struct control_heartbeat *h)
{
    const nsec_t now = clock_now();
    for (unsigned i = 0; i < heartbeat->path_count && h->path_count < CONTROL_PATHS_MAX; i++) {
        const struct heartbeat_path_status *from = &heartbeat->paths[i];
        struct control_heartbeat_path *to = &h->paths[h->path_count++];
        snprintf(to->local, sizeof(to->local), "%.*s", CONTROL_NAME_MAX - 1, from->bind);
        snprintf(to->remote, sizeof(to->remote), "%.*s", CONTROL_NAME_MAX - 1, from->peer);
        to->state = from->heard             ? CONTROL_PATH_UP
                    : from->last_heard == 0 ? CONTROL_PATH_UNKNOWN
                                            : CONTROL_PATH_DOWN;
        to->last_seen_ns = from->last_heard ? (uint64_t)(now - from->last_heard) : 0;
        to->received = from->received;
        to->lost = from->lost;
        /* Not the unproven ones: the first beats of a peer that starts are, always. */
        to->rejected = from->replayed + from->bad_mac + from->bad_other;
    }
}

/* The number in the list of the host that this one is, or was last, paired with. */
static unsigned partner_of(const struct snapshots *s)
{
    return s->is_primary ? s->primary.host : s->secondary.host;
}

static void fill_heartbeat(const struct node *node, const struct snapshots *s,
                           struct control_status *out)
{
    struct control_heartbeat *h = &out->heartbeat;
    if (!node->peers.count)
        return;
    h->peer_alive = s->heartbeats[partner_of(s)].state == DETECTOR_ALIVE;
    h->interval_ns = (uint64_t)node->config->heartbeat_interval;
    h->multiplier = node->config->heartbeat_multiplier;
    for (unsigned i = 0; i < node->peers.count; i++)
        fill_paths(&s->heartbeats[i], h);
    if (!s->heartbeats[0].realtime && node->config->realtime)
        control_status_warn(out, "the heartbeat runs without real-time priority: a busy host may "
                                 "delay it (CAP_SYS_NICE is needed)");
}

static void fill_arbiter(struct node *node, const struct snapshots *s, struct control_status *out)
{
    struct control_arbiter *a = &out->arbiter;
    snprintf(a->kind, sizeof(a->kind), "%s", arbiter_kind_name(node->arbiter));
    const struct claim_status *claim = s->is_primary ? &s->primary.claim : &s->secondary.claim;
    char unreachable[ERROR_TEXT_MAX];
    if (s->asking) {
        a->state = CONTROL_ARBITER_ASKING;
        a->asked_term = s->asked.next;
        snprintf(a->detail, sizeof(a->detail), "%s: %.*s", arbiter_purpose_name(s->asked.purpose),
                 ARBITER_TEXT_MAX, s->asked.why);
        return;
    }
    if (!arbiter_reachable(node->arbiter, unreachable)) {
        a->state = CONTROL_ARBITER_UNREACHABLE;
        snprintf(a->detail, sizeof(a->detail), "%.*s", CONTROL_TEXT_MAX - 1, unreachable);
        control_status_warn(out, "the arbiter can't be reached: a failure now would not fail over");
        return;
    }
    if (!claim->answered)
        return;
    a->state = claim->result == ARBITER_GRANTED   ? CONTROL_ARBITER_GRANTED
               : claim->result == ARBITER_REFUSED ? CONTROL_ARBITER_DENIED
                                                  : CONTROL_ARBITER_UNREACHABLE;
    snprintf(a->detail, sizeof(a->detail), "%.*s", CONTROL_TEXT_MAX - 1, claim->text);
}

static void fill_peer(const struct node *node, const struct snapshots *s,
                      struct control_status *out)
{
    const struct link_security *security =
        s->is_primary ? &s->primary.security : &s->secondary.security;
    struct control_peer *peer = &out->peer;
    const struct config_address *address = &node->config->peer;
    snprintf(peer->transport, sizeof(peer->transport), "%s",
             address->scheme ? address->scheme : "");
    peer->encrypted = peer->connected ? security->encrypted : address->encrypted;
    snprintf(peer->cipher, sizeof(peer->cipher), "%s", security->cipher);
    peer->kernel_tls = security->kernel;
    peer->streams = s->is_primary ? s->primary.streams : s->secondary.streams;
    if (!node->door)
        return;
    enum session_reason reason;
    struct error refusal;
    peer->refused = door_last_refusal(node->door, &reason, &refusal);
    snprintf(peer->refusal, sizeof(peer->refusal), "%.*s", CONTROL_TEXT_MAX - 1, refusal.text);
}

static const char *part_of(const struct snapshots *s, unsigned host, bool connected)
{
    const bool partner = connected && host == partner_of(s);
    if (!s->is_primary)
        return partner ? "primary" : "other";
    return partner ? "standby" : s->primary.bound == (int)host ? "awaited" : "waits";
}

static void fill_hosts(const struct node *node, const struct snapshots *s,
                       struct control_status *out)
{
    out->host_count = node->peers.count > 1 ? node->peers.count : 0;
    for (unsigned i = 0; i < out->host_count; i++) {
        struct control_host *host = &out->hosts[i];
        snprintf(host->address, sizeof(host->address), "%.*s", CONTROL_NAME_MAX - 1,
                 node->hosts[i]);
        snprintf(host->part, sizeof(host->part), "%s", part_of(s, i, out->peer.connected));
        host->alive = s->heartbeats[i].state == DETECTOR_ALIVE;
    }
}

static void fill_image(struct node *node, unsigned index, struct control_disk *to,
                       struct control_status *out)
{
    struct disk_keeper *keeper = disk_store_keeper(node->disks);
    struct disk_keeper_status from;
    if (!keeper || !disk_keeper_snapshot(keeper, index, &from))
        return;
    const struct sync_progress *p = &from.progress;
    snprintf(to->state, sizeof(to->state), "%s",
             from.map.known ? image_state_name(from.map.lineage.state) : "new");
    to->marked_bytes = from.map.marked << BLOCK_SHIFT;
    if (from.map.known && !(from.map.trusted && !from.map.failed))
        snprintf(to->trouble, sizeof(to->trouble), "%.*s", CONTROL_TEXT_MAX - 1, from.map.trouble);
    to->sync_active = p->active;
    snprintf(to->sync_why, sizeof(to->sync_why), "%s", p->why);
    to->sync_done_bytes = p->bytes_done;
    to->sync_total_bytes = p->bytes_total;
    to->sync_differed_bytes = p->bytes_differed;
    to->sync_sent_bytes = p->bytes_sent;
    const nsec_t spent = clock_now() - p->started;
    if (p->active && p->bytes_done && spent > 0) {
        to->sync_bytes_per_second = (double)p->bytes_done * 1e9 / (double)spent;
        if (p->bytes_total > p->bytes_done)
            to->sync_eta_ns = (uint64_t)((double)(p->bytes_total - p->bytes_done) /
                                         to->sync_bytes_per_second * 1e9);
    }
    if (to->trouble[0])
        control_status_warn(out, "disk %u: %s: all of it will be compared when hosts meet", index,
                            to->trouble);
    if (from.map.known && from.map.lineage.state == IMAGE_OUTDATED)
        control_status_warn(out, "disk %u: the image %s is outdated and can't be promoted", index,
                            to->path);
}

/* config_check.c lets such a configuration pass only when it was asked for. */
static void warn_of_fencing(const struct node *node, unsigned index, struct control_status *out)
{
    const struct config *c = node->config;
    if (c->listen.text && c->disks[index].shared && c->arbiter != CONFIG_ARBITER_COMMAND &&
        c->arbiter != CONFIG_ARBITER_MANUAL)
        control_status_warn(out,
                            "disk %u is shared and nobody fences the other host: a write it left "
                            "behind may damage the disk after a failover",
                            index);
}

static void fill_disks(struct node *node, struct control_status *out)
{
    struct disk_store_stats stats;
    disk_store_snapshot(node->disks, &stats);
    out->disk_count = disk_store_count(node->disks);
    for (unsigned i = 0; i < out->disk_count; i++) {
        struct disk_volume *volume = disk_store_volume(node->disks, i);
        const struct disk_image *image = disk_volume_image(volume);
        struct disk_volume_stats from;
        disk_volume_snapshot(volume, &from);
        struct control_disk *to = &out->disks[i];
        to->index = i;
        snprintf(to->path, sizeof(to->path), "%s", node->config->disks[i].path);
        snprintf(to->mode, sizeof(to->mode), "%s", disk_volume_mode_name(volume));
        snprintf(to->engine, sizeof(to->engine), "%s", disk_image_engine_name(image));
        to->size_bytes = disk_image_size(image);
        fill_image(node, i, to, out);
        warn_of_fencing(node, i, out);
        to->read_only = disk_image_is_read_only(image);
        to->held = disk_store_held(node->disks, i);
        to->writing = disk_store_writing(node->disks, i);
        to->reads = from.reads;
        to->writes = from.writes;
        to->read_errors = from.read_errors;
        to->write_errors = from.write_errors;
        snprintf(to->last_error, sizeof(to->last_error), "%.*s", CONTROL_NAME_MAX - 1,
                 from.last_error);
    }
    if (stats.buffered.failing)
        control_status_warn(out,
                            "a shared disk can't take what the guest was told is done: see the "
                            "event disk.behind; it is tried again");
    out->disk_log =
        (struct control_disk_log){.active = stats.log.on || stats.buffered.on,
                                  .bytes = stats.log.used_bytes + stats.buffered.pending_bytes,
                                  .cap_bytes = DISK_LOG_CAP,
                                  .waiting = stats.waiting};
    out->disk_replica = (struct control_disk_replica){
        .failed = stats.replica.failed,
        .pending_bytes = stats.replica.staged_bytes + stats.replica.pending_bytes +
                         stats.retained.staged_bytes + stats.retained.retained_bytes,
        .applied_bytes = stats.replica.bytes};
    snprintf(out->disk_replica.why, sizeof(out->disk_replica.why), "%s", stats.replica.why);
}

/* 0 says that the step was not reached. */
static uint64_t since(nsec_t start, nsec_t at)
{
    return !at ? 0 : at > start ? (uint64_t)(at - start) : 1;
}

static void fill_takeover(const struct snapshots *s, struct control_status *out)
{
    if (!s->took_over)
        return;
    const struct secondary_takeover *t = &s->takeover;
    const nsec_t start = t->last_sign;
    struct control_takeover *to = &out->takeover;
    to->happened = true;
    to->term = t->term;
    to->epoch = t->epoch;
    snprintf(to->cause, sizeof(to->cause), "%.*s", CONTROL_TEXT_MAX - 1, t->cause);
    to->suspect_ns = since(start, t->suspected);
    to->grant_ns = since(start, t->granted);
    to->drop_ns = since(start, t->dropped);
    to->apply_ns = since(start, t->applied);
    to->load_ns = since(start, t->loaded);
    to->network_ns = since(start, t->network);
    to->run_ns = since(start, s->running_at);
    to->first_output_ns = since(start, s->outbox.first_emit_after_open);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    to->suspect_wall_ns = SEC(wall.tv_sec) + wall.tv_nsec - (clock_now() - t->suspected);
}

void node_describe(struct node *node, const struct snapshots *s, struct control_status *out)
{
    snprintf(out->vm, sizeof(out->vm), "%s", node->config->name);
    snprintf(out->daemon_version, sizeof(out->daemon_version), "%s", KEMARI_VERSION);
    out->pid = (uint32_t)getpid();
    out->uptime_ns = (uint64_t)(clock_now() - node->started);
    if (s->is_primary)
        fill_primary_state(s, out);
    else if (s->is_secondary)
        fill_secondary_state(s, out);
    fill_peer(node, s, out);
    fill_hosts(node, s, out);
    if (!out->peer.address[0] && node->config->peer.text)
        snprintf(out->peer.address, sizeof(out->peer.address), "%.*s", CONTROL_NAME_MAX - 1,
                 node->config->peer.text);
    out->guest = (struct control_guest){
        .state = !s->is_primary                     ? CONTROL_GUEST_NONE
                 : s->primary.beginning             ? CONTROL_GUEST_PARKED
                 : s->guest_off                     ? CONTROL_GUEST_OFF
                 : s->engine.parked                 ? CONTROL_GUEST_PARKED
                 : s->engine.state == ENGINE_FENCED ? CONTROL_GUEST_PARKED
                                                    : CONTROL_GUEST_RUNNING,
        .vcpus = node->config->vcpus,
        .memory_bytes = node->config->memory,
        .console_free = node->config->serial == CONFIG_SERIAL_FREE,
        .panics = s->panics,
    };
    fill_replication(node, s, out);
    fill_synchronisation(node, s, out);
    fill_heartbeat(node, s, out);
    fill_arbiter(node, s, out);
    fill_takeover(s, out);
    fill_disks(node, out);
    if (s->outbox.dropped_items)
        control_status_warn(out, "%llu pieces of output were dropped beyond outbox-cap",
                            (unsigned long long)s->outbox.dropped_items);
    const uint64_t dropped = outlet_dropped_frames(node_outlet(node));
    if (dropped)
        control_status_warn(out, "%llu frames were refused by the tap interface",
                            (unsigned long long)dropped);
}

static void on_status(void *context, struct control_status *out)
{
    struct snapshots *s = snapshots_take(context);
    node_describe(context, s, out);
    snapshots_free(&s);
}

/* ---- orders ---- */

static void on_failover(void *context, control_token_t token)
{
    struct node *node = context;
    struct error err = {0};
    int rc = -EPERM;
    pthread_mutex_lock(&node->lock);
    if (node->secondary)
        rc = secondary_failover(node->secondary, &err);
    else
        error_set(&err, rc, "this host runs the guest: order the failover on the secondary's host");
    pthread_mutex_unlock(&node->lock);
    control_server_complete(node->server, token, rc,
                            rc == 0 ? "asking the arbiter to run the guest here" : err.text);
}

static void on_stop(void *context, control_token_t token)
{
    struct node *node = context;
    pthread_mutex_lock(&node->lock);
    const bool first = !node->stop_token;
    if (first)
        node->stop_token = token;
    pthread_mutex_unlock(&node->lock);
    if (!first)
        control_server_complete(node->server, token, -EALREADY, "the daemon is stopping already");
    node_stop_role(node, "stopped by the operator");
}

static void answer(struct node *node, control_token_t token, term_t term, bool granted)
{
    struct error err = {0};
    struct arbiter_pending pending;
    int rc;
    if (!arbiter_pending(node->arbiter, &pending))
        rc = error_set(&err, -ENOENT, "nothing is asked of the arbiter now");
    else if (term && term != pending.next)
        rc = error_set(&err, -ESTALE, "the open question is about term %llu, not %llu",
                       (unsigned long long)pending.next, (unsigned long long)term);
    else
        rc = arbiter_answer(node->arbiter, pending.number, granted, &err);
    control_server_complete(node->server, token, rc,
                            rc < 0    ? err.text
                            : granted ? "granted"
                                      : "denied");
}

static void on_grant(void *context, control_token_t token, term_t term)
{
    answer(context, token, term, true);
}

static void on_deny(void *context, control_token_t token, term_t term)
{
    answer(context, token, term, false);
}

const struct control_ops node_control_ops = {
    .status = on_status,
    .failover = on_failover,
    .switchover = node_switchover,
    .unprotect = node_unprotect,
    .protect = node_protect,
    .stop = on_stop,
    .grant = on_grant,
    .deny = on_deny,
    .dump = node_dump,
    .freeze = node_freeze,
    .checkpoint = node_checkpoint,
    .console = node_console,
    .policy = node_policy_get,
    .set_policy = node_policy_set,
};
