/* The tracker library (tracker_preload.c), which has to run inside a process before that process's
 * writes can be logged from outside. It is carried in this program and handed over as a file in
 * memory, so that it is always the right one and needs no place on disk. */
#ifndef KEMARI_DIRTYLOG_TRACKER_H
#define KEMARI_DIRTYLOG_TRACKER_H

#include "base/error.h"

#define TRACKER_TEXT_MAX 64

/* Descriptor of the library, close-on-exec, the caller's; or -errno. */
int tracker_open(struct error *err);

/* Of a process that is about to exec and has the library at `library_fd` (not close-on-exec any
 * more) and tracks `memory_fd`: values of LD_PRELOAD and of the variable TRACKER_ENVIRONMENT
 * (tracker_wire.h), to be set there. -errno when `memory_fd` is no file. */
int tracker_preload_text(int library_fd, char out[TRACKER_TEXT_MAX]);
int tracker_memory_text(int memory_fd, char out[TRACKER_TEXT_MAX]);

#endif
