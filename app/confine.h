/* What this process will never ask of the kernel is refused to it from the start, and so to whoever
 * takes it over through a guest. */
#ifndef KEMARI_APP_CONFINE_H
#define KEMARI_APP_CONFINE_H

#include "base/error.h"

/* Puts a seccomp filter on this process and all it starts, for good: calls that change the kernel,
 * the mounts, the clock or other processes fail with EPERM, and no program that is executed gains
 * privileges. Before any thread exists. -ENOSYS or the like where the kernel has no seccomp. */
int confine_process(struct error *err);

/* Gives up all capabilities but those that the daemon and its fence agents need, for good, and for
 * what is executed, too. Before any thread exists. */
int confine_capabilities(struct error *err);

#endif
