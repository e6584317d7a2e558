/* SPDX-License-Identifier: MIT
 *
 * PCI configuration space as a guest's drivers use it: finding functions, sizes of BARs,
 * moving them (over each other, too), capabilities, MSI-X and INTA#.
 */
#include "vmm_host.c"
#include "../../vmm/pci.h"

static struct pci_function card, disk;
static unsigned hooks;
static uint64_t written;

static uint64_t bar_read(void *self, uint64_t offset, unsigned size)
{
    (void)size;
    return (self == &card ? 0x1000 : 0x2000) + offset;
}
static void bar_write(void *self, uint64_t offset, unsigned size, uint64_t value)
{
    (void)self, (void)size;
    written = offset << 32 | value;
}
static void hook(void *self, unsigned offset, unsigned size)
{
    (void)self;
    EXPECT(offset >= 0x40 && offset + size <= 256);
    hooks++;
}

static void start(void)
{
    pci_init();
    card = (struct pci_function){.vendor = 0x1af4,
                                 .device = 0x1041,
                                 .class_code = 0x020000,
                                 .intx = true,
                                 .vectors = 3,
                                 .self = &card,
                                 .config_read = hook,
                                 .config_written = hook};
    card.bar[0] = (struct pci_bar){.size = 32, .ports = true, .read = bar_read, .write = bar_write};
    card.bar[4] =
        (struct pci_bar){.size = 0x4000, .wide = true, .read = bar_read, .write = bar_write};
    disk = (struct pci_function){.vendor = 0x1af4, .device = 0x1042, .intx = true, .self = &disk};
    disk.bar[2] = (struct pci_bar){.size = 4096, .read = bar_read, .write = bar_write};
    EXPECT(pci_add(&card) == 0 && pci_add(&disk) == 0);
    EXPECT(card.slot == 1 && disk.slot == 2);
}

static uint32_t rd(unsigned slot, unsigned at, unsigned size)
{
    port_out(0xcf8, 4, 0x80000000u | slot << 11 | (at & 0xfc));
    return (uint32_t)port_in(0xcfc + at % 4, size);
}
static void wr(unsigned slot, unsigned at, unsigned size, uint32_t value)
{
    port_out(0xcf8, 4, 0x80000000u | slot << 11 | (at & 0xfc));
    port_out(0xcfc + at % 4, size, value);
}
static uint64_t mem(uint64_t address)
{
    uint64_t value;
    return mmio_read(address, 4, &value) ? value : ~0ull;
}

static void test_find(void)
{
    start();
    EXPECT(rd(0, 0, 4) == 0x12378086 && rd(0, 10, 2) == 0x0600);
    EXPECT(rd(1, 0, 4) == 0x10411af4 && rd(1, 2, 2) == 0x1041 && rd(1, 11, 1) == 2);
    EXPECT(rd(3, 0, 4) == 0xffffffff);
    port_out(0xcf8, 4, 0x80000000 | 1 << 11 | 1 << 8); /* function 1 */
    EXPECT(port_in(0xcfc, 4) == 0xffffffff);
    port_out(0xcf8, 4, 0x80000000 | 1 << 16 | 1 << 11); /* bus 1 */
    EXPECT(port_in(0xcfc, 4) == 0xffffffff);
    port_out(0xcf8, 4, 1 << 11); /* not enabled */
    EXPECT(port_in(0xcfc, 4) == 0xffffffff);
    port_out(0xcf8, 4, 0x80000800);
    port_out(0xcf8, 2, 0), port_out(0xcfa, 1, 0); /* narrow: not the address register */
    EXPECT(port_in(0xcf8, 4) == 0x80000800);
    wr(1, 0, 4, 0), wr(1, 8, 4, 0), wr(1, 0x2c, 4, 1);
    EXPECT(rd(1, 0, 4) == 0x10411af4 && rd(1, 8, 4) == 0x02000000 && rd(1, 0x2c, 4) == 0);
    wr(1, 0x3c, 1, 0xab);
    EXPECT(rd(1, 0x3c, 2) == 0x01ab);
    EXPECT(host.resets == 0);
    port_out(0xcf9, 1, 2), port_out(0xcf9, 1, VM_RESET_VALUE);
    EXPECT(host.resets == 1);
}

static void test_bars(void)
{
    start();
    uint64_t at = rd(1, 0x20, 4) & ~15u;
    EXPECT((rd(1, 0x20, 4) & 15) == 4 && rd(1, 0x24, 4) == 0 && at >= VM_PCI_HOLE);
    EXPECT(mem(at) == ~0ull); /* not before memory is turned on */
    wr(1, 0x20, 4, 0xffffffff), wr(1, 0x24, 4, 0xffffffff);
    EXPECT(rd(1, 0x20, 4) == 0xffffc004 && rd(1, 0x24, 4) == 0xffffffff);
    wr(1, 0x20, 4, (uint32_t)at), wr(1, 0x24, 4, 0);
    wr(1, 4, 2, 2);
    EXPECT(mem(at + 16) == 0x1010);
    wr(1, 0x20, 4, 0), wr(1, 0x24, 4, 1); /* to 4 GiB */
    EXPECT(mem(at) == ~0ull && mem(0x100000008) == 0x1008);
    EXPECT(mem(0x100003ffd) == ~0ull); /* across its end */
    wr(1, 4, 2, 0);
    EXPECT(mem(0x100000008) == ~0ull);
    wr(1, 0x10, 4, 0xffffffff);
    EXPECT(rd(1, 0x10, 4) == 0xffffffe1);
    wr(1, 0x10, 4, 0xc101), wr(1, 4, 2, 1);
    EXPECT(port_in(0xc104, 4) == 0x1004);
    port_out(0xc108, 2, 7);
    EXPECT(written == (8ull << 32 | 7));
    EXPECT(rd(1, 0x14, 4) >= VM_PCI_HOLE && rd(1, 0x18, 4) == 0 && rd(1, 0x28, 4) == 0);
}

/* A BAR over others' places gets none of it; when they leave, it is there. */
static void test_overlap(void)
{
    static uint64_t owner;
    start();
    struct io_range other = {0xf0000000, 4096, &owner, bar_read, bar_write, false};
    EXPECT(mmio_add(&other) == 0);
    wr(2, 0x18, 4, 0xf0000000), wr(2, 4, 2, 2);
    EXPECT(!disk.bar[2].mapped);
    wr(1, 0x20, 4, 0xf0004000), wr(1, 0x24, 4, 0), wr(1, 4, 2, 2);
    EXPECT(mem(0xf0004000) == 0x1000);
    wr(2, 0x18, 4, 0xf0005000);
    EXPECT(!disk.bar[2].mapped && mem(0xf0005000) == 0x2000);
    wr(1, 0x20, 4, 0xf0008000);
    EXPECT(disk.bar[2].mapped && mem(0xf0005004) == 0x2004);
    for (unsigned i = 0; i < 10000; i++) { /* all over the place */
        wr(1, 4, 2, (uint32_t)host_random(4));
        wr(1, 0x10 + 4 * (unsigned)host_random(6), 4, (uint32_t)host_random(~0u));
        wr(2, 0x18, 4, (uint32_t)host_random(4) << 12 | 0xf0000000);
    }
    EXPECT(port_in(0xcf8, 4) != 0xffffffff);
}

static void test_capabilities(void)
{
    static const uint8_t bytes[64] = {9, 0, 64, 1};
    start();
    EXPECT(pci_capability(&card, bytes, 16) == 0x4c);
    EXPECT(pci_capability(&card, bytes, 20) == 0x5c);
    EXPECT(rd(1, 6, 2) & 0x10 && rd(1, 0x34, 1) == 0x40 && rd(1, 0x40, 1) == 0x11);
    EXPECT(rd(1, 0x41, 1) == 0x4c && rd(1, 0x4d, 1) == 0x5c && rd(1, 0x5d, 1) == 0);
    card.writable[0x60] = 0x0f;
    hooks = 0;
    wr(1, 0x60, 4, 0xffffffff);
    EXPECT(rd(1, 0x60, 4) == 0x0f && hooks == 2);
    EXPECT(pci_capability(&card, bytes, 64) == 0x70 && pci_capability(&card, bytes, 64) == 0xb0);
    EXPECT(pci_capability(&card, bytes, 20) == -EXO_E_LIMIT);
    EXPECT(pci_capability(&card, bytes, 3) == -EXO_E_LIMIT);
    rd(1, 0xff, 1), wr(1, 0xfc, 4, 0);
    struct pci_function bad = {.vectors = PCI_VECTORS + 1};
    EXPECT(pci_add(&bad) == -EXO_E_BOUND);
    bad = (struct pci_function){.bar[5] = {.size = 4096, .wide = true}};
    EXPECT(pci_add(&bad) == -EXO_E_BOUND);
    bad = (struct pci_function){.bar[0] = {.size = 5000}};
    EXPECT(pci_add(&bad) == -EXO_E_BOUND);
}

static void table_set(unsigned vector, uint64_t address, uint32_t data, uint32_t control)
{
    uint64_t at = (rd(1, 0x14, 4) & ~15u) + 16 * vector;
    EXPECT(mmio_write(at, 8, address));
    EXPECT(mmio_write(at + 8, 4, data) && mmio_write(at + 12, 4, control));
}

static void test_msix(void)
{
    start();
    wr(1, 4, 2, 6);
    EXPECT((rd(1, 0x42, 2) & 0x7ff) == 2 && rd(1, 0x44, 4) == 1 && rd(1, 0x48, 4) == 0x801);
    pci_msix_send(&card, 0);
    EXPECT(host.messages == 0); /* off */
    wr(1, 0x42, 2, 0xffff);
    EXPECT(rd(1, 0x42, 2) == 0xc002);
    table_set(1, 0xfee02000, 0x4071, 0);
    pci_msix_send(&card, 1);
    EXPECT(host.messages == 0 && mem((rd(1, 0x14, 4) & ~15u) + 0x800) == 2); /* all masked */
    wr(1, 0x42, 2, 0x8000);
    EXPECT(host.messages == 1 && host.message_address == 0xfee02000 && host.message_data == 0x4071);
    pci_msix_send(&card, 2); /* masked: entries begin so */
    EXPECT(host.messages == 1);
    table_set(2, 0xfee01000, 0x72, 0);
    EXPECT(host.messages == 2 && host.message_data == 0x72);
    pci_msix_send(&card, 3), pci_msix_send(&card, PCI_NO_VECTOR);
    EXPECT(host.messages == 2);
    wr(1, 4, 2, 2); /* no bus master: no messages */
    pci_msix_send(&card, 1);
    EXPECT(host.messages == 2);
    mmio_write((rd(1, 0x14, 4) & ~15u) + 16 * 3, 8, ~0ull); /* beyond its entries */
    mmio_write((rd(1, 0x14, 4) & ~15u) + 0xff8, 8, ~0ull);
    mmio_write((rd(1, 0x14, 4) & ~15u) + 1, 2, ~0ull);
    EXPECT(mem((rd(1, 0x14, 4) & ~15u) + 16 * 3) == 0);
}

static void test_intx(void)
{
    static struct pci_function second;
    start();
    second = (struct pci_function){.vendor = 1, .device = 1, .intx = true};
    EXPECT(pci_add(&second) == 0 && second.slot == 3);
    unsigned gsi = pci_gsi(1);
    EXPECT(gsi == pci_gsi(3) && gsi != pci_gsi(2) && rd(1, 0x3d, 1) == 1);
    pci_intx_set(&card, true), pci_intx_set(&second, true);
    EXPECT(host.line[gsi] && host.rises[gsi] == 1 && rd(1, 6, 2) & 8);
    pci_intx_set(&card, false);
    EXPECT(host.line[gsi] && !(rd(1, 6, 2) & 8));
    pci_intx_set(&second, false);
    EXPECT(!host.line[gsi]);
    pci_intx_set(&card, true);
    wr(1, 4, 2, 0x400); /* disabled by command */
    EXPECT(!host.line[gsi]);
    wr(1, 4, 2, 0);
    EXPECT(host.line[gsi]);
    wr(1, 0x42, 2, 0x8000); /* MSI-X takes its place */
    EXPECT(!host.line[gsi]);
    wr(1, 0x42, 2, 0);
    EXPECT(host.line[gsi]);
}

static void test_many(void)
{
    static struct pci_function many[PCI_SLOTS];
    pci_init();
    for (unsigned i = 1; i < PCI_SLOTS; i++)
        EXPECT(pci_add(&many[i]) == 0 && many[i].slot == i);
    EXPECT(pci_add(&many[0]) == -EXO_E_LIMIT);
}

int main(void)
{
    host_test("PCI: finding functions", test_find);
    host_test("PCI: BARs", test_bars);
    host_test("PCI: BARs over each other", test_overlap);
    host_test("PCI: capabilities", test_capabilities);
    host_test("PCI: MSI-X", test_msix);
    host_test("PCI: INTA#", test_intx);
    host_test("PCI: all slots", test_many);
    return host_status();
}
