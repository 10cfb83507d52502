#include "app/elf_core.h"

#include <elf.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#define NOTE_NAME     "CORE"
#define NOTE_NAME_LEN 8 /* with padding */
#define RUN_PAGES     256

struct note {
    Elf64_Nhdr header;
    char name[NOTE_NAME_LEN];
    struct elf_prstatus status;
} __attribute__((packed)); /* notes follow each other at multiples of 4 bytes */
_Static_assert(sizeof(struct elf_prstatus) % 4 == 0, "notes are padded to 4 bytes");
static int write_at(int fd, const void *data, size_t size, uint64_t offset, struct error *err)
{
    const char *bytes = data;
    while (size > 0) {
        const ssize_t n = pwrite(fd, bytes, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n < 0 ? -errno : -EIO, "core: %s", strerror(n < 0 ? errno : EIO));
        bytes += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static int take(const struct section_set *state, const char *name, unsigned vcpu, void *out,
                size_t size, struct error *err)
{
    const struct section *section = section_set_find(state, name, vcpu);
    if (!section || section->size != size)
        return error_set(err, -EINVAL, "core: vCPU %u has no section %s of %zu bytes", vcpu, name,
                         size);
    memcpy(out, section_set_data(state, section), size);
    return 0;
}

static int fill_note(struct note *note, const struct section_set *state, unsigned vcpu,
                     struct error *err)
{
    struct kvm_regs r;
    struct kvm_sregs2 s;
    int rc = take(state, "vcpu.regs", vcpu, &r, sizeof(r), err);
    if (rc == 0)
        rc = take(state, "vcpu.sregs", vcpu, &s, sizeof(s), err);
    if (rc < 0)
        return rc;
    *note = (struct note){.header = {.n_namesz = sizeof(NOTE_NAME),
                                     .n_descsz = sizeof(struct elf_prstatus),
                                     .n_type = NT_PRSTATUS},
                          .name = NOTE_NAME};
    const struct user_regs_struct regs = {.r15 = r.r15,
                                          .r14 = r.r14,
                                          .r13 = r.r13,
                                          .r12 = r.r12,
                                          .rbp = r.rbp,
                                          .rbx = r.rbx,
                                          .r11 = r.r11,
                                          .r10 = r.r10,
                                          .r9 = r.r9,
                                          .r8 = r.r8,
                                          .rax = r.rax,
                                          .rcx = r.rcx,
                                          .rdx = r.rdx,
                                          .rsi = r.rsi,
                                          .rdi = r.rdi,
                                          .orig_rax = ~0ull,
                                          .rip = r.rip,
                                          .cs = s.cs.selector,
                                          .eflags = r.rflags,
                                          .rsp = r.rsp,
                                          .ss = s.ss.selector,
                                          .fs_base = s.fs.base,
                                          .gs_base = s.gs.base,
                                          .ds = s.ds.selector,
                                          .es = s.es.selector,
                                          .fs = s.fs.selector,
                                          .gs = s.gs.selector};
    note->status.pr_pid = (pid_t)vcpu + 1;
    _Static_assert(sizeof(note->status.pr_reg) == sizeof(regs), "the kernel's register set");
    memcpy(&note->status.pr_reg, &regs, sizeof(regs));
    return 0;
}

static uint64_t align_page(uint64_t offset)
{
    return (offset + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

static int write_headers(int fd, const struct gmem *memory, uint64_t notes, uint64_t notes_size,
                         uint64_t data, struct error *err)
{
    const size_t slots = gmem_slot_count(memory);
    const Elf64_Ehdr header = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_CORE,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof(header),
        .e_ehsize = sizeof(header),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = (uint16_t)(slots + 1),
    };
    Elf64_Phdr programs[1 + GMEM_SLOTS_MAX] = {
        {.p_type = PT_NOTE, .p_offset = notes, .p_filesz = notes_size, .p_align = 4}};
    for (size_t i = 0; i < slots; i++) {
        const struct gmem_slot *slot = gmem_slot_at(memory, i);
        programs[1 + i] = (Elf64_Phdr){.p_type = PT_LOAD,
                                       .p_flags = PF_R | PF_W | PF_X,
                                       .p_offset = data,
                                       .p_vaddr = slot->gpa,
                                       .p_paddr = slot->gpa,
                                       .p_filesz = slot->size,
                                       .p_memsz = slot->size,
                                       .p_align = PAGE_SIZE};
        data += slot->size;
    }
    const int rc = write_at(fd, &header, sizeof(header), 0, err);
    return rc < 0 ? rc
                  : write_at(fd, programs, (slots + 1) * sizeof(programs[0]), sizeof(header), err);
}

static int write_notes(int fd, const struct section_set *state, unsigned vcpus, uint64_t offset,
                       struct error *err)
{
    struct note note;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < vcpus; i++) {
        rc = fill_note(&note, state, i, err);
        if (rc == 0)
            rc = write_at(fd, &note, sizeof(note), offset + i * sizeof(note), err);
    }
    return rc;
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

/* What is not written is a hole. */
static int write_slot(int fd, const struct gmem_slot *slot, uint64_t offset, struct error *err)
{
    const uint64_t pages = slot->size / PAGE_SIZE;
    int rc = 0;
    for (uint64_t first = 0; rc == 0 && first < pages;) {
        uint64_t count = 0;
        while (first + count < pages && count < RUN_PAGES &&
               !is_zero(slot->host + (first + count) * PAGE_SIZE))
            count++;
        if (count)
            rc = write_at(fd, slot->host + first * PAGE_SIZE, count * PAGE_SIZE,
                          offset + first * PAGE_SIZE, err);
        first += count ? count : 1;
    }
    return rc;
}

int elf_core_write(int fd, const struct gmem *memory, const struct section_set *state,
                   unsigned vcpus, struct error *err)
{
    const size_t slots = gmem_slot_count(memory);
    const uint64_t notes = sizeof(Elf64_Ehdr) + (slots + 1) * sizeof(Elf64_Phdr);
    const uint64_t notes_size = vcpus * sizeof(struct note);
    const uint64_t data = align_page(notes + notes_size);
    int rc = 0;
    if (ftruncate(fd, (off_t)(data + gmem_size(memory))) < 0)
        rc = error_set(err, -errno, "core: %s", strerror(errno));
    if (rc == 0)
        rc = write_headers(fd, memory, notes, notes_size, data, err);
    if (rc == 0)
        rc = write_notes(fd, state, vcpus, notes, err);
    uint64_t offset = data;
    for (size_t i = 0; rc == 0 && i < slots; i++) {
        rc = write_slot(fd, gmem_slot_at(memory, i), offset, err);
        offset += gmem_slot_at(memory, i)->size;
    }
    if (rc == 0 && fsync(fd) < 0)
        rc = error_set(err, -errno, "core: %s", strerror(errno));
    return rc;
}
