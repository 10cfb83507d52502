/* A mailbox: any thread posts, one thread reads in order. For role threads, whose events come from
 * sockets, timers, other threads and operators. */
#ifndef KEMARI_BASE_MAILBOX_H
#define KEMARI_BASE_MAILBOX_H

#include "base/error.h"
#include "base/types.h"

struct mailbox;

/* Letters of `size` bytes, copied in and out. */
int mailbox_create(size_t size, struct mailbox **out, struct error *err);
void mailbox_destroy(struct mailbox **mailbox);

/* Any thread. Never drops: memory for a letter that can't be had ends the process, as a role that
 * missed an event could do anything. */
void mailbox_post(struct mailbox *mailbox, const void *letter);

/* Waits for a letter until `deadline` (clock_now(); INT64_MAX: for ever). False when time ran out.
 */
bool mailbox_wait(struct mailbox *mailbox, void *letter, nsec_t deadline);

#endif
