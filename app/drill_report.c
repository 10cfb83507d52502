#include "app/drill_report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "control/render.h"

#define SCHEMA 1
#define RED    "\033[1;31m"
#define GREEN  "\033[1;32m"
#define PLAIN  "\033[0m"

const char *const drill_step_names[DRILL_STEP_COUNT] = {
    [DRILL_DETECTED] = "detected", [DRILL_GRANTED] = "granted",
    [DRILL_PROMOTED] = "promoted", [DRILL_FIRST_OUTPUT] = "first_output",
    [DRILL_HEALED] = "healed",     [DRILL_PROTECTED] = "protected",
};

/* ---- text ---- */

static void print_events(const struct drill_report *r, FILE *out)
{
    char when[CONTROL_AMOUNT_MAX];
    for (unsigned i = 0; i < r->event_count; i++) {
        const struct drill_event *e = &r->events[i];
        fprintf(out, "  %s%-10s %-5s %-7s %-22s %s\n", e->at_ns < 0 ? "-" : "+",
                control_format_time((uint64_t)(e->at_ns < 0 ? -e->at_ns : e->at_ns), when),
                e->other ? "other" : "this", e->severity, e->kind, e->text);
    }
}

void drill_report_text(const struct drill_report *r, bool colour, FILE *out)
{
    static const char *const explained[DRILL_STEP_COUNT] = {
        [DRILL_DETECTED] = "the other host suspected this one",
        [DRILL_GRANTED] = "it was granted the next term",
        [DRILL_PROMOTED] = "the guest ran there",
        [DRILL_FIRST_OUTPUT] = "its first output left",
        [DRILL_HEALED] = "the fault was taken back",
        [DRILL_PROTECTED] = "protected again",
    };
    char amount[CONTROL_AMOUNT_MAX], when[32] = "";
    const time_t seconds = (time_t)(r->began_wall_ns / SEC(1));
    struct tm local;
    localtime_r(&seconds, &local);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
    fprintf(out, "drill %s: %s%s%s: %s\n", r->id, colour ? r->survived ? GREEN : RED : "",
            r->survived ? "SURVIVED" : "NOT SURVIVED", colour ? PLAIN : "", r->why);
    fprintf(out, "  %-14s %s on the %s of %s, %s%s, arbiter %s\n", "scenario", r->scenario, r->role,
            r->vm, when, r->forced ? ", forced" : "", r->arbiter);
    for (int i = 0; i < DRILL_STEP_COUNT; i++)
        if (r->steps[i] >= 0)
            fprintf(out, "  %-14s %-10s %s\n", drill_step_names[i],
                    control_format_time((uint64_t)r->steps[i], amount), explained[i]);
    fprintf(out, "  %-14s %" PRIu64 " to %" PRIu64 "%s\n", "term", r->term_before, r->term_after,
            r->moved ? ", the guest moved" : ", the guest stayed");
    if (r->cause[0])
        fprintf(out, "  %-14s %s\n", "cause", r->cause);
    fprintf(out, "  %-14s %" PRIu64 " at most, the longest for %s\n", "outputs held",
            r->held_frames, control_format_time(r->longest_hold_ns, amount));
    fprintf(out, "  %-14s %s\n", "resynchronised", control_format_bytes(r->resync_bytes, amount));
    print_events(r, out);
}

/* ---- JSON ---- */

static json_t *event_to_json(const struct drill_event *e)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:s}", "at_ns", (json_int_t)e->at_ns, "host",
                     e->other ? "other" : "this", "severity", e->severity, "kind", e->kind, "text",
                     e->text);
}

char *drill_report_json(const struct drill_report *r, bool compact)
{
    json_t *steps = json_object();
    for (int i = 0; i < DRILL_STEP_COUNT; i++)
        json_object_set_new(steps, drill_step_names[i],
                            r->steps[i] < 0 ? json_null() : json_integer(r->steps[i]));
    json_t *events = json_array();
    for (unsigned i = 0; i < r->event_count; i++)
        json_array_append_new(events, event_to_json(&r->events[i]));
    json_t *json =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:s, s:o, s:I, s:I, s:b, s:s, "
                  "s:I, s:I, s:I, "
                  "s:o}",
                  "schema", SCHEMA, "id", r->id, "vm", r->vm, "scenario", r->scenario, "role",
                  r->role, "arbiter", r->arbiter, "began_wall_ns", (json_int_t)r->began_wall_ns,
                  "forced", r->forced, "survived", r->survived, "why", r->why, "steps_ns", steps,
                  "term_before", (json_int_t)r->term_before, "term_after",
                  (json_int_t)r->term_after, "moved", r->moved, "cause", r->cause, "held_frames",
                  (json_int_t)r->held_frames, "longest_hold_ns", (json_int_t)r->longest_hold_ns,
                  "resync_bytes", (json_int_t)r->resync_bytes, "events", events);
    char *text = json ? json_dumps(json, compact ? JSON_COMPACT : JSON_INDENT(2)) : NULL;
    json_decref(json);
    return text;
}

static void take_text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, key));
    size_t used = 0;
    /* It ends on terminals. */
    for (; text && *text && used < size - 1; text++)
        out[used++] = *text >= ' ' && *text <= '~' ? *text : '?';
    out[used] = '\0';
}

static uint64_t take_number(const json_t *json, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(json, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void take_events(const json_t *list, struct drill_report *r)
{
    for (size_t i = 0; i < json_array_size(list) && r->event_count < DRILL_EVENTS_MAX; i++) {
        const json_t *from = json_array_get(list, i);
        struct drill_event *to = &r->events[r->event_count++];
        const char *host = json_string_value(json_object_get(from, "host"));
        to->at_ns = json_integer_value(json_object_get(from, "at_ns"));
        to->other = host && strcmp(host, "other") == 0;
        take_text(from, "severity", to->severity, sizeof(to->severity));
        take_text(from, "kind", to->kind, sizeof(to->kind));
        take_text(from, "text", to->text, sizeof(to->text));
    }
}

int drill_report_parse(const char *text, struct drill_report *r, struct error *err)
{
    *r = (struct drill_report){0};
    json_t *json = json_loads(text, 0, NULL);
    const json_t *steps = json_object_get(json, "steps_ns");
    if (!steps || json_integer_value(json_object_get(json, "schema")) != SCHEMA) {
        json_decref(json);
        return error_set(err, -EBADMSG, "this is no report of a drill");
    }
    take_text(json, "id", r->id, sizeof(r->id));
    take_text(json, "vm", r->vm, sizeof(r->vm));
    take_text(json, "scenario", r->scenario, sizeof(r->scenario));
    take_text(json, "role", r->role, sizeof(r->role));
    take_text(json, "arbiter", r->arbiter, sizeof(r->arbiter));
    r->began_wall_ns = json_integer_value(json_object_get(json, "began_wall_ns"));
    r->forced = json_is_true(json_object_get(json, "forced"));
    r->survived = json_is_true(json_object_get(json, "survived"));
    take_text(json, "why", r->why, sizeof(r->why));
    for (int i = 0; i < DRILL_STEP_COUNT; i++) {
        const json_t *step = json_object_get(steps, drill_step_names[i]);
        r->steps[i] = json_is_integer(step) ? json_integer_value(step) : -1;
    }
    r->term_before = take_number(json, "term_before");
    r->term_after = take_number(json, "term_after");
    r->moved = json_is_true(json_object_get(json, "moved"));
    take_text(json, "cause", r->cause, sizeof(r->cause));
    r->held_frames = take_number(json, "held_frames");
    r->longest_hold_ns = take_number(json, "longest_hold_ns");
    r->resync_bytes = take_number(json, "resync_bytes");
    take_events(json_object_get(json, "events"), r);
    json_decref(json);
    return 0;
}
