/* The outside of a guest in a test: what everybody out there can see of it, and a wire to it.
 *
 * A world stays while machines come and go: a failover moves its wire to another machine. It takes
 * output either straight from a machine (world_output as the machine's output table, the world as
 * context) or from whoever holds output and releases it (the world_put_ functions).
 *
 * All functions may be called on any thread, except create and destroy. Waiting always has a
 * deadline. */
#ifndef KEMARI_TEST_SUPPORT_WORLD_H
#define KEMARI_TEST_SUPPORT_WORLD_H

#include "base/types.h"
#include "vmm/machine.h"

#define WORLD_CONSOLE_MAX (1u << 20) /* bytes kept; more is a failure of the test (aborts) */
#define WORLD_FRAMES_MAX  8192u      /* frames waiting to be received; further ones are dropped */
#define WORLD_FRAME_MAX   2048u      /* bytes of a frame without virtio-net header */

struct world;

/* Aborts when the host has no memory or descriptors: a test can't go on then. */
struct world *world_create(void);
void world_destroy(struct world **world);

/* Output table of a machine whose output nobody holds; context is the world. Every frame of every
 * network index arrives in one queue. */
extern const struct machine_output_ops world_output;

/* The same by hand. `frame` carries the 12-byte virtio-net header. */
void world_put_frame(struct world *world, const uint8_t *frame, size_t size);
void world_put_console(struct world *world, const uint8_t *data, size_t size);
void world_put_event(struct world *world, enum machine_event event);

/* Plugs the wire into network 0 of `machine`, after taking it out of the one before. NULL: leaves
 * it unplugged. Frames sent while it is unplugged wait in the wire. A machine must be unplugged
 * before it is destroyed. */
void world_plug(struct world *world, struct machine *machine);

/* Takes the wire out of `machine` if it is plugged in there. */
void world_unplug(struct world *world, const struct machine *machine);

/* The descriptor a machine's network may be attached to (what world_plug() uses). Borrowed. */
int world_wire_fd(const struct world *world);

/* Sends an Ethernet frame (without virtio-net header) to the guest. Waits while the wire is full (a
 * host's unix sockets hold ten frames at least), 5 s at most; false then. */
bool world_send(struct world *world, const uint8_t *frame, size_t size);

/* The next frame from the guest, without virtio-net header, into `frame` (WORLD_FRAME_MAX bytes).
 * Returns its size, 0 when none came within `timeout_ms`. `seen`, if not NULL, gets the time at
 * which it became visible. */
size_t world_receive(struct world *world, uint8_t *frame, unsigned timeout_ms, nsec_t *seen);

/* Forgets frames that have not been received. */
void world_drop_frames(struct world *world);

/* Waits until the console's text contains `text` at or after position `*from`; true then, and
 * `*from` is behind it. `from` may be NULL: anywhere. Returns false at once when a guest complained
 * (see below) and the text is not there. What was said last goes to stderr when it is false. */
bool world_wait_console(struct world *world, const char *text, size_t *from, unsigned timeout_ms);

/* Bytes of console text so far. */
size_t world_console_size(struct world *world);

/* Copies console text from `from` on, terminated, at most size-1 bytes; returns how many. */
size_t world_console_text(struct world *world, size_t from, char *text, size_t size);

/* True when the text has a line of a test guest that found something wrong ("CORRUPT", "BACKWARDS",
 * "LOST", "EXCEPTION", "FAIL"); copies that line. */
bool world_complaint(struct world *world, char *line, size_t size);

/* Waits for the number of events of that kind to reach `count`. */
bool world_wait_event(struct world *world, enum machine_event event, unsigned count,
                      unsigned timeout_ms);

#endif
