/* The guest's clock: kvmclock where the hypervisor offers it, else the bare TSC counted as if it
 * ran at 1 GHz (still monotone, not seconds). */
#ifndef KEMARI_GUEST_CLOCK_H
#define KEMARI_GUEST_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Registers the clock page of vCPU 0, unless the command line has kvmclock=0: KVM writes to that
 * page by itself. CPL 0, vCPU 0, once. */
void clock_init(void);

/* True when times are nanoseconds of kvmclock. */
bool clock_is_kvmclock(void);

/* Nanoseconds since some moment at or before boot. Any privilege level. On other vCPUs than 0 it is
 * comparable only where the host's TSCs are synchronous, which KVM's master clock needs anyway. */
uint64_t clock_ns(void);

#endif
