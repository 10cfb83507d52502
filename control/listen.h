/* The Unix socket itself: who may have it, and who may come in. */
#ifndef KEMARI_CONTROL_LISTEN_H
#define KEMARI_CONTROL_LISTEN_H

#include <sys/types.h>

#include "base/error.h"

/* Binds and listens (non-blocking, close-on-exec, mode 0660, owned by `group` unless (gid_t)-1),
 * and returns the descriptor. A missing last directory is created (0755). A socket that nobody
 * serves is replaced; -EADDRINUSE when somebody does, or when something else is at `path`. Two
 * daemons that start at the same time are kept apart by a lock on the directory. */
int control_listen(const char *path, gid_t group, struct error *err);

/* Removes the socket at `path` unless it is another one than that of `inode`: a successor's. */
void control_unlisten(const char *path, ino_t inode);

/* Inode of the socket file, for the above; 0 when it is gone. */
ino_t control_socket_inode(const char *path);

/* 0 when the process at the other end of `fd` is root, our own user, or in `group`; -EPERM with a
 * sentence for it otherwise. */
int control_check_peer(int fd, gid_t group, struct error *err);

#endif
