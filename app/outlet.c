#include "app/outlet.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "app/announcement.h"
#include "base/fd.h"
#include "base/log.h"

_Static_assert(OUTLET_NETS_MAX >= MACHINE_NETS_MAX, "our machine's networks have their ways out");

void outlet_init(struct outlet *o, const struct outlet_config *config,
                 const struct outlet_machine *machine)
{
    memset(o, 0, sizeof(*o));
    o->config = *config;
    o->machine = *machine;
    for (unsigned i = 0; i < OUTLET_NETS_MAX; i++)
        o->net_fds[i] = -1;
}

void outlet_fini(struct outlet *o)
{
    for (unsigned i = 0; i < OUTLET_NETS_MAX; i++)
        fd_close(&o->net_fds[i]);
}

/* ---- to the outbox ---- */

void outlet_on_network(void *machine, unsigned index, const struct iovec *parts, int count)
{
    struct outlet *o = machine;
    struct outbox *outbox = atomic_load(&o->outbox);
    if (outbox)
        outbox_put(outbox, index, parts, count, OUTBOX_PACKET);
}

static void write_console(const struct outlet *o, enum machine_console which, const uint8_t *data,
                          size_t size)
{
    if (o->config.console)
        o->config.console(o->config.context, which, data, size);
    if (o->config.console_fd >= 0 && fd_write_all(o->config.console_fd, data, size) < 0)
        log_debug("app", "console output was lost");
}

void outlet_on_console(void *machine, enum machine_console which, const uint8_t *data, size_t size)
{
    struct outlet *o = machine;
    if (o->config.console_free) {
        write_console(o, which, data, size);
        return;
    }
    const struct iovec part = {(void *)(uintptr_t)data, size};
    struct outbox *outbox = atomic_load(&o->outbox);
    if (outbox)
        outbox_put(outbox, OUTLET_PORT_CONSOLE + which, &part, 1, OUTBOX_STREAM);
}

/* A change of a shared disk waits for its ticket to come back by outlet_emit(). */
static void put_ticket(struct outbox *outbox, uint64_t ticket, enum outbox_kind kind)
{
    const struct iovec part = {&ticket, sizeof(ticket)};
    outbox_put(outbox, OUTLET_PORT_DISKS, &part, 1, kind);
}

static void on_disk_held(void *context, uint64_t ticket)
{
    put_ticket(context, ticket, OUTBOX_ORDER);
}

/* The guest doesn't wait for it. */
static void on_disk_buffered(void *context, uint64_t ticket)
{
    put_ticket(context, ticket, OUTBOX_LAZY_ORDER);
}

void outlet_to(void *machine, struct outbox *outbox)
{
    struct outlet *o = machine;
    atomic_store(&o->outbox, outbox);
    if (!o->machine.disks)
        return;
    if (outbox)
        disk_store_hold(o->machine.disks,
                        disk_store_is_buffered(o->machine.disks) ? on_disk_buffered : on_disk_held,
                        outbox);
    else
        disk_store_end_held(o->machine.disks);
}

/* Once there is an outbox it has the same way out as what the guest says: the address may be
 * elsewhere by now. */
void outlet_announce(void *machine)
{
    struct outlet *o = machine;
    struct outbox *outbox = atomic_load(&o->outbox);
    for (unsigned i = 0; i < o->machine.net_count; i++) {
        uint8_t frame[ANNOUNCEMENT_SIZE];
        announcement_make(o->machine.macs[i], frame);
        const struct iovec part = {.iov_base = frame, .iov_len = sizeof(frame)};
        if (outbox)
            outbox_put(outbox, i, &part, 1, OUTBOX_NOTICE);
        else if (o->net_fds[i] >= 0 && write(o->net_fds[i], frame, sizeof(frame)) < 0)
            log_warning("app", "network %u: the announcement could not be sent: %s", i,
                        strerror(errno));
    }
}

/* ---- out of the outbox ---- */

void outlet_emit(void *machine, uint32_t port, const uint8_t *data, size_t size)
{
    struct outlet *o = machine;
    if (port == OUTLET_PORT_DISKS) {
        uint64_t ticket;
        assert(size == sizeof(ticket));
        memcpy(&ticket, data, sizeof(ticket));
        disk_store_emit(o->machine.disks, ticket);
        return;
    }
    if (port >= OUTLET_PORT_CONSOLE) {
        write_console(o, (enum machine_console)(port - OUTLET_PORT_CONSOLE), data, size);
        return;
    }
    /* A full queue drops a frame, as any network does. */
    if (o->net_fds[port] < 0 || write(o->net_fds[port], data, size) != (ssize_t)size)
        atomic_fetch_add(&o->dropped_frames, 1);
}

bool outlet_is_done(void *machine)
{
    const struct outlet *o = machine;
    return !o->machine.disks || disk_store_is_quiet(o->machine.disks);
}

uint64_t outlet_dropped_frames(const struct outlet *o)
{
    return atomic_load(&o->dropped_frames);
}

/* ---- the networks ---- */

int outlet_open_networks(struct outlet *o, struct error *err)
{
    for (unsigned i = 0; i < o->machine.net_count; i++) {
        if (o->net_fds[i] >= 0)
            continue;
        const int fd = o->config.open_network(o->config.context, i, err);
        if (fd < 0)
            return fd;
        o->net_fds[i] = fd;
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

int outlet_open(void *machine, struct error *err)
{
    struct outlet *o = machine;
    int rc = o->is_open ? 0 : outlet_open_networks(o, err);
    for (unsigned i = 0; rc == 0 && !o->is_open && i < o->machine.net_count; i++) {
        drain(o->net_fds[i]);
        rc = o->machine.attach(o->machine.machine, i, o->net_fds[i], err);
    }
    o->is_open = rc == 0;
    return rc;
}

/* Frames that come from now on wait in the tap; outlet_open() drops them. */
void outlet_close(void *machine)
{
    struct outlet *o = machine;
    for (unsigned i = 0; o->is_open && i < o->machine.net_count; i++)
        o->machine.attach(o->machine.machine, i, -1, NULL);
    o->is_open = false;
}
