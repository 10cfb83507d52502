/* Writes of another process to guest memory that both map (stock QEMU: its vCPUs, with KVM or TCG,
 * and its device models alike), by PAGEMAP_SCAN of that process's pagemap.
 *
 * The tracker library inside it has registered the mappings for asynchronous write protection. A
 * scan reports the pages that aren't protected, which are those written since the last one, and
 * protects them again, in one step for each page: what is written meanwhile is reported by this
 * scan or the next.
 *
 * What the library did is not believed but asked: the kernel refuses a scan that is to check for
 * the registration (PM_SCAN_CHECK_WPASYNC). */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "dirtylog/tracker_wire.h"

/* A process may split a mapping by madvise() of parts, and maps the memory in few pieces. */
#define EXTENTS_MAX 64
#define REGIONS_MAX 1024 /* of written pages that one system call reports */

struct extent {
    uint64_t start, size; /* in the process, bytes */
    uint64_t offset;      /* in the file: the dense page index, in bytes */
};

struct pagemap {
    int fd;
    pid_t pid;
    struct gmem *memory;
    size_t extent_count;
    struct extent extents[EXTENTS_MAX];
    struct page_region regions[REGIONS_MAX];
};

static void take_regions(struct dirty_set *set, const struct extent *e,
                         const struct page_region *regions, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        assert(regions[r].start >= e->start && regions[r].end <= e->start + e->size);
        for (uint64_t at = regions[r].start; at < regions[r].end; at += PAGE_SIZE)
            dirty_set_add(set, (at - e->start + e->offset) >> PAGE_SHIFT);
    }
}

static int scan(struct pagemap *log, const struct extent *e, struct dirty_set *set,
                struct error *err)
{
    const uint64_t end = e->start + e->size;
    for (uint64_t at = e->start; at < end;) {
        struct pm_scan_arg arg = {.size = sizeof(arg),
                                  .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                                  .start = at,
                                  .end = end,
                                  .vec = (uintptr_t)log->regions,
                                  .vec_len = REGIONS_MAX,
                                  .category_mask = PAGE_IS_WRITTEN,
                                  .return_mask = PAGE_IS_WRITTEN};
        const int count = ioctl(log->fd, PAGEMAP_SCAN, &arg);
        if (count < 0 && errno == EPERM)
            return error_set(err, -EPERM,
                             "dirty log: the memory of process %d isn't registered for tracking",
                             (int)log->pid);
        if (count < 0)
            return error_set(err, -errno, "dirty log: PAGEMAP_SCAN of process %d: %s",
                             (int)log->pid, strerror(errno));
        take_regions(set, e, log->regions, (size_t)count);
        assert(arg.walk_end > at);
        at = arg.walk_end;
    }
    return 0;
}

static int pagemap_collect(void *context, struct dirty_set *set, struct error *err)
{
    struct pagemap *log = context;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < log->extent_count; i++)
        rc = scan(log, &log->extents[i], set, err);
    return rc;
}

/* The first scan reports everything and protects it. */
static int pagemap_start(void *context, struct error *err)
{
    struct pagemap *log = context;
    struct dirty_set all;
    if (dirty_set_init(&all, gmem_page_count(log->memory)) < 0)
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    const int rc = pagemap_collect(log, &all, err);
    dirty_set_free(&all);
    return rc;
}

/* Pages stay protected, and each costs one more fault when it is written. */
static void pagemap_stop(void *context)
{
    (void)context;
}

static void pagemap_destroy(void *context)
{
    struct pagemap *log = context;
    fd_close(&log->fd);
    free(log);
}

static const struct dirtylog_ops pagemap_ops = {
    .name = "pagemap",
    .start = pagemap_start,
    .collect = pagemap_collect,
    .stop = pagemap_stop,
    .destroy = pagemap_destroy,
};

/* ---- where the memory is in the other process ---- */

static int compare_extents(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Every page is mapped once, shared: a page in two places would have to be asked for in both. */
static int check_cover(struct pagemap *log, struct error *err)
{
    uint64_t next = 0;
    qsort(log->extents, log->extent_count, sizeof(log->extents[0]), compare_extents);
    for (size_t i = 0; i < log->extent_count; i++) {
        const struct extent *e = &log->extents[i];
        if (e->offset < next)
            return error_set(err, -ENOTSUP, "dirty log: process %d maps guest memory twice",
                             (int)log->pid);
        if (e->offset > next)
            break;
        next += e->size;
    }
    if (next != gmem_size(log->memory))
        return error_set(err, -ENXIO,
                         "dirty log: process %d maps %" PRIu64 " of %" PRIu64
                         " bytes of guest memory",
                         (int)log->pid, next, gmem_size(log->memory));
    return 0;
}

/* A line of proc(5) maps: "start-end perms offset major:minor inode path". */
static int take_line(struct pagemap *log, const char *line, const struct stat *file,
                     struct error *err)
{
    uint64_t start, end, offset, inode;
    unsigned major_number, minor_number;
    char rights[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &start, &end, rights,
               &offset, &major_number, &minor_number, &inode) != 7 ||
        inode != file->st_ino || makedev(major_number, minor_number) != file->st_dev ||
        rights[1] != 'w')
        return 0;
    if (log->extent_count == EXTENTS_MAX)
        return error_set(err, -ENOTSUP, "dirty log: process %d maps guest memory in over %d pieces",
                         (int)log->pid, EXTENTS_MAX);
    log->extents[log->extent_count++] = (struct extent){start, end - start, offset};
    return 0;
}

static int find_extents(struct pagemap *log, struct error *err)
{
    char path[64], line[4096 + 128];
    struct stat file;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)log->pid);
    FILE *maps = fopen(path, "re");
    if (!maps || fstat(gmem_fd(log->memory), &file) < 0) {
        const int rc = error_set(err, -errno, "dirty log: %s: %s", path, strerror(errno));
        if (maps)
            fclose(maps);
        return rc;
    }
    int rc = 0;
    while (rc == 0 && fgets(line, sizeof(line), maps))
        rc = take_line(log, line, &file, err);
    fclose(maps);
    return rc < 0 ? rc : check_cover(log, err);
}

static int probe_scan(void)
{
    struct pm_scan_arg arg = {.size = sizeof(arg)};
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int rc = ioctl(fd, PAGEMAP_SCAN, &arg) < 0 && errno == ENOTTY ? -ENOTSUP : 0;
    fd_close(&fd);
    return rc;
}

static int probe_protection(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = TRACKER_FEATURES};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0)
        return -errno;
    const int rc = ioctl(fd, UFFDIO_API, &api) < 0 ? -ENOTSUP : 0;
    fd_close(&fd);
    return rc;
}

int dirtylog_pagemap_probe(struct error *err)
{
    if (probe_scan() < 0)
        return error_set(err, -ENOTSUP,
                         "dirty log: this kernel has no PAGEMAP_SCAN (Linux 6.7), without which "
                         "what another process writes can't be told: use a newer kernel");
    if (probe_protection() < 0)
        return error_set(err, -ENOTSUP,
                         "dirty log: this kernel has no userfaultfd with WP_ASYNC (Linux 6.7), "
                         "without which what another process writes can't be told: use a newer "
                         "kernel, with CONFIG_PTE_MARKER_UFFD_WP");
    return 0;
}

int dirtylog_pagemap_create(pid_t pid, struct gmem *memory, struct dirtylog **out,
                            struct error *err)
{
    *out = NULL;
    const int able = dirtylog_pagemap_probe(err);
    if (able < 0)
        return able;
    struct pagemap *log = calloc(1, sizeof(*log));
    if (!log)
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    *log = (struct pagemap){.pid = pid, .memory = memory};
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
    log->fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = log->fd < 0 ? error_set(err, -errno, "dirty log: %s: %s", path, strerror(errno)) : 0;
    if (rc == 0)
        rc = find_extents(log, err);
    /* Memory that nobody registered is found out now. */
    if (rc == 0)
        rc = pagemap_start(log, err);
    if (rc < 0) {
        pagemap_destroy(log);
        return rc;
    }
    return dirtylog_create(&pagemap_ops, log, memory, out, err);
}
