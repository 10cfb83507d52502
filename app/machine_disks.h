/* The disks of a machine (disk/store.h) behind the table that checkpoint/ declares. */
#ifndef KEMARI_APP_MACHINE_DISKS_H
#define KEMARI_APP_MACHINE_DISKS_H

#include "checkpoint/disk_ops.h"
#include "disk/store.h"

/* No table when no disk travels, or `store` is NULL. The store is borrowed. */
struct checkpoint_disks machine_disks_ops(struct disk_store *store);

#endif
