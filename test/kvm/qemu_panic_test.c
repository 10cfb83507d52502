/* A guest in QEMU whose kernel panics: what the policy makes of it, how often it is restarted, and
 * that a host which takes over in between does what is due.
 *
 * The guest is a firmware that reports a panic as soon as it is begun, says so again and again, and
 * then stands still. In software emulation: needs no /dev/kvm. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dirtylog/process_log.h"
#include "test/support/qemu_side.h"
#include "test/support/runner.h"
#include "test/support/small_firmware.h"

#define MEMORY   ((uint64_t)64 << 20)
#define PATIENCE SEC(60)

static const uint8_t panics_at_once[] = {
    0xba, 0x05, 0x05, /* mov dx, 0x505 */
    0xb0, 0x01,       /* mov al, 1 */
    0xb9, 0x32, 0x00, /* mov cx, 50 */
    0xee,             /* again: out dx, al */
    0xe2, 0xfd,       /* loop again */
    0xf4,             /* off: hlt */
    0xeb, 0xfd,       /* jmp off */
};

static struct small_firmware firmware;

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void open_side(struct qemu_side *side, enum qemu_panic_policy policy, unsigned restarts,
                      bool standby)
{
    static const char *const command[] = {
        "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-device", "pvpanic", "-bios",
        firmware.path,        NULL};
    const struct qemu_side_config config = {
        .command = command,
        .memory = MEMORY,
        .standby = standby,
        .on_panic = policy,
        .panic_limit = {.restarts = restarts, .window = SEC(3600)}};
    struct error err = {0};
    require(qemu_side_open(&config, side, &err), &err);
}

static void wait_for(const _Atomic unsigned *counter, unsigned count)
{
    const nsec_t deadline = clock_now() + PATIENCE;
    while (*counter < count) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        usleep(1000);
    }
}

static void save(const struct qemu_side *side, struct section_set *state)
{
    struct error err = {0};
    section_set_reset(state);
    require(side->machine.ops->save(side->machine.context, state, &err), &err);
}

static void resume(const struct qemu_side *side)
{
    side->machine.ops->resume(side->machine.context);
}

static void park(const struct qemu_side *side)
{
    side->machine.ops->park(side->machine.context);
}

/* Another host has it so that the guest is off, and leaves it off. */
static void expect_off(struct qemu_side *side, enum qemu_panic_policy policy)
{
    struct error err = {0};
    struct qemu_side other;
    struct section_set *state = section_set_create();
    park(side);
    save(side, state);
    resume(side);
    open_side(&other, policy, 5, true);
    require(other.machine.ops->load(other.machine.context, state, 0, &err), &err);
    CU_ASSERT(other.offs == 1 && other.panics == 0);
    resume(&other);
    park(&other);
    save(&other, state);
    const struct section *run = section_set_find(state, "qemu.run", 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(run);
    CU_ASSERT_EQUAL(*section_set_data(state, run), 1);
    qemu_side_close(&other);
    section_set_destroy(&state);
}

static void a_guest_that_panics_too_often_is_stopped(void)
{
    struct qemu_side side;
    open_side(&side, QEMU_PANIC_RESTART, 2, false);
    resume(&side);
    wait_for(&side.offs, 1);
    CU_ASSERT_EQUAL(side.panics, 3);
    CU_ASSERT_EQUAL(side.last_panics, 1);
    expect_off(&side, QEMU_PANIC_RESTART);
    CU_ASSERT(side.panics == 3 && side.offs == 1);
    qemu_side_close(&side);
}

static void without_a_limit_it_is_always_restarted(void)
{
    struct qemu_side side;
    open_side(&side, QEMU_PANIC_RESTART, 0, false);
    resume(&side);
    wait_for(&side.panics, 10);
    CU_ASSERT(side.offs == 0 && side.last_panics == 0);
    qemu_side_close(&side);
}

static void a_panic_can_be_the_end(void)
{
    struct qemu_side side;
    open_side(&side, QEMU_PANIC_STOP, 5, false);
    resume(&side);
    wait_for(&side.offs, 1);
    CU_ASSERT_EQUAL(side.panics, 1);
    expect_off(&side, QEMU_PANIC_STOP);
    qemu_side_close(&side);
}

static void a_panic_can_be_ignored(void)
{
    struct error err = {0};
    struct qemu_side side, other;
    struct section_set *state = section_set_create();
    open_side(&side, QEMU_PANIC_IGNORE, 1, false);
    open_side(&other, QEMU_PANIC_IGNORE, 1, true);
    resume(&side);
    wait_for(&side.panics, 1);
    park(&side);
    save(&side, state);
    require(other.machine.ops->load(other.machine.context, state, 0, &err), &err);
    CU_ASSERT(side.panics == 1 && side.offs == 0);
    CU_ASSERT(other.panics == 0 && other.offs == 0);
    section_set_destroy(&state);
    qemu_side_close(&other);
    qemu_side_close(&side);
}

/* The cut is between the panic and the reset: who goes on from there hears of the panic, counts it,
 * and resets the guest, which panics again. */
static void a_host_that_takes_over_does_what_is_due(void)
{
    struct error err = {0};
    struct qemu_side side, other;
    struct section_set *state = section_set_create();
    open_side(&side, QEMU_PANIC_RESTART, 5, false);
    open_side(&other, QEMU_PANIC_RESTART, 1, true);
    side.holds_panics = true;
    resume(&side);
    wait_for(&side.panics, 1);
    park(&side);
    save(&side, state);
    side.holds_panics = false;
    require(other.machine.ops->load(other.machine.context, state, 0, &err), &err);
    CU_ASSERT(other.panics == 1 && other.last_panics == 0 && other.offs == 0);
    resume(&other);
    wait_for(&other.offs, 1);
    CU_ASSERT(other.panics == 2 && other.last_panics == 1);
    /* The first one does it, too, when it goes on. */
    resume(&side);
    wait_for(&side.offs, 1);
    CU_ASSERT_EQUAL(side.panics, 6);
    section_set_destroy(&state);
    qemu_side_close(&other);
    qemu_side_close(&side);
}

static const struct test_case cases[] = {
    {"a guest that panics too often is stopped", a_guest_that_panics_too_often_is_stopped},
    {"without a limit it is always restarted", without_a_limit_it_is_always_restarted},
    {"a panic can be the end", a_panic_can_be_the_end},
    {"a panic can be ignored", a_panic_can_be_ignored},
    {"a host that takes over does what is due", a_host_that_takes_over_does_what_is_due},
};

int main(int argc, char **argv)
{
    struct error reason = {0};
    enum process_log log;
    if (process_log_choose(PROCESS_LOG_AUTO, &log, &reason) < 0)
        test_skip(reason.text);
    const int rc = small_firmware_make(panics_at_once, sizeof(panics_at_once), &firmware);
    if (rc < 0)
        test_skip(strerror(-rc));
    const int status = test_run(argc, argv, "qemu-panic", cases, ARRAY_SIZE(cases));
    small_firmware_remove(&firmware);
    return status;
}
