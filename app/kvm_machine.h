/* Our KVM machine (vmm/) behind the table that checkpoint/ declares: the only place that knows
 * both. What the guest says leaves by an outlet. */
#ifndef KEMARI_APP_KVM_MACHINE_H
#define KEMARI_APP_KVM_MACHINE_H

#include "app/outlet.h"
#include "checkpoint/machine_ops.h"
#include "disk/store.h"
#include "vmm/machine.h"

struct kvm_machine;

struct kvm_machine_config {
    /* `memory`, `output`, `output_context` and the disks are set by the adapter. */
    struct machine_config machine;
    struct disk_store *disks; /* borrowed, outlives the machine; NULL: none */
    struct gmem_config memory;
    struct outlet_config outlet;
    /* The guest reset, went off or failed: any machine thread, must only take note. */
    void (*event)(void *context, enum machine_event event, const char *detail);
    void *context;
};

int kvm_machine_create(const struct kvm_machine_config *config, struct kvm_machine **out,
                       struct error *err);
void kvm_machine_destroy(struct kvm_machine **machine);

/* For the table's users. */
struct checkpoint_machine kvm_machine_ops(struct kvm_machine *machine);

/* Lives as long as the machine; its networks are to be opened. */
struct outlet *kvm_machine_outlet(struct kvm_machine *machine);

/* Loads the kernel: on the side that starts the guest. */
int kvm_machine_boot(struct kvm_machine *machine, struct error *err);

/* machine_console_input() of the machine inside. Any thread. */
size_t kvm_machine_type(struct kvm_machine *machine, enum machine_console which,
                        const uint8_t *data, size_t size);

#endif
