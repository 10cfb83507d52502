/* Any state of a vCPU, of the interrupt controllers and of the clock from a peer: what is decoded
 * encodes to the same bytes. The first byte chooses, as in device_state_fuzz.c: the rest as a
 * section set, or as changes of a possible one (u16 offset and the byte that stands there). */
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "vmm/vcpu_state.h"
#include "vmm/vm_state.h"

#define BYTES      65536
#define INSTANCE   1
#define XSAVE_SIZE 832
#define XCR0_ALL   7

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vcpu_layout layout = {.msrs = {.count = 3, .indices = {0x10a, 0x174, 0xc0000081}},
                                    .xsave_size = XSAVE_SIZE,
                                    .xcr0_allowed = XCR0_ALL};
static struct vcpu_state vcpu;
static struct vm_chips chips;
static struct vm_clock vm_clock = {.kvmclock_ns = 1000, .tsc_khz = 2000000};
static uint8_t fresh[BYTES];
static size_t fresh_size;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t save_all(struct section_set *set, uint8_t *out)
{
    section_set_reset(set);
    require(vcpu_state_save(&vcpu, INSTANCE, set, NULL) == 0);
    require(vm_chips_save(&chips, set, NULL) == 0 && vm_clock_save(&vm_clock, set, NULL) == 0);
    const int size = section_set_encode(set, out, BYTES);
    require(size > 0);
    return (size_t)size;
}

static bool decode_all(const struct section_set *set)
{
    return vcpu_state_decode(&vcpu, INSTANCE, set, NULL) == 0 &&
           vm_chips_decode(&chips, set, NULL) == 0 && vm_clock_decode(&vm_clock, set, NULL) == 0;
}

static void set_up(struct section_set *set)
{
    require(vcpu_state_init(&vcpu, &layout, NULL) == 0);
    for (uint32_t i = 0; i < VM_IRQCHIPS; i++)
        chips.irqchips[i].chip_id = i;
    fresh_size = save_all(set, fresh);
    require(decode_all(set));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct section_set *set;
    static uint8_t changed[BYTES], again[BYTES];
    if (!set) {
        set = section_set_create();
        set_up(set);
    }
    if (!size)
        return 0;
    const uint8_t *bytes = data + 1;
    size_t count = size - 1;
    if (data[0] & 1) {
        struct wire_reader r = {.bytes = bytes, .size = count};
        memcpy(changed, fresh, fresh_size);
        while (r.size - r.used >= 3) {
            const size_t at = wire_get_u16(&r) % fresh_size;
            changed[at] = wire_get_u8(&r);
        }
        bytes = changed;
        count = fresh_size;
    }
    if (section_set_decode(set, bytes, count, NULL) < 0 || !decode_all(set))
        return 0;
    /* Sections that nobody asks for are dropped; the others stay what they were. */
    const size_t kept = save_all(set, changed);
    require(section_set_decode(set, changed, kept, NULL) == 0 && decode_all(set));
    require(save_all(set, again) == kept && memcmp(again, changed, kept) == 0);
    return 0;
}
