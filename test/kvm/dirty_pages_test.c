/* What a running guest and its devices write is in the dirty log, every page of it: a second memory
 * that only ever gets the dirty pages stays equal to the guest's, byte by byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dirtylog/dirtylog.h"
#include "test/support/echo_client.h"
#include "test/support/guest_checks.h"
#include "test/support/runner.h"

#define EPOCHS 60

/* A guest, its log, and a machine that only lends its memory to follow. */
struct pair {
    struct world *world;
    struct guest *guest, *follower;
    struct dirtylog *log;
    struct dirty_set dirty; /* written since the last copy */
    uint64_t pages;         /* copied so far */
};

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void open_pair(struct pair *p, const struct guest_config *config)
{
    struct error err = {0};
    *p = (struct pair){.world = world_create()};
    p->guest = guest_check_start(config, p->world);
    p->follower = guest_check_create(config, p->world);
    struct gmem *memory = guest_memory(p->guest);
    require(dirtylog_kvm_create(machine_vm_fd(guest_machine(p->guest)), memory, &p->log, &err),
            &err);
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&p->dirty, gmem_page_count(memory)), 0);
    guest_park(p->guest);
    require(dirtylog_start(p->log, &err), &err);
    /* A log may begin with everything: what the whole copy has anyway. */
    require(dirtylog_collect(p->log, &p->dirty, &err), &err);
    dirty_set_clear(&p->dirty);
    guest_copy_memory(p->guest, p->follower);
}

static void close_pair(struct pair *p)
{
    guest_check_no_complaint(p->world);
    dirtylog_destroy(&p->log);
    dirty_set_free(&p->dirty);
    guest_destroy(&p->guest);
    guest_destroy(&p->follower);
    world_destroy(&p->world);
}

/* Ends an epoch: parked, the dirty pages and nothing else are copied, then all is compared. */
static void follow(struct pair *p)
{
    struct error err = {0};
    struct gmem *memory = guest_memory(p->guest), *copy = guest_memory(p->follower);
    guest_park(p->guest);
    require(dirtylog_collect(p->log, &p->dirty, &err), &err);
    for (uint64_t i = dirty_set_next(&p->dirty, 0); i < p->dirty.page_count;
         i = dirty_set_next(&p->dirty, i + 1)) {
        const gfn_t gfn = gmem_gfn_at(memory, i);
        memcpy(gmem_page(copy, gfn), gmem_page(memory, gfn), PAGE_SIZE);
        p->pages++;
    }
    dirty_set_clear(&p->dirty);
    gfn_t gfn = 0;
    const bool same = guest_same_memory(p->guest, p->follower, &gfn);
    if (!same)
        printf("page %llx was written and is not in the log\n", (unsigned long long)gfn);
    CU_ASSERT_TRUE_FATAL(same);
}

static void pages_written_by_vcpus_are_in_the_log(void)
{
    static const struct guest_config configs[] = {
        {.program = "pagewriter", .arguments = "pages=300 report=7"},
        {.program = "pagewriter", .arguments = "pages=2000 stride=0x3000 fill=1 report=1"},
        {.program = "pagewriter", .arguments = "pages=300 vcpus=4 report=7", .vcpus = 4},
        {.program = "pagewriter",
         .arguments = "pages=300 base=0x100000000 report=7",
         .memory = (uint64_t)4 << 30},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct pair p;
        open_pair(&p, &configs[i]);
        for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
            guest_resume(p.guest);
            guest_check_lines(p.world, "round=", epoch % 3);
            follow(&p);
        }
        CU_ASSERT(p.pages > 0);
        close_pair(&p);
    }
}

static void pages_written_by_devices_are_in_the_log(void)
{
    struct pair p;
    open_pair(&p, &(struct guest_config){
                      .program = "echo", .arguments = "dirty=20 fill=1", .network = true});
    struct echo_client client = {0};
    uint8_t frame[WORLD_FRAME_MAX];
    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        const unsigned burst = epoch % 9;
        for (unsigned i = 0; i < burst; i++) {
            const size_t size = echo_client_request(++client.sent, 1300, frame);
            CU_ASSERT_TRUE(world_send(p.world, frame, size));
        }
        guest_resume(p.guest);
        for (unsigned i = 0; i < burst / 2; i++) {
            struct error err = {0};
            const size_t size = world_receive(p.world, frame, GUEST_LONG_MS, NULL);
            CU_ASSERT_EQUAL_FATAL(echo_client_judge(&client, frame, size, NULL, &err), ECHO_REPLY);
        }
        follow(&p);
    }
    CU_ASSERT(client.replies > 0);
    close_pair(&p);
}

static void a_log_collected_while_the_guest_runs_loses_nothing(void)
{
    struct pair p;
    open_pair(&p, &(struct guest_config){
                      .program = "pagewriter", .arguments = "pages=500 vcpus=2", .vcpus = 2});
    struct error err = {0};
    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        guest_resume(p.guest);
        for (unsigned i = 0; i < 5; i++)
            require(dirtylog_collect(p.log, &p.dirty, &err), &err);
        follow(&p);
    }
    close_pair(&p);
}

static const struct test_case cases[] = {
    {"pages written by vCPUs are in the log", pages_written_by_vcpus_are_in_the_log},
    {"pages written by devices are in the log", pages_written_by_devices_are_in_the_log},
    {"a log collected while the guest runs loses nothing",
     a_log_collected_while_the_guest_runs_loses_nothing},
};

int main(int argc, char **argv)
{
    guest_require_kvm();
    return test_run(argc, argv, "dirty-pages", cases, ARRAY_SIZE(cases));
}
