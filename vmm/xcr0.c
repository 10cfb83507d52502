/* Rules: Intel SDM vol. 2 "XSETBV", AMD APM vol. 2 section 15.9 (intercepts). */
#include "vmm/xcr0.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/log.h"
#include "vmm/cpuid.h"

#define MEMORY_SIZE   4096u
#define PORT_DONE     0xf1
#define CR4_OSXSAVE   (1u << 18)
#define XCR0_X87_SSE  3u

#define FEATURES_LEAF 1u
#define ECX_XSAVE     (1u << 26)

/* Real mode: mov $3, %ax; xor %dx, %dx; xor %cx, %cx (their upper halves are 0); xsetbv; out. */
static const uint8_t code[] = {0xb8, 0x03, 0x00, 0x31, 0xd2, 0x31,
                               0xc9, 0x0f, 0x01, 0xd1, 0xe6, PORT_DONE};

struct scratch {
    int vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
};

static bool build(struct scratch *s, const struct kvm_host *host, struct cpuid_table *cpuid)
{
    s->vm = ioctl(host->fd, KVM_CREATE_VM, 0);
    s->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->vm < 0 || s->memory == MAP_FAILED)
        return false;
    memcpy(s->memory, code, sizeof(code));
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY_SIZE,
                                                 .userspace_addr = (uintptr_t)s->memory};
    if (ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return false;
    s->vcpu = ioctl(s->vm, KVM_CREATE_VCPU, 0);
    if (s->vcpu < 0)
        return false;
    s->run = mmap(NULL, host->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, s->vcpu, 0);
    return s->run != MAP_FAILED && ioctl(s->vcpu, KVM_SET_CPUID2, cpuid) >= 0;
}

static bool start(const struct scratch *s)
{
    struct kvm_sregs sregs;
    const struct kvm_regs regs = {.rflags = 2};
    if (ioctl(s->vcpu, KVM_GET_SREGS, &sregs) < 0)
        return false;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.cr4 |= CR4_OSXSAVE;
    return ioctl(s->vcpu, KVM_SET_SREGS, &sregs) >= 0 && ioctl(s->vcpu, KVM_SET_REGS, &regs) >= 0;
}

/* True when the code ran to its end and KVM was read afterwards. */
static bool try_out(const struct scratch *s, struct kvm_xcrs *xcrs)
{
    return start(s) && ioctl(s->vcpu, KVM_RUN, 0) == 0 && s->run->exit_reason == KVM_EXIT_IO &&
           s->run->io.port == PORT_DONE && ioctl(s->vcpu, KVM_GET_XCRS, xcrs) >= 0;
}

static bool is_followed(const struct kvm_host *host)
{
    struct cpuid_table *cpuid = malloc(sizeof(*cpuid));
    if (!cpuid || cpuid_read_host(host, cpuid, NULL) < 0) {
        free(cpuid);
        return true;
    }
    const struct kvm_cpuid_entry2 *features = cpuid_find(cpuid, FEATURES_LEAF, 0);
    struct scratch s = {.vm = -1, .vcpu = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
    struct kvm_xcrs xcrs = {0};
    bool followed = true;
    if (features && features->ecx & ECX_XSAVE && build(&s, host, cpuid) && try_out(&s, &xcrs))
        followed = xcrs.nr_xcrs > 0 && xcrs.xcrs[0].value == XCR0_X87_SSE;
    if (s.run != MAP_FAILED)
        munmap(s.run, host->run_size);
    fd_close(&s.vcpu);
    fd_close(&s.vm);
    if (s.memory != MAP_FAILED)
        munmap(s.memory, MEMORY_SIZE);
    free(cpuid);
    return followed;
}

bool xcr0_is_followed(const struct kvm_host *host)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static enum { UNKNOWN, FOLLOWED, LOST } known;
    pthread_mutex_lock(&lock);
    if (known == UNKNOWN) {
        known = is_followed(host) ? FOLLOWED : LOST;
        if (known == LOST)
            log_warning("machine", "this host's KVM loses a guest's XCR0: the guest gets no XSAVE, "
                                   "and none of AVX");
    }
    const bool followed = known == FOLLOWED;
    pthread_mutex_unlock(&lock);
    return followed;
}
