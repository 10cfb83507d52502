/* Stock QEMU (qemu/) behind the table that checkpoint/ declares: the counterpart of kvm_machine.h,
 * and the only place that knows both.
 *
 * What the QEMU process writes is logged by what the kernel has for that (dirtylog/process_log.h).
 * A process that is lost takes ours with it: the other host has the last commit.
 *
 * Each process has its disks from volumes of ours, by NBD (disk/nbd_server.h). A process that is
 * stopped ends its requests first, so a cut has no request of a disk under way: what the state
 * believes to be written is in the log, and no more. */
#ifndef KEMARI_APP_QEMU_MACHINE_H
#define KEMARI_APP_QEMU_MACHINE_H

#include "app/outlet.h"
#include "checkpoint/machine_ops.h"
#include "dirtylog/process_log.h"
#include "disk/store.h"
#include "qemu/machine.h"
#include "vmm/machine.h"

struct qemu_adapter;

struct qemu_adapter_config {
    struct qemu_command command; /* disk_count, disks_read_only: set here */
    struct disk_store *disks;    /* borrowed; opened for cuts that drain */
    struct gmem_config memory;
    enum process_log dirty_log;
    bool standby; /* the process begins waiting for a state */
    enum qemu_panic_policy on_panic;
    struct panic_limit panic_limit;
    struct outlet_config outlet;
    /* As in struct kvm_machine_config. */
    void (*event)(void *context, enum machine_event event, const char *detail);
    void *context;
};

int qemu_adapter_create(const struct qemu_adapter_config *config, struct qemu_adapter **out,
                        struct error *err);
void qemu_adapter_destroy(struct qemu_adapter **adapter);

struct checkpoint_machine qemu_adapter_ops(struct qemu_adapter *adapter);
/* As kvm_machine_outlet(). */
struct outlet *qemu_adapter_outlet(struct qemu_adapter *adapter);
/* The process that runs the guest now, or waits for it. */
pid_t qemu_adapter_process(const struct qemu_adapter *adapter);

#endif
