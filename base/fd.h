/* Descriptors and short I/O: the few loops everybody needs. */
#ifndef KEMARI_BASE_FD_H
#define KEMARI_BASE_FD_H

#include "base/types.h"

/* Closes *fd if it is open, sets it to -1, keeps errno. */
void fd_close(int *fd);

/* Write or read exactly `size` bytes; 0, -errno, or -ECONNRESET when the other end closed. */
int fd_write_all(int fd, const void *data, size_t size);
int fd_read_all(int fd, void *data, size_t size);

/* Replaces the file at `path` atomically and durably (temporary file, fsync, rename, fsync of the
 * directory). 0 or -errno; the old content survives any failure. */
int fd_replace_file(const char *path, const void *data, size_t size);

#endif
