/* The local APIC (xAPIC page) of the calling vCPU. The page is mapped for CPL 3 as well. */
#ifndef KEMARI_GUEST_APIC_H
#define KEMARI_GUEST_APIC_H

#include <stdint.h>

#define APIC_BASE           0xfee00000u
#define APIC_ID             0x020
#define APIC_TASK_PRIORITY  0x080
#define APIC_END            0x0b0
#define APIC_LOGICAL_ID     0x0d0
#define APIC_DESTINATION    0x0e0
#define APIC_SPURIOUS       0x0f0
#define APIC_COMMAND        0x300
#define APIC_COMMAND_HIGH   0x310
#define APIC_TIMER          0x320
#define APIC_LINT0          0x350
#define APIC_LINT1          0x360
#define APIC_ERROR          0x370
#define APIC_TIMER_INITIAL  0x380
#define APIC_TIMER_CURRENT  0x390
#define APIC_TIMER_DIVIDE   0x3e0

#define APIC_MASKED         0x10000u
#define APIC_TIMER_PERIODIC 0x20000u

uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t value);

/* Software-enables the APIC with spurious vector VECTOR_SPURIOUS. */
void apic_enable(void);

/* Starts the timer: `vector` every `period_ns`, by KVM's bus clock of 1 GHz (elsewhere: another
 * period). At most a minute. */
void apic_start_timer(unsigned vector, uint64_t period_ns);

/* Ends the interrupt in service. */
void apic_end(void);

void apic_send_init(unsigned apic_id);
void apic_send_startup(unsigned apic_id, unsigned page);
void apic_send(unsigned apic_id, unsigned vector);

#endif
