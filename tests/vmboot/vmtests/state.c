/* SPDX-License-Identifier: MIT
 *
 * Registers in and out, what is refused, and what belongs to one guest only. */
#include "monitor.h"

GUEST(halt);
GUEST(registers);
GUEST(vector);
GUEST(msrs);
GUEST(clock);
GUEST(xcr);
GUEST(xget);
GUEST(port);

static struct guest g, h;

static void test_registers(void)
{
    EXPECT(guest_make(&g, 0, &registers, true), 0);
    uint64_t *a = &g.page->a.rax, *b = &g.page->b.rsi;
    for (uint64_t i = 0; i < 4; i++)
        a[i] = 0x1111222233334444 * i + 7;
    for (uint64_t i = 0; i < 11; i++)
        b[i] = 0x0123456789abcdef * (i + 1);
    g.page->rip.rsp = 0xfedcba9876543210;
    g.page->rip.rflags = 0x8d7;
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    for (uint64_t i = 0; i < 4; i++)
        EXPECT(a[i], ~(0x1111222233334444 * i + 7));
    for (uint64_t i = 0; i < 11; i++)
        EXPECT(b[i], ~(0x0123456789abcdef * (i + 1)));
    EXPECT(g.page->rip.rsp, ~0xfedcba9876543210);
    EXPECT(g.page->rip.rflags & 0xcd5, 0x8d7 & 0xcd5);
    EXPECT(guest_end(&g), 0);
}

/* Every group is read back as it was set. */
static void test_groups(void)
{
    static struct exo_vcpu_page was;
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    struct exo_vcpu_page *p = g.page;
    p->cr.cr2 = 0xffff800000001234;
    p->dr = (struct exo_vm_dr){1, 2, 3, 4, 0xffff0ff0, 0x400};
    p->tsc_offset = 0x123456789;
    p->msr =
        (struct exo_vm_msr){1, 0xffff800000000002, 3, 0x4700, 0x5000, 6, 7, 8, 0x0007040600070406};
    p->segs.seg[EXO_FS].base = 0xffff888000000000;
    p->segs.seg[EXO_GS].base = 0x00007fff00000000;
    EXPECT(guest_run(&g, GROUPS_START | EXO_VG_DR | EXO_VG_MSR | EXO_VG_TIME, EXO_VG_ALL),
           EXO_VX_MORE);
    EXPECT(g.w.filled, EXO_VG_ALL);
    was = *p;
    memset(&p->a, 0xa5, sizeof *p - offsetof(struct exo_vcpu_page, a));
    EXPECT(guest_run(&g, 0, EXO_VG_ALL & ~EXO_VG_PDPTE), EXO_VX_MORE);
    EXPECT(memcmp(&p->a, &was.a, sizeof p->a), 0);
    EXPECT(memcmp(&p->b, &was.b, sizeof p->b), 0);
    EXPECT(memcmp(&p->rip, &was.rip, sizeof p->rip), 0);
    EXPECT(memcmp(&p->inject, &was.inject, sizeof p->inject), 0);
    EXPECT(memcmp(&p->cr, &was.cr, sizeof p->cr), 0);
    EXPECT(memcmp(&p->dr, &was.dr, sizeof p->dr), 0);
    EXPECT(memcmp(&p->segs, &was.segs, sizeof p->segs), 0);
    EXPECT(memcmp(&p->msr, &was.msr, sizeof p->msr), 0);
    EXPECT(memcmp(&p->fpu, &was.fpu, 1024), 0);
    EXPECT(p->tsc_offset, 0x123456789);
    CHECK(p->cr.cr3 == GUEST_ROOT && p->cr.efer == 0x500 && p->cr.xcr0 == xcr0_own());
    CHECK(p->cr.cr2 == 0xffff800000001234 && p->segs.seg[EXO_FS].base == 0xffff888000000000);
    CHECK(p->msr.lstar == 0xffff800000000002 && p->dr.dr3 == 4 && p->msr.kernel_gs == 0x5000);
    EXPECT(guest_run(&g, EXO_VG_ALL & ~(EXO_VG_PDPTE | EXO_VG_TIME), 0), EXO_VX_HLT);
    EXPECT(guest_end(&g), 0);
}

/* Runs it anew to its HLT. */
static void halts_again(void)
{
    g.page->rip.rip = GUEST_CODE;
    g.page->rip.shadow = 0;
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_HLT);
}

/* The same reply again and again takes the short way; it checks as the long one. */
static void test_short_way(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    for (unsigned i = 0; i < 3; i++)
        halts_again();
    g.page->rip.rip = 1ul << 47;
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_REFUSED);
    CHECK(g.w.detail[0] == 2 && g.w.detail[1] == 0);
    halts_again();
    g.page->rip.shadow = 1;
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_REFUSED);
    CHECK(g.w.detail[0] == 2 && g.w.detail[1] == 3);
    halts_again();
    g.page->event_mask |= 2;
    __atomic_fetch_or(&g.page->events, 2, __ATOMIC_RELAXED);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_FORCED);
    EXPECT(g.w.detail[0], 2);
    halts_again();
    EXPECT(guest_run(&g, EXO_VG_ALL + 1, 0), EXO_VX_REFUSED);
    halts_again();
    EXPECT(guest_run(&g, 0, EXO_VG_CR), EXO_VX_MORE);
    EXPECT(guest_end(&g), 0);
}

/* Flags that do not exist stay 0, whichever way the reply takes. */
static void test_flags(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    for (unsigned i = 0; i < 2; i++) {
        g.page->rip.rflags = 0xffffffffffc08028;
        if (i == 0) EXPECT(guest_run(&g, EXO_VG_RIP, EXO_VG_RIP), EXO_VX_MORE);
        if (i == 1) EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_HLT);
        EXPECT(g.page->rip.rflags & 0xffffffffffc0802a, 2);
    }
    EXPECT(guest_end(&g), 0);
}

#define FIELD(name) offsetof(struct exo_vcpu_page, name)
/* Each of these values is refused, in 64-bit mode, and nothing is lost. */
static const struct {
    uint32_t group, field; /* bit number, field */
    uint32_t at, bytes;
    uint64_t value;
} bad[] = {
    {2, 0, FIELD(rip.rip), 8, 0x0000800000000000}, /* not canonical */
    {2, 3, FIELD(rip.shadow), 4, 1}, /* there is none */
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | 0x40}, /* IF is clear */
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_NMI | 3},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_EXCEPTION | 2},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_EXCEPTION | 40},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_EXCEPTION | 13}, /* no error code */
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_EXCEPTION | EXO_VE_ERROR | 6},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | 0x100},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | 0x700},
    {3, 0, FIELD(inject.event), 4, EXO_VE_VALID | 0x1000 | EXO_VE_EXCEPTION | 6},
    {3, 2, FIELD(inject.event), 4, EXO_VE_VALID | EXO_VE_SOFT | 3}, /* no length */
    {3, 3, FIELD(inject.window), 4, 4},
    {4, 0, FIELD(cr.cr0), 8, 0x100000031},
    {4, 0, FIELD(cr.cr0), 8, 0xa0000031}, /* NW without CD */
    {4, 0, FIELD(cr.cr0), 8, 0x80000030}, /* PG without PE */
    {4, 2, FIELD(cr.cr3), 8, 1ul << 60},
    {4, 3, FIELD(cr.cr4), 8, 0x600}, /* long mode without PAE */
    {4, 3, FIELD(cr.cr4), 8, 0x2620}, /* VMXE */
    {4, 3, FIELD(cr.cr4), 8, 0x4620}, /* SMXE */
    {4, 3, FIELD(cr.cr4), 8, 0x1620}, /* LA57 */
    {4, 3, FIELD(cr.cr4), 8, 1ul << 40 | 0x620},
    {4, 4, FIELD(cr.efer), 8, 0x1500}, /* SVME */
    {4, 4, FIELD(cr.efer), 8, 0x100}, /* LMA is not LME and PG */
    {4, 4, FIELD(cr.efer), 8, 1ul << 63 | 0x500},
    {4, 5, FIELD(cr.xcr0), 8, 2}, /* without x87 */
    {4, 5, FIELD(cr.xcr0), 8, 5}, /* AVX without SSE */
    {4, 5, FIELD(cr.xcr0), 8, 1ul << 62 | 3},
    {6, 4, FIELD(dr.dr6), 8, 1ul << 32},
    {6, 5, FIELD(dr.dr7), 8, 1ul << 32 | 0x400},
    {6, 5, FIELD(dr.dr7), 8, 0x2400}, /* GD */
    {8, EXO_CS, FIELD(segs.seg[EXO_CS].attributes), 2, 0xe9b}, /* L and D */
    {8, EXO_CS, FIELD(segs.seg[EXO_CS].attributes), 2, 0xa1b}, /* not present */
    {8, EXO_CS, FIELD(segs.seg[EXO_CS].attributes), 2, 0x1a9b},
    {8, EXO_SS, FIELD(segs.seg[EXO_SS].attributes), 2, 0xc9b}, /* code */
    {8, EXO_DS, FIELD(segs.seg[EXO_DS].attributes), 2, 0xc92}, /* not accessed */
    {8, EXO_DS, FIELD(segs.seg[EXO_DS].limit), 4, 0xfffff000}, /* with G */
    {8, EXO_FS, FIELD(segs.seg[EXO_FS].base), 8, 0x0000800000000000},
    {8, EXO_LDTR, FIELD(segs.seg[EXO_LDTR].base), 8, 0x0000800000000000},
    {8, EXO_TR, FIELD(segs.seg[EXO_TR].attributes), 2, 0x89}, /* not busy */
    {8, EXO_TR, FIELD(segs.seg[EXO_TR].attributes), 2, 0x0b}, /* not present */
    {8, EXO_TR, FIELD(segs.seg[EXO_TR].selector), 2, 4}, /* of the LDT */
    {8, EXO_SEGS, FIELD(segs.gdtr.limit), 8, 0x10000},
    {8, EXO_SEGS, FIELD(segs.gdtr.base), 8, 0x0000800000000000},
    {8, EXO_SEGS + 1, FIELD(segs.idtr.base), 8, 0x0000800000000000},
    {9, 1, FIELD(msr.lstar), 8, 0x0000800000000000},
    {9, 2, FIELD(msr.cstar), 8, 0x0000800000000000},
    {9, 3, FIELD(msr.fmask), 8, 1ul << 32},
    {9, 4, FIELD(msr.kernel_gs), 8, 0x0000800000000000},
    {9, 6, FIELD(msr.sysenter_esp), 8, 0x0000800000000000},
    {9, 8, FIELD(msr.pat), 8, 2},
    {10, 0, FIELD(fpu[512]), 8, 1ul << 62}, /* XSTATE_BV */
    {10, 1, FIELD(fpu[520]), 8, 1ul << 63}, /* compacted */
    {10, 8, FIELD(fpu[24]), 4, 0x10000}, /* MXCSR */
    {11, 0, FIELD(a), 8, 0}, /* no such group */
};

static void test_refused(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, EXO_VG_ALL & ~EXO_VG_PDPTE), EXO_VX_MORE);
    for (unsigned i = 0; i < EXO_COUNT(bad); i++) {
        uint8_t *at = (uint8_t *)g.page + bad[i].at;
        uint64_t was;
        memcpy(&was, at, bad[i].bytes);
        memcpy(at, &bad[i].value, bad[i].bytes);
        long r = guest_run(&g, 1ul << bad[i].group, 0);
        if (r != EXO_VX_REFUSED || g.w.detail[0] != bad[i].group || g.w.detail[1] != bad[i].field) {
            exo_printf("value %u: reason %ld, group %lu, field %lu\n", i, r, g.w.detail[0],
                       g.w.detail[1]);
            EXPECT(r, EXO_VX_REFUSED);
            EXPECT(g.w.detail[0], bad[i].group);
            EXPECT(g.w.detail[1], bad[i].field);
        }
        memcpy(at, &was, bad[i].bytes);
    }
    EXPECT(guest_run(&g, EXO_VG_ALL & ~EXO_VG_PDPTE, 0), EXO_VX_HLT);
    EXPECT(guest_end(&g), 0);
}

static void native_vector_set(uint64_t value)
{
    __asm__ volatile("movq %0, %%xmm1" : : "r"(value));
}

static uint64_t native_vector(void)
{
    uint64_t value;
    __asm__ volatile("movq %%xmm1, %0" : "=r"(value));
    return value;
}

static void gs_set(uint64_t base) { __asm__ volatile("wrgsbase %0" : : "r"(base)); }

static uint64_t gs_get(void)
{
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

/* A monitor's own segment base, changed between exits. */
static void test_bases(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    for (uint64_t i = 1; i < 10; i++) {
        gs_set(i * 0x1000);
        EXPECT(guest_run(&g, EXO_VG_A, 0), EXO_VX_HLT);
        EXPECT(gs_get(), i * 0x1000);
    }
    gs_set(0);
    EXPECT(guest_end(&g), 0);
}

/* Two guests and we have the same register, each its own. */
static void test_fpu(void)
{
    EXPECT(guest_make(&g, 0, &vector, true), 0);
    g.page->b.rdi = 0x1111111111111111;
    native_vector_set(42);
    EXPECT(guest_run_for(&g, GROUPS_START, 0, 1000), TIMED_OUT);
    EXPECT(guest_make(&h, 1, &vector, true), 0);
    h.page->b.rdi = 0x2222222222222222;
    uint64_t set = GROUPS_START;
    for (unsigned i = 0; i < 20; i++) {
        EXPECT(native_vector(), 42 + i);
        native_vector_set(43 + i);
        EXPECT(guest_run_for(&h, set, 0, 4000), TIMED_OUT);
        set = 0;
    }
    CHECK(*guest_word(&g, GUEST_DATA) > 100 && *guest_word(&h, GUEST_DATA) > 100);
    EXPECT(guest_end(&g), 0);
    EXPECT(guest_end(&h), 0);
}

static void test_fpu_group(void)
{
    EXPECT(guest_make(&g, 0, &vector, true), 0);
    EXPECT(exo_vcpu_mask(&g.cpu, EXO_VX_FORCED, EXO_VG_FPU), 0);
    g.page->b.rdi = 0x77;
    g.page->event_mask |= 1;
    EXPECT(guest_run_for(&g, GROUPS_START, 0, 3000), TIMED_OUT);
    __atomic_fetch_or(&g.page->events, 1, __ATOMIC_SEQ_CST);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_FORCED);
    uint64_t *xmm1 = (uint64_t *)&g.page->fpu[160 + 16]; /* Intel SDM vol. 1, 13.4.1 */
    EXPECT(*xmm1, 0x77);
    *xmm1 = 0x78;
    EXPECT(guest_run(&g, EXO_VG_FPU, 0), EXO_VX_PIO);
    EXPECT(g.page->a.rax, 0x78);
    EXPECT(guest_end(&g), 0);
}

static void test_msrs(void)
{
    EXPECT(guest_make(&g, 0, &msrs, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_MSR_WRITE);
    EXPECT(g.w.detail[0], 0xc0000082);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_VPASS, EXO_VP_LSTAR, 0), 0);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    CHECK((uint32_t)g.page->a.rax == 0x12345678 && (uint32_t)g.page->a.rdx == 0xffff8000);
    EXPECT(guest_run(&g, 0, EXO_VG_MSR), EXO_VX_MORE);
    EXPECT(g.page->msr.lstar, 0xffff800012345678);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_VPASS, 0, 0), 0);
    g.page->rip.rip = GUEST_CODE;
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_MSR_WRITE);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_VPASS, EXO_VP_ALL + 1, 0), -EXO_E_ARG);
    EXPECT(guest_end(&g), 0);
}

static void test_ports(void)
{
    if (exo.start.sel_console == 0) {
        test_skip("has no ports");
        return;
    }
    EXPECT(guest_make(&g, 0, &port, false), 0);
    long sel = exo_vm_give(&g.vm, exo.start.sel_console, EXO_USE, 0x3ff, 1);
    CHECK(sel > 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_PIO);
    EXPECT(g.w.detail[0], 0x3ff);
    EXPECT(exo_port_unpass(g.vm.env, (uint64_t)sel), -EXO_E_NONE);
    EXPECT(exo_port_pass(g.vm.env, (uint64_t)sel), 0);
    EXPECT(exo_port_pass(g.vm.env, (uint64_t)sel), -EXO_E_BOUND);
    EXPECT(exo_port_pass(EXO_SELF, exo.start.sel_console), -EXO_E_TYPE);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rax & 0xff, 0x5a);
    EXPECT(exo_port_unpass(g.vm.env, (uint64_t)sel), 0);
    guest_skip(&g, 1);
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_PIO);
    EXPECT(exo_port_pass(g.vm.env, (uint64_t)sel), 0);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    long r;
    do
        r = exo_cap_delete(EXO_REF(g.vm.env, sel));
    while (r == -EXO_E_AGAIN);
    if (r == -EXO_E_BUSY) { /* passed: a binding */
        EXPECT(exo_port_unpass(g.vm.env, (uint64_t)sel), 0);
        EXPECT(exo_cap_delete(EXO_REF(g.vm.env, sel)), 0);
    }
    guest_skip(&g, 1);
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_PIO);
    EXPECT(guest_end(&g), 0);
}

static void test_time(void)
{
    EXPECT(guest_make(&g, 0, &clock, true), 0);
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t offset = i * 0x1000000000000 - exo_tsc();
        g.page->tsc_offset = offset;
        uint64_t before = exo_tsc() + offset;
        EXPECT(guest_run(&g, (i == 0 ? GROUPS_START : EXO_VG_RIP) | EXO_VG_TIME, 0), EXO_VX_HLT);
        uint64_t after = exo_tsc() + offset, got = g.page->a.rax;
        CHECK(got - before <= after - before);
        guest_skip(&g, 1);
    }
    EXPECT(guest_end(&g), 0);
}

/* XCR0 is the guest's own: by XSETBV, whether it exits or not, and by its group. */
static void test_xcr0(void)
{
    EXPECT(guest_make(&g, 0, &xcr, true), 0);
    g.page->cr.cr4 |= 1ul << 18;
    long r = guest_run(&g, GROUPS_START, EXO_VG_CR);
    EXPECT(r, EXO_VX_MORE);
    r = guest_run(&g, 0, 0);
    if (r == EXO_VX_XSETBV) {
        guest_skip(&g, 3);
        EXPECT(g.page->a.rax & 0xffffffff, 1);
        g.page->cr.xcr0 = 1;
        r = guest_run(&g, EXO_VG_CR | EXO_VG_RIP, 0);
    }
    EXPECT(r, EXO_VX_HLT);
    EXPECT(guest_run(&g, 0, EXO_VG_CR), EXO_VX_MORE);
    EXPECT(g.page->cr.xcr0, 1);
    native_vector_set(17);
    EXPECT(native_vector(), 17);
    EXPECT(guest_end(&g), 0);
}

static void test_xcr0_group(void)
{
    EXPECT(guest_make(&g, 0, &xget, true), 0);
    g.page->cr.cr4 |= 1ul << 18;
    for (uint64_t value = 1; value <= 3; value += 2) {
        g.page->cr.xcr0 = value;
        EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
        EXPECT(g.page->a.rax, value);
        g.page->rip.rip = GUEST_CODE;
    }
    EXPECT(guest_end(&g), 0);
}

static void test_calls(void)
{
    EXPECT(guest_make(&g, 0, &halt, false), 0);
    uint32_t t = g.cpu.thread;
    EXPECT(exo_thread_set(t, EXO_SET_UPCALL, 0x1000, 0x2000), -EXO_E_TYPE);
    EXPECT(exo_thread_set(t, EXO_SET_VMASK, EXO_VX_COUNT, 0), -EXO_E_ARG);
    EXPECT(exo_thread_set(t, EXO_SET_VMASK, 1, EXO_VG_ALL + 1), -EXO_E_ARG);
    EXPECT(exo_thread_set(t, EXO_SET_VHYPER, 60, 5), -EXO_E_ARG);
    EXPECT(exo_thread_set(0, EXO_SET_VMASK, 1, 0), -EXO_E_TYPE);
    EXPECT(exo_thread_stop(t), 0);
    EXPECT(exo_thread_read(t), -EXO_E_TYPE);
    EXPECT(exo_thread_write(t), -EXO_E_TYPE);
    EXPECT(exo_thread_start(t, 0x1000, 0, 0), -EXO_E_TYPE);
    EXPECT(exo_page_protect(g.vm.env, 0, 1, 0), -EXO_E_ARG);
    EXPECT(guest_end(&g), 0);
}

const struct test state_tests[] = {
    {"all general registers go in and out", test_registers},
    {"all groups are read back as set", test_groups},
    {"flags that do not exist", test_flags},
    {"what is not allowed is refused", test_refused},
    {"a monitor keeps its segment base", test_bases},
    {"each guest has its own FPU", test_fpu},
    {"a guest's FPU in its page", test_fpu_group},
    {"MSRs passed and taken back", test_msrs},
    {"ports passed and taken back", test_ports},
    {"a guest's clock has its offset", test_time},
    {"replies that take the short way", test_short_way},
    {"each guest has its own XCR0", test_xcr0},
    {"XCR0 as its monitor set it", test_xcr0_group},
    {"calls that virtual CPUs refuse", test_calls},
    {NULL, NULL},
};
