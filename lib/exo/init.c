/* SPDX-License-Identifier: MIT
 *
 * From the entry of a program to its main, and its end. The startup page is copied
 * first; then the first thread gets its task structure (FS), an upcall stack and the
 * general upcall handler. */
#include "exo.h"

struct exo exo;
static struct exo_task first_task;

#define POOL_FRAMES 262144 /* 1 GiB; what is above it needs bits of its own */
static uint64_t pool_bits[EXO_POOL_WORDS(POOL_FRAMES)];

/* A pool above POOL_FRAMES takes the memory for its bits out of its first part. */
static long pool_extend(void)
{
    uint64_t count = exo.start.memory_count, before = exo.pool.count;
    uint64_t bytes = EXO_POOL_WORDS(count) * 8;
    if (count <= before) return 0;
    long r = exo_map(EXO_POOL_VA, (bytes + EXO_PAGE - 1) / EXO_PAGE, EXO_R | EXO_W);
    if (r < 0) return r;
    exo.pool.used = memcpy((void *)EXO_POOL_VA, pool_bits, sizeof(pool_bits));
    exo.pool.count = count;
    exo.pool.free += count - before;
    return 0;
}

static void sels_init(void) { memset(exo.sels, 0, sizeof(exo.sels)); }

/* The general upcall entry reads the page's address at the top of its stack. */
static uint64_t upcall_stack(uint64_t va, uint64_t pages, struct exo_upcall_page *page)
{
    uint64_t top = va + pages * EXO_PAGE - 16;
    *(uint64_t *)top = (uint64_t)page;
    return top;
}

long exo_tables_map(void)
{
    const struct exo_info *info = (const struct exo_info *)EXO_INFO_VA;
    if (!exo.info) {
        long r = exo_bind(&exo.pool, EXO_INFO_VA, exo.start.tables_count, exo.start.sel_tables,
                          exo.start.tables_base, EXO_R);
        if (r < 0) return r;
    }
    exo.info = info;
    const char *base = (const char *)EXO_INFO_VA - exo.start.tables_base * EXO_PAGE;
    exo.words = (const uint64_t *)(base + (uint64_t)info->words_frame * EXO_PAGE);
    exo.slots = (const struct exo_slot *)(base + (uint64_t)info->slots_frame * EXO_PAGE);
    exo.irqs = (const struct exo_irq *)(base + (uint64_t)info->irqs_frame * EXO_PAGE);
    exo.cpus = (const struct exo_cpu *)(base + (uint64_t)info->cpus_frame * EXO_PAGE);
    return 0;
}

/* The slots that it was given on its own CPU are the first thread's at first. */
static void slots_init(void)
{
    const struct exo_range *r = &exo.start.slots[exo.start.cpu];
    for (uint32_t i = 0; i < r->count; i++)
        exo_slot_bind(r->sel, r->first + i, exo.start.sel_thread, 0);
}

void exo_init(void)
{
    first_task.self = &first_task;
    first_task.page = (struct exo_upcall_page *)EXO_UPCALL_VA;
    first_task.sel = exo.start.sel_thread;
    __asm__ volatile("wrfsbase %0" : : "r"(&first_task));
    sels_init();
    long r = exo_map(EXO_UPCALL_STACK_VA, EXO_UPCALL_STACK_PAGES, EXO_R | EXO_W);
    if (r >= 0) r = pool_extend();
    if (r < 0) exo_exit(r);
    first_task.upcall_sp =
        upcall_stack(EXO_UPCALL_STACK_VA, EXO_UPCALL_STACK_PAGES, first_task.page);
    r = exo_thread_set(0, EXO_SET_UPCALL, (uint64_t)exo_upcall_entry, first_task.upcall_sp);
    if (r < 0) exo_exit(r);
    if (exo.start.sel_tables) exo_tables_map();
    r = exo_event_new(exo.start.sel_thread, EXO_EV_JOIN);
    if (r > 0) exo.join_event = (uint32_t)r;
    slots_init();
}

__attribute__((weak)) void exo_start_root(void) { exo_exit(-EXO_E_ARG); }

void exo_start(uint64_t word)
{
    const struct exo_startup *given = (const struct exo_startup *)EXO_STARTUP_VA;
    if (word == EXO_STARTUP_VA && given->magic == EXO_STARTUP_MAGIC) {
        exo.start = *given;
        exo_pool_init(&exo.pool, EXO_SELF, exo.start.sel_memory, exo.start.memory_base,
                      EXO_MIN(exo.start.memory_count, POOL_FRAMES), exo.start.memory_used,
                      pool_bits);
    } else {
        exo_start_root();
    }
    exo_init();
    exo_exit(main(&exo.start));
}

/* Says so to the starter by its gate; from another CPU, or without one, by a fault
 * that it is told of. */
void exo_exit(long status)
{
    uint64_t word[4] = {EXO_SERVICE_EXIT, (uint64_t)status, 0, 0};
    if (exo.start.sel_service) exo_call(exo.start.sel_service, word);
    exo_thread_set(0, EXO_SET_UPCALL, 0, 0);
    for (;;)
        __asm__ volatile("ud2" : : "a"(EXO_EXIT_MAGIC), "D"(status));
}
