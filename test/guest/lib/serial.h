/* The first serial port, polled; any privilege level with IOPL 3, any vCPU.
 *
 * Lines of several vCPUs never mix: serial_print() takes a lock in guest memory. */
#ifndef KEMARI_GUEST_SERIAL_H
#define KEMARI_GUEST_SERIAL_H

#define SERIAL_PORT 0x3f8

/* Formats %u (decimal), %x (hexadecimal) and %s. A number must be passed as a uint64_t: widen an
 * unsigned with a cast. */
void serial_print(const char *format, ...);

/* Takes the lock away from whoever has it: for a last word of a vCPU that may hold it itself. */
void serial_break_lock(void);

/* The next received byte, or -1. Costs an exit. */
int serial_get(void);

/* Interrupts (ISA line 4) when a byte was received. */
void serial_enable_interrupt(void);

#endif
