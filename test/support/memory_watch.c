#include "test/support/memory_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t *page_at(const struct gmem *memory, uint64_t index)
{
    return gmem_page(memory, gmem_gfn_at(memory, index));
}

int memory_watch_begin(struct memory_watch *watch, const struct gmem *memory)
{
    *watch = (struct memory_watch){.memory = memory, .before = malloc(gmem_size(memory))};
    if (!watch->before)
        return -ENOMEM;
    memory_watch_forget(watch);
    return 0;
}

void memory_watch_end(struct memory_watch *watch)
{
    free(watch->before);
    *watch = (struct memory_watch){0};
}

struct memory_verdict memory_watch_judge(const struct memory_watch *watch,
                                         const struct dirty_set *log)
{
    struct memory_verdict verdict = {0};
    for (uint64_t i = 0; i < gmem_page_count(watch->memory); i++) {
        if (memcmp(watch->before + (i << PAGE_SHIFT), page_at(watch->memory, i), PAGE_SIZE) == 0)
            continue;
        verdict.differing++;
        verdict.example = i;
        verdict.missing += !dirty_set_has(log, i);
    }
    return verdict;
}

void memory_watch_forget(struct memory_watch *watch)
{
    for (uint64_t i = 0; i < gmem_page_count(watch->memory); i++)
        memcpy(watch->before + (i << PAGE_SHIFT), page_at(watch->memory, i), PAGE_SIZE);
}

void memory_watch_lose(const struct dirty_set *log, uint64_t index, struct dirty_set *out)
{
    for (uint64_t i = dirty_set_next(log, 0); i < log->page_count; i = dirty_set_next(log, i + 1))
        if (i != index)
            dirty_set_add(out, i);
}
