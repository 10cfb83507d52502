/* Every metric is a row of `metrics`. A row has one value, or one for each element of a list
 * (paths, disks, ...), or is an enumeration (one sample per name, that of the present one is 1), or
 * a histogram, whose bounds are below. */
#include "control/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "control/schema.h"

enum metric_type { GAUGE, COUNTER, HISTOGRAM };
enum value_kind { U64, U32, BOOL, NANOSECONDS, PERCENT, PATH_UP, ENUMERATION, TIMES, PAGES, ONE };

/* Elements inside of struct control_metrics that have the same metrics. */
struct list {
    size_t offset;
    size_t stride;
    size_t count_offset;
    const char *label_names; /* for the reference */
    void (*labels)(const void *element, FILE *out);
};

struct metric {
    const char *name; /* without "kemari_" */
    enum metric_type type;
    enum value_kind kind;
    size_t offset; /* in struct control_metrics, or in an element of `list` */
    const struct list *list;
    const char *label;        /* of an enumeration */
    const char *const *names; /* likewise */
    size_t name_count;
    const char *help; /* without a full stop */
};

static const char *const type_names[] = {"gauge", "counter", "histogram"};

/* A factor of two to two and a half, as far as a pause, a hold or a commit may go. ns */
static const nsec_t time_bounds[] = {
    USEC(50), USEC(100), USEC(200), USEC(500), MSEC(1),   MSEC(2), MSEC(5), MSEC(10),
    MSEC(20), MSEC(50),  MSEC(100), MSEC(200), MSEC(500), SEC(1),  SEC(2),  SEC(5),
};
static const nsec_t page_bounds[] = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144};

/* ---- labels ---- */

/* What is said of others (addresses, paths) may hold anything. */
static void print_label(const char *name, const char *value, FILE *out)
{
    fprintf(out, "%s=\"", name);
    for (; *value; value++)
        if (*value == '\n')
            fputs("\\n", out);
        else
            fprintf(out, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    fputc('"', out);
}

static void label_path(const void *element, FILE *out)
{
    const struct control_heartbeat_path *path = element;
    print_label("local", path->local, out);
    fputc(',', out);
    print_label("remote", path->remote, out);
}

static void label_disk(const void *element, FILE *out)
{
    const struct control_disk *disk = element;
    fprintf(out, "disk=\"%" PRIu32 "\",", disk->index);
    print_label("path", disk->path, out);
}

static void label_encoding(const void *element, FILE *out)
{
    print_label("encoding", ((const struct control_encoding *)element)->name, out);
}

static void label_cut(const void *element, FILE *out)
{
    print_label("trigger", ((const struct control_cut *)element)->trigger, out);
}

static void label_info(const void *element, FILE *out)
{
    const struct control_status *status = element;
    print_label("version", status->daemon_version, out);
    fputc(',', out);
    print_label("peer", status->peer.address, out);
    fputc(',', out);
    print_label("arbiter", status->arbiter.kind, out);
    fputc(',', out);
    print_label("policy", status->replication.policy, out);
}

#define LIST(member, count, label_list, function)                                                  \
    {                                                                                              \
        .offset = offsetof(struct control_metrics, member),                                        \
        .stride = sizeof(((struct control_metrics *)0)->member[0]),                                \
        .count_offset = offsetof(struct control_metrics, count), .label_names = (label_list),      \
        .labels = (function)                                                                       \
    }

static const struct list paths =
    LIST(status.heartbeat.paths, status.heartbeat.path_count, "local, remote", label_path);
static const struct list disks = LIST(status.disks, status.disk_count, "disk, path", label_disk);
static const struct list encodings = LIST(
    status.replication.encodings, status.replication.encoding_count, "encoding", label_encoding);
static const struct list cuts = LIST(cuts, cut_count, "trigger", label_cut);
/* The daemon itself, once. */
static const struct list info = {.offset = offsetof(struct control_metrics, status),
                                 .label_names = "version, peer, arbiter, policy",
                                 .labels = label_info};

/* ---- the table ---- */

#define AT(member)       .offset = offsetof(struct control_metrics, member)
#define OF(type, member) .offset = offsetof(struct type, member)
/* Without the last, "unknown", which is of other versions. */
#define NAMES(label_name, list)                                                                    \
    .label = (label_name), .names = (list), .name_count = ARRAY_SIZE(list) - 1

static const struct metric metrics[] = {
    {"info", GAUGE, ONE, .list = &info, .help = "Always 1; what this daemon is"},
    {"uptime_seconds", GAUGE, NANOSECONDS, AT(status.uptime_ns), .help = "Since kemarid started"},
    {"protected", GAUGE, BOOL, AT(status.protected),
     .help = "1: a failure of either host now loses nothing"},
    {"role", GAUGE, ENUMERATION, AT(status.role), NAMES("role", control_role_names),
     .help = "1 for the present role of this host"},
    {"state", GAUGE, ENUMERATION, AT(status.state), NAMES("state", control_state_names),
     .help = "1 for what this daemon is doing"},
    {"guest_state", GAUGE, ENUMERATION, AT(status.guest.state),
     NAMES("state", control_guest_state_names),
     .help = "1 for what the guest is doing on this host"},
    {"term", GAUGE, U64, AT(status.term), .help = "Term of the ownership, grows with each change"},
    {"warnings", GAUGE, U32, AT(status.warning_count), .help = "Warnings that status shows"},

    {"pause_seconds", HISTOGRAM, TIMES, AT(pause),
     .help = "The guest stood still for a checkpoint"},
    {"hold_seconds", HISTOGRAM, TIMES, AT(hold),
     .help = "Output was held, from the guest to its "
             "release"},
    {"commit_seconds", HISTOGRAM, TIMES, AT(commit), .help = "From a cut to its acknowledgement"},
    {"dirty_pages", HISTOGRAM, PAGES, AT(dirty), .help = "Changed pages of a checkpoint"},

    {"epochs_committed_total", COUNTER, U64, AT(status.replication.epochs_committed),
     .help = "Checkpoints that were acknowledged"},
    {"epochs_aborted_total", COUNTER, U64, AT(status.replication.epochs_aborted),
     .help = "Checkpoints that were given up; their pages went into the next"},
    {"epoch_committed", GAUGE, U64, AT(status.replication.epoch_committed),
     .help = "Number of the newest committed checkpoint"},
    {"epochs_in_flight", GAUGE, U32, AT(status.replication.in_flight),
     .help = "Checkpoints that are cut and not acknowledged"},
    {"cuts_total", COUNTER, U64, OF(control_cut, count), .list = &cuts,
     .help = "Checkpoints by what asked for them"},
    {"dirty_bytes_total", COUNTER, U64, AT(status.replication.dirty_bytes),
     .help = "Changed pages of all checkpoints"},
    {"checkpoint_bytes_total", COUNTER, U64, AT(status.replication.checkpoint_bytes),
     .help = "Sent for checkpoints"},
    {"sent_bytes_total", COUNTER, U64, AT(status.replication.bytes_sent),
     .help = "Sent to the secondary in all, first copies included"},
    {"pages_total", COUNTER, U64, OF(control_encoding, pages), .list = &encodings,
     .help = "Pages that travelled, by encoding"},
    {"encoded_bytes_total", COUNTER, U64, OF(control_encoding, sent_bytes), .list = &encodings,
     .help = "Bytes that those pages took"},
    {"encoding_seconds_total", COUNTER, NANOSECONDS, OF(control_encoding, encode_ns),
     .list = &encodings, .help = "Time spent to encode them"},
    {"staging_bytes", GAUGE, U64, AT(status.replication.staging_bytes),
     .help = "Memory taken by checkpoints that are not committed"},
    {"staging_cap_bytes", GAUGE, U64, AT(status.replication.staging_cap_bytes),
     .help = "Most that it may be"},
    {"throttle_ratio", GAUGE, PERCENT, AT(status.replication.throttle_percent),
     .help = "Part of its time that is taken from the guest, 0 to 1"},
    {"throttled_seconds_total", COUNTER, NANOSECONDS, AT(status.replication.throttled_ns),
     .help = "The guest was stopped by the throttle"},
    {"overflows_total", COUNTER, U64, AT(status.replication.overflows),
     .help = "Times that more was dirty than fits, so that the guest was not protected"},

    {"outbox_bytes", GAUGE, U64, AT(status.outbox.bytes), .help = "Output that is held"},
    {"outbox_frames", GAUGE, U64, AT(status.outbox.frames), .help = "Pieces of output held"},
    {"outbox_cap_bytes", GAUGE, U64, AT(status.outbox.cap_bytes), .help = "Most that may be held"},
    {"output_released_total", COUNTER, U64, AT(released_items), .help = "Pieces of output let out"},
    {"output_released_bytes_total", COUNTER, U64, AT(released_bytes), .help = "Bytes of them"},
    {"output_dropped_total", COUNTER, U64, AT(dropped_items),
     .help = "Pieces of output dropped beyond the cap"},

    {"peer_connected", GAUGE, BOOL, AT(status.peer.connected), .help = "1: the other host is"},
    {"peer_encrypted", GAUGE, BOOL, AT(status.peer.encrypted),
     .help = "1: the connection is encrypted"},
    {"peer_streams", GAUGE, U32, AT(status.peer.streams), .help = "Connections that carry pages"},
    {"peer_refused_total", COUNTER, U64, AT(status.peer.refused),
     .help = "Connections that were turned away"},
    {"synchronisation_active", GAUGE, BOOL, AT(status.synchronisation.active),
     .help = "1: memory is being copied to a new secondary"},
    {"synchronisation_done_bytes", GAUGE, U64, AT(status.synchronisation.bytes_done),
     .help = "Copied of the running or last one"},
    {"synchronisation_size_bytes", GAUGE, U64, AT(status.synchronisation.bytes_total),
     .help = "All of it"},

    {"heartbeat_peer_alive", GAUGE, BOOL, AT(status.heartbeat.peer_alive),
     .help = "1: the other host is heard"},
    {"heartbeat_path_up", GAUGE, PATH_UP, OF(control_heartbeat_path, state), .list = &paths,
     .help = "1: the other host is heard on this path"},
    {"heartbeat_received_total", COUNTER, U64, OF(control_heartbeat_path, received), .list = &paths,
     .help = "Heartbeats that came on a path"},
    {"heartbeat_lost_total", COUNTER, U64, OF(control_heartbeat_path, lost), .list = &paths,
     .help = "Heartbeats that did not"},
    {"heartbeat_rejected_total", COUNTER, U64, OF(control_heartbeat_path, rejected), .list = &paths,
     .help = "Packets of another secret, replayed, or of an old term"},
    {"arbiter_state", GAUGE, ENUMERATION, AT(status.arbiter.state),
     NAMES("state", control_arbiter_state_names),
     .help = "1 for where the arbiter stands; unreachable: a failure now would not fail over"},
    {"takeover_seconds", GAUGE, NANOSECONDS, AT(status.takeover.run_ns),
     .help = "From the last sign of the old primary to the guest's running here; 0: no failover"},
    {"takeover_first_output_seconds", GAUGE, NANOSECONDS, AT(status.takeover.first_output_ns),
     .help = "Likewise, to its first output"},

    {"guest_memory_bytes", GAUGE, U64, AT(status.guest.memory_bytes), .help = "Of the guest"},
    {"guest_panics_total", COUNTER, U64, AT(status.guest.panics),
     .help = "Panics that the guest reported on this host"},
    {"disk_reads_total", COUNTER, U64, OF(control_disk, reads), .list = &disks,
     .help = "Reads of the guest"},
    {"disk_writes_total", COUNTER, U64, OF(control_disk, writes), .list = &disks,
     .help = "Writes of the guest"},
    {"disk_read_errors_total", COUNTER, U64, OF(control_disk, read_errors), .list = &disks,
     .help = "Those that failed"},
    {"disk_write_errors_total", COUNTER, U64, OF(control_disk, write_errors), .list = &disks,
     .help = "Likewise, flushes and discards included"},
    {"disk_marked_bytes", GAUGE, U64, OF(control_disk, marked_bytes), .list = &disks,
     .help = "May differ from the other host's copy"},
    {"disk_sync_active", GAUGE, BOOL, OF(control_disk, sync_active), .list = &disks,
     .help = "1: the other host's copy is being made equal"},
    {"disk_log_bytes", GAUGE, U64, AT(status.disk_log.bytes),
     .help = "Written by the guest and not committed"},
    {"disk_log_cap_bytes", GAUGE, U64, AT(status.disk_log.cap_bytes),
     .help = "Most that it may be"},
    {"disk_log_waiting", GAUGE, U32, AT(status.disk_log.waiting),
     .help = "Requests of the guest that wait for room in it"},
    {"disk_replica_failed", GAUGE, BOOL, AT(status.disk_replica.failed),
     .help = "1: this host's images can't take what was committed"},
    {"disk_replica_pending_bytes", GAUGE, U64, AT(status.disk_replica.pending_bytes),
     .help = "Committed or arriving, not applied"},
    {"disk_replica_applied_bytes_total", COUNTER, U64, AT(status.disk_replica.applied_bytes),
     .help = "Applied to this host's images"},
};

/* ---- the text ---- */

static void print_value(enum value_kind kind, const void *value, FILE *out)
{
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    if (kind == U64 || kind == NANOSECONDS)
        memcpy(&u64, value, sizeof(u64));
    else if (kind == U32 || kind == PERCENT || kind == PATH_UP)
        memcpy(&u32, value, sizeof(u32));
    if (kind == U64)
        fprintf(out, " %" PRIu64 "\n", u64);
    else if (kind == NANOSECONDS)
        fprintf(out, " %" PRIu64 ".%09" PRIu64 "\n", u64 / (uint64_t)SEC(1),
                u64 % (uint64_t)SEC(1));
    else if (kind == PERCENT)
        fprintf(out, " %g\n", (double)u32 / 100);
    else if (kind == BOOL)
        fprintf(out, " %d\n", *(const bool *)value);
    else if (kind == PATH_UP)
        fprintf(out, " %d\n", u32 == CONTROL_PATH_UP);
    else if (kind == U32)
        fprintf(out, " %" PRIu32 "\n", u32);
    else
        fputs(" 1\n", out);
}

/* "kemari_NAME{vm="web"", to be continued and closed. */
static void begin_sample(const struct metric *metric, const char *suffix,
                         const struct control_metrics *from, FILE *out)
{
    fprintf(out, "kemari_%s%s{", metric->name, suffix);
    print_label("vm", from->status.vm, out);
}

static void print_list(const struct metric *metric, const struct control_metrics *from, FILE *out)
{
    const struct list *list = metric->list;
    unsigned count = 1;
    if (list->count_offset)
        memcpy(&count, (const char *)from + list->count_offset, sizeof(count));
    for (unsigned i = 0; i < count; i++) {
        const char *element = (const char *)from + list->offset + i * list->stride;
        begin_sample(metric, "", from, out);
        fputc(',', out);
        list->labels(element, out);
        fputc('}', out);
        print_value(metric->kind, element + metric->offset, out);
    }
}

static void print_enumeration(const struct metric *metric, const struct control_metrics *from,
                              FILE *out)
{
    unsigned present;
    memcpy(&present, (const char *)from + metric->offset, sizeof(present));
    for (unsigned i = 0; i < metric->name_count; i++) {
        begin_sample(metric, "", from, out);
        fputc(',', out);
        print_label(metric->label, metric->names[i], out);
        fprintf(out, "} %d\n", i == present);
    }
}

static void print_histogram(const struct metric *metric, const struct control_metrics *from,
                            FILE *out)
{
    const struct histogram *histogram =
        (const struct histogram *)((const char *)from + metric->offset);
    const bool times = metric->kind == TIMES;
    const nsec_t *bounds = times ? time_bounds : page_bounds;
    const size_t count = times ? ARRAY_SIZE(time_bounds) : ARRAY_SIZE(page_bounds);
    for (size_t i = 0; i < count; i++) {
        begin_sample(metric, "_bucket", from, out);
        fprintf(out, ",le=\"%g\"} %" PRIu64 "\n",
                times ? (double)bounds[i] / 1e9 : (double)bounds[i],
                histogram_count_up_to(histogram, bounds[i]));
    }
    begin_sample(metric, "_bucket", from, out);
    fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n", histogram->count);
    begin_sample(metric, "_sum", from, out);
    fputc('}', out);
    print_value(times ? NANOSECONDS : U64, &histogram->sum, out);
    begin_sample(metric, "_count", from, out);
    fprintf(out, "} %" PRIu64 "\n", histogram->count);
}

void control_metrics_print(const struct control_metrics *from, FILE *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
        const struct metric *metric = &metrics[i];
        fprintf(out, "# HELP kemari_%s %s.\n# TYPE kemari_%s %s\n", metric->name, metric->help,
                metric->name, type_names[metric->type]);
        if (metric->list) {
            print_list(metric, from, out);
        } else if (metric->kind == ENUMERATION) {
            print_enumeration(metric, from, out);
        } else if (metric->type == HISTOGRAM) {
            print_histogram(metric, from, out);
        } else {
            begin_sample(metric, "", from, out);
            fputc('}', out);
            print_value(metric->kind, (const char *)from + metric->offset, out);
        }
    }
}

/* ---- the reference ---- */

static void print_row(const struct metric *metric, FILE *out)
{
    fprintf(out, "| `kemari_%s` | %s | ", metric->name, type_names[metric->type]);
    if (metric->list)
        fputs(metric->list->label_names, out);
    for (size_t i = 0; i < metric->name_count; i++)
        fprintf(out, "%s%s", i ? ", " : "", metric->names[i]);
    fprintf(out, " | %s |\n", metric->help);
}

void control_metrics_print_markdown(FILE *out)
{
    fputs(
        "# Metrics\n\n"
        "<!-- Generated from the table in control/metrics.c; the test \"metrics\" compares, and\n"
        "     writes it anew with KEMARI_UPDATE_GOLDEN=1. -->\n\n"
        "With `metrics = PORT` in `[vm]` the daemon answers `GET /metrics` on 127.0.0.1:PORT, or "
        "on\n`HOST:PORT`, in the text format of Prometheus. There is no authentication: whoever "
        "reaches the\naddress may read. A thread of its own answers; at most 8 connections at a "
        "time, requests of 8 KiB,\nand a text that is made at most ten times a second.\n\n"
        "Every sample has the label `vm`. Units are seconds, bytes and pages. The counts of "
        "checkpoints and\noutput belong to a role: they begin anew when a host becomes primary, "
        "which Prometheus takes as a\nrestart of the counter. The four histograms have `_bucket`, "
        "`_sum` and `_count`; a sample may be\ncounted one bucket too high if it is within 3 % of "
        "the bound. On a secondary they are empty.\n\n"
        "`docs/examples/` has a scrape configuration (`prometheus.yml`), alert rules\n"
        "(`prometheus-rules.yml`) and a dashboard for Grafana (`grafana-dashboard.json`).\n\n"
        "| name | type | labels, or names of an enumeration | meaning |\n|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++)
        print_row(&metrics[i], out);
}
