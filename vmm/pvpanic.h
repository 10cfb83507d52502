/* pvpanic: how a guest tells its host that its kernel has panicked. One byte-wide port; a read says
 * which events there are, a write reports them. Linux' module "pvpanic" finds it in the ACPI tables
 * (dsdt.asl) by its usual name, QEMU0001.
 *
 * What follows is the operator's choice (enum machine_panic_policy) and is asked of the power
 * device, which has the state: this one has none that travels (base/panic_limit.h). */
#ifndef KEMARI_VMM_PVPANIC_H
#define KEMARI_VMM_PVPANIC_H

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/machine.h"

#define PVPANIC_PORT         0x505u
#define PVPANIC_PANICKED     0x01u
#define PVPANIC_CRASH_LOADED 0x02u /* the guest's own crash kernel takes over */

struct pvpanic_options {
    enum machine_panic_policy policy;
    struct panic_limit limit;
    nsec_t (*now)(void);        /* monotonic; NULL: clock_now() */
    const struct device *power; /* borrowed, outlives the device */
    const struct machine_output_ops *output;
    void *output_context;
};

int pvpanic_create(struct bus *ports, const struct pvpanic_options *options, struct device *out,
                   struct error *err);

#endif
