#include "base/panic_limit.h"

#include <errno.h>
#include <stdio.h>

int panic_count_init(struct panic_count *count, const struct panic_limit *limit, struct error *err)
{
    *count = (struct panic_count){.limit = *limit};
    return limit->restarts <= PANIC_RESTARTS_MAX
               ? 0
               : error_set(err, -EINVAL, "more than %d restarts after panics can't be counted",
                           PANIC_RESTARTS_MAX);
}

bool panic_count_restart(struct panic_count *count, nsec_t now)
{
    const struct panic_limit *limit = &count->limit;
    if (limit->restarts == 0)
        return true;
    if (count->count < limit->restarts) {
        count->restarts[count->count++] = now;
        return true;
    }
    if (now - count->restarts[count->oldest] < limit->window)
        return false;
    count->restarts[count->oldest] = now;
    count->oldest = (count->oldest + 1) % limit->restarts;
    return true;
}

void panic_limit_describe(const struct panic_limit *limit, char out[PANIC_TEXT_SIZE])
{
    snprintf(out, PANIC_TEXT_SIZE,
             "the guest's kernel panicked after %u restarts for that in %.3g s: it is stopped",
             limit->restarts, (double)limit->window / 1e9);
}
