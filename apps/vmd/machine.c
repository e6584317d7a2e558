/* SPDX-License-Identifier: MIT
 *
 * Machines: a monitor each, with memory, time slots, channels, ports of bridges, and the
 * files that its client sent. All of it comes back when the machine ends; what it wrote to
 * its console stays until the last session has read it. */
#include "vmd.h"

#define MACHINE_VA 0x0000200000000000ul
#define MACHINE_SPAN 0x100000000ul
#define CONSOLE_AT 0x80000000ul /* the files are below */
#define CONTROL_AT 0x81000000ul
#define LOG_AT 0x82000000ul
#define SHARED_AT 0x83000000ul
#define CONSOLE_RING (64u << 10)
#define SMALL_RING 4096u
#define KEPT (64u << 10)
#define OWN_FRAMES 1536 /* of a monitor without disks: 6 MiB */
#define SELECTORS 512
#define PROGRAM_SELECTORS 256
#define PROGRAM_SLOTS 4
#define SLOTS 10 /* of each CPU that it has virtual CPUs on */
#define REGION_PAGES 512 /* guest memory is bound by 2 MiB */
#define AT_ONCE 4096 /* bytes of one channel before the others' turn */
#define LAST_LOOKS 32 /* for what a machine that ends has written */

struct machine machines[MACHINES];
static uint32_t last_id;

static unsigned index_of(const struct machine *m) { return (unsigned)(m - machines); }
static uint64_t va_of(const struct machine *m) { return MACHINE_VA + index_of(m) * MACHINE_SPAN; }

static bool number_is(const char *text, uint32_t id)
{
    char digits[12];
    exo_format(digits, sizeof(digits), "%u", id);
    return !strcmp(text, digits);
}

struct machine *machine_named(const char *name)
{
    for (unsigned pass = 0; pass < 2; pass++)
        for (struct machine *m = machines; m < machines + MACHINES; m++)
            if (m->state == MACHINE_RUNS &&
                (pass ? number_is(name, m->id) : !strcmp(m->config.name, name)))
                return m;
    return NULL;
}

struct machine *machine_reserve(void)
{
    for (struct machine *m = machines; m < machines + MACHINES; m++) {
        if (m->state != MACHINE_FREE) continue;
        *m = (struct machine){.state = MACHINE_MAKING};
        return m;
    }
    return NULL;
}

long machine_files_make(struct machine *m, uint64_t bytes)
{
    uint64_t pages = (bytes + EXO_PAGE - 1) / EXO_PAGE;
    long frame = exo_map(va_of(m), pages, EXO_R | EXO_W);
    if (frame < 0) return frame;
    m->files = (struct machine_files){
        .va = va_of(m), .frame = (uint64_t)frame, .pages = pages, .bytes = bytes};
    return 0;
}

/* ---- making ------------------------------------------------------------------------------------ */

/* Finds a file as the machine's own program will; false: there is none. */
static bool file_find(const struct machine *m, const char *name, struct exo_file *file)
{
    const void *data;
    size_t size;
    if (exo_archive_parse((const char *)m->files.va, m->files.bytes, name, file)) return true;
    if (exo_archive_find(name, &data, &size) < 0) return false;
    *file = (struct exo_file){data, size};
    return true;
}

static uint64_t file_bytes(const struct machine *m, const char *name)
{
    struct exo_file file;
    return file_find(m, name, &file) ? file.size : 0;
}

/* Frames that the monitor needs itself: disks that can be written are copies. */
static uint64_t monitor_frames(const struct machine *m)
{
    uint64_t bytes = m->config.memory / 256 + file_bytes(m, m->config.firmware);
    for (uint32_t i = 0; i < m->config.disks; i++) {
        const struct vm_disk_config *disk = &m->config.disk[i];
        uint64_t size = file_bytes(m, disk->file);
        uint64_t most = disk->bytes > size ? disk->bytes : size;
        if (!disk->read_only || most > size) bytes += most + most / 256 + EXO_PAGE;
    }
    return OWN_FRAMES + bytes / EXO_PAGE;
}

/* One call of root's about memory on loan: word 0 of the reply. */
static long loan_call(uint64_t word[4])
{
    long r = exo.start.sel_service ? exo_call(exo.start.sel_service, word) : -EXO_E_RIGHTS;
    return r < 0 ? r : (long)word[0];
}

/* As machine_memory, of n frames that we have not ourselves. */
static long memory_borrow(struct machine *m, uint64_t n)
{
    if (!m->borrowed) {
        long sel = exo_sel_alloc();
        if (sel < 0) return sel;
        m->borrowed = (uint32_t)sel;
    }
    uint64_t word[4] = {EXO_SERVICE_BORROW, n, m->borrowed, MEMORY_US};
    long r = loan_call(word);
    if (r == 0) {
        m->ram = word[1];
        m->ram_count = n;
        exo_printf("%s: its memory is on loan, %lu MiB\n", m->config.name,
                   word[2] * EXO_PAGE >> 20);
    } else if (r != -EXO_E_AGAIN) {
        exo_sel_free(m->borrowed);
        m->borrowed = 0;
    }
    return r;
}

long machine_memory(struct machine *m)
{
    uint64_t n = (m->config.memory / EXO_PAGE + REGION_PAGES - 1) & -(uint64_t)REGION_PAGES;
    if (machine_is_program(m)) return 0;
    bool room = monitor_frames(m) + EXO_PAGE / sizeof(uint64_t) + n <= exo.pool.free;
    long r = m->borrowed || !room ? -EXO_E_LIMIT : exo_frames_alloc(&exo.pool, n, REGION_PAGES);
    if (r >= 0) {
        m->ram = (uint64_t)r;
        m->ram_count = n;
        return 0;
    }
    r = memory_borrow(m, n);
    if (r < 0 && r != -EXO_E_AGAIN)
        exo_printf("%s: there are no %lu MiB of memory in one piece, and none on loan\n",
                   m->config.name, m->config.memory >> 20);
    return r;
}

static long give_memory(struct machine *m)
{
    long sel = exo_child_give(&m->made.child, m->borrowed ? m->borrowed : exo.pool.sel,
                              EXO_R | EXO_W | EXO_X, m->ram, m->ram_count);
    if (sel < 0) return sel;
    m->made.child.start.block =
        (struct exo_range){(uint32_t)sel, (uint32_t)m->ram, (uint32_t)m->ram_count, 0};
    return 0;
}

static long give_pages(struct machine *m)
{
    struct exo_child *child = &m->made.child;
    long r = exo_map(va_of(m) + SHARED_AT, 1, EXO_R | EXO_W);
    if (r < 0) return r;
    m->shared_frame = (uint64_t)r;
    r = exo_child_give(child, exo.pool.sel, EXO_R | EXO_W, m->shared_frame, 1);
    if (r < 0) return r;
    child->start.shared = (struct exo_range){(uint32_t)r, (uint32_t)m->shared_frame, 1, 0};
    r = exo_child_give(child, exo.pool.sel, EXO_R, m->files.frame, m->files.pages);
    if (r < 0) return r;
    child->start.files =
        (struct exo_range){(uint32_t)r, (uint32_t)m->files.frame, (uint32_t)m->files.pages, 0};
    child->start.files_bytes = m->files.bytes;
    return 0;
}

static long give_channels(struct machine *m)
{
    struct exo_child *child = &m->made.child;
    uint64_t bit = EV_MACHINE(index_of(m)), va = va_of(m);
    long r = wire_make(&m->console, child, "console", va + CONSOLE_AT, CONSOLE_RING, bit);
    bool program = machine_is_program(m);
    if (r >= 0 && !program)
        r = wire_make(&m->control, child, "control", va + CONTROL_AT, SMALL_RING, bit);
    if (r >= 0 && !program) r = wire_make(&m->log, child, "log", va + LOG_AT, SMALL_RING, bit);
    for (uint32_t i = 0; i < m->config.cards && r >= 0; i++) {
        const char *name = m->config.card[i].bridge;
        r = bridge_join(name, child, name, &m->card[i].bridge, &m->card[i].port);
    }
    return r;
}

static long give_slots(struct machine *m)
{
    long r = 0;
    if (machine_is_program(m)) return slots_give(&m->made, m->made.child.start.cpu, PROGRAM_SLOTS);
    for (uint32_t i = 0; i < m->config.cpus && i < exo.start.cpus && r >= 0; i++)
        r = slots_give(&m->made, (m->made.child.start.cpu + i) % exo.start.cpus, SLOTS);
    return r;
}

bool machine_is_program(const struct machine *m) { return m->config.loader == VM_LOAD_PROGRAM; }

/* The env: a monitor's, or that of the program itself. */
static long env_make(struct machine *m)
{
    const struct vm_config *config = &m->config;
    unsigned cpu = (exo.start.cpu + last_id) % exo.start.cpus;
    bool program = machine_is_program(m);
    const char *name = program ? config->kernel : "vmm";
    struct exo_file file;
    if (program && config->memory / EXO_PAGE > exo.pool.free) {
        exo_printf("%s: there are no %lu MiB of memory\n", config->name, config->memory >> 20);
        return -EXO_E_LIMIT;
    }
    if (!file_find(m, name, &file)) {
        exo_printf("%s: there is no file '%s'\n", config->name, name);
        return -EXO_E_NONE;
    }
    long r = made_make(&m->made, &file, config->name,
                       program ? config->memory / EXO_PAGE : monitor_frames(m),
                       program ? PROGRAM_SELECTORS : SELECTORS, cpu, EV_FAULT(index_of(m)));
    if (r < 0) return r;
    struct exo_startup *start = &m->made.child.start;
    exo_strcpy(start->args, program ? config->extra : MACHINE_CONFIG, sizeof(start->args));
    return program ? 0 : give_memory(m);
}

long machine_start(struct machine *m)
{
    const struct vm_config *config = &m->config;
    if (machine_is_program(m)) m->config.cpus = 0;
    long r = env_make(m);
    if (r >= 0) r = give_pages(m);
    if (r >= 0) r = give_channels(m);
    if (r >= 0) r = give_slots(m);
    if (r >= 0) r = exo_kept_make(&m->kept, KEPT);
    if (r >= 0) r = made_start(&m->made);
    if (r < 0) {
        exo_printf("%s: not started: %s\n", config->name, exo_strerror(r));
        machine_end(m);
        return r;
    }
    m->id = ++last_id;
    m->state = MACHINE_RUNS;
    exo_printf("%s: started as %u, %lu MiB, ", config->name, m->id, config->memory >> 20);
    if (machine_is_program(m))
        exo_printf("a program\n");
    else
        exo_printf("%u virtual CPU%s\n", config->cpus, config->cpus == 1 ? "" : "s");
    return m->id;
}

/* ---- its end --------------------------------------------------------------------------------------- */

static void machine_free(struct machine *m)
{
    if (m->viewers || m->state != MACHINE_ENDED) return;
    exo_kept_free(&m->kept);
    *m = (struct machine){0};
}

void machine_unview(struct machine *m)
{
    m->viewers--;
    machine_free(m);
}

static void memory_free(struct machine *m)
{
    uint64_t leaked = frames_in_use(m->ram, m->ram_count);
    if (leaked) exo_printf("vmd: LEAK %s: %lu frames of its guest\n", m->config.name, leaked);
    if (m->borrowed) {
        uint64_t word[4] = {EXO_SERVICE_RETURN, m->ram, 0, 0};
        if (m->ram)
            exo_drop(m->borrowed); /* frees the selector */
        else
            exo_sel_free(m->borrowed);
        if (loan_call(word) < 0) exo_printf("vmd: LEAK %s: memory on loan\n", m->config.name);
    } else if (m->ram_count) {
        exo_frames_free(&exo.pool, m->ram, m->ram_count);
    }
    m->ram = m->ram_count = m->borrowed = 0;
    if (m->shared_frame) exo_unmap(va_of(m) + SHARED_AT, 1, m->shared_frame);
    m->shared_frame = 0;
    if (m->files.pages) exo_unmap(m->files.va, m->files.pages, m->files.frame);
    m->files = (struct machine_files){0};
}

void machine_end(struct machine *m)
{
    for (unsigned i = 0; i < LAST_LOOKS && machine_look(m); i++)
        ;
    m->state = MACHINE_ENDED;
    made_end(&m->made);
    for (unsigned i = 0; i < VM_CARDS; i++)
        if (m->card[i].bridge) bridge_leave(m->card[i].bridge, m->card[i].port);
    memset(m->card, 0, sizeof(m->card));
    wire_end(&m->console);
    wire_end(&m->control);
    wire_end(&m->log);
    memory_free(m);
    if (m->asker) session_machine_ended(m->asker);
    machine_free(m);
}

void machine_fault(struct machine *m)
{
    if (m->state != MACHINE_RUNS) return;
    made_fault(&m->made);
    machine_end(m);
}

/* ---- while it runs ------------------------------------------------------------------------------------ */

const volatile struct vm_shared *machine_shared(const struct machine *m)
{
    return (const volatile struct vm_shared *)(va_of(m) + SHARED_AT);
}

uint64_t machine_ticks(const struct machine *m)
{
    const volatile struct vm_shared *s = machine_shared(m);
    uint64_t sum = 0, now = exo_tsc();
    for (unsigned i = 0; i < m->config.cpus && i < VM_CPUS; i++) {
        uint64_t since = s->cpu[i].since;
        sum += s->cpu[i].ticks + (since && since < now ? now - since : 0);
    }
    return sum;
}

bool machine_order(struct machine *m, struct session *session, const char *order)
{
    char line[64];
    size_t n = (size_t)exo_format(line, sizeof(line), "%s\n", order);
    if (m->asker || n >= sizeof(line)) return false;
    if (exo_channel_writable(&m->control.channel) < n) return false;
    exo_channel_write(&m->control.channel, line, n);
    m->asker = session;
    return true;
}

void machine_forget(struct machine *m, struct session *session)
{
    if (m->asker != session) return;
    m->asker = NULL;
    m->stale++;
}

static void answers_look(struct machine *m)
{
    char c;
    for (unsigned i = 0; i < AT_ONCE && exo_channel_read(&m->control.channel, &c, 1); i++) {
        if (c != '\n') {
            if (c >= ' ' && m->answer_length + 1 < sizeof(m->answer))
                m->answer[m->answer_length++] = c;
            continue;
        }
        m->answer[m->answer_length] = 0;
        m->answer_length = 0;
        struct session *asker = m->asker;
        if (m->stale) {
            m->stale--;
        } else if (asker) {
            m->asker = NULL;
            session_answer(asker, m->answer);
        }
    }
}

bool machine_look(struct machine *m)
{
    static char text[AT_ONCE];
    if (m->state != MACHINE_RUNS) return false;
    size_t n = exo_channel_read(&m->console.channel, text, sizeof(text));
    exo_kept_put(&m->kept, text, n);
    if (machine_is_program(m)) return n != 0;
    size_t said = exo_channel_read(&m->log.channel, text, sizeof(text));
    if (said) log_write(text, said);
    answers_look(m);
    return n || said;
}
