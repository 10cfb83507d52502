/* The command line of a QEMU process: the operator's words, checked, and ours behind them.
 *
 * The words may say what the machine is (-machine, -cpu, -accel, -device, ...), and nothing that
 * lets the guest speak past the outbox or keeps state where no checkpoint sees it: memory, network,
 * consoles and monitors are ours. So what is not known to be harmless is refused by name. */
#ifndef KEMARI_QEMU_COMMAND_H
#define KEMARI_QEMU_COMMAND_H

#include "base/error.h"
#include "base/types.h"

#define QEMU_NETS_MAX  8
#define QEMU_DISKS_MAX 16
#define QEMU_MEMORY    "kemari-ram" /* name of the memory's RAM block */

/* Descriptors as a QEMU process has them. */
enum qemu_fd {
    QEMU_FD_MEMORY = 3, /* the guest's memory */
    QEMU_FD_CONTROL,    /* QMP: commands */
    QEMU_FD_SAVER,      /* QMP: likewise, to save states */
    QEMU_FD_EVENTS,     /* QMP: events only */
    QEMU_FD_SAVED,      /* file that a saved state is written to */
    QEMU_FD_FIRMWARE,   /* file that the firmware is written to */
    QEMU_FD_INCOMING,   /* file that a state is loaded from */
    QEMU_FD_SERIAL,
    QEMU_FD_PRELOAD,
    QEMU_FD_BELL,                               /* the bell of the disks */
    QEMU_FD_NET,                                /* the first of QEMU_NETS_MAX */
    QEMU_FD_DISK = QEMU_FD_NET + QEMU_NETS_MAX, /* the first of QEMU_DISKS_MAX: NBD servers */
    QEMU_FD_END = QEMU_FD_DISK + QEMU_DISKS_MAX
};

struct qemu_command {
    const char *const *words; /* ends with NULL; the first is the program */
    uint64_t memory;          /* bytes */
    unsigned vcpus;
    const char *kernel, *initrd, *command_line; /* or NULL */
    const char *net_device;                     /* driver of the network cards */
    unsigned net_count;
    uint8_t macs[QEMU_NETS_MAX][6];
    const char *disk_device; /* driver of the disks, and its properties */
    unsigned disk_count;
    bool disks_read_only[QEMU_DISKS_MAX];
    bool trial;         /* the disks are empty and nobody's, for a guest that never runs */
    bool keep_on_panic; /* QEMU leaves a guest that panicked alone */
};

/* The disks come from NBD servers. When QEMU has stopped the guest and ended all of its requests,
 * it flushes every disk, those of -drive before those of -device: so one of the former that no
 * device has, the *bell*, tells that what is flushed from now on isn't the guest's. Should another
 * QEMU not ring it, or not first, its flushes are carried out. */

/* Pure. -EINVAL with what is wrong with the operator's words, or has an option of its own; -ENOTSUP
 * with what no checkpoint could have. */
int qemu_command_check(const struct qemu_command *command, struct error *err);

/* Do the operator's words leave no other accelerator than KVM? Pure. */
bool qemu_command_needs_kvm(const char *const *words);

/* The arguments, ending with NULL; freed by qemu_command_free(). NULL when out of memory. The guest
 * of a process that is to load a state waits for it (`incoming`). */
char **qemu_command_arguments(const struct qemu_command *command, bool incoming);
void qemu_command_free(char ***arguments);

#endif
