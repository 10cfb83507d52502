#include "test/support/protocol_fault.h"

#include <string.h>

static enum protocol_what classify(struct protocol_fault *f, const struct frame *frame)
{
    if (f->step.what == PROTOCOL_ACK) {
        f->epochs++;
        f->in_epoch[PROTOCOL_ACK] = 0;
        return PROTOCOL_ACK;
    }
    if (frame->epoch != f->number) {
        f->number = frame->epoch;
        f->epochs++;
        memset(f->in_epoch, 0, sizeof(f->in_epoch));
        return PROTOCOL_BEGIN;
    }
    return frame->type == FRAME_PAGES   ? PROTOCOL_PAGES
           : frame->type == FRAME_DISK  ? PROTOCOL_DISK
           : frame->type == FRAME_STATE ? PROTOCOL_STATE
                                        : PROTOCOL_END;
}

static void hook(void *context, enum fault_direction direction, const struct frame *frame,
                 int message)
{
    struct protocol_fault *f = context;
    (void)message;
    const bool to_secondary = (direction == FAULT_SEND) == f->primary_side;
    if (to_secondary != (f->step.what != PROTOCOL_ACK))
        return;
    f->frames++;
    if (frame->type == FRAME_SYNC) /* a conversation of its own inside of the first epoch */
        return;
    const enum protocol_what what = classify(f, frame);
    if (++f->in_epoch[what] < f->step.nth || what != f->step.what || f->epochs < f->step.epoch ||
        atomic_load(&f->hit))
        return;
    fault_link_add(f->link, (struct fault_rule){.direction = direction,
                                                .kind = f->kind,
                                                .at_frame = f->frames,
                                                .at_byte = f->at_byte});
    atomic_store(&f->hit, f->epochs);
}

void protocol_fault_wrap(struct protocol_fault *fault, struct link **end)
{
    fault->link = *end = fault_link_wrap(end, fault->step.nth + fault->at_byte + 1);
    fault_link_set_hook(fault->link, hook, fault);
}

unsigned protocol_fault_hit(const struct protocol_fault *fault)
{
    return atomic_load(&fault->hit);
}

const char *protocol_what_name(enum protocol_what what)
{
    static const char *const names[] = {"BEGIN", "PAGES", "DISK", "STATE", "END", "ACK"};
    return names[what];
}
