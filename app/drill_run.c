#include "app/drill_run.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/drill_filter.h"
#include "app/drill_healer.h"
#include "app/drill_history.h"
#include "app/drill_judge.h"
#include "base/clock.h"
#include "base/fd.h"
#include "control/client.h"
#include "control/json.h"

#define LOOK_PERIOD         MSEC(20)
#define LOOK_PATIENCE       MSEC(200) /* the fault may be that it does not answer */
#define PEER_PATIENCE       SEC(10)   /* a connection over ssh included */
#define FIRST_PEER_PATIENCE SEC(40)   /* while nothing has happened yet, there is time */
#define FIRST_PATIENCE      SEC(5)
#define EVENTS_PATIENCE     SEC(10)
#define GRACE               SEC(10)  /* for the healer's last word */
#define STRIKE_PATIENCE     SEC(130) /* a switchover may take its time */

struct drill {
    const struct drill_order *order;
    const struct drill_target *target;
    const struct peer_command *peer;
    struct drill_report *report;
    struct drill_pair before;
    struct drill_pair now;
    nsec_t struck;
    bool dark; /* the other host is switched off */
    char trouble[ERROR_TEXT_MAX];
};

static void tell(const struct drill *d, const char *sentence)
{
    if (d->order->tell)
        d->order->tell(d->order->context, sentence);
}

static void look(struct drill *d, nsec_t patience)
{
    drill_view_local(d->target->socket, patience, &d->now.local);
    /* Nobody asks a host that has no power: that would take long. */
    if (d->dark)
        d->now.other = (struct drill_view){0};
    else
        drill_view_peer(d->peer, d->struck ? PEER_PATIENCE : FIRST_PEER_PATIENCE, &d->now.other);
    const uint64_t held = d->now.local.held_frames > d->now.other.held_frames
                              ? d->now.local.held_frames
                              : d->now.other.held_frames;
    if (held > d->report->held_frames)
        d->report->held_frames = held;
}

/* ---- before ---- */

/* The other host is configured as this one is, except for what is its own. */
static int check_power(const struct drill *d, struct error *err)
{
    const struct config *config = &d->target->config;
    if (!config->power_off.list[0])
        return error_set(err, -ENOTSUP,
                         "nothing is configured that switches the other host off: say how in "
                         "[drill] power-off, and start this daemon again");
    for (const struct config_words *each = &config->power_off; each;
         each = each == &config->power_off ? &config->power_on : NULL)
        if (each->list[0] && access(each->list[0], X_OK) < 0)
            return error_set(err, -errno, "%s: %s", each->list[0], strerror(errno));
    if (config->role != CONFIG_ROLE_AUTO && !d->order->force)
        return error_set(
            err, -EBUSY,
            "the configuration does not say role = auto: the other host would not come "
            "back as this one's secondary by itself");
    return 0;
}

static int check(struct drill *d, struct error *err)
{
    const struct drill_scenario *s = d->order->scenario;
    look(d, FIRST_PATIENCE);
    d->before = d->now;
    int rc = drill_judge_before(s, &d->before, err);
    if (rc == -EBUSY && d->order->force)
        rc = 0;
    if (rc == 0 && drill_strikes_other(s))
        rc = check_power(d, err);
    else if (rc == 0 && s->outcome == DRILL_VICTIM_LOSES)
        rc = drill_target_check(d->target, err);
    if (rc == 0 && s->wires && !drill_filter_available())
        rc = error_set(err, -ENOENT, "nft is missing (package nftables)");
    return rc;
}

static void begin_report(struct drill *d)
{
    struct drill_report *r = d->report;
    struct timespec wall;
    struct tm utc;
    char when[32];
    clock_gettime(CLOCK_REALTIME, &wall);
    gmtime_r(&wall.tv_sec, &utc);
    strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &utc);
    snprintf(r->id, sizeof(r->id), "%s-%s", when, d->order->scenario->name);
    snprintf(r->vm, sizeof(r->vm), "%s", d->before.local.vm);
    snprintf(r->scenario, sizeof(r->scenario), "%s", d->order->scenario->name);
    snprintf(r->role, sizeof(r->role), "%s", d->before.local.role);
    snprintf(r->arbiter, sizeof(r->arbiter), "%s", d->before.local.arbiter);
    r->forced = d->order->force;
    for (int i = 0; i < DRILL_STEP_COUNT; i++)
        r->steps[i] = -1;
}

/* ---- events ---- */

static void add_event(struct drill *d, const char *line, bool other)
{
    struct drill_report *r = d->report;
    json_t *json = json_loads(line, 0, NULL);
    const json_int_t wall = json_integer_value(json_object_get(json, "wall_ns"));
    const char *severity = json_string_value(json_object_get(json, "severity"));
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const char *text = json_string_value(json_object_get(json, "text"));
    if (severity && kind && text && wall >= r->began_wall_ns && r->event_count < DRILL_EVENTS_MAX) {
        struct drill_event *e = &r->events[r->event_count++];
        e->at_ns = wall - r->began_wall_ns;
        e->other = other;
        snprintf(e->severity, sizeof(e->severity), "%s", severity);
        snprintf(e->kind, sizeof(e->kind), "%s", kind);
        snprintf(e->text, sizeof(e->text), "%s", text);
    }
    json_decref(json);
}

static void add_other_events(struct drill *d)
{
    static const char *const words[] = {"events", "--json", NULL};
    char *text = peer_command_run(d->peer, words, EVENTS_PATIENCE, NULL);
    char *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n"));)
        if (*line)
            add_event(d, line, true);
    free(text);
}

static void add_own_events(struct drill *d)
{
    static const struct control_request request = {.verb = CONTROL_VERB_EVENTS};
    struct control_client *client = NULL;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    int rc = reply ? control_client_connect(d->target->socket, &client, NULL) : -ENOMEM;
    if (rc == 0)
        rc = control_client_call(client, &request, EVENTS_PATIENCE, reply, NULL);
    while (rc == 0 && reply->kind == CONTROL_REPLY_EVENT) {
        char *line = control_json_event(&reply->event);
        if (line)
            add_event(d, line, false);
        free(line);
        rc = control_client_next(client, EVENTS_PATIENCE, reply, NULL);
    }
    control_client_close(&client);
    free(reply);
}

static int compare_events(const void *a, const void *b)
{
    const int64_t x = ((const struct drill_event *)a)->at_ns;
    const int64_t y = ((const struct drill_event *)b)->at_ns;
    return (x > y) - (x < y);
}

static void gather_events(struct drill *d)
{
    struct drill_report *r = d->report;
    add_other_events(d);
    add_own_events(d);
    qsort(r->events, r->event_count, sizeof(r->events[0]), compare_events);
    /* Where nobody took over, the survivor's word says when it noticed. */
    const bool survivor_is_other = !drill_strikes_other(d->order->scenario);
    for (unsigned i = 0; i < r->event_count && r->steps[DRILL_DETECTED] < 0; i++)
        if (r->events[i].other == survivor_is_other &&
            strcmp(r->events[i].kind, "heartbeat.suspect") == 0)
            r->steps[DRILL_DETECTED] = r->events[i].at_ns;
}

/* ---- the drill ---- */

static int strike(struct drill *d, struct drill_healer *healer, struct error *err)
{
    struct drill_news news;
    int rc = drill_healer_start(d->order->scenario, d->target, d->order->seconds, healer, err);
    if (rc < 0)
        return rc;
    if (!drill_healer_next(healer, STRIKE_PATIENCE, &news))
        rc = error_set(err, -EIO, "the drill's own process is gone");
    else if (news.kind == DRILL_NEWS_REFUSED)
        rc = error_set(err, -EIO, "nothing was done: %s", news.text);
    if (rc < 0) {
        drill_healer_end(healer);
        return rc;
    }
    struct timespec wall;
    d->struck = news.at;
    clock_gettime(CLOCK_REALTIME, &wall);
    d->report->began_wall_ns = SEC(wall.tv_sec) + wall.tv_nsec - (clock_now() - news.at);
    return 0;
}

/* True at the last news. */
static bool take_news(struct drill *d, const struct drill_news *news)
{
    if (news->kind == DRILL_NEWS_HEALED) {
        d->report->steps[DRILL_HEALED] = news->at - d->struck;
        d->dark = false;
        tell(d, !drill_strikes_other(d->order->scenario) || d->target->config.power_on.list[0]
                    ? "the fault is taken back"
                    : "switch the other host on again now");
        return false;
    }
    if (news->kind == DRILL_NEWS_FAILED)
        snprintf(d->trouble, sizeof(d->trouble), "%s", news->text);
    return true;
}

static void watch(struct drill *d, struct drill_healer *healer)
{
    const struct drill_scenario *s = d->order->scenario;
    const nsec_t fault_end = d->struck + SEC(d->order->seconds);
    const nsec_t limit = fault_end + drill_patience(s) + GRACE;
    bool healing = false, settled = false, last = false;
    struct drill_news news;
    d->dark = drill_strikes_other(s);
    while (clock_now() < limit && (!last || !drill_judge_protected(&d->now)) &&
           !(last && d->trouble[0])) {
        look(d, LOOK_PATIENCE);
        if (!settled && drill_judge_settled(s, &d->before, &d->now)) {
            settled = true;
            tell(d, "the guest's place is settled");
        }
        if (!healing && (settled || clock_now() >= fault_end)) {
            healing = true;
            drill_healer_heal(healer);
        }
        if (!last && drill_healer_next(healer, LOOK_PERIOD, &news))
            last = take_news(d, &news);
    }
    /* A host that kept its power looks as one that came back. */
    if (drill_strikes_other(s) && !settled && !d->trouble[0])
        snprintf(d->trouble, sizeof(d->trouble),
                 "the power-off command said success, and the other host was not lost within %u s",
                 d->order->seconds);
    if (drill_judge_protected(&d->now) && d->report->steps[DRILL_HEALED] >= 0)
        d->report->steps[DRILL_PROTECTED] = clock_now() - d->struck;
}

int drill_run(const struct drill_order *order, const struct drill_target *target,
              const struct peer_command *peer, struct drill_report *report, struct error *err)
{
    struct drill d = {.order = order, .target = target, .peer = peer, .report = report};
    struct drill_healer healer;
    *report = (struct drill_report){0};
    int rc = check(&d, err);
    if (rc < 0)
        return rc;
    begin_report(&d);
    int lock = drill_history_lock(target->state_dir, err);
    if (lock < 0)
        return lock;
    rc = strike(&d, &healer, err);
    if (rc == 0) {
        tell(&d, order->scenario->what);
        watch(&d, &healer);
        drill_healer_end(&healer);
        drill_judge_after(order->scenario, &d.before, &d.now, d.trouble, report);
        gather_events(&d);
        rc = drill_history_save(target->state_dir, report, err);
    }
    fd_close(&lock);
    return rc;
}
