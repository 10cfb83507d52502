/* The machine, as checkpoint/, primary/ and secondary/ know it: this table and nothing else.
 *
 * A machine may live in this process (vmm/) or in another one (stock QEMU); nobody here assumes
 * that vCPUs or devices are ours, that state is small or that a pause is cheap (DESIGN §7). app/
 * connects a machine to the table; tests bring a fake.
 *
 * Threads: unless a slot says otherwise, one controlling thread at a time calls: the engine's on a
 * primary, the role's on a secondary until it promotes. */
#ifndef KEMARI_CHECKPOINT_MACHINE_OPS_H
#define KEMARI_CHECKPOINT_MACHINE_OPS_H

#include "base/error.h"
#include "base/section.h"
#include "base/types.h"
#include "checkpoint/disk_ops.h"
#include "checkpoint/outbox.h"
#include "dirtylog/dirty_set.h"
#include "gmem/gmem.h"

struct checkpoint_machine_ops {
    const char *name; /* "kvm", "qemu": for status and the handshake */

    /* Properties, valid for the machine's life. Any thread. */
    struct gmem *(*memory)(void *machine);
    const char *(*identity)(void *machine); /* "key=value\n" lines, equal on both hosts */

    /* Dirty tracking. After start() the caller treats all of memory as dirty; collect() ORs what
     * was written since, by the guest or on its behalf, and re-arms. The guest may be running; a
     * machine of which dirty_wants_park() is true (NULL: it is not) re-arms only while parked, and
     * then tells once more what it told of a running guest. */
    int (*dirty_start)(void *machine, struct error *err);
    int (*dirty_collect)(void *machine, struct dirty_set *set, struct error *err);
    void (*dirty_stop)(void *machine);
    bool (*dirty_wants_park)(void *machine);

    /* park(): when it returns, no vCPU is in the guest, guest memory is still and no output is
     * produced, until resume(). Requests to a disk may be under way if the state has them. Strictly
     * alternating; resume() first for a machine that was created or loaded. Cannot fail: a machine
     * that can't stop is aborted. */
    void (*park)(void *machine);
    void (*resume)(void *machine);

    /* Appends the complete state except memory. Parked only. */
    int (*save)(void *machine, struct section_set *set, struct error *err);

    /* Proves that load() of `set` would succeed, without effect. On a standby this is called by the
     * receiving thread while nothing else uses the machine. */
    int (*check)(void *machine, const struct section_set *set, struct error *err);

    /* Takes over a checked state; memory has been filled before. `elapsed` >= 0 is the time since
     * the state was taken, by which guest clocks move forward. After an error only destroy. */
    int (*load)(void *machine, const struct section_set *set, nsec_t elapsed, struct error *err);

    /* Where everything goes that the guest says, from now on; NULL drops it. Called with the guest
     * parked, before the first resume(). */
    void (*output_to)(void *machine, struct outbox *outbox);

    /* Opens the ways to the outside (tap, console). Idempotent. Called before the first resume() of
     * a guest on this host. */
    int (*output_open)(void *machine, struct error *err);
    /* The guest goes on elsewhere: nothing more is received for it here, until output_open().
     * Parked only. */
    void (*output_close)(void *machine);

    /* Announces the guest's addresses to the network: to the outbox like any output (P2: they may
     * be elsewhere already), or at once before output_to(), in a promotion. Any thread, as long as
     * the outbox lives. */
    void (*announce)(void *machine);

    /* Makes one piece of held output visible: called by the outbox, in the order the guest produced
     * it, on whichever thread releases; never for two pieces at once. Must not block for long and
     * cannot fail: what the medium refuses is lost as on any network, and counted there. */
    void (*emit)(void *machine, uint32_t port, const uint8_t *data, size_t size);

    /* True when nothing that was emitted is still on its way, such as a write to a shared disk:
     * only then may another host go on. Parked only; it becomes true in its own time. NULL: always.
     */
    bool (*output_done)(void *machine);
};

struct checkpoint_machine {
    const struct checkpoint_machine_ops *ops;
    void *context;
    struct checkpoint_disks disks; /* `ops` NULL: none whose writes travel */
};

#endif
