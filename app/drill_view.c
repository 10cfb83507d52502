#include "app/drill_view.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "control/client.h"
#include "control/json.h"

/* ---- reading ---- */

static void take_text(const json_t *object, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, size, "%s", text ? text : "");
}

static uint64_t take_number(const json_t *object, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void take_takeover(const json_t *json, struct drill_takeover *out)
{
    out->happened = json_is_true(json_object_get(json, "happened"));
    out->term = take_number(json, "term");
    take_text(json, "cause", out->cause, sizeof(out->cause));
    out->suspect = take_number(json, "suspect_ns");
    out->grant = take_number(json, "grant_ns");
    out->load = take_number(json, "load_ns");
    out->network = take_number(json, "network_ns");
    out->run = take_number(json, "run_ns");
    out->first_output = take_number(json, "first_output_ns");
}

bool drill_view_parse(const char *text, struct drill_view *v)
{
    *v = (struct drill_view){0};
    json_t *json = json_loads(text, 0, NULL);
    const json_t *replication = json_object_get(json, "replication");
    v->there = json_is_object(replication);
    take_text(json, "vm", v->vm, sizeof(v->vm));
    take_text(json, "role", v->role, sizeof(v->role));
    take_text(json, "state", v->state, sizeof(v->state));
    take_text(json, "reason", v->reason, sizeof(v->reason));
    take_text(json_object_get(json, "guest"), "state", v->guest, sizeof(v->guest));
    v->protected = json_is_true(json_object_get(json, "protected"));
    v->term = take_number(json, "term");
    v->pid = take_number(json, "pid");
    const json_t *arbiter = json_object_get(json, "arbiter");
    take_text(arbiter, "kind", v->arbiter, sizeof(v->arbiter));
    take_text(arbiter, "state", v->arbiter_state, sizeof(v->arbiter_state));
    v->held_frames = take_number(json_object_get(json, "outbox"), "frames");
    v->hold_max = take_number(json_object_get(replication, "hold"), "max_ns");
    v->bytes_sent = take_number(replication, "bytes_sent");
    const json_t *disks = json_object_get(json, "disks");
    for (size_t i = 0; i < json_array_size(disks); i++)
        v->disk_bytes_sent += take_number(json_array_get(disks, i), "sync_sent_bytes");
    take_takeover(json_object_get(json, "takeover"), &v->takeover);
    json_decref(json);
    return v->there;
}

bool drill_view_owns(const struct drill_view *v)
{
    return v->there && strcmp(v->guest, "running") == 0 &&
           (strcmp(v->role, "primary") == 0 || strcmp(v->role, "solo") == 0);
}

/* ---- asking here ---- */

void drill_view_local(const char *socket, nsec_t timeout, struct drill_view *view)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    struct control_client *client = NULL;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    char *text = NULL;
    *view = (struct drill_view){0};
    if (reply && control_client_connect(socket, &client, NULL) == 0 &&
        control_client_call(client, &request, timeout, reply, NULL) == 0 &&
        reply->kind == CONTROL_REPLY_STATUS)
        text = control_json_status(&reply->status, true);
    if (text)
        drill_view_parse(text, view);
    free(text);
    free(reply);
    control_client_close(&client);
}

void drill_view_peer(const struct peer_command *peer, nsec_t timeout, struct drill_view *view)
{
    static const char *const words[] = {"status", "--json", NULL};
    char *text = peer_command_run(peer, words, timeout, NULL);
    *view = (struct drill_view){0};
    if (text)
        drill_view_parse(text, view);
    free(text);
}
