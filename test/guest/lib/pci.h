/* PCI configuration by ports 0xcf8/0xcfc, bus 0. Needs IOPL 3 at CPL 3. */
#ifndef KEMARI_GUEST_PCI_H
#define KEMARI_GUEST_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_ID             0x00
#define PCI_COMMAND        0x04 /* with status in the upper half */
#define PCI_BAR(n)         (0x10 + 4 * (n))
#define PCI_CAPABILITY     0x34
#define PCI_ID_NONE        0xffffffffu
#define PCI_SLOTS          32
#define PCI_CAP_VENDOR     0x09
#define PCI_CAPS_MAX       48 /* a list longer than config space has room for is a loop */

#define PCI_CAP_MSIX       0x11
#define PCI_MSIX_ENABLE    0x80000000u /* of the capability's first word */

#define PCI_COMMAND_MEMORY 0x2u
#define PCI_COMMAND_MASTER 0x4u

uint32_t pci_read32(unsigned slot, unsigned offset);
uint8_t pci_read8(unsigned slot, unsigned offset);
void pci_write32(unsigned slot, unsigned offset, uint32_t value);

/* Slot of the `nth` function with that vendor and device id, or -1. */
int pci_find(uint32_t vendor, uint32_t device, unsigned nth);

/* Offset of the capability of that kind that follows `after` (0: the first one), or 0. */
unsigned pci_capability(unsigned slot, unsigned kind, unsigned after);

/* Routes MSI-X entry 0 to a vector of APIC 0 and switches MSI-X on; false when there is none. */
bool pci_enable_msix(unsigned slot, unsigned vector);

/* Address of a memory BAR, 32 or 64 bits; 0 when it has none. */
uint64_t pci_bar(unsigned slot, unsigned bar);

#endif
