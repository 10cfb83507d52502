/* Parsing of hostile kernel files, and what is told to the kernel about its memory. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gmem/gmem.h"
#include "test/support/runner.h"
#include "vmm/boot.h"
#include "vmm/boot_params.h"
#include "vmm/kernel_image.h"

#define LOW_MEMORY ((uint64_t)128 << 20)
#define FILE_SIZE  ((uint64_t)8 << 20)

static void make_bzimage(uint8_t *bytes)
{
    memset(bytes, 0, KERNEL_HEADER_MAX);
    struct setup_header h = {.setup_sects = 27,
                             .boot_flag = 0xaa55,
                             .jump = 0x6aeb,
                             .header = 0x53726448,
                             .version = 0x20f,
                             .loadflags = LOADED_HIGH,
                             .initrd_addr_max = 0x7fffffff,
                             .kernel_alignment = 0x200000,
                             .relocatable_kernel = 1,
                             .xloadflags = XLF_KERNEL_64,
                             .cmdline_size = 2047,
                             .pref_address = 0x1000000,
                             .init_size = 0x2000000};
    memcpy(bytes + KERNEL_SETUP_OFFSET, &h, sizeof(h));
}

static int parse(const uint8_t *bytes, size_t size, struct kernel_image *out)
{
    struct error err = {0};
    const int rc = kernel_image_parse(bytes, size, FILE_SIZE, LOW_MEMORY, out, &err);
    CU_ASSERT(rc == 0 || err.text[0] != '\0');
    return rc;
}

static void a_bzimage_is_understood(void)
{
    uint8_t bytes[KERNEL_HEADER_MAX];
    make_bzimage(bytes);
    struct kernel_image k;
    CU_ASSERT_EQUAL_FATAL(parse(bytes, sizeof(bytes), &k), 0);
    CU_ASSERT_TRUE(k.is_bzimage);
    CU_ASSERT_EQUAL(k.segment_count, 1);
    CU_ASSERT_EQUAL(k.segments[0].file_offset, 28 * 512);
    CU_ASSERT_EQUAL(k.segments[0].file_size, FILE_SIZE - 28 * 512);
    CU_ASSERT_EQUAL(k.segments[0].gpa, 0x1000000);
    CU_ASSERT_EQUAL(k.entry, 0x1000200);
    CU_ASSERT_EQUAL(k.end, 0x3000000);
    CU_ASSERT_EQUAL(k.initrd_max, 0x7fffffff);
    CU_ASSERT_EQUAL(k.command_line_max, 2047);
}

static void a_bzimage_cut_short_in_its_header_is_refused(void)
{
    uint8_t bytes[KERNEL_HEADER_MAX];
    make_bzimage(bytes);
    struct kernel_image k;
    const size_t needed = KERNEL_SETUP_OFFSET + sizeof(struct setup_header);
    for (size_t size = 0; size < needed; size++) {
        /* A copy of exactly that size, so that a sanitizer sees any byte too far. */
        uint8_t *cut = malloc(size ? size : 1);
        memcpy(cut, bytes, size);
        CU_ASSERT_EQUAL(parse(cut, size, &k), -ENOEXEC);
        free(cut);
    }
    CU_ASSERT_EQUAL(parse(bytes, needed, &k), 0);
}

/* Overwrites one field of a good header and parses. */
#define BZIMAGE_WITH(field, value)                                                                 \
    ({                                                                                             \
        uint8_t bytes_[KERNEL_HEADER_MAX];                                                         \
        make_bzimage(bytes_);                                                                      \
        struct setup_header h_;                                                                    \
        memcpy(&h_, bytes_ + KERNEL_SETUP_OFFSET, sizeof(h_));                                     \
        h_.field = (value);                                                                        \
        memcpy(bytes_ + KERNEL_SETUP_OFFSET, &h_, sizeof(h_));                                     \
        struct kernel_image k_;                                                                    \
        parse(bytes_, sizeof(bytes_), &k_);                                                        \
    })

static void hostile_bzimages_are_refused(void)
{
    CU_ASSERT_EQUAL(BZIMAGE_WITH(boot_flag, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(header, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(version, 0x20b), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(xloadflags, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(loadflags, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(kernel_alignment, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(kernel_alignment, 3), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(pref_address, 0x1000001), -ENOEXEC);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(pref_address, 0), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(pref_address, 0x80000), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(pref_address, LOW_MEMORY), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(pref_address, ~0xfffull), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(init_size, 0xffffffff), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(init_size, LOW_MEMORY - 0x1000000), 0);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(init_size, LOW_MEMORY - 0x1000000 + 1), -E2BIG);
    CU_ASSERT_EQUAL(BZIMAGE_WITH(jump, 0), -ENOEXEC); /* header ends before it begins */
    CU_ASSERT_EQUAL(BZIMAGE_WITH(jump, 0xffeb), 0);   /* longer than we know: cut */
}

static void a_bzimage_that_is_all_setup_is_refused(void)
{
    uint8_t bytes[KERNEL_HEADER_MAX];
    make_bzimage(bytes);
    struct kernel_image k;
    for (uint64_t size = 0; size <= 28 * 512 + 0x200; size += 512)
        CU_ASSERT_EQUAL(kernel_image_parse(bytes, sizeof(bytes), size, LOW_MEMORY, &k, NULL),
                        -ENOEXEC);
    CU_ASSERT_EQUAL(
        kernel_image_parse(bytes, sizeof(bytes), 28 * 512 + 0x201, LOW_MEMORY, &k, NULL), 0);
}

struct elf {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
};

static struct elf make_elf(void)
{
    struct elf e = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_entry = 0x200010,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD,
                      .p_offset = 0x1000,
                      .p_paddr = 0x200000,
                      .p_filesz = 0x800,
                      .p_memsz = 0x1000},
                     {.p_type = PT_LOAD,
                      .p_offset = 0x2000,
                      .p_paddr = 0x201000,
                      .p_filesz = 0,
                      .p_memsz = 0x5000}},
    };
    return e;
}

static int parse_elf(const struct elf *e)
{
    struct kernel_image k;
    return parse((const uint8_t *)e, sizeof(*e), &k);
}

static void an_elf_executable_is_understood(void)
{
    const struct elf e = make_elf();
    struct kernel_image k;
    CU_ASSERT_EQUAL_FATAL(parse((const uint8_t *)&e, sizeof(e), &k), 0);
    CU_ASSERT_FALSE(k.is_bzimage);
    CU_ASSERT_EQUAL(k.segment_count, 2);
    CU_ASSERT_EQUAL(k.segments[0].file_offset, 0x1000);
    CU_ASSERT_EQUAL(k.segments[0].memory_size, 0x1000);
    CU_ASSERT_EQUAL(k.entry, 0x200010);
    CU_ASSERT_EQUAL(k.end, 0x206000);
}

static void an_elf_executable_cut_short_is_refused(void)
{
    const struct elf e = make_elf();
    struct kernel_image k;
    for (size_t size = 0; size < sizeof(e); size++) {
        uint8_t *cut = malloc(size ? size : 1);
        memcpy(cut, &e, size);
        CU_ASSERT_EQUAL(parse(cut, size, &k), -ENOEXEC);
        free(cut);
    }
}

#define ELF_WITH(field, value)                                                                     \
    ({                                                                                             \
        struct elf e_ = make_elf();                                                                \
        e_.field = (value);                                                                        \
        parse_elf(&e_);                                                                            \
    })

static void hostile_elf_executables_are_refused(void)
{
    CU_ASSERT_EQUAL(ELF_WITH(header.e_ident[EI_CLASS], ELFCLASS32), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_machine, EM_AARCH64), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_type, ET_DYN), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_phoff, UINT64_MAX), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_phnum, UINT16_MAX), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_phnum, 0), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_phentsize, 8), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_entry, 0x1fffff), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(header.e_entry, 0x206000), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(segments[0].p_offset, UINT64_MAX), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(segments[0].p_offset, FILE_SIZE - 0x7ff), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(segments[0].p_filesz, 0x1001), -ENOEXEC);
    CU_ASSERT_EQUAL(ELF_WITH(segments[0].p_paddr, 0xff000), -E2BIG);
    CU_ASSERT_EQUAL(ELF_WITH(segments[0].p_paddr, UINT64_MAX), -E2BIG);
    CU_ASSERT_EQUAL(ELF_WITH(segments[1].p_memsz, LOW_MEMORY - 0x201000), 0);
    CU_ASSERT_EQUAL(ELF_WITH(segments[1].p_memsz, LOW_MEMORY - 0x201000 + 1), -E2BIG);
    CU_ASSERT_EQUAL(ELF_WITH(segments[1].p_memsz, UINT64_MAX), -E2BIG);
    CU_ASSERT_EQUAL(ELF_WITH(segments[1].p_paddr, 0x200fff), -ENOEXEC); /* overlap */
}

static void random_bytes_never_pass(void)
{
    uint8_t bytes[KERNEL_HEADER_MAX];
    struct kernel_image k;
    srand(1);
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)rand();
        CU_ASSERT(parse(bytes, sizeof(bytes), &k) < 0);
    }
}

static void the_memory_map_leaves_the_hole_out(void)
{
    struct boot_e820_entry map[4];
    CU_ASSERT_EQUAL(boot_params_memory_map((uint64_t)128 << 20, map), 3);
    CU_ASSERT(map[0].addr == 0 && map[0].size == 0x9fc00 && map[0].type == 1);
    CU_ASSERT(map[1].addr == 0x9fc00 && map[1].addr + map[1].size == 0x100000 && map[1].type == 2);
    CU_ASSERT(map[2].addr == 0x100000 && map[2].addr + map[2].size == (uint64_t)128 << 20);
    CU_ASSERT_EQUAL(boot_params_memory_map(GMEM_HOLE_START, map), 3);
    CU_ASSERT_EQUAL(map[2].addr + map[2].size, GMEM_HOLE_START);
    CU_ASSERT_EQUAL(boot_params_memory_map((uint64_t)16 << 30, map), 4);
    CU_ASSERT_EQUAL(map[2].addr + map[2].size, GMEM_HOLE_START);
    CU_ASSERT(map[3].addr == GMEM_HOLE_END && map[3].size == (uint64_t)13 << 30 &&
              map[3].type == 1);
}

static void boot_params_name_command_line_initrd_and_tables(void)
{
    const struct elf e = make_elf();
    struct kernel_image k;
    CU_ASSERT_EQUAL(parse((const uint8_t *)&e, sizeof(e), &k), 0);
    const struct boot_params_input input = {.kernel = &k,
                                            .memory_size = (uint64_t)64 << 20,
                                            .initrd = 0x3000000,
                                            .initrd_size = 0x1234,
                                            .command_line = BOOT_COMMAND_LINE,
                                            .rsdp = BOOT_ACPI};
    struct boot_params p;
    boot_params_build(&input, &p);
    CU_ASSERT_EQUAL(memcmp(&p.hdr.header, "HdrS", 4), 0);
    CU_ASSERT_EQUAL(p.hdr.type_of_loader, 0xff);
    CU_ASSERT_EQUAL(p.hdr.cmd_line_ptr, BOOT_COMMAND_LINE);
    CU_ASSERT_EQUAL(p.hdr.ramdisk_image, 0x3000000);
    CU_ASSERT_EQUAL(p.hdr.ramdisk_size, 0x1234);
    CU_ASSERT_EQUAL(p.acpi_rsdp_addr, BOOT_ACPI);
    CU_ASSERT_EQUAL(p.e820_entries, 3);
    CU_ASSERT_EQUAL(p.sentinel, 0);
}

static const struct test_case cases[] = {
    {"a bzImage is understood", a_bzimage_is_understood},
    {"a bzImage cut short in its header is refused", a_bzimage_cut_short_in_its_header_is_refused},
    {"hostile bzImages are refused", hostile_bzimages_are_refused},
    {"a bzImage that is all setup is refused", a_bzimage_that_is_all_setup_is_refused},
    {"an ELF executable is understood", an_elf_executable_is_understood},
    {"an ELF executable cut short is refused", an_elf_executable_cut_short_is_refused},
    {"hostile ELF executables are refused", hostile_elf_executables_are_refused},
    {"random bytes never pass", random_bytes_never_pass},
    {"the memory map leaves the hole out", the_memory_map_leaves_the_hole_out},
    {"boot_params name command line, initrd and tables",
     boot_params_name_command_line_initrd_and_tables},
};

TEST_MAIN("kernel-image", cases)
