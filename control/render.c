#include "control/render.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "control/schema.h"

#define RED         "\033[1;31m"
#define GREEN       "\033[1;32m"
#define YELLOW      "\033[33m"
#define PLAIN       "\033[0m"

#define LABEL_WIDTH 12
#define BAR_WIDTH   30
#define PAGE_BYTES  4096

struct scale {
    double factor;
    const char *unit;
};

/* The largest unit that makes at least 1; the last is for everything below. */
static const char *format_scaled(double value, const struct scale *scales, size_t count,
                                 char out[CONTROL_AMOUNT_MAX])
{
    size_t i = 0;
    while (i < count - 1 && value < scales[i].factor)
        i++;
    const double scaled = value / scales[i].factor;
    const int digits = scaled >= 99.95 || scaled == (double)(int64_t)scaled ? 0
                       : scaled >= 9.995                                    ? 1
                                                                            : 2;
    snprintf(out, CONTROL_AMOUNT_MAX, "%.*f%s", digits, scaled, scales[i].unit);
    return out;
}

const char *control_format_bytes(uint64_t bytes, char out[CONTROL_AMOUNT_MAX])
{
    static const struct scale scales[] = {
        {0x1p40, " TiB"}, {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}, {1, " B"}};
    return format_scaled((double)bytes, scales, ARRAY_SIZE(scales), out);
}

const char *control_format_rate(double per_second, char out[CONTROL_AMOUNT_MAX])
{
    static const struct scale scales[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    return format_scaled(per_second, scales, ARRAY_SIZE(scales), out);
}

const char *control_format_time(uint64_t ns, char out[CONTROL_AMOUNT_MAX])
{
    static const struct scale scales[] = {{1e9, " s"}, {1e6, " ms"}, {1e3, " us"}, {1, " ns"}};
    const uint64_t seconds = ns / (uint64_t)SEC(1);
    if (seconds < 100)
        return format_scaled((double)ns, scales, ARRAY_SIZE(scales), out);
    if (seconds < 3600)
        snprintf(out, CONTROL_AMOUNT_MAX, "%" PRIu64 "m %02" PRIu64 "s", seconds / 60,
                 seconds % 60);
    else if (seconds < 86400)
        snprintf(out, CONTROL_AMOUNT_MAX, "%" PRIu64 "h %02" PRIu64 "m", seconds / 3600,
                 seconds / 60 % 60);
    else
        snprintf(out, CONTROL_AMOUNT_MAX, "%" PRIu64 "d %02" PRIu64 "h", seconds / 86400,
                 seconds / 3600 % 24);
    return out;
}

static void begin_line(const char *label, FILE *out)
{
    fprintf(out, "  %-*s ", LABEL_WIDTH, label);
}

static void render_heading(const struct control_status *s, bool colour, FILE *out)
{
    char up[CONTROL_AMOUNT_MAX];
    fprintf(out, "%s: %s%s%s", s->vm, colour ? s->protected ? GREEN : RED : "",
            s->protected ? "PROTECTED" : "NOT PROTECTED", colour ? PLAIN : "");
    if (!s->protected)
        fprintf(out, ": %s", s->reason);
    fputc('\n', out);
    begin_line("role", out);
    fprintf(out, "%s, %s, term %" PRIu64 ", up %s, kemarid %s, process %" PRIu32 "\n",
            control_role_names[s->role], control_state_names[s->state], s->term,
            control_format_time(s->uptime_ns, up), s->daemon_version, s->pid);
}

static void render_guest(const struct control_guest *guest, FILE *out)
{
    char memory[CONTROL_AMOUNT_MAX];
    begin_line("guest", out);
    fprintf(out, "%s, %" PRIu32 " vCPU%s, %s%s", control_guest_state_names[guest->state],
            guest->vcpus, guest->vcpus == 1 ? "" : "s",
            control_format_bytes(guest->memory_bytes, memory),
            guest->console_free ? ", console runs free" : "");
    if (guest->panics)
        fprintf(out, ", panicked %" PRIu64 " time%s", guest->panics, guest->panics == 1 ? "" : "s");
    fputc('\n', out);
}

static void render_peer(const struct control_peer *peer, FILE *out)
{
    begin_line("peer", out);
    if (!peer->address[0])
        fputs("none known\n", out);
    else
        fprintf(out, "%s, %s, %s (%s%s%s%s)", peer->address,
                peer->connected ? "connected" : "not connected", peer->transport,
                peer->encrypted ? "encrypted" : "unencrypted", peer->cipher[0] ? ", " : "",
                peer->cipher, peer->kernel_tls ? ", by the kernel" : "");
    if (peer->address[0] && peer->streams > 1)
        fprintf(out, ", %" PRIu32 " streams", peer->streams);
    if (peer->address[0])
        fputc('\n', out);
    if (!peer->refused)
        return;
    begin_line("refused", out);
    fprintf(out, "%" PRIu64 " connection%s, the last one: %s\n", peer->refused,
            peer->refused == 1 ? "" : "s", peer->refusal);
}

static void render_hosts(const struct control_status *status, FILE *out)
{
    for (unsigned i = 0; i < status->host_count; i++) {
        const struct control_host *host = &status->hosts[i];
        begin_line(i ? "" : "hosts", out);
        fprintf(out, "%u of %u: %s, %s, %s\n", i + 1, status->host_count, host->address, host->part,
                host->alive ? "heard" : "not heard");
    }
}

static void render_arbiter(const struct control_arbiter *arbiter, FILE *out)
{
    begin_line("arbiter", out);
    fprintf(out, "%s, %s", arbiter->kind[0] ? arbiter->kind : "unknown",
            control_arbiter_state_names[arbiter->state]);
    if (arbiter->asked_term)
        fprintf(out, " for term %" PRIu64, arbiter->asked_term);
    fprintf(out, "%s%s\n", arbiter->detail[0] ? ": " : "", arbiter->detail);
}

static void render_heartbeat(const struct control_heartbeat *heartbeat, FILE *out)
{
    char text[CONTROL_AMOUNT_MAX];
    begin_line("heartbeat", out);
    if (heartbeat->path_count == 0) {
        fputs("no path\n", out);
        return;
    }
    fprintf(out, "peer %s, every %s, suspicion after %" PRIu32 " missed\n",
            heartbeat->peer_alive ? "alive" : "silent",
            control_format_time(heartbeat->interval_ns, text), heartbeat->multiplier);
    for (unsigned i = 0; i < heartbeat->path_count; i++) {
        const struct control_heartbeat_path *path = &heartbeat->paths[i];
        begin_line("", out);
        fprintf(out, "%s to %s: %s", path->local, path->remote,
                control_path_state_names[path->state]);
        if (path->received)
            fprintf(out, ", seen %s ago", control_format_time(path->last_seen_ns, text));
        fprintf(out, ", lost %" PRIu64 ", rejected %" PRIu64 "\n", path->lost, path->rejected);
    }
}

static void render_distribution(const char *label, const struct control_distribution *d, FILE *out)
{
    char p50[CONTROL_AMOUNT_MAX], p99[CONTROL_AMOUNT_MAX], max[CONTROL_AMOUNT_MAX];
    begin_line(label, out);
    if (d->count)
        fprintf(out, "p50 %-9s p99 %-9s max %s\n", control_format_time(d->p50_ns, p50),
                control_format_time(d->p99_ns, p99), control_format_time(d->max_ns, max));
    else
        fputs("no sample yet\n", out);
}

/* What travelled how, and what became of the bytes that checkpoints had to carry. */
static void render_encodings(const struct control_replication *r, FILE *out)
{
    char sent[CONTROL_AMOUNT_MAX], dirty[CONTROL_AMOUNT_MAX];
    begin_line("encoding", out);
    fprintf(out, "%s", r->encoding[0] ? r->encoding : "unknown");
    if (r->dirty_bytes)
        fprintf(out, ", checkpoints sent %s of %s (%.3f)",
                control_format_bytes(r->checkpoint_bytes, sent),
                control_format_bytes(r->dirty_bytes, dirty),
                (double)r->checkpoint_bytes / (double)r->dirty_bytes);
    fputc('\n', out);
    for (unsigned i = 0; i < r->encoding_count; i++) {
        const struct control_encoding *e = &r->encodings[i];
        if (!e->pages)
            continue;
        begin_line("", out);
        fprintf(out, "%s: %" PRIu64 " pages, %s of %s, %" PRIu64 " ns/page\n", e->name, e->pages,
                control_format_bytes(e->sent_bytes, sent),
                control_format_bytes(e->page_bytes, dirty), e->encode_ns / e->pages);
    }
}

static void render_replication(const struct control_replication *r, FILE *out)
{
    char a[CONTROL_AMOUNT_MAX], b[CONTROL_AMOUNT_MAX];
    begin_line("epochs", out);
    fprintf(out,
            "%" PRIu64 " committed (last %" PRIu64 "), %" PRIu64 " aborted, %" PRIu32 " of %" PRIu32
            " in flight, %s/s, policy %s\n",
            r->epochs_committed, r->epoch_committed, r->epochs_aborted, r->in_flight, r->window,
            control_format_rate(r->epochs_per_second, a), r->policy[0] ? r->policy : "unknown");
    render_distribution("pause", &r->pause, out);
    render_distribution("hold", &r->hold, out);
    render_distribution("commit", &r->commit, out);
    if (r->lag_ns) {
        begin_line("lag", out);
        fprintf(out, "the secondary is %s behind\n", control_format_time(r->lag_ns, a));
    }
    begin_line("dirty", out);
    fprintf(out, "%" PRIu64 " pages last, %s pages/s (%s/s)", r->dirty_pages_last,
            control_format_rate(r->dirty_pages_per_second, a),
            control_format_bytes((uint64_t)(r->dirty_pages_per_second * PAGE_BYTES), b));
    if (r->throttle_percent)
        fprintf(out, ", guest throttled by %" PRIu32 " %%", r->throttle_percent);
    if (r->throttled_ns)
        fprintf(out, ", for %s in all", control_format_time(r->throttled_ns, b));
    fputc('\n', out);
    begin_line("sent", out);
    fprintf(out, "%s, %" PRIu64 " pages, %" PRIu64 " of them zero\n",
            control_format_bytes(r->bytes_sent, a), r->pages_sent, r->zero_pages);
    render_encodings(r, out);
    begin_line("staging", out);
    fprintf(out, "%s of %s\n", control_format_bytes(r->staging_bytes, a),
            control_format_bytes(r->staging_cap_bytes, b));
}

static void render_outbox(const struct control_outbox *outbox, FILE *out)
{
    char held[CONTROL_AMOUNT_MAX], cap[CONTROL_AMOUNT_MAX];
    begin_line("outbox", out);
    fprintf(out, "%" PRIu64 " held, %s of %s\n", outbox->frames,
            control_format_bytes(outbox->bytes, held),
            control_format_bytes(outbox->cap_bytes, cap));
}

/* "[####....] 44 %, 230 MiB of 512 MiB, 110 MiB/s, 2.56 s left" */
static void render_progress(uint64_t done, uint64_t total, double rate, uint64_t eta_ns, FILE *out)
{
    char a[CONTROL_AMOUNT_MAX], b[CONTROL_AMOUNT_MAX];
    double share = total ? (double)done / (double)total : 0;
    share = share > 1 ? 1 : share;
    char bar[BAR_WIDTH + 1];
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < (int)(share * BAR_WIDTH) ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(out, "[%s] %d %%, %s of %s", bar, (int)(share * 100), control_format_bytes(done, a),
            control_format_bytes(total, b));
    if (rate >= 1)
        fprintf(out, ", %s/s", control_format_bytes((uint64_t)rate, a));
    if (eta_ns)
        fprintf(out, ", %s left", control_format_time(eta_ns, a));
}

static void render_synchronisation(const struct control_synchronisation *sync, FILE *out)
{
    if (!sync->active)
        return;
    begin_line("first sync", out);
    render_progress(sync->bytes_done, sync->bytes_total, sync->bytes_per_second, sync->eta_ns, out);
    fputc('\n', out);
}

bool control_render_progress(const struct control_status *status, FILE *out)
{
    const struct control_synchronisation *sync = &status->synchronisation;
    if (sync->active) {
        render_progress(sync->bytes_done, sync->bytes_total, sync->bytes_per_second, sync->eta_ns,
                        out);
        return true;
    }
    for (unsigned i = 0; i < status->disk_count; i++) {
        const struct control_disk *d = &status->disks[i];
        if (!d->sync_active)
            continue;
        fprintf(out, "disk %u ", d->index);
        render_progress(d->sync_done_bytes, d->sync_total_bytes, d->sync_bytes_per_second,
                        d->sync_eta_ns, out);
        return true;
    }
    return false;
}

static void render_disk_sync(const struct control_disk *d, FILE *out)
{
    char done[CONTROL_AMOUNT_MAX], total[CONTROL_AMOUNT_MAX], sent[CONTROL_AMOUNT_MAX];
    if (d->state[0]) {
        begin_line("", out);
        fprintf(out, "%s, %s may differ%s%s\n", d->state,
                control_format_bytes(d->marked_bytes, done), d->trouble[0] ? ": " : "", d->trouble);
    }
    if (!d->sync_total_bytes && !d->sync_why[0])
        return;
    begin_line("", out);
    if (d->sync_active)
        render_progress(d->sync_done_bytes, d->sync_total_bytes, d->sync_bytes_per_second,
                        d->sync_eta_ns, out);
    else
        fprintf(out, "last compared %s of %s", control_format_bytes(d->sync_done_bytes, done),
                control_format_bytes(d->sync_total_bytes, total));
    fprintf(out, ", %s differed, %s sent", control_format_bytes(d->sync_differed_bytes, done),
            control_format_bytes(d->sync_sent_bytes, sent));
    if (d->sync_why[0])
        fprintf(out, " (%s)", d->sync_why);
    fputc('\n', out);
}

static void render_disks(const struct control_status *s, FILE *out)
{
    char a[CONTROL_AMOUNT_MAX], b[CONTROL_AMOUNT_MAX];
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct control_disk *d = &s->disks[i];
        char label[LABEL_WIDTH + 1];
        snprintf(label, sizeof(label), "disk %u", d->index);
        begin_line(label, out);
        fprintf(out, "%s, %s%s, %s, %s, %" PRIu64 " reads, %" PRIu64 " writes", d->path, d->mode,
                d->read_only ? ", read-only" : "", control_format_bytes(d->size_bytes, a),
                d->engine, d->reads, d->writes);
        if (d->read_errors || d->write_errors)
            fprintf(out, ", %" PRIu64 " read and %" PRIu64 " write errors, last: %s",
                    d->read_errors, d->write_errors, d->last_error);
        if (d->held)
            fprintf(out, ", %" PRIu32 " writes held", d->held);
        if (d->writing)
            fprintf(out, ", %" PRIu32 " on their way to the image", d->writing);
        fputc('\n', out);
        render_disk_sync(d, out);
    }
    const struct control_disk_log *log = &s->disk_log;
    if (log->active) {
        begin_line("disk log", out);
        fprintf(out, "%s of %s", control_format_bytes(log->bytes, a),
                control_format_bytes(log->cap_bytes, b));
        if (log->waiting)
            fprintf(out, ", %" PRIu32 " writes wait for room", log->waiting);
        fputc('\n', out);
    }
    const struct control_disk_replica *replica = &s->disk_replica;
    if (replica->failed || replica->pending_bytes || replica->applied_bytes) {
        begin_line("disk replica", out);
        fprintf(out, "%s applied, %s to apply%s%s\n",
                control_format_bytes(replica->applied_bytes, a),
                control_format_bytes(replica->pending_bytes, b),
                replica->failed ? ", failed: " : "", replica->why);
    }
}

static void format_wall(int64_t wall_ns, char *out, size_t size)
{
    const time_t seconds = (time_t)(wall_ns / SEC(1));
    struct tm local;
    localtime_r(&seconds, &local);
    const size_t used = strftime(out, size, "%Y-%m-%d %H:%M:%S", &local);
    snprintf(out + used, size - used, ".%03d", (int)(wall_ns % SEC(1) / MSEC(1)));
}

static void render_takeover(const struct control_takeover *takeover, FILE *out)
{
    if (!takeover->happened)
        return;
    const struct {
        const char *name;
        uint64_t ns;
    } steps[] = {
        {"suspect", takeover->suspect_ns}, {"grant", takeover->grant_ns},
        {"drop", takeover->drop_ns},       {"apply", takeover->apply_ns},
        {"load", takeover->load_ns},       {"network", takeover->network_ns},
        {"run", takeover->run_ns},         {"first output", takeover->first_output_ns},
    };
    char text[64];
    format_wall(takeover->suspect_wall_ns, text, sizeof(text));
    begin_line("took over", out);
    fprintf(out, "%s, term %" PRIu64 ", from checkpoint %" PRIu64 ", after %s\n", text,
            takeover->term, takeover->epoch, takeover->cause);
    begin_line("", out);
    const char *separator = "";
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        char time[CONTROL_AMOUNT_MAX];
        if (!steps[i].ns)
            continue;
        fprintf(out, "%s%s %s", separator, steps[i].name, control_format_time(steps[i].ns, time));
        separator = ", ";
    }
    fputc('\n', out);
}

void control_render_status(const struct control_status *status, bool colour, FILE *out)
{
    render_heading(status, colour, out);
    render_guest(&status->guest, out);
    render_peer(&status->peer, out);
    render_hosts(status, out);
    render_arbiter(&status->arbiter, out);
    render_heartbeat(&status->heartbeat, out);
    render_replication(&status->replication, out);
    render_outbox(&status->outbox, out);
    render_disks(status, out);
    render_synchronisation(&status->synchronisation, out);
    render_takeover(&status->takeover, out);
    for (unsigned i = 0; i < status->warning_count; i++)
        fprintf(out, "%swarning:%s %s\n", colour ? YELLOW : "", colour ? PLAIN : "",
                status->warnings[i]);
}

void control_render_event(const struct control_event *event, bool colour, FILE *out)
{
    static const char *const colours[] = {"", YELLOW, RED, YELLOW};
    char when[64];
    format_wall(event->wall_ns, when, sizeof(when));
    fprintf(out, "%s %s%-7s%s %-20s %s", when, colour ? colours[event->severity] : "",
            control_severity_names[event->severity],
            colour && event->severity != CONTROL_INFO ? PLAIN : "", event->kind, event->text);
    for (unsigned i = 0; i < event->field_count; i++)
        fprintf(out, " %s=%s", event->fields[i].key, event->fields[i].value);
    fputc('\n', out);
}

void control_render_row(const struct control_status *status, bool colour, FILE *out)
{
    if (!status) {
        fprintf(out, "%-16s %-10s %-14s %-8s %s\n", "NAME", "ROLE", "STATE", "GUEST", "PROTECTED");
        return;
    }
    fprintf(out, "%-16s %-10s %-14s %-8s %s%s%s%s%s\n", status->vm,
            control_role_names[status->role], control_state_names[status->state],
            control_guest_state_names[status->guest.state],
            colour ? status->protected ? GREEN : RED : "", status->protected ? "yes" : "no",
            colour ? PLAIN : "", status->protected ? "" : ": ", status->reason);
}
