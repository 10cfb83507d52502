/* Pure construction of what the 64-bit boot protocol hands to the kernel. */
#ifndef KEMARI_VMM_BOOT_PARAMS_H
#define KEMARI_VMM_BOOT_PARAMS_H

#include <asm/bootparam.h>

#include "base/types.h"
#include "vmm/kernel_image.h"

struct boot_params_input {
    const struct kernel_image *kernel;
    uint64_t memory_size; /* bytes of RAM, laid out as gmem.h says */
    gpa_t initrd;
    uint64_t initrd_size; /* 0 when there is none */
    gpa_t command_line;
    gpa_t rsdp;
};

/* Fills `out` from nothing. */
void boot_params_build(const struct boot_params_input *input, struct boot_params *out);

/* The memory map: RAM of [0, 640 KiB less the EBDA), [1 MiB, device hole), [4 GiB, ...); the rest
 * of the first MiB is reserved. Returns the number of entries (3 or 4). */
size_t boot_params_memory_map(uint64_t memory_size, struct boot_e820_entry *out);

#endif
