/* Where another process has guest memory mapped. */
#ifndef KEMARI_DIRTYLOG_EXTENTS_H
#define KEMARI_DIRTYLOG_EXTENTS_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"
#include "gmem/gmem.h"

/* A process may split a mapping by madvise() of parts, and maps the memory in few pieces. */
#define EXTENTS_MAX 64

struct extent {
    uint64_t start, size; /* in the process, bytes */
    uint64_t offset;      /* in the file: the dense page index, in bytes */
};

struct extents {
    size_t count;
    struct extent items[EXTENTS_MAX]; /* by offset; together all of the memory, without overlap */
};

/* Reads the mappings of process `pid`: 0, -ENXIO when it maps not all of `memory`, -ENOTSUP when it
 * maps a page twice (its writes would have to be asked for in both) or in too many pieces, or
 * -errno of reading. */
int extents_find(pid_t pid, const struct gmem *memory, struct extents *out, struct error *err);

/* A line of proc(5) maps ("start-end perms offset major:minor inode path"): true, with `out` set,
 * when it is a writable mapping of `file`. Pure. */
bool extents_parse(const char *line, const struct stat *file, struct extent *out);

#endif
