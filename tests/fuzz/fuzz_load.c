/* SPDX-License-Identifier: MIT
 *
 * The monitor's loaders and the parser of its configuration: images and texts that are
 * right but for some bytes, each in memory of exactly its size, watched by the sanitizers.
 * Those without a mistake must load, so that the others are near to it.
 *
 *     fuzz_load SEED RUNS
 */
#include "../unit/vmm_host.c"
#include "../../vmm/load.h"
#include "../../vmm/vcpu.h"

#define IMAGE 8192u

static unsigned said; /* messages printed */
int exo_printf(const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    said++;
    return n;
}

long memory_rom(uint64_t address, const void *data, uint64_t bytes)
{
    static uint8_t rom[16 << 20];
    if (bytes > sizeof(rom) || address + bytes != 4ull << 30) abort();
    memcpy(rom, data, bytes);
    return 0;
}

/* ---- images without a mistake ------------------------------------------------------------ */

static uint8_t image[IMAGE];

static void put(unsigned at, uint64_t value, unsigned bytes) { memcpy(image + at, &value, bytes); }

static void make_bzimage(void)
{
    image[0x1f1] = 1;
    put(0x202, 0x53726448, 4);
    put(0x206, 0x20f, 2);
    image[0x201] = 0x6a;
    image[0x236] = 1;
    put(0x22c, 0x7fffffff, 4);
    put(0x238, 2047, 4);
    put(0x258, 0x200000, 8);
    put(0x260, 0x300000, 4);
}

/* ELF64 or ELF32 with one segment to load and one note. */
static void make_elf(bool wide)
{
    static const uint32_t note[] = {4, 8, 18, 0x006e6558, 0x100000, 0};
    put(0, 0x464c457f, 4);
    image[4] = wide ? 2 : 1;
    image[5] = 1;
    put(24, 0x100000, wide ? 8 : 4);
    put(wide ? 32 : 28, 64, wide ? 8 : 4);
    put(wide ? 54 : 42, wide ? 56 : 32, 2);
    put(wide ? 56 : 44, 2, 2);
    memcpy(image + 0x200, note, sizeof(note));
    const uint64_t load[] = {1, 0x1000, 0x100000, 0x100000, 0x800, 0x2000};
    const uint64_t notes[] = {4, 0x200, 0, 0, sizeof(note), sizeof(note)};
    for (unsigned i = 0; i < 6; i++) {
        unsigned bytes = wide && i ? 8 : 4;
        put(64 + (wide ? 8 * i : 4 * i), load[i], bytes);
        put(64 + (wide ? 56 + 8 * i : 32 + 4 * i), notes[i], bytes);
    }
}

static void make_multiboot1(void)
{
    const uint32_t header[] = {0x1badb002, 0x10003,  0u - 0x1badb002 - 0x10003,
                               0x100400,   0x100000, 0x101000,
                               0x102000,   0x100800};
    memcpy(image + 0x400, header, sizeof(header));
}

static void make_multiboot2(void)
{
    const uint32_t header[] = {
        0xe85250d6, 0, 64, 0u - 0xe85250d6 - 64, 2, 24, 0x100400, 0x100000, 0, 0, 3, 12, 0x100800,
        0,          0, 8};
    memcpy(image + 0x400, header, sizeof(header));
}

static const char *const texts[] = {
    "name = \"a\"\nkernel='vmlinuz'\nramdisk=\"initrd\"\nextra = \"quiet\"\nmemory = 256\n"
    "vcpus = 2\nroot=\"/dev/vda\"\n",
    "# a comment\nkernel=\"k\"; memory=64\ndisk = [ 'a.img,raw,xvda,w', 'target=ram:64M, vdev=vdb,"
    " access=r' ]\nvif=['mac=00:16:3e:01:02:03,bridge=net0', '']\n",
    "firmware = 'bios.bin'\non_reboot = 'destroy'\nboot = \"c\"\nserial = ['pty']\nloader=\"auto\"",
};

/* ---- runs -------------------------------------------------------------------------------------- */

static void mutate(uint8_t *bytes, size_t size, unsigned span)
{
    static const uint64_t likely[] = {0, 1, 8, 0x7fffffff, 0x80000000, 0xffffffff, ~0ull, 0x1000};
    for (unsigned n = (unsigned)host_random(5); n; n--) {
        size_t at = host_random(EXO_MIN(size, span));
        uint64_t value = likely[host_random(EXO_COUNT(likely))] + host_random(3) - 1;
        size_t width = 1u << host_random(4);
        if (host_random(2))
            bytes[at] ^= (uint8_t)(1u << host_random(8));
        else
            memcpy(bytes + at, &value, EXO_MIN(width, size - at));
    }
}

static long load(unsigned kind, const struct vm_image *kernel, const struct vm_image *ramdisk)
{
    struct vm_start start;
    const char *command = host_random(8) ? "console=ttyS0" : "";
    uint64_t acpi = acpi_build((unsigned)host_random(VM_CPUS) + 1);
    if (!guest_ptr(acpi, 36)) abort();
    switch (kind) {
    case 0:
        return load_bzimage(kernel, ramdisk, command, acpi, &start);
    case 1:
        return load_pvh(kernel, ramdisk, command, acpi, &start);
    case 2:
    case 3:
    case 4:
        return load_multiboot(kernel, ramdisk, command, acpi, &start);
    default:
        return load_firmware(kernel, &start);
    }
}

static void run_image(bool right)
{
    unsigned kind = (unsigned)host_random(6);
    memset(image, 0, sizeof(image));
    if (kind == 0) make_bzimage();
    if (kind == 1) make_elf(true);
    if (kind == 2) make_elf(false);
    if (kind == 2 || kind == 3) make_multiboot1();
    if (kind == 2) put(0x404, 3, 4), put(0x408, 0u - 0x1badb002 - 3, 4);
    if (kind == 4) make_multiboot2();
    size_t size = right || host_random(4) ? IMAGE : host_random(IMAGE + 1);
    size_t disk_size = host_random(64) ? host_random(5000) : host_random(HOST_RAM);
    uint8_t *copy = malloc(size ? size : 1), *disk = malloc(disk_size ? disk_size : 1);
    memcpy(copy, image, size);
    memset(disk, 0, disk_size);
    if (!right && size) mutate(copy, size, kind < 2 ? 0x400 : IMAGE);
    if (!right && size > 0x400) mutate(copy + 0x400, size - 0x400, 64);
    struct vm_image kernel = {copy, size}, ramdisk = {disk, right ? 100 : disk_size};
    said = 0;
    long r = load(kind, &kernel, &ramdisk);
    if ((right && r) || (r && !said)) {
        printf("FAIL fuzz_load: kind %u gives %ld, with %u messages\n", kind, r, said);
        exit(1);
    }
    free(copy);
    free(disk);
}

static void config_check(const struct vm_config *c)
{
    if (c->cpus < 1 || c->cpus > VM_CPUS || c->disks > VM_DISKS || c->cards > VM_CARDS ||
        c->memory < 1u << 20 || !memchr(c->name, 0, sizeof(c->name)) ||
        !memchr(c->extra, 0, sizeof(c->extra)) || !memchr(c->kernel, 0, sizeof(c->kernel)))
        abort();
    for (unsigned i = 0; i < c->disks; i++)
        if (!memchr(c->disk[i].name, 0, 16) || !memchr(c->disk[i].file, 0, 64)) abort();
}

static void run_config(bool right)
{
    static const char meant[] = "=[]'\",;# \n\t:0129azM";
    struct vm_config config;
    const char *text = texts[host_random(EXO_COUNT(texts))];
    size_t size = strlen(text), twice = host_random(4) || right ? 0 : size;
    char *copy = malloc(size + twice);
    memcpy(copy, text, size);
    memcpy(copy + size, text, twice);
    size += twice;
    for (unsigned n = right ? 0 : (unsigned)host_random(6); n; n--)
        copy[host_random(size)] =
            host_random(4) ? meant[host_random(sizeof(meant) - 1)] : (char)host_random(256);
    if (!right && host_random(3) == 0) size = host_random(size + 1);
    char *exact = malloc(size ? size : 1);
    memcpy(exact, copy, size);
    said = 0;
    uint32_t errors = config_read(&config, exact, size);
    config_check(&config);
    if ((right && errors) || (errors && !said)) {
        printf("FAIL fuzz_load: a configuration has %u errors\n", errors);
        exit(1);
    }
    free(exact);
    free(copy);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned long runs = argc > 2 ? strtoul(argv[2], NULL, 0) : 20000;
    host_reset();
    for (uint64_t i = 0; i < seed % 1000; i++)
        host_random(2);
    for (unsigned long i = 0; i < runs; i++) {
        run_image(i < 100);
        run_config(i < 100);
    }
    printf("PASS fuzz_load seed %lu, %lu images and configurations\n", seed, runs);
    return 0;
}
