#include "dirtylog/tracker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/types.h"

/* The library's bytes. */
__asm__(".section .rodata\n"
        ".global kemari_tracker_begin, kemari_tracker_end\n"
        "kemari_tracker_begin: .incbin \"" KEMARI_TRACKER_FILE "\"\n"
        "kemari_tracker_end: .byte 0\n"
        ".previous\n");

extern const uint8_t kemari_tracker_begin[], kemari_tracker_end[];

int tracker_open(struct error *err)
{
    int fd = memfd_create("kemari-tracker", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0)
        rc = fd_write_all(fd, kemari_tracker_begin,
                          (size_t)(kemari_tracker_end - kemari_tracker_begin));
    if (rc == 0)
        return fd;
    fd_close(&fd);
    return error_set(err, rc, "dirty log: can't make a file in memory: %s", strerror(-rc));
}

int tracker_preload_text(int library_fd, char out[TRACKER_TEXT_MAX])
{
    return snprintf(out, TRACKER_TEXT_MAX, "/proc/self/fd/%d", library_fd) < 0 ? -EINVAL : 0;
}

int tracker_memory_text(int memory_fd, char out[TRACKER_TEXT_MAX])
{
    struct stat st;
    if (fstat(memory_fd, &st) < 0)
        return -errno;
    snprintf(out, TRACKER_TEXT_MAX, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return 0;
}
