/* Building and taking apart a machine, and the small verbs. Construction is in the order of struct
 * machine; machine_destroy() undoes whatever part of it was done. */
#include "vmm/machine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "base/log.h"
#include "vmm/machine_internal.h"
#include "vmm/virtio_devices.h"
#include "vmm/xcr0.h"

#define AREA "machine"

static void irq_send_message(void *context, uint64_t address, uint32_t data)
{
    const struct machine *m = context;
    const struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    /* Refused only when the guest programmed a destination that does not exist. */
    if (ioctl(m->vm_fd, KVM_SIGNAL_MSI, &msi) < 0)
        log_debug(AREA, "MSI to 0x%llx was refused: %s", (unsigned long long)address,
                  strerror(errno));
}

static void irq_set_level(void *context, unsigned gsi, bool asserted)
{
    const struct machine *m = context;
    const struct kvm_irq_level level = {.irq = gsi, .level = asserted};
    if (ioctl(m->vm_fd, KVM_IRQ_LINE, &level) < 0)
        log_error(AREA, "KVM_IRQ_LINE of interrupt %u: %s", gsi, strerror(errno));
}

static const struct irq_ops irq_ops = {.message = irq_send_message, .level = irq_set_level};

static int check_config(const struct machine_config *c, struct error *err)
{
    if (c->vcpus < 1 || c->vcpus > MACHINE_VCPUS_MAX)
        return error_set(err, -EINVAL, "machine of %u vCPUs: must be 1 to %d", c->vcpus,
                         MACHINE_VCPUS_MAX);
    if (c->net_count > MACHINE_NETS_MAX || c->disk_count > MACHINE_DISKS_MAX)
        return error_set(err, -EINVAL, "machine has at most %d networks and %d disks",
                         MACHINE_NETS_MAX, MACHINE_DISKS_MAX);
    if (!c->memory || !c->boot.kernel)
        return error_set(err, -EINVAL, "machine needs memory and a kernel");
    return 0;
}

static int open_sources(struct machine *m, struct error *err)
{
    const struct machine_boot_config *boot = &m->config.boot;
    m->command_line = strdup(boot->command_line ? boot->command_line : "");
    if (!m->command_line)
        return error_set(err, -ENOMEM, "machine: out of memory");
    m->source.command_line = m->command_line;
    int rc = boot_image_open("kernel", boot->kernel, &m->source.kernel, err);
    if (rc == 0 && boot->initrd)
        rc = boot_image_open("initrd", boot->initrd, &m->source.initrd, err);
    m->config.boot = (struct machine_boot_config){0};
    return rc;
}

static void kick_vcpu(void *context, unsigned index)
{
    vcpu_kick(((struct machine *)context)->vcpus[index]);
}

static int set_cpuid(struct machine *m, unsigned index, const struct cpuid_table *host,
                     struct error *err)
{
    struct cpuid_table *table = malloc(sizeof(*table));
    if (!table)
        return error_set(err, -ENOMEM, "machine: out of memory");
    *table = *host;
    cpuid_adapt(table, m->config.vcpus, index, m->host.tsc_deadline);
    const int rc =
        kvm_ioctl(vcpu_fd(m->vcpus[index]), KVM_SET_CPUID2, table, "KVM_SET_CPUID2", err);
    if (index == 0)
        m->cpuid = table;
    else
        free(table);
    return rc;
}

/* XCR0 bits from CPUID leaf 0xd: what KVM accepts for this guest. */
static uint64_t allowed_xcr0(struct cpuid_table *table)
{
    const struct kvm_cpuid_entry2 *e = cpuid_find(table, 0xd, 0);
    return e ? (uint64_t)e->edx << 32 | e->eax : 1;
}

/* What the states of all vCPUs have in common is found out on the first one. */
static int probe_layout(struct machine *m, struct error *err)
{
    const int size = ioctl(m->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    m->layout.xsave_size =
        size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
    m->layout.xcr0_allowed = allowed_xcr0(m->cpuid);
    return msr_list_probe(&m->host, vcpu_fd(m->vcpus[0]), &m->layout.msrs, err);
}

static int create_vcpu(struct machine *m, unsigned i, const struct cpuid_table *cpuid,
                       struct error *err)
{
    int rc = vcpu_create(&m->host, m->vm_fd, i, m->run, &machine_vcpu_ops, m, &m->vcpus[i], err);
    if (rc == 0)
        rc = vcpu_tsc_settle_khz(vcpu_fd(m->vcpus[i]), &m->tsc_khz, err);
    if (rc == 0)
        rc = set_cpuid(m, i, cpuid, err);
    if (rc == 0 && i == 0)
        rc = probe_layout(m, err);
    if (rc == 0)
        rc = vcpu_state_init(&m->power_on[i], &m->layout, err);
    if (rc == 0)
        rc = vcpu_state_init(&m->scratch[i], &m->layout, err);
    return rc < 0 ? rc : vcpu_state_capture(&m->power_on[i], vcpu_fd(m->vcpus[i]), err);
}

/* KVM gives every vCPU a TSC of its own moment unless told otherwise: one offset for all. */
static int align_tsc(struct machine *m, struct error *err)
{
    uint64_t offset;
    int rc = vcpu_tsc_get_offset(vcpu_fd(m->vcpus[0]), &offset, err);
    for (unsigned i = 1; rc >= 0 && i < m->config.vcpus; i++)
        rc = vcpu_tsc_set_offset(vcpu_fd(m->vcpus[i]), offset, err);
    return rc < 0 ? rc : 0;
}

static int create_vcpus(struct machine *m, struct error *err)
{
    struct cpuid_table *cpuid = malloc(sizeof(*cpuid));
    m->run = run_create(m->config.vcpus, kick_vcpu, m);
    if (!cpuid || !m->run) {
        free(cpuid);
        return error_set(err, -ENOMEM, "machine: out of memory");
    }
    int rc = cpuid_read_host(&m->host, cpuid, err);
    if (rc >= 0 && !xcr0_is_followed(&m->host))
        cpuid_drop_xsave(cpuid);
    for (unsigned i = 0; rc >= 0 && i < m->config.vcpus; i++)
        rc = create_vcpu(m, i, cpuid, err);
    free(cpuid);
    if (rc >= 0)
        rc = vcpu_state_init(&m->proof, &m->layout, err);
    return rc < 0 ? rc : align_tsc(m, err);
}

static int create_environment(struct machine *m, struct error *err)
{
    m->ports = bus_create();
    m->mmio = bus_create();
    m->lock = device_lock_create();
    if (!m->ports || !m->mmio || !m->lock)
        return error_set(err, -ENOMEM, "machine: out of memory");
    /* PARKED means that the machine holds its device lock. */
    device_lock_acquire(m->lock);
    const int rc = io_thread_create(&m->io, err);
    if (rc < 0)
        return rc;
    m->env = (struct device_env){.memory = m->config.memory,
                                 .irq = {.ops = &irq_ops, .context = m},
                                 .lock = m->lock,
                                 .events = io_thread_events(m->io)};
    return 0;
}

static int start_threads(struct machine *m, struct error *err)
{
    int rc = io_thread_start(m->io, err);
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++)
        rc = vcpu_start(m->vcpus[i], err);
    return rc;
}

static int build(struct machine *m, struct error *err)
{
    int rc = open_sources(m, err);
    if (rc == 0)
        rc = kvm_host_open(&m->host, err);
    if (rc == 0)
        rc = kvm_vm_create(&m->host, m->config.memory, &m->vm_fd, err);
    if (rc == 0)
        rc = create_vcpus(m, err);
    if (rc == 0)
        rc = vm_chips_capture(&m->power_on_chips, m->vm_fd, err);
    if (rc == 0)
        rc = create_environment(m, err);
    if (rc == 0)
        rc = machine_create_devices(m, err);
    if (rc == 0)
        rc = start_threads(m, err);
    if (rc == 0)
        rc = machine_compose_identity(m, err);
    return rc;
}

int machine_create(const struct machine_config *config, struct machine **out, struct error *err)
{
    *out = NULL;
    int rc = check_config(config, err);
    if (rc < 0)
        return rc;
    struct machine *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "machine: out of memory");
    m->config = *config;
    m->host.fd = -1;
    m->vm_fd = -1;
    rc = build(m, err);
    if (rc < 0) {
        machine_destroy(&m);
        return rc;
    }
    *out = m;
    return 0;
}

static void end_threads(struct machine *m)
{
    if (m->running)
        machine_park(m);
    if (m->run)
        run_quit(m->run);
    for (unsigned i = 0; i < m->config.vcpus; i++)
        vcpu_destroy(&m->vcpus[i]);
    if (!m->io)
        return;
    /* A callback of the I/O thread may be waiting for the lock. Let it have it, once. */
    device_lock_release(m->lock);
    io_thread_stop(m->io);
}

void machine_destroy(struct machine **machine)
{
    struct machine *m = *machine;
    if (!m)
        return;
    end_threads(m);
    machine_destroy_devices(m);
    io_thread_destroy(&m->io);
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        vcpu_state_fini(&m->power_on[i]);
        vcpu_state_fini(&m->scratch[i]);
    }
    vcpu_state_fini(&m->proof);
    run_destroy(&m->run);
    device_lock_destroy(&m->lock);
    bus_destroy(&m->mmio);
    bus_destroy(&m->ports);
    fd_close(&m->vm_fd);
    kvm_host_close(&m->host);
    boot_image_close(&m->source.kernel);
    boot_image_close(&m->source.initrd);
    free(m->command_line);
    free(m->cpuid);
    free(m->identity);
    free(m);
    *machine = NULL;
}

int machine_vm_fd(const struct machine *machine)
{
    return machine->vm_fd;
}

const char *machine_identity(const struct machine *machine)
{
    return machine->identity;
}

int machine_net_attach(struct machine *m, unsigned index, int fd, struct error *err)
{
    if (index >= m->config.net_count)
        return error_set(err, -EINVAL, "machine has no network %u", index);
    if (m->running)
        device_lock_acquire(m->lock);
    const int rc = virtio_net_attach(m->nets[index], fd, err);
    if (m->running)
        device_lock_release(m->lock);
    return rc;
}

size_t machine_console_input(struct machine *m, enum machine_console which, const uint8_t *data,
                             size_t size)
{
    struct console_input *in = which == MACHINE_CONSOLE_SERIAL ? m->serial_input : m->console_input;
    return in ? console_input_put(in, data, size) : 0;
}
