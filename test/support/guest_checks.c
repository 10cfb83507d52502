#include "test/support/guest_checks.h"

#include <stdio.h>

#include "test/support/runner.h"

struct guest *guest_check_create(const struct guest_config *config, struct world *world)
{
    struct guest_config c = *config;
    struct guest *guest = NULL;
    struct error err = {0};
    c.world = world;
    if (guest_create(&c, &guest, &err)) {
        printf("%s: %s\n", c.program, err.text);
        CU_FAIL_FATAL("no machine");
    }
    return guest;
}

struct guest *guest_check_start(const struct guest_config *config, struct world *world)
{
    struct guest *guest = guest_check_create(config, world);
    struct error err = {0};
    if (guest_boot(guest, &err)) {
        printf("%s: %s\n", config->program, err.text);
        CU_FAIL_FATAL("the guest does not start");
    }
    CU_ASSERT_TRUE_FATAL(world_wait_console(world, "ready", NULL, GUEST_LONG_MS));
    return guest;
}

void guest_check_no_complaint(struct world *world)
{
    char line[256] = "";
    CU_ASSERT_FALSE(world_complaint(world, line, sizeof(line)));
    if (line[0])
        printf("%s\n", line);
}

void guest_check_lines(struct world *world, const char *word, unsigned count)
{
    size_t from = world_console_size(world);
    for (unsigned i = 0; i < count; i++)
        CU_ASSERT_TRUE_FATAL(world_wait_console(world, word, &from, GUEST_LONG_MS));
}
