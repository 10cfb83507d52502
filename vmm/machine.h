/* The KVM machine: one x86-64 guest in this process.
 *
 *              machine_create                machine_boot or machine_load
 *   (nothing) ───────────────► PARKED(empty) ───────────────► PARKED
 *                                                     machine_resume │ ▲ machine_park
 *                                                                    ▼ │
 *                                                                   RUNNING
 *
 * A reset by the guest is carried out inside (devices reset, kernel loaded again) and only
 * reported, and so is one by the panic policy; power-off and a broken vCPU leave the machine PARKED
 * for good and are reported.
 *
 * Threads: every function below is called by one controlling thread at a time (whoever runs the
 * epochs), except where stated. One thread per vCPU and one I/O thread live inside. */
#ifndef KEMARI_VMM_MACHINE_H
#define KEMARI_VMM_MACHINE_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/panic_limit.h"
#include "base/section.h"
#include "base/types.h"
#include "gmem/gmem.h"
#include "vmm/blk_backend.h"

#define MACHINE_VCPUS_MAX 64
#define MACHINE_NETS_MAX  8
#define MACHINE_DISKS_MAX 16
/* KVM runs a guest unscaled when the frequencies differ less than this (parameter tsc_tolerance_ppm
 * of the kvm module). */
#define MACHINE_TSC_TOLERANCE_PPM 250
#define MACHINE_FRAME_MAX         (12 + 65550) /* virtio-net header and the largest GSO frame */

struct machine;

enum machine_console { MACHINE_CONSOLE_SERIAL, MACHINE_CONSOLE_VIRTIO };

enum machine_event {
    MACHINE_EVENT_RESET,        /* the guest rebooted; it runs on by itself */
    MACHINE_EVENT_POWER_OFF,    /* the guest switched itself off */
    MACHINE_EVENT_FAILED,       /* a vCPU can't go on; `detail` says why */
    MACHINE_EVENT_PANICKED,     /* the guest's kernel says so; what follows is the policy's. With a
                                 * `detail`: not that, since it did so too often */
    MACHINE_EVENT_CRASH_LOADED, /* likewise, and the guest's own crash kernel goes on */
    MACHINE_EVENT_COUNT
};

/* What becomes of a guest that reports a panic (vmm/pvpanic.h). */
enum machine_panic_policy {
    MACHINE_PANIC_RESTART, /* reset in place */
    MACHINE_PANIC_STOP,    /* as if it had switched itself off */
    MACHINE_PANIC_IGNORE,  /* it is on its own */
};

/* What the guest says to the outside. Called under the device lock on any machine thread; must
 * copy, must not block and must not call back into the machine. */
struct machine_output_ops {
    /* A frame with its virtio-net header (12 bytes, virtio 1.2 §5.1.6) from network `index`. */
    void (*network)(void *context, unsigned index, const struct iovec *parts, int count);
    /* Bytes from a console. */
    void (*console)(void *context, enum machine_console which, const uint8_t *data, size_t size);
    /* `detail` is a phrase or NULL. */
    void (*event)(void *context, enum machine_event event, const char *detail);
};

struct machine_net_config {
    uint8_t mac[6];
};

/* What to boot, and to boot again after a reset. `kernel` is a bzImage, or an ELF64 vmlinux (also
 * what our test guests are), entered by the 64-bit boot protocol: long mode, RSI = boot_params,
 * identity-mapped page tables, interrupts off. `initrd` and `command_line` may be NULL. */
struct machine_boot_config {
    const char *kernel;
    const char *initrd;
    const char *command_line;
};

/* Everything is copied except `memory`, the backends of the disks and the strings behind `output`,
 * which are borrowed and must outlive the machine. */
struct machine_config {
    struct gmem *memory;
    struct machine_boot_config boot;
    unsigned vcpus; /* 1..MACHINE_VCPUS_MAX */
    unsigned net_count;
    struct machine_net_config nets[MACHINE_NETS_MAX];
    unsigned disk_count;
    struct blk_backend disks[MACHINE_DISKS_MAX];
    bool virtio_console;
    bool rng;
    enum machine_panic_policy on_panic;
    struct panic_limit panic_limit; /* with MACHINE_PANIC_RESTART */
    const struct machine_output_ops *output;
    void *output_context;
};

/* Builds VM, vCPUs, interrupt controllers, buses and devices. The guest does not run. On error
 * nothing is left; the phrase says what this host lacks. */
int machine_create(const struct machine_config *config, struct machine **out, struct error *err);

/* Stops all threads and frees everything; from any state, also while RUNNING. */
void machine_destroy(struct machine **machine);

/* Loads the configured kernel, initrd and tables into guest memory (marking it dirty) and sets vCPU
 * 0's registers. A standby never calls it; it is configured with the same files (their digests are
 * in the identity), so that a guest that reboots after a promotion finds its kernel. */
int machine_boot(struct machine *machine, struct error *err);

/* Runs or stops the guest. After park() every vCPU is out of guest mode with pending I/O completed,
 * and nobody writes guest memory or produces output until resume().
 * Parking twice, or resuming what runs, is a bug (assertion). */
void machine_park(struct machine *machine);
void machine_resume(struct machine *machine);

/* Appends all state sections: PARKED only. */
int machine_save(struct machine *machine, struct section_set *set, struct error *err);

/* Proves that machine_load() of this set would succeed, changing nothing visible to the guest. May
 * be called on a PARKED machine from a thread other than the controlling one, one at a time. */
int machine_check(struct machine *machine, const struct section_set *set, struct error *err);

/* Takes over the state; PARKED only, guest memory has been filled before. `elapsed` is how long ago
 * (host monotonic time, ns, >= 0) the state was taken: the guest's clocks are moved forward by it
 * and never go backwards. A state of a guest that had ended is reported as its end. On error (a bug
 * after a successful check, or the kernel refused) the machine must be destroyed. */
int machine_load(struct machine *machine, const struct section_set *set, nsec_t elapsed,
                 struct error *err);

/* The VM descriptor, for the dirty log. Borrowed. */
int machine_vm_fd(const struct machine *machine);

/* Attaches the receive side of network `index` to a tap or socket descriptor (non-blocking; frames
 * carry the 12-byte virtio-net header). -1 detaches. The descriptor stays the caller's. Any state.
 */
int machine_net_attach(struct machine *machine, unsigned index, int fd, struct error *err);

/* Bytes typed at a console. Returns how many were accepted. Any thread. */
size_t machine_console_input(struct machine *machine, enum machine_console which,
                             const uint8_t *data, size_t size);

/* One line per property that must be equal on both hosts, "key=value\n" each: vCPUs, CPUID digest,
 * devices with their addresses, MACs, disk sizes, section versions, the MSR list. Owned by the
 * machine. Valid until destroy. */
const char *machine_identity(const struct machine *machine);

#endif
