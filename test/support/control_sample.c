#include "test/support/control_sample.h"

#include <stdio.h>
#include <string.h>

#define TEXT(member, value) snprintf(member, sizeof(member), "%s", value)

/* 2024-05-06 07:08:09.123456789 UTC */
#define WALL (SEC(1714979289) + 123456789)

static void fill_replication(struct control_replication *r)
{
    TEXT(r->policy, "pipelined");
    r->epoch_committed = 123456;
    r->epoch_in_flight = 123457;
    r->in_flight = 1;
    r->window = 2;
    r->epochs_committed = 120000;
    r->epochs_aborted = 3;
    r->epochs_per_second = 812.5;
    r->pause = (struct control_distribution){120003, 141000, 320400, 1250000};
    r->hold = (struct control_distribution){99999, 391000, 870000, 12500000};
    r->commit = (struct control_distribution){120000, 301000, 800000, 9990000};
    r->dirty_pages_last = 210;
    r->lag_ns = 2100000;
    r->dirty_pages_per_second = 170625.25;
    r->pages_sent = 25000000;
    r->zero_pages = 12345;
    r->bytes_sent = UINT64_C(102410000000);
    r->staging_bytes = 860160;
    r->staging_cap_bytes = 256 << 20;
    TEXT(r->encoding, "auto");
    r->dirty_bytes = UINT64_C(102400000000);
    r->checkpoint_bytes = UINT64_C(10240000000);
    r->encoding_count = 2;
    r->encodings[0] = (struct control_encoding){"raw", 2000000, 8192000000, 8208000000, 80000000};
    r->encodings[1] =
        (struct control_encoding){"delta", 23000000, 94208000000, 2032000000, 23000000000};
}

static void fill_heartbeat(struct control_heartbeat *h)
{
    h->peer_alive = true;
    h->interval_ns = (uint64_t)MSEC(10);
    h->multiplier = 3;
    h->path_count = 2;
    TEXT(h->paths[0].local, "10.0.0.1:7001");
    TEXT(h->paths[0].remote, "10.0.0.2:7001");
    h->paths[0].state = CONTROL_PATH_UP;
    h->paths[0].last_seen_ns = 3400000;
    h->paths[0].received = 1234567;
    h->paths[0].lost = 2;
    TEXT(h->paths[1].local, "[fd00::1]:7001");
    TEXT(h->paths[1].remote, "[fd00::2]:7001");
    h->paths[1].state = CONTROL_PATH_UP;
    h->paths[1].last_seen_ns = 9900000;
    h->paths[1].received = 7;
}

static void fill_takeover(struct control_takeover *t)
{
    t->happened = true;
    t->term = 3;
    t->epoch = 4711;
    TEXT(t->cause, "connection reset");
    t->suspect_ns = 310000;
    t->grant_ns = 420000;
    t->drop_ns = 430000;
    t->apply_ns = 2100000;
    t->load_ns = 3300000;
    t->network_ns = 3900000;
    t->run_ns = 4100000;
    t->first_output_ns = 6250000;
    t->suspect_wall_ns = WALL;
}

static void fill_disks(struct control_status *s)
{
    s->disk_count = 2;
    s->disks[0] = (struct control_disk){
        .size_bytes = UINT64_C(10) << 30, .reads = 1200, .writes = 3400, .write_errors = 2};
    TEXT(s->disks[0].path, "/srv/web.raw");
    TEXT(s->disks[0].mode, "replicated");
    TEXT(s->disks[0].engine, "io_uring");
    TEXT(s->disks[0].last_error, "flushing failed: Input/output error");
    TEXT(s->disks[0].state, "owner");
    s->disks[0].marked_bytes = 4 << 20;
    s->disks[0].sync_done_bytes = s->disks[0].sync_total_bytes = 12 << 20;
    s->disks[0].sync_differed_bytes = 10 << 20;
    s->disks[0].sync_sent_bytes = 11 << 20;
    s->disks[1] = s->disks[0];
    s->disks[1].index = 1;
    s->disks[1].write_errors = 0;
    s->disks[1].last_error[0] = '\0';
    s->disks[1].sync_active = true;
    s->disks[1].sync_done_bytes = 3 << 20;
    s->disks[1].sync_bytes_per_second = 0x1p20;
    s->disks[1].sync_eta_ns = (uint64_t)SEC(9);
    s->disk_log = (struct control_disk_log){
        .active = true, .bytes = 3 << 20, .cap_bytes = 32 << 20, .waiting = 1};
}

void control_sample_protected(struct control_status *s)
{
    memset(s, 0, sizeof(*s));
    TEXT(s->vm, "web");
    TEXT(s->daemon_version, "0.1.0");
    s->pid = 4242;
    s->uptime_ns = (uint64_t)SEC(7985);
    s->role = CONTROL_ROLE_PRIMARY;
    s->state = CONTROL_STATE_REPLICATING;
    s->protected = true;
    s->term = 3;
    TEXT(s->peer.address, "tls://10.0.0.2:7000");
    s->host_count = 2;
    TEXT(s->hosts[0].address, "tls://10.0.0.2:7000");
    TEXT(s->hosts[0].part, "standby");
    s->hosts[0].alive = true;
    TEXT(s->hosts[1].address, "tls://10.0.0.3:7000");
    TEXT(s->hosts[1].part, "waits");
    TEXT(s->peer.transport, "tls");
    s->peer.connected = true;
    s->peer.encrypted = true;
    TEXT(s->peer.cipher, "TLS_AES_128_GCM_SHA256");
    s->peer.kernel_tls = true;
    s->peer.refused = 2;
    s->peer.streams = 4;
    TEXT(s->peer.refusal, "the peer does not hold this pair's secret");
    s->guest = (struct control_guest){CONTROL_GUEST_RUNNING, 2, 512 << 20, false, 3};
    fill_replication(&s->replication);
    s->outbox = (struct control_outbox){300, 2, 64 << 20};
    fill_heartbeat(&s->heartbeat);
    TEXT(s->arbiter.kind, "manual");
    fill_takeover(&s->takeover);
}

void control_sample_unprotected(struct control_status *s)
{
    control_sample_protected(s);
    s->state = CONTROL_STATE_SYNCHRONISING;
    TEXT(s->reason, "first synchronisation is not complete");
    TEXT(s->peer.address, "tcp://10.0.0.2:7000");
    TEXT(s->peer.transport, "tcp");
    s->peer.encrypted = false;
    s->peer.cipher[0] = '\0';
    s->peer.kernel_tls = false;
    s->peer.refused = 0;
    s->peer.streams = 1;
    s->peer.refusal[0] = '\0';
    s->guest.console_free = true;
    s->replication.hold = (struct control_distribution){0};
    s->replication.lag_ns = 0;
    s->replication.throttle_percent = 25;
    s->synchronisation = (struct control_synchronisation){
        true, UINT64_C(241591910), UINT64_C(536870912), 115343360.0, (uint64_t)MSEC(2560)};
    TEXT(s->arbiter.kind, "none");
    s->arbiter.state = CONTROL_ARBITER_ASKING;
    s->arbiter.asked_term = 4;
    TEXT(s->arbiter.detail, "silence on every path");
    s->heartbeat.paths[1].state = CONTROL_PATH_DOWN;
    s->heartbeat.paths[1].rejected = 9;
    s->takeover.happened = false;
    fill_disks(s);
    control_status_warn(s, "the log is on the moon");
    control_status_finish(s);
}

void control_sample_event(struct control_event *event)
{
    control_event_init(event, CONTROL_WARNING, "failover.suspect", "the peer is silent");
    control_event_add(event, "silence_ns", "%d", 31000000);
    control_event_add(event, "path", "%s", "10.0.0.2:7001");
    event->id = 42;
    event->wall_ns = WALL;
    event->monotonic_ns = 1234567890;
}
