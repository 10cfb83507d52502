/* What the heartbeat's thread asks the host for, so that it is never late; it does without where it
 * is refused. */
#ifndef KEMARI_HEARTBEAT_PRIVILEGES_H
#define KEMARI_HEARTBEAT_PRIVILEGES_H

#include "base/types.h"

#define HEARTBEAT_PRIORITY   50           /* of SCHED_FIFO */
#define HEARTBEAT_STACK_SIZE (512u << 10) /* bytes, all of them locked */
#define HEARTBEAT_STATE_MAX  (256u << 10) /* what is locked beside it is smaller */

/* Real-time priority for the calling thread: 0, or -EPERM. */
int privileges_take_realtime(void);

/* Whether a thread of this process would get that priority, and whether `threads` heartbeats could
 * lock their memory: 0, or -errno of what refused. Nothing is left of the attempt. */
int privileges_try_realtime(void);
int privileges_try_lock(unsigned threads);

#endif
