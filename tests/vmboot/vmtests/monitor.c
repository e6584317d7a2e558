/* SPDX-License-Identifier: MIT
 *
 * Making, starting and ending tiny guests, and running them to their next exit. */
#include "monitor.h"

#define PAGES_VA 0x0000000060000000ul /* pages of virtual CPUs; then guests' memory */
#define MEMORY_VA (PAGES_VA + 0x10000)
#define MEMORY_STRIDE 0x20000

#define CR0_64 0x80000031u /* PG, NE, ET, PE */
#define CR4_64 0x620u /* PAE, OSFXSR, OSXMMEXCPT */
#define EFER_64 0x500u /* LME, LMA */

static struct guest *made[GUESTS];

static void segments(struct exo_vm_segs *s, bool wide)
{
    for (unsigned i = 0; i < EXO_LDTR; i++)
        s->seg[i] = (struct exo_vm_seg){wide ? GUEST_DS : 0, wide ? 0xc93 : 0x93,
                                        wide ? 0xffffffff : 0xffff, 0};
    s->seg[EXO_CS] = (struct exo_vm_seg){wide ? GUEST_CS : 0, wide ? 0xa9b : 0x9b,
                                         wide ? 0xffffffff : 0xffff, 0};
    s->seg[EXO_LDTR] = (struct exo_vm_seg){0, 0x82, 0xffff, 0};
    s->seg[EXO_TR] = (struct exo_vm_seg){0, 0x8b, 0xffff, 0};
    s->gdtr = wide ? (struct exo_vm_dtr){23, GUEST_GDT} : (struct exo_vm_dtr){0xffff, 0};
    s->idtr = wide ? (struct exo_vm_dtr){0xfff, GUEST_IDT} : (struct exo_vm_dtr){0x3ff, 0};
}

/* The first GiB, one to one. */
static void page_tables(struct guest *g)
{
    *guest_word(g, GUEST_ROOT) = (GUEST_ROOT + 0x1000) | 3;
    *guest_word(g, GUEST_ROOT + 0x1000) = (GUEST_ROOT + 0x2000) | 3;
    for (uint64_t i = 0; i < 512; i++)
        *guest_word(g, GUEST_ROOT + 0x2000 + i * 8) = i << 21 | 0x83;
    *guest_word(g, GUEST_GDT + GUEST_CS) = 0x00af9b000000ffff;
    *guest_word(g, GUEST_GDT + GUEST_DS) = 0x00cf93000000ffff;
}

void guest_state(struct guest *g, bool wide)
{
    struct exo_vcpu_page *p = g->page;
    p->a = (struct exo_vm_a){0};
    p->b = (struct exo_vm_b){0};
    p->rip = (struct exo_vm_rip){.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK};
    p->cr = (struct exo_vm_cr){.cr0 = 0x30, .xcr0 = 1};
    if (wide)
        p->cr = (struct exo_vm_cr){
            .cr0 = CR0_64, .cr3 = GUEST_ROOT, .cr4 = CR4_64, .efer = EFER_64, .xcr0 = xcr0_own()};
    segments(&p->segs, wide);
    if (wide) page_tables(g);
}

void guest_gate(struct guest *g, unsigned vector, uint64_t handler)
{
    *guest_word(g, GUEST_IDT + vector * 16) = (handler & 0xffff) | GUEST_CS << 16 | 0x8e00ul << 32;
    *guest_word(g, GUEST_IDT + vector * 16 + 8) = 0;
}

uint64_t guest_more(struct guest *g, const struct guest_code *code, uint64_t offset)
{
    memcpy(g->memory + GUEST_CODE + offset, code->start, (size_t)(code->end - code->start));
    return GUEST_CODE + offset;
}

long guest_bind(struct guest *g, uint64_t address, uint64_t n, uint64_t frame, unsigned rights)
{
    return exo_bind(&g->vm.pool, address, n, EXO_VM_MEMORY, frame, rights);
}

/* Memory for the guest, seen by both. */
static long memory_make(struct guest *g, unsigned index)
{
    uint64_t va = MEMORY_VA + index * MEMORY_STRIDE;
    long r = exo_frames_alloc(&g->vm.pool, GUEST_PAGES, 1);
    if (r < 0) return r;
    g->frame = (uint64_t)r;
    r = exo_bind(&exo.pool, va, GUEST_PAGES, exo.pool.sel, g->frame, EXO_R | EXO_W);
    if (r < 0) return r;
    g->memory = (uint8_t *)va;
    memset(g->memory, 0, GUEST_PAGES * EXO_PAGE);
    return guest_bind(g, 0, GUEST_PAGES, g->frame, EXO_R | EXO_W | EXO_X);
}

long guest_make_on(struct guest *g, unsigned index, const struct guest_code *code, unsigned cpu,
                   uint32_t monitor)
{
    if (made[index]) guest_end(made[index]); /* of a test that failed */
    *g = (struct guest){0};
    long r = exo_vm_make(&g->vm, &exo.pool, GUEST_FRAMES, 1, 1, g->bits);
    if (r < 0) return r;
    made[index] = g;
    r = memory_make(g, index);
    if (r >= 0)
        r = exo_vcpu_make(&g->cpu, &g->vm, PAGES_VA + index * EXO_PAGE, cpu, monitor, index);
    for (uint32_t reason = 1; reason < EXO_VX_COUNT && r >= 0; reason++)
        r = exo_vcpu_mask(&g->cpu, reason, GROUPS_GENERAL);
    if (r < 0) {
        guest_end(g);
        return r;
    }
    g->page = g->cpu.page;
    guest_more(g, code, 0);
    return 0;
}

long guest_make(struct guest *g, unsigned index, const struct guest_code *code, bool wide)
{
    long r = guest_make_on(g, index, code, exo.start.cpu, exo.start.sel_thread);
    if (r < 0) return r;
    r = exo_vcpu_start(&g->cpu);
    if (r == 0) r = guest_run(g, 0, 0);
    if (r == EXO_VX_FORCED && g->w.detail[0] == EXO_VCPU_FIRST && g->w.badge == index) {
        guest_state(g, wide);
        return 0;
    }
    guest_end(g);
    return r < 0 ? r : -EXO_E_STATE;
}

long guest_end(struct guest *g)
{
    long r = 0;
    if (g->cpu.vm) r = exo_vcpu_destroy(&g->cpu);
    if (g->memory && r >= 0) r = exo_unbind(&exo.pool, (uint64_t)g->memory, GUEST_PAGES);
    if (r >= 0 && g->vm.from) r = exo_vm_destroy(&g->vm);
    for (unsigned i = 0; i < GUESTS; i++)
        if (made[i] == g) made[i] = NULL;
    return r;
}

long guest_raze(struct guest *g)
{
    uint32_t thread = g->cpu.thread;
    exo_unbind(&exo.pool, (uint64_t)g->cpu.page, 1);
    exo_unbind(&exo.pool, (uint64_t)g->memory, GUEST_PAGES);
    long r = exo_vm_destroy(&g->vm);
    if (r == 0) r = exo_drop(thread);
    g->cpu = (struct exo_vcpu){0};
    g->memory = NULL;
    return r < 0 ? r : guest_end(g);
}

long guest_run_for(struct guest *g, uint64_t set, uint64_t get, uint64_t us)
{
    exo_timer_set(exo_in_us(us), EV_TIME);
    long r = exo_vm_wait(EV_TIME, set, get, &g->w);
    exo_timer_set(0, EV_TIME);
    __atomic_fetch_and(&exo_page()->events, ~EV_TIME, __ATOMIC_SEQ_CST);
    return r == 0 ? (long)g->w.reason : r > 0 ? TIMED_OUT : r;
}

long guest_run(struct guest *g, uint64_t set, uint64_t get)
{
    return guest_run_for(g, set, get, RUN_US);
}

void guest_skip(struct guest *g, unsigned length)
{
    g->page->rip.rip += g->page->exit.length ? g->page->exit.length : length;
    g->page->rip.shadow = 0;
}
