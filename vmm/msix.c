/* See msix.h. */
#include "vmm/msix.h"

#include <linux/pci_regs.h>
#include <string.h>

static void deliver(struct msix *msix, unsigned vector)
{
    msix->pending &= ~(1ull << vector);
    irq_message(msix->irq, msix->address[vector], msix->data[vector]);
}

static bool is_open(const struct msix *msix, unsigned vector)
{
    return msix->enabled && !msix->masked && !(msix->control[vector] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void deliver_pending(struct msix *msix)
{
    for (unsigned v = 0; v < msix->vectors; v++)
        if ((msix->pending >> v & 1) && is_open(msix, v))
            deliver(msix, v);
}

void msix_reset(struct msix *msix)
{
    memset(msix->address, 0, sizeof(msix->address));
    memset(msix->data, 0, sizeof(msix->data));
    for (unsigned v = 0; v < MSIX_VECTORS_MAX; v++)
        msix->control[v] = v < msix->vectors ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0;
    msix->pending = 0;
    msix->enabled = false;
    msix->masked = false;
}

void msix_set_control(struct msix *msix, bool enabled, bool masked)
{
    msix->enabled = enabled;
    msix->masked = masked;
    deliver_pending(msix);
}

void msix_signal(struct msix *msix, unsigned vector)
{
    if (!msix->enabled || vector >= msix->vectors)
        return;
    if (is_open(msix, vector))
        deliver(msix, vector);
    else
        msix->pending |= 1ull << vector;
}

/* One 32-bit word of a table entry. */
static uint32_t table_word(const struct msix *msix, unsigned vector, unsigned offset)
{
    switch (offset) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
        return (uint32_t)msix->address[vector];
    case PCI_MSIX_ENTRY_UPPER_ADDR:
        return (uint32_t)(msix->address[vector] >> 32);
    case PCI_MSIX_ENTRY_DATA:
        return msix->data[vector];
    default:
        return msix->control[vector];
    }
}

static void set_table_word(struct msix *msix, unsigned vector, unsigned offset, uint32_t value)
{
    uint64_t *address = &msix->address[vector];
    switch (offset) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
        *address = (*address & ~(uint64_t)UINT32_MAX) | (value & ~3u);
        return;
    case PCI_MSIX_ENTRY_UPPER_ADDR:
        *address = (*address & UINT32_MAX) | (uint64_t)value << 32;
        return;
    case PCI_MSIX_ENTRY_DATA:
        msix->data[vector] = value;
        return;
    default:
        msix->control[vector] = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
        if ((msix->pending >> vector & 1) && is_open(msix, vector))
            deliver(msix, vector);
    }
}

static uint32_t bar_word(const struct msix *msix, uint64_t offset)
{
    if (offset < (uint64_t)msix->vectors * PCI_MSIX_ENTRY_SIZE)
        return table_word(msix, (unsigned)(offset / PCI_MSIX_ENTRY_SIZE),
                          (unsigned)(offset % PCI_MSIX_ENTRY_SIZE));
    if (offset == MSIX_PENDING_OFFSET)
        return (uint32_t)msix->pending;
    return 0;
}

/* PCI 3.0 §6.8.2 allows aligned accesses of 4 and 8 bytes only; others read zero and write nothing.
 */
static void bar_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    memset(data, 0, size);
    if (size < 4 || offset % size)
        return;
    for (uint32_t i = 0; i < size; i += 4) {
        const uint32_t word = bar_word(context, offset + i);
        memcpy(data + i, &word, sizeof(word));
    }
}

static void bar_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct msix *msix = context;
    if (size < 4 || offset % size)
        return;
    for (uint32_t i = 0; i < size; i += 4) {
        const uint64_t at = offset + i;
        uint32_t word;
        memcpy(&word, data + i, sizeof(word));
        if (at < (uint64_t)msix->vectors * PCI_MSIX_ENTRY_SIZE)
            set_table_word(msix, (unsigned)(at / PCI_MSIX_ENTRY_SIZE),
                           (unsigned)(at % PCI_MSIX_ENTRY_SIZE), word);
    }
}

const struct bus_ops msix_bar_ops = {.read = bar_read, .write = bar_write};
