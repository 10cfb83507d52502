/* The probe's scratch VM: 64 KiB of memory, one vCPU that starts in long mode at CPL 0.
 *
 * Each try is a few bytes of code that end in a write to a port; an exception ends in a write to
 * another port. Anything else that comes out of KVM_RUN counts as "KVM lacks it". The registers are
 * set anew for every try, so one that broke the vCPU does not spoil the next.
 *
 * Deliberately no part of the machine (vmm/machine.h): it must also explain why that fails. */
#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

/* Of what takes a fraction of a second: only a VM that hangs comes to it, on a busy host, too. */
#define DEADLINE SEC(15)

/* A kernel needs some 10^9 instructions to boot: below this it would take minutes. */
#define LINUX_INSTRUCTIONS_PER_SECOND 10000000ull

/* The loop is repeated, with more turns while it takes less than this. */
#define LOOP_RUNS        8
#define LOOP_TURNS_FIRST 4000u
#define LOOP_ENOUGH      MSEC(2)

/* Guest physical addresses. */
#define MEMORY_SIZE        0x10000
#define AT_PML4            0x1000
#define AT_PDPT            0x2000
#define AT_PD              0x3000
#define AT_IDT             0x4000
#define AT_GDT             0x5000
#define AT_CODE            0x6000
#define AT_STACK           0x8000 /* grows down */
#define AT_DATA            0x8000 /* zeroes: an empty XSAVE area */

#define PORT_DONE          0xf1
#define PORT_EXCEPTION     0xf2

#define CPUID_MAX          256
#define CPUID_1_ECX_CX16   (1u << 13)
#define CPUID_1_ECX_XSAVE  (1u << 26)
#define VECTOR_BREAKPOINT  3
#define EXCEPTION_VECTORS  32
#define GATE_INTERRUPT     0x8e00
#define PAGE_PRESENT_WRITE 0x3
#define PAGE_LARGE         0x80
#define CR0_VALUE          0x80010033 /* PG WP NE ET MP PE */
#define CR4_VALUE          0x620      /* OSXMMEXCPT OSFXSR PAE */
#define CR4_OSXSAVE        (1u << 18)
#define EFER_LONG_MODE     0x500

struct scratch {
    int kvm, vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
    struct kvm_sregs sregs;
    bool has_cx16, has_xsave;
};

/* RDI = AT_DATA and RCX = number of turns in every try. */
#define TRY(name, code)                                                                            \
    extern const uint8_t try_##name[], try_##name##_end[];                                         \
    __asm__(".pushsection .rodata\n"                                                               \
            "try_" #name ":\n" code "\nout %al, $0xf1\n"                                           \
            "try_" #name "_end:\n"                                                                 \
            ".popsection\n")

TRY(nothing, "nop");
TRY(loop, "1: dec %rcx; jnz 1b");
TRY(cmpxchg16b, "xor %eax, %eax; xor %edx, %edx; lock cmpxchg16b (%rdi)");
TRY(xrstor, "mov $3, %eax; xor %edx, %edx; xrstor (%rdi)");
TRY(int3, "int3");
TRY(swapgs, "swapgs; swapgs");
TRY(invlpg, "invlpg (%rdi)");
TRY(on_breakpoint, "iretq");
TRY(on_exception, "out %al, $0xf2");

static const struct {
    const char *name;
    const uint8_t *code, *end;
} tries[KVM_PROBE_INSTRUCTIONS] = {
    [KVM_PROBE_CMPXCHG16B] = {"cmpxchg16b", try_cmpxchg16b, try_cmpxchg16b_end},
    [KVM_PROBE_XRSTOR] = {"xrstor", try_xrstor, try_xrstor_end},
    [KVM_PROBE_INT3] = {"int3", try_int3, try_int3_end},
    [KVM_PROBE_SWAPGS] = {"swapgs", try_swapgs, try_swapgs_end},
    [KVM_PROBE_INVLPG] = {"invlpg", try_invlpg, try_invlpg_end},
};

/* What the machine can't do without (vmm/machine.h). */
static const struct {
    int capability;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_PIT2, "KVM_CAP_PIT2"},
    {KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2"},
};

static const char *find_missing(int kvm)
{
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (ioctl(kvm, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            return needed[i].name;
    return NULL;
}

static void put_u64(struct scratch *s, size_t at, uint64_t value)
{
    memcpy(s->memory + at, &value, sizeof(value));
}

static void put_gate(struct scratch *s, unsigned vector, uint64_t handler)
{
    put_u64(s, AT_IDT + 16 * vector,
            (handler & 0xffff) | 0x08ull << 16 | (uint64_t)GATE_INTERRUPT << 32);
}

static void fill_memory(struct scratch *s)
{
    const size_t at_breakpoint = AT_CODE + 0x100;
    const size_t at_exception = AT_CODE + 0x180;
    put_u64(s, AT_PML4, AT_PDPT | PAGE_PRESENT_WRITE);
    put_u64(s, AT_PDPT, AT_PD | PAGE_PRESENT_WRITE);
    put_u64(s, AT_PD, PAGE_PRESENT_WRITE | PAGE_LARGE);
    put_u64(s, AT_GDT + 8, 0x00af9b000000ffff);
    put_u64(s, AT_GDT + 16, 0x00cf93000000ffff);
    memcpy(s->memory + at_breakpoint, try_on_breakpoint,
           (size_t)(try_on_breakpoint_end - try_on_breakpoint));
    memcpy(s->memory + at_exception, try_on_exception,
           (size_t)(try_on_exception_end - try_on_exception));
    for (unsigned v = 0; v < EXCEPTION_VECTORS; v++)
        put_gate(s, v, v == VECTOR_BREAKPOINT ? at_breakpoint : at_exception);
}

static int set_cpuid(struct scratch *s)
{
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));
    if (!cpuid)
        return -ENOMEM;
    cpuid->nent = CPUID_MAX;
    int rc = 0;
    if (ioctl(s->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) || ioctl(s->vcpu, KVM_SET_CPUID2, cpuid))
        rc = -errno;
    for (uint32_t i = 0; !rc && i < cpuid->nent; i++)
        if (cpuid->entries[i].function == 1) {
            s->has_cx16 = cpuid->entries[i].ecx & CPUID_1_ECX_CX16;
            s->has_xsave = cpuid->entries[i].ecx & CPUID_1_ECX_XSAVE;
        }
    free(cpuid);
    return rc;
}

static int prepare_sregs(struct scratch *s)
{
    struct kvm_sregs *r = &s->sregs;
    if (ioctl(s->vcpu, KVM_GET_SREGS, r))
        return -errno;
    const struct kvm_segment code = {
        .limit = UINT32_MAX, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    const struct kvm_segment data = {
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    r->cs = code;
    r->ds = r->es = r->fs = r->gs = r->ss = data;
    r->gdt = (struct kvm_dtable){.base = AT_GDT, .limit = 23};
    r->idt = (struct kvm_dtable){.base = AT_IDT, .limit = 16 * EXCEPTION_VECTORS - 1};
    r->cr0 = CR0_VALUE;
    r->cr3 = AT_PML4;
    r->cr4 = CR4_VALUE | (s->has_xsave ? CR4_OSXSAVE : 0);
    r->efer = EFER_LONG_MODE;
    return 0;
}

/* 0 or -errno. The child exits afterwards: nothing is unwound. */
static int build(struct scratch *s)
{
    s->vm = ioctl(s->kvm, KVM_CREATE_VM, 0);
    if (s->vm < 0)
        return -errno;
    s->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->memory == MAP_FAILED)
        return -errno;
    struct kvm_userspace_memory_region region = {
        .memory_size = MEMORY_SIZE,
        .userspace_addr = (uintptr_t)s->memory,
    };
    if (ioctl(s->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) ||
        ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &region))
        return -errno;
    s->vcpu = ioctl(s->vm, KVM_CREATE_VCPU, 0);
    if (s->vcpu < 0)
        return -errno;
    const int run_size = ioctl(s->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < 0)
        return -errno;
    s->run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, s->vcpu, 0);
    if (s->run == MAP_FAILED)
        return -errno;
    fill_memory(s);
    const int rc = set_cpuid(s);
    return rc ? rc : prepare_sregs(s);
}

static enum kvm_probe_outcome run_code(struct scratch *s, const uint8_t *code, const uint8_t *end,
                                       uint64_t turns, nsec_t *elapsed)
{
    memcpy(s->memory + AT_CODE, code, (size_t)(end - code));
    const struct kvm_regs regs = {
        .rip = AT_CODE, .rsp = AT_STACK, .rdi = AT_DATA, .rcx = turns, .rflags = 2};
    if (ioctl(s->vcpu, KVM_SET_SREGS, &s->sregs) || ioctl(s->vcpu, KVM_SET_REGS, &regs))
        return KVM_PROBE_LACKS;
    const nsec_t start = clock_now();
    int rc;
    do
        rc = ioctl(s->vcpu, KVM_RUN, 0);
    while (rc && (errno == EINTR || errno == EAGAIN));
    *elapsed = clock_now() - start;
    if (rc || s->run->exit_reason != KVM_EXIT_IO)
        return KVM_PROBE_LACKS;
    const enum kvm_probe_outcome outcome =
        s->run->io.port == PORT_DONE ? KVM_PROBE_WORKS : KVM_PROBE_FAULTS;
    /* Complete the port write, so that the next KVM_SET_REGS is not overtaken by it. */
    s->run->immediate_exit = 1;
    (void)ioctl(s->vcpu, KVM_RUN, 0);
    s->run->immediate_exit = 0;
    return outcome;
}

/* The best of several runs: others that run on this host can only make it look slower. */
static void time_loop(struct scratch *s, struct kvm_facts *facts)
{
    nsec_t overhead = 0, elapsed = 0;
    if (run_code(s, try_nothing, try_nothing_end, 0, &overhead) != KVM_PROBE_WORKS ||
        run_code(s, try_nothing, try_nothing_end, 0, &overhead) != KVM_PROBE_WORKS)
        return;
    double best = 0;
    uint64_t turns = LOOP_TURNS_FIRST;
    for (unsigned run = 0; run < LOOP_RUNS; run++) {
        if (run_code(s, try_loop, try_loop_end, turns, &elapsed) != KVM_PROBE_WORKS) {
            facts->loop_ran = false;
            return;
        }
        const nsec_t net = elapsed > overhead ? elapsed - overhead : elapsed;
        const double rate = 2.0 * (double)turns / (double)net;
        if (rate > best) {
            best = rate;
            facts->instructions = 2 * turns;
            facts->elapsed = net;
            facts->loop_ran = true;
        }
        if (elapsed < LOOP_ENOUGH)
            turns *= 4;
    }
}

static void measure(struct kvm_facts *facts)
{
    struct scratch s = {.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (s.kvm < 0) {
        facts->open_error = errno;
        return;
    }
    facts->api_version = ioctl(s.kvm, KVM_GET_API_VERSION, 0);
    facts->missing = find_missing(s.kvm);
    if (facts->api_version != KVM_API_VERSION || facts->missing)
        return;
    facts->vm_error = -build(&s);
    if (facts->vm_error)
        return;
    time_loop(&s, facts);
    for (size_t i = 0; facts->loop_ran && i < KVM_PROBE_INSTRUCTIONS; i++) {
        nsec_t unused;
        if ((i == KVM_PROBE_CMPXCHG16B && !s.has_cx16) || (i == KVM_PROBE_XRSTOR && !s.has_xsave))
            continue;
        facts->outcome[i] = run_code(&s, tries[i].code, tries[i].end, 0, &unused);
    }
}

/* Appends "name name ..." of the instructions that do not work; returns how many. */
static unsigned list_lacking(const struct kvm_facts *facts, char *text, size_t size)
{
    unsigned count = 0;
    text[0] = '\0';
    for (size_t i = 0; i < KVM_PROBE_INSTRUCTIONS; i++) {
        if (facts->outcome[i] != KVM_PROBE_LACKS && facts->outcome[i] != KVM_PROBE_FAULTS)
            continue;
        const size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", count ? ", " : "", tries[i].name);
        count++;
    }
    return count;
}

static bool find_obstacle(const struct kvm_facts *facts, char *reason, size_t size)
{
    if (facts->open_error)
        snprintf(reason, size, "/dev/kvm: %s", strerror(facts->open_error));
    else if (facts->timed_out)
        snprintf(reason, size, "/dev/kvm: a scratch VM did not come to an end");
    else if (facts->api_version != KVM_API_VERSION)
        snprintf(reason, size, "/dev/kvm: API version %d instead of %d", facts->api_version,
                 KVM_API_VERSION);
    else if (facts->missing)
        snprintf(reason, size, "/dev/kvm: capability %s is missing", facts->missing);
    else if (facts->vm_error)
        snprintf(reason, size, "/dev/kvm: a scratch VM can't be made: %s",
                 strerror(facts->vm_error));
    else if (!facts->loop_ran)
        snprintf(reason, size, "/dev/kvm: plain supervisor code does not run");
    else
        return false;
    return true;
}

void kvm_probe_decide(const struct kvm_facts *facts, struct kvm_probe *out)
{
    *out = (struct kvm_probe){0};
    if (find_obstacle(facts, out->reason, sizeof(out->reason)))
        return;
    out->usable = true;
    const nsec_t elapsed = facts->elapsed > 0 ? facts->elapsed : 1;
    out->supervisor_per_second = (uint64_t)((double)facts->instructions * 1e9 / (double)elapsed);
    char lacking[128];
    const double millions = (double)out->supervisor_per_second / 1e6;
    if (list_lacking(facts, lacking, sizeof(lacking)))
        snprintf(out->reason, sizeof(out->reason),
                 "no stock Linux: supervisor code lacks %s and runs at %.1f million "
                 "instructions per second",
                 lacking, millions);
    else if (out->supervisor_per_second < LINUX_INSTRUCTIONS_PER_SECOND)
        snprintf(out->reason, sizeof(out->reason),
                 "no stock Linux: supervisor code runs at only %.1f million instructions per "
                 "second",
                 millions);
    else {
        out->boots_linux = true;
        snprintf(out->reason, sizeof(out->reason),
                 "supervisor code is complete and runs at %.0f million instructions per second",
                 millions);
    }
}

/* Reads the child's facts until the deadline; false when they did not come. `missing` points into
 * this program's image, which the child shares. */
static bool await_facts(int fd, struct kvm_facts *facts)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    const nsec_t deadline = clock_now() + DEADLINE;
    for (;;) {
        const nsec_t left = deadline - clock_now();
        if (left <= 0)
            return false;
        const int ready = poll(&wait, 1, (int)(left / MSEC(1)) + 1);
        if (ready > 0)
            return fd_read_all(fd, facts, sizeof(*facts)) == 0;
    }
}

int kvm_probe(struct kvm_probe *out, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return error_set(err, -errno, "probing KVM: can't make a pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        const int rc = error_set(err, -errno, "probing KVM: can't fork: %s", strerror(errno));
        fd_close(&ends[0]);
        fd_close(&ends[1]);
        return rc;
    }
    if (child == 0) {
        struct kvm_facts facts = {0};
        measure(&facts);
        _exit(fd_write_all(ends[1], &facts, sizeof(facts)) ? 1 : 0);
    }
    fd_close(&ends[1]);
    struct kvm_facts facts = {0};
    if (!await_facts(ends[0], &facts))
        facts = (struct kvm_facts){.timed_out = true};
    fd_close(&ends[0]);
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    kvm_probe_decide(&facts, out);
    return 0;
}
