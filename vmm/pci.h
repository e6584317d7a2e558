/* SPDX-License-Identifier: MIT
 *
 * PCI functions of the virtual machine: bus 0, function 0 of each slot. A device fills
 * in the first part of a struct pci_function (zero elsewhere), gives it to pci_add, then
 * adds its capabilities. pci.c answers configuration accesses, puts BARs where the guest
 * wants them, and has the MSI-X table of every function.
 *
 * All is called with the device lock held, pci_add before the guest starts. Nothing is
 * freed: pci_init forgets all functions, and the devices add themselves again.
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include "vmm.h"

#define PCI_SLOTS 32
#define PCI_BARS 6
#define PCI_VECTORS 16 /* MSI-X vectors of a function, at most */
#define PCI_MSIX_BAR 1 /* pci.c's own, in functions with vectors */
#define PCI_NO_VECTOR 0xffff /* virtio's number for none */

/* size: a power of two, from 4096 on for memory, 4..256 for ports; 0: no such BAR. wide:
 * memory with 64 bits of address, so that the next BAR's place is taken too. */
struct pci_bar {
    uint64_t size;
    bool wide;
    bool ports;
    io_read_fn *read; /* called with the function's `self` */
    io_write_fn *write;
    uint64_t address; /* pci.c: what the guest wrote */
    bool mapped; /* pci.c: it answers there */
};

struct pci_function {
    /* The device's. */
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* class << 16 | subclass << 8 | programming interface */
    uint8_t revision;
    bool intx; /* has INTA# */
    unsigned vectors; /* of MSI-X, 0: none */
    struct pci_bar bar[PCI_BARS];
    void *self; /* what the handlers get */
    /* May be NULL. Called for configuration offsets from 0x40 on: before a read, and
     * after a write has changed the bits of config[] that are writable. */
    void (*config_read)(void *self, unsigned offset, unsigned size);
    void (*config_written)(void *self, unsigned offset, unsigned size);

    /* pci.c's; config may be changed by the device in its own capabilities. */
    uint8_t config[256];
    uint8_t writable[256]; /* bits that the guest can change */
    unsigned slot;
    unsigned capability_last, capability_end; /* offsets; 0: none yet */
    unsigned msix; /* offset of the MSI-X capability, 0: none */
    bool line; /* INTA# as the device wants it ... */
    bool driven; /* ... and as it is, counted in the line that slots share */
    struct {
        uint64_t address;
        uint32_t data;
        uint32_t control; /* bit 0: masked */
    } entry[PCI_VECTORS];
    uint16_t pending; /* vectors that came while masked */
};

/* Adds it at the lowest free slot. -EXO_E_LIMIT: no slot; -EXO_E_BOUND: a BAR of no such
 * size, or too many vectors. */
long pci_add(struct pci_function *function);
/* Adds a capability whose n bytes (4..128) begin with its ID; the second is set here to
 * the chain's link. Its offset; -EXO_E_LIMIT: no room. Bytes are read-only; set
 * function->writable for those that are not. */
long pci_capability(struct pci_function *function, const void *bytes, unsigned n);
/* MSI-X on: vector n is sent, or kept pending while masked. n >= vectors: nothing. */
void pci_msix_send(struct pci_function *function, unsigned vector);
bool pci_msix_enabled(const struct pci_function *function);
/* The INTA# line, level; while MSI-X is on it is not driven. */
void pci_intx_set(struct pci_function *function, bool level);
/* The global system interrupt of a slot's INTA#: 10 or 11, level (for _PRT). */
unsigned pci_gsi(unsigned slot);
#endif
