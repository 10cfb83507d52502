/* Writes of another process to guest memory that both map (stock QEMU: its vCPUs, with KVM or TCG,
 * and its device models alike), by PAGEMAP_SCAN of that process's pagemap.
 *
 * The tracker library inside it has registered the mappings for asynchronous write protection. A
 * scan reports the pages that aren't protected, which are those written since the last one, and
 * protects them again, in one step for each page: what is written meanwhile is reported by this
 * scan or the next. So a scan may come at any time, and what it took before the pause costs nothing
 * in the pause.
 *
 * What the library did is not believed but asked: the kernel refuses a scan that is to check for
 * the registration (PM_SCAN_CHECK_WPASYNC). */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "dirtylog/extents.h"
#include "dirtylog/sweep.h"
#include "dirtylog/tracker_wire.h"

#define REGIONS_MAX 1024 /* of written pages that one system call reports */

struct pagemap {
    int fd;
    pid_t pid;
    struct gmem *memory;
    struct sweep *sweep;
    struct page_region regions[SWEEP_WORKERS_MAX][REGIONS_MAX];
};

static void take_regions(struct dirty_set *set, const struct sweep_piece *piece,
                         const struct page_region *regions, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        assert(regions[r].start >= piece->start && regions[r].end <= piece->start + piece->size);
        for (uint64_t at = regions[r].start; at < regions[r].end; at += PAGE_SIZE)
            dirty_set_add(set, piece->index + ((at - piece->start) >> PAGE_SHIFT));
    }
}

static int scan(void *context, unsigned worker, const struct sweep_piece *piece,
                struct dirty_set *set, struct error *err)
{
    struct pagemap *log = context;
    struct page_region *regions = log->regions[worker];
    const uint64_t end = piece->start + piece->size;
    for (uint64_t at = piece->start; at < end;) {
        struct pm_scan_arg arg = {.size = sizeof(arg),
                                  .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                                  .start = at,
                                  .end = end,
                                  .vec = (uintptr_t)regions,
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
        take_regions(set, piece, regions, (size_t)count);
        assert(arg.walk_end > at);
        at = arg.walk_end;
    }
    return 0;
}

static int pagemap_collect(void *context, struct dirty_set *set, struct error *err)
{
    struct pagemap *log = context;
    return sweep_run(log->sweep, scan, log, set, err);
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
    sweep_destroy(&log->sweep);
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

int dirtylog_pagemap_create(pid_t pid, struct gmem *memory, unsigned workers, struct dirtylog **out,
                            struct error *err)
{
    struct extents extents;
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
        rc = extents_find(pid, memory, &extents, err);
    if (rc == 0)
        rc = sweep_create(&extents, workers ? workers : sweep_workers_for(gmem_size(memory)),
                          &log->sweep, err);
    /* Memory that nobody registered is found out now. */
    if (rc == 0)
        rc = pagemap_start(log, err);
    if (rc < 0) {
        pagemap_destroy(log);
        return rc;
    }
    return dirtylog_create(&pagemap_ops, log, memory, out, err);
}
