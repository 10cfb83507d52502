/* A volume for another process: one connection that speaks NBD (nbd_wire.h).
 *
 *   process ═══ socket ═══ thread: reads requests ──► volume
 *                             ▲ writes replies          │
 *                             └──── done list ◄─────────┘ (image's threads)
 *
 * So a machine in another process (qemu/) has its disks here, where everything that changes an
 * image passes (volume.h). The other end is held to the protocol: it can ask for anything inside of
 * the disk, and keep no more than a bounded amount of memory here, by sending or by not listening.
 *
 * While the machine stands, nothing is its guest's: a change is refused (EPERM), and a flush is
 * answered and means nothing. QEMU flushes its disks whenever it has stopped the guest, which would
 * put the medium's time into every checkpoint although nobody asked for it. When exactly the
 * guest's own requests have ended is told by a *bell*, a disk of one sector that no device has and
 * that is flushed before all others (qemu/command.h).
 *
 * Threads: one for each server. Its functions from one at a time. */
#ifndef KEMARI_DISK_NBD_SERVER_H
#define KEMARI_DISK_NBD_SERVER_H

#include "disk/volume.h"

struct nbd_server;

struct nbd_server_config {
    int fd; /* a connected stream socket, taken over in every case */
    /* Borrowed; served as the export "diskN", N being its index. NULL: a bell, export "bell". */
    struct disk_volume *volume;
    void (*rung)(void *context); /* of a bell, at each flush, before it is answered. Any thread */
    void *context;
};

/* The machine stands. */
int nbd_server_open(const struct nbd_server_config *config, struct nbd_server **out,
                    struct error *err);

/* Ends the connection, and waits for what the volume has of it. */
void nbd_server_close(struct nbd_server **server);

/* Any thread. True: before it runs. */
void nbd_server_set_running(struct nbd_server *server, bool running);
/* Has it requests that are not answered? Any thread. */
bool nbd_server_is_busy(const struct nbd_server *server);

#endif
