#include "control/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void control_status_warn(struct control_status *status, const char *format, ...)
{
    if (status->warning_count == CONTROL_WARNINGS_MAX) {
        snprintf(status->warnings[CONTROL_WARNINGS_MAX - 1], CONTROL_TEXT_MAX, "... and more");
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(status->warnings[status->warning_count++], CONTROL_TEXT_MAX, format, args);
    va_end(args);
}

void control_distribution_from(struct control_distribution *out, const struct histogram *histogram)
{
    out->count = histogram->count;
    out->p50_ns = (uint64_t)histogram_percentile(histogram, 0.5);
    out->p99_ns = (uint64_t)histogram_percentile(histogram, 0.99);
    out->max_ns = histogram->max;
}

static void warn_of_heartbeat(struct control_status *status)
{
    const struct control_heartbeat *heartbeat = &status->heartbeat;
    if (heartbeat->path_count == 0)
        control_status_warn(status, "no heartbeat path: a silent peer is not noticed");
    for (unsigned i = 0; i < heartbeat->path_count; i++) {
        const struct control_heartbeat_path *path = &heartbeat->paths[i];
        if (path->state == CONTROL_PATH_DOWN)
            control_status_warn(status, "heartbeat path %s to %s is silent", path->local,
                                path->remote);
        if (path->state == CONTROL_PATH_UNKNOWN && status->peer.connected)
            control_status_warn(status, "heartbeat path %s to %s was never heard", path->local,
                                path->remote);
        if (path->rejected)
            control_status_warn(status,
                                "heartbeat path %s to %s: %llu packets were rejected (other "
                                "secret, replayed, or an old term)",
                                path->local, path->remote, (unsigned long long)path->rejected);
    }
}

static void warn_of_arbiter(struct control_status *status)
{
    const struct control_arbiter *arbiter = &status->arbiter;
    if (strcmp(arbiter->kind, "none") == 0)
        control_status_warn(status, "arbiter none: split brain is not prevented");
    if (arbiter->state == CONTROL_ARBITER_ASKING)
        control_status_warn(status,
                            "the arbiter is asked for term %llu: make sure that the other host is "
                            "stopped, then \"kemarictl grant\", or \"kemarictl deny\"",
                            (unsigned long long)arbiter->asked_term);
    if (arbiter->state == CONTROL_ARBITER_UNREACHABLE)
        control_status_warn(status, "the arbiter is unreachable: a failure now does not fail over");
}

/* What contradicts "protected" whoever claims it (P5); NULL when nothing does. */
static const char *find_contradiction(const struct control_status *status)
{
    if (status->role != CONTROL_ROLE_PRIMARY && status->role != CONTROL_ROLE_SECONDARY)
        return "there is no standby";
    if (status->state != CONTROL_STATE_REPLICATING)
        return "checkpoints are not being replicated";
    if (!status->peer.connected)
        return "the peer is not connected";
    if (status->arbiter.state == CONTROL_ARBITER_UNREACHABLE)
        return "the arbiter is unreachable, so a failure now does not fail over";
    if (status->arbiter.state == CONTROL_ARBITER_DENIED)
        return "the arbiter gave the guest to the other host";
    if (status->role == CONTROL_ROLE_SECONDARY && status->disk_replica.failed)
        return "a disk of this host can't take what the guest wrote";
    return NULL;
}

static void settle_protection(struct control_status *status)
{
    const char *contradiction = find_contradiction(status);
    if (status->reason[0] || contradiction)
        status->protected = false;
    if (!status->protected && !status->reason[0])
        snprintf(status->reason, sizeof(status->reason), "%s",
                 contradiction ? contradiction : "the daemon gave no reason");
}

static void warn_of_disks(struct control_status *s)
{
    if (s->disk_replica.failed)
        control_status_warn(s, "a disk of this host can't take what the guest wrote: %.200s",
                            s->disk_replica.why);
    for (unsigned i = 0; i < s->disk_count; i++)
        if (s->disks[i].read_errors || s->disks[i].write_errors)
            control_status_warn(s, "disk %u has failed requests of the guest: %s",
                                s->disks[i].index, s->disks[i].last_error);
}

void control_status_finish(struct control_status *status)
{
    settle_protection(status);
    warn_of_arbiter(status);
    if (status->peer.address[0] && !status->peer.encrypted)
        control_status_warn(status, "the connection to the peer is not encrypted");
    if (status->guest.console_free)
        control_status_warn(status,
                            "the console is not held: what it shows may be undone by a failover");
    if (status->replication.throttle_percent)
        control_status_warn(status, "the guest is throttled by %u %%",
                            status->replication.throttle_percent);
    warn_of_heartbeat(status);
    warn_of_disks(status);
}
