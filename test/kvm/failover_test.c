/* Failover of running guests: the primary dies at each step of the protocol, its standby goes on,
 * and neither the guest nor anybody outside finds a contradiction. The guests verify their own
 * memory, registers, timers and clock (CORRUPT, LOST, BACKWARDS); the client of the echo guest
 * verifies that counter and clock only grow (P1, P3).
 *
 * Random moments come from a seed, which is printed; KEMARI_TEST_SEED gives one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "test/support/echo_client.h"
#include "test/support/failover_pair.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define MEMORY      ((uint64_t)32 << 20)
#define GENERATIONS 51
#define LATER       5 /* an epoch after the first commit */
#define REPLY_MS    50

static unsigned seed;

static const struct policy pipelined = {.kind = POLICY_PIPELINED,
                                        .interval = MSEC(5),
                                        .max_interval = MSEC(10),
                                        .window = 2,
                                        .dirty_budget = 1024,
                                        .staging_cap = SLAB_SIZE_MAX};

static const struct protocol_step steps[] = {
    {PROTOCOL_EPOCH_FIRST, PROTOCOL_ACK, 1},
    {LATER, PROTOCOL_BEGIN, 1},
    {LATER, PROTOCOL_PAGES, 1},
    {LATER, PROTOCOL_STATE, 1},
    {LATER, PROTOCOL_END, 1},
    {LATER, PROTOCOL_ACK, 1},
};

static struct protocol_fault cut_at(const struct protocol_step *step, size_t turn)
{
    return (struct protocol_fault){.step = *step,
                                   .kind = FAULT_CUT,
                                   .at_byte = turn % 3 * FRAME_HEADER_SIZE / 2,
                                   .primary_side = turn % 2};
}

/* ---- guests that judge themselves ---- */

static void wait_fault(const struct protocol_fault *fault)
{
    const nsec_t deadline = clock_now() + SEC(60);
    while (!protocol_fault_hit(fault) && clock_now() < deadline) {
        const struct timespec pace = {.tv_nsec = 500000};
        nanosleep(&pace, NULL);
    }
    CU_ASSERT_TRUE_FATAL(protocol_fault_hit(fault) > 0);
}

static void survive_every_step(const struct failover_pair_config *config, const char *word)
{
    struct failover_pair *pair = failover_pair_create(config);
    struct world *world = failover_pair_world(pair);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct protocol_fault fault = cut_at(&steps[i], i);
        failover_pair_protect(pair, &fault);
        wait_fault(&fault);
        struct standby_takeover takeover;
        failover_pair_kill_primary(pair);
        failover_pair_promote(pair, &takeover);
        CU_ASSERT(takeover.epoch > 0);
        guest_check_lines(world, word, 3);
        guest_check_no_complaint(world);
    }
    failover_pair_destroy(&pair);
}

static void page_writers_survive_every_step(void)
{
    const struct failover_pair_config configs[] = {
        {.program = "pagewriter",
         .arguments = "pages=200 static=100 rate=300 report=3",
         .memory = MEMORY,
         .vcpus = 1,
         .policy = pipelined},
        {.program = "pagewriter",
         .arguments = "pages=200 vcpus=2 rate=300 report=3",
         .memory = MEMORY,
         .vcpus = 2,
         .policy = pipelined},
        {.program = "pagewriter",
         .arguments = "pages=200 vcpus=4 rate=100 report=3",
         .memory = MEMORY,
         .vcpus = 4,
         .policy = pipelined},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        survive_every_step(&configs[i], "round=");
}

static void timers_survive_every_step(void)
{
    const struct failover_pair_config configs[] = {
        {.program = "timer",
         .arguments = "hz=300 report=5",
         .memory = MEMORY,
         .vcpus = 1,
         .policy = pipelined},
        {.program = "timer",
         .arguments = "hz=100 vcpus=4 report=5",
         .memory = MEMORY,
         .vcpus = 4,
         .policy = pipelined},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        survive_every_step(&configs[i], "tick ");
}

static void registers_survive_every_step(void)
{
    const struct failover_pair_config configs[] = {
        {.program = "state",
         .arguments = "report=20",
         .memory = MEMORY,
         .vcpus = 1,
         .policy = pipelined},
        {.program = "state",
         .arguments = "vcpus=2 report=20",
         .memory = MEMORY,
         .vcpus = 2,
         .policy = pipelined},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        survive_every_step(&configs[i], "round=");
}

/* ---- the echo guest and its client ---- */

static void judge_frame(struct echo_client *client, const uint8_t *frame, size_t size)
{
    struct error err = {0};
    if (echo_client_judge(client, frame, size, NULL, &err) != ECHO_WRONG)
        return;
    printf("  %s\n", err.text);
    CU_FAIL_FATAL("the guest contradicted what was seen of it");
}

/* One request, and whatever comes meanwhile. */
static void converse(struct failover_pair *pair, struct echo_client *client)
{
    uint8_t frame[WORLD_FRAME_MAX];
    failover_pair_send(pair, frame, echo_client_request(++client->sent, 100, frame));
    const size_t size = world_receive(failover_pair_world(pair), frame, REPLY_MS, NULL);
    if (size)
        judge_frame(client, frame, size);
}

static void converse_until(struct failover_pair *pair, struct echo_client *client, uint64_t replies)
{
    const nsec_t deadline = clock_now() + SEC(60);
    while (client->replies < replies && clock_now() < deadline)
        converse(pair, client);
    CU_ASSERT_TRUE_FATAL(client->replies >= replies);
}

static void fail_over(struct failover_pair *pair, struct echo_client *client)
{
    struct standby_takeover takeover;
    failover_pair_kill_primary(pair);
    failover_pair_promote(pair, &takeover);
    converse_until(pair, client, client->replies + 20);
    guest_check_no_complaint(failover_pair_world(pair));
}

static void a_conversation_survives_every_step(void)
{
    static const char *const arguments[] = {"dirty=20 fill=1", "dirty=5 wait=hlt tick=2000"};
    for (size_t a = 0; a < ARRAY_SIZE(arguments); a++) {
        const struct failover_pair_config config = {.program = "echo",
                                                    .arguments = arguments[a],
                                                    .memory = MEMORY,
                                                    .vcpus = 1,
                                                    .network = true,
                                                    .policy = pipelined};
        struct failover_pair *pair = failover_pair_create(&config);
        struct echo_client client = {0};
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
            struct protocol_fault fault = cut_at(&steps[i], i + a);
            failover_pair_protect(pair, &fault);
            const nsec_t deadline = clock_now() + SEC(60);
            while (!protocol_fault_hit(&fault) && clock_now() < deadline)
                converse(pair, &client);
            fail_over(pair, &client);
        }
        failover_pair_destroy(&pair);
    }
}

static void a_conversation_survives_random_deaths_under_any_policy(void)
{
    static const char *const arguments = "dirty=50 fill=1";
    struct failover_pair_config config = {.program = "echo",
                                          .arguments = arguments,
                                          .memory = MEMORY,
                                          .vcpus = 1,
                                          .network = true,
                                          .policy = pipelined};
    const unsigned start = seed;
    for (int kind = POLICY_PIPELINED; kind <= POLICY_INTERVAL; kind++) {
        config.policy.kind = (enum policy_kind)kind;
        struct failover_pair *pair = failover_pair_create(&config);
        struct echo_client client = {0};
        for (unsigned i = 0; i < GENERATIONS / 3; i++) {
            failover_pair_protect(pair, NULL);
            const nsec_t death = clock_now() + rand_r(&seed) % MSEC(20);
            while (clock_now() < death)
                converse(pair, &client);
            fail_over(pair, &client);
        }
        failover_pair_destroy(&pair);
    }
    printf("seed %u ", start);
}

static const struct test_case cases[] = {
    {"page writers survive every step", page_writers_survive_every_step},
    {"timers survive every step", timers_survive_every_step},
    {"registers survive every step", registers_survive_every_step},
    {"a conversation survives every step", a_conversation_survives_every_step},
    {"a conversation survives random deaths under any policy",
     a_conversation_survives_random_deaths_under_any_policy},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    log_set_level(LOG_LEVEL_ERROR);
    const char *given = getenv("KEMARI_TEST_SEED");
    seed = given ? (unsigned)strtoul(given, NULL, 10) : 20100;
    return test_run(argc, argv, "failover", cases, ARRAY_SIZE(cases));
}
