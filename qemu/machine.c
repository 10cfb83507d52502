#include "qemu/machine.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/prompt.h"
#include "qemu/acpi_tables.h"
#include "qemu/firmware.h"
#include "qemu/internal.h"
#include "qemu/stream.h"

#define RUN_SECTION      "qemu.run"
#define RUN_VERSION      1

#define FIRMWARE_SECTION "qemu.firmware"
#define FIRMWARE_VERSION 1

/* A QEMU that has just loaded a state may refuse to run it for a moment. */
#define CONT_RETRY_US 500

enum run_state {
    RUN_STATE_RUNNING,
    RUN_STATE_OFF,
    RUN_STATE_PANICKED, /* running, and to be reset or stopped by the host that has it */
    RUN_STATE_COUNT
};

/* P2, P3: without its process the guest can't be said to be in any state, and nothing may be
 * acknowledged or let out any more. Its owner usually ends this process. */
static void lost(struct qemu_machine *m, const struct error *err)
{
    log_error("qemu", "%s", err->text);
    m->config.output->event(m->config.context, QEMU_EVENT_LOST, err->text);
    abort();
}

/* ---- life ---- */

static void *thread_main(void *context)
{
    struct qemu_machine *m = context;
    prompt_thread("qemu");
    event_base_loop(m->base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

/* One that waits for a state doesn't have its firmware, and can't give a state. */
static int open_first(struct qemu_machine *m, struct error *err)
{
    int rc = session_open(m, false, err);
    if (rc == 0)
        rc = session_read_firmware(m, err);
    m->own_memory = m->session.blocks.own;
    if (rc == 0)
        rc = cut_try(m, err);
    if (rc < 0 || !m->config.standby)
        return rc;
    session_close(m);
    return session_open(m, true, err);
}

int qemu_machine_create(const struct qemu_machine_config *config, struct qemu_machine **out,
                        struct error *err)
{
    *out = NULL;
    evthread_use_pthreads();
    int rc = qemu_command_check(&config->command, err);
    if (rc < 0)
        return rc;
    struct qemu_machine *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "QEMU: out of memory");
    m->config = *config;
    m->config.command.memory = gmem_size(config->memory);
    m->config.command.keep_on_panic = config->on_panic != QEMU_PANIC_STOP;
    m->parked = true;
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->drain_lock, NULL);
    pthread_cond_init(&m->started, NULL);
    m->base = event_base_new();
    m->buffer = malloc(STREAM_MAX);
    rc = panic_count_init(&m->panics, &config->panic_limit, err);
    if (rc == 0 && (!m->base || !m->buffer))
        rc = error_set(err, -ENOMEM, "QEMU: out of memory");
    if (rc == 0 && pthread_create(&m->thread, NULL, thread_main, m) != 0)
        rc = error_set(err, -EAGAIN, "QEMU: can't start a thread");
    m->thread_started = rc == 0;
    if (rc == 0)
        rc = open_first(m, err);
    if (rc == 0)
        rc = identity_make(m, err);
    if (rc < 0)
        qemu_machine_destroy(&m);
    *out = m;
    return rc;
}

void qemu_machine_destroy(struct qemu_machine **machine)
{
    struct qemu_machine *m = *machine;
    if (!m)
        return;
    for (unsigned i = 0; i < QEMU_NETS_MAX; i++)
        if (m->attached[i].event)
            event_free(m->attached[i].event);
    session_close(m);
    if (m->thread_started) {
        event_base_loopbreak(m->base);
        pthread_join(m->thread, NULL);
    }
    if (m->base)
        event_base_free(m->base);
    pthread_cond_destroy(&m->started);
    pthread_mutex_destroy(&m->drain_lock);
    pthread_mutex_destroy(&m->lock);
    free(m->firmware);
    free(m->buffer);
    free(m);
    *machine = NULL;
}

pid_t qemu_machine_process(const struct qemu_machine *machine)
{
    return machine->session.process.pid;
}

const char *qemu_machine_identity(const struct qemu_machine *machine)
{
    return machine->identity;
}

/* ---- running ---- */

/* For the next pause. */
static int prepare_pause(struct qemu_machine *m, struct error *err)
{
    const int rc = qmp_prepare(m->session.control, "stop", NULL, err);
    return rc < 0 ? rc : cut_prepare(m, err);
}

/* Of a stop, which is given when the guest's disks have done what it asked them. */
static int wait_stopped(struct qemu_machine *m, struct error *err)
{
    int rc;
    do
        rc = qmp_receive(m->session.control, NULL, QEMU_ANSWER_TIMEOUT, err);
    while (rc == -ETIMEDOUT && m->config.command.disk_count &&
           m->config.disks_are_busy(m->config.context));
    return rc;
}

void qemu_machine_park(struct qemu_machine *machine)
{
    struct error err = {0};
    pthread_mutex_lock(&machine->lock);
    assert(!machine->parked);
    int rc = qmp_send(machine->session.control, "stop", NULL, &err);
    if (rc == 0)
        rc = wait_stopped(machine, &err);
    if (rc == 0)
        rc = cut_ask(machine, &err);
    if (rc == 0)
        rc = qmp_prepare(machine->session.control, "cont", NULL, &err);
    machine->parked = true;
    pthread_mutex_unlock(&machine->lock);
    if (rc < 0)
        lost(machine, &err);
    /* What it has said so far belongs to this epoch. */
    session_drain(machine);
}

/* With `lock`. A guest that is off stays stopped. */
static int run_on(struct qemu_machine *m, struct error *err)
{
    const nsec_t deadline = clock_now() + QEMU_ANSWER_TIMEOUT;
    int rc = 0;
    while (!m->session.off && !m->given_up) {
        rc = qmp_call(m->session.control, "cont", NULL, NULL, QEMU_ANSWER_TIMEOUT, err);
        m->session.kept &= rc < 0;
        if (rc != -EIO || clock_now() >= deadline)
            break;
        usleep(CONT_RETRY_US);
    }
    return rc;
}

void qemu_machine_resume(struct qemu_machine *machine)
{
    struct error err = {0};
    int rc = 0;
    if (machine->saving) {
        rc = cut_end(machine, &err);
        if (rc == -EIO)
            rc = 0;
    }
    pthread_mutex_lock(&machine->lock);
    assert(machine->parked);
    if (rc == 0)
        rc = run_on(machine, &err);
    if (rc == 0)
        rc = prepare_pause(machine, &err);
    machine->parked = false;
    machine->executing = true;
    if (rc == 0)
        session_continued(machine);
    pthread_mutex_unlock(&machine->lock);
    if (rc < 0)
        lost(machine, &err);
}

/* ---- state ---- */

static int save_firmware(struct qemu_machine *m, struct section_set *set, struct error *err)
{
    if (!m->firmware_writable)
        return 0;
    uint8_t *bytes = section_set_add(set, FIRMWARE_SECTION, 0, FIRMWARE_VERSION, m->firmware_size);
    return bytes ? session_take_firmware(m, bytes, err)
                 : error_set(err, -ENOSPC, "state of QEMU: no room for its firmware");
}

static enum run_state run_state(struct qemu_machine *m)
{
    pthread_mutex_lock(&m->lock);
    const bool off = m->session.off || m->given_up;
    pthread_mutex_unlock(&m->lock);
    if (off)
        return RUN_STATE_OFF;
    return m->session.panicked && m->config.on_panic == QEMU_PANIC_RESTART ? RUN_STATE_PANICKED
                                                                           : RUN_STATE_RUNNING;
}

int qemu_machine_save(struct qemu_machine *machine, struct section_set *set, struct error *err)
{
    size_t size = 0;
    int rc = machine->saving ? 0 : cut_ask(machine, err);
    if (rc == 0)
        rc = cut_end(machine, err);
    if (rc == 0)
        rc = cut_read(machine, &size, err);
    if (rc < 0)
        return rc;
    uint8_t *run = section_set_add(set, RUN_SECTION, 0, RUN_VERSION, 1);
    if (!run)
        return error_set(err, -ENOSPC, "state of QEMU: no room for its sections");
    *run = (uint8_t)run_state(machine);
    rc = save_firmware(machine, set, err);
    return rc == 0 ? stream_to_sections(machine->buffer, size, set, err) : rc;
}

static int decode(struct qemu_machine *m, const struct section_set *set, size_t *size,
                  enum run_state *run, struct error *err)
{
    const struct section *s = section_set_find(set, RUN_SECTION, 0);
    if (!s || s->version != RUN_VERSION || s->size != 1 ||
        *section_set_data(set, s) >= RUN_STATE_COUNT)
        return error_set(err, -EBADMSG, "state of QEMU: section %s is missing or wrong",
                         RUN_SECTION);
    *run = *section_set_data(set, s);
    s = section_set_find(set, FIRMWARE_SECTION, 0);
    if (m->firmware_writable &&
        (!s || s->version != FIRMWARE_VERSION || s->size != m->firmware_size))
        return error_set(err, -EBADMSG, "state of QEMU: section %s is missing or wrong",
                         FIRMWARE_SECTION);
    if (m->firmware_writable)
        memcpy(m->firmware, section_set_data(set, s), m->firmware_size);
    const int total = stream_from_sections(set, m->buffer, err);
    if (total < 0)
        return total;
    *size = (size_t)total;
    return stream_check(m->buffer, *size, m->own_memory, err);
}

/* A process that can take a state. */
static int wait_ready(struct qemu_machine *m, struct error *err)
{
    const struct qemu_session *s = &m->session;
    if (m->open && s->incoming && !s->loaded && session_is_alive(s))
        return 0;
    session_close(m);
    pthread_mutex_lock(&m->lock);
    m->executing = false;
    m->due = NULL;
    m->given_up = false;
    pthread_mutex_unlock(&m->lock);
    const int rc = session_open(m, true, err);
    const struct ram_blocks *now = &m->session.blocks;
    if (rc < 0 || (now->firmware == m->firmware_size && now->own == m->own_memory))
        return rc;
    session_close(m);
    return error_set(err, -EBADMSG,
                     "QEMU's firmware, or what memory it has, has changed: start kemarid again");
}

int qemu_machine_check(struct qemu_machine *machine, const struct section_set *set,
                       struct error *err)
{
    size_t size;
    enum run_state run;
    const int rc = decode(machine, set, &size, &run, err);
    return rc < 0 ? rc : wait_ready(machine, err);
}

/* The state as the waiting process reads it: its firmware behind the header, unless it is there. */
static int write_state(struct qemu_machine *m, size_t size, struct error *err)
{
    const bool add = m->firmware_size && !m->own_memory;
    const size_t more = add ? firmware_part_size(m->firmware_size) : 0;
    const int fd = m->session.incoming_fd;
    const off_t rest = (off_t)(STREAM_HEADER_SIZE + more);
    uint8_t *part = malloc(more + 1);
    if (part && more)
        firmware_part_make(m->firmware, m->firmware_size, part);
    const bool written =
        part && pwrite(fd, m->buffer, STREAM_HEADER_SIZE, 0) == STREAM_HEADER_SIZE &&
        pwrite(fd, part, more, STREAM_HEADER_SIZE) == (ssize_t)more &&
        pwrite(fd, m->buffer + STREAM_HEADER_SIZE, size - STREAM_HEADER_SIZE, rest) ==
            (ssize_t)(size - STREAM_HEADER_SIZE);
    free(part);
    return written ? 0 : error_set(err, -EIO, "state of QEMU: no room to hand it over");
}

static int load_stream(struct qemu_machine *m, size_t size, struct error *err)
{
    struct qemu_session *s = &m->session;
    char uri[16];
    snprintf(uri, sizeof(uri), "fd:%d", QEMU_FD_INCOMING);
    /* A migration has them as they were. */
    if (!m->own_memory)
        acpi_tables_make_again(m->buffer, size);
    int rc = write_state(m, size, err);
    if (rc < 0)
        return rc;
    s->loaded = true;
    s->migration_ended = false;
    rc = qmp_call(s->control, "migrate-incoming", json_pack("{s:s}", "uri", uri), NULL,
                  QEMU_ANSWER_TIMEOUT, err);
    if (rc == 0)
        rc = qmp_wait_event(s->control, &s->migration_ended, QEMU_ANSWER_TIMEOUT, err);
    if (rc == 0 && s->migration_failed)
        rc = error_set(err, -EIO, "QEMU can't load the state: its own message is above");
    return rc;
}

int qemu_machine_load(struct qemu_machine *machine, const struct section_set *set,
                      struct error *err)
{
    size_t size = 0;
    enum run_state run = RUN_STATE_RUNNING;
    int rc = decode(machine, set, &size, &run, err);
    if (rc == 0)
        rc = wait_ready(machine, err);
    if (rc == 0)
        rc = load_stream(machine, size, err);
    if (rc < 0)
        return rc;
    machine->session.off = run == RUN_STATE_OFF;
    if (machine->session.off)
        machine->config.output->event(machine->config.context, QEMU_EVENT_POWER_OFF, NULL);
    machine->session.panicked = machine->session.panic_counted = run == RUN_STATE_PANICKED;
    if (machine->session.panicked)
        session_panicked(machine);
    return 0;
}

/* ---- frames for the guest ---- */

static void on_frames(evutil_socket_t fd, short what, void *context)
{
    const struct qemu_attachment *attachment = context;
    const int *out = &attachment->machine->session.net_fds[attachment->index];
    uint8_t frame[QEMU_FRAME_MAX];
    ssize_t size;
    (void)what;
    /* A full queue drops a frame, as any network does. */
    while ((size = read(fd, frame, sizeof(frame))) > 0)
        if (size > QEMU_FRAME_HEADER)
            (void)!send(*out, frame + QEMU_FRAME_HEADER, (size_t)size - QEMU_FRAME_HEADER,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
}

int qemu_machine_net_attach(struct qemu_machine *machine, unsigned index, int fd, struct error *err)
{
    assert(index < machine->config.command.net_count);
    struct qemu_attachment *a = &machine->attached[index];
    if (a->event)
        event_free(a->event);
    *a = (struct qemu_attachment){.machine = machine, .index = index};
    if (fd < 0)
        return 0;
    a->event = event_new(machine->base, fd, EV_READ | EV_PERSIST, on_frames, a);
    if (!a->event || event_add(a->event, NULL) < 0)
        return error_set(err, -ENOMEM, "network %u: out of memory", index);
    return 0;
}
