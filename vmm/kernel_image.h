/* Pure parsing of kernel images: a Linux bzImage or an ELF64 executable. Input is the first bytes
 * of the file and the file's size, none of it trusted. */
#ifndef KEMARI_VMM_KERNEL_IMAGE_H
#define KEMARI_VMM_KERNEL_IMAGE_H

#include "base/error.h"
#include "base/types.h"

#define KERNEL_HEADER_MAX   4096 /* bytes of the file that parsing looks at */
#define KERNEL_SEGMENTS_MAX 16
#define KERNEL_SETUP_OFFSET 0x1f1 /* of the setup header in a bzImage and in boot_params */
#define KERNEL_SETUP_MAX    0x8f  /* bytes: up to the end of the space in boot_params */

struct kernel_segment {
    uint64_t file_offset;
    uint64_t file_size;
    gpa_t gpa;
    uint64_t memory_size; /* >= file_size; the rest is zero */
};

struct kernel_image {
    bool is_bzimage;
    struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
    size_t segment_count;
    gpa_t entry;
    gpa_t end;        /* first address behind what the kernel needs while it unpacks itself */
    gpa_t initrd_max; /* last address an initrd may use */
    uint32_t command_line_max;       /* bytes without the terminating zero */
    uint8_t setup[KERNEL_SETUP_MAX]; /* bzImage: the setup header, as found */
    size_t setup_size;
};

/* `low_memory` is the end of RAM below the device hole; everything that is loaded fits below it and
 * lies above 1 MiB. */
int kernel_image_parse(const uint8_t *bytes, size_t size, uint64_t file_size, uint64_t low_memory,
                       struct kernel_image *out, struct error *err);

#endif
