/* Our KVM machine (vmm/) behind the table that checkpoint/ declares: the only place that knows
 * both.
 *
 * Output: frames, console bytes and tickets of changes of shared disks (disk/mode_shared.h) go to
 * the outbox; what it releases goes to the tap, the console file or the disk. Ports of the outbox:
 * network index, KVM_MACHINE_PORT_CONSOLE + console, or KVM_MACHINE_PORT_DISKS. */
#ifndef KEMARI_APP_KVM_MACHINE_H
#define KEMARI_APP_KVM_MACHINE_H

#include "checkpoint/machine_ops.h"
#include "disk/store.h"
#include "vmm/machine.h"

#define KVM_MACHINE_PORT_CONSOLE 0x100u
#define KVM_MACHINE_PORT_DISKS   0x200u

struct kvm_machine;

struct kvm_machine_config {
    /* `memory`, `output`, `output_context` and the disks are set by the adapter. */
    struct machine_config machine;
    struct disk_store *disks; /* borrowed, outlives the machine; NULL: none */
    struct gmem_config memory;
    /* Opens the way out of network `index`: a non-blocking descriptor that takes and gives whole
     * frames with their virtio-net header (tap_open(), or a socket in tests), or -errno. */
    int (*open_network)(void *context, unsigned index, struct error *err);
    int console_fd;    /* where console output goes, borrowed; -1: nowhere */
    bool console_free; /* console output isn't held (DESIGN §5: for debugging) */
    /* The same bytes, once they may be seen: any thread, must not wait. NULL: nobody listens. */
    void (*console)(void *context, enum machine_console which, const uint8_t *data, size_t size);
    /* The guest reset, went off or failed: any machine thread, must only take note. */
    void (*event)(void *context, enum machine_event event, const char *detail);
    void *context;
};

int kvm_machine_create(const struct kvm_machine_config *config, struct kvm_machine **out,
                       struct error *err);
void kvm_machine_destroy(struct kvm_machine **machine);

/* For the table's users. */
struct checkpoint_machine kvm_machine_ops(struct kvm_machine *machine);

/* Opens the ways out, on both sides and long before a promotion: a bridge forwards to a tap only
 * some time after it was opened. Nothing is read or written until output_open(). */
int kvm_machine_open_networks(struct kvm_machine *machine, struct error *err);

/* Loads the kernel: on the side that starts the guest. */
int kvm_machine_boot(struct kvm_machine *machine, struct error *err);

/* machine_console_input() of the machine inside. Any thread. */
size_t kvm_machine_type(struct kvm_machine *machine, enum machine_console which,
                        const uint8_t *data, size_t size);

/* Frames that the way out refused, as a full network queue does. */
uint64_t kvm_machine_dropped_frames(const struct kvm_machine *machine);

#endif
