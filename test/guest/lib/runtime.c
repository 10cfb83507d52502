/* Taking over the machine: descriptor tables, traps, memory map. */
#include "test/guest/lib/runtime.h"

#include "test/guest/lib/apic.h"
#include "test/guest/lib/args.h"
#include "test/guest/lib/cpu.h"
#include "test/guest/lib/serial.h"

/* boot_params, Linux Documentation/arch/x86/zero-page.rst */
#define BOOT_E820_COUNT 0x1e8
#define BOOT_E820_TABLE 0x2d0
#define BOOT_CMDLINE    0x228
#define E820_RAM        1

#define VECTOR_UD       6
#define UD2_SIZE        2

#define PORTS           0x1000 /* below this CPL 3 may use all */

struct __attribute__((packed)) e820_entry {
    uint64_t start, size;
    uint32_t type;
};

/* Where RAM goes on after the device window, and how much of it is mapped. */
#define HIGH_BASE       (4ull << 30)
#define MAPPED_END      (64ull << 30)
#define PAGE_TABLE_USER 0x07u
#define PAGE_LARGE_USER 0x87u

/* Its map allows port I/O at CPL 3; see user_enter() in start.S. */
struct __attribute__((packed)) tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;               /* offset of io_allowed */
    uint8_t io_allowed[PORTS / 8]; /* 0: CPL 3 may use the port */
    uint8_t io_end;                /* all ones, as the CPU wants */
};

struct __attribute__((packed)) gate {
    uint16_t offset0, selector;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, reserved;
};

struct __attribute__((packed)) table_pointer {
    uint16_t limit;
    uint64_t base;
};

extern uint64_t gdt[];
extern const uint64_t trap_stubs[VECTOR_COUNT];
extern uint64_t page_directory_pointers[];
extern uint8_t kernel_stacks[], user_stacks[];
extern const uint8_t supervisor_door[];
extern uint8_t ap_trampoline[], ap_trampoline_end[];

void user_enter(void (*entry)(void *), void *argument, void *stack_top) __attribute__((noreturn));
void runtime_start(const uint8_t *boot_params);
void trap_dispatch(struct trap_frame *frame);
void ap_start(unsigned cpu);

static uint64_t high_directories[(MAPPED_END - HIGH_BASE) >> 30][512]
    __attribute__((section(".bss.noinit"), aligned(4096)));
static struct tss tss[GUEST_VCPUS_MAX] __attribute__((section(".bss.noinit")));
static struct gate idt[VECTOR_COUNT];
static void (*handlers[VECTOR_COUNT])(struct trap_frame *frame);
static uint64_t low_end, high_end; /* of the RAM from 1 MiB on, and from 4 GiB on */
static void (*ap_function)(unsigned cpu);
static volatile unsigned vcpus_begun;

static void load_tables(unsigned cpu)
{
    const uint64_t base = (uint64_t)&tss[cpu];
    memset(&tss[cpu], 0, sizeof(tss[cpu]));
    tss[cpu].rsp[0] = (uint64_t)kernel_stacks + STACK_SIZE * (cpu + 1);
    tss[cpu].io_map = offsetof(struct tss, io_allowed);
    tss[cpu].io_end = 0xff;
    uint64_t *descriptor = gdt + SELECTOR_TSS(cpu) / 8;
    descriptor[0] = (sizeof(tss[cpu]) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
                    (base >> 24 & 0xff) << 56;
    descriptor[1] = base >> 32;
    const struct table_pointer idt_pointer = {sizeof(idt) - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(idt_pointer));
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS(cpu)));
}

static void build_idt(void)
{
    for (unsigned v = 0; v < VECTOR_COUNT; v++) {
        const uint64_t stub = trap_stubs[v];
        idt[v] = (struct gate){
            .offset0 = (uint16_t)stub,
            .selector = SELECTOR_KERNEL_CODE,
            .type = 0x8e, /* interrupt gate */
            .offset1 = (uint16_t)(stub >> 16),
            .offset2 = (uint32_t)(stub >> 32),
        };
    }
}

static void find_memory(const uint8_t *boot_params)
{
    const struct e820_entry *entry = (const struct e820_entry *)(boot_params + BOOT_E820_TABLE);
    for (unsigned i = 0; i < boot_params[BOOT_E820_COUNT]; i++) {
        const uint64_t end = entry[i].start + entry[i].size;
        if (entry[i].type != E820_RAM)
            continue;
        if (entry[i].start <= 0x100000 && end > 0x100000)
            low_end = end;
        if (entry[i].start == HIGH_BASE)
            high_end = end < MAPPED_END ? end : MAPPED_END;
    }
}

/* Maps what lies above 4 GiB, by 2 MiB: not every CPU, or KVM, has larger pages. */
static void map_high_memory(void)
{
    for (uint64_t gib = HIGH_BASE >> 30; gib << 30 < high_end; gib++) {
        uint64_t *directory = high_directories[gib - (HIGH_BASE >> 30)];
        for (uint64_t i = 0; i < 512; i++)
            directory[i] = gib << 30 | i << 21 | PAGE_LARGE_USER;
        page_directory_pointers[gib] = (uint64_t)directory | PAGE_TABLE_USER;
    }
}

void runtime_start(const uint8_t *boot_params)
{
    uint32_t line;
    memcpy(&line, boot_params + BOOT_CMDLINE, sizeof(line));
    args_set((const char *)(uintptr_t)line);
    find_memory(boot_params);
    map_high_memory();
    build_idt();
    load_tables(0);
    guest_main();
}

void runtime_user(unsigned cpu, void (*function)(void *), void *argument)
{
    user_enter(function, argument, user_stacks + STACK_SIZE * (cpu + 1));
}

void runtime_set_handler(unsigned vector, void (*handler)(struct trap_frame *frame))
{
    handlers[vector] = handler;
}

bool runtime_has_memory(uint64_t start, uint64_t size)
{
    const uint64_t end = start + size;
    return end >= start && ((start >= GUEST_FREE_BASE && end <= low_end) ||
                            (start >= HIGH_BASE && end <= high_end));
}

void trap_dispatch(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_UD && frame->rip == (uint64_t)supervisor_door) {
        uint64_t (*function)(uint64_t) = (uint64_t(*)(uint64_t))frame->rdi;
        frame->rax = function(frame->rsi);
        frame->rip += UD2_SIZE;
        return;
    }
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    uint64_t address;
    __asm__ volatile("mov %%cr2, %0" : "=r"(address));
    serial_break_lock();
    serial_print("\nEXCEPTION vector=%u error=%x rip=%x cs=%x rflags=%x rsp=%x cr2=%x\n",
                 frame->vector, frame->error, frame->rip, frame->cs, frame->rflags, frame->rsp,
                 address);
    cpu_stop();
}

void ap_start(unsigned cpu)
{
    load_tables(cpu);
    __atomic_fetch_add(&vcpus_begun, 1, __ATOMIC_SEQ_CST);
    ap_function(cpu);
    cpu_stop();
}

void runtime_start_vcpus(unsigned count, void (*function)(unsigned cpu))
{
    ap_function = function;
    memcpy((void *)AP_TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    apic_enable();
    for (unsigned cpu = 1; cpu < count; cpu++) {
        apic_send_init(cpu);
        apic_send_startup(cpu, AP_TRAMPOLINE >> 12);
        while (vcpus_begun != cpu)
            cpu_relax();
    }
}

static uint64_t stop(uint64_t unused)
{
    (void)unused;
    cpu_stop();
}

void runtime_fail(const char *what)
{
    serial_print("FAIL %s\n", what);
    supervisor_call(stop, 0);
    __builtin_unreachable();
}
