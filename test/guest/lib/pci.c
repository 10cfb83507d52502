#include "test/guest/lib/pci.h"

#include "test/guest/lib/cpu.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define MSI_ADDRESS    0xfee00000u
#define BAR_IS_64      0x4u
#define BAR_IS_PORT    0x1u

static void select_register(unsigned slot, unsigned offset)
{
    port_out32(CONFIG_ADDRESS, 0x80000000u | slot << 11 | (offset & 0xfc));
}

uint32_t pci_read32(unsigned slot, unsigned offset)
{
    select_register(slot, offset);
    return port_in32(CONFIG_DATA);
}

uint8_t pci_read8(unsigned slot, unsigned offset)
{
    return (uint8_t)(pci_read32(slot, offset) >> 8 * (offset & 3));
}

void pci_write32(unsigned slot, unsigned offset, uint32_t value)
{
    select_register(slot, offset);
    port_out32(CONFIG_DATA, value);
}

int pci_find(uint32_t vendor, uint32_t device, unsigned nth)
{
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        if (pci_read32(slot, PCI_ID) == (device << 16 | vendor) && nth-- == 0)
            return (int)slot;
    return -1;
}

uint64_t pci_bar(unsigned slot, unsigned bar)
{
    const uint32_t low = pci_read32(slot, PCI_BAR(bar));
    if (low & BAR_IS_PORT)
        return 0;
    uint64_t address = low & ~0xfu;
    if (low & BAR_IS_64)
        address |= (uint64_t)pci_read32(slot, PCI_BAR(bar + 1)) << 32;
    return address;
}

unsigned pci_capability(unsigned slot, unsigned kind, unsigned after)
{
    unsigned at = pci_read8(slot, after ? after + 1 : PCI_CAPABILITY);
    for (unsigned n = 0; at && n < PCI_CAPS_MAX; n++, at = pci_read8(slot, at + 1))
        if (pci_read8(slot, at) == kind)
            return at;
    return 0;
}

bool pci_enable_msix(unsigned slot, unsigned vector)
{
    const unsigned at = pci_capability(slot, PCI_CAP_MSIX, 0);
    if (!at)
        return false;
    const uint32_t table = pci_read32(slot, at + 4); /* BAR number in the low three bits */
    const uintptr_t entry = pci_bar(slot, table & 7) + (table & ~7u);
    mmio_write32(entry, MSI_ADDRESS);
    mmio_write32(entry + 4, 0);
    mmio_write32(entry + 8, vector);
    mmio_write32(entry + 12, 0); /* not masked */
    pci_write32(slot, at, pci_read32(slot, at) | PCI_MSIX_ENABLE);
    return true;
}
