#include "vmm/io_thread.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct io_thread {
    struct event_base *events;
    pthread_t thread;
    bool started;
};

static void use_threads(void)
{
    evthread_use_pthreads();
}

int io_thread_create(struct io_thread **out, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_threads);
    struct io_thread *io = calloc(1, sizeof(*io));
    if (io)
        io->events = event_base_new();
    if (!io || !io->events) {
        io_thread_destroy(&io);
        return error_set(err, -ENOMEM, "I/O thread: can't create its event loop");
    }
    *out = io;
    return 0;
}

struct event_base *io_thread_events(struct io_thread *io)
{
    return io->events;
}

static void *io_main(void *argument)
{
    struct io_thread *io = argument;
    pthread_setname_np(pthread_self(), "vm-io");
    event_base_loop(io->events, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

int io_thread_start(struct io_thread *io, struct error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rc = pthread_create(&io->thread, NULL, io_main, io);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return error_set(err, -rc, "can't start the I/O thread: %s", strerror(rc));
    io->started = true;
    return 0;
}

void io_thread_stop(struct io_thread *io)
{
    if (!io->started)
        return;
    /* Not loopbreak: it is forgotten when it comes before the loop has begun. */
    const struct timeval now = {0};
    event_base_loopexit(io->events, &now);
    pthread_join(io->thread, NULL);
    io->started = false;
}

void io_thread_destroy(struct io_thread **io)
{
    if (!*io)
        return;
    io_thread_stop(*io);
    if ((*io)->events)
        event_base_free((*io)->events);
    free(*io);
    *io = NULL;
}
