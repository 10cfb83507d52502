#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"

#define KVM_DEVICE "/dev/kvm"

/* Where KVM keeps its own pages on Intel hosts: inside the device hole, clear of everything. */
#define IDENTITY_MAP_ADDRESS 0xfeffc000u
#define TSS_ADDRESS          0xfeffd000u

static const struct {
    int capability;
    const char *name;
    const char *since; /* Linux version that brought it */
} required[] = {
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "2.6"},
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "2.6"},
    {KVM_CAP_PIT2, "KVM_CAP_PIT2", "2.6"},
    {KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2", "2.6"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "2.6"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "2.6"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "2.6"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "2.6"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS", "2.6"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "3.5"},
    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ", "2.6"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "4.13"},
    {KVM_CAP_EXCEPTION_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD", "4.20"},
    {KVM_CAP_SREGS2, "KVM_CAP_SREGS2", "5.14"},
    {KVM_CAP_VCPU_ATTRIBUTES, "KVM_CAP_VCPU_ATTRIBUTES", "5.16"},
    {KVM_CAP_XSAVE2, "KVM_CAP_XSAVE2", "5.17"},
};

int kvm_ioctl(int fd, unsigned long request, void *argument, const char *name, struct error *err)
{
    const int rc = ioctl(fd, request, argument);
    if (rc >= 0)
        return rc;
    return error_set(err, -errno, "KVM: %s: %s", name, strerror(errno));
}

static int open_device(int *fd, struct error *err)
{
    *fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (*fd >= 0)
        return 0;
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return error_set(err, -errno,
                         "this host has no usable %s (%s): enable virtualisation in its firmware "
                         "and load kvm_intel or kvm_amd",
                         KVM_DEVICE, strerror(errno));
    case EACCES:
    case EPERM:
        return error_set(err, -errno,
                         "no permission for %s: run as root or join the group that owns it",
                         KVM_DEVICE);
    default:
        return error_set(err, -errno, "can't open %s: %s", KVM_DEVICE, strerror(errno));
    }
}

static int check_capabilities(struct kvm_host *host, struct error *err)
{
    const int api = ioctl(host->fd, KVM_GET_API_VERSION, 0);
    if (api < 0)
        return error_set(err, -ENODEV, "%s is not the KVM device: %s", KVM_DEVICE, strerror(errno));
    if (api != KVM_API_VERSION)
        return error_set(err, -ENOTSUP, "%s has API version %d, expected %d", KVM_DEVICE, api,
                         KVM_API_VERSION);
    for (size_t i = 0; i < ARRAY_SIZE(required); i++)
        if (ioctl(host->fd, KVM_CHECK_EXTENSION, required[i].capability) <= 0)
            return error_set(err, -ENOTSUP, "this host's KVM lacks %s (Linux %s)", required[i].name,
                             required[i].since);
    const int size = ioctl(host->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run))
        return error_set(err, -ENOTSUP, "this host's KVM shares %d bytes with a vCPU, too few",
                         size);
    host->run_size = (size_t)size;
    host->tsc_control = ioctl(host->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
    host->tsc_deadline = ioctl(host->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    host->triple_fault_event =
        ioctl(host->fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0;
    return 0;
}

int kvm_host_open(struct kvm_host *host, struct error *err)
{
    *host = (struct kvm_host){.fd = -1};
    int rc = open_device(&host->fd, err);
    if (rc == 0)
        rc = check_capabilities(host, err);
    if (rc < 0)
        kvm_host_close(host);
    return rc;
}

void kvm_host_close(struct kvm_host *host)
{
    fd_close(&host->fd);
}

static int enable(int vm, uint32_t capability, uint64_t argument, const char *name,
                  struct error *err)
{
    struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};
    return kvm_ioctl(vm, KVM_ENABLE_CAP, &cap, name, err);
}

static int enable_features(const struct kvm_host *host, int vm, struct error *err)
{
    int rc = enable(vm, KVM_CAP_EXCEPTION_PAYLOAD, 1, "enabling KVM_CAP_EXCEPTION_PAYLOAD", err);
    if (rc == 0 && host->triple_fault_event)
        rc = enable(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1,
                    "enabling KVM_CAP_X86_TRIPLE_FAULT_EVENT", err);
    /* No performance counters: two dozen MSRs less in every checkpoint. Where KVM can't switch
     * them off (before Linux 5.18), the guest's CPUID does not show them all the same. */
    if (rc == 0 && ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY) > 0)
        rc = enable(vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE,
                    "disabling the performance counters", err);
    return rc;
}

static int create_interrupt_controllers(int vm, struct error *err)
{
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    int rc =
        kvm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR", err);
    if (rc < 0)
        return rc;
    if (ioctl(vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDRESS) < 0)
        return error_set(err, -errno, "KVM: KVM_SET_TSS_ADDR: %s", strerror(errno));
    rc = kvm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP", err);
    if (rc < 0)
        return rc;
    /* Port 0x61 belongs to the PIT: Linux calibrates against channel 2 through it. */
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    return kvm_ioctl(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2", err);
}

static int map_memory(int vm, const struct gmem *memory, struct error *err)
{
    for (size_t i = 0; i < gmem_slot_count(memory); i++) {
        const struct gmem_slot *s = gmem_slot_at(memory, i);
        /* No KVM_MEM_LOG_DIRTY_PAGES: the dirty log switches it on when it starts. */
        struct kvm_userspace_memory_region region = {
            .slot = s->id,
            .guest_phys_addr = s->gpa,
            .memory_size = s->size,
            .userspace_addr = (uintptr_t)s->host,
        };
        const int rc =
            kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION", err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int kvm_vm_create(const struct kvm_host *host, const struct gmem *memory, int *vm_fd,
                  struct error *err)
{
    int vm;
    do
        vm = ioctl(host->fd, KVM_CREATE_VM, 0);
    while (vm < 0 && errno == EINTR);
    if (vm < 0)
        return error_set(err, -errno, "KVM: KVM_CREATE_VM: %s", strerror(errno));
    int rc = enable_features(host, vm, err);
    if (rc == 0)
        rc = create_interrupt_controllers(vm, err);
    if (rc == 0)
        rc = map_memory(vm, memory, err);
    if (rc < 0) {
        fd_close(&vm);
        return rc;
    }
    *vm_fd = vm;
    return 0;
}
