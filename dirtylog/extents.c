#include "dirtylog/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static int compare(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int check_cover(struct extents *extents, pid_t pid, const struct gmem *memory,
                       struct error *err)
{
    uint64_t next = 0;
    qsort(extents->items, extents->count, sizeof(extents->items[0]), compare);
    for (size_t i = 0; i < extents->count; i++) {
        const struct extent *e = &extents->items[i];
        if (e->offset < next)
            return error_set(err, -ENOTSUP, "dirty log: process %d maps guest memory twice",
                             (int)pid);
        if (e->offset > next)
            break;
        next += e->size;
    }
    if (next != gmem_size(memory))
        return error_set(err, -ENXIO,
                         "dirty log: process %d maps %" PRIu64 " of %" PRIu64
                         " bytes of guest memory",
                         (int)pid, next, gmem_size(memory));
    return 0;
}

bool extents_parse(const char *line, const struct stat *file, struct extent *out)
{
    uint64_t start, end, offset, inode;
    unsigned major_number, minor_number;
    char rights[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &start, &end, rights,
               &offset, &major_number, &minor_number, &inode) != 7 ||
        inode != file->st_ino || makedev(major_number, minor_number) != file->st_dev ||
        rights[1] != 'w')
        return false;
    *out = (struct extent){start, end - start, offset};
    return true;
}

static int take_line(struct extents *extents, const char *line, const struct stat *file, pid_t pid,
                     struct error *err)
{
    struct extent found;
    if (!extents_parse(line, file, &found))
        return 0;
    if (extents->count == EXTENTS_MAX)
        return error_set(err, -ENOTSUP, "dirty log: process %d maps guest memory in over %d pieces",
                         (int)pid, EXTENTS_MAX);
    extents->items[extents->count++] = found;
    return 0;
}

int extents_find(pid_t pid, const struct gmem *memory, struct extents *out, struct error *err)
{
    char path[64], line[4096 + 128];
    struct stat file;
    *out = (struct extents){0};
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (!maps || fstat(gmem_fd(memory), &file) < 0) {
        const int rc = error_set(err, -errno, "dirty log: %s: %s", path, strerror(errno));
        if (maps)
            fclose(maps);
        return rc;
    }
    int rc = 0;
    while (rc == 0 && fgets(line, sizeof(line), maps))
        rc = take_line(out, line, &file, pid, err);
    fclose(maps);
    return rc < 0 ? rc : check_cover(out, pid, memory, err);
}
