/* SPDX-License-Identifier: MIT
 *
 * Makes root: the env, its first thread, its address space and its capabilities (the
 * list in abi/exo.h), out of RAM from the top and the program "root" of the boot
 * archive. After the first few objects are made by hand, all of it goes through the
 * same calls as everybody's, made as root's thread, and is counted like theirs.
 *
 * Runs once, on the boot CPU, before anybody else does: no locks. The archive is not
 * trusted to be well-formed: every offset is checked before it is used.
 */
#include "x86.h"

#define ROOT_TABLES 32u
#define ENV_FRAMES (3 + ROOT_TABLES)
#define THREAD_FRAMES 2u
#define DEVICE_END 0xfec00u /* frame of the first I/O APIC: the kernel's from here */

/* The program, as tools/image.py makes it: this, then its pages, those to execute first, then
 * those to read, then those to write; what the file does not have of them is zero. */
struct image {
    uint64_t magic, va, entry, pages[3];
};
#define IMAGE_MAGIC 0x31746f6f724f5845 /* "EXOroot1" */
#define IMAGE_PAGES_MAX 0x100000

/* Two calls of core, and the one that starts a thread: abi/calls.list. */
long sys_page_bind(uint64_t env, uint64_t va, uint64_t pages, uint64_t sel, uint64_t frame,
                   uint64_t rights);
long sys_pt_make(uint64_t env, uint64_t va, uint64_t level, uint64_t sel, uint64_t frame);
void sys_thread_start(struct thread *t);

static struct {
    frame_t env, thread;
    frame_t next, end; /* frames of EXO_ROOT_MEMORY not used yet */
} root;

/* ---- archive: cpio newc (cpio(5)) ----------------------------------------------------- */
#define CPIO_HEADER 110u
#define CPIO_FILE_BYTES 54u /* offsets of two fields of 8 hexadecimal digits */
#define CPIO_NAME_BYTES 94u

/* 8 hexadecimal digits; of anything else some number. */
static uint64_t hex_read(const char *digits)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value = value << 4 | (((unsigned)digits[i] & 15) + (digits[i] > '9' ? 9 : 0));
    return value & UINT32_MAX;
}

/* The file of that name (with its final zero byte), or NULL. */
static const char *archive_find(const char *name, size_t name_bytes, uint64_t *bytes)
{
    const char *archive = phys_ptr(boot.archive);
    uint64_t at = 0;
    while (at + CPIO_HEADER <= boot.archive_bytes) {
        const char *header = archive + at;
        uint64_t names = hex_read(header + CPIO_NAME_BYTES);
        uint64_t data = (at + CPIO_HEADER + names + 3) & ~3ul;
        *bytes = hex_read(header + CPIO_FILE_BYTES);
        if (memcmp(header, "070701", 6) != 0) return NULL;
        if (data > boot.archive_bytes || *bytes > boot.archive_bytes - data) return NULL;
        if (names == name_bytes && !memcmp(header + CPIO_HEADER, name, name_bytes))
            return archive + data;
        at = (data + *bytes + 3) & ~3ul;
    }
    return NULL;
}

/* ---- memory ------------------------------------------------------------------------------ */
static frame_t frames_take(uint64_t n)
{
    if (n > root.end - root.next) panic("root needs more memory than was counted");
    frame_t f = root.next;
    root.next += (frame_t)n;
    for (frame_t i = f; i < root.next; i++)
        page_clear(i);
    return f;
}

static void tables_make(uint64_t va)
{
    for (unsigned level = 3; level >= 1; level--) {
        long r = sys_pt_make(EXO_SELF, va, level, EXO_ROOT_MEMORY, root.next);
        if (r == 0)
            root.next++;
        else if (r != -EXO_E_BOUND)
            panic("root's page table of level %u for %lx: error %ld", level, va, -r);
    }
}

static void map(uint64_t va, uint64_t pages, unsigned sel, frame_t frame, unsigned rights)
{
    while (pages) {
        uint64_t n = pages < EXO_RANGE_MAX ? pages : EXO_RANGE_MAX;
        long r = sys_page_bind(EXO_SELF, va, n, sel, frame, rights);
        if (r == -EXO_E_NOPT) {
            tables_make(va);
            continue;
        }
        if (r <= 0) panic("root's memory at %lx cannot be bound: error %ld", va, -r);
        va += (uint64_t)r << 12;
        frame += (frame_t)r;
        pages -= (uint64_t)r;
    }
}

/* ---- the program --------------------------------------------------------------------------- */
/* Returns its pages. */
static uint64_t image_read(struct image *image, const char *file, uint64_t bytes)
{
    uint64_t pages = 0;
    if (bytes < sizeof *image) panic("root is no image for this kernel");
    memcpy(image, file, sizeof *image);
    for (unsigned i = 0; i < 3; i++)
        pages += image->pages[i] < IMAGE_PAGES_MAX ? image->pages[i] : IMAGE_PAGES_MAX;
    if (image->magic != IMAGE_MAGIC || image->va % EXO_PAGE != 0 || image->va >= EXO_INFO_VA ||
        pages >= IMAGE_PAGES_MAX || pages > (EXO_INFO_VA - image->va) / EXO_PAGE ||
        bytes - sizeof *image > pages * EXO_PAGE)
        panic("root is no image for this kernel");
    return pages;
}

static void image_load(const struct image *image, uint64_t pages, const char *file, uint64_t bytes)
{
    static const unsigned rights[] = {EXO_R | EXO_X, EXO_R, EXO_R | EXO_W};
    frame_t frame = frames_take(pages);
    uint64_t va = image->va;
    memcpy(phys_ptr((uint64_t)frame << 12), file + sizeof *image, bytes - sizeof *image);
    for (unsigned i = 0; i < 3; i++) {
        map(va, image->pages[i], EXO_ROOT_MEMORY, frame, rights[i]);
        va += image->pages[i] * EXO_PAGE;
        frame += (frame_t)image->pages[i];
    }
}

/* ---- objects and capabilities ------------------------------------------------------------------ */
/* A capability that comes from no other. */
static void cap_root(unsigned sel, unsigned kind, unsigned rights, uint64_t base, uint64_t count,
                     uint64_t cache)
{
    struct cap *c = &caps[env_caps(root.env) + sel];
    c->rights = (uint8_t)rights;
    c->base = base;
    c->count = count;
    c->badge = cache;
    c->env = root.env;
    c->kind = (uint8_t)kind;
}

/* The capability that an object is made with, a child of EXO_ROOT_MEMORY. */
static void cap_object(unsigned sel, unsigned kind, frame_t object)
{
    struct cap contents = {.kind = (uint8_t)kind,
                           .rights = EXO_RIGHTS_ALL,
                           .flags = CAP_OWNER,
                           .base = object,
                           .count = 1};
    cref_t table = env_caps(root.env);
    if (cap_insert(table + EXO_ROOT_MEMORY, table + sel, root.env, false, &contents) != 0)
        panic("root's capability %u", sel);
}

static void objects_make(uint64_t frames)
{
    frame_t e = root.env = frames_take(ENV_FRAMES);
    frame_t t = root.thread = frames_take(THREAD_FRAMES);
    if (object_type(e, ENV_FRAMES, e, ROOT_TABLES) != 0 || object_type(t, THREAD_FRAMES, e, 0) != 0)
        panic("root's objects cannot be made");
    env_init(e, ROOT_TABLES, 0, env_caps(e) + EXO_ROOT_ENV);
    cap_root(EXO_ROOT_MEMORY, EXO_FRAMES, EXO_RIGHTS_ALL, e, frames, CACHE_WB);
    cap_object(EXO_ROOT_ENV, EXO_ENV, e);
    thread_init(t, e, 0, env_caps(e) + EXO_ROOT_THREAD);
    envs[e].threads++;
    cap_object(EXO_ROOT_THREAD, EXO_THREAD, t);
}

/* All I/O ports but the kernel's: 8259s, keyboard controller and port 0x92 (reset),
 * SMI command, PCI configuration. */
static void ports_give(void)
{
    static const uint32_t kept[][2] = {{0x20, 0x22},      {0x64, 0x65}, {0x92, 0x93},
                                       {0xa0, 0xa2},      {0xb2, 0xb4}, {0xcf8, 0xd00},
                                       {0x10000, 0x10000}};
    uint32_t from = 0;
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) {
        cap_root(EXO_ROOT_PORTS + i, EXO_PORTS, EXO_USE, from, kept[i][0] - from, 0);
        from = kept[i][1];
    }
}

/* Device memory: from the end of everything that the firmware named below the I/O APIC. */
static void devices_give(void)
{
    uint64_t from = 0;
    for (unsigned i = 0; i < boot.ranges; i++) {
        uint64_t end = (boot.range[i].end + EXO_PAGE - 1) >> 12;
        if (end <= DEVICE_END && end > from)
            from = end;
        else if (end > DEVICE_END && boot.range[i].base >> 12 < DEVICE_END)
            return; /* no hole that is certain */
    }
    cap_root(EXO_ROOT_DEVMEM, EXO_FRAMES, EXO_R | EXO_W, from, DEVICE_END - from, CACHE_UC);
}

static void memory_give(void)
{
    cap_root(EXO_ROOT_ARCHIVE, EXO_FRAMES, EXO_RIGHTS_ALL, info->archive_frame, info->archive_count,
             CACHE_WB);
    memset(phys_ptr(boot.archive + boot.archive_bytes), 0, -boot.archive_bytes & (EXO_PAGE - 1));
    for (unsigned i = 0; i < ram_count; i++) {
        if (!ram[i].count) continue;
        unsigned n = info->ram_count++;
        info->ram[n].sel = EXO_ROOT_RAM + n;
        info->ram[n].base = ram[i].base;
        info->ram[n].count = ram[i].count;
        cap_root(EXO_ROOT_RAM + n, EXO_FRAMES, EXO_RIGHTS_ALL, ram[i].base, ram[i].count, CACHE_WB);
    }
    info->sel_free = EXO_ROOT_RAM + info->ram_count;
}

static void thread_begin(uint64_t entry)
{
    struct thread *t = &threads[root.thread];
    t->regs.rdi = EXO_ROOT_THREAD;
    t->regs.rsi = entry;
    t->regs.rdx = EXO_STACK_VA + (uint64_t)EXO_STACK_PAGES * EXO_PAGE;
    t->regs.r10 = EXO_INFO_VA;
    sys_thread_start(t);
    if (t->state != EXO_T_READY) panic("root's entry %lx is no user address", entry);
    this_cpu()->cur = 0;
    percpu()->cur = NULL;
}

void load_root(void)
{
    struct image image;
    uint64_t bytes;
    if (!boot.archive_bytes || boot.archive & (EXO_PAGE - 1))
        panic("no boot archive (initrd, module2), or it does not begin a page");
    const char *file = archive_find("root", sizeof "root", &bytes);
    if (!file) panic("the boot archive is no cpio archive (newc) or has no file \"root\"");
    uint64_t pages = image_read(&image, file, bytes);
    /* Frames: page tables at most 4 a mapped stretch, and one every 2 MiB of it. */
    uint64_t frames = ENV_FRAMES + THREAD_FRAMES + EXO_STACK_PAGES;
    frames += 4 * 6 + exposed_count / 512 + pages + pages / 512;
    if (frames >= nframes) panic("root needs %lu KiB, more than there is", frames * 4);
    root.next = memory_take_top((uint32_t)frames);
    root.end = root.next + (frame_t)frames;

    objects_make(frames);
    this_cpu()->cur = root.thread; /* the calls below are root's own */
    percpu()->cur = &threads[root.thread];
    cap_root(EXO_ROOT_TABLES, EXO_FRAMES, EXO_R, exposed_frame, exposed_count, CACHE_WB);
    cap_root(EXO_ROOT_SLOTS, EXO_SLOTS, EXO_USE, 0, (uint64_t)ncpus * EXO_SLOTS_PER_CPU, 0);
    cap_root(EXO_ROOT_IRQS, EXO_IRQS, EXO_USE, 0, EXO_IRQ_COUNT, 0);
    ports_give();
    devices_give();
    memory_give();
    image_load(&image, pages, file, bytes);
    map(EXO_INFO_VA, exposed_count, EXO_ROOT_TABLES, exposed_frame, EXO_R);
    map(EXO_UPCALL_VA, 1, EXO_ROOT_MEMORY, root.thread + 1, EXO_R | EXO_W);
    map(EXO_VECTOR_VA, 1, EXO_ROOT_MEMORY, root.env + 2, EXO_R | EXO_W);
    map(EXO_STACK_VA, EXO_STACK_PAGES, EXO_ROOT_MEMORY, frames_take(EXO_STACK_PAGES),
        EXO_R | EXO_W);
    thread_begin(image.entry);
}
