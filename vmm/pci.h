/* PCI: one host bridge with bus 0, and the functions that sit on it.
 *
 * Configuration mechanism #1 (ports 0xcf8 and 0xcfc), one function per slot, memory BARs of 32
 * bits, MSI-X. Slot 0 is the host bridge itself. There is no firmware, so BARs get their addresses
 * here, in creation order inside the window, and memory decoding is on from the start; the guest
 * may move them. A BAR that the guest moves outside the window, or onto another one, is decoded by
 * nobody until it is moved again.
 *
 * Left out on purpose: bridges, I/O BARs, INTx (interrupt pin 0: x86-64 systems have MSI-X, and a
 * guest without interrupts can poll), ROMs, power management.
 *
 * Threads: every call holds the device lock. */
#ifndef KEMARI_VMM_PCI_H
#define KEMARI_VMM_PCI_H

#include "vmm/bus.h"
#include "vmm/device.h"

#define PCI_CONFIG_ADDRESS 0xcf8u /* port of the address register, 4 bytes */
#define PCI_CONFIG_DATA    0xcfcu /* port of the data window, 4 bytes */
#define PCI_SLOTS          32
#define PCI_BARS           6
#define PCI_CONFIG_SIZE    256

/* Where memory BARs may lie: [start, end). The ACPI tables announce the same window. */
#define PCI_WINDOW_START 0xc0000000u
#define PCI_WINDOW_END   0xfec00000u

struct pci_host;
struct pci_function;

/* Claims the two port ranges. `env`, `ports` and `mmio` are borrowed and outlive the host. */
int pci_host_create(const struct device_env *env, struct bus *ports, struct bus *mmio,
                    struct pci_host **out, struct error *err);

/* The bridge as a device of the machine (section "pci-host"); its destroy() destroys the host,
 * which must happen after all functions are gone. */
struct device pci_host_device(struct pci_host *host);

struct pci_function_config {
    const char *name; /* static; appears in messages and in front of ".pci" as section name */
    uint8_t slot;     /* 1..31 */
    uint8_t revision;
    uint16_t vendor;
    uint16_t device;
    uint16_t subsystem_vendor;
    uint16_t subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, interface */
};

/* Puts a function into a free slot. -EEXIST when it is taken. */
int pci_function_create(struct pci_host *host, const struct pci_function_config *config,
                        struct pci_function **out, struct error *err);
void pci_function_destroy(struct pci_function **function);

/* The rest of a function's shape: all of it is declared before the guest runs. */

/* `size` is a power of two, 4096 at least. Handlers are called with offsets inside the BAR. */
int pci_function_add_bar(struct pci_function *function, unsigned index, uint32_t size,
                         const struct bus_ops *ops, void *context, struct error *err);

/* Adds MSI-X with its table and pending bits in BAR `bar`, which it also adds (4 KiB). */
int pci_function_add_msix(struct pci_function *function, unsigned bar, unsigned vectors,
                          struct error *err);

/* Appends a capability: `body` is what follows id and next pointer. Returns its offset in the
 * configuration space; running out of space is a bug (assertion). */
uint8_t pci_function_add_capability(struct pci_function *function, uint8_t id, const void *body,
                                    uint8_t size);

/* Lets the guest write the bits of `mask` at configuration offset `offset`. */
void pci_function_make_writable(struct pci_function *function, uint8_t offset, const void *mask,
                                uint8_t size);

/* Routes accesses of [offset, offset+size) of the configuration space to `ops` instead of the
 * stored bytes; offsets are relative. One such range per function. */
void pci_function_set_config_window(struct pci_function *function, uint8_t offset, uint8_t size,
                                    const struct bus_ops *ops, void *context);

/* The stored configuration bytes, for reading. */
const uint8_t *pci_function_config(const struct pci_function *function);

/* Sends MSI-X vector `vector`, or remembers it as pending while masked. Nothing happens while MSI-X
 * is disabled or for a vector that does not exist. */
void pci_function_signal(struct pci_function *function, unsigned vector);

/* The function's part of its device's reset, save, check and load (device.h). */
void pci_function_reset(struct pci_function *function);
int pci_function_save(const struct pci_function *function, uint32_t instance,
                      struct section_set *set, struct error *err);
int pci_function_check(const struct pci_function *function, uint32_t instance,
                       const struct section_set *set, struct error *err);
void pci_function_load(struct pci_function *function, uint32_t instance,
                       const struct section_set *set);

#endif
