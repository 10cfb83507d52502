#include "test/guest/lib/apic.h"

#include "test/guest/lib/cpu.h"
#include "test/guest/lib/layout.h"

#define COMMAND_INIT     0x4500u /* level assert */
#define COMMAND_STARTUP  0x4600u
#define COMMAND_FIXED    0x4000u
#define COMMAND_PENDING  0x1000u
#define DIVIDE_BY_16     3u
#define SPURIOUS_ENABLED 0x100u

uint32_t apic_read(uint32_t reg)
{
    return mmio_read32(APIC_BASE + reg);
}

void apic_write(uint32_t reg, uint32_t value)
{
    mmio_write32(APIC_BASE + reg, value);
}

void apic_enable(void)
{
    apic_write(APIC_SPURIOUS, SPURIOUS_ENABLED | VECTOR_SPURIOUS);
}

void apic_start_timer(unsigned vector, uint64_t period_ns)
{
    const uint64_t count = period_ns / 16; /* turns of a 1 GHz bus clock, divided */
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_16);
    apic_write(APIC_TIMER, vector | APIC_TIMER_PERIODIC);
    apic_write(APIC_TIMER_INITIAL, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX);
}

void apic_end(void)
{
    apic_write(APIC_END, 0);
}

static void command(unsigned apic_id, uint32_t low)
{
    apic_write(APIC_COMMAND_HIGH, apic_id << 24);
    apic_write(APIC_COMMAND, low);
    while (apic_read(APIC_COMMAND) & COMMAND_PENDING)
        cpu_relax();
}

void apic_send_init(unsigned apic_id)
{
    command(apic_id, COMMAND_INIT);
}

void apic_send_startup(unsigned apic_id, unsigned page)
{
    command(apic_id, COMMAND_STARTUP | page);
}

void apic_send(unsigned apic_id, unsigned vector)
{
    command(apic_id, COMMAND_FIXED | vector);
}
