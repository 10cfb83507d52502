/* Writes of another process to guest memory that both map (stock QEMU: its vCPUs, with KVM or TCG,
 * and its device models alike), by the soft-dirty bits of its page table, which Linux has had since
 * 3.11 where it is built with CONFIG_MEM_SOFT_DIRTY: /proc/PID/pagemap tells them and 4 written to
 * /proc/PID/clear_refs clears them and protects every page, so that the next write sets its bit
 * again. No library inside the process is needed.
 *
 * The bits are cleared for the whole process at once, by another system call than the one that
 * reads them: what is written between the two would be lost. So they are cleared only while the
 * process writes nothing, that is by collect() with the guest parked, or by start(), after which
 * all of memory counts as dirty; while the guest runs, look() reads and clears nothing:
 *
 *   collect (parked)   look          look                   collect (parked)
 *   read, clear        read          read                   read, clear
 *   ──┼──── A ──────────┼──── B ──────┼──── A, C ────────────┼──
 *                       told: A       told: B                told: A, B, C
 *
 * A look tells the pages that none told since the bits were cleared, or it would tell all of them
 * each time; that A was written again only the next collect() can know, which tells everything.
 *
 * A bit is lost when the kernel takes the page out of the process's page table, as it may with
 * pages of a shared file, to swap them out or to make huge pages of them. So the memory is locked,
 * which holds for all who map it, and a kernel that may make huge pages of shared memory is
 * refused. And start() sees to it that every page is there when the bits are cleared: from then on
 * one that isn't counts as written and is fetched again.
 *
 * What this doesn't see: memory of hugetlbfs, which is refused, and writes by devices to pages that
 * were pinned before the bits were cleared: a parked guest has no request under way, see
 * checkpoint/machine_ops.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "dirtylog/extents.h"
#include "dirtylog/pagemap_entry.h"
#include "dirtylog/sweep.h"

#define SHARED_HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

#define ENTRIES_MAX       8192u /* pages that one system call reads about: 64 KiB */

struct softdirty {
    int pagemap_fd, clear_fd, memory_fd; /* of /proc/PID: pagemap, clear_refs, mem */
    pid_t pid;
    struct gmem *memory;
    struct sweep *sweep;
    struct dirty_set told; /* by looks since the bits were cleared */
    struct dirty_set seen; /* by the look that is under way */
    bool locked;           /* the memory */
    uint64_t entries[SWEEP_WORKERS_MAX][ENTRIES_MAX];
};

static int fail(const struct softdirty *log, const char *file, int code, struct error *err)
{
    return error_set(err, code, "dirty log: /proc/%d/%s: %s", (int)log->pid, file, strerror(-code));
}

/* One byte is read, and with it the page is in the process's page table. */
static int fetch(const struct softdirty *log, uint64_t address, struct error *err)
{
    uint8_t byte;
    const ssize_t size = pread(log->memory_fd, &byte, 1, (off_t)address);
    return size == 1 ? 0 : fail(log, "mem", size < 0 ? -errno : -EFAULT, err);
}

/* Reads entries of `pages` pages from `address` on. */
static int read_entries(const struct softdirty *log, uint64_t address, uint64_t *entries,
                        size_t pages, struct error *err)
{
    const size_t size = pages * sizeof(*entries);
    const off_t at = (off_t)((address >> PAGE_SHIFT) * sizeof(*entries));
    size_t done = 0;
    while (done < size) {
        const ssize_t rc =
            pread(log->pagemap_fd, (uint8_t *)entries + done, size - done, at + (off_t)done);
        /* A process that has ended has no memory: 0. */
        if (rc <= 0)
            return fail(log, "pagemap", rc < 0 ? -errno : -ESRCH, err);
        done += (size_t)rc;
    }
    return 0;
}

static int read_piece(void *context, unsigned worker, const struct sweep_piece *piece,
                      struct dirty_set *set, struct error *err)
{
    struct softdirty *log = context;
    uint64_t *entries = log->entries[worker];
    const uint64_t pages = piece->size >> PAGE_SHIFT;
    for (uint64_t first = 0; first < pages; first += ENTRIES_MAX) {
        const size_t count = pages - first < ENTRIES_MAX ? (size_t)(pages - first) : ENTRIES_MAX;
        const uint64_t address = piece->start + (first << PAGE_SHIFT);
        int rc = read_entries(log, address, entries, count, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            if (pagemap_entry_written(entries[i]))
                dirty_set_add(set, piece->index + first + i);
            if (!pagemap_entry_is_there(entries[i]))
                rc = fetch(log, address + (i << PAGE_SHIFT), err);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int clear_bits(int fd)
{
    return pwrite(fd, "4", 1, 0) == 1 ? 0 : -errno;
}

static int clear(struct softdirty *log, struct error *err)
{
    dirty_set_clear(&log->told);
    const int rc = clear_bits(log->clear_fd);
    return rc < 0 ? fail(log, "clear_refs", rc, err) : 0;
}

/* With the guest parked. */
static int softdirty_collect(void *context, struct dirty_set *set, struct error *err)
{
    struct softdirty *log = context;
    const int rc = sweep_run(log->sweep, read_piece, log, set, err);
    return rc < 0 ? rc : clear(log, err);
}

static int softdirty_look(void *context, struct dirty_set *set, struct error *err)
{
    struct softdirty *log = context;
    dirty_set_clear(&log->seen);
    const int rc = sweep_run(log->sweep, read_piece, log, &log->seen, err);
    if (rc < 0)
        return rc;
    const struct dirty_set *seen = &log->seen;
    for (uint64_t i = dirty_set_next(seen, 0); i < seen->page_count;
         i = dirty_set_next(seen, i + 1)) {
        if (dirty_set_has(&log->told, i))
            continue;
        dirty_set_add(set, i);
        dirty_set_add(&log->told, i);
    }
    return 0;
}

/* Everything is dirty anyway: what is written between the two is in it. */
static int softdirty_start(void *context, struct error *err)
{
    struct softdirty *log = context;
    dirty_set_clear(&log->seen);
    const int rc = sweep_run(log->sweep, read_piece, log, &log->seen, err);
    return rc < 0 ? rc : clear(log, err);
}

/* Pages stay protected, and each costs one more fault when it is written. */
static void softdirty_stop(void *context)
{
    (void)context;
}

static int lock_memory(struct softdirty *log, struct error *err)
{
    for (size_t i = 0; i < gmem_slot_count(log->memory); i++) {
        const struct gmem_slot *s = gmem_slot_at(log->memory, i);
        log->locked = true;
        if (mlock(s->host, s->size) < 0)
            return error_set(err, -errno,
                             "dirty log: guest memory can't be locked, and what is swapped out "
                             "loses its soft-dirty bits: run kemarid by its unit "
                             "(LimitMEMLOCK=infinity): %s",
                             strerror(errno));
    }
    return 0;
}

static void unlock_memory(struct softdirty *log)
{
    for (size_t i = 0; log->locked && i < gmem_slot_count(log->memory); i++) {
        const struct gmem_slot *s = gmem_slot_at(log->memory, i);
        munlock(s->host, s->size);
    }
}

static void softdirty_destroy(void *context)
{
    struct softdirty *log = context;
    sweep_destroy(&log->sweep);
    unlock_memory(log);
    dirty_set_free(&log->told);
    dirty_set_free(&log->seen);
    fd_close(&log->pagemap_fd);
    fd_close(&log->clear_fd);
    fd_close(&log->memory_fd);
    free(log);
}

static const struct dirtylog_ops softdirty_ops = {
    .name = "softdirty",
    .start = softdirty_start,
    .collect = softdirty_collect,
    .look = softdirty_look,
    .stop = softdirty_stop,
    .destroy = softdirty_destroy,
};

/* ---- can it be done? ---- */

static int soft_dirty_of(int fd, const void *page)
{
    uint64_t entry;
    const off_t at = (off_t)(((uintptr_t)page >> PAGE_SHIFT) * sizeof(entry));
    if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry))
        return -EIO;
    return (entry & PAGEMAP_SOFT_DIRTY) != 0;
}

/* A kernel without the bits takes the order to clear them all the same: only a page that is clean
 * after it and dirty after a write proves that they are there. */
static int try_page(volatile uint8_t *page, int pagemap_fd, int clear_fd)
{
    *page = 1;
    const int rc = clear_bits(clear_fd);
    if (rc < 0)
        return rc;
    const int clean = soft_dirty_of(pagemap_fd, (const void *)page);
    *page = 2;
    const int dirty = soft_dirty_of(pagemap_fd, (const void *)page);
    if (clean < 0 || dirty < 0)
        return -EIO;
    return !clean && dirty ? 0 : -ENOTSUP;
}

/* With a page of this process's own, in a shared file as guest memory is. */
static int try_own_memory(void)
{
    int file = memfd_create("kemari-soft-dirty", MFD_CLOEXEC);
    int pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int clear_fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    int rc =
        file < 0 || pagemap_fd < 0 || clear_fd < 0 || ftruncate(file, PAGE_SIZE) < 0 ? -errno : 0;
    void *page =
        rc < 0 ? MAP_FAILED : mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (rc == 0)
        rc = page == MAP_FAILED ? -errno : try_page(page, pagemap_fd, clear_fd);
    if (page != MAP_FAILED)
        munmap(page, PAGE_SIZE);
    fd_close(&clear_fd);
    fd_close(&pagemap_fd);
    fd_close(&file);
    return rc;
}

/* "always within_size advise [never] deny force": a kernel without huge pages has no such file. */
static int check_huge_pages(struct error *err)
{
    char text[128];
    int fd = open(SHARED_HUGE_PAGES, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t size = read(fd, text, sizeof(text) - 1);
    fd_close(&fd);
    text[size > 0 ? size : 0] = 0;
    if (strstr(text, "[never]") || strstr(text, "[deny]"))
        return 0;
    return error_set(err, -ENOTSUP,
                     "dirty log: this kernel may make huge pages of shared memory, and soft-dirty "
                     "bits get lost by that: write never to " SHARED_HUGE_PAGES);
}

int dirtylog_softdirty_probe(struct error *err)
{
    const int rc = try_own_memory();
    if (rc == -ENOTSUP)
        return error_set(err, -ENOTSUP,
                         "dirty log: this kernel has no soft-dirty bits: use one that is built "
                         "with CONFIG_MEM_SOFT_DIRTY, as Debian's are");
    if (rc < 0)
        return error_set(err, rc, "dirty log: soft-dirty bits can't be tried: %s", strerror(-rc));
    return check_huge_pages(err);
}

static int check_memory(const struct gmem *memory, struct error *err)
{
    struct statfs st;
    if (fstatfs(gmem_fd(memory), &st) < 0)
        return error_set(err, -errno, "dirty log: guest memory: %s", strerror(errno));
    if ((unsigned long)st.f_type == HUGETLBFS_MAGIC)
        return error_set(err, -ENOTSUP,
                         "dirty log: pages of hugetlbfs have no soft-dirty bits: set huge-pages = "
                         "no, or use Linux 6.7 and the dirty log pagemap");
    return 0;
}

static int open_file(const struct softdirty *log, const char *file, int flags, int *fd,
                     struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)log->pid, file);
    *fd = open(path, flags | O_CLOEXEC);
    return *fd < 0 ? fail(log, file, -errno, err) : 0;
}

static int open_log(struct softdirty *log, unsigned workers, struct error *err)
{
    struct extents extents;
    const uint64_t pages = gmem_page_count(log->memory);
    int rc = open_file(log, "pagemap", O_RDONLY, &log->pagemap_fd, err);
    if (rc == 0)
        rc = open_file(log, "clear_refs", O_WRONLY, &log->clear_fd, err);
    if (rc == 0)
        rc = open_file(log, "mem", O_RDONLY, &log->memory_fd, err);
    if (rc == 0 && (dirty_set_init(&log->told, pages) < 0 || dirty_set_init(&log->seen, pages) < 0))
        rc = error_set(err, -ENOMEM, "dirty log: out of memory");
    if (rc == 0)
        rc = extents_find(log->pid, log->memory, &extents, err);
    if (rc == 0)
        rc = lock_memory(log, err);
    if (rc == 0)
        rc = sweep_create(&extents, workers ? workers : sweep_workers_for(gmem_size(log->memory)),
                          &log->sweep, err);
    return rc;
}

int dirtylog_softdirty_create(pid_t pid, struct gmem *memory, unsigned workers,
                              struct dirtylog **out, struct error *err)
{
    *out = NULL;
    int rc = dirtylog_softdirty_probe(err);
    if (rc == 0)
        rc = check_memory(memory, err);
    if (rc < 0)
        return rc;
    struct softdirty *log = calloc(1, sizeof(*log));
    if (!log)
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    *log = (struct softdirty){
        .pid = pid, .memory = memory, .pagemap_fd = -1, .clear_fd = -1, .memory_fd = -1};
    rc = open_log(log, workers, err);
    if (rc < 0) {
        softdirty_destroy(log);
        return rc;
    }
    return dirtylog_create(&softdirty_ops, log, memory, out, err);
}
