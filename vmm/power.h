/* Everything a guest switches off or resets itself with: the ACPI PM1 registers, the reset control
 * register at 0xcf9, the reset line of the keyboard controller. */
#ifndef KEMARI_VMM_POWER_H
#define KEMARI_VMM_POWER_H

#include "vmm/bus.h"
#include "vmm/device.h"

enum power_request {
    POWER_REQUEST_NONE,
    POWER_REQUEST_RESET,
    POWER_REQUEST_OFF,
    POWER_REQUEST_STOP, /* not by the guest's will: it panicked */
};

int power_create(const struct device_env *env, struct bus *ports, struct device *out,
                 struct error *err);

/* A byte access to ACPI_RESET_PORT, which lies inside PCI's address register and therefore can't be
 * claimed on the bus; chipsets tell the two apart by the size, too. */
uint8_t power_read_reset(const struct device *power);
void power_write_reset(const struct device *power, uint8_t value);

/* Asks for it on the guest's behalf. Device lock. */
void power_ask(const struct device *power, enum power_request request);

/* What the guest asked for last, and forgets it. */
enum power_request power_take_request(const struct device *power);

/* True while a request waits. */
bool power_has_request(const struct device *power);

#endif
