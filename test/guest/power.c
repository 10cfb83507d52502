/* power: says "ready boot", then waits for one byte on the serial port and obeys it.
 *
 *   p  switches off through ACPI (S5)
 *   r  resets through port 0xcf9
 *   k  resets through the keyboard controller
 *   t  resets by a triple fault
 *   c  says through pvpanic that it has panicked, and stands still
 *   l  likewise, and that its crash kernel goes on, which it does
 *
 * After a reset it says "ready boot" again. Any other byte is answered by "input=C". */
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/runtime.h"
#include "test/guest/lib/serial.h"

#define PM1_CONTROL     0x604
#define PM1_SLEEP_OFF   (5u << 10 | 1u << 13)
#define RESET_CONTROL   0xcf9
#define RESET_FULL      0x06
#define KEYBOARD_STATUS 0x64
#define KEYBOARD_RESET  0xfe
#define PVPANIC         0x505
#define PANICKED        0x01
#define CRASH_LOADED    0x02

static uint64_t triple_fault(uint64_t unused)
{
    (void)unused;
    const struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } no_idt = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
    return 0;
}

static void obey(int c)
{
    char text[2] = {(char)c, '\0'};
    switch (c) {
    case 'p':
        port_out16(PM1_CONTROL, PM1_SLEEP_OFF);
        break;
    case 'r':
        port_out8(RESET_CONTROL, RESET_FULL);
        break;
    case 'k':
        port_out8(KEYBOARD_STATUS, KEYBOARD_RESET);
        break;
    case 't':
        supervisor_call(triple_fault, 0);
        break;
    case 'c':
        port_out8(PVPANIC, PANICKED);
        for (;;)
            __asm__ volatile("pause");
    case 'l':
        port_out8(PVPANIC, CRASH_LOADED);
        serial_print("crash kernel\n");
        return;
    default:
        serial_print("input=%s\n", text);
        return;
    }
    runtime_fail("still here");
}

static void wait_for_orders(void *unused)
{
    (void)unused;
    serial_print("ready boot\n");
    for (;;) {
        const int c = serial_get();
        if (c >= 0)
            obey(c);
    }
}

void guest_main(void)
{
    runtime_user(0, wait_for_orders, NULL);
}
