/* The machine's I/O thread: a libevent loop for the backends of devices. Its callbacks take the
 * device lock themselves. */
#ifndef KEMARI_VMM_IO_THREAD_H
#define KEMARI_VMM_IO_THREAD_H

#include "base/error.h"

struct event_base;
struct io_thread;

/* Makes the loop; events may be added to it at once, they are served after io_thread_start(). */
int io_thread_create(struct io_thread **out, struct error *err);
struct event_base *io_thread_events(struct io_thread *io);
int io_thread_start(struct io_thread *io, struct error *err);

/* Ends and joins the thread. A callback that waits for the device lock must be able to get it. */
void io_thread_stop(struct io_thread *io);

/* Frees the loop, after the events on it. */
void io_thread_destroy(struct io_thread **io);

#endif
