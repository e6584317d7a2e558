/* SPDX-License-Identifier: MIT
 *
 * Child environments: made of frames of one of our pools, filled through a window in
 * our own address space, started with a startup page. root and the tests use the
 * same functions. What a child holds was derived from us, so destroying its env
 * brings everything back. */
#include "elf.h"
#include "exo.h"

#define CHILD_STACK_PAGES 8

/* In child.table: the selectors that exo_child_make fills. */
static long child_caps(struct exo_child *child, uint64_t memory, uint64_t frames, uint32_t fault)
{
    uint32_t from = child->from->sel, env = child->env;
    long r = exo_cap_derive(from, EXO_REF(env, EXO_CHILD_MEMORY),
                            EXO_R | EXO_W | EXO_X | EXO_OBJECT, memory, frames);
    if (r == 0)
        r = exo_cap_derive(from, EXO_REF(env, EXO_CHILD_VECTOR), EXO_R | EXO_W, child->frame + 2,
                           1);
    if (r == 0) r = exo_cap_derive(env, EXO_REF(env, EXO_CHILD_ENV), EXO_RIGHTS_ALL, 0, 1);
    if (r == 0 && fault)
        r = exo_cap_derive(fault, EXO_REF(env, EXO_CHILD_FAULT), EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    return r;
}

static long child_thread(struct exo_child *child, unsigned cpu, uint32_t fault)
{
    long frame = exo_frames_alloc(&child->pool, 2, 1);
    if (frame < 0) return frame;
    long sel = exo_sel_alloc();
    if (sel < 0) return sel;
    long r = exo_thread_make((uint64_t)sel, child->env, EXO_CHILD_MEMORY, (uint64_t)frame, cpu);
    if (r < 0) {
        exo_sel_free((uint32_t)sel);
        return r;
    }
    child->thread = (uint32_t)sel;
    r = exo_cap_derive((uint64_t)sel, EXO_REF(child->env, EXO_CHILD_THREAD), EXO_RIGHTS_ALL, 0, 1);
    if (r == 0 && fault) r = exo_thread_set((uint64_t)sel, EXO_SET_FAULT, EXO_CHILD_FAULT, 0);
    if (r == 0)
        r = exo_bind(&child->pool, EXO_UPCALL_VA, 1, EXO_CHILD_MEMORY, (uint64_t)frame + 1,
                     EXO_R | EXO_W);
    if (r == 0)
        r = exo_bind(&child->pool, EXO_VECTOR_VA, 1, EXO_CHILD_VECTOR, child->frame + 2,
                     EXO_R | EXO_W);
    return r;
}

static long child_stack(struct exo_child *child)
{
    long frame = exo_frames_alloc(&child->pool, CHILD_STACK_PAGES, 1);
    if (frame < 0) return frame;
    return exo_child_fill(child, EXO_STACK_VA, CHILD_STACK_PAGES, (uint64_t)frame, EXO_R | EXO_W,
                          NULL, 0);
}

static void child_startup(struct exo_child *child, unsigned cpu, uint32_t fault)
{
    child->start = (struct exo_startup){
        .magic = EXO_STARTUP_MAGIC,
        .sel_memory = EXO_CHILD_MEMORY,
        .sel_vector = EXO_CHILD_VECTOR,
        .sel_thread = EXO_CHILD_THREAD,
        .sel_env = EXO_CHILD_ENV,
        .sel_fault = fault ? EXO_CHILD_FAULT : 0,
        .nsel = child->tables * EXO_TAB_CAPS,
        .cpu = cpu,
        .cpus = exo.start.cpus,
        .debug = exo.start.debug,
        .counting = exo.start.counting,
        .memory_base = child->pool.base,
        .memory_count = child->pool.count,
        .tsc_hz = exo.start.tsc_hz,
        .wall = exo.start.wall,
        .tables_base = exo.start.tables_base,
        .tables_count = exo.start.tables_count,
    };
    exo_strcpy(child->start.name, exo.start.name, sizeof(child->start.name));
}

long exo_child_make(struct exo_child *child, struct exo_pool *from, uint64_t frames,
                    uint32_t tables, unsigned cpu, uint32_t fault, uint64_t *bits)
{
    *child = (struct exo_child){.from = from, .tables = tables, .sel_free = EXO_CHILD_FREE};
    long frame = exo_frames_alloc(from, 3 + tables, 1);
    if (frame < 0) return frame;
    child->frame = (uint64_t)frame;
    long memory = exo_frames_alloc(from, frames, 1);
    if (memory < 0) {
        exo_frames_free(from, child->frame, 3 + tables);
        return memory;
    }
    exo_pool_init(&child->pool, 0, EXO_CHILD_MEMORY, (uint64_t)memory, frames, 0, bits);
    long r = exo_sel_alloc();
    if (r > 0) {
        child->env = child->pool.env = (uint32_t)r;
        r = exo_env_make(child->env, from->sel, child->frame, tables, 0);
        if (r < 0) {
            exo_sel_free(child->env);
            child->env = 0;
        }
    }
    if (r >= 0) r = child_caps(child, (uint64_t)memory, frames, fault);
    if (r >= 0) r = child_thread(child, cpu, fault);
    if (r >= 0) r = child_stack(child);
    child_startup(child, cpu, fault);
    if (r < 0) exo_child_destroy(child);
    return r;
}

long exo_child_fill(struct exo_child *child, uint64_t va, uint64_t n, uint64_t frame,
                    unsigned rights, const void *data, uint64_t len)
{
    const char *from = data;
    long r = 0;
    for (uint64_t done = 0; done < n && r == 0; done += EXO_WINDOW_PAGES) {
        uint64_t step = EXO_MIN(n - done, EXO_WINDOW_PAGES);
        r = exo_bind(child->from, EXO_WINDOW_VA, step, child->from->sel, frame + done,
                     EXO_R | EXO_W);
        if (r < 0) return r;
        uint64_t bytes = EXO_MIN(len, step * EXO_PAGE);
        memcpy((void *)EXO_WINDOW_VA, from, bytes);
        memset((char *)EXO_WINDOW_VA + bytes, 0, step * EXO_PAGE - bytes);
        from += bytes;
        len -= bytes;
        r = exo_unbind(child->from, EXO_WINDOW_VA, step);
    }
    return r < 0 ? r : exo_bind(&child->pool, va, n, EXO_CHILD_MEMORY, frame, rights);
}

long exo_child_give(struct exo_child *child, uint32_t src, unsigned rights, uint64_t base,
                    uint64_t count)
{
    uint32_t sel = child->sel_free;
    long r = exo_cap_derive(src, EXO_REF(child->env, sel), rights, base, count);
    if (r < 0) return r;
    child->sel_free++;
    return sel;
}

static uint64_t pool_end(const struct exo_pool *pool)
{
    uint64_t end = pool->count;
    while (end && !(pool->used[(end - 1) / 64] >> (end - 1) % 64 & 1))
        end--;
    return end;
}

long exo_child_start(struct exo_child *child)
{
    long frame = exo_frames_alloc(&child->pool, 1, 1);
    if (frame < 0) return frame;
    child->start.memory_used = pool_end(&child->pool);
    child->start.sel_free = child->sel_free;
    long r = exo_child_fill(child, EXO_STARTUP_VA, 1, (uint64_t)frame, EXO_R, &child->start,
                            sizeof(child->start));
    if (r < 0) return r;
    return exo_thread_start(child->thread, child->entry,
                            EXO_STACK_VA + CHILD_STACK_PAGES * EXO_PAGE, EXO_STARTUP_VA);
}

/* ---- images ---------------------------------------------------------------------- */

static unsigned segment_rights(const struct elf_segment *s)
{
    return EXO_R | (s->flags & ELF_W ? EXO_W : 0) | (s->flags & ELF_X ? EXO_X : 0);
}

static uint64_t segment_first(const struct elf_segment *s) { return s->va & -(uint64_t)EXO_PAGE; }

static uint64_t segment_pages(const struct elf_segment *s)
{
    return (s->va + s->memsz - segment_first(s) + EXO_PAGE - 1) / EXO_PAGE;
}

/* A segment that we can load: inside the file, below libexo's addresses, not both
 * writable and executable. */
static bool segment_good(const struct elf_segment *s, uint64_t size)
{
    return s->offset <= size && s->filesz <= size - s->offset && s->filesz <= s->memsz &&
           s->va >= EXO_PAGE && s->va < EXO_HEAP_VA && s->memsz && s->memsz < EXO_HEAP_VA - s->va &&
           s->va % EXO_PAGE == s->offset % EXO_PAGE &&
           (s->flags & (ELF_W | ELF_X)) != (ELF_W | ELF_X);
}

static const struct elf_segment *elf_check(const struct elf_header *h, uint64_t size)
{
    if (size < sizeof(*h) || h->magic != ELF_MAGIC || h->class != ELF_CLASS64 ||
        h->machine != ELF_X86_64 || h->type != ELF_EXEC ||
        h->phentsize != sizeof(struct elf_segment) || h->phoff > size || h->phoff % 8 ||
        h->phnum > (size - h->phoff) / sizeof(struct elf_segment))
        return NULL;
    return (const struct elf_segment *)((const char *)h + h->phoff);
}

long exo_child_load(struct exo_child *child, const void *file, uint64_t size)
{
    const struct elf_header *h = file;
    const struct elf_segment *s = elf_check(h, size);
    uint64_t low = UINT64_MAX, high = 0;
    if (!s) return -EXO_E_ARG;
    for (unsigned i = 0; i < h->phnum; i++) {
        if (s[i].type != ELF_LOAD) continue;
        if (!segment_good(&s[i], size)) return -EXO_E_ARG;
        low = EXO_MIN(low, segment_first(&s[i]));
        uint64_t end = segment_first(&s[i]) + segment_pages(&s[i]) * EXO_PAGE;
        high = end > high ? end : high;
    }
    if (low >= high || h->entry < low || h->entry >= high) return -EXO_E_ARG;
    long image = exo_frames_alloc(&child->pool, (high - low) / EXO_PAGE, 1);
    long r = image < 0 ? image : 0;
    for (unsigned i = 0; i < h->phnum && r == 0; i++) {
        if (s[i].type != ELF_LOAD) continue;
        uint64_t first = segment_first(&s[i]), skip = s[i].va - first;
        r = exo_child_fill(child, first, segment_pages(&s[i]),
                           (uint64_t)image + (first - low) / EXO_PAGE, segment_rights(&s[i]),
                           (const char *)file + s[i].offset - skip, s[i].filesz + skip);
    }
    child->entry = h->entry;
    child->start.image_va = low;
    child->start.image_pages = (high - low) / EXO_PAGE;
    child->start.image_frame = (uint64_t)image;
    return r;
}

/* One segment of our own running image into the child. */
static long image_segment(struct exo_child *child, const struct elf_segment *s, uint32_t text)
{
    uint64_t va = segment_first(s), n = segment_pages(s);
    if (!(s->flags & ELF_W))
        return exo_bind(&child->pool, va, n, text,
                        exo.start.image_frame + (va - exo.start.image_va) / EXO_PAGE,
                        segment_rights(s));
    long frame = exo_frames_alloc(&child->pool, n, 1);
    if (frame < 0) return frame;
    return exo_child_fill(child, va, n, (uint64_t)frame, EXO_R | EXO_W, (const void *)va,
                          s->filesz + s->va - va);
}

long exo_child_image(struct exo_child *child, const char *args)
{
    const struct elf_header *h = (const struct elf_header *)exo.start.image_va;
    if (!exo.start.image_pages) return -EXO_E_STATE;
    const struct elf_segment *s = elf_check(h, EXO_PAGE);
    if (!s) return -EXO_E_ARG;
    long text = exo_child_give(child, exo.start.sel_memory, EXO_R | EXO_X, exo.start.image_frame,
                               exo.start.image_pages);
    long r = text < 0 ? text : 0;
    for (unsigned i = 0; i < h->phnum && r == 0; i++)
        if (s[i].type == ELF_LOAD) r = image_segment(child, &s[i], (uint32_t)text);
    child->entry = h->entry;
    exo_strcpy(child->start.args, args, sizeof(child->start.args));
    return r;
}

long exo_child_destroy(struct exo_child *child)
{
    long r = child->env ? exo_drop(child->env) : 0;
    if (r < 0) return r;
    if (child->thread) exo_drop(child->thread); /* went with the env's memory */
    exo_frames_free(child->from, child->frame, 3 + child->tables);
    exo_frames_free(child->from, child->pool.base, child->pool.count);
    *child = (struct exo_child){0};
    return 0;
}
