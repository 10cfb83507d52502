/* Whether this host's KVM knows what a guest does to XCR0.
 *
 * A KVM that does not see `xsetbv` (seen: SVM as QEMU's TCG 7.2 emulates it, which lacks the
 * intercept) takes XCR0 for 1. It puts 1 back at the next entry, and from then on the guest's own
 * xsave and xrstor leave out everything but the x87 registers: its processes overwrite each other's
 * SSE registers, and no state that we save holds the value. There the guest must not be shown XSAVE
 * at all: fxsave needs no XCR0. */
#ifndef KEMARI_VMM_XCR0_H
#define KEMARI_VMM_XCR0_H

#include "vmm/kvm.h"

/* False when a guest that sets XCR0 to 3 has it, and KVM says that it has not. True also when this
 * can't be tried: no XSAVE, or a KVM that doesn't run the four instructions. Makes a scratch VM the
 * first time and remembers the answer; any thread. */
bool xcr0_is_followed(const struct kvm_host *host);

#endif
