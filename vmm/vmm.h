/* SPDX-License-Identifier: MIT
 *
 * The monitor of one virtual machine: an unprivileged env. What its parts offer each
 * other. Device models know this header and nothing else of the monitor, so that each
 * is also built for the host, where tests stand in for the rest.
 *
 * Threads: one a virtual CPU (its exits are calls to this thread's gate), and the env's
 * first one for what comes from outside (console input, packets). Device functions run
 * under the one device lock (vm_lock); handlers of ports, MMIO and timers are called
 * with it held. Guest memory is read and written by virtual CPUs at any moment: every
 * value is fetched once, checked, then used.
 */
#ifndef VMM_H
#define VMM_H

#include "../abi/vm.h"
#include "../lib/exo/exo.h"
#include "shared.h"

#define VM_DISKS 4
#define VM_CARDS 4
#define VM_RAM_HOLE 0xc0000000ull /* RAM below here; what is more lies from 4 GiB on */
#define VM_PCI_HOLE 0xe0000000ull /* memory BARs: from here to the I/O APIC */
#define VM_IOAPIC 0xfec00000ull
#define VM_LAPIC 0xfee00000ull

/* ---- configuration (config.c): the form that xl users know ------------------------- */
enum vm_loader {
    VM_LOAD_AUTO,
    VM_LOAD_BZIMAGE,
    VM_LOAD_PVH,
    VM_LOAD_MULTIBOOT,
    VM_LOAD_FIRMWARE,
    VM_LOAD_PROGRAM, /* no guest: a program of the exokernel's own, for who starts such */
};
struct vm_disk_config {
    char file[64]; /* of the boot archive; "" and bytes: empty RAM disk */
    char name[16]; /* "xvda", "vda" */
    uint64_t bytes;
    bool read_only;
};
struct vm_card_config {
    uint8_t mac[6];
    char bridge[32]; /* the channel's tag */
};
struct vm_config {
    char name[32];
    char kernel[64], ramdisk[64], extra[1024], firmware[64];
    enum vm_loader loader;
    uint64_t memory; /* bytes */
    uint32_t cpus;
    uint32_t disks, cards;
    struct vm_disk_config disk[VM_DISKS];
    struct vm_card_config card[VM_CARDS];
    bool on_reboot_restart; /* on_reboot = "restart" */
};
/* Reads the text; says what is wrong with which line through exo_printf; the number of
 * mistakes. */
uint32_t config_read(struct vm_config *config, const char *text, uint64_t size);

/* ---- guest memory (memory.c) ---------------------------------------------------------- */
/* The bytes at a guest-physical address in our own space; NULL unless all are RAM. */
void *guest_ptr(uint64_t address, uint64_t bytes);
/* False, and nothing or part of it done, unless all of it is RAM. */
bool guest_read(uint64_t address, void *to, uint64_t bytes);
bool guest_write(uint64_t address, const void *from, uint64_t bytes);
uint64_t guest_ram_low(void); /* bytes from 0 on */
uint64_t guest_ram_high(void); /* bytes from 4 GiB on */

/* ---- who answers which address (io.c) ---------------------------------------------------- */
/* size is 1, 2, 4 (ports) or 1, 2, 4, 8 (MMIO); offset from the range's base, with
 * offset + size <= count. A read's unused high bits are ignored. */
typedef uint64_t io_read_fn(void *device, uint64_t offset, unsigned size);
typedef void io_write_fn(void *device, uint64_t offset, unsigned size, uint64_t value);
struct io_range {
    uint64_t base, count;
    void *device;
    io_read_fn *read;
    io_write_fn *write;
    bool bytes; /* ports of one byte each: a wider access is several */
};
/* 0; -EXO_E_BOUND: overlaps another, -EXO_E_LIMIT: too many. Ports read as ones and
 * swallow writes where nobody is. */
long port_add(const struct io_range *range);
long port_bytes_add(uint64_t base, uint64_t count, void *device, io_read_fn *read,
                    io_write_fn *write);
void port_remove(void *device, uint64_t base);
long mmio_add(const struct io_range *range);
void mmio_remove(void *device, uint64_t base);
uint64_t port_in(uint64_t port, unsigned size);
void port_out(uint64_t port, unsigned size, uint64_t value);
/* False: nobody is there (reads are ones). */
bool mmio_read(uint64_t address, unsigned size, uint64_t *value);
bool mmio_write(uint64_t address, unsigned size, uint64_t value);

/* ---- interrupts ----------------------------------------------------------------------------- */
/* A line changes: global system interrupt 0..23, to the I/O APIC and (0..15) the 8259s. */
void irq_set(unsigned gsi, bool level);
/* A message-signalled interrupt: Intel SDM vol. 3, 11.11. */
void msi_send(uint64_t address, uint32_t data);

/* lapic.c: one a virtual CPU, xAPIC and x2APIC. */
struct lapic;
void lapic_reset(unsigned cpu); /* power-on */
void lapic_init(unsigned cpu); /* INIT: as power-on, but its base and mode stay */
/* MSRs 0x1b and 0x800..0x8ff, 0x6e0. False: #GP. */
bool lapic_msr_read(unsigned cpu, uint32_t msr, uint64_t *value);
bool lapic_msr_write(unsigned cpu, uint32_t msr, uint64_t value);
uint64_t lapic_mmio_read(unsigned cpu, uint64_t offset, unsigned size);
void lapic_mmio_write(unsigned cpu, uint64_t offset, unsigned size, uint64_t value);
uint64_t lapic_base(unsigned cpu); /* its MMIO page, 0: none now */
/* An interrupt message: destination, mode, vector. */
void lapic_message(uint32_t destination, bool logical, unsigned mode, unsigned vector, bool level);
/* The vector that the CPU should take now, or -1; lapic_take moves it into service. */
int lapic_pending(unsigned cpu);
void lapic_take(unsigned cpu, unsigned vector);
/* This CPU is the one that the 8259s interrupt: pic_pending is to be asked as well. */
bool lapic_takes_pic(unsigned cpu);
/* CR8: the task priority's high half. */
uint64_t lapic_tpr(unsigned cpu);
void lapic_tpr_set(unsigned cpu, uint64_t cr8);
/* The guest's page for EOIs without an exit (KVM_PV_EOI), 0 none. */
void lapic_pv_eoi_set(unsigned cpu, uint64_t msr_value);

/* ioapic.c, pic.c */
void ioapic_init(void);
void ioapic_set(unsigned pin, bool level);
void ioapic_eoi(unsigned vector); /* a level interrupt was acknowledged */
void pic_init(void);
void pic_set(unsigned line, bool level);
int pic_pending(void); /* the 8259s ask: -1 no, else the vector pic_take would give */
unsigned pic_take(void);

/* ---- time (timer.c) ------------------------------------------------------------------------------ */
uint64_t vm_now(void); /* nanoseconds since the virtual machine was made */
uint64_t vm_tsc_hz(void); /* of the guest's time-stamp counter */
uint64_t vm_tsc(unsigned cpu); /* the guest's time-stamp counter on a CPU */
uint64_t vm_wall_clock(void); /* nanoseconds since 1970 when the virtual machine was made */
/* Calls fire(argument) once, at or soon after `at` nanoseconds, on virtual CPU `cpu`'s
 * thread. Armed again: moved. */
struct vm_timer {
    uint64_t at; /* 0: off */
    unsigned cpu;
    void (*fire)(void *argument);
    void *argument;
    struct vm_timer *next; /* timer.c's */
};
void timer_arm(struct vm_timer *timer, uint64_t at);
void timer_cancel(struct vm_timer *timer);

/* ---- virtual CPUs (vcpu.c) --------------------------------------------------------------------------- */
void vm_lock(void);
void vm_unlock(void);
unsigned vm_cpus(void);
/* Something is there for that CPU (an interrupt, INIT, SIPI, NMI): it looks soon. */
void vcpu_kick(unsigned cpu);
void vcpu_nmi(unsigned cpu);
/* An interrupt waits until the virtual CPU whose exit is being answered lets it in. */
bool vcpu_window_wanted(void);
unsigned vcpu_here(void); /* whose exit is being answered; 0 in our first thread */
void vcpu_init_signal(unsigned cpu); /* INIT: waits for a SIPI, reset */
void vcpu_sipi(unsigned cpu, unsigned vector);
void vm_power_off(void); /* ends the virtual machine at the next moment */
void vm_reset(void); /* starts it anew */
void vm_pause(bool pause); /* virtual CPUs stand still, or go on; time goes on in any case */
/* The guest did what ends it: prints what and where, then powers off. */
void vm_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Said once a place: something that the monitor does not have. */
void vm_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- devices --------------------------------------------------------------------------------------------- */
void pit_init(void); /* 8254: ports 0x40..0x43, 0x61; irq 0 */
void cmos_init(uint64_t ram_low, uint64_t ram_high); /* ports 0x70, 0x71; irq 8 */
void i8042_init(void); /* ports 0x60, 0x64: reset and a keyboard; irq 1 */
void i8042_type(char c); /* as if typed at the keyboard (ASCII); lost if it is full */
void i8042_ctrl_alt_del(void);
void debug_port_init(void); /* port 0x402: firmware's messages, to console_write */
void uart_init(unsigned port, unsigned irq); /* 16550A */
void uart_receive(const void *data, size_t n); /* what the user typed; kept while it fits */
size_t uart_room(void);
void uart_flush(void); /* what the guest has written so far goes to console_write now */
/* Ports: PM1a event +0, control +4, PM timer +8. SCI is interrupt 9, level. */
#define VM_PM_PORT 0x600
#define VM_PM_SCI 9
#define VM_PM_S5 5 /* SLP_TYP that powers off */
#define VM_RESET_PORT 0xcf9 /* pci.c; VM_RESET_VALUE written there resets */
#define VM_RESET_VALUE 6
void acpi_pm_init(void);
void acpi_power_button(void);
void pci_init(void); /* configuration space by 0xcf8, host bridge; more in pci.h */
/* Output of the guest's serial port (main.c). */
void console_write(const void *data, size_t n);

/* What our starter sees; a page of our own where it gave none (main.c). */
extern struct vm_shared *vm_shared;

/* A disk's image, all of it in our own memory. */
struct disk {
    uint8_t *data;
    uint64_t bytes;
    bool read_only;
    char name[16];
    struct vm_io *io; /* counts what was done, NULL: nobody asks */
};
void virtio_blk_add(struct disk *disk);
/* A network card; packets are those of libexo's packet.h. send: false when it does not fit
 * now: called again after virtio_net_ready. */
struct card {
    uint8_t mac[6];
    void *peer;
    size_t max; /* bytes of a packet that can be sent at all */
    bool (*send)(void *peer, const void *packet, size_t n);
    size_t (*receive)(void *peer, void *packet, size_t max); /* 0: none now */
};
void virtio_net_add(struct card *card);
void virtio_net_ready(struct card *card); /* there may be packets, or room for them */
/* net.c: cards behind channels (packet.h of libexo says what goes through them). Adds those
 * of the configuration, at each reset anew; says which channel is not there. */
void net_add(const struct vm_config *config);
uint64_t net_events(void); /* of our first thread: something changed for net_look */
void net_look(uint64_t events); /* with the device lock held */
void virtio_rng_add(void);
void virtio_console_add(void);
bool virtio_console_live(void); /* its driver runs */
size_t virtio_console_room(void); /* bytes that virtio_console_receive would keep now */
void virtio_console_receive(const void *data, size_t n); /* lost while no driver runs */
/* Balloon: give(first guest page, pages) takes pages out of the guest, true when done. */
void virtio_balloon_add(void);
void balloon_target(uint64_t pages); /* pages the guest is asked to give up */
uint64_t balloon_pages(void); /* given up now */
/* control.c: orders through a channel. The event of our first thread that says look (0: there
 * is no such channel); look with the device lock held. */
uint64_t control_open(void);
void control_look(void);
void guest_page_give(uint64_t page); /* memory.c: the guest does not need this one */

/* ---- loaders: fill guest memory and the first CPU's registers ------------------------------------------------- */
struct vm_image {
    const void *data;
    uint64_t bytes;
};
struct vm_start { /* registers at the first instruction; the rest as after reset */
    bool real_mode; /* at the reset vector */
    bool paging; /* 64-bit mode with the page tables at cr3; else flat 32-bit */
    uint64_t rip, rsp, rsi, rbx, rax, cr3;
    uint64_t gdt; /* where the loader put it */
};
/* Each: 0, or an error that it has explained through exo_printf. acpi: address of the RSDP. */
long load_bzimage(const struct vm_image *kernel, const struct vm_image *ramdisk,
                  const char *command, uint64_t acpi, struct vm_start *start);
long load_pvh(const struct vm_image *kernel, const struct vm_image *ramdisk, const char *command,
              uint64_t acpi, struct vm_start *start);
long load_multiboot(const struct vm_image *kernel, const struct vm_image *ramdisk,
                    const char *command, uint64_t acpi, struct vm_start *start);
long load_firmware(const struct vm_image *firmware, struct vm_start *start);
/* Writes the tables below 1 MiB; the RSDP's address. */
uint64_t acpi_build(unsigned cpus);
#endif
