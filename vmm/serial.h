/* An 8250-family UART (16550A with FIFOs) at COM1: what a kernel's early console needs.
 *
 * Transmission is instantaneous: a byte written is handed to the machine's output, and the
 * transmitter is empty again. Left out: baud rate, modem lines other than in loop-back, break. */
#ifndef KEMARI_VMM_SERIAL_H
#define KEMARI_VMM_SERIAL_H

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/machine.h"

#define SERIAL_PORT 0x3f8u
#define SERIAL_IRQ  4u

struct serial_config {
    const struct machine_output_ops *output; /* may be NULL: bytes are dropped */
    void *output_context;
    /* The guest took received bytes: there is room for more. Called with the device lock. */
    void (*drained)(void *context);
    void *drained_context;
};

int serial_create(const struct device_env *env, struct bus *ports,
                  const struct serial_config *config, struct device *out, struct error *err);

/* Puts bytes into the receiver; returns how many it had room for. */
size_t serial_receive(const struct device *serial, const uint8_t *data, size_t size);

#endif
