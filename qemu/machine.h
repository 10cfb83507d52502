/* Stock QEMU as a machine: one process of the operator's own QEMU, driven from outside.
 *
 *                create                  boot                resume
 *   (nothing) ───────────► PARKED(empty) ────► PARKED ◄──────────────────► RUNNING
 *                 │                              ▲                  park
 *                 └──────► WAITING ──────────────┘ load
 *
 * A standby's process waits for a state (-incoming defer) with the guest's memory mapped, which
 * others fill. A machine that has run and is to load a state gets a new process over the same
 * memory, when it is checked whether it could load (qemu_machine_check()).
 *
 * The state has devices and processors, and memory that is the machine's own (qemu/cut.c): not the
 * guest's, and no disk.
 * QEMU's own dirty log isn't used: who wrote what is asked of the kernel (dirtylog/pagemap.c).
 *
 * The saving of its state is asked for as soon as the guest stands, so that the state is written
 * while the caller copies pages. QEMU's migration rests on the same: saving devices changes no
 * memory.
 *
 * Threads: as vmm/machine.h: one controlling thread at a time, which need not be the same. A thread
 * inside carries frames and console bytes and hears of events. */
#ifndef KEMARI_QEMU_MACHINE_H
#define KEMARI_QEMU_MACHINE_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/panic_limit.h"
#include "base/section.h"
#include "base/types.h"
#include "gmem/gmem.h"
#include "qemu/command.h"

#define QEMU_BELL         QEMU_DISKS_MAX /* as an index of open_disk() */
#define QEMU_FRAME_HEADER 12 /* of virtio-net, in front of frames; all zero from the guest */
#define QEMU_FRAME_MAX    (QEMU_FRAME_HEADER + 65550)

struct qemu_machine;

enum qemu_event {
    QEMU_EVENT_RESET,        /* the guest rebooted; it runs on by itself */
    QEMU_EVENT_POWER_OFF,    /* the guest switched itself off */
    QEMU_EVENT_PANICKED,     /* the guest's kernel says so; what follows is the policy's. With a
                              * `detail`: not that, since it did so too often */
    QEMU_EVENT_CRASH_LOADED, /* likewise, and the guest's own crash kernel goes on */
    QEMU_EVENT_LOST,         /* the process that ran the guest is gone; `detail` says how */
};

enum qemu_panic_policy {
    QEMU_PANIC_RESTART, /* reset in place */
    QEMU_PANIC_STOP,    /* as if it had switched itself off */
    QEMU_PANIC_IGNORE,  /* it is on its own */
};

/* What the guest says. On the thread inside, or the one that parks; must copy, must not block and
 * must not call back. */
struct qemu_output_ops {
    /* A frame with its header (QEMU_FRAME_HEADER) from network `index`. */
    void (*network)(void *context, unsigned index, const struct iovec *parts, int count);
    void (*console)(void *context, const uint8_t *data, size_t size);
    void (*event)(void *context, enum qemu_event event, const char *detail);
};

/* Everything behind a pointer is borrowed and outlives the machine. */
struct qemu_machine_config {
    struct gmem *memory;
    struct qemu_command command;    /* memory, keep_on_panic: set here */
    int preload_fd;                 /* given to the process as QEMU_FD_PRELOAD */
    const char *const *environment; /* "NAME=value" for the process, ends with NULL */
    /* A stream socket to an NBD server of disk `index`, or of the bell, for a process that is about
     * to start; the one before has ended. Taken over; -errno with the reason. On the controlling
     * thread, as is the next one; both get `context`. */
    int (*open_disk)(void *context, unsigned index, struct error *err);
    /* Have the disks requests that are not answered? A guest that is being stopped waits for them,
     * however long that takes. */
    bool (*disks_are_busy)(void *context);
    uint64_t disk_sizes[QEMU_DISKS_MAX]; /* bytes */
    int messages_fd;                     /* gets QEMU's own messages; 0: our stderr does */
    bool standby;                        /* begin WAITING */
    enum qemu_panic_policy on_panic;
    struct panic_limit panic_limit; /* with QEMU_PANIC_RESTART */
    const struct qemu_output_ops *output;
    void *context;
};

/* Starts the process and judges the machine in it: -EINVAL or -ENOTSUP with what can't be
 * protected. */
int qemu_machine_create(const struct qemu_machine_config *config, struct qemu_machine **out,
                        struct error *err);
void qemu_machine_destroy(struct qemu_machine **machine);

/* Whose writes are to be logged. Another one after a check() or load() of a machine that has run.
 */
pid_t qemu_machine_process(const struct qemu_machine *machine);

/* As the functions of the same names in vmm/machine.h, except that `elapsed` of load() is not asked
 * for: QEMU's clocks go on from where they were. park() and resume() can't fail: without QEMU's
 * answer they report QEMU_EVENT_LOST and, should that return, abort. */
void qemu_machine_park(struct qemu_machine *machine);
void qemu_machine_resume(struct qemu_machine *machine);
int qemu_machine_save(struct qemu_machine *machine, struct section_set *set, struct error *err);
int qemu_machine_check(struct qemu_machine *machine, const struct section_set *set,
                       struct error *err);
int qemu_machine_load(struct qemu_machine *machine, const struct section_set *set,
                      struct error *err);
int qemu_machine_net_attach(struct qemu_machine *machine, unsigned index, int fd,
                            struct error *err);

/* "key=value\n" lines: QEMU's version, the operator's words, processors and what they can do,
 * network cards, and what is booted. */
const char *qemu_machine_identity(const struct qemu_machine *machine);

#endif
