/* A QEMU in software emulation, behind the table of checkpoint/: what it writes to the guest's
 * memory, its processors and its devices, is in the dirty log, page by page; saving its state
 * writes nothing; and another QEMU with the same memory goes on from there.
 *
 * The guest is the firmware, whose network boot asks for an address for as long as nobody answers.
 * Needs no /dev/kvm. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dirtylog/process_log.h"
#include "qemu/ram_part.h"
#include "qemu/stream.h"
#include "test/support/qemu_side.h"
#include "test/support/runner.h"
#include "test/support/small_firmware.h"

#define MEMORY     ((uint64_t)64 << 20)
#define EPOCHS_MIN 25
#define PAGES_MIN  1000
#define FRAMES_MIN 1
#define PATIENCE   SEC(60)

/* Firmware alone: asks for an address without end, or finds nothing to boot and starts over. */
static const char *const asks[] = {
    "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-boot", "n", NULL};
static const char *const starts_over[] = {
    "qemu-system-x86_64",         "-machine", "q35", "-accel", "tcg", "-boot",
    "strict=on,reboot-timeout=1", NULL};
/* A plain processor: software KVMs have not all that the host's has. */
static const char *const accelerated[] = {
    "qemu-system-x86_64",         "-machine", "pc", "-accel", "kvm", "-cpu", "qemu64", "-boot",
    "strict=on,reboot-timeout=1", NULL};
/* With memory of its own, which the firmware shows its messages in. */
#define SHOWS(card)                                                                                \
    {                                                                                              \
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-device", card, "-boot",        \
            "strict=on,reboot-timeout=1", NULL                                                     \
    }
static const char *const shows[][10] = {SHOWS("VGA"), SHOWS("cirrus-vga"), SHOWS("bochs-display")};
static const char *const writes_itself[] = {
    "qemu-system-x86_64", "-machine", "microvm", "-accel", "tcg", NULL};

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void open_side(struct qemu_side *side, const char *const *command, bool standby)
{
    const struct qemu_side_config config = {
        .command = command, .memory = MEMORY, .nets = command == asks, .standby = standby};
    struct error err = {0};
    require(qemu_side_open(&config, side, &err), &err);
}

static bool same_memory(const struct qemu_side *a, const struct qemu_side *b)
{
    for (uint64_t i = 0; i < gmem_page_count(a->memory); i++) {
        const gfn_t gfn = gmem_gfn_at(a->memory, i);
        if (memcmp(gmem_page(a->memory, gfn), gmem_page(b->memory, gfn), PAGE_SIZE) != 0) {
            printf("page %llx differs\n", (unsigned long long)gfn);
            return false;
        }
    }
    return true;
}

static void copy_page(struct qemu_side *to, const struct qemu_side *from, uint64_t index)
{
    const gfn_t gfn = gmem_gfn_at(from->memory, index);
    memcpy(gmem_page(to->memory, gfn), gmem_page(from->memory, gfn), PAGE_SIZE);
}

/* Parked: takes an epoch over, as a standby gets it, and compares everything. Returns its pages. */
static uint64_t follow(struct qemu_side *from, struct qemu_side *to, struct dirty_set *dirty,
                       struct section_set *state)
{
    struct error err = {0};
    const struct checkpoint_machine *m = &from->machine;
    uint64_t pages = 0;
    require(m->ops->dirty_collect(m->context, dirty, &err), &err);
    for (uint64_t i = dirty_set_next(dirty, 0); i < dirty->page_count;
         i = dirty_set_next(dirty, i + 1), pages++)
        copy_page(to, from, i);
    dirty_set_clear(dirty);
    section_set_reset(state);
    require(m->ops->save(m->context, state, &err), &err);
    /* After the state was saved: doing so wrote nothing. */
    CU_ASSERT_TRUE_FATAL(same_memory(from, to));
    require(to->machine.ops->check(to->machine.context, state, &err), &err);
    return pages;
}

static void another_process_goes_on_from_any_epoch(void)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct dirty_set dirty;
    struct section_set *state = section_set_create();
    open_side(&first, asks, false);
    open_side(&second, asks, true);
    CU_ASSERT_STRING_EQUAL(first.machine.ops->identity(first.machine.context),
                           second.machine.ops->identity(second.machine.context));
    const struct checkpoint_machine *m = &first.machine;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&dirty, gmem_page_count(first.memory)), 0);
    require(m->ops->dirty_start(m->context, &err), &err);
    for (uint64_t i = 0; i < dirty.page_count; i++)
        copy_page(&second, &first, i);
    uint64_t pages = 0;
    const nsec_t deadline = clock_now() + PATIENCE;
    for (unsigned epoch = 0; epoch < EPOCHS_MIN || pages < PAGES_MIN || first.frames < FRAMES_MIN;
         epoch++) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        m->ops->resume(m->context);
        /* Some of it while the guest runs, for longer and shorter. */
        for (unsigned i = 0; i < epoch % 4; i++) {
            require(m->ops->dirty_collect(m->context, &dirty, &err), &err);
            usleep(5000);
        }
        m->ops->park(m->context);
        pages += follow(&first, &second, &dirty, state);
        qemu_side_count_frames(&first);
    }
    CU_ASSERT_EQUAL(second.frames, 0);
    qemu_side_close(&first);
    m = &second.machine;
    require(m->ops->load(m->context, state, 0, &err), &err);
    m->ops->resume(m->context);
    while (second.frames < FRAMES_MIN) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline + PATIENCE);
        qemu_side_count_frames(&second);
        usleep(1000);
    }
    qemu_side_close(&second);
    dirty_set_free(&dirty);
    section_set_destroy(&state);
}

static void a_state_that_is_damaged_is_refused_and_the_next_one_loads(void)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct section_set *state = section_set_create(), *damaged = section_set_create();
    open_side(&first, asks, false);
    open_side(&second, asks, true);
    const struct checkpoint_machine *m = &first.machine, *standby = &second.machine;
    require(m->ops->save(m->context, state, &err), &err);
    CU_ASSERT_EQUAL(standby->ops->check(standby->context, damaged, &err), -EBADMSG);
    for (size_t i = 0; i + 1 < section_set_count(state); i++) {
        const struct section *s = section_set_at(state, i);
        uint8_t *data = section_set_add(damaged, s->name, s->instance, s->version, s->size);
        memcpy(data, section_set_data(state, s), s->size);
    }
    CU_ASSERT_EQUAL(standby->ops->check(standby->context, damaged, &err), -EBADMSG);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not whole"));
    require(standby->ops->check(standby->context, state, &err), &err);
    require(standby->ops->load(standby->context, state, 0, &err), &err);
    standby->ops->resume(standby->context);
    standby->ops->park(standby->context);
    /* It has run: to follow again takes another process. */
    const pid_t before = qemu_adapter_process(second.adapter);
    require(standby->ops->check(standby->context, state, &err), &err);
    CU_ASSERT_NOT_EQUAL(qemu_adapter_process(second.adapter), before);
    section_set_destroy(&damaged);
    section_set_destroy(&state);
    qemu_side_close(&second);
    qemu_side_close(&first);
}

static void wait_for_resets(const struct qemu_side *side, unsigned count)
{
    const nsec_t deadline = clock_now() + PATIENCE;
    while (side->resets < count) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        usleep(1000);
    }
}

/* The firmware's part in memory goes over with the checkpoint. After a reset it must be had. */
static void go_over_and_reset(const char *const *command)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct section_set *state = section_set_create();
    open_side(&first, command, false);
    open_side(&second, command, true);
    const struct checkpoint_machine *m = &first.machine;
    m->ops->resume(m->context);
    wait_for_resets(&first, 1);
    m->ops->park(m->context);
    require(m->ops->save(m->context, state, &err), &err);
    for (uint64_t i = 0; i < gmem_page_count(first.memory); i++)
        copy_page(&second, &first, i);
    qemu_side_close(&first);
    m = &second.machine;
    require(m->ops->load(m->context, state, 0, &err), &err);
    m->ops->resume(m->context);
    wait_for_resets(&second, 3);
    section_set_destroy(&state);
    qemu_side_close(&second);
}

static void a_guest_that_was_taken_over_can_be_reset(void)
{
    go_over_and_reset(starts_over);
    go_over_and_reset(shows[0]);
}

/* The pages in a state. Not the list in front of them, which has addresses that no longer are any,
 * and not the marks of where QEMU began and ended to write. */
static size_t pages_of(const struct checkpoint_machine *m, struct section_set *state, uint8_t *out)
{
    struct error err = {0};
    static uint8_t bytes[STREAM_MAX];
    section_set_reset(state);
    require(m->ops->save(m->context, state, &err), &err);
    const int size = stream_from_sections(state, bytes, &err);
    CU_ASSERT_FATAL(size > 0);
    struct ram_walk walk = {.bytes = bytes, .size = (size_t)size, .at = STREAM_HEADER_SIZE};
    size_t used = 0;
    int rc;
    for (size_t from = walk.at; (rc = ram_walk_next(&walk, &err)) > 0; from = walk.at) {
        if (from == STREAM_HEADER_SIZE || !walk.in_part)
            continue;
        from += bytes[from] ? 5 : 0; /* the number of a part; no page begins so */
        memcpy(out + used, bytes + from, walk.at - from);
        used += walk.at - from;
    }
    require(rc, &err);
    return used;
}

static void go_over_with_memory(const char *const *command)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct section_set *state = section_set_create(), *again = section_set_create();
    uint8_t *new = malloc(STREAM_MAX), *now = malloc(STREAM_MAX), *there = malloc(STREAM_MAX);
    CU_ASSERT_FATAL(new &&now &&there);
    open_side(&first, command, false);
    open_side(&second, command, true);
    CU_ASSERT_STRING_EQUAL(first.machine.ops->identity(first.machine.context),
                           second.machine.ops->identity(second.machine.context));
    const struct checkpoint_machine *m = &first.machine;
    const size_t size_new = pages_of(m, again, new);
    const nsec_t deadline = clock_now() + PATIENCE;
    size_t size;
    /* One state after the other, until there is something to be seen, and then some. */
    unsigned shown = 0;
    for (unsigned epoch = 0; epoch < 100 || shown < 20; epoch++) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        m->ops->resume(m->context);
        usleep(1000);
        m->ops->park(m->context);
        size = pages_of(m, state, now);
        shown += size != size_new || memcmp(now, new, size) != 0;
    }
    for (uint64_t i = 0; i < gmem_page_count(first.memory); i++)
        copy_page(&second, &first, i);
    m = &second.machine;
    require(m->ops->check(m->context, state, &err), &err);
    require(m->ops->load(m->context, state, 0, &err), &err);
    CU_ASSERT_EQUAL_FATAL(pages_of(m, again, there), size);
    CU_ASSERT_EQUAL(memcmp(there, now, size), 0);
    m->ops->resume(m->context);
    wait_for_resets(&second, 1);
    free(new);
    free(now);
    free(there);
    section_set_destroy(&state);
    section_set_destroy(&again);
    qemu_side_close(&first);
    qemu_side_close(&second);
}

static void memory_of_the_machine_goes_over_as_it_is(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(shows); i++)
        go_over_with_memory(shows[i]);
}

/* As it is saved: what a microvm's firmware knows it writes into itself. */
static const uint8_t *firmware_of(const struct checkpoint_machine *m, struct section_set *state,
                                  size_t *size)
{
    struct error err = {0};
    section_set_reset(state);
    require(m->ops->save(m->context, state, &err), &err);
    const struct section *s = section_set_find(state, "qemu.firmware", 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    *size = s->size;
    return section_set_data(state, s);
}

static void a_firmware_that_writes_to_itself_goes_over_as_it_is(void)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct section_set *new = section_set_create(), *state = section_set_create();
    size_t size, size_now;
    const nsec_t deadline = clock_now() + PATIENCE;
    open_side(&first, writes_itself, false);
    open_side(&second, writes_itself, true);
    const struct checkpoint_machine *m = &first.machine;
    const uint8_t *untouched = firmware_of(m, new, &size), *now = untouched;
    while (memcmp(now, untouched, size) == 0) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        m->ops->resume(m->context);
        usleep(1000);
        m->ops->park(m->context);
        now = firmware_of(m, state, &size_now);
        CU_ASSERT_EQUAL_FATAL(size_now, size);
    }
    m = &second.machine;
    require(m->ops->load(m->context, state, 0, &err), &err);
    CU_ASSERT_EQUAL(memcmp(firmware_of(m, new, &size_now), now, size), 0);
    CU_ASSERT_EQUAL(size_now, size);
    section_set_reset(state);
    CU_ASSERT_EQUAL(m->ops->check(m->context, state, &err), -EBADMSG);
    section_set_destroy(&new);
    section_set_destroy(&state);
    qemu_side_close(&first);
    qemu_side_close(&second);
}

/* Places the first of the PCI devices that tables tell of, a window of configuration space, and
 * asks for every file that QEMU offers, so that it makes the tables; then says 1 and waits for a
 * word. Then it reads 16 KiB of every file, one behind the other, and says 2. */
#define SAYS  0x7000
#define HEARS (SAYS + 1)
static const uint8_t reads_tables_later[] = {
    0x66, 0xb8, 0x60, 0x00, 0x00, 0x80, /* mov eax, 0x80000060: PCIEXBAR of the first device */
    0xba, 0xf8, 0x0c,                   /* mov dx, 0xcf8 */
    0x66, 0xef,                         /* out dx, eax */
    0x66, 0xb8, 0x01, 0x00, 0x00, 0xb0, /* mov eax, 0xb0000001 */
    0xba, 0xfc, 0x0c,                   /* mov dx, 0xcfc */
    0x66, 0xef,                         /* out dx, eax */
    0xbb, 0x20, 0x00,                   /* mov bx, 0x20: the first file */
    0x89, 0xd8,                         /* next: mov ax, bx */
    0xba, 0x10, 0x05,                   /* mov dx, 0x510 */
    0xef,                               /* out dx, ax */
    0x43,                               /* inc bx */
    0x83, 0xfb, 0x40,                   /* cmp bx, 0x40 */
    0x75, 0xf4,                         /* jne next */
    0xc6, 0x06, 0x00, 0x70, 0x01,       /* mov byte [SAYS], 1 */
    0x80, 0x3e, 0x01, 0x70, 0x00,       /* wait: cmp byte [HEARS], 0 */
    0x74, 0xf9,                         /* je wait */
    0xbb, 0x20, 0x00,                   /* mov bx, 0x20 */
    0xbe, 0x00, 0x10,                   /* mov si, 0x1000 */
    0x89, 0xd8,                         /* file: mov ax, bx */
    0xba, 0x10, 0x05,                   /* mov dx, 0x510 */
    0xef,                               /* out dx, ax */
    0x8e, 0xc6,                         /* mov es, si */
    0x31, 0xff,                         /* xor di, di */
    0xb9, 0x00, 0x40,                   /* mov cx, 0x4000 */
    0xba, 0x11, 0x05,                   /* mov dx, 0x511 */
    0xf3, 0x6c,                         /* rep insb */
    0x81, 0xc6, 0x00, 0x04,             /* add si, 0x400 */
    0x43,                               /* inc bx */
    0x83, 0xfb, 0x40,                   /* cmp bx, 0x40 */
    0x75, 0xe4,                         /* jne file */
    0xc6, 0x06, 0x00, 0x70, 0x02,       /* mov byte [SAYS], 2 */
    0xf4,                               /* off: hlt */
    0xeb, 0xfd,                         /* jmp off */
};

static void run_until_it_says(const struct qemu_side *side, uint8_t word)
{
    const struct checkpoint_machine *m = &side->machine;
    const nsec_t deadline = clock_now() + PATIENCE;
    const volatile uint8_t *says = gmem_slot_at(side->memory, 0)->host + SAYS;
    m->ops->resume(m->context);
    while (*says != word) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        usleep(1000);
    }
    m->ops->park(m->context);
}

/* The table that tells where that window is, is there only if it was placed when they were made. */
static void a_firmware_whose_host_dies_finds_its_tables(void)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct small_firmware firmware;
    struct section_set *state = section_set_create();
    CU_ASSERT_EQUAL_FATAL(
        small_firmware_make(reads_tables_later, sizeof(reads_tables_later), &firmware), 0);
    const char *const command[] = {
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-bios", firmware.path, NULL};
    open_side(&first, command, false);
    open_side(&second, command, true);
    const struct checkpoint_machine *m = &first.machine;
    run_until_it_says(&first, 1);
    require(m->ops->save(m->context, state, &err), &err);
    for (uint64_t i = 0; i < gmem_page_count(first.memory); i++)
        copy_page(&second, &first, i);
    qemu_side_close(&first);
    m = &second.machine;
    const struct gmem_slot *s = gmem_slot_at(second.memory, 0);
    CU_ASSERT_PTR_NULL(memmem(s->host, s->size, "MCFG", 4));
    s->host[HEARS] = 1;
    require(m->ops->load(m->context, state, 0, &err), &err);
    run_until_it_says(&second, 2);
    CU_ASSERT_PTR_NOT_NULL(memmem(s->host, s->size, "FACP", 4));
    CU_ASSERT_PTR_NOT_NULL(memmem(s->host, s->size, "MCFG", 4));
    section_set_destroy(&state);
    qemu_side_close(&second);
    small_firmware_remove(&firmware);
}

/* Runs for a while at a time, until it has written to `count` pages. */
static uint64_t run_until_dirty(struct qemu_side *side, struct dirty_set *dirty, uint64_t count)
{
    const struct checkpoint_machine *m = &side->machine;
    const nsec_t deadline = clock_now() + PATIENCE;
    struct error err = {0};
    while (dirty_set_count(dirty) < count) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        m->ops->resume(m->context);
        usleep(2000);
        m->ops->park(m->context);
        require(m->ops->dirty_collect(m->context, dirty, &err), &err);
    }
    return dirty_set_count(dirty);
}

/* Firmware, which every KVM runs, if slowly: what KVM writes to memory for the guest, and what the
 * guest writes, is seen alike, and the processors' state is QEMU's to save and to load. */
static void a_guest_on_KVM_goes_on_in_another_process(void)
{
    struct error err = {0};
    struct qemu_side first, second;
    struct dirty_set dirty;
    struct section_set *state = section_set_create();
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        printf("left out: /dev/kvm is not usable\n");
        section_set_destroy(&state);
        return;
    }
    open_side(&first, accelerated, false);
    open_side(&second, accelerated, true);
    const struct checkpoint_machine *m = &first.machine;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&dirty, gmem_page_count(first.memory)), 0);
    require(m->ops->dirty_start(m->context, &err), &err);
    for (uint64_t i = 0; i < dirty.page_count; i++)
        copy_page(&second, &first, i);
    for (unsigned epoch = 0; epoch < 10; epoch++) {
        run_until_dirty(&first, &dirty, 2);
        CU_ASSERT_TRUE(follow(&first, &second, &dirty, state) >= 2);
    }
    qemu_side_close(&first);
    m = &second.machine;
    require(m->ops->load(m->context, state, 0, &err), &err);
    require(m->ops->dirty_start(m->context, &err), &err);
    run_until_dirty(&second, &dirty, 10);
    section_set_destroy(&state);
    dirty_set_free(&dirty);
    qemu_side_close(&second);
}

static const struct test_case cases[] = {
    {"another process goes on from any epoch", another_process_goes_on_from_any_epoch},
    {"a state that is damaged is refused and the next one loads",
     a_state_that_is_damaged_is_refused_and_the_next_one_loads},
    {"a guest on KVM goes on in another process", a_guest_on_KVM_goes_on_in_another_process},
    {"a guest that was taken over can be reset", a_guest_that_was_taken_over_can_be_reset},
    {"memory of the machine goes over as it is", memory_of_the_machine_goes_over_as_it_is},
    {"a firmware that writes to itself goes over as it is",
     a_firmware_that_writes_to_itself_goes_over_as_it_is},
    {"a firmware whose host dies finds its tables", a_firmware_whose_host_dies_finds_its_tables},
};

int main(int argc, char **argv)
{
    struct error reason = {0};
    enum process_log log;
    if (process_log_choose(PROCESS_LOG_AUTO, &log, &reason) < 0)
        test_skip(reason.text);
    return test_run(argc, argv, "qemu-machine", cases, ARRAY_SIZE(cases));
}
