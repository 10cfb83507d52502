#include "vmm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fd.h"
#include "vmm/acpi.h"
#include "vmm/boot_params.h"
#include "vmm/kernel_image.h"

#define DIGEST_BLOCK  (256u << 10)
#define IMAGE_MAX     ((uint64_t)2 << 30)
#define LARGE_PAGE    ((uint64_t)2 << 20)
#define DIRECTORY_GIB 4 /* page directories, 1 GiB each */

#define PTE_PRESENT   0x1u
#define PTE_WRITE     0x2u
#define PTE_LARGE     0x80u

#define CR0_PE        0x1u
#define CR0_ET        0x10u
#define CR0_PG        0x80000000u
#define CR4_PAE       0x20u
#define EFER_LME      0x100u
#define EFER_LMA      0x400u

struct boot_image {
    const char *role; /* static */
    char *path;
    int fd;
    uint64_t size;
    struct timespec modified; /* when `digest` was taken */
    bool settled;             /* `modified` was long past then: another write would show in it */
    char digest[33];
};

static int read_at(const struct boot_image *image, uint64_t offset, void *data, uint64_t size,
                   struct error *err)
{
    uint8_t *p = data;
    while (size > 0) {
        const ssize_t n = pread(image->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n < 0 ? -errno : -EIO, "%s %s: can't read: %s", image->role,
                             image->path, n < 0 ? strerror(errno) : "it became shorter");
        p += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int digest_file(struct boot_image *image, struct error *err)
{
    uint8_t *block = malloc(DIGEST_BLOCK);
    XXH3_state_t *state = XXH3_createState();
    int rc = 0;
    if (!block || !state)
        rc = error_set(err, -ENOMEM, "%s %s: out of memory", image->role, image->path);
    else
        XXH3_128bits_reset(state);
    for (uint64_t at = 0; rc == 0 && at < image->size; at += DIGEST_BLOCK) {
        const uint64_t left = image->size - at;
        const size_t size = left < DIGEST_BLOCK ? (size_t)left : DIGEST_BLOCK;
        rc = read_at(image, at, block, size, err);
        if (rc == 0)
            XXH3_128bits_update(state, block, size);
    }
    if (rc == 0) {
        const XXH128_hash_t hash = XXH3_128bits_digest(state);
        snprintf(image->digest, sizeof(image->digest), "%016llx%016llx",
                 (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    }
    XXH3_freeState(state);
    free(block);
    return rc;
}

/* File times move in steps of some milliseconds: two writes may leave the same one. */
static void note_modified(struct boot_image *image, const struct stat *st)
{
    image->modified = st->st_mtim;
    image->settled = time(NULL) > st->st_mtim.tv_sec + 1;
}

int boot_image_open(const char *role, const char *path, struct boot_image **out, struct error *err)
{
    struct boot_image *image = calloc(1, sizeof(*image));
    if (!image || !(image->path = strdup(path))) {
        free(image);
        return error_set(err, -ENOMEM, "%s %s: out of memory", role, path);
    }
    image->role = role;
    image->fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    int rc = 0;
    if (image->fd < 0 || fstat(image->fd, &st) < 0)
        rc = error_set(err, -errno, "%s %s: %s", role, path, strerror(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > IMAGE_MAX)
        rc = error_set(err, -EINVAL, "%s %s: not a regular file of 1 byte to 2 GiB", role, path);
    if (rc == 0) {
        image->size = (uint64_t)st.st_size;
        note_modified(image, &st);
        rc = digest_file(image, err);
    }
    if (rc < 0) {
        boot_image_close(&image);
        return rc;
    }
    *out = image;
    return 0;
}

void boot_image_close(struct boot_image **image)
{
    if (!*image)
        return;
    fd_close(&(*image)->fd);
    free((*image)->path);
    free(*image);
    *image = NULL;
}

const char *boot_image_digest(const struct boot_image *image)
{
    return image->digest;
}

/* The other host was told the digest: a file that was overwritten since is not what it has. */
static int check_unchanged(struct boot_image *image, struct error *err)
{
    struct stat st;
    if (fstat(image->fd, &st) < 0)
        return error_set(err, -errno, "%s %s: %s", image->role, image->path, strerror(errno));
    if (image->settled && (uint64_t)st.st_size == image->size &&
        st.st_mtim.tv_sec == image->modified.tv_sec &&
        st.st_mtim.tv_nsec == image->modified.tv_nsec)
        return 0;
    char before[sizeof(image->digest)];
    memcpy(before, image->digest, sizeof(before));
    const int rc = digest_file(image, err);
    if (rc < 0)
        return rc;
    const bool same = memcmp(before, image->digest, sizeof(before)) == 0;
    memcpy(image->digest, before, sizeof(before));
    if (!same)
        return error_set(err, -ESTALE, "%s %s: was overwritten after the machine was made",
                         image->role, image->path);
    note_modified(image, &st);
    return 0;
}

/* Reads a piece of a file straight into guest memory. */
static int load_piece(const struct boot_image *image, uint64_t offset, uint64_t size,
                      struct gmem *memory, gpa_t gpa, uint64_t memory_size, struct error *err)
{
    uint8_t *view = gmem_view(memory, gpa, memory_size);
    if (!view)
        return error_set(err, -EFAULT, "%s %s: does not fit into the guest's memory", image->role,
                         image->path);
    const int rc = read_at(image, offset, view, size, err);
    memset(view + size, 0, memory_size - size);
    gmem_mark_dirty(memory, gpa, memory_size);
    return rc;
}

static uint64_t low_memory(const struct gmem *memory)
{
    return gmem_slot_at(memory, 0)->size;
}

static int load_kernel(struct boot_image *image, struct gmem *memory, struct kernel_image *kernel,
                       struct error *err)
{
    int rc = check_unchanged(image, err);
    if (rc < 0)
        return rc;
    uint8_t header[KERNEL_HEADER_MAX];
    const size_t size = image->size < sizeof(header) ? (size_t)image->size : sizeof(header);
    rc = read_at(image, 0, header, size, err);
    if (rc < 0)
        return rc;
    rc = kernel_image_parse(header, size, image->size, low_memory(memory), kernel, err);
    if (rc < 0) {
        error_prefix(err, "kernel %s", image->path);
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < kernel->segment_count; i++) {
        const struct kernel_segment *s = &kernel->segments[i];
        rc = load_piece(image, s->file_offset, s->file_size, memory, s->gpa, s->memory_size, err);
    }
    return rc;
}

/* As high as the kernel allows: it unpacks itself upwards from where it is loaded. */
static int load_initrd(struct boot_image *image, const struct kernel_image *kernel,
                       struct gmem *memory, gpa_t *where, struct error *err)
{
    const int rc = check_unchanged(image, err);
    if (rc < 0)
        return rc;
    uint64_t top = low_memory(memory);
    if (kernel->initrd_max < top)
        top = kernel->initrd_max + 1;
    if (image->size > top || ((top - image->size) & ~(PAGE_SIZE - 1)) < kernel->end)
        return error_set(err, -E2BIG,
                         "initrd %s: %llu MiB don't fit between the kernel and the end of the "
                         "memory it may use (%llu MiB)",
                         image->path, (unsigned long long)(image->size >> 20),
                         (unsigned long long)(top >> 20));
    *where = (top - image->size) & ~(gpa_t)(PAGE_SIZE - 1);
    return load_piece(image, 0, image->size, memory, *where, image->size, err);
}

static void put_page_tables(struct gmem *memory)
{
    uint64_t table[512] = {0};
    const gpa_t pdpt = BOOT_PAGE_TABLES + PAGE_SIZE, first = pdpt + PAGE_SIZE;
    table[0] = pdpt | PTE_PRESENT | PTE_WRITE;
    gmem_write(memory, BOOT_PAGE_TABLES, table, sizeof(table));
    for (unsigned i = 0; i < DIRECTORY_GIB; i++)
        table[i] = (first + i * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
    gmem_write(memory, pdpt, table, sizeof(table));
    for (unsigned i = 0; i < DIRECTORY_GIB; i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(table); k++)
            table[k] =
                (i * ARRAY_SIZE(table) + k) * LARGE_PAGE | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
        gmem_write(memory, first + i * PAGE_SIZE, table, sizeof(table));
    }
}

/* Flat segments, as the selectors of boot_set_registers() say. */
static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};

static int put_command_line(const char *text, const struct kernel_image *kernel,
                            struct gmem *memory, struct error *err)
{
    const size_t length = strlen(text);
    if (length > kernel->command_line_max || length >= BOOT_COMMAND_LINE_MAX)
        return error_set(err, -E2BIG, "command line of %zu characters: the kernel takes %u", length,
                         kernel->command_line_max);
    return gmem_write(memory, BOOT_COMMAND_LINE, text, length + 1);
}

static int put_acpi(struct gmem *memory, unsigned vcpus, struct error *err)
{
    uint8_t *view = gmem_view(memory, BOOT_ACPI, BOOT_ACPI_SIZE);
    if (!view)
        return error_set(err, -EFAULT, "ACPI tables: the guest has too little memory");
    memset(view, 0, BOOT_ACPI_SIZE);
    const size_t used = acpi_build(view, BOOT_ACPI_SIZE, BOOT_ACPI, vcpus);
    gmem_mark_dirty(memory, BOOT_ACPI, BOOT_ACPI_SIZE);
    return used ? 0 : error_set(err, -E2BIG, "ACPI tables: no room for %u vCPUs", vcpus);
}

int boot_load(const struct boot_source *source, struct gmem *memory, unsigned vcpus,
              struct boot_entry *entry, struct error *err)
{
    struct kernel_image kernel;
    struct boot_params_input input = {.kernel = &kernel,
                                      .memory_size = gmem_size(memory),
                                      .command_line = BOOT_COMMAND_LINE,
                                      .rsdp = BOOT_ACPI};
    int rc = load_kernel(source->kernel, memory, &kernel, err);
    if (rc == 0 && source->initrd) {
        input.initrd_size = source->initrd->size;
        rc = load_initrd(source->initrd, &kernel, memory, &input.initrd, err);
    }
    if (rc == 0)
        rc = put_command_line(source->command_line, &kernel, memory, err);
    if (rc == 0)
        rc = put_acpi(memory, vcpus, err);
    if (rc < 0)
        return rc;
    struct boot_params params;
    boot_params_build(&input, &params);
    gmem_write(memory, BOOT_PARAMS, &params, sizeof(params));
    gmem_write(memory, BOOT_GDT, gdt, sizeof(gdt));
    put_page_tables(memory);
    *entry = (struct boot_entry){.rip = kernel.entry, .rsi = BOOT_PARAMS, .rsp = BOOT_STACK_TOP};
    return 0;
}

void boot_set_registers(const struct boot_entry *entry, struct kvm_regs *regs,
                        struct kvm_sregs2 *sregs)
{
    const struct kvm_segment code = {
        .selector = 0x10, .limit = 0xffffffff, .type = 0xb, .present = 1, .s = 1, .l = 1, .g = 1};
    const struct kvm_segment data = {
        .selector = 0x18, .limit = 0xffffffff, .type = 0x3, .present = 1, .s = 1, .db = 1, .g = 1};
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->gdt = (struct kvm_dtable){.base = BOOT_GDT, .limit = sizeof(gdt) - 1};
    sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs->cr3 = BOOT_PAGE_TABLES;
    sregs->cr4 |= CR4_PAE;
    sregs->efer |= EFER_LME | EFER_LMA;
    *regs =
        (struct kvm_regs){.rip = entry->rip, .rsi = entry->rsi, .rsp = entry->rsp, .rflags = 0x2};
}
