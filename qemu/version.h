/* Which QEMU a program is. */
#ifndef KEMARI_QEMU_VERSION_H
#define KEMARI_QEMU_VERSION_H

#include "base/error.h"
#include "base/types.h"

/* The oldest that has network cards on inherited sockets (-netdev dgram). */
#define QEMU_VERSION_MIN_MAJOR 7
#define QEMU_VERSION_MIN_MINOR 2

struct qemu_version {
    unsigned major, minor, micro;
};

/* Of what `qemu-system-x86_64 --version` says. -EBADMSG: that is no QEMU. Pure. */
int qemu_version_decode(const char *text, struct qemu_version *out, struct error *err);

bool qemu_version_is_old(const struct qemu_version *version);

/* Runs `program --version`, for at most a few seconds. -ENOENT when it can't be run. */
int qemu_version_ask(const char *program, struct qemu_version *out, struct error *err);

#endif
