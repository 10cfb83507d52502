#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fd_close(int *fd)
{
    const int saved_errno = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved_errno;
}

int fd_write_all(int fd, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        const ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, void *data, size_t size)
{
    uint8_t *p = data;
    while (size) {
        const ssize_t n = read(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ECONNRESET;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int sync_directory_of(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    int rc = 0;
    int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        rc = -errno;
    fd_close(&dir);
    free(copy);
    return rc;
}

int fd_replace_file(const char *path, const void *data, size_t size)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : fd_write_all(fd, data, size);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    fd_close(&fd);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(temporary);
    else
        rc = sync_directory_of(path);
    free(temporary);
    return rc;
}
