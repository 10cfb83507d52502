#include "control/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/types.h"

#define BACKLOG    16
#define GROUPS_MAX 256 /* supplementary groups of a peer that are looked at */

static int make_address(const char *path, struct sockaddr_un *address, struct error *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path))
        return error_set(err, -ENAMETOOLONG, "control socket %s: the name is longer than %zu bytes",
                         path, sizeof(address->sun_path) - 1);
    strcpy(address->sun_path, path);
    return 0;
}

/* The directory of the socket, locked until it is closed. */
static int lock_directory(const char *path, struct error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return error_set(err, -ENOMEM, "out of memory");
    const char *directory = dirname(copy);
    int rc = 0;
    if (mkdir(directory, 0755) < 0 && errno != EEXIST)
        rc = error_set(err, -errno, "control socket %s: cannot create directory %s: %s", path,
                       directory, strerror(errno));
    int fd = rc < 0 ? -1 : open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == 0 && (fd < 0 || flock(fd, LOCK_EX) < 0))
        rc = error_set(err, -errno, "control socket %s: directory %s: %s", path, directory,
                       strerror(errno));
    if (rc < 0)
        fd_close(&fd);
    free(copy);
    return rc < 0 ? rc : fd;
}

/* Makes `path` free, if that is right. */
static int clear_stale(const char *path, const struct sockaddr_un *address, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : error_set(err, -errno, "control socket %s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -EADDRINUSE, "control socket %s: the file exists and is not a socket",
                         path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "control socket %s: %s", path, strerror(errno));
    const bool dead = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
                      errno == ECONNREFUSED;
    fd_close(&fd);
    if (!dead)
        return error_set(err, -EADDRINUSE, "another kemarid already serves %s", path);
    if (unlink(path) < 0)
        return error_set(err, -errno,
                         "control socket %s: cannot remove what a dead kemarid left: %s", path,
                         strerror(errno));
    return 0;
}

static int bind_and_listen(const char *path, const struct sockaddr_un *address, gid_t group,
                           struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "control socket %s: %s", path, strerror(errno));
    int rc = 0;
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        rc = error_set(err, -errno, "control socket %s: %s", path, strerror(errno));
        fd_close(&fd);
        return rc;
    }
    /* Nobody can connect before listen(), so the moment between does no harm. */
    if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
        rc = error_set(err, -errno, "control socket %s: cannot give it to group %u: %s", path,
                       group, strerror(errno));
    else if (chmod(path, 0660) < 0 || listen(fd, BACKLOG) < 0)
        rc = error_set(err, -errno, "control socket %s: %s", path, strerror(errno));
    if (rc < 0) {
        unlink(path);
        fd_close(&fd);
    }
    return rc < 0 ? rc : fd;
}

int control_listen(const char *path, gid_t group, struct error *err)
{
    struct sockaddr_un address;
    int rc = make_address(path, &address, err);
    if (rc < 0)
        return rc;
    int lock = lock_directory(path, err);
    if (lock < 0)
        return lock;
    rc = clear_stale(path, &address, err);
    if (rc == 0)
        rc = bind_and_listen(path, &address, group, err);
    fd_close(&lock);
    return rc;
}

ino_t control_socket_inode(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

void control_unlisten(const char *path, ino_t inode)
{
    if (inode && control_socket_inode(path) == inode)
        unlink(path);
}

static bool in_group(int fd, gid_t primary, gid_t group)
{
    if (group == (gid_t)-1)
        return false;
    if (primary == group)
        return true;
    gid_t groups[GROUPS_MAX];
    socklen_t size = sizeof(groups);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return false;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++)
        if (groups[i] == group)
            return true;
    return false;
}

int control_check_peer(int fd, gid_t group, struct error *err)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return error_set(err, -EPERM, "cannot learn who you are: %s", strerror(errno));
    if (peer.uid == 0 || peer.uid == geteuid() || in_group(fd, peer.gid, group))
        return 0;
    return error_set(err, -EPERM,
                     "user %u may not use this socket; it is for root and the control-group",
                     peer.uid);
}
