/* A stopped guest as an ELF64 core: what gdb and crash read.
 *
 *     ELF header │ PT_NOTE, a PT_LOAD per memory slot │ notes │ memory, page aligned
 *
 * One NT_PRSTATUS per vCPU, in their order, pr_pid = number + 1, with its registers. Addresses are
 * the guest's physical ones, in p_paddr and p_vaddr alike: a debugger finds virtual addresses by
 * the page tables (CR3 is not part of the note's format; crash finds its way by the kernel's
 * symbols). Pages of zeroes are holes in the file. */
#ifndef KEMARI_APP_ELF_CORE_H
#define KEMARI_APP_ELF_CORE_H

#include "base/error.h"
#include "base/section.h"
#include "gmem/gmem.h"

/* Writes to an empty file, from its beginning, and makes it durable. `state` has sections
 * "vcpu.regs" and "vcpu.sregs" (vmm/vcpu_state.h) of `vcpus` vCPUs; one that is missing, or of
 * another size, gives -EINVAL. Guest memory must be still. */
int elf_core_write(int fd, const struct gmem *memory, const struct section_set *state,
                   unsigned vcpus, struct error *err);

#endif
