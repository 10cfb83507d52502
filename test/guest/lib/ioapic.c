#include "test/guest/lib/ioapic.h"

#include "test/guest/lib/cpu.h"

#define REGISTER_SELECT (IOAPIC_BASE + 0x00)
#define REGISTER_WINDOW (IOAPIC_BASE + 0x10)

uint32_t ioapic_read(unsigned reg)
{
    mmio_write32(REGISTER_SELECT, reg);
    return mmio_read32(REGISTER_WINDOW);
}

void ioapic_write(unsigned reg, uint32_t value)
{
    mmio_write32(REGISTER_SELECT, reg);
    mmio_write32(REGISTER_WINDOW, value);
}

void ioapic_route(unsigned pin, unsigned vector, unsigned apic_id)
{
    ioapic_write(IOAPIC_ENTRY(pin) + 1, apic_id << 24);
    ioapic_write(IOAPIC_ENTRY(pin), vector);
}
