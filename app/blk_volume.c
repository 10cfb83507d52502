#include "app/blk_volume.h"

#include <errno.h>
#include <stdlib.h>

_Static_assert(BLK_DATA_MAX <= DISK_DATA_MAX && BLK_SECTOR == DISK_SECTOR,
               "a volume takes whatever the device submits");

/* One allocation serves both sides. */
struct translation {
    struct disk_request request;
    struct blk_io *io;
};

static void on_done(struct disk_request *request)
{
    struct translation *t = request->context;
    struct blk_io *io = t->io;
    io->result = request->io.result;
    if (io->op == BLK_WRITE)
        free(request->io.data); /* NULL when the mode kept it */
    free(t);
    io->done(io);
}

static enum disk_op op_of(enum blk_op op)
{
    static const enum disk_op ops[] = {
        [BLK_READ] = DISK_READ,       [BLK_WRITE] = DISK_WRITE,
        [BLK_DISCARD] = DISK_DISCARD, [BLK_WRITE_ZEROES] = DISK_WRITE_ZEROES,
        [BLK_FLUSH] = DISK_FLUSH,
    };
    return ops[op];
}

static void submit(void *backend, struct blk_io *io)
{
    struct translation *t = calloc(1, sizeof(*t));
    if (!t) /* an io without an end would hang the guest for ever */
        abort();
    t->io = io;
    t->request = (struct disk_request){.io = {.op = op_of(io->op),
                                              .may_unmap = io->may_unmap,
                                              .offset = io->offset,
                                              .size = io->size,
                                              .data = io->data},
                                       .done = on_done,
                                       .context = t};
    disk_volume_submit(backend, &t->request);
}

struct blk_backend blk_volume_backend(struct disk_volume *volume)
{
    static const struct blk_backend_ops ops = {.submit = submit};
    const struct disk_image *image = disk_volume_image(volume);
    return (struct blk_backend){.ops = &ops,
                                .context = volume,
                                .size = disk_image_size(image),
                                .read_only = disk_image_is_read_only(image)};
}
