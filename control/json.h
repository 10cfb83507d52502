/* What programs read: stable JSON, documented in docs/status-json.md. */
#ifndef KEMARI_CONTROL_JSON_H
#define KEMARI_CONTROL_JSON_H

#include "control/events.h"
#include "control/policy.h"
#include "control/status.h"

struct control_reply; /* control/message.h */

/* Version of the documents below; grows when a key changes its meaning or goes away, not when one
 * is added. */
#define CONTROL_JSON_SCHEMA 1

/* A malloc()ed string without a final newline; NULL when memory is out. `compact`: on one line. */
char *control_json_status(const struct control_status *status, bool compact);
char *control_json_event(const struct control_event *event);
char *control_json_policy(const struct control_policy *policy);
/* Of this program, and of the daemon that answered; NULL: none was asked. On one line. */
char *control_json_version(const struct control_reply *daemon);
/* What became of an order: 0, or a negative errno; on one line. */
char *control_json_outcome(const char *verb, int rc, const char *text);

#endif
