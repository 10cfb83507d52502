/* The host's KVM: what it can do, and the few ioctls that everybody issues. */
#ifndef KEMARI_VMM_KVM_H
#define KEMARI_VMM_KVM_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "gmem/gmem.h"

/* What was found out once; plain data, owner decides. */
struct kvm_host {
    int fd;           /* /dev/kvm */
    size_t run_size;  /* bytes of a vCPU's shared kvm_run */
    bool tsc_control; /* the TSC of a guest can be scaled to any frequency */
    bool tsc_deadline;
    bool triple_fault_event; /* vcpu_events carries a pending triple fault */
};

/* Opens /dev/kvm and checks that everything this machine is built on is there. The phrase says what
 * is missing and, where known, which kernel brought it or which permission gives it. */
int kvm_host_open(struct kvm_host *host, struct error *err);
void kvm_host_close(struct kvm_host *host);

/* Creates a VM with interrupt controllers and PIT, and maps the memory into it. */
int kvm_vm_create(const struct kvm_host *host, const struct gmem *memory, int *vm_fd,
                  struct error *err);

/* ioctl that names itself when it fails: 0 or a positive result, or -errno and "<name>: <cause>".
 */
int kvm_ioctl(int fd, unsigned long request, void *argument, const char *name, struct error *err);

#endif
