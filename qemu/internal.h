/* Inside of the machine: machine.c (its verbs), session.c (one process and the connections to it),
 * cut.c (how a state is had from it), identity.c. */
#ifndef KEMARI_QEMU_INTERNAL_H
#define KEMARI_QEMU_INTERNAL_H

#include <pthread.h>

#include "qemu/machine.h"
#include "qemu/process.h"
#include "qemu/qmp.h"
#include "qemu/ram_blocks.h"

struct event;
struct event_base;

#define QEMU_IDENTITY_MAX 4096

/* How long QEMU may take: to start, to answer in the pause, to load a state. */
#define QEMU_START_TIMEOUT  SEC(20)
#define QEMU_ANSWER_TIMEOUT SEC(10)

/* One process. Set up and torn down by the controlling thread. */
struct qemu_session {
    bool incoming; /* it was started to load a state ... */
    bool loaded;   /* ... and has */
    int saved_fd;  /* what it saves to */
    int firmware_fd;
    int incoming_fd;
    struct ram_blocks blocks;
    bool firmware_due;    /* the answer to what asked for the firmware, on `control`, */
    unsigned answers_due; /* and to what asked for a state, on `saver` */
    bool handed;          /* QEMU has the file that the next migration writes to */
    bool kept;            /* it has the state of a guest that hasn't run since */
    struct qmp *control;  /* the controlling thread's */
    struct qmp *saver;    /* likewise; for states alone, since `control` is for what comes next */
    struct event *process_ended, *told, *typed;
    struct event *sent[QEMU_NETS_MAX];
    /* the thread inside's; `net_fds` are used by the parking thread, too, with `drain_lock` */
    struct qmp *events;
    unsigned panics_heard;              /* and not yet told */
    bool panic_counted, crash_was_told; /* since the guest was started */
    int serial_fd;
    int net_fds[QEMU_NETS_MAX];

    struct process process;
    /* heard on `control` */
    bool off;             /* the guest has switched itself off */
    bool panicked;        /* it has panicked, runs on, and was not reset since */
    bool migration_ended; /* to this process or from it; begun by migrate-incoming or migrate */
    bool migration_failed;
};

struct qemu_machine {
    /* set at creation */
    struct qemu_machine_config config;
    struct event_base *base;
    pthread_t thread;
    bool thread_started;
    char identity[QEMU_IDENTITY_MAX];
    uint8_t *buffer; /* STREAM_MAX bytes, of a state; the controlling thread's */
    /* what a processor begins with; of the first process that has it */
    uint8_t *firmware;
    size_t firmware_size;
    bool firmware_writable;
    bool own_memory; /* of the first process, too: states have all memory but the guest's */

    /* the controlling thread's */
    struct qemu_session session;
    bool open;               /* a session is there */
    bool saving;             /* a state was asked for, and the answer isn't taken */
    struct qemu_attachment { /* to where frames for the guest come from */
        struct qemu_machine *machine;
        unsigned index;
        struct event *event;
    } attached[QEMU_NETS_MAX];

    pthread_mutex_t drain_lock;    /* whoever takes frames and console bytes, until they are put */
    uint8_t frame[QEMU_FRAME_MAX]; /* with it */

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t started;
    bool parked;
    bool executing; /* the guest has run in this process */
    struct panic_count panics;
    const char *due; /* an order of the panic policy that QEMU does not have yet, or NULL */
    bool given_up;   /* by the panic policy: the guest is off, although it did not say so */
    struct start_job *job;
};

/* session.c */
int session_open(struct qemu_machine *m, bool incoming, struct error *err);
void session_close(struct qemu_machine *m);
/* Asks for the firmware, which will be in firmware_fd's file; qmp_receive() takes the answer. */
int session_ask_firmware(struct qemu_machine *m, struct error *err);
/* What is in that file. */
int session_take_firmware(struct qemu_machine *m, uint8_t *out, struct error *err);
/* Reads the firmware out of a process that doesn't wait for a state. */
int session_read_firmware(struct qemu_machine *m, struct error *err);
/* Has the process not ended? */
bool session_is_alive(const struct qemu_session *s);
/* What the event MIGRATION says of one that this process takes part in. */
void session_note_migration(struct qemu_session *s, const char *status);
/* Takes all frames and console bytes that QEMU has sent. */
void session_drain(struct qemu_machine *m);
/* The guest has panicked: tells so, and what the policy says is due. */
void session_panicked(struct qemu_machine *m);
/* With `lock`: the guest goes on, and what became due meanwhile is carried out inside. */
void session_continued(struct qemu_machine *m);

/* cut.c, all by the controlling thread */

/* Once for a process, before it saves or loads a state. */
int cut_open(struct qemu_machine *m, struct error *err);
/* What can be done before the guest stands. */
int cut_prepare(struct qemu_machine *m, struct error *err);
/* Asks for a state of the guest, which stands, or will when its turn comes. */
int cut_ask(struct qemu_machine *m, struct error *err);
/* Waits for what was asked: -EIO when QEMU refuses or fails, after which the guest can run on. */
int cut_end(struct qemu_machine *m, struct error *err);
/* The checked stream to `buffer`. */
int cut_read(struct qemu_machine *m, size_t *size, struct error *err);
/* Of a machine with memory of its own takes one to see that it can be had and has all memory:
 * -ENOTSUP. The guest has not run. */
int cut_try(struct qemu_machine *m, struct error *err);

/* identity.c */
int identity_make(struct qemu_machine *m, struct error *err);

#endif
