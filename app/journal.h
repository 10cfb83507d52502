/* Logs and events with fields, for the journal of systemd.
 *
 * Where a service manager connected our standard error to the journal, each line of the log and
 * each event is an entry of its own instead of a line of text; elsewhere nothing changes. Fields
 * beside MESSAGE, PRIORITY and SYSLOG_IDENTIFIER (docs/operators/troubleshooting.md):
 *
 *     KEMARI_VM      the machine
 *     KEMARI_AREA    of a line of the log: "primary", "heartbeat", ...
 *     KEMARI_EVENT   of an event: its kind, "failover.done"
 *     KEMARI_EVENT_ID, KEMARI_ROLE, KEMARI_TERM
 *     KEMARI_<KEY>   of an event: its own fields, in capitals */
#ifndef KEMARI_APP_JOURNAL_H
#define KEMARI_APP_JOURNAL_H

#include "base/types.h"
#include "control/events.h"

/* From now on the log goes there, if there is a journal. Before any thread exists; `vm` is borrowed
 * for good. */
void journal_begin(const char *vm);
/* Any thread. */
bool journal_is_used(void);
/* Sends an event, with this host's role and term at that time. It may wait for a journal that is
 * busy. Any thread. */
void journal_send_event(const struct control_event *event, const char *role, term_t term);

#endif
