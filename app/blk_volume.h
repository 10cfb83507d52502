/* A volume of disk/ as the backend that virtio-blk asks for: the only place that knows both. */
#ifndef KEMARI_APP_BLK_VOLUME_H
#define KEMARI_APP_BLK_VOLUME_H

#include "disk/volume.h"
#include "vmm/blk_backend.h"

/* The volume is borrowed and outlives the device. */
struct blk_backend blk_volume_backend(struct disk_volume *volume);

#endif
