/* Who dirtied what: one log per machine, whatever the source.
 *
 *   dirty = what the hypervisor saw the vCPUs write + what this process wrote itself (gmem marks)
 *
 * Threads: start, look, collect and stop belong to the machine's controlling thread. The guest may
 * run during start() and look(), and stands still during collect(), unless the source says
 * otherwise: a page written during a look is reported now or next time, never lost. */
#ifndef KEMARI_DIRTYLOG_DIRTYLOG_H
#define KEMARI_DIRTYLOG_DIRTYLOG_H

#include <sys/types.h>

#include "base/error.h"
#include "dirtylog/dirty_set.h"
#include "gmem/gmem.h"

struct dirtylog;

/* What a source of dirty pages provides. */
struct dirtylog_ops {
    const char *name;
    /* Begins to track. Pages written before may or may not be reported: the caller treats all of
     * memory as dirty at this moment. */
    int (*start)(void *context, struct error *err);
    /* ORs what was written since start or the last collect into `set` and re-arms tracking for
     * exactly those pages. A source without look() does this while the guest runs, too. */
    int (*collect)(void *context, struct dirty_set *set, struct error *err);
    /* May be NULL. While the guest runs: ORs pages that were written since start or the last
     * collect and that no look told since. The next collect() tells them again. */
    int (*look)(void *context, struct dirty_set *set, struct error *err);
    void (*stop)(void *context);
    void (*destroy)(void *context);
};

/* The KVM dirty bitmap of all slots of `memory`, with manual protect (KVM API §4.37, §4.112,
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2). `vm_fd` and `memory` are borrowed; the slots were registered
 * with KVM under the ids that gmem gives them. */
int dirtylog_kvm_create(int vm_fd, struct gmem *memory, struct dirtylog **out, struct error *err);

/* What process `pid` writes to its shared mappings of `memory`'s file, when the tracker library was
 * loaded into it (dirtylog/tracker.h): a guest that runs in another process. Linux 6.7; -ENOTSUP or
 * -EPERM with the reason when it can't be tracked. `memory` is borrowed. `workers` threads share
 * the work (dirtylog/sweep.h), 0: as many as pay. */
int dirtylog_pagemap_create(pid_t pid, struct gmem *memory, unsigned workers, struct dirtylog **out,
                            struct error *err);
/* Whether this kernel can do that: 0, or -ENOTSUP with the reason. */
int dirtylog_pagemap_probe(struct error *err);

/* The same by the soft-dirty bits of the process's page table, without a library in it: any Linux
 * that is built with CONFIG_MEM_SOFT_DIRTY; -ENOTSUP with the reason, also for memory of
 * huge-pages. The guest must stand still during collect(), and nobody else may clear the process's
 * bits. */
int dirtylog_softdirty_create(pid_t pid, struct gmem *memory, unsigned workers,
                              struct dirtylog **out, struct error *err);
/* Tried with a page of this process. */
int dirtylog_softdirty_probe(struct error *err);

/* For other sources and for tests. Takes over `context`. */
int dirtylog_create(const struct dirtylog_ops *ops, void *context, struct gmem *memory,
                    struct dirtylog **out, struct error *err);
void dirtylog_destroy(struct dirtylog **log);

const char *dirtylog_name(const struct dirtylog *log);

/* Calling start() twice, or look() or collect() before start(), is a bug (assertion). stop() may be
 * called in any state. */
int dirtylog_start(struct dirtylog *log, struct error *err);
int dirtylog_look(struct dirtylog *log, struct dirty_set *set, struct error *err);
int dirtylog_collect(struct dirtylog *log, struct dirty_set *set, struct error *err);
void dirtylog_stop(struct dirtylog *log);

/* Whether a look leaves more to tell to the next collect() than what was written since. */
bool dirtylog_wants_park(const struct dirtylog *log);

#endif
