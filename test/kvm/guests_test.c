/* Our own guests on the machine: each starts, does what it is for, and ends when told to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test/support/echo_client.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

static void every_guest_starts(void)
{
    static const struct guest_config configs[] = {
        {.program = "pagewriter", .arguments = "pages=64"},
        {.program = "pagewriter", .arguments = "pages=64 vcpus=2", .vcpus = 2},
        {.program = "pagewriter", .arguments = "pages=64 vcpus=4", .vcpus = 4},
        {.program = "echo", .network = true},
        {.program = "echo", .arguments = "wait=hlt", .network = true},
        {.program = "timer", .arguments = "hz=200"},
        {.program = "timer", .arguments = "hz=200 vcpus=2", .vcpus = 2},
        {.program = "state"},
        {.program = "state", .arguments = "vcpus=4", .vcpus = 4},
        {.program = "power"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct world *world = world_create();
        const nsec_t begin = clock_now();
        struct guest *guest = guest_check_start(&configs[i], world);
        printf("\n    %-10s %u vCPU: ready after %.1f ms", configs[i].program,
               configs[i].vcpus ? configs[i].vcpus : 1, (double)(clock_now() - begin) / 1e6);
        guest_check_no_complaint(world);
        guest_destroy(&guest);
        world_destroy(&world);
    }
    printf("\n    ");
}

static void a_page_writer_above_the_hole_finds_its_pages(void)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(
        &(struct guest_config){.program = "pagewriter",
                               .arguments = "pages=256 base=0x100000000 static=64 report=50",
                               .memory = (uint64_t)4 << 30},
        world);
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "round=100", NULL, GUEST_LONG_MS));
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static void every_request_is_answered(const char *arguments)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(
        &(struct guest_config){.program = "echo", .arguments = arguments, .network = true}, world);
    struct echo_client client = {0};
    uint8_t frame[WORLD_FRAME_MAX];
    for (unsigned i = 0; i < 500; i++) {
        struct error err = {0};
        uint64_t sequence = 0;
        size_t size = echo_client_request(++client.sent, i % 1400, frame);
        CU_ASSERT_TRUE_FATAL(world_send(world, frame, size));
        size = world_receive(world, frame, GUEST_LONG_MS, NULL);
        CU_ASSERT_EQUAL_FATAL(echo_client_judge(&client, frame, size, &sequence, &err), ECHO_REPLY);
        CU_ASSERT_EQUAL(sequence, client.sent);
    }
    CU_ASSERT_EQUAL(client.handled, 500);
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static void the_echo_guest_answers_every_request(void)
{
    every_request_is_answered("dirty=16");
}

static void received_frames_interrupt_a_sleeping_guest(void)
{
    every_request_is_answered("wait=hlt dirty=16");
}

static void a_burst_larger_than_the_ring_is_answered_without_contradiction(void)
{
    struct world *world = world_create();
    struct guest *guest =
        guest_check_start(&(struct guest_config){.program = "echo", .network = true}, world);
    struct echo_client client = {0};
    uint8_t frame[WORLD_FRAME_MAX];
    for (unsigned i = 0; i < 300; i++) {
        const size_t size = echo_client_request(++client.sent, 1000, frame);
        CU_ASSERT_TRUE(world_send(world, frame, size));
    }
    while (client.replies < 300) {
        struct error err = {0};
        const size_t size = world_receive(world, frame, GUEST_LONG_MS, NULL);
        CU_ASSERT_EQUAL_FATAL(echo_client_judge(&client, frame, size, NULL, &err), ECHO_REPLY);
    }
    guest_destroy(&guest);
    world_destroy(&world);
}

static void type(struct guest *guest, char c)
{
    CU_ASSERT_EQUAL(
        machine_console_input(guest_machine(guest), MACHINE_CONSOLE_SERIAL, (const uint8_t *)&c, 1),
        1);
}

static void typed_bytes_interrupt_a_sleeping_guest(void)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(
        &(struct guest_config){.program = "timer", .arguments = "hz=20 report=0"}, world);
    type(guest, 'x');
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "input=x", NULL, GUEST_LONG_MS));
    type(guest, 'y');
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "input=y", NULL, GUEST_LONG_MS));
    guest_destroy(&guest);
    world_destroy(&world);
}

static void what_was_typed_for_another_guest_is_forgotten(void)
{
    struct world *world = world_create();
    const struct guest_config config = {
        .program = "timer", .arguments = "hz=20 report=0", .world = world};
    struct guest *from = guest_check_start(&config, world);
    struct guest *to = guest_check_create(&config, world);
    struct error err = {0};
    const uint8_t stale[100] = "stale";
    CU_ASSERT_EQUAL(
        machine_console_input(guest_machine(to), MACHINE_CONSOLE_SERIAL, stale, sizeof(stale)),
        sizeof(stale));
    CU_ASSERT_EQUAL_FATAL(guest_move(from, to, &err), 0);
    type(to, 'x');
    size_t heard = 0;
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "input=x", NULL, GUEST_LONG_MS));
    CU_ASSERT_TRUE(world_wait_console(world, "input=", &heard, 0));
    CU_ASSERT_FALSE(world_wait_console(world, "input=", &heard, 0));
    guest_destroy(&from);
    guest_destroy(&to);
    world_destroy(&world);
}

static void every_kind_of_reset_boots_again(void)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(&(struct guest_config){.program = "power"}, world);
    size_t from = world_console_size(world);
    for (unsigned i = 0; i < 3; i++) {
        type(guest, "rkt"[i]);
        CU_ASSERT_TRUE(world_wait_event(world, MACHINE_EVENT_RESET, i + 1, GUEST_LONG_MS));
        CU_ASSERT_TRUE_FATAL(world_wait_console(world, "ready boot", &from, GUEST_LONG_MS));
    }
    type(guest, 'z');
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "input=z", NULL, GUEST_LONG_MS));
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static void power_off_is_reported(void)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(&(struct guest_config){.program = "power"}, world);
    type(guest, 'p');
    CU_ASSERT_TRUE(world_wait_event(world, MACHINE_EVENT_POWER_OFF, 1, GUEST_LONG_MS));
    guest_destroy(&guest);
    world_destroy(&world);
}

static void park_and_resume_a_thousand_times_loses_nothing(void)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(
        &(struct guest_config){
            .program = "pagewriter", .arguments = "pages=64 vcpus=2 report=500", .vcpus = 2},
        world);
    for (unsigned i = 0; i < 1000; i++) {
        guest_park(guest);
        guest_resume(guest);
    }
    size_t from = world_console_size(world);
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "round=", &from, GUEST_LONG_MS));
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static const struct test_case cases[] = {
    {"every guest starts", every_guest_starts},
    {"a page writer above the hole finds its pages", a_page_writer_above_the_hole_finds_its_pages},
    {"the echo guest answers every request", the_echo_guest_answers_every_request},
    {"received frames interrupt a sleeping guest", received_frames_interrupt_a_sleeping_guest},
    {"a burst larger than the ring is answered without contradiction",
     a_burst_larger_than_the_ring_is_answered_without_contradiction},
    {"typed bytes interrupt a sleeping guest", typed_bytes_interrupt_a_sleeping_guest},
    {"what was typed for another guest is forgotten",
     what_was_typed_for_another_guest_is_forgotten},
    {"every kind of reset boots again", every_kind_of_reset_boots_again},
    {"power-off is reported", power_off_is_reported},
    {"park and resume a thousand times loses nothing",
     park_and_resume_a_thousand_times_loses_nothing},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    return test_run(argc, argv, "guests", cases, ARRAY_SIZE(cases));
}
