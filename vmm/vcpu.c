#include "vmm/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/prompt.h"

/* The kick. Its handler does nothing but make the next KVM_RUN of the thread return at once; a
 * KVM_RUN that is already under way returns because a signal is pending. */
#define KICK_SIGNAL SIGRTMIN

struct vcpu {
    /* set at creation */
    unsigned index;
    int fd;
    struct kvm_run *shared;
    size_t shared_size;
    struct run *run;
    const struct vcpu_ops *ops;
    void *context;
    pthread_t thread;
    bool started;

    _Atomic pid_t tid;   /* 0 until the thread runs */
    _Atomic bool raised; /* kicked, and not back in the guest since */

    /* owned by the thread */
    bool has_pending; /* KVM completes the last exit at the next KVM_RUN */
    bool wants_attention;
    enum vcpu_event event;
    char detail[192];
};

static __thread struct kvm_run *volatile kicked_run;

static void on_kick(int signal)
{
    (void)signal;
    struct kvm_run *shared = kicked_run;
    if (shared)
        shared->immediate_exit = 1;
}

static void install_handler(void)
{
    struct sigaction action = {.sa_handler = on_kick};
    sigfillset(&action.sa_mask);
    sigaction(KICK_SIGNAL, &action, NULL);
}

int vcpu_create(const struct kvm_host *host, int vm_fd, unsigned index, struct run *run,
                const struct vcpu_ops *ops, void *context, struct vcpu **out, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_handler);
    struct vcpu *v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, -ENOMEM, "KVM: out of memory");
    *v = (struct vcpu){.index = index,
                       .fd = -1,
                       .shared = MAP_FAILED,
                       .shared_size = host->run_size,
                       .run = run,
                       .ops = ops,
                       .context = context};
    v->fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (v->fd >= 0)
        v->shared = mmap(NULL, v->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->shared == MAP_FAILED) {
        const int rc =
            error_set(err, -errno, "KVM: can't create vCPU %u: %s", index, strerror(errno));
        vcpu_destroy(&v);
        return rc;
    }
    *out = v;
    return 0;
}

void vcpu_destroy(struct vcpu **vcpu)
{
    struct vcpu *v = *vcpu;
    if (!v)
        return;
    if (v->started)
        pthread_join(v->thread, NULL);
    if (v->shared != MAP_FAILED)
        munmap(v->shared, v->shared_size);
    fd_close(&v->fd);
    free(v);
    *vcpu = NULL;
}

int vcpu_fd(const struct vcpu *vcpu)
{
    return vcpu->fd;
}

void vcpu_kick(struct vcpu *vcpu)
{
    if (!vcpu->started)
        return;
    /* On a busy host a vCPU that isn't running now would make everybody wait until its turn comes,
     * all other vCPUs stopped. */
    const pid_t tid = atomic_load(&vcpu->tid);
    if (tid && !atomic_exchange(&vcpu->raised, true))
        prompt_raise(tid);
    pthread_kill(vcpu->thread, KICK_SIGNAL);
}

static void fail(struct vcpu *v, const char *what, unsigned long long number)
{
    struct kvm_regs regs = {0};
    ioctl(v->fd, KVM_GET_REGS, &regs);
    v->event = VCPU_EVENT_FAILED;
    snprintf(v->detail, sizeof(v->detail), "vCPU %u: %s 0x%llx at rip 0x%llx", v->index, what,
             number, (unsigned long long)regs.rip);
}

/* Names the instruction that KVM could not emulate, where KVM tells its bytes. */
static void fail_internal(struct vcpu *v)
{
    const struct kvm_run *r = v->shared;
    fail(v, "KVM internal error", r->internal.suberror);
    if (r->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || r->emulation_failure.ndata < 3 ||
        !(r->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return;
    size_t used = strlen(v->detail);
    used += (size_t)snprintf(v->detail + used, sizeof(v->detail) - used, ", instruction");
    const size_t count = r->emulation_failure.insn_size;
    for (size_t i = 0; i < count && i < sizeof(r->emulation_failure.insn_bytes); i++)
        used += (size_t)snprintf(v->detail + used, sizeof(v->detail) - used, " %02x",
                                 r->emulation_failure.insn_bytes[i]);
}

static void handle_system_event(struct vcpu *v)
{
    switch (v->shared->system_event.type) {
    case KVM_SYSTEM_EVENT_RESET:
        v->event = VCPU_EVENT_RESET;
        break;
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        v->event = VCPU_EVENT_POWER_OFF;
        break;
    default:
        fail(v, "unexpected system event", v->shared->system_event.type);
        break;
    }
}

static void handle_exit(struct vcpu *v)
{
    struct kvm_run *r = v->shared;
    switch (r->exit_reason) {
    case KVM_EXIT_IO:
        v->has_pending = true;
        v->wants_attention |=
            v->ops->port(v->context, r->io.direction == KVM_EXIT_IO_OUT, r->io.port,
                         (uint8_t *)r + r->io.data_offset, r->io.size, r->io.count);
        break;
    case KVM_EXIT_MMIO:
        v->has_pending = true;
        v->wants_attention |= v->ops->mmio(v->context, r->mmio.is_write, r->mmio.phys_addr,
                                           r->mmio.data, r->mmio.len);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    case KVM_EXIT_SHUTDOWN: /* triple fault: a processor signals it and the board resets */
        v->event = VCPU_EVENT_RESET;
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        handle_system_event(v);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        fail_internal(v);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        fail(v, "the processor refused to enter the guest, reason",
             r->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        fail(v, "unexpected KVM exit", r->exit_reason);
        break;
    }
}

/* One KVM_RUN and its exit. */
static void enter(struct vcpu *v)
{
    v->has_pending = false;
    if (ioctl(v->fd, KVM_RUN, 0) == 0)
        handle_exit(v);
    else if (errno != EINTR && errno != EAGAIN)
        fail(v, "KVM_RUN failed with errno", (unsigned)errno);
}

/* Lets KVM commit the last exit (write a result to a register, advance RIP), which it does on the
 * way into the guest. An access that KVM split in parts exits again for the next part. */
static void complete(struct vcpu *v)
{
    while (v->has_pending && v->event == VCPU_EVENT_NONE) {
        v->shared->immediate_exit = 1;
        enter(v);
    }
}

static void run_guest(struct vcpu *v)
{
    while (!v->wants_attention && v->event == VCPU_EVENT_NONE) {
        /* Cleared before the counter is looked at: a kick that comes in between sets it again. */
        v->shared->immediate_exit = 0;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (run_is_stopping(v->run))
            break;
        enter(v);
    }
    complete(v);
}

static void *vcpu_main(void *argument)
{
    struct vcpu *v = argument;
    char name[16];
    snprintf(name, sizeof(name), "vcpu-%u", v->index);
    pthread_setname_np(pthread_self(), name);
    kicked_run = v->shared;
    const int nice = getpriority(PRIO_PROCESS, 0);
    atomic_store(&v->tid, gettid());
    while (run_gate(v->run, v->index)) {
        if (atomic_exchange(&v->raised, false))
            prompt_lower(nice);
        v->event = VCPU_EVENT_NONE;
        v->wants_attention = false;
        run_guest(v);
        if (v->wants_attention || v->event != VCPU_EVENT_NONE)
            v->ops->attend(v->context, v->index, v->event, v->detail);
    }
    kicked_run = NULL;
    return NULL;
}

int vcpu_start(struct vcpu *v, struct error *err)
{
    /* The thread inherits a mask that lets in nothing but the kick. */
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, KICK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rc = pthread_create(&v->thread, NULL, vcpu_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return error_set(err, -rc, "can't start the thread of vCPU %u: %s", v->index, strerror(rc));
    v->started = true;
    return 0;
}
