/* Inside of the machine: machine.c (its verbs), session.c (one process and the connections to it),
 * identity.c. */
#ifndef KEMARI_QEMU_INTERNAL_H
#define KEMARI_QEMU_INTERNAL_H

#include <pthread.h>

#include "qemu/machine.h"
#include "qemu/process.h"
#include "qemu/qmp.h"

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
    size_t firmware_size;
    int incoming_fd;
    struct qmp *control; /* the controlling thread's */
    struct qmp *saver;   /* likewise; for states alone, since `control` is for what comes next */
    struct event *process_ended, *told, *typed;
    struct event *sent[QEMU_NETS_MAX];
    /* the thread inside's; `net_fds` are used by the parking thread, too, with `drain_lock` */
    struct qmp *events;
    unsigned panics_heard;              /* and not yet told */
    bool panic_counted, crash_was_told; /* since the guest was started */
    int serial_fd;
    int net_fds[QEMU_NETS_MAX];

    pid_t pid;
    int pid_fd;
    /* heard on `control` */
    bool off;      /* the guest has switched itself off */
    bool panicked; /* it has panicked, runs on, and was not reset since */
    bool load_ended;
    bool load_failed;
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

    /* the controlling thread's */
    struct qemu_session session;
    bool open;               /* a session is there */
    bool saving;             /* a state was asked for and not yet taken */
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
/* Takes all frames and console bytes that QEMU has sent. */
void session_drain(struct qemu_machine *m);
/* The guest has panicked: tells so, and what the policy says is due. */
void session_panicked(struct qemu_machine *m);
/* With `lock`: the guest goes on, and what became due meanwhile is carried out inside. */
void session_continued(struct qemu_machine *m);

/* identity.c */
int identity_make(struct qemu_machine *m, struct error *err);

#endif
