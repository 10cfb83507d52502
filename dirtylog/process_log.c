#include "dirtylog/process_log.h"

#include <assert.h>
#include <errno.h>

#include "base/types.h"

static const struct {
    const char *name;
    int (*probe)(struct error *err);
    int (*create)(pid_t pid, struct gmem *memory, unsigned workers, struct dirtylog **out,
                  struct error *err);
} logs[] = {
    [PROCESS_LOG_PAGEMAP] = {"pagemap", dirtylog_pagemap_probe, dirtylog_pagemap_create},
    [PROCESS_LOG_SOFTDIRTY] = {"softdirty", dirtylog_softdirty_probe, dirtylog_softdirty_create},
};

int process_log_choose(enum process_log wanted, enum process_log *chosen, struct error *err)
{
    *chosen = wanted;
    if (wanted != PROCESS_LOG_AUTO)
        return logs[wanted].probe(err);
    struct error why[ARRAY_SIZE(logs)] = {0};
    for (*chosen = PROCESS_LOG_PAGEMAP; *chosen < ARRAY_SIZE(logs); (*chosen)++)
        if (logs[*chosen].probe(&why[*chosen]) == 0)
            return 0;
    return error_set(err, -ENOTSUP, "%s; %s", why[PROCESS_LOG_PAGEMAP].text,
                     why[PROCESS_LOG_SOFTDIRTY].text);
}

int process_log_create(enum process_log chosen, pid_t pid, struct gmem *memory,
                       struct dirtylog **out, struct error *err)
{
    assert(chosen != PROCESS_LOG_AUTO);
    return logs[chosen].create(pid, memory, 0, out, err);
}

const char *process_log_name(enum process_log chosen)
{
    assert(chosen != PROCESS_LOG_AUTO);
    return logs[chosen].name;
}
