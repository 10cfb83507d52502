/* Guests carried from machine to machine: state by save, encode, decode, check and load, memory by
 * copy. The guests judge themselves (CORRUPT, LOST, BACKWARDS); the test judges state sections and
 * memory byte by byte.
 *
 * Moments are random; the seed is printed, and KEMARI_TEST_SEED gives one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test/support/echo_client.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define HOPS 12 /* carries of one guest */

static unsigned seed;

/* Carries the guest to a fresh machine and gives up the old one. */
static struct guest *hop(const struct guest_config *config, struct guest *from, struct world *world)
{
    struct guest *to = guest_check_create(config, world);
    struct error err = {0};
    if (guest_move(from, to, &err)) {
        printf("carry: %s\n", err.text);
        CU_FAIL_FATAL("the guest can't be carried");
    }
    guest_destroy(&from);
    return to;
}

static void carry_often(const struct guest_config *config, const char *word)
{
    struct world *world = world_create();
    struct guest *guest = guest_check_start(config, world);
    for (unsigned i = 0; i < HOPS; i++) {
        guest_check_lines(world, word, (unsigned)rand_r(&seed) % 3);
        guest = hop(config, guest, world);
    }
    guest_check_lines(world, word, 3);
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static void page_writers_lose_no_page(void)
{
    static const struct guest_config configs[] = {
        {.program = "pagewriter", .arguments = "pages=500 static=500 report=37"},
        {.program = "pagewriter", .arguments = "pages=64 fill=1 stride=0x5000 report=101"},
        {.program = "pagewriter", .arguments = "pages=300 vcpus=2 report=37", .vcpus = 2},
        {.program = "pagewriter", .arguments = "pages=300 vcpus=4 report=37", .vcpus = 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        carry_often(&configs[i], "round=");
}

static void timers_go_on_and_time_never_goes_back(void)
{
    static const struct guest_config configs[] = {
        {.program = "timer", .arguments = "hz=500 report=5"},
        {.program = "timer", .arguments = "hz=300 vcpus=2 report=5", .vcpus = 2},
        {.program = "timer", .arguments = "hz=100 vcpus=4 report=5", .vcpus = 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        carry_often(&configs[i], "tick ");
}

static void registers_keep_their_values(void)
{
    static const struct guest_config configs[] = {
        {.program = "state", .arguments = "report=20"},
        {.program = "state", .arguments = "vcpus=2 report=20", .vcpus = 2},
        {.program = "state", .arguments = "vcpus=4 report=20", .vcpus = 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        carry_often(&configs[i], "round=");
}

/* Reads replies until the one to the last request has come. */
static void await_last_reply(struct world *world, struct echo_client *client)
{
    uint8_t frame[WORLD_FRAME_MAX];
    uint64_t sequence = 0;
    while (sequence != client->sent) {
        struct error err = {0};
        const size_t size = world_receive(world, frame, GUEST_LONG_MS, NULL);
        CU_ASSERT_TRUE_FATAL(size > 0);
        CU_ASSERT_EQUAL(echo_client_judge(client, frame, size, &sequence, &err), ECHO_REPLY);
        if (err.text[0])
            printf("%s\n", err.text);
    }
}

static void send_requests(struct world *world, struct echo_client *client, unsigned count)
{
    uint8_t frame[WORLD_FRAME_MAX];
    for (unsigned i = 0; i < count; i++) {
        const size_t size = echo_client_request(++client->sent, 100, frame);
        CU_ASSERT_TRUE(world_send(world, frame, size));
    }
}

static void converse_and_carry(const char *arguments)
{
    const struct guest_config config = {.program = "echo", .arguments = arguments, .network = true};
    struct world *world = world_create();
    struct guest *guest = guest_check_start(&config, world);
    struct echo_client client = {0};
    for (unsigned i = 0; i < HOPS; i++) {
        send_requests(world, &client, 1 + (unsigned)rand_r(&seed) % 100);
        /* In the middle of the burst: what was sent is in the wire, in the ring, or answered, but
         * for one frame that the old device may have taken from the wire (virtio_net.c). */
        guest = hop(&config, guest, world);
        send_requests(world, &client, 1);
        await_last_reply(world, &client);
        CU_ASSERT(client.sent - client.replies <= i + 1);
    }
    CU_ASSERT_EQUAL(client.handled, client.replies);
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

static void an_echo_conversation_goes_on_elsewhere(void)
{
    converse_and_carry("dirty=32");
}

static void message_signalled_interrupts_go_on_elsewhere(void)
{
    converse_and_carry("wait=hlt dirty=8");
}

static void a_guest_that_only_sends_ticks_is_never_heard_twice(void)
{
    static const struct guest_config config = {
        .program = "echo", .arguments = "tick=500 wait=hlt", .network = true};
    struct world *world = world_create();
    struct guest *guest = guest_check_start(&config, world);
    struct echo_client client = {0};
    uint8_t frame[WORLD_FRAME_MAX];
    for (unsigned i = 0; i < HOPS; i++) {
        const uint64_t enough = client.ticks + (unsigned)rand_r(&seed) % 20;
        while (client.ticks < enough) {
            struct error err = {0};
            const size_t size = world_receive(world, frame, GUEST_LONG_MS, NULL);
            CU_ASSERT_EQUAL_FATAL(echo_client_judge(&client, frame, size, NULL, &err), ECHO_TICKED);
        }
        guest = hop(&config, guest, world);
    }
    guest_check_no_complaint(world);
    guest_destroy(&guest);
    world_destroy(&world);
}

/* Sections whose content is the time, or moves with it, differ between two savings by nature: the
 * VM's clock, the timers' counts, the TSC (in vcpu.run). */
static bool moves_with_time(const char *names)
{
    static const char *const allowed[] = {"vm.clock", "vm.pit", "vcpu.lapic", "vcpu.run"};
    char copy[512];
    snprintf(copy, sizeof(copy), "%s", names);
    char *rest = copy;
    for (char *name = strsep(&rest, " "); name && *name; name = strsep(&rest, " ")) {
        bool found = false;
        for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
            found = found || strstr(name, allowed[i]);
        if (!found)
            return false;
    }
    return true;
}

/* The guests go without kvmclock: KVM writes its page whenever it likes. */
static void a_loaded_machine_saves_what_was_loaded(void)
{
    static const struct guest_config configs[] = {
        {.program = "state", .arguments = "vcpus=2 kvmclock=0", .vcpus = 2, .network = true},
        {.program = "timer", .arguments = "hz=200 vcpus=2 kvmclock=0", .vcpus = 2},
        {.program = "echo", .arguments = "kvmclock=0", .network = true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct world *world = world_create();
        struct guest *from = guest_check_start(&configs[i], world);
        struct guest *to = guest_check_create(&configs[i], world);
        struct section_set *carried = section_set_create(), *again = section_set_create();
        struct error err = {0};
        char names[512];
        gfn_t gfn = 0;
        CU_ASSERT_EQUAL(guest_transfer(from, to, carried, &err), 0);
        CU_ASSERT_TRUE(guest_same_memory(from, to, &gfn));
        CU_ASSERT_EQUAL(machine_save(guest_machine(to), again, &err), 0);
        CU_ASSERT_TRUE(section_set_count(carried) > 0);
        guest_compare_states(carried, again, names, sizeof(names));
        CU_ASSERT_TRUE(moves_with_time(names));
        printf("%s: [%s] ", configs[i].program, names);
        section_set_destroy(&carried);
        section_set_destroy(&again);
        guest_destroy(&from);
        guest_destroy(&to);
        world_destroy(&world);
    }
}

static uint64_t await_time(struct world *world, size_t *from)
{
    char text[64] = "";
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "time=", from, GUEST_LONG_MS));
    const size_t at = *from;
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "\n", from, GUEST_LONG_MS));
    world_console_text(world, at, text, sizeof(text));
    return strtoull(text, NULL, 10);
}

static void the_clock_moves_on_by_the_time_the_guest_stood_still(void)
{
    static const struct guest_config config = {.program = "pagewriter",
                                               .arguments = "pages=8 report=1 rate=200"};
    struct world *world = world_create();
    struct guest *from = guest_check_start(&config, world),
                 *to = guest_check_create(&config, world);
    struct section_set *state = section_set_create();
    struct error err = {0};
    size_t at = world_console_size(world);
    const uint64_t before = await_time(world, &at);
    guest_park(from);
    CU_ASSERT_EQUAL(machine_save(guest_machine(from), state, &err), 0);
    guest_copy_memory(from, to);
    CU_ASSERT_EQUAL(machine_load(guest_machine(to), state, SEC(100), &err), 0);
    at = world_console_size(world);
    guest_resume(to);
    (void)await_time(world, &at); /* may have been read before and printed after */
    const uint64_t after = await_time(world, &at);
    CU_ASSERT_TRUE(after >= before + (uint64_t)SEC(100));
    CU_ASSERT_TRUE(after < before + (uint64_t)SEC(200));
    guest_check_no_complaint(world);
    section_set_destroy(&state);
    guest_destroy(&from);
    guest_destroy(&to);
    world_destroy(&world);
}

static void the_state_of_another_machine_is_refused(void)
{
    static const struct guest_config two = {.program = "state", .arguments = "vcpus=2", .vcpus = 2};
    static const struct guest_config others[] = {
        {.program = "state", .vcpus = 1},
        {.program = "state", .vcpus = 2, .network = true},
    };
    struct world *world = world_create();
    struct guest *from = guest_check_start(&two, world);
    struct section_set *state = section_set_create();
    guest_park(from);
    CU_ASSERT_EQUAL(machine_save(guest_machine(from), state, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        struct guest *to = guest_check_create(&others[i], world);
        struct error err = {0};
        CU_ASSERT_NOT_EQUAL(machine_check(guest_machine(to), state, &err), 0);
        CU_ASSERT(err.text[0] != '\0');
        guest_destroy(&to);
    }
    section_set_destroy(&state);
    guest_destroy(&from);
    world_destroy(&world);
}

static const struct test_case cases[] = {
    {"a loaded machine saves what was loaded", a_loaded_machine_saves_what_was_loaded},
    {"page writers lose no page", page_writers_lose_no_page},
    {"timers go on and time never goes back", timers_go_on_and_time_never_goes_back},
    {"registers keep their values", registers_keep_their_values},
    {"an echo conversation goes on elsewhere", an_echo_conversation_goes_on_elsewhere},
    {"message-signalled interrupts go on elsewhere", message_signalled_interrupts_go_on_elsewhere},
    {"a guest that only sends ticks is never heard twice",
     a_guest_that_only_sends_ticks_is_never_heard_twice},
    {"the clock moves on by the time the guest stood still",
     the_clock_moves_on_by_the_time_the_guest_stood_still},
    {"the state of another machine is refused", the_state_of_another_machine_is_refused},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    const char *given = getenv("KEMARI_TEST_SEED");
    seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)clock_now();
    printf("seed %u (KEMARI_TEST_SEED)\n", seed);
    return test_run(argc, argv, "carry", cases, ARRAY_SIZE(cases));
}
