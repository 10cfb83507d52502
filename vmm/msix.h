/* MSI-X: the vector table, its pending bits and the two levels of masking (PCI 3.0 §6.8.2).
 *
 * Embedded in a PCI function. The enable and function-mask bits live in the function's
 * configuration space; the function tells us when they change. Layout of the BAR: table at 0,
 * pending bits at MSIX_PENDING_OFFSET. All calls hold the device lock. */
#ifndef KEMARI_VMM_MSIX_H
#define KEMARI_VMM_MSIX_H

#include "base/types.h"
#include "vmm/bus.h"
#include "vmm/irq.h"

#define MSIX_VECTORS_MAX    8
#define MSIX_BAR_SIZE       4096
#define MSIX_PENDING_OFFSET 2048

struct msix {
    /* set at creation */
    const struct irq *irq;
    unsigned vectors;

    /* state */
    uint64_t address[MSIX_VECTORS_MAX];
    uint32_t data[MSIX_VECTORS_MAX];
    uint32_t control[MSIX_VECTORS_MAX]; /* bit 0: masked */
    uint64_t pending;                   /* one bit per vector */

    /* copies of the configuration space */
    bool enabled;
    bool masked;
};

extern const struct bus_ops msix_bar_ops; /* context: struct msix */

/* All vectors masked, nothing pending, as after power-on. */
void msix_reset(struct msix *msix);

/* The control word was written or loaded; delivers what became possible. */
void msix_set_control(struct msix *msix, bool enabled, bool masked);

void msix_signal(struct msix *msix, unsigned vector);

#endif
