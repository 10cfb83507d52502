/* What the tracker library (tracker_preload.c), inside another process, and dirtylog/pagemap.c,
 * outside, know of each other: one environment variable. What the library did is seen from outside
 * by asking the kernel, so there is nothing else.
 *
 * Constants of Linux 6.7 that the headers of older distributions lack (linux/userfaultfd.h,
 * linux/fs.h). */
#ifndef KEMARI_DIRTYLOG_TRACKER_WIRE_H
#define KEMARI_DIRTYLOG_TRACKER_WIRE_H

#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* "DEVICE:INODE", decimal, as stat() tells them, of the file whose shared mappings are tracked. */
#define TRACKER_ENVIRONMENT "KEMARI_TRACK_FILE"

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define TRACKER_FEATURES                                                                           \
    (UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

#ifndef PAGEMAP_SCAN
struct page_region {
    __u64 start, end, categories;
};

struct pm_scan_arg {
    __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN          _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN       (1 << 1)
#define PM_SCAN_WP_MATCHING   (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#endif

#endif
