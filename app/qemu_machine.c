#include "app/qemu_machine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/machine_disks.h"
#include "base/fd.h"
#include "base/log.h"
#include "dirtylog/process_log.h"
#include "dirtylog/tracker.h"
#include "dirtylog/tracker_wire.h"
#include "disk/nbd_server.h"

struct qemu_adapter {
    struct outlet outlet; /* first member: the table's functions know it */
    /* set at creation */
    struct qemu_adapter_config config;
    struct gmem *memory;
    struct qemu_machine *machine;
    enum process_log how; /* what it writes is told */
    int tracker_fd;
    char preload[TRACKER_TEXT_MAX + 16], tracked[TRACKER_TEXT_MAX + 32]; /* of the environment */
    const char *environment[3];

    /* the controlling thread's */
    bool parked;
    struct dirtylog *log;
    pid_t logged;                                   /* the process whose writes it has */
    struct nbd_server *servers[QEMU_DISKS_MAX + 1]; /* of the process there is, or NULL; with the
                                                       bell at QEMU_BELL */
    _Atomic bool parking;
};

/* ---- output of the guest ---- */

static void on_console(void *context, const uint8_t *data, size_t size)
{
    outlet_on_console(context, MACHINE_CONSOLE_SERIAL, data, size);
}

/* The guest is not broken, its process is: to the other host that is a host that died, and it goes
 * on from the last commit. */
static void die(const char *why)
{
    log_error("app", "the guest is lost on this host: %s", why);
    _exit(EXIT_FAILURE);
}

static void on_event(void *context, enum qemu_event event, const char *detail)
{
    static const enum machine_event events[] = {
        [QEMU_EVENT_RESET] = MACHINE_EVENT_RESET,
        [QEMU_EVENT_POWER_OFF] = MACHINE_EVENT_POWER_OFF,
        [QEMU_EVENT_PANICKED] = MACHINE_EVENT_PANICKED,
        [QEMU_EVENT_CRASH_LOADED] = MACHINE_EVENT_CRASH_LOADED,
    };
    struct qemu_adapter *a = context;
    if (event == QEMU_EVENT_LOST)
        die(detail);
    a->config.event(a->config.context, events[event], detail);
}

/* ---- disks ---- */

static void set_running(struct qemu_adapter *a, bool running)
{
    for (unsigned i = 0; i < a->config.command.disk_count; i++)
        nbd_server_set_running(a->servers[i], running);
}

/* In a park: the guest has stopped, and what it asked of its disks has ended. The bell also rings
 * when a guest has stopped by itself. */
static void on_bell(void *context)
{
    struct qemu_adapter *a = context;
    if (atomic_load(&a->parking))
        set_running(a, false);
}

static int open_disk(void *context, unsigned index, struct error *err)
{
    struct qemu_adapter *a = context;
    int ends[2];
    nbd_server_close(&a->servers[index]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set(err, -errno, "disk %u: %s", index, strerror(errno));
    const struct nbd_server_config config = {
        .fd = ends[0],
        .volume = index == QEMU_BELL ? NULL : disk_store_volume(a->config.disks, index),
        .rung = index == QEMU_BELL ? on_bell : NULL,
        .context = a};
    const int rc = nbd_server_open(&config, &a->servers[index], err);
    if (rc < 0)
        fd_close(&ends[1]);
    return rc < 0 ? rc : ends[1];
}

static bool disks_are_busy(void *context)
{
    const struct qemu_adapter *a = context;
    for (unsigned i = 0; i < a->config.command.disk_count; i++)
        if (nbd_server_is_busy(a->servers[i]))
            return true;
    return false;
}

static void describe_disks(struct qemu_adapter *a, struct qemu_machine_config *machine)
{
    const unsigned count = disk_store_count(a->config.disks);
    a->config.command.disk_count = machine->command.disk_count = count;
    for (unsigned i = 0; i < count; i++) {
        const struct disk_image *image = disk_volume_image(disk_store_volume(a->config.disks, i));
        machine->command.disks_read_only[i] = disk_image_is_read_only(image);
        machine->disk_sizes[i] = disk_image_size(image);
    }
}

/* ---- dirty pages ---- */

/* A machine that became a standby and a primary again runs in another process. */
static int dirty_start(void *machine, struct error *err)
{
    struct qemu_adapter *a = machine;
    const pid_t pid = qemu_machine_process(a->machine);
    int rc = 0;
    if (!a->log || a->logged != pid) {
        dirtylog_destroy(&a->log);
        rc = process_log_create(a->how, pid, a->memory, &a->log, err);
        a->logged = pid;
    }
    return rc < 0 ? rc : dirtylog_start(a->log, err);
}

static int dirty_collect(void *machine, struct dirty_set *set, struct error *err)
{
    struct qemu_adapter *a = machine;
    return a->parked ? dirtylog_collect(a->log, set, err) : dirtylog_look(a->log, set, err);
}

static bool dirty_wants_park(void *machine)
{
    return dirtylog_wants_park(((struct qemu_adapter *)machine)->log);
}

static void dirty_stop(void *machine)
{
    struct qemu_adapter *a = machine;
    if (a->log)
        dirtylog_stop(a->log);
}

/* ---- the rest of the table ---- */

static struct gmem *memory(void *machine)
{
    return ((struct qemu_adapter *)machine)->memory;
}

static const char *identity(void *machine)
{
    return qemu_machine_identity(((struct qemu_adapter *)machine)->machine);
}

static void park(void *machine)
{
    struct qemu_adapter *a = machine;
    disk_store_drain(a->config.disks, true);
    atomic_store(&a->parking, true);
    qemu_machine_park(a->machine);
    atomic_store(&a->parking, false);
    disk_store_drain(a->config.disks, false);
    set_running(a, false);
    a->parked = true;
}

static void resume(void *machine)
{
    struct qemu_adapter *a = machine;
    set_running(a, true);
    a->parked = false;
    qemu_machine_resume(a->machine);
}

static int save(void *machine, struct section_set *set, struct error *err)
{
    return qemu_machine_save(((struct qemu_adapter *)machine)->machine, set, err);
}

static int check(void *machine, const struct section_set *set, struct error *err)
{
    return qemu_machine_check(((struct qemu_adapter *)machine)->machine, set, err);
}

static int load(void *machine, const struct section_set *set, nsec_t elapsed, struct error *err)
{
    (void)elapsed;
    return qemu_machine_load(((struct qemu_adapter *)machine)->machine, set, err);
}

struct checkpoint_machine qemu_adapter_ops(struct qemu_adapter *adapter)
{
    static const struct checkpoint_machine_ops ops = {
        .name = "qemu",
        .memory = memory,
        .identity = identity,
        .dirty_start = dirty_start,
        .dirty_collect = dirty_collect,
        .dirty_stop = dirty_stop,
        .dirty_wants_park = dirty_wants_park,
        .park = park,
        .resume = resume,
        .save = save,
        .check = check,
        .load = load,
        .output_to = outlet_to,
        .output_open = outlet_open,
        .output_close = outlet_close,
        .announce = outlet_announce,
        .emit = outlet_emit,
        .output_done = outlet_is_done,
    };
    return (struct checkpoint_machine){
        .ops = &ops, .context = adapter, .disks = machine_disks_ops(adapter->config.disks)};
}

/* ---- life ---- */

static int prepare_log(struct qemu_adapter *a, struct error *err)
{
    char text[TRACKER_TEXT_MAX];
    int rc = process_log_choose(a->config.dirty_log, &a->how, err);
    if (rc == 0)
        log_info("app", "what QEMU writes is told by %s", process_log_name(a->how));
    if (rc < 0 || a->how != PROCESS_LOG_PAGEMAP)
        return rc;
    a->tracker_fd = tracker_open(err);
    if (a->tracker_fd < 0)
        return a->tracker_fd;
    tracker_preload_text(QEMU_FD_PRELOAD, text);
    snprintf(a->preload, sizeof(a->preload), "LD_PRELOAD=%s", text);
    rc = tracker_memory_text(gmem_fd(a->memory), text);
    if (rc < 0)
        return error_set(err, rc, "guest memory: %s", strerror(-rc));
    snprintf(a->tracked, sizeof(a->tracked), TRACKER_ENVIRONMENT "=%s", text);
    a->environment[0] = a->preload;
    a->environment[1] = a->tracked;
    return 0;
}

/* That its writes can be told is found out now, not at the first standby. */
static int try_log(struct qemu_adapter *a, struct error *err)
{
    a->logged = qemu_machine_process(a->machine);
    return process_log_create(a->how, a->logged, a->memory, &a->log, err);
}

static int attach(void *machine, unsigned index, int fd, struct error *err)
{
    return qemu_machine_net_attach(((struct qemu_adapter *)machine)->machine, index, fd, err);
}

static void prepare_outlet(struct qemu_adapter *a)
{
    const struct qemu_command *command = &a->config.command;
    struct outlet_machine machine = {
        .net_count = command->net_count, .disks = a->config.disks, .attach = attach, .machine = a};
    _Static_assert(OUTLET_NETS_MAX == QEMU_NETS_MAX, "each network of QEMU has its way out");
    memcpy(machine.macs, command->macs, sizeof(machine.macs));
    outlet_init(&a->outlet, &a->config.outlet, &machine);
}

int qemu_adapter_create(const struct qemu_adapter_config *config, struct qemu_adapter **out,
                        struct error *err)
{
    static const struct qemu_output_ops output = {
        .network = outlet_on_network, .console = on_console, .event = on_event};
    *out = NULL;
    struct qemu_adapter *a = calloc(1, sizeof(*a));
    if (!a)
        return error_set(err, -ENOMEM, "machine: out of memory");
    a->config = *config;
    a->tracker_fd = -1;
    a->parked = true;
    prepare_outlet(a);
    int rc = gmem_create(&config->memory, &a->memory, err);
    if (rc == 0)
        rc = prepare_log(a, err);
    if (rc == 0) {
        struct qemu_machine_config machine = {.memory = a->memory,
                                              .command = config->command,
                                              .preload_fd = a->tracker_fd,
                                              .environment = a->environment,
                                              .open_disk = open_disk,
                                              .disks_are_busy = disks_are_busy,
                                              .standby = config->standby,
                                              .on_panic = config->on_panic,
                                              .panic_limit = config->panic_limit,
                                              .output = &output,
                                              .context = a};
        describe_disks(a, &machine);
        rc = qemu_machine_create(&machine, &a->machine, err);
    }
    if (rc == 0)
        rc = try_log(a, err);
    if (rc < 0)
        qemu_adapter_destroy(&a);
    *out = a;
    return rc;
}

void qemu_adapter_destroy(struct qemu_adapter **adapter)
{
    struct qemu_adapter *a = *adapter;
    if (!a)
        return;
    dirtylog_destroy(&a->log);
    qemu_machine_destroy(&a->machine);
    for (unsigned i = 0; i <= QEMU_BELL; i++)
        nbd_server_close(&a->servers[i]);
    outlet_fini(&a->outlet);
    fd_close(&a->tracker_fd);
    gmem_destroy(&a->memory);
    free(a);
    *adapter = NULL;
}

struct outlet *qemu_adapter_outlet(struct qemu_adapter *adapter)
{
    return &adapter->outlet;
}

pid_t qemu_adapter_process(const struct qemu_adapter *adapter)
{
    return qemu_machine_process(adapter->machine);
}
