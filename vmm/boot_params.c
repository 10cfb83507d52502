#include "vmm/boot_params.h"

#include <string.h>

#include "gmem/gmem.h"
#include "vmm/boot.h"

#define E820_RAM           1u
#define E820_RESERVED      2u

#define LOW_RAM_END        0x9fc00u /* 640 KiB less 1 KiB, where a BIOS would keep its data */

#define LOADER_UNDEFINED   0xffu
#define SETUP_HEADER_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG          0xaa55u
#define PROTOCOL           0x020fu

size_t boot_params_memory_map(uint64_t memory_size, struct boot_e820_entry *out)
{
    const uint64_t low = memory_size < GMEM_HOLE_START ? memory_size : GMEM_HOLE_START;
    size_t count = 0;
    out[count++] = (struct boot_e820_entry){0, LOW_RAM_END, E820_RAM};
    out[count++] = (struct boot_e820_entry){LOW_RAM_END, BOOT_LOW_END - LOW_RAM_END, E820_RESERVED};
    out[count++] = (struct boot_e820_entry){BOOT_LOW_END, low - BOOT_LOW_END, E820_RAM};
    if (memory_size > low)
        out[count++] = (struct boot_e820_entry){GMEM_HOLE_END, memory_size - low, E820_RAM};
    return count;
}

/* A vmlinux has no setup header of its own; the kernel reads these few fields of one. */
static void make_header(const struct kernel_image *kernel, struct setup_header *h)
{
    if (kernel->is_bzimage) {
        memcpy(h, kernel->setup, sizeof(*h));
        return;
    }
    h->boot_flag = BOOT_FLAG;
    h->header = SETUP_HEADER_MAGIC;
    h->version = PROTOCOL;
    h->loadflags = LOADED_HIGH;
    h->kernel_alignment = 0x1000000;
    h->cmdline_size = kernel->command_line_max;
}

void boot_params_build(const struct boot_params_input *in, struct boot_params *out)
{
    memset(out, 0, sizeof(*out));
    make_header(in->kernel, &out->hdr);
    out->hdr.type_of_loader = LOADER_UNDEFINED;
    out->hdr.cmd_line_ptr = (uint32_t)in->command_line;
    out->hdr.ramdisk_image = (uint32_t)in->initrd;
    out->hdr.ramdisk_size = (uint32_t)in->initrd_size;
    out->acpi_rsdp_addr = in->rsdp;
    out->e820_entries = (uint8_t)boot_params_memory_map(in->memory_size, out->e820_table);
}
