/* Threads that output and promotion wait for should run when they are woken, also on a host that
 * has more to do than processors: a packet of the guest passes through four of them, and each would
 * otherwise wait for its turn behind whatever else runs.
 *
 * A weight is asked for, no real-time class: most of these threads copy and send megabytes, and must
 * not lock out anybody. */
#ifndef KEMARI_BASE_PROMPT_H
#define KEMARI_BASE_PROMPT_H

#include <sys/types.h>

/* Names the calling thread (at most 15 bytes are kept) and asks for prompt scheduling. Without the
 * privilege (CAP_SYS_NICE) the thread runs as any other. */
void prompt_thread(const char *name);

/* The lowest real-time priority, for a calling thread that works for microseconds at a time and must
 * not come late. Without the privilege nothing changes. */
void prompt_realtime(void);

/* As prompt_thread() for another thread of this process for a while: from prompt_raise(), until that thread
 * itself calls prompt_lower() with the nice value it had. For somebody who waits for it. */
void prompt_raise(pid_t thread);
void prompt_lower(int nice);

#endif
