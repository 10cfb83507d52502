/* The machine by itself: what it refuses, what it leaves behind, how it fails, and what it makes of
 * state that was tampered with. Guests are a few bytes of machine code in an ELF file made here. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wire.h"
#include "test/support/guest_harness.h"
#include "test/support/runner.h"
#include "vmm/machine.h"
#include "vmm/power.h"

#define MEMORY       ((uint64_t)16 << 20)
#define CODE_ADDRESS 0x200000u
#define WAIT_MS      10000

static char kernel_path[] = "/tmp/kemari-machine-test-XXXXXX";

/* Writes an ELF file of one segment that is entered at its first byte. */
static void write_kernel(const uint8_t *code, size_t size)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        uint8_t code[256];
    } file = {.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                         .e_type = ET_EXEC,
                         .e_machine = EM_X86_64,
                         .e_entry = CODE_ADDRESS,
                         .e_phoff = sizeof(Elf64_Ehdr),
                         .e_phentsize = sizeof(Elf64_Phdr),
                         .e_phnum = 1},
              .segment = {.p_type = PT_LOAD, .p_paddr = CODE_ADDRESS}};
    file.segment.p_offset = (uint64_t)((uint8_t *)file.code - (uint8_t *)&file);
    file.segment.p_filesz = file.segment.p_memsz = size;
    memcpy(file.code, code, size);
    FILE *f = fopen(kernel_path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(&file, sizeof(file), 1, f), 1);
    fclose(f);
}

/* 1: inc qword [0x300000]; jmp 1b */
static const uint8_t counting[] = {0x48, 0xff, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0xeb, 0xf6};
#define COUNTER 0x300000u

/* mov ecx, 0x10; mov edx, 0x1000000; xor eax, eax; wrmsr (TSC = 2^56); then as above */
static const uint8_t setting_tsc[] = {0xb9, 0x10, 0x00, 0x00, 0x00, 0xba, 0x00, 0x00,
                                      0x00, 0x01, 0x31, 0xc0, 0x0f, 0x30, 0x48, 0xff,
                                      0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0xeb, 0xf6};
#define TSC_SET ((uint64_t)1 << 56)

/* mov eax, 0xd0000000; jmp rax: executes from where nothing is */
static const uint8_t derailing[] = {0xb8, 0x00, 0x00, 0x00, 0xd0, 0xff, 0xe0};

/* ud2 without an IDT: a triple fault as soon as it starts */
static const uint8_t crashing[] = {0x0f, 0x0b};

/* mov dx, 0x604; mov ax, 0x3400; out dx, ax; jmp $: ACPI power-off */
static const uint8_t leaving[] = {0x66, 0xba, 0x04, 0x06, 0x66, 0xb8,
                                  0x00, 0x34, 0x66, 0xef, 0xeb, 0xfe};

struct outside {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned events[MACHINE_EVENT_COUNT];
    char detail[256];
};

static struct outside outside = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                 .changed = PTHREAD_COND_INITIALIZER};

static void on_event(void *context, enum machine_event event, const char *detail)
{
    struct outside *o = context;
    pthread_mutex_lock(&o->lock);
    o->events[event]++;
    snprintf(o->detail, sizeof(o->detail), "%s", detail ? detail : "");
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    (void)context;
    (void)which;
    (void)data;
    (void)size;
}

static const struct machine_output_ops output = {.console = on_console, .event = on_event};

/* True when the event has come, at the latest after WAIT_MS. */
static bool wait_event(enum machine_event event)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&outside.lock);
    int rc = 0;
    while (!outside.events[event] && rc == 0)
        rc = pthread_cond_timedwait(&outside.changed, &outside.lock, &until);
    const bool came = outside.events[event] > 0;
    pthread_mutex_unlock(&outside.lock);
    return came;
}

struct setup {
    struct gmem *memory;
    struct machine *machine;
};

static struct machine_config base_config(struct gmem *memory)
{
    return (struct machine_config){.memory = memory,
                                   .boot = {.kernel = kernel_path},
                                   .vcpus = 1,
                                   .output = &output,
                                   .output_context = &outside};
}

static struct setup set_up(const uint8_t *code, size_t size, unsigned vcpus)
{
    struct setup s = {0};
    struct error err = {0};
    memset(outside.events, 0, sizeof(outside.events));
    if (code)
        write_kernel(code, size);
    const struct gmem_config config = {.size = MEMORY};
    CU_ASSERT_EQUAL_FATAL(gmem_create(&config, &s.memory, NULL), 0);
    struct machine_config machine = base_config(s.memory);
    machine.vcpus = vcpus;
    if (machine_create(&machine, &s.machine, &err) < 0)
        fprintf(stderr, "%s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s.machine);
    return s;
}

static void tear_down(struct setup *s)
{
    machine_destroy(&s->machine);
    gmem_destroy(&s->memory);
}

static void start(struct setup *s)
{
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(machine_boot(s->machine, &err), 0);
    machine_resume(s->machine);
}

static uint64_t counter(const struct setup *s)
{
    uint64_t value;
    memcpy(&value, gmem_view(s->memory, COUNTER, sizeof(value)), sizeof(value));
    return value;
}

static bool counts(const struct setup *s)
{
    const uint64_t before = counter(s);
    const nsec_t end = clock_now() + MSEC(WAIT_MS);
    while (counter(s) == before && clock_now() < end)
        sched_yield();
    return counter(s) != before;
}

static unsigned entries_of(const char *directory)
{
    unsigned count = 0;
    DIR *d = opendir(directory);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static void nothing_is_left_behind_by_machines(void)
{
    struct setup s = set_up(counting, sizeof(counting), 2);
    tear_down(&s); /* once, so that libraries have opened what they keep */
    const unsigned descriptors = entries_of("/proc/self/fd");
    const unsigned threads = entries_of("/proc/self/task");
    for (int i = 0; i < 5; i++) {
        s = set_up(NULL, 0, 2);
        if (i > 0)
            start(&s);
        if (i > 1)
            CU_ASSERT_TRUE(counts(&s));
        if (i > 2)
            machine_park(s.machine);
        tear_down(&s);
    }
    CU_ASSERT_EQUAL(entries_of("/proc/self/fd"), descriptors);
    CU_ASSERT_EQUAL(entries_of("/proc/self/task"), threads);
}

/* Expects machine_create() to fail with a phrase that contains `text`, leaving no descriptor. */
static void expect_refusal(const struct machine_config *config, int rc, const char *text)
{
    const unsigned descriptors = entries_of("/proc/self/fd");
    struct machine *machine = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL(machine_create(config, &machine, &err), rc);
    CU_ASSERT_PTR_NULL(machine);
    if (!strstr(err.text, text)) {
        fprintf(stderr, "got: %s\n", err.text);
        CU_FAIL("the phrase does not say what is wrong");
    }
    CU_ASSERT_EQUAL(entries_of("/proc/self/fd"), descriptors);
}

static void a_wrong_configuration_is_refused_by_name(void)
{
    struct setup s = set_up(counting, sizeof(counting), 1);
    struct machine_config c = base_config(s.memory);
    c.vcpus = 0;
    expect_refusal(&c, -EINVAL, "0 vCPUs");
    c.vcpus = MACHINE_VCPUS_MAX + 1;
    expect_refusal(&c, -EINVAL, "vCPUs");
    c = base_config(s.memory);
    c.boot.kernel = "/nonexistent/vmlinuz";
    expect_refusal(&c, -ENOENT, "kernel /nonexistent/vmlinuz");
    c.boot.kernel = "/tmp";
    expect_refusal(&c, -EINVAL, "kernel /tmp");
    c = base_config(s.memory);
    c.boot.initrd = "/nonexistent/initrd";
    expect_refusal(&c, -ENOENT, "initrd /nonexistent/initrd");
    tear_down(&s);
}

static void a_file_that_is_no_kernel_is_refused_at_boot(void)
{
    struct setup s = set_up(counting, sizeof(counting), 1);
    FILE *f = fopen(kernel_path, "wb");
    CU_ASSERT(fputs("not a kernel", f) >= 0);
    fclose(f);
    tear_down(&s);
    s = set_up(NULL, 0, 1);
    struct error err = {0};
    CU_ASSERT_EQUAL(machine_boot(s.machine, &err), -ENOEXEC);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, kernel_path));
    tear_down(&s);
}

static void a_kernel_that_was_overwritten_is_not_booted(void)
{
    struct setup s = set_up(counting, sizeof(counting), 1);
    struct error err = {0};
    write_kernel(counting, sizeof(counting)); /* the same bytes: nothing has changed */
    CU_ASSERT_EQUAL(machine_boot(s.machine, &err), 0);
    write_kernel(crashing, sizeof(crashing));
    CU_ASSERT_EQUAL(machine_boot(s.machine, &err), -ESTALE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, kernel_path));
    tear_down(&s);
}

static void equal_machines_have_equal_identities_and_others_differ(void)
{
    struct setup a = set_up(counting, sizeof(counting), 2), b = set_up(NULL, 0, 2);
    struct setup c = set_up(NULL, 0, 1);
    CU_ASSERT_STRING_EQUAL(machine_identity(a.machine), machine_identity(b.machine));
    CU_ASSERT_STRING_NOT_EQUAL(machine_identity(a.machine), machine_identity(c.machine));
    tear_down(&a);
    tear_down(&b);
    tear_down(&c);
}

static void a_vcpu_that_can_not_go_on_is_reported_and_parking_works(void)
{
    struct setup s = set_up(derailing, sizeof(derailing), 1);
    start(&s);
    CU_ASSERT_TRUE(wait_event(MACHINE_EVENT_FAILED));
    CU_ASSERT_PTR_NOT_NULL(strstr(outside.detail, "rip 0xd0000000"));
    machine_park(s.machine);
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(machine_save(s.machine, set, NULL), 0);
    machine_resume(s.machine); /* it stays where it is */
    machine_park(s.machine);
    section_set_destroy(&set);
    tear_down(&s);
    CU_ASSERT_EQUAL(outside.events[MACHINE_EVENT_FAILED], 1);
}

static void a_guest_that_switched_itself_off_stays_off_elsewhere(void)
{
    struct setup a = set_up(leaving, sizeof(leaving), 1);
    start(&a);
    CU_ASSERT_TRUE(wait_event(MACHINE_EVENT_POWER_OFF));
    machine_park(a.machine);
    struct section_set *set = section_set_create();
    struct error err = {0};
    CU_ASSERT_EQUAL(machine_save(a.machine, set, &err), 0);

    struct setup b = set_up(counting, sizeof(counting), 1);
    CU_ASSERT_EQUAL(machine_boot(b.machine, &err), 0); /* its memory would count if it ran */
    CU_ASSERT_EQUAL(machine_load(b.machine, set, 0, &err), 0);
    machine_resume(b.machine);
    machine_park(b.machine);
    section_set_reset(set);
    CU_ASSERT_EQUAL(machine_save(b.machine, set, &err), 0);
    machine_resume(b.machine);
    CU_ASSERT_EQUAL(counter(&b), 0);
    section_set_destroy(&set);
    tear_down(&a);
    tear_down(&b);
}

/* The state of a guest that counts, as if it had asked the power device for `request` right before:
 * what it does afterwards reaches no device that could remind of it. */
static void load_request(struct setup *b, enum power_request request)
{
    struct setup a = set_up(counting, sizeof(counting), 1);
    struct section_set *set = section_set_create(), *changed = section_set_create();
    start(&a);
    CU_ASSERT_TRUE(counts(&a));
    machine_park(a.machine);
    CU_ASSERT_EQUAL(machine_save(a.machine, set, NULL), 0);
    for (size_t i = 0; i < section_set_count(set); i++) {
        const struct section *s = section_set_at(set, i);
        uint8_t *data = section_set_add(changed, s->name, s->instance, s->version, s->size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(data);
        memcpy(data, section_set_data(set, s), s->size);
        if (strcmp(s->name, "power") == 0)
            data[s->size - 1] = (uint8_t)request;
    }
    *b = set_up(NULL, 0, 1);
    struct error err = {0};
    CU_ASSERT_EQUAL(machine_boot(b->machine, &err), 0);
    CU_ASSERT_EQUAL(machine_check(b->machine, changed, &err), 0);
    CU_ASSERT_EQUAL(machine_load(b->machine, changed, 0, &err), 0);
    machine_resume(b->machine);
    section_set_destroy(&set);
    section_set_destroy(&changed);
    tear_down(&a);
}

static void what_a_guest_asked_for_before_a_checkpoint_is_done_after_it(void)
{
    struct setup b;
    load_request(&b, POWER_REQUEST_RESET);
    CU_ASSERT_TRUE(wait_event(MACHINE_EVENT_RESET));
    CU_ASSERT_TRUE(counts(&b));
    machine_park(b.machine);
    machine_resume(b.machine);
    CU_ASSERT_TRUE(counts(&b));
    CU_ASSERT_EQUAL(outside.events[MACHINE_EVENT_RESET], 1);
    tear_down(&b);
    static const enum power_request ends[] = {POWER_REQUEST_OFF, POWER_REQUEST_STOP};
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        load_request(&b, ends[i]);
        CU_ASSERT_TRUE(wait_event(MACHINE_EVENT_POWER_OFF));
        machine_park(b.machine);
        const uint64_t counted = counter(&b);
        machine_resume(b.machine);
        machine_park(b.machine);
        CU_ASSERT_EQUAL(counter(&b), counted);
        tear_down(&b);
    }
}

static void a_guest_that_resets_all_the_time_can_be_parked(void)
{
    struct setup s = set_up(crashing, sizeof(crashing), 2);
    struct section_set *set = section_set_create();
    start(&s);
    CU_ASSERT_TRUE(wait_event(MACHINE_EVENT_RESET));
    for (int i = 0; i < 200; i++) {
        machine_park(s.machine);
        const unsigned resets = outside.events[MACHINE_EVENT_RESET];
        section_set_reset(set);
        CU_ASSERT_EQUAL(machine_save(s.machine, set, NULL), 0);
        CU_ASSERT_EQUAL(outside.events[MACHINE_EVENT_RESET], resets);
        machine_resume(s.machine);
    }
    section_set_destroy(&set);
    tear_down(&s); /* in the middle of a reset, most likely */
    CU_ASSERT_EQUAL(outside.events[MACHINE_EVENT_FAILED], 0);
}

static void *resume_elsewhere(void *machine)
{
    machine_resume(machine);
    return NULL;
}

static void park_and_resume_may_be_on_different_threads(void)
{
    struct setup s = set_up(counting, sizeof(counting), 2);
    start(&s);
    for (int i = 0; i < 20; i++) {
        machine_park(s.machine);
        pthread_t thread;
        pthread_create(&thread, NULL, resume_elsewhere, s.machine);
        pthread_join(thread, NULL);
        CU_ASSERT_TRUE(counts(&s));
    }
    tear_down(&s);
}

static void a_parked_guest_does_not_move(void)
{
    struct setup s = set_up(counting, sizeof(counting), 1);
    start(&s);
    for (int i = 0; i < 500; i++) {
        machine_park(s.machine);
        const uint64_t before = counter(&s);
        sched_yield();
        CU_ASSERT_EQUAL(counter(&s), before);
        machine_resume(s.machine);
    }
    CU_ASSERT_TRUE(counts(&s));
    tear_down(&s);
}

/* The guest TSC of a vCPU: the end of its section "vcpu.run". */
static uint64_t tsc_of(const struct section_set *set, uint32_t vcpu)
{
    const struct section *s = section_set_find(set, "vcpu.run", vcpu);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    struct wire_reader r = {.bytes = section_set_data(set, s) + s->size - 8, .size = 8};
    return wire_get_u64(&r);
}

static uint32_t tsc_khz_of(const struct section_set *set)
{
    const struct section *s = section_set_find(set, "vm.clock", 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    struct wire_reader r = {.bytes = section_set_data(set, s) + 8, .size = 4};
    return wire_get_u32(&r);
}

static void save_parked(struct setup *s, struct section_set *set)
{
    machine_park(s->machine);
    section_set_reset(set);
    CU_ASSERT_EQUAL_FATAL(machine_save(s->machine, set, NULL), 0);
}

static void tscs_keep_their_distance_and_move_on(void)
{
    struct setup a = set_up(setting_tsc, sizeof(setting_tsc), 3), b = set_up(NULL, 0, 3);
    struct section_set *before = section_set_create(), *after = section_set_create();
    struct error err = {0};
    start(&a);
    CU_ASSERT_TRUE(counts(&a));
    save_parked(&a, before);
    /* The software KVM gives every guest the host's TSC and lets nobody set it. Elsewhere vCPU 0
     * has set its own; the others, which never ran, are equal. */
    const bool own = tsc_of(before, 0) >= TSC_SET;
    CU_ASSERT_TRUE(own || tsc_of(before, 0) == tsc_of(before, 1));
    CU_ASSERT_EQUAL(tsc_of(before, 1), tsc_of(before, 2));

    CU_ASSERT_EQUAL(machine_boot(b.machine, &err), 0);
    CU_ASSERT_EQUAL_FATAL(machine_load(b.machine, before, SEC(5), &err), 0);
    machine_resume(b.machine);
    save_parked(&b, after);
    const uint64_t passed = tsc_of(after, 0) - tsc_of(before, 0);
    CU_ASSERT(passed >= (own ? (uint64_t)4999 * tsc_khz_of(before) : 0));
    CU_ASSERT(passed < (uint64_t)3600 * 1000 * tsc_khz_of(before));
    for (uint32_t i = 1; i < 3; i++)
        CU_ASSERT_EQUAL(tsc_of(after, i) - tsc_of(before, i), passed);
    section_set_destroy(&before);
    section_set_destroy(&after);
    tear_down(&a);
    tear_down(&b);
}

/* A copy of a set with section `victim` left out, shortened by a byte, or of another version. */
enum damage { DAMAGE_MISSING, DAMAGE_SHORT, DAMAGE_VERSION, DAMAGES };

static struct section_set *damaged(const struct section_set *set, size_t victim, enum damage how)
{
    struct section_set *copy = section_set_create();
    for (size_t i = 0; i < section_set_count(set); i++) {
        const struct section *s = section_set_at(set, i);
        if (i == victim && how == DAMAGE_MISSING)
            continue;
        const bool cut = i == victim && how == DAMAGE_SHORT;
        const uint32_t version = s->version + (i == victim && how == DAMAGE_VERSION);
        uint8_t *data =
            section_set_add(copy, s->name, s->instance, version, s->size - (cut ? 1 : 0));
        memcpy(data, section_set_data(set, s), s->size - (cut ? 1 : 0));
    }
    return copy;
}

static void damaged_state_is_refused_section_by_section(void)
{
    struct setup s = set_up(counting, sizeof(counting), 2), standby = set_up(NULL, 0, 2);
    start(&s);
    CU_ASSERT_TRUE(counts(&s));
    machine_park(s.machine);
    struct section_set *set = section_set_create();
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(machine_save(s.machine, set, &err), 0);
    for (size_t i = 0; i < section_set_count(set); i++)
        for (enum damage how = 0; how < DAMAGES; how++) {
            struct section_set *bad = damaged(set, i, how);
            CU_ASSERT(machine_check(standby.machine, bad, &err) < 0);
            CU_ASSERT_PTR_NOT_NULL(strstr(err.text, section_set_at(set, i)->name));
            section_set_destroy(&bad);
        }
    CU_ASSERT_EQUAL(machine_check(standby.machine, set, &err), 0);
    section_set_destroy(&set);
    tear_down(&s);
    tear_down(&standby);
}

static bool load_and_run(struct setup *s, const struct section_set *set)
{
    CU_ASSERT_EQUAL(machine_boot(s->machine, NULL), 0);
    if (machine_load(s->machine, set, 0, NULL) < 0)
        return false;
    machine_resume(s->machine);
    machine_park(s->machine);
    return true;
}

/* Whatever passes the check must not hurt this process: KVM may refuse it, the guest may do
 * nonsense or fail. The seed is fixed; 200 rounds flip one byte of a random section each. */
static void tampered_state_hurts_the_guest_only(void)
{
    struct setup s = set_up(counting, sizeof(counting), 1), standby = set_up(NULL, 0, 1);
    start(&s);
    machine_park(s.machine);
    struct section_set *set = section_set_create();
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(machine_save(s.machine, set, &err), 0);
    unsigned refused = 0, loaded = 0;
    srand(7);
    for (int round = 0; round < 200; round++) {
        const struct section *victim = section_set_at(set, (size_t)rand() % section_set_count(set));
        uint8_t *byte =
            (uint8_t *)(uintptr_t)section_set_data(set, victim) + (size_t)rand() % victim->size;
        const uint8_t good = *byte;
        *byte ^= (uint8_t)(1 << rand() % 8);
        if (machine_check(standby.machine, set, &err) < 0) {
            refused++;
        } else {
            loaded += load_and_run(&standby, set);
            tear_down(&standby);
            standby = set_up(NULL, 0, 1);
        }
        *byte = good;
    }
    tear_down(&standby);
    CU_ASSERT(refused > 0 && loaded > 0);
    section_set_destroy(&set);
    tear_down(&s);
}

static const struct test_case cases[] = {
    {"what a guest asked for before a checkpoint is done after it",
     what_a_guest_asked_for_before_a_checkpoint_is_done_after_it},
    {"nothing is left behind by machines", nothing_is_left_behind_by_machines},
    {"a wrong configuration is refused by name", a_wrong_configuration_is_refused_by_name},
    {"a file that is no kernel is refused at boot", a_file_that_is_no_kernel_is_refused_at_boot},
    {"a kernel that was overwritten is not booted", a_kernel_that_was_overwritten_is_not_booted},
    {"equal machines have equal identities and others differ",
     equal_machines_have_equal_identities_and_others_differ},
    {"a vCPU that can not go on is reported and parking works",
     a_vcpu_that_can_not_go_on_is_reported_and_parking_works},
    {"a guest that switched itself off stays off elsewhere",
     a_guest_that_switched_itself_off_stays_off_elsewhere},
    {"a guest that resets all the time can be parked",
     a_guest_that_resets_all_the_time_can_be_parked},
    {"park and resume may be on different threads", park_and_resume_may_be_on_different_threads},
    {"a parked guest does not move", a_parked_guest_does_not_move},
    {"TSCs keep their distance and move on", tscs_keep_their_distance_and_move_on},
    {"damaged state is refused section by section", damaged_state_is_refused_section_by_section},
    {"tampered state hurts the guest only", tampered_state_hurts_the_guest_only},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    const int fd = mkstemp(kernel_path);
    if (fd < 0)
        return 1;
    close(fd);
    const int status = test_run(argc, argv, "machine", cases, ARRAY_SIZE(cases));
    unlink(kernel_path);
    return status;
}
