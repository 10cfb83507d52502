/* Waiting for a descriptor that somebody may interrupt: what listeners and attempts to connect of
 * every carrier do. */
#ifndef KEMARI_TRANSPORT_WAITING_H
#define KEMARI_TRANSPORT_WAITING_H

#include "base/error.h"
#include "base/types.h"

/* Waits until `fd` has one of `events` (POLLIN, POLLOUT; errors count, too), at most until
 * `deadline` (clock_now(); 0: for ever). 0, -ETIMEDOUT, -ECANCELED once `cancel_fd` is readable
 * (which comes first; -1: none), or -errno of poll. */
int waiting_for(int fd, short events, nsec_t deadline, int cancel_fd);

/* An eventfd that isn't readable until waiting_cancel(), or -errno. The caller's to close. */
int waiting_create_cancel(void);

/* Makes `cancel_fd` readable for good. Any thread, any number of times. */
void waiting_cancel(int cancel_fd);

/* What is said of a wait of the listener `uri` that ended with `rc` < 0, which is returned. */
int waiting_listener_failed(const char *uri, int rc, struct error *err);

/* Likewise of an attempt to connect to the address `text` that ended so. */
int waiting_connect_failed(const char *text, int rc, unsigned timeout_ms, struct error *err);

#endif
