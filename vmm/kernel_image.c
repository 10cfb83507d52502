/* Rules: Linux Documentation/x86/boot.rst (protocol 2.12 and newer, 64-bit entry), ELF gABI. */
#include "vmm/kernel_image.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/boot.h"

#define SECTOR              512u
#define SETUP_SECTS_DEFAULT 4u
#define BOOT_FLAG           0xaa55u
#define PROTOCOL_MIN        0x020cu /* xloadflags */
#define ENTRY_64            0x200u  /* of the 64-bit entry behind the start of the kernel */
#define INITRD_MAX_DEFAULT  0x37ffffffu

_Static_assert(sizeof(struct setup_header) <= KERNEL_SETUP_MAX, "boot_params has room for it");

/* Length of the header as its second jump instruction tells it, bounded by what we know of. */
static size_t setup_length(const uint8_t *bytes)
{
    const size_t end = 0x202u + bytes[0x201];
    const size_t length = end > KERNEL_SETUP_OFFSET ? end - KERNEL_SETUP_OFFSET : 0;
    return length < sizeof(struct setup_header) ? length : sizeof(struct setup_header);
}

static int check_setup(const struct setup_header *h, struct error *err)
{
    if (h->version < PROTOCOL_MIN || !(h->xloadflags & XLF_KERNEL_64))
        return error_set(err, -ENOEXEC,
                         "bzImage of boot protocol 0x%x has no 64-bit entry; a 64-bit kernel of "
                         "Linux 3.8 or newer is needed",
                         h->version);
    if (!(h->loadflags & LOADED_HIGH))
        return error_set(err, -ENOEXEC, "bzImage is to be loaded low (zImage), not supported");
    if (!h->kernel_alignment || (h->kernel_alignment & (h->kernel_alignment - 1)) ||
        h->pref_address % PAGE_SIZE)
        return error_set(err, -ENOEXEC, "bzImage has an impossible alignment or load address");
    return 0;
}

static int parse_bzimage(const uint8_t *bytes, uint64_t file_size, uint64_t low_memory,
                         struct kernel_image *out, struct error *err)
{
    struct setup_header h = {0};
    out->setup_size = setup_length(bytes);
    memcpy(&h, bytes + KERNEL_SETUP_OFFSET, out->setup_size);
    memcpy(out->setup, &h, sizeof(h));
    int rc = check_setup(&h, err);
    if (rc < 0)
        return rc;
    const uint64_t offset = ((h.setup_sects ? h.setup_sects : SETUP_SECTS_DEFAULT) + 1u) * SECTOR;
    if (file_size <= offset + ENTRY_64)
        return error_set(err, -ENOEXEC, "bzImage ends inside its setup code");
    const uint64_t size = file_size - offset;
    const uint64_t needed = h.init_size > size ? h.init_size : size;
    if (h.pref_address < BOOT_LOW_END || h.pref_address >= low_memory ||
        needed > low_memory - h.pref_address)
        return error_set(err, -E2BIG,
                         "kernel needs %llu MiB of memory from 0x%llx on, which the guest has not",
                         (unsigned long long)(needed >> 20), (unsigned long long)h.pref_address);
    out->is_bzimage = true;
    out->segments[0] = (struct kernel_segment){
        .file_offset = offset, .file_size = size, .gpa = h.pref_address, .memory_size = size};
    out->segment_count = 1;
    out->entry = h.pref_address + ENTRY_64;
    out->end = h.pref_address + needed;
    out->initrd_max = h.initrd_addr_max ? h.initrd_addr_max : INITRD_MAX_DEFAULT;
    out->command_line_max = h.cmdline_size;
    return 0;
}

static int check_segment(const Elf64_Phdr *p, uint64_t file_size, uint64_t low_memory,
                         struct error *err)
{
    if (p->p_offset > file_size || p->p_filesz > file_size - p->p_offset ||
        p->p_filesz > p->p_memsz)
        return error_set(err, -ENOEXEC, "ELF segment lies outside the file");
    if (p->p_paddr < BOOT_LOW_END || p->p_paddr >= low_memory ||
        p->p_memsz > low_memory - p->p_paddr)
        return error_set(err, -E2BIG,
                         "ELF segment of %llu bytes at 0x%llx lies outside the guest's memory",
                         (unsigned long long)p->p_memsz, (unsigned long long)p->p_paddr);
    return 0;
}

static bool overlaps(const struct kernel_image *k, const Elf64_Phdr *p)
{
    for (size_t i = 0; i < k->segment_count; i++) {
        const struct kernel_segment *s = &k->segments[i];
        if (p->p_paddr < s->gpa + s->memory_size && s->gpa < p->p_paddr + p->p_memsz)
            return true;
    }
    return false;
}

static bool contains_entry(const struct kernel_image *k, gpa_t entry)
{
    for (size_t i = 0; i < k->segment_count; i++)
        if (entry >= k->segments[i].gpa && entry - k->segments[i].gpa < k->segments[i].memory_size)
            return true;
    return false;
}

static int add_segment(struct kernel_image *out, const Elf64_Phdr *p, uint64_t file_size,
                       uint64_t low_memory, struct error *err)
{
    const int rc = check_segment(p, file_size, low_memory, err);
    if (rc < 0)
        return rc;
    if (out->segment_count == KERNEL_SEGMENTS_MAX || overlaps(out, p))
        return error_set(err, -ENOEXEC, "ELF segments overlap or are more than %d",
                         KERNEL_SEGMENTS_MAX);
    out->segments[out->segment_count++] = (struct kernel_segment){.file_offset = p->p_offset,
                                                                  .file_size = p->p_filesz,
                                                                  .gpa = p->p_paddr,
                                                                  .memory_size = p->p_memsz};
    if (p->p_paddr + p->p_memsz > out->end)
        out->end = p->p_paddr + p->p_memsz;
    return 0;
}

static int parse_elf(const uint8_t *bytes, size_t size, uint64_t file_size, uint64_t low_memory,
                     struct kernel_image *out, struct error *err)
{
    Elf64_Ehdr h;
    if (size < sizeof(h))
        return error_set(err, -ENOEXEC, "ELF file ends inside its header");
    memcpy(&h, bytes, sizeof(h));
    if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB ||
        h.e_machine != EM_X86_64 || h.e_type != ET_EXEC)
        return error_set(err, -ENOEXEC, "ELF file is not an x86-64 executable at fixed addresses");
    if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > size ||
        h.e_phnum > (size - h.e_phoff) / sizeof(Elf64_Phdr))
        return error_set(err, -ENOEXEC, "ELF program headers are not within the first %d bytes",
                         KERNEL_HEADER_MAX);
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, bytes + h.e_phoff + i * sizeof(p), sizeof(p));
        if (p.p_type != PT_LOAD || p.p_memsz == 0)
            continue;
        const int rc = add_segment(out, &p, file_size, low_memory, err);
        if (rc < 0)
            return rc;
    }
    if (!contains_entry(out, h.e_entry))
        return error_set(err, -ENOEXEC, "ELF entry 0x%llx lies in no segment",
                         (unsigned long long)h.e_entry);
    out->entry = h.e_entry;
    out->initrd_max = INITRD_MAX_DEFAULT;
    out->command_line_max = BOOT_COMMAND_LINE_MAX - 1;
    return 0;
}

int kernel_image_parse(const uint8_t *bytes, size_t size, uint64_t file_size, uint64_t low_memory,
                       struct kernel_image *out, struct error *err)
{
    memset(out, 0, sizeof(*out));
    if (size >= SELFMAG && memcmp(bytes, ELFMAG, SELFMAG) == 0)
        return parse_elf(bytes, size, file_size, low_memory, out, err);
    const size_t needed = KERNEL_SETUP_OFFSET + sizeof(struct setup_header);
    if (size >= needed && bytes[0x1fe] == (BOOT_FLAG & 0xff) && bytes[0x1ff] == BOOT_FLAG >> 8 &&
        memcmp(bytes + 0x202, "HdrS", 4) == 0)
        return parse_bzimage(bytes, file_size, low_memory, out, err);
    return error_set(err, -ENOEXEC, "neither a Linux bzImage nor an ELF64 executable");
}
