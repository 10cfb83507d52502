/* A firmware of a few instructions, for a QEMU that is started with -bios. */
#ifndef KEMARI_TEST_SUPPORT_SMALL_FIRMWARE_H
#define KEMARI_TEST_SUPPORT_SMALL_FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

#define SMALL_FIRMWARE_CODE_MAX 240 /* bytes */

struct small_firmware {
    int fd;
    char path[64]; /* of the image, while `fd` is open in this process */
};

/* `code` is what the processor begins with, in real mode: segments of data and stack at 0, no
 * stack, interrupts off. 0 or -errno. */
int small_firmware_make(const uint8_t *code, size_t size, struct small_firmware *out);
void small_firmware_remove(struct small_firmware *firmware);

#endif
