/* A QEMU behind the table of checkpoint/, without roles: the test parks and resumes it, and holds
 * the other end of its wire. No disks. */
#ifndef KEMARI_TEST_SUPPORT_QEMU_SIDE_H
#define KEMARI_TEST_SUPPORT_QEMU_SIDE_H

#include "app/qemu_machine.h"

struct qemu_side_config {
    const char *const *command; /* of QEMU, ends with NULL; borrowed */
    uint64_t memory;            /* bytes */
    unsigned nets;              /* 0 or 1 network card */
    enum process_log log;
    bool standby;
    enum qemu_panic_policy on_panic;
    struct panic_limit panic_limit;
};

struct qemu_side {
    struct qemu_adapter *adapter;
    struct checkpoint_machine machine;
    struct gmem *memory;
    struct outbox *outbox;    /* open */
    struct disk_store *disks; /* none */
    int way_out;              /* the test's end of the network */
    int way_in;               /* the machine's, until it has it */
    uint64_t frames;          /* of the guest, counted so far */
    /* What was heard of it. */
    _Atomic unsigned resets, panics, offs;
    _Atomic unsigned last_panics; /* with the word that it is stopped for that */
    _Atomic bool holds_panics;    /* the test's: who tells of a panic waits until it is false */
};

/* Starts it, parked. 0 or an error; then nothing is left. */
int qemu_side_open(const struct qemu_side_config *config, struct qemu_side *side,
                   struct error *err);
void qemu_side_close(struct qemu_side *side);

/* Takes the frames that the guest has sent since the last time. */
void qemu_side_count_frames(struct qemu_side *side);

#endif
