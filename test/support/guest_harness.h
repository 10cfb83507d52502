/* A machine with one of our own guests (test/guest) in it, for tests and benches.
 *
 * Knows nothing of checkpoints: it makes machines, boots guests, and can carry a guest from one
 * machine to another by hand (state through its encoded form, memory by copy). What the outside
 * sees is a struct world (test/support/world.h).
 *
 *   struct world *world = world_create();
 *   struct guest *guest;
 *   guest_create(&(struct guest_config){.program = "echo", .world = world}, &guest, &err);
 *   guest_boot(guest, &err);
 *   world_wait_console(world, "ready", NULL, 2000);
 *
 * Functions are called by one thread at a time, like those of the machine. */
#ifndef KEMARI_TEST_SUPPORT_GUEST_HARNESS_H
#define KEMARI_TEST_SUPPORT_GUEST_HARNESS_H

#include "base/error.h"
#include "base/section.h"
#include "gmem/gmem.h"
#include "test/support/world.h"
#include "vmm/machine.h"

#define GUEST_MEMORY_DEFAULT ((uint64_t)64 << 20)

struct guest;

struct guest_config {
    const char *program;   /* name of a guest: "echo", "pagewriter", ... */
    const char *arguments; /* its command line; NULL: empty */
    uint64_t memory;       /* bytes; 0: GUEST_MEMORY_DEFAULT */
    unsigned vcpus;        /* 0: 1 */
    bool network;          /* one virtio-net, MAC 52:54:00:4b:45:01 */
    struct world *world;   /* borrowed, outlives the guest; gets output where `output` is NULL */
    /* Where output goes instead, when somebody holds it. Borrowed. */
    const struct machine_output_ops *output;
    void *output_context;
    /* Further devices, or anything else of the machine: called with the configuration before the
     * machine is made. May be NULL. */
    void (*adjust)(struct machine_config *config);
};

/* Ends the program as skipped when there is no usable KVM here. Call before test_run(). */
void guest_require_kvm(void);

/* Makes a machine, parked and empty. */
int guest_create(const struct guest_config *config, struct guest **out, struct error *err);

/* Unplugs the world's wire if it is plugged in here, and frees everything. From any state. */
void guest_destroy(struct guest **guest);

/* Loads the program, plugs the wire in (with `network`), and runs. */
int guest_boot(struct guest *guest, struct error *err);

struct machine *guest_machine(struct guest *guest); /* borrowed */
struct gmem *guest_memory(struct guest *guest);     /* borrowed */

/* Park and resume, once: a second call of the same changes nothing. */
void guest_park(struct guest *guest);
void guest_resume(struct guest *guest);

/* Makes the memory of `to` equal to that of `from`. Both parked, of one size. */
void guest_copy_memory(const struct guest *from, struct guest *to);

/* Compares the memories; true when equal, else `*gfn` is the first page that differs. */
bool guest_same_memory(const struct guest *a, const struct guest *b, gfn_t *gfn);

/* Carries the running guest over: parks `from`, saves, encodes and decodes the state, checks it,
 * copies memory, loads it into `to`, moves the wire and resumes there. `from` stays parked. */
int guest_move(struct guest *from, struct guest *to, struct error *err);

/* As guest_move() up to and including the load: both stay parked and the wire where it is.
 * `state`, if not NULL, gets the state that was carried. */
int guest_transfer(struct guest *from, struct guest *to, struct section_set *state,
                   struct error *err);

/* Writes the names of sections that are not equal in both sets (or in one only) as
 * "name/instance name/instance ..." into `text`; returns how many. */
size_t guest_compare_states(const struct section_set *a, const struct section_set *b, char *text,
                            size_t size);

#endif
