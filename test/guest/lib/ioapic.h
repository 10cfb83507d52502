/* The IOAPIC: routes global interrupts to vectors. */
#ifndef KEMARI_GUEST_IOAPIC_H
#define KEMARI_GUEST_IOAPIC_H

#include <stdint.h>

#define IOAPIC_BASE     0xfec00000u
#define IOAPIC_ENTRY(n) (0x10 + 2 * (n)) /* low half; high half follows */
#define IOAPIC_MASKED   0x10000u

uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t value);

/* Edge-triggered, active high, fixed delivery to one APIC. */
void ioapic_route(unsigned pin, unsigned vector, unsigned apic_id);

#endif
