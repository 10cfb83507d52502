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
 * A change is refused (EPERM) while none is allowed: the process of a standby only waits, and one
 * that was stopped has nothing under way.
 *
 * Threads: one for each server. Its functions from one at a time. */
#ifndef KEMARI_DISK_NBD_SERVER_H
#define KEMARI_DISK_NBD_SERVER_H

#include "disk/volume.h"

struct nbd_server;

/* Serves `volume`, which is borrowed, as the export "diskN", N being its index, on a connected
 * stream socket, which is taken over in every case. No change is allowed yet. */
int nbd_server_open(struct disk_volume *volume, int fd, struct nbd_server **out, struct error *err);

/* Ends the connection, and waits for what the volume has of it. */
void nbd_server_close(struct nbd_server **server);

/* Said while the other process is stopped. */
void nbd_server_allow_changes(struct nbd_server *server, bool allow);

#endif
