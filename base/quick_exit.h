/* Lets the peer of a killed process know at once.
 *
 * When a process is killed the kernel frees its memory first and closes its descriptors afterwards
 * (do_exit(): exit_mm() before exit_files()). For a process with a guest inside, that is
 * milliseconds per GiB during which its TCP connections look alive. A second process that shares
 * the memory, and nothing else, keeps it from being freed: descriptors close immediately, the peer
 * reads the end of the stream, and the memory goes when that process follows, moments later. */
#ifndef KEMARI_BASE_QUICK_EXIT_H
#define KEMARI_BASE_QUICK_EXIT_H

#include "base/error.h"
#include "base/types.h"

/* Starts the process, which ends after the last thread of this one. Call once, before other threads
 * exist. */
int quick_exit_arm(struct error *err);

/* Ends it, for an orderly end. Idempotent. */
void quick_exit_disarm(void);

#endif
