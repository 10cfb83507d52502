#include "disk/io.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define ZEROES_SIZE (64u << 10)

/* Never written; aligned for direct I/O. */
static _Alignas(4096) uint8_t zeroes[ZEROES_SIZE];

bool disk_io_is_valid(const struct disk_io *io, uint64_t image_size)
{
    if (io->op == DISK_FLUSH)
        return io->offset == 0 && io->size == 0;
    if (io->size == 0 || io->offset % DISK_SECTOR || io->size % DISK_SECTOR ||
        io->offset > image_size || io->size > image_size - io->offset)
        return false;
    return (io->op != DISK_READ && io->op != DISK_WRITE) || (io->data && io->size <= DISK_DATA_MAX);
}

void disk_io_begin(struct disk_io *io)
{
    io->result = 0;
    io->moved = 0;
    io->by_hand = false;
    io->syncing = false;
    io->next = NULL;
}

struct disk_step disk_io_step(const struct disk_io *io)
{
    const uint64_t left = io->size - io->moved;
    struct disk_step step = {.offset = io->offset + io->moved, .size = left};
    if (io->syncing)
        return (struct disk_step){.kind = DISK_STEP_SYNC};
    switch (io->op) {
    case DISK_READ:
    case DISK_WRITE:
        step.kind = io->op == DISK_READ ? DISK_STEP_READ : DISK_STEP_WRITE;
        step.data = io->data + io->moved;
        return step;
    case DISK_DISCARD:
    case DISK_WRITE_ZEROES:
        step.kind = io->op == DISK_DISCARD || io->may_unmap ? DISK_STEP_PUNCH : DISK_STEP_ZERO;
        if (io->by_hand) {
            step.kind = DISK_STEP_WRITE;
            step.size = left < ZEROES_SIZE ? left : ZEROES_SIZE;
            step.data = zeroes;
        }
        return step;
    case DISK_FLUSH:
        break;
    }
    step.kind = DISK_STEP_SYNC;
    return step;
}

static bool end(struct disk_io *io, int result)
{
    io->result = result;
    return true;
}

/* The whole range is done. */
static bool finish(struct disk_io *io)
{
    const bool change = io->op != DISK_READ && io->op != DISK_FLUSH;
    if (!io->durable || !change)
        return end(io, 0);
    io->syncing = true;
    return false;
}

static bool moves_bytes(const struct disk_io *io)
{
    return io->op == DISK_READ || io->op == DISK_WRITE || io->by_hand;
}

bool disk_io_advance(struct disk_io *io, long outcome)
{
    if (outcome == -EINTR || outcome == -EAGAIN)
        return false;
    if (io->syncing)
        return end(io, outcome < 0 ? (int)outcome : 0);
    if (!moves_bytes(io) && io->op != DISK_FLUSH && !io->by_hand &&
        (outcome == -EOPNOTSUPP || outcome == -ENOSYS || outcome == -ENODEV)) {
        io->by_hand = true;
        return false;
    }
    if (outcome < 0)
        return end(io, (int)outcome);
    if (!moves_bytes(io))
        return finish(io);
    if (outcome == 0) /* the file was cut short behind our back */
        return end(io, -EIO);
    assert((uint64_t)outcome <= io->size - io->moved);
    io->moved += (uint64_t)outcome;
    return io->moved == io->size ? finish(io) : false;
}
