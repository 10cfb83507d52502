#include "app/kvm_machine.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/announcement.h"
#include "app/blk_volume.h"
#include "app/machine_disks.h"
#include "base/fd.h"
#include "base/log.h"
#include "dirtylog/dirtylog.h"

struct kvm_machine {
    struct kvm_machine_config config;
    struct gmem *memory;
    struct machine *machine;
    struct dirtylog *log;
    int net_fds[MACHINE_NETS_MAX]; /* -1 until kvm_machine_open_networks() */
    bool output_is_open;           /* the guest receives */
    struct outbox *_Atomic outbox; /* NULL: output is dropped */
    _Atomic uint64_t dropped_frames;
};

/* ---- output of the guest ---- */

static void on_network(void *context, unsigned index, const struct iovec *parts, int count)
{
    struct kvm_machine *m = context;
    struct outbox *outbox = atomic_load(&m->outbox);
    if (outbox)
        outbox_put(outbox, index, parts, count, OUTBOX_PACKET);
}

static void write_console(const struct kvm_machine *m, enum machine_console which,
                          const uint8_t *data, size_t size)
{
    if (m->config.console)
        m->config.console(m->config.context, which, data, size);
    if (m->config.console_fd >= 0 && fd_write_all(m->config.console_fd, data, size) < 0)
        log_debug("app", "console output was lost");
}

static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    struct kvm_machine *m = context;
    if (m->config.console_free) {
        write_console(m, which, data, size);
        return;
    }
    const struct iovec part = {(void *)(uintptr_t)data, size};
    struct outbox *outbox = atomic_load(&m->outbox);
    if (outbox)
        outbox_put(outbox, KVM_MACHINE_PORT_CONSOLE + which, &part, 1, OUTBOX_STREAM);
}

/* A change of a shared disk waits for its ticket to come back by emit(). */
static void on_disk_held(void *context, uint64_t ticket)
{
    const struct iovec part = {&ticket, sizeof(ticket)};
    outbox_put(context, KVM_MACHINE_PORT_DISKS, &part, 1, OUTBOX_ORDER);
}

static void on_event(void *context, enum machine_event event, const char *detail)
{
    struct kvm_machine *m = context;
    m->config.event(m->config.context, event, detail);
}

static void emit(void *machine, uint32_t port, const uint8_t *data, size_t size)
{
    struct kvm_machine *m = machine;
    if (port == KVM_MACHINE_PORT_DISKS) {
        uint64_t ticket;
        assert(size == sizeof(ticket));
        memcpy(&ticket, data, sizeof(ticket));
        disk_store_emit(m->config.disks, ticket);
        return;
    }
    if (port >= KVM_MACHINE_PORT_CONSOLE) {
        write_console(m, (enum machine_console)(port - KVM_MACHINE_PORT_CONSOLE), data, size);
        return;
    }
    /* A full queue drops a frame, as any network does. */
    if (m->net_fds[port] < 0 || write(m->net_fds[port], data, size) != (ssize_t)size)
        atomic_fetch_add(&m->dropped_frames, 1);
}

static void output_to(void *machine, struct outbox *outbox)
{
    struct kvm_machine *m = machine;
    atomic_store(&m->outbox, outbox);
    if (!m->config.disks)
        return;
    if (outbox)
        disk_store_hold(m->config.disks, on_disk_held, outbox);
    else
        disk_store_end_held(m->config.disks);
}

static bool output_done(void *machine)
{
    const struct kvm_machine *m = machine;
    return !m->config.disks || disk_store_is_quiet(m->config.disks);
}

int kvm_machine_open_networks(struct kvm_machine *machine, struct error *err)
{
    for (unsigned i = 0; i < machine->config.machine.net_count; i++) {
        if (machine->net_fds[i] >= 0)
            continue;
        const int fd = machine->config.open_network(machine->config.context, i, err);
        if (fd < 0)
            return fd;
        machine->net_fds[i] = fd;
    }
    return 0;
}

/* What came while this side stood by was for the guest on the other side. */
static void drain(int fd)
{
    uint8_t frame[MACHINE_FRAME_MAX];
    while (read(fd, frame, sizeof(frame)) > 0)
        ;
}

static int output_open(void *machine, struct error *err)
{
    struct kvm_machine *m = machine;
    int rc = m->output_is_open ? 0 : kvm_machine_open_networks(m, err);
    for (unsigned i = 0; rc == 0 && !m->output_is_open && i < m->config.machine.net_count; i++) {
        drain(m->net_fds[i]);
        rc = machine_net_attach(m->machine, i, m->net_fds[i], err);
    }
    m->output_is_open = rc == 0;
    return rc;
}

/* Frames that come from now on wait in the tap; output_open() drops them. */
static void output_close(void *machine)
{
    struct kvm_machine *m = machine;
    for (unsigned i = 0; m->output_is_open && i < m->config.machine.net_count; i++)
        machine_net_attach(m->machine, i, -1, NULL);
    m->output_is_open = false;
}

/* Once there is
 * an outbox it has the same way out as what the guest says: the address may be elsewhere by now. */
static void announce(void *machine)
{
    struct kvm_machine *m = machine;
    struct outbox *outbox = atomic_load(&m->outbox);
    for (unsigned i = 0; i < m->config.machine.net_count; i++) {
        uint8_t frame[ANNOUNCEMENT_SIZE];
        announcement_make(m->config.machine.nets[i].mac, frame);
        const struct iovec part = {.iov_base = frame, .iov_len = sizeof(frame)};
        if (outbox)
            outbox_put(outbox, i, &part, 1, OUTBOX_NOTICE);
        else if (m->net_fds[i] >= 0 && write(m->net_fds[i], frame, sizeof(frame)) < 0)
            log_warning("app", "network %u: the announcement could not be sent: %s", i,
                        strerror(errno));
    }
}

/* ---- the rest of the table ---- */

static struct gmem *memory(void *machine)
{
    return ((struct kvm_machine *)machine)->memory;
}

static const char *identity(void *machine)
{
    return machine_identity(((struct kvm_machine *)machine)->machine);
}

static int dirty_start(void *machine, struct error *err)
{
    return dirtylog_start(((struct kvm_machine *)machine)->log, err);
}

static int dirty_collect(void *machine, struct dirty_set *set, struct error *err)
{
    return dirtylog_collect(((struct kvm_machine *)machine)->log, set, err);
}

static void dirty_stop(void *machine)
{
    dirtylog_stop(((struct kvm_machine *)machine)->log);
}

static void park(void *machine)
{
    machine_park(((struct kvm_machine *)machine)->machine);
}

static void resume(void *machine)
{
    machine_resume(((struct kvm_machine *)machine)->machine);
}

static int save(void *machine, struct section_set *set, struct error *err)
{
    return machine_save(((struct kvm_machine *)machine)->machine, set, err);
}

static int check(void *machine, const struct section_set *set, struct error *err)
{
    return machine_check(((struct kvm_machine *)machine)->machine, set, err);
}

static int load(void *machine, const struct section_set *set, nsec_t elapsed, struct error *err)
{
    return machine_load(((struct kvm_machine *)machine)->machine, set, elapsed, err);
}

struct checkpoint_machine kvm_machine_ops(struct kvm_machine *machine)
{
    static const struct checkpoint_machine_ops ops = {
        .name = "kvm",
        .memory = memory,
        .identity = identity,
        .dirty_start = dirty_start,
        .dirty_collect = dirty_collect,
        .dirty_stop = dirty_stop,
        .park = park,
        .resume = resume,
        .save = save,
        .check = check,
        .load = load,
        .output_to = output_to,
        .output_open = output_open,
        .output_close = output_close,
        .announce = announce,
        .emit = emit,
        .output_done = output_done,
    };
    return (struct checkpoint_machine){
        .ops = &ops, .context = machine, .disks = machine_disks_ops(machine->config.disks)};
}

/* ---- life ---- */

int kvm_machine_create(const struct kvm_machine_config *config, struct kvm_machine **out,
                       struct error *err)
{
    static const struct machine_output_ops output = {
        .network = on_network, .console = on_console, .event = on_event};
    *out = NULL;
    struct kvm_machine *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "machine: out of memory");
    m->config = *config;
    for (unsigned i = 0; i < MACHINE_NETS_MAX; i++)
        m->net_fds[i] = -1;
    int rc = gmem_create(&config->memory, &m->memory, err);
    if (rc == 0) {
        struct machine_config machine = config->machine;
        machine.memory = m->memory;
        machine.output = &output;
        machine.output_context = m;
        machine.disk_count = config->disks ? disk_store_count(config->disks) : 0;
        for (unsigned i = 0; i < machine.disk_count; i++)
            machine.disks[i] = blk_volume_backend(disk_store_volume(config->disks, i));
        rc = machine_create(&machine, &m->machine, err);
    }
    if (rc == 0)
        rc = dirtylog_kvm_create(machine_vm_fd(m->machine), m->memory, &m->log, err);
    if (rc < 0)
        kvm_machine_destroy(&m);
    *out = m;
    return rc;
}

void kvm_machine_destroy(struct kvm_machine **machine)
{
    struct kvm_machine *m = *machine;
    if (!m)
        return;
    dirtylog_destroy(&m->log);
    if (m->machine)
        machine_destroy(&m->machine);
    for (unsigned i = 0; i < MACHINE_NETS_MAX; i++)
        fd_close(&m->net_fds[i]);
    gmem_destroy(&m->memory);
    free(m);
    *machine = NULL;
}

int kvm_machine_boot(struct kvm_machine *machine, struct error *err)
{
    return machine_boot(machine->machine, err);
}

size_t kvm_machine_type(struct kvm_machine *machine, enum machine_console which,
                        const uint8_t *data, size_t size)
{
    return machine_console_input(machine->machine, which, data, size);
}

uint64_t kvm_machine_dropped_frames(const struct kvm_machine *machine)
{
    return atomic_load(&machine->dropped_frames);
}
