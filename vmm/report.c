/* SPDX-License-Identifier: MIT
 *
 * What a monitor says of its guest: notes on what it does not have (each text once, and not
 * more than a guest may have said), and the report when a guest ends: why, by which exit,
 * with registers and the instruction's bytes. Goes to the guest's own console.
 */
#include "decode.h"
#include "vcpu.h"

#define NOTES 48 /* after that a guest is not listened to */

static uint32_t noted[NOTES];
static unsigned note_count;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    char line[320];
    va_list list;
    va_start(list, format);
    exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    monitor_write(line, strlen(line));
}

static uint32_t hash(const char *text)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619u;
    return h;
}

void vm_note(const char *format, ...)
{
    char line[256];
    va_list list;
    if (note_count == NOTES) return;
    va_start(list, format);
    exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    uint32_t h = hash(line);
    for (unsigned i = 0; i < note_count; i++)
        if (noted[i] == h) return;
    noted[note_count++] = h;
    say("[%s: %s]\n", exo.start.name, line);
    if (note_count == NOTES) say("[%s: no more notes of this guest]\n", exo.start.name);
}

static void report_code(struct vcpu *v)
{
    uint8_t bytes[INSN_MAX];
    char text[3 * INSN_MAX + 1];
    unsigned n = emulate_fetch(v, bytes);
    for (unsigned i = 0; i < n; i++)
        exo_format(text + 3 * i, 4, "%02x ", bytes[i]);
    say("  code %s\n", n ? text : "not to be read");
}

void report_vcpu(struct vcpu *v)
{
    vcpu_need(v, EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG);
    const struct exo_vcpu_page *p = v->page;
    const struct exo_vm_seg *cs = &p->segs.seg[EXO_CS], *ss = &p->segs.seg[EXO_SS];
    say("virtual CPU %u, exit %s: %lx %lx %lx\n", v->index, reason_name((uint32_t)v->exit.reason),
        v->exit.detail[0], v->exit.detail[1], v->exit.detail[2]);
    say("  rip %lx flags %lx rsp %lx cs %x base %lx attributes %x ss %x attributes %x\n",
        p->rip.rip, p->rip.rflags, p->rip.rsp, cs->selector, cs->base, cs->attributes, ss->selector,
        ss->attributes);
    say("  rax %lx rcx %lx rdx %lx rbx %lx rsi %lx rdi %lx rbp %lx\n", p->a.rax, p->a.rcx, p->a.rdx,
        p->a.rbx, p->b.rsi, p->b.rdi, p->b.rbp);
    say("  r8 %lx r9 %lx r10 %lx r11 %lx r12 %lx r13 %lx r14 %lx r15 %lx\n", p->b.r8, p->b.r9,
        p->b.r10, p->b.r11, p->b.r12, p->b.r13, p->b.r14, p->b.r15);
    say("  cr0 %lx cr2 %lx cr3 %lx cr4 %lx efer %lx\n", p->cr.cr0, p->cr.cr2, p->cr.cr3, p->cr.cr4,
        p->cr.efer);
    report_code(v);
}

void vm_fail(const char *format, ...)
{
    char line[256];
    va_list list;
    va_start(list, format);
    exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    struct vcpu *v = vcpu_current();
    uart_flush(); /* the guest's own last words come first */
    say("\n%s: the guest is ended: %s\n", exo.start.name, line);
    if (v) report_vcpu(v);
    vm_ended(VM_FAILED);
}
