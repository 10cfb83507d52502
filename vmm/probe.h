/* What the KVM at hand can do, measured instead of guessed from the device node.
 *
 * A KVM may exist and yet run supervisor code by software, instruction by instruction, without the
 * less common ones (PLATFORM "The local /dev/kvm"). Small guests run on such a one, a stock Linux
 * does not. The probe runs such code in a scratch VM and times it; the judgement is a separate,
 * pure function. */
#ifndef KEMARI_VMM_PROBE_H
#define KEMARI_VMM_PROBE_H

#include "base/error.h"
#include "base/types.h"

#define KVM_PROBE_TEXT_MAX 256

/* Instructions a stock Linux kernel executes and a software KVM may lack. */
enum kvm_probe_instruction {
    KVM_PROBE_CMPXCHG16B,
    KVM_PROBE_XRSTOR,
    KVM_PROBE_INT3, /* and the iretq of its handler */
    KVM_PROBE_SWAPGS,
    KVM_PROBE_INVLPG,
    KVM_PROBE_INSTRUCTIONS,
};

enum kvm_probe_outcome {
    KVM_PROBE_NOT_RUN, /* not tried, or the CPU has no such instruction */
    KVM_PROBE_WORKS,
    KVM_PROBE_FAULTS, /* the guest got an exception */
    KVM_PROBE_LACKS,  /* KVM gave up: internal error, shutdown */
};

/* What was measured. */
struct kvm_facts {
    int open_error;        /* errno of opening the device, 0 when it opened */
    int api_version;       /* KVM_GET_API_VERSION */
    const char *missing;   /* name of the first capability that is needed and absent, or NULL */
    int vm_error;          /* errno of building the scratch VM, 0 when it was built */
    bool timed_out;        /* the scratch VM did not come to an end */
    bool loop_ran;         /* plain supervisor code ran to its end */
    uint64_t instructions; /* supervisor instructions of the timed loop */
    nsec_t elapsed;        /* it took, without the cost of an exit; > 0 when loop_ran */
    enum kvm_probe_outcome outcome[KVM_PROBE_INSTRUCTIONS];
};

/* What it means. */
struct kvm_probe {
    bool usable;                     /* machines can be made, and small guests run */
    bool boots_linux;                /* a stock Linux kernel runs, at a useful speed */
    uint64_t supervisor_per_second;  /* instructions at CPL 0; 0 when unknown */
    char reason[KVM_PROBE_TEXT_MAX]; /* one phrase: why not, or why yes */
};

/* Judges. Pure. */
void kvm_probe_decide(const struct kvm_facts *facts, struct kvm_probe *out);

/* Measures and judges, within 3 seconds whatever KVM does: the work is done by a child process
 * that is killed at the deadline. 0 also when KVM is absent (`usable` is false then); an error only
 * when the probe itself could not be made. Best called before threads are started. */
int kvm_probe(struct kvm_probe *out, struct error *err);

#endif
