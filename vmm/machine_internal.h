/* What the parts of the machine share: machine.c builds it, machine_run.c runs it, machine_state.c
 * saves and loads it. Nobody else includes this. */
#ifndef KEMARI_VMM_MACHINE_INTERNAL_H
#define KEMARI_VMM_MACHINE_INTERNAL_H

#include "vmm/boot.h"
#include "vmm/bus.h"
#include "vmm/console_input.h"
#include "vmm/cpuid.h"
#include "vmm/device.h"
#include "vmm/io_thread.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/pci.h"
#include "vmm/run.h"
#include "vmm/vcpu.h"
#include "vmm/vcpu_state.h"
#include "vmm/vm_state.h"

#define MACHINE_DEVICES_MAX (MACHINE_NETS_MAX + MACHINE_DISKS_MAX + 8)

/* How a guest's life ended for good. Part of the state (section "machine"): a checkpoint taken
 * after a power-off must not come to life again. */
enum machine_end { MACHINE_END_NONE, MACHINE_END_POWER_OFF, MACHINE_END_FAILED };

struct machine {
    /* set at creation */
    struct machine_config config; /* its boot strings belong to `source` */
    struct kvm_host host;
    int vm_fd;
    uint32_t tsc_khz;
    struct vcpu_layout layout;
    struct cpuid_table *cpuid; /* as vCPU 0 sees it */
    struct vcpu *vcpus[MACHINE_VCPUS_MAX];
    struct vcpu_state power_on[MACHINE_VCPUS_MAX]; /* as KVM creates them */
    struct vm_chips power_on_chips;
    struct run *run;
    struct bus *ports;
    struct bus *mmio;
    struct io_thread *io;
    struct device_env env;
    struct boot_source source;
    char *command_line;
    char *identity;

    /* devices: the array is set at creation; what they hold belongs to the device lock */
    struct device_lock *lock;
    struct pci_host *pci;
    struct device devices[MACHINE_DEVICES_MAX];
    size_t device_count;
    const struct device *power;
    const struct device *serial;
    const struct device *nets[MACHINE_NETS_MAX];
    const struct device *console;
    struct console_input *serial_input;
    struct console_input *console_input;

    /* device lock */
    enum machine_end ended;

    /* owned by the controlling thread */
    bool running;                                 /* between machine_resume() and machine_park() */
    bool loaded;                                  /* by machine_load(), and not resumed since */
    struct vcpu_state scratch[MACHINE_VCPUS_MAX]; /* of save and load; no allocation in the pause */
    int results[MACHINE_VCPUS_MAX];               /* of what each vCPU's thread was asked to do */
    struct error errors[MACHINE_VCPUS_MAX];
    uint64_t tsc_offsets[MACHINE_VCPUS_MAX];

    /* owned by the thread that checks */
    struct vcpu_state proof;
};

/* Callbacks of the vCPUs (machine_run.c). */
extern const struct vcpu_ops machine_vcpu_ops;

/* Puts vCPUs, interrupt controllers and PIT back to power-on and the kernel into memory. PARKED, or
 * inside a transition. Devices are reset by the caller. */
int machine_power_on(struct machine *machine, struct error *err);

/* The loaded state is of a guest that had ended: it stays parked, and the end is reported here,
 * too.
 */
void machine_end_for_good(struct machine *machine, enum machine_end how);

/* Creates every device of the configuration (machine_devices.c). What exists after an error is
 * destroyed by machine_destroy_devices(), which may be called in any case. */
int machine_create_devices(struct machine *machine, struct error *err);
void machine_destroy_devices(struct machine *machine);

/* Composes the identity text (machine_identity.c). */
int machine_compose_identity(struct machine *machine, struct error *err);

#endif
