/* A vCPU and its thread.
 *
 *            run_gate() lets go                    KVM_RUN returned an exit
 *   PARKED ───────────────────────► IN GUEST ◄──────────────────────────────► HANDLING
 *      ▲                                 │ kicked: completes what is pending
 *      └─────────────────────────────────┘
 *
 * The thread touches guest state only between leaving the gate and coming back to it. While it is
 * parked, any other thread may use vcpu_fd(). */
#ifndef KEMARI_VMM_VCPU_H
#define KEMARI_VMM_VCPU_H

#include "base/error.h"
#include "base/types.h"
#include "vmm/kvm.h"
#include "vmm/run.h"

struct vcpu;

enum vcpu_event {
    VCPU_EVENT_NONE,
    VCPU_EVENT_RESET,     /* triple fault */
    VCPU_EVENT_POWER_OFF, /* the kernel's own emulation asks for it */
    VCPU_EVENT_FAILED,    /* the vCPU can't go on */
};

/* What the machine does for its vCPUs. Called on the vCPU's thread, no lock held. */
struct vcpu_ops {
    /* Accesses of the guest; `data` holds `count` items of `size` bytes each. True when the machine
     * has something to do that needs this vCPU out of the guest: attend() follows. */
    bool (*port)(void *context, bool write, uint16_t port, uint8_t *data, uint32_t size,
                 uint32_t count);
    bool (*mmio)(void *context, bool write, gpa_t address, uint8_t *data, uint32_t size);

    /* Everything pending is completed, the vCPU is between two instructions. `event` is what the
     * vCPU itself ran into (RESET for a triple fault, FAILED with a phrase) or NONE when port() or
     * mmio() asked. */
    void (*attend)(void *context, unsigned index, enum vcpu_event event, const char *detail);
};

/* `ops` and `run` are borrowed. The thread does not exist before vcpu_start(). */
int vcpu_create(const struct kvm_host *host, int vm_fd, unsigned index, struct run *run,
                const struct vcpu_ops *ops, void *context, struct vcpu **out, struct error *err);

int vcpu_start(struct vcpu *vcpu, struct error *err);

/* Joins the thread (run_quit() came before) and frees. */
void vcpu_destroy(struct vcpu **vcpu);

int vcpu_fd(const struct vcpu *vcpu);

/* Gets the vCPU out of guest mode. Any thread; for run_create(). */
void vcpu_kick(struct vcpu *vcpu);

#endif
