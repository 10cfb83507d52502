#include "vmm/pvpanic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/power.h"

struct pvpanic {
    /* Set at creation. */
    struct pvpanic_options options;
    /* Device lock. */
    uint8_t told; /* events that were reported since the guest was started */
    struct panic_count count;
};

static void report(const struct pvpanic *p, enum machine_event event, const char *detail)
{
    if (p->options.output && p->options.output->event)
        p->options.output->event(p->options.output_context, event, detail);
}

static nsec_t clock_of_host(void)
{
    return clock_now();
}

static void restart(struct pvpanic *p)
{
    if (panic_count_restart(&p->count, p->options.now())) {
        report(p, MACHINE_EVENT_PANICKED, NULL);
        power_ask(p->options.power, POWER_REQUEST_RESET);
        return;
    }
    char text[PANIC_TEXT_SIZE];
    panic_limit_describe(&p->options.limit, text);
    report(p, MACHINE_EVENT_PANICKED, text);
    power_ask(p->options.power, POWER_REQUEST_STOP);
}

static void on_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)context;
    (void)offset;
    memset(data, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED, size);
}

/* A guest that has a crash kernel of its own is left to it: that kernel saves what the operator
 * wants to see, and resets the machine itself. A guest goes on until it is parked and can repeat
 * itself (`rep outsb`): each event counts once until it is started again. */
static void on_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct pvpanic *p = context;
    (void)offset;
    (void)size;
    const uint8_t news = data[0] & (uint8_t)~p->told;
    p->told |= news;
    if (news & PVPANIC_CRASH_LOADED)
        report(p, MACHINE_EVENT_CRASH_LOADED, NULL);
    if (!(news & PVPANIC_PANICKED))
        return;
    if (p->options.policy == MACHINE_PANIC_RESTART) {
        restart(p);
        return;
    }
    report(p, MACHINE_EVENT_PANICKED, NULL);
    if (p->options.policy == MACHINE_PANIC_STOP)
        power_ask(p->options.power, POWER_REQUEST_STOP);
}

static const struct bus_ops bus_ops = {.read = on_read, .write = on_write};

static void on_reset(void *context)
{
    ((struct pvpanic *)context)->told = 0;
}

static int on_save(const void *context, uint32_t instance, struct section_set *set,
                   struct error *err)
{
    (void)context, (void)instance, (void)set, (void)err;
    return 0;
}

static int on_check(const void *context, uint32_t instance, const struct section_set *set,
                    struct error *err)
{
    (void)context, (void)instance, (void)set, (void)err;
    return 0;
}

static void on_load(void *context, uint32_t instance, const struct section_set *set)
{
    (void)instance, (void)set;
    on_reset(context);
}

static void on_destroy(void *context)
{
    free(context);
}

static const struct device_ops device_ops = {
    .name = "pvpanic",
    .reset = on_reset,
    .save = on_save,
    .check = on_check,
    .load = on_load,
    .destroy = on_destroy,
};

int pvpanic_create(struct bus *ports, const struct pvpanic_options *options, struct device *out,
                   struct error *err)
{
    struct pvpanic *p = calloc(1, sizeof(*p));
    if (!p)
        return error_set(err, -ENOMEM, "pvpanic: out of memory");
    p->options = *options;
    if (!p->options.now)
        p->options.now = clock_of_host;
    int rc = panic_count_init(&p->count, &options->limit, err);
    if (rc == 0)
        rc = bus_claim(ports, "pvpanic", PVPANIC_PORT, 1, &bus_ops, p, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = p};
    return 0;
}
