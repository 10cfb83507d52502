/* Judges a dirty log by looking at all of the memory: a page that differs between two moments at
 * which the guest stood still was written, whoever wrote it. */
#ifndef KEMARI_TEST_SUPPORT_MEMORY_WATCH_H
#define KEMARI_TEST_SUPPORT_MEMORY_WATCH_H

#include "dirtylog/dirty_set.h"
#include "gmem/gmem.h"

struct memory_watch {
    const struct gmem *memory;
    uint8_t *before; /* all of it, as it was the last time */
};

struct memory_verdict {
    uint64_t differing; /* pages */
    uint64_t missing;   /* pages among them that the log has not */
    uint64_t example;   /* dense index of the last one that differs */
};

/* Remembers the memory as it is. 0 or -ENOMEM. */
int memory_watch_begin(struct memory_watch *watch, const struct gmem *memory);
void memory_watch_end(struct memory_watch *watch);

/* Compares each byte with what was remembered. */
struct memory_verdict memory_watch_judge(const struct memory_watch *watch,
                                         const struct dirty_set *log);
/* Remembers the memory as it is now. */
void memory_watch_forget(struct memory_watch *watch);

/* `log` without page `index`, into the initialised, empty `out`: a log that lost one. */
void memory_watch_lose(const struct dirty_set *log, uint64_t index, struct dirty_set *out);

#endif
