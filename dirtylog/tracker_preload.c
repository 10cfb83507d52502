/* For LD_PRELOAD, into a process whose memory is somebody else's guest (stock QEMU): every shared
 * mapping that it makes of one file is registered with a userfaultfd for asynchronous write
 * protection, and nothing else changes. The kernel then notes who is written, without a fault ever
 * reaching user space, and tells it to whoever scans the process's pagemap (dirtylog/pagemap.c).
 *
 * A userfaultfd registers only the memory of its own process, which is why this runs inside. The
 * descriptor stays open for the life of the process: closing it would end the tracking. A process
 * that is started by the tracked one inherits neither the descriptor nor this library.
 *
 * Stands alone: no other code of the project, no allocation, nothing but system calls. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dirtylog/tracker_wire.h"

/* Set before main(), read only afterwards. */
static dev_t device;
static ino_t inode;
static int fault_fd = -1;

static void complain(const char *what)
{
    fprintf(stderr, "kemari tracker: %s: %s\n", what, strerror(errno));
}

static int open_fault_fd(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = TRACKER_FEATURES};
    /* "User mode only" needs no privilege. It limits who may be kept waiting in a fault, and here
     * nobody is: writes by the kernel are noted all the same. */
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void __attribute__((constructor)) set_up(void)
{
    const char *text = getenv(TRACKER_ENVIRONMENT);
    unsigned long long d = 0, i = 0;
    if (!text || sscanf(text, "%llu:%llu", &d, &i) != 2)
        return;
    device = (dev_t)d;
    inode = (ino_t)i;
    fault_fd = open_fault_fd();
    if (fault_fd < 0)
        complain("this kernel can't track writes (userfaultfd WP_ASYNC, Linux 6.7)");
    unsetenv("LD_PRELOAD");
    unsetenv(TRACKER_ENVIRONMENT);
}

static void track(void *start, size_t size, int fd)
{
    struct stat st;
    if (fault_fd < 0 || fstat(fd, &st) < 0 || st.st_ino != inode || st.st_dev != device)
        return;
    struct uffdio_register request = {
        .range = {.start = (uintptr_t)start, .len = (size + 4095) & ~(size_t)4095},
        .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(fault_fd, UFFDIO_REGISTER, &request) < 0)
        complain("the guest's memory can't be registered");
}

static void *map(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *start = (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    const int before = errno;
    if (start != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED) && !(flags & MAP_ANONYMOUS))
        track(start, size, fd);
    errno = before;
    return start;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map(address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return map(address, size, protection, flags, fd, offset);
}
