/* SPDX-License-Identifier: MIT
 *
 * The monitor's beginning: reads the virtual machine's configuration (a file of the boot
 * archive, named by the program's arguments), makes memory, devices and virtual CPUs, and
 * loads what is to run. Then its first thread carries what comes from outside: what the
 * user types, packets, and the guest's end or reset.
 */
#include "../lib/exo/channel.h"
#include "load.h"
#include "vcpu.h"

#define COM1 0x3f8
#define COM1_FIFO 16 /* the kernel has turned it on: room for so much when the status says empty */
#define COM1_IRQ 4
#define DISK_VA 0x0000140000000000ul
#define SHARED_VA 0x0000130000000000ul /* our starter's page */
#define DISK_SPAN 0x100000000ul /* of each disk */
#define CONSOLE_RETRY_US 10000 /* when the guest does not read what is typed */
#define CONSOLE_STATUS 5 /* line status register; bit 0: a byte is there, 5: room for one */

static struct vm_config config;
static struct disk disks[VM_DISKS];
static struct exo_channel console;
static bool has_console;
static struct exo_channel log_channel; /* what the monitor itself has to say, besides */
static bool has_log;
static uint64_t control; /* event of the control channel */
static struct vm_shared own_shared;
struct vm_shared *vm_shared = &own_shared;

/* ---- output and input ------------------------------------------------------------------ */

static void port_write(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        while (i % COM1_FIFO == 0 &&
               !(exo_port_in(exo.start.sel_console, COM1 + CONSOLE_STATUS, 1) & 0x20))
            ;
        exo_port_out(exo.start.sel_console, COM1, 1, (uint8_t)text[i]);
    }
}

/* What does not fit is lost: a guest does not wait for its user. */
void console_write(const void *data, size_t n)
{
    if (has_console)
        (void)exo_channel_write(&console, data, n);
    else if (exo.start.sel_console)
        port_write(data, n);
}

void monitor_write(const char *text, size_t length)
{
    console_write(text, length);
    if (has_log) (void)exo_channel_write(&log_channel, text, length);
}

static void console_open(void)
{
    long r = exo_channel_find(&console, NULL, "console");
    has_console = r == 0;
    has_log = exo_channel_find(&log_channel, NULL, "log") == 0;
    if (has_console || has_log) exo_writer = monitor_write;
    if (r < 0 && r != -EXO_E_NONE)
        exo_printf("%s: the console's channel: %s\n", exo.start.name, exo_strerror(r));
}

/* The guest's /dev/console is its virtio console: the last console that Linux's command line
 * names. Until that device's driver runs, the serial port stands in for it. */
static bool input_is_virtio(void)
{
    static const char word[] = "console=";
    bool virtio = false;
    for (const char *at = config.extra; *at; at++)
        if ((at == config.extra || at[-1] == ' ') && !strncmp(at, word, strlen(word)))
            virtio = !strncmp(at + strlen(word), "hvc", 3);
    return virtio && virtio_console_live();
}

/* A firmware reads the keyboard, and may leave the serial port alone for ever. */
static size_t input_room(bool virtio)
{
    return *config.firmware ? 64 : virtio ? virtio_console_room() : uart_room();
}

/* What was typed, as far as the guest's port has room: true when there is none left and the
 * channel is to be looked at again later. With the device lock. */
static bool console_read(void)
{
    char typed[64];
    size_t room;
    bool virtio = input_is_virtio();
    while (has_console && (room = input_room(virtio))) {
        size_t n = exo_channel_read(&console, typed, EXO_MIN(room, sizeof(typed)));
        if (!n) return false; /* the channel's event tells of more */
        (virtio ? virtio_console_receive : uart_receive)(typed, n);
        for (size_t i = 0; *config.firmware && i < n; i++)
            i8042_type(typed[i]);
    }
    return has_console;
}

/* ---- the machine --------------------------------------------------------------------------- */

static _Noreturn void give_up(const char *what, long error)
{
    exo_printf("%s: %s: %s\n", exo.start.name, what, exo_strerror(error));
    exo_exit(1);
}

static struct vm_image file_open(const char *name, const char *what)
{
    struct vm_image image = {NULL, 0};
    size_t size;
    if (!*name) return image;
    long r = exo_archive_find(name, &image.data, &size);
    if (r < 0) {
        exo_printf("%s: %s: the boot archive has no file '%s': %s\n", exo.start.name, what, name,
                   exo_strerror(r));
        exo_exit(1);
    }
    image.bytes = size;
    return image;
}

static void shared_open(void)
{
    const struct exo_range *given = &exo.start.shared;
    if (!given->sel) return;
    long r = exo_bind(&exo.pool, SHARED_VA, 1, given->sel, given->first, EXO_R | EXO_W);
    if (r < 0) give_up("the page that our starter sees", r);
    vm_shared = (struct vm_shared *)SHARED_VA;
}

/* An image that the guest writes is a copy of its own; else it is the archive's. */
static void disk_make(struct disk *disk, unsigned index)
{
    const struct vm_disk_config *c = &config.disk[index];
    struct vm_image image = file_open(c->file, "disk");
    uint64_t bytes = c->bytes > image.bytes ? c->bytes : image.bytes;
    bytes = (bytes + 511) & ~511ul;
    *disk = (struct disk){.bytes = bytes, .read_only = c->read_only, .io = &vm_shared->disk};
    memcpy(disk->name, c->name, sizeof(disk->name));
    if (c->read_only && bytes == image.bytes) {
        disk->data = (uint8_t *)(uintptr_t)image.data;
        return;
    }
    uint64_t va = DISK_VA + index * DISK_SPAN, pages = (bytes + EXO_PAGE - 1) / EXO_PAGE;
    long r = bytes > DISK_SPAN ? -EXO_E_RANGE : exo_map(va, pages, EXO_R | EXO_W);
    if (r < 0) give_up("memory for a disk", r);
    disk->data = (uint8_t *)va;
    memcpy(disk->data, image.data, image.bytes);
}

/* All devices as after power-on. */
static void devices_reset(void)
{
    io_reset();
    for (unsigned i = 0; i < config.cpus; i++)
        lapic_reset(i);
    msr_reset();
    pic_init();
    ioapic_init();
    pit_init();
    cmos_init(guest_ram_low(), guest_ram_high());
    i8042_init();
    uart_init(COM1, COM1_IRQ);
    debug_port_init();
    acpi_pm_init();
    pci_init();
    virtio_rng_add();
    virtio_balloon_add();
    virtio_console_add();
    for (unsigned i = 0; i < config.disks; i++)
        virtio_blk_add(&disks[i]);
    net_add(&config);
}

/* By what the file is, where the configuration does not say. */
static enum vm_loader loader_find(const struct vm_image *kernel)
{
    uint32_t magic = 0;
    if (config.loader != VM_LOAD_AUTO) return config.loader;
    if (*config.firmware) return VM_LOAD_FIRMWARE;
    if (kernel->bytes > 0x206) memcpy(&magic, (const char *)kernel->data + 0x202, 4);
    if (magic == 0x53726448) return VM_LOAD_BZIMAGE; /* "HdrS" */
    return load_pvh_entry(kernel) ? VM_LOAD_PVH : VM_LOAD_MULTIBOOT;
}

static void load(struct vm_start *start)
{
    struct vm_image kernel = file_open(config.kernel, "kernel");
    struct vm_image ramdisk = file_open(config.ramdisk, "ramdisk");
    struct vm_image firmware = file_open(config.firmware, "firmware");
    enum vm_loader loader = loader_find(&kernel);
    if (loader == VM_LOAD_PROGRAM) {
        exo_printf("%s: a program of the exokernel is no guest\n", exo.start.name);
        exo_exit(1);
    }
    uint64_t acpi = loader == VM_LOAD_FIRMWARE ? 0 : acpi_build(config.cpus);
    long r = loader == VM_LOAD_FIRMWARE ? load_firmware(&firmware, start)
             : loader == VM_LOAD_BZIMAGE
                 ? load_bzimage(&kernel, &ramdisk, config.extra, acpi, start)
             : loader == VM_LOAD_PVH ? load_pvh(&kernel, &ramdisk, config.extra, acpi, start)
                                     : load_multiboot(&kernel, &ramdisk, config.extra, acpi, start);
    if (r < 0) exo_exit(1); /* the loader said why */
}

/* The time slots of a CPU: one for the thread that answers exits, the others for the virtual
 * CPU. Those of our own CPU were all the first thread's: it keeps one. */
static void slots_give(unsigned index, unsigned cpu)
{
    const struct exo_range *r = &exo.start.slots[cpu];
    uint32_t first = cpu == exo.start.cpu ? 1 : 0, host = exo.start.cpus;
    uint32_t sharing = (config.cpus - index % host + host - 1) / host; /* virtual CPUs there */
    for (uint32_t i = first + index / host; i < r->count; i += sharing) {
        bool one = i == first + index / host;
        if (first) exo_slot_unbind(r->sel, r->first + i);
        exo_slot_bind(r->sel, r->first + i, one ? vcpus[index].task.sel : vcpus[index].cpu.thread,
                      0);
    }
}

static void cpus_make(void)
{
    for (unsigned i = 0; i < config.cpus; i++) {
        unsigned cpu = (exo.start.cpu + i) % exo.start.cpus;
        long r = vcpu_make(i, cpu);
        if (r < 0) give_up("a virtual CPU", r);
        slots_give(i, cpu);
    }
}

/* ---- the life of the guest ------------------------------------------------------------------ */

/* Until the guest ends; true: it is to start again. */
static bool serve(void)
{
    uint64_t events = EV_MAIN | net_events() | control | (has_console ? console.event : 0);
    for (;;) {
        vm_lock();
        bool full = console_read();
        control_look();
        vm_unlock();
        if (vm_end() != VM_RUNS && vcpus_parked()) break;
        long got = exo_event_wait(events, full ? exo_in_us(CONSOLE_RETRY_US) : 0);
        vm_lock();
        if (got > 0) net_look((uint64_t)got);
        vm_unlock();
    }
    vm_lock();
    uart_flush();
    vm_unlock();
    return vm_end() == VM_RESET && config.on_reboot_restart;
}

int main(struct exo_startup *start)
{
    struct vm_start first;
    console_open();
    shared_open();
    control = control_open();
    struct vm_image text = file_open(start->args, "configuration");
    if (!text.data) {
        exo_printf("%s: no configuration: args=FILE of the boot archive\n", start->name);
        return 1;
    }
    uint32_t errors = config_read(&config, text.data, text.bytes);
    if (errors) {
        exo_printf("%s: %u mistakes in '%s'\n", start->name, errors, start->args);
        return 1;
    }
    time_init(start->tsc_hz, exo_wall(exo_tsc()));
    long r = memory_init(config.memory, config.cpus);
    if (r < 0) give_up("guest memory (memory= or block= in root's configuration)", r);
    for (unsigned i = 0; i < config.disks; i++)
        disk_make(&disks[i], i);
    cpuid_init(config.cpus);
    cpus_make();
    vm_shared->memory = config.memory;
    vm_shared->cpus = config.cpus;
    bool again;
    do {
        vm_lock();
        devices_reset();
        load(&first);
        vm_unlock();
        r = vcpus_start(&first);
        if (r < 0) give_up("the virtual CPUs do not start", r);
        again = serve();
        if (again) memory_clear();
    } while (again);
    return vm_end() == VM_FAILED;
}
