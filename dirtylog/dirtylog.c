/* The thin layer over a source: checks the contract and adds our own writes. */
#include "dirtylog/dirtylog.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct dirtylog {
    const struct dirtylog_ops *ops;
    void *context;
    struct gmem *memory;
    bool started;
};

int dirtylog_create(const struct dirtylog_ops *ops, void *context, struct gmem *memory,
                    struct dirtylog **out, struct error *err)
{
    *out = malloc(sizeof(**out));
    if (!*out) {
        ops->destroy(context);
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    }
    **out = (struct dirtylog){.ops = ops, .context = context, .memory = memory};
    return 0;
}

void dirtylog_destroy(struct dirtylog **log)
{
    if (!*log)
        return;
    dirtylog_stop(*log);
    (*log)->ops->destroy((*log)->context);
    free(*log);
    *log = NULL;
}

const char *dirtylog_name(const struct dirtylog *log)
{
    return log->ops->name;
}

int dirtylog_start(struct dirtylog *log, struct error *err)
{
    assert(!log->started);
    const int rc = log->ops->start(log->context, err);
    log->started = rc == 0;
    return rc;
}

static void take_marks(void *set, size_t word, uint64_t bits)
{
    dirty_set_or(set, word, &bits, 1);
}

static int take(struct dirtylog *log,
                int (*from)(void *context, struct dirty_set *set, struct error *err),
                struct dirty_set *set, struct error *err)
{
    assert(log->started);
    const int rc = from(log->context, set, err);
    if (rc < 0)
        return rc;
    gmem_take_marks_each(log->memory, take_marks, set);
    return 0;
}

int dirtylog_collect(struct dirtylog *log, struct dirty_set *set, struct error *err)
{
    return take(log, log->ops->collect, set, err);
}

bool dirtylog_wants_park(const struct dirtylog *log)
{
    return log->ops->look != NULL;
}

int dirtylog_look(struct dirtylog *log, struct dirty_set *set, struct error *err)
{
    return take(log, log->ops->look ? log->ops->look : log->ops->collect, set, err);
}

void dirtylog_stop(struct dirtylog *log)
{
    if (log->started)
        log->ops->stop(log->context);
    log->started = false;
}
