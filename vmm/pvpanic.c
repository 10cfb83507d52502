#include "vmm/pvpanic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/power.h"

/* All set at creation. */
struct pvpanic {
    struct pvpanic_options options;
};

static void report(const struct pvpanic *p, enum machine_event event)
{
    if (p->options.output && p->options.output->event)
        p->options.output->event(p->options.output_context, event, NULL);
}

static void on_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)context;
    (void)offset;
    memset(data, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED, size);
}

/* A guest that has a crash kernel of its own is left to it: that kernel saves what the operator
 * wants to see, and resets the machine itself. */
static void on_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    const struct pvpanic *p = context;
    (void)offset;
    (void)size;
    if (data[0] & PVPANIC_CRASH_LOADED)
        report(p, MACHINE_EVENT_CRASH_LOADED);
    if (!(data[0] & PVPANIC_PANICKED))
        return;
    report(p, MACHINE_EVENT_PANICKED);
    if (p->options.policy == MACHINE_PANIC_RESTART)
        power_ask(p->options.power, POWER_REQUEST_RESET);
    else if (p->options.policy == MACHINE_PANIC_STOP)
        power_ask(p->options.power, POWER_REQUEST_STOP);
}

static const struct bus_ops bus_ops = {.read = on_read, .write = on_write};

static void on_reset(void *context)
{
    (void)context;
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
    (void)context, (void)instance, (void)set;
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
    const int rc = bus_claim(ports, "pvpanic", PVPANIC_PORT, 1, &bus_ops, p, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = p};
    return 0;
}
