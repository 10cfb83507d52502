/* Direct boot: puts a kernel, its initrd, command line and tables into guest memory.
 *
 * Guest memory below 1 MiB after boot_load():
 *   0x00000500  GDT (null, null, 64-bit code 0x10, data 0x18: Linux x86 boot protocol, 64-bit)
 *   0x00006000  top of a small stack
 *   0x00007000  struct boot_params, RSI points here
 *   0x00009000  page tables: PML4, PDPT, four page directories; [0, 4 GiB) mapped to itself
 *   0x00020000  command line
 *   0x000e0000  ACPI tables, RSDP first
 * The kernel lies where it prefers to, the initrd as high as it may. */
#ifndef KEMARI_VMM_BOOT_H
#define KEMARI_VMM_BOOT_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "gmem/gmem.h"

#define BOOT_GDT              0x500u
#define BOOT_STACK_TOP        0x6000u
#define BOOT_PARAMS           0x7000u
#define BOOT_PAGE_TABLES      0x9000u
#define BOOT_COMMAND_LINE     0x20000u
#define BOOT_COMMAND_LINE_MAX 0x10000u /* bytes with the terminating zero */
#define BOOT_ACPI             0xe0000u
#define BOOT_ACPI_SIZE        0x20000u
#define BOOT_LOW_END          0x100000u /* nothing else is loaded below */

/* What is loaded, kept open so that a reset finds the same files even if their names have been
 * given to others. */
struct boot_image;

struct boot_source {
    struct boot_image *kernel;
    struct boot_image *initrd; /* NULL when there is none */
    const char *command_line;  /* borrowed; never NULL */
};

/* Where the guest starts. */
struct boot_entry {
    gpa_t rip;
    gpa_t rsi;
    gpa_t rsp;
};

/* Opens and digests a file. `role` ("kernel", "initrd") appears in messages. */
int boot_image_open(const char *role, const char *path, struct boot_image **out, struct error *err);
void boot_image_close(struct boot_image **image);

/* 32 hexadecimal digits of the content's XXH3-128 and a zero. */
const char *boot_image_digest(const struct boot_image *image);

/* Parses the kernel, checks that everything fits and writes it. Fails without side effects that
 * matter: memory may have been written. */
int boot_load(const struct boot_source *source, struct gmem *memory, unsigned vcpus,
              struct boot_entry *entry, struct error *err);

/* Registers for the entry: long mode, paging on, flat segments, interrupts off. `sregs` starts as
 * the power-on state. */
void boot_set_registers(const struct boot_entry *entry, struct kvm_regs *regs,
                        struct kvm_sregs2 *sregs);

#endif
