#include "app/kvm_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/blk_volume.h"
#include "app/machine_disks.h"
#include "dirtylog/dirtylog.h"

struct kvm_machine {
    struct outlet outlet; /* first member: the table's functions know it */
    struct kvm_machine_config config;
    struct gmem *memory;
    struct machine *machine;
    struct dirtylog *log;
};

/* ---- what the guest does ---- */

static void on_event(void *context, enum machine_event event, const char *detail)
{
    struct kvm_machine *m = context;
    m->config.event(m->config.context, event, detail);
}

/* ---- the table ---- */

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
        .output_to = outlet_to,
        .output_open = outlet_open,
        .output_close = outlet_close,
        .announce = outlet_announce,
        .emit = outlet_emit,
        .output_done = outlet_is_done,
    };
    return (struct checkpoint_machine){
        .ops = &ops, .context = machine, .disks = machine_disks_ops(machine->config.disks)};
}

/* ---- life ---- */

static int attach(void *machine, unsigned index, int fd, struct error *err)
{
    return machine_net_attach(((struct kvm_machine *)machine)->machine, index, fd, err);
}

static void prepare_outlet(struct kvm_machine *m)
{
    const struct machine_config *config = &m->config.machine;
    struct outlet_machine machine = {
        .net_count = config->net_count, .disks = m->config.disks, .attach = attach, .machine = m};
    for (unsigned i = 0; i < config->net_count; i++)
        memcpy(machine.macs[i], config->nets[i].mac, sizeof(machine.macs[i]));
    outlet_init(&m->outlet, &m->config.outlet, &machine);
}

int kvm_machine_create(const struct kvm_machine_config *config, struct kvm_machine **out,
                       struct error *err)
{
    static const struct machine_output_ops output = {
        .network = outlet_on_network, .console = outlet_on_console, .event = on_event};
    *out = NULL;
    struct kvm_machine *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "machine: out of memory");
    m->config = *config;
    prepare_outlet(m);
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
    outlet_fini(&m->outlet);
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

struct outlet *kvm_machine_outlet(struct kvm_machine *machine)
{
    return &machine->outlet;
}
