/* What the machine asks of every device, in the order of a device's life. All calls hold the device
 * lock; vCPUs are parked for save, check, load and reset. */
#ifndef KEMARI_VMM_DEVICE_H
#define KEMARI_VMM_DEVICE_H

#include "base/error.h"
#include "base/section.h"
#include "gmem/gmem.h"
#include "vmm/device_lock.h"
#include "vmm/irq.h"

/* What a device may use. Borrowed; outlives the device. */
struct device_env {
    struct gmem *memory;
    struct irq irq;
    struct device_lock *lock;  /* held by every handler, see docs/threads.md */
    struct event_base *events; /* libevent loop of the machine's I/O thread. Callbacks take `lock`
                                  themselves. Thread-safe (evthread_use_pthreads). */
};

struct device {
    const struct device_ops *ops;
    void *context;
    uint32_t instance; /* tells devices of one kind apart in state sections */
};

struct device_ops {
    const char *name; /* of its sections and in messages, for example "virtio-net" */

    /* Power-on state, as after RESET#. Drops what is in flight. Cannot fail. */
    void (*reset)(void *context);

    /* Returns once nothing in flight inside the host touches guest memory. Work that doesn't may go
     * on (disk I/O in buffers), if the saved state has it done again; may wait with
     * device_lock_wait(). New requests can't arrive: vCPUs are parked and the caller keeps the lock
     * until resume. NULL when the device has nothing asynchronous. */
    void (*quiesce)(void *context);

    /* Called after a resume that follows quiesce or load: restart what quiesce stopped, look again
     * at backends. May be NULL. */
    void (*resume)(void *context);

    /* Appends the device's sections. Fails only with -ENOMEM or -E2BIG. */
    int (*save)(const void *context, uint32_t instance, struct section_set *set, struct error *err);

    /* Proves that load() of this set would succeed and that every field is legal for this device's
     * configuration (ring sizes, addresses inside guest memory, indices). Changes nothing. */
    int (*check)(const void *context, uint32_t instance, const struct section_set *set,
                 struct error *err);

    /* Takes over the state. Called only after check() of the same set succeeded: cannot fail. */
    void (*load)(void *context, uint32_t instance, const struct section_set *set);

    void (*destroy)(void *context);
};

#endif
