/* How devices interrupt the guest. The KVM machine implements it; unit tests record the calls.
 * Both functions may be called on any thread that holds the device lock and must not block. */
#ifndef KEMARI_VMM_IRQ_H
#define KEMARI_VMM_IRQ_H

#include "base/types.h"

struct irq_ops {
    /* Sends one message-signalled interrupt. */
    void (*message)(void *context, uint64_t address, uint32_t data);
    /* Sets the level of a global system interrupt (IOAPIC pin, and PIC pin below 16). */
    void (*level)(void *context, unsigned gsi, bool asserted);
};

struct irq {
    const struct irq_ops *ops;
    void *context;
};

static inline void irq_message(const struct irq *irq, uint64_t address, uint32_t data)
{
    irq->ops->message(irq->context, address, data);
}

static inline void irq_level(const struct irq *irq, unsigned gsi, bool asserted)
{
    irq->ops->level(irq->context, gsi, asserted);
}

#endif
