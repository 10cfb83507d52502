/* The guest's consoles for operators: what was let out of them is kept in a ring, and what is typed
 * goes to the one that spoke last. Nothing is seen here that the outbox still holds. */
#include <errno.h>
#include <stdatomic.h>

#include "app/node_internal.h"

void node_hear_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    struct node *node = context;
    atomic_store(&node->console_spoke, (int)which);
    control_console_write(node->console, data, size);
}

int node_console(void *context, uint64_t since, const uint8_t *typed, size_t typed_size,
                 struct control_console_reply *out, struct error *err)
{
    struct node *node = context;
    pthread_mutex_lock(&node->lock);
    const bool here = node->primary != NULL;
    pthread_mutex_unlock(&node->lock);
    if (!here)
        return error_set(err, -EPERM, "the guest runs on the other host: its console is there");
    if (typed_size && !node->kvm)
        return error_set(err, -ENOTSUP, "nothing can be typed to a guest in QEMU");
    const enum machine_console which = (enum machine_console)atomic_load(&node->console_spoke);
    if (typed_size)
        out->typed = (uint32_t)kvm_machine_type(node->kvm, which, typed, typed_size);
    out->size =
        control_console_read(node->console, since, out->said, sizeof(out->said), &out->next);
    return 0;
}
