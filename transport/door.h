/* The door: a listener that lets in at most one peer at a time, and doesn't let strangers keep it.
 *
 * Every connection gets a thread for its handshake, DOOR_VISITORS_MAX at most; when all are taken,
 * the visitor who has waited longest is thrown out in favour of the new one. So silent or babbling
 * connections, one after the other or all at once, can't keep a good one out. The first that is
 * accepted is handed to door_wait(); the door is then taken, and later visitors are refused with
 * BUSY, until door_release().
 *
 * A peer that agreed on several streams (session.streams) is accepted when the last of them has
 * come: the link is then a bundle of all.
 *
 * Threads: functions may be called on any thread; door_wait() on one at a time. */
#ifndef KEMARI_TRANSPORT_DOOR_H
#define KEMARI_TRANSPORT_DOOR_H

#include "transport/session.h"
#include "transport/transport.h"

#define DOOR_VISITORS_MAX 8

struct door;

/* Takes over the listener (also on failure). `config` is copied. */
int door_open(struct listener *listener, const struct session_config *config, struct door **out,
              struct error *err);

/* What later handshakes say about this side: a new term, another role. */
void door_set_local(struct door *door, const struct session_party *local);

/* Asks the owner, too, before a peer is let in: anything but OK turns it away, see
 * session_config.admit. NULL: nobody is asked. On a visitor's thread, with the door locked; not any
 * more when this returns. */
typedef enum session_reason (*door_judge)(void *context, const struct session_party *peer,
                                          struct error *why);
void door_set_judge(struct door *door, door_judge judge, void *context);

/* Waits for an accepted peer. 0: *link and *session are the caller's. -ETIMEDOUT after `timeout_ms`
 * (0: for ever), -ECANCELED after door_shut(). -ESTALE, once per such event: a peer that proved the
 * key knows a higher term than our primary's; `session->peer` is that peer and `err` says it. */
int door_wait(struct door *door, unsigned timeout_ms, struct link **link, struct session *session,
              struct error *err);

/* The peer let in is gone: the next may come. */
void door_release(struct door *door);

/* The owner stops waiting: its door_wait() ends with -ECANCELED, whoever has arrived is sent away,
 * and the door is free. Visitors are still judged, as door_set_local() says, and another owner may
 * wait later. */
void door_leave(struct door *door);

/* Ends waiting, refuses everybody from now on. Idempotent. */
void door_shut(struct door *door);

/* Shuts, waits for all threads, frees. An accepted link that nobody fetched is destroyed. */
void door_destroy(struct door **door);

/* As listener_uri(). */
const char *door_uri(const struct door *door);

/* Why the last visitor was turned away, for `status` and the log; reason SESSION_OK and an empty
 * text when none was. Returns how many were turned away in all. */
uint64_t door_last_refusal(struct door *door, enum session_reason *reason, struct error *text);

#endif
