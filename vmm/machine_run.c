/* Running the machine: accesses of the guest, park and resume, and what a guest does to its own
 * life: reset, power-off, failure.
 *
 * Whoever changes the machine as a whole stops all vCPUs first and only then takes the device lock,
 * because a vCPU on its way out may need the lock to finish its access. A vCPU that carries out a
 * reset does the same as machine_park(), on its own thread ("transition", run.h); the two may
 * overlap, in either order, and the guest runs on when both are over. */
#include <assert.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/machine_internal.h"
#include "vmm/power.h"

static void access_port(struct machine *m, bool write, uint16_t port, uint8_t *data, uint32_t size)
{
    const bool is_reset = port == ACPI_RESET_PORT && size == 1;
    if (is_reset && write)
        power_write_reset(m->power, data[0]);
    else if (is_reset)
        data[0] = power_read_reset(m->power);
    else if (write)
        bus_write(m->ports, port, data, size);
    else
        bus_read(m->ports, port, data, size);
}

static bool on_port(void *context, bool write, uint16_t port, uint8_t *data, uint32_t size,
                    uint32_t count)
{
    struct machine *m = context;
    device_lock_acquire(m->lock);
    for (uint32_t i = 0; i < count; i++)
        access_port(m, write, port, data + i * size, size);
    const bool request = power_has_request(m->power);
    device_lock_release(m->lock);
    return request;
}

static bool on_mmio(void *context, bool write, gpa_t address, uint8_t *data, uint32_t size)
{
    struct machine *m = context;
    device_lock_acquire(m->lock);
    if (write)
        bus_write(m->mmio, address, data, size);
    else
        bus_read(m->mmio, address, data, size);
    device_lock_release(m->lock);
    /* A guest that gives buffers back to its virtio console tells so by a write. */
    if (write && m->console_input)
        console_input_kick(m->console_input);
    return false;
}

static void report(const struct machine *m, enum machine_event event, const char *detail)
{
    if (m->config.output && m->config.output->event)
        m->config.output->event(m->config.output_context, event, detail);
}

int machine_power_on(struct machine *m, struct error *err)
{
    struct boot_entry entry;
    int rc = boot_load(&m->source, m->config.memory, m->config.vcpus, &entry, err);
    if (rc == 0)
        rc = vm_chips_apply(&m->power_on_chips, m->vm_fd, err);
    for (unsigned i = 0; rc == 0 && i < m->config.vcpus; i++) {
        const struct vcpu_state *fresh = &m->power_on[i];
        rc = vcpu_state_apply(fresh, vcpu_fd(m->vcpus[i]), err);
    }
    if (rc < 0)
        return rc;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs = m->power_on[0].sregs;
    boot_set_registers(&entry, &regs, &sregs);
    const int fd = vcpu_fd(m->vcpus[0]);
    rc = kvm_ioctl(fd, KVM_SET_SREGS2, &sregs, "KVM_SET_SREGS2", err);
    return rc < 0 ? rc : kvm_ioctl(fd, KVM_SET_REGS, &regs, "KVM_SET_REGS", err);
}

static void reset_devices(struct machine *m)
{
    for (size_t i = 0; i < m->device_count; i++)
        m->devices[i].ops->reset(m->devices[i].context);
}

static void quiesce_devices(struct machine *m)
{
    for (size_t i = 0; i < m->device_count; i++)
        if (m->devices[i].ops->quiesce)
            m->devices[i].ops->quiesce(m->devices[i].context);
}

static void resume_devices(struct machine *m)
{
    for (size_t i = 0; i < m->device_count; i++)
        if (m->devices[i].ops->resume)
            m->devices[i].ops->resume(m->devices[i].context);
}

/* Carries out a reset; all vCPUs are stopped, the device lock is held. */
static void reset(struct machine *m)
{
    struct error err = {0};
    quiesce_devices(m);
    reset_devices(m);
    if (machine_power_on(m, &err) < 0) {
        m->ended = MACHINE_END_FAILED;
        error_prefix(&err, "guest can't be reset");
        report(m, MACHINE_EVENT_FAILED, err.text);
        return;
    }
    resume_devices(m);
    report(m, MACHINE_EVENT_RESET, NULL);
}

static void end(struct machine *m, enum machine_end how, const char *detail)
{
    m->ended = how;
    report(m, how == MACHINE_END_POWER_OFF ? MACHINE_EVENT_POWER_OFF : MACHINE_EVENT_FAILED,
           detail);
}

void machine_end_for_good(struct machine *m, enum machine_end how)
{
    end(m, how,
        how == MACHINE_END_POWER_OFF
            ? "the guest had switched itself off before this host took over"
            : "the guest had failed before this host took over");
    run_stop(m->run); /* a reason to stop that nobody takes away */
}

/* What a vCPU ran into comes before what a device was asked for. */
static void attend_locked(struct machine *m, enum vcpu_event event, const char *detail)
{
    const enum power_request request = power_take_request(m->power);
    if (event == VCPU_EVENT_FAILED)
        end(m, MACHINE_END_FAILED, detail);
    else if (event == VCPU_EVENT_POWER_OFF || request == POWER_REQUEST_OFF)
        end(m, MACHINE_END_POWER_OFF, NULL);
    else if (request == POWER_REQUEST_STOP)
        end(m, MACHINE_END_POWER_OFF, "the guest panicked and is stopped");
    else if (event == VCPU_EVENT_RESET || request == POWER_REQUEST_RESET)
        reset(m);
}

static void on_attend(void *context, unsigned index, enum vcpu_event event, const char *detail)
{
    struct machine *m = context;
    /* Another vCPU resets or ends the machine: whatever this one wanted is over with it. */
    if (!run_begin_transition(m->run, index))
        return;
    device_lock_acquire(m->lock);
    attend_locked(m, event, detail);
    const bool ended = m->ended != MACHINE_END_NONE;
    device_lock_release(m->lock);
    run_end_transition(m->run, ended);
}

const struct vcpu_ops machine_vcpu_ops = {.port = on_port, .mmio = on_mmio, .attend = on_attend};

int machine_boot(struct machine *m, struct error *err)
{
    assert(!m->running);
    return machine_power_on(m, err);
}

void machine_park(struct machine *m)
{
    assert(m->running);
    run_stop(m->run);
    device_lock_acquire(m->lock);
    quiesce_devices(m);
    m->running = false;
}

/* The state may be of the moment between a guest's request and what was done about it; the vCPU
 * that made it need not come out of the guest again. */
static void attend_loaded(struct machine *m)
{
    m->loaded = false;
    if (m->ended != MACHINE_END_NONE)
        return;
    attend_locked(m, VCPU_EVENT_NONE, NULL);
    if (m->ended != MACHINE_END_NONE)
        run_stop(m->run);
}

void machine_resume(struct machine *m)
{
    assert(!m->running);
    m->running = true;
    if (m->loaded)
        attend_loaded(m);
    resume_devices(m);
    device_lock_release(m->lock);
    run_resume(m->run);
}
