#include "test/support/qemu_side.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

static int open_network(void *context, unsigned index, struct error *err)
{
    struct qemu_side *side = context;
    const int fd = side->way_in;
    (void)index, (void)err;
    side->way_in = -1;
    return fd;
}

static void on_event(void *context, enum machine_event event, const char *detail)
{
    struct qemu_side *side = context;
    side->resets += event == MACHINE_EVENT_RESET;
    side->offs += event == MACHINE_EVENT_POWER_OFF;
    side->last_panics += event == MACHINE_EVENT_PANICKED && detail;
    side->panics += event == MACHINE_EVENT_PANICKED;
    while (event == MACHINE_EVENT_PANICKED && side->holds_panics)
        usleep(100);
}

static void emit(void *context, uint32_t port, const uint8_t *data, size_t size)
{
    struct qemu_side *side = context;
    side->machine.ops->emit(side->machine.context, port, data, size);
}

static void on_wake(void *context)
{
    (void)context;
}

static int open_output(struct qemu_side *side, struct error *err)
{
    const struct outbox_config config = {
        .cap_bytes = OUTBOX_CAP_MIN, .emit = emit, .wake = on_wake, .context = side};
    const int rc = outbox_create(&config, 1, &side->outbox, err);
    if (rc < 0)
        return rc;
    outbox_open(side->outbox);
    side->machine.ops->output_to(side->machine.context, side->outbox);
    return side->machine.ops->output_open(side->machine.context, err);
}

int qemu_side_open(const struct qemu_side_config *config, struct qemu_side *side, struct error *err)
{
    const struct disk_store_config disks = {.cuts_drain = true};
    int ends[2];
    *side = (struct qemu_side){.way_out = -1, .way_in = -1};
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return error_set(err, -errno, "a wire: %s", strerror(errno));
    side->way_out = ends[0];
    side->way_in = ends[1];
    int rc = disk_store_open(&disks, &side->disks, err);
    const struct qemu_adapter_config adapter = {
        .disks = side->disks,
        .command = {.words = config->command,
                    .vcpus = 1,
                    .net_device = "virtio-net-pci",
                    .net_count = config->nets,
                    .macs = {{2, 0, 0, 0, 0, 1}}},
        .memory = {.size = config->memory},
        .dirty_log = config->log,
        .standby = config->standby,
        .on_panic = config->on_panic,
        .panic_limit = config->panic_limit,
        .outlet = {.open_network = open_network, .console_fd = -1, .context = side},
        .event = on_event,
        .context = side,
    };
    if (rc == 0)
        rc = qemu_adapter_create(&adapter, &side->adapter, err);
    if (rc == 0) {
        side->machine = qemu_adapter_ops(side->adapter);
        side->memory = side->machine.ops->memory(side->machine.context);
        rc = open_output(side, err);
    }
    if (rc < 0)
        qemu_side_close(side);
    return rc;
}

void qemu_side_close(struct qemu_side *side)
{
    qemu_adapter_destroy(&side->adapter);
    outbox_destroy(&side->outbox);
    disk_store_close(&side->disks);
    fd_close(&side->way_out);
    fd_close(&side->way_in);
}

void qemu_side_count_frames(struct qemu_side *side)
{
    uint8_t frame[QEMU_FRAME_MAX];
    while (read(side->way_out, frame, sizeof(frame)) > QEMU_FRAME_HEADER)
        side->frames++;
}
