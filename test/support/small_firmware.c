#include "test/support/small_firmware.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/fd.h"

#define IMAGE_SIZE   (64 << 10)
#define CODE         (IMAGE_SIZE - 256)
#define RESET_VECTOR (IMAGE_SIZE - 16)

int small_firmware_make(const uint8_t *code, size_t size, struct small_firmware *out)
{
    const uint16_t back = (uint16_t)(CODE - (RESET_VECTOR + 3));
    const uint8_t jump[] = {0xe9, (uint8_t)back, (uint8_t)(back >> 8)};
    assert(size <= SMALL_FIRMWARE_CODE_MAX);
    out->fd = memfd_create("firmware", MFD_CLOEXEC);
    snprintf(out->path, sizeof(out->path), "/proc/%d/fd/%d", (int)getpid(), out->fd);
    const bool written = out->fd >= 0 && ftruncate(out->fd, IMAGE_SIZE) == 0 &&
                         pwrite(out->fd, code, size, CODE) == (ssize_t)size &&
                         pwrite(out->fd, jump, sizeof(jump), RESET_VECTOR) == sizeof(jump);
    if (written)
        return 0;
    const int rc = -errno;
    fd_close(&out->fd);
    return rc;
}

void small_firmware_remove(struct small_firmware *firmware)
{
    fd_close(&firmware->fd);
}
