/* Bytes typed at a console on their way to the guest: any thread puts them in without waiting for
 * the device lock, the I/O thread feeds the device as it has room. Not part of the state: input
 * that the guest has not seen is lost with its host, as it would be on a cable. */
#ifndef KEMARI_VMM_CONSOLE_INPUT_H
#define KEMARI_VMM_CONSOLE_INPUT_H

#include "vmm/device.h"

struct console_input;

/* `feed` offers bytes to the device and returns how many it took; called with the device lock. */
int console_input_create(const struct device_env *env,
                         size_t (*feed)(const struct device *, const uint8_t *, size_t),
                         const struct device *device, struct console_input **out,
                         struct error *err);

/* The I/O thread has ended. */
void console_input_destroy(struct console_input **input);

/* Returns how many bytes were accepted; the rest did not fit. Any thread, never blocks for long. */
size_t console_input_put(struct console_input *input, const uint8_t *data, size_t size);

/* The device may have room again: feeds it if bytes are waiting. Any thread, cheap when not. */
void console_input_kick(struct console_input *input);

/* Forgets what the guest has not seen. By the holder of the device lock: no bytes are on their way
 * to the device. */
void console_input_clear(struct console_input *input);

#endif
