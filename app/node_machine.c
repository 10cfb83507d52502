/* The machine of a node, whichever kind it is: built here, known by its table everywhere else. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "app/config_use.h"
#include "app/node_internal.h"
#include "vmm/tap.h"

static int open_console(struct node *node, struct error *err)
{
    const char *path = node->config->console_log;
    node->console_fd = -1;
    if (!path)
        return 0;
    if (strcmp(path, "stdout") == 0) {
        node->console_fd = STDOUT_FILENO;
        return 0;
    }
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    node->console_fd = open(path, flags | O_EXCL, 0640);
    if (node->console_fd >= 0)
        node_note_made(node, path, unlink);
    else if (errno == EEXIST)
        node->console_fd = open(path, flags, 0640);
    if (node->console_fd < 0)
        return error_set(err, -errno, "console-log %s: %s", path, strerror(errno));
    node->console_fd_owned = true;
    return 0;
}

static int open_network(void *context, unsigned index, struct error *err)
{
    const struct node *node = context;
    return tap_open(node->config->nets[index].tap, err);
}

static struct outlet_config outlet_of(struct node *node)
{
    return (struct outlet_config){.open_network = open_network,
                                  .console_fd = node->console_fd,
                                  .console_free = node->config->serial == CONFIG_SERIAL_FREE,
                                  .console = node_hear_console,
                                  .context = node};
}

/* Otherwise the guest runs alone, on purpose. */
bool node_is_pair(const struct config *config)
{
    return config->listen.text != NULL;
}

/* The writable disks of a pair are replicated or shared; one that stands alone has nobody to send
 * them to, or to wait for. */
enum disk_protection node_disk_protection(const struct config *config, unsigned i)
{
    const struct config_disk *disk = &config->disks[i];
    if (!node_is_pair(config) || disk->read_only)
        return DISK_PLAIN;
    return disk->shared ? DISK_SHARED : DISK_REPLICATED;
}

static int build_disks(struct node *node, struct error *err)
{
    const struct config *c = node->config;
    struct disk_store_config config = {.count = c->disk_count,
                                       .vm = c->name,
                                       .state_dir = c->state_dir,
                                       .sync_rate = c->resync_rate,
                                       .cuts_drain = c->machine == CONFIG_MACHINE_QEMU,
                                       .event = node_disk_event,
                                       .context = node};
    for (unsigned i = 0; i < c->disk_count; i++)
        config.disks[i] = (struct disk_store_disk){.path = c->disks[i].path,
                                                   .read_only = c->disks[i].read_only,
                                                   .protection = node_disk_protection(c, i)};
    return disk_store_open(&config, &node->disks, err);
}

static enum machine_panic_policy on_panic_of(const struct config *config)
{
    static const enum machine_panic_policy policies[] = {
        [CONFIG_ON_PANIC_RESTART] = MACHINE_PANIC_RESTART,
        [CONFIG_ON_PANIC_STOP] = MACHINE_PANIC_STOP,
        [CONFIG_ON_PANIC_IGNORE] = MACHINE_PANIC_IGNORE,
    };
    return policies[config->on_panic];
}

static int build_kvm(struct node *node, const struct gmem_config *memory, struct error *err)
{
    const struct config *c = node->config;
    struct kvm_machine_config config = {
        .machine = {.boot = {.kernel = c->kernel, .initrd = c->initrd, .command_line = c->cmdline},
                    .vcpus = c->vcpus,
                    .net_count = c->net_count,
                    .virtio_console = c->virtio_console,
                    .rng = c->rng,
                    .on_panic = on_panic_of(c),
                    .panic_limit = {.restarts = c->panic_restarts, .window = c->panic_window}},
        .memory = *memory,
        .disks = node->disks,
        .outlet = outlet_of(node),
        .event = node_machine_event,
        .context = node,
    };
    for (unsigned i = 0; i < c->net_count; i++)
        memcpy(config.machine.nets[i].mac, c->nets[i].mac, sizeof(c->nets[i].mac));
    const int rc = kvm_machine_create(&config, &node->kvm, err);
    if (rc == 0)
        node->ops = kvm_machine_ops(node->kvm);
    return rc;
}

static int build_qemu(struct node *node, const struct gmem_config *memory, struct error *err)
{
    static const enum qemu_panic_policy policies[] = {
        [CONFIG_ON_PANIC_RESTART] = QEMU_PANIC_RESTART,
        [CONFIG_ON_PANIC_STOP] = QEMU_PANIC_STOP,
        [CONFIG_ON_PANIC_IGNORE] = QEMU_PANIC_IGNORE,
    };
    const struct config *c = node->config;
    const struct qemu_adapter_config config = {
        .command = config_qemu_command(c),
        .disks = node->disks,
        .memory = *memory,
        .dirty_log = c->qemu_dirty_log,
        .standby = c->role == CONFIG_ROLE_SECONDARY,
        .on_panic = policies[c->on_panic],
        .panic_limit = {.restarts = c->panic_restarts, .window = c->panic_window},
        .outlet = outlet_of(node),
        .event = node_machine_event,
        .context = node,
    };
    const int rc = qemu_adapter_create(&config, &node->qemu, err);
    if (rc == 0)
        node->ops = qemu_adapter_ops(node->qemu);
    return rc < 0 ? error_prefix(err, "qemu") : 0;
}

int node_build_machine(struct node *node, struct error *err)
{
    const struct config *c = node->config;
    /* A standby's memory is resident before it is needed. */
    const struct gmem_config memory = {
        .size = c->memory, .huge_pages = c->huge_pages, .prefault = c->role != CONFIG_ROLE_PRIMARY};
    int rc = open_console(node, err);
    if (rc == 0)
        rc = build_disks(node, err);
    if (rc == 0)
        rc = c->machine == CONFIG_MACHINE_QEMU ? build_qemu(node, &memory, err)
                                               : build_kvm(node, &memory, err);
    return rc < 0 ? rc : slab_create(c->staging_cap, &node->slab, err);
}

struct outlet *node_outlet(const struct node *node)
{
    return node->qemu ? qemu_adapter_outlet(node->qemu) : kvm_machine_outlet(node->kvm);
}

int node_boot(struct node *node, struct error *err)
{
    return node->kvm ? kvm_machine_boot(node->kvm, err) : 0;
}

void node_destroy_machine(struct node *node)
{
    kvm_machine_destroy(&node->kvm);
    qemu_adapter_destroy(&node->qemu);
}
