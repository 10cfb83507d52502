#include "vmm/power.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/state.h"

#define PM_SIZE            8u /* event block, control block, two spare bytes */

#define PM_STATUS          0
#define PM_ENABLE          2
#define PM_CONTROL         4

#define CONTROL_SCI_EN     0x0001u /* always on: there is no other mode */
#define CONTROL_SLEEP_TYPE 10      /* shift */
#define CONTROL_SLEEP_MASK 0x1c00u
#define CONTROL_SLEEP_EN   0x2000u /* reads as zero */

#define RESET_CPU          0x04u /* rising edge resets */

#define KBC_DATA           0x60u
#define KBC_COMMAND        0x64u
#define KBC_COMMAND_RESET  0xfeu

struct power {
    /* device lock; part of the state */
    uint16_t enable;
    uint16_t control;
    uint8_t reset_control;
    uint8_t request; /* enum power_request */
};

static const struct state_field fields[] = {
    STATE_UINT(struct power, enable, STATE_ANY16),
    STATE_UINT(struct power, control, STATE_ANY16),
    STATE_UINT(struct power, reset_control, STATE_ANY8),
    STATE_UINT(struct power, request, POWER_REQUEST_NONE, POWER_REQUEST_STOP),
};

static const struct state_table table = {"power", 1, fields, ARRAY_SIZE(fields), NULL};

static uint16_t pm_register(const struct power *p, uint64_t offset)
{
    switch (offset & ~1u) {
    case PM_ENABLE:
        return p->enable;
    case PM_CONTROL:
        return p->control | CONTROL_SCI_EN;
    default: /* no event ever happens */
        return 0;
    }
}

static void pm_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)(pm_register(context, offset + i) >> (8 * ((offset + i) & 1)));
}

static void write_control(struct power *p, uint16_t value)
{
    p->control = value & (uint16_t)~CONTROL_SLEEP_EN;
    if ((value & CONTROL_SLEEP_EN) &&
        (value & CONTROL_SLEEP_MASK) >> CONTROL_SLEEP_TYPE == ACPI_SLEEP_TYPE_OFF)
        p->request = POWER_REQUEST_OFF;
}

static void pm_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct power *p = context;
    for (uint32_t i = 0; i < size; i++) {
        const uint64_t at = offset + i;
        const unsigned shift = 8 * (at & 1);
        const uint16_t old = pm_register(p, at);
        const uint16_t value = (uint16_t)((old & ~(0xffu << shift)) | (unsigned)data[i] << shift);
        if ((at & ~1u) == PM_ENABLE)
            p->enable = value;
        else if ((at & ~1u) == PM_CONTROL)
            write_control(p, value);
    }
}

static const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write};

/* A keyboard controller with nothing attached: never busy, no data. */
static void kbc_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)context;
    (void)offset;
    memset(data, 0, size);
}

static void kbc_write_data(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)context;
    (void)offset;
    (void)data;
    (void)size;
}

static void kbc_write_command(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)offset;
    (void)size;
    if (data[0] == KBC_COMMAND_RESET)
        ((struct power *)context)->request = POWER_REQUEST_RESET;
}

static const struct bus_ops kbc_data_ops = {.read = kbc_read, .write = kbc_write_data};
static const struct bus_ops kbc_command_ops = {.read = kbc_read, .write = kbc_write_command};

uint8_t power_read_reset(const struct device *power)
{
    return ((const struct power *)power->context)->reset_control;
}

void power_write_reset(const struct device *power, uint8_t value)
{
    struct power *p = power->context;
    if (value & ~p->reset_control & RESET_CPU)
        p->request = POWER_REQUEST_RESET;
    p->reset_control = value;
}

void power_ask(const struct device *power, enum power_request request)
{
    ((struct power *)power->context)->request = (uint8_t)request;
}

bool power_has_request(const struct device *power)
{
    return ((const struct power *)power->context)->request != POWER_REQUEST_NONE;
}

enum power_request power_take_request(const struct device *power)
{
    struct power *p = power->context;
    const enum power_request request = p->request;
    p->request = POWER_REQUEST_NONE;
    return request;
}

static void on_reset(void *context)
{
    memset(context, 0, sizeof(struct power));
}

static int on_save(const void *context, uint32_t instance, struct section_set *set,
                   struct error *err)
{
    return state_save(&table, instance, context, set, err);
}

static int on_check(const void *context, uint32_t instance, const struct section_set *set,
                    struct error *err)
{
    (void)context;
    struct power scratch;
    return state_decode(&table, instance, &scratch, NULL, set, err);
}

static void on_load(void *context, uint32_t instance, const struct section_set *set)
{
    struct power scratch;
    if (state_decode(&table, instance, &scratch, NULL, set, NULL) == 0)
        *(struct power *)context = scratch;
}

static void on_destroy(void *context)
{
    free(context);
}

static const struct device_ops device_ops = {
    .name = "power",
    .reset = on_reset,
    .save = on_save,
    .check = on_check,
    .load = on_load,
    .destroy = on_destroy,
};

int power_create(const struct device_env *env, struct bus *ports, struct device *out,
                 struct error *err)
{
    (void)env;
    struct power *p = calloc(1, sizeof(*p));
    if (!p)
        return error_set(err, -ENOMEM, "power: out of memory");
    int rc = bus_claim(ports, "acpi-pm", ACPI_PM_EVENT_PORT, PM_SIZE, &pm_ops, p, err);
    if (rc == 0)
        rc = bus_claim(ports, "keyboard-data", KBC_DATA, 1, &kbc_data_ops, p, err);
    if (rc == 0)
        rc = bus_claim(ports, "keyboard-command", KBC_COMMAND, 1, &kbc_command_ops, p, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    *out = (struct device){.ops = &device_ops, .context = p};
    return 0;
}
