#include "test/guest/lib/serial.h"

#include <stdarg.h>

#include "test/guest/lib/cpu.h"

#define INTERRUPT_ENABLE  (SERIAL_PORT + 1)
#define MODEM_CONTROL     (SERIAL_PORT + 4)
#define MODEM_OUT2        0x08 /* connects the interrupt line */
#define LINE_STATUS       (SERIAL_PORT + 5)
#define LINE_STATUS_READY 0x01 /* a byte was received */
#define LINE_STATUS_EMPTY 0x20 /* a byte may be sent */

static volatile int lock;

static void put(char c)
{
    while (!(port_in8(LINE_STATUS) & LINE_STATUS_EMPTY))
        cpu_relax();
    port_out8(SERIAL_PORT, (uint8_t)c);
}

static void put_number(uint64_t value, unsigned base)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count)
        put(digits[--count]);
}

void serial_print(const char *format, ...)
{
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        cpu_relax();
    va_list arguments;
    va_start(arguments, format);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            put(*p);
            continue;
        }
        switch (*++p) {
        case 'u':
            put_number(va_arg(arguments, uint64_t), 10);
            break;
        case 'x':
            put_number(va_arg(arguments, uint64_t), 16);
            break;
        case 's':
            for (const char *s = va_arg(arguments, const char *); *s; s++)
                put(*s);
            break;
        default:
            put(*p);
            break;
        }
    }
    va_end(arguments);
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

void serial_break_lock(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

int serial_get(void)
{
    if (!(port_in8(LINE_STATUS) & LINE_STATUS_READY))
        return -1;
    return port_in8(SERIAL_PORT);
}

void serial_enable_interrupt(void)
{
    port_out8(MODEM_CONTROL, MODEM_OUT2);
    port_out8(INTERRUPT_ENABLE, 1);
}
