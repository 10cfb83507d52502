/* What a guest says outwards, the same for every machine: frames, console bytes and tickets of
 * changes of shared disks (disk/mode_shared.h, disk/mode_buffered.h) go to the outbox, and what
 * that releases goes to the tap, the console file or the disk. Ports of the outbox: network index,
 * OUTLET_PORT_CONSOLE + console, or OUTLET_PORT_DISKS.
 *
 * The outlet_on_ functions are the machine's, on any of its threads; outlet_emit() is the outbox's.
 * All others are for the controlling thread. */
#ifndef KEMARI_APP_OUTLET_H
#define KEMARI_APP_OUTLET_H

#include "checkpoint/machine_ops.h"
#include "disk/store.h"
#include "vmm/machine.h"

#define OUTLET_NETS_MAX     8
#define OUTLET_PORT_CONSOLE 0x100u
#define OUTLET_PORT_DISKS   0x200u

/* What the machine's owner says. */
struct outlet_config {
    /* Opens the way out of network `index`: a non-blocking descriptor that takes and gives whole
     * frames with their virtio-net header (tap_open(), or a socket in tests), or -errno. */
    int (*open_network)(void *context, unsigned index, struct error *err);
    int console_fd;    /* where console output goes, borrowed; -1: nowhere */
    bool console_free; /* console output isn't held (DESIGN §5: for debugging) */
    /* The same bytes, once they may be seen: any thread, must not wait. NULL: nobody listens. */
    void (*console)(void *context, enum machine_console which, const uint8_t *data, size_t size);
    void *context;
};

/* What the machine says. */
struct outlet_machine {
    unsigned net_count;
    uint8_t macs[OUTLET_NETS_MAX][6];
    struct disk_store *disks; /* whose changes may have to be held, borrowed; NULL: none */
    /* Network `index` receives from `fd`, which stays the outlet's; -1: from nobody. */
    int (*attach)(void *machine, unsigned index, int fd, struct error *err);
    void *machine;
};

struct outlet {
    struct outlet_config config;
    struct outlet_machine machine;
    int net_fds[OUTLET_NETS_MAX];  /* -1 until outlet_open_networks() */
    bool is_open;                  /* the guest receives */
    struct outbox *_Atomic outbox; /* NULL: output is dropped */
    _Atomic uint64_t dropped_frames;
};

/* Both are copied. */
void outlet_init(struct outlet *outlet, const struct outlet_config *config,
                 const struct outlet_machine *machine);
/* Closes the networks. */
void outlet_fini(struct outlet *outlet);

/* Opens the ways out, on both sides and long before a promotion: a bridge forwards to a tap only
 * some time after it was opened. Nothing is read or written until outlet_open(). */
int outlet_open_networks(struct outlet *outlet, struct error *err);

/* Frames that the way out refused, as a full network queue does. Any thread. */
uint64_t outlet_dropped_frames(const struct outlet *outlet);

/* In what follows `machine` begins with its outlet. */

/* The guest says something. */
void outlet_on_network(void *machine, unsigned index, const struct iovec *parts, int count);
void outlet_on_console(void *machine, enum machine_console which, const uint8_t *data, size_t size);

/* The functions of the table (checkpoint/machine_ops.h) that have these names there: output_to,
 * output_open, output_close, output_done, announce and emit. */
void outlet_to(void *machine, struct outbox *outbox);
int outlet_open(void *machine, struct error *err);
void outlet_close(void *machine);
bool outlet_is_done(void *machine);
void outlet_announce(void *machine);
void outlet_emit(void *machine, uint32_t port, const uint8_t *data, size_t size);

#endif
