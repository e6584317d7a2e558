/* SPDX-License-Identifier: MIT
 *
 * Modes of the CPU: changed by the guest, set by the monitor, and set wrong; debug
 * exceptions; and what guest mode leaves behind in the host's. */
#include "monitor.h"

GUEST(halt);
GUEST(registers);
GUEST(error_handler);
GUEST(ascend);
GUEST(pae);

#define CR0_PG 0x80000000u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define RFLAGS_TF 0x100u
#define RFLAGS_VM 0x20000u
#define DR6_STEP 0x4000u

static struct guest g;

/* Does what the guest's MOV to CR0 or CR4, RDMSR or WRMSR of EFER would have done. */
static long mode_exit(long reason)
{
    struct exo_vm_cr *cr = &g.page->cr;
    unsigned length = reason == EXO_VX_CR ? 3 : 2;
    if (reason == EXO_VX_CR && g.w.detail[0] & EXO_CRX_WRITE)
        *((g.w.detail[0] & EXO_CRX_NUMBER) == 0 ? &cr->cr0 : &cr->cr4) = g.page->a.rax;
    else if (reason == EXO_VX_MSR_WRITE)
        cr->efer = g.page->a.rax;
    else if (reason == EXO_VX_MSR_READ)
        g.page->a.rax = cr->efer;
    else
        return reason;
    if ((cr->cr0 & CR0_PG) != 0 && (cr->efer & EFER_LME) != 0) cr->efer |= EFER_LMA;
    guest_skip(&g, length);
    return guest_run(&g, EXO_VG_RIP | EXO_VG_A | EXO_VG_CR, 0);
}

/* Real, protected, 64-bit mode, as any system starts. */
static void test_ascend(void)
{
    EXPECT(guest_make(&g, 0, &ascend, true), 0); /* its page tables, GDT */
    guest_state(&g, false);
    *guest_word(&g, GUEST_GDT + GUEST_CS32) = 0x00cf9b000000ffff;
    *guest_word(&g, GUEST_DATA) = 31 | (uint64_t)GUEST_GDT << 16;
    for (uint32_t reason = 1; reason < EXO_VX_COUNT; reason++)
        EXPECT(exo_vcpu_mask(&g.cpu, reason, GROUPS_GENERAL | EXO_VG_CR), 0);
    long reason = guest_run(&g, GROUPS_START, 0);
    for (unsigned i = 0; i < 8 && reason != EXO_VX_HLT; i++)
        reason = mode_exit(reason);
    EXPECT(reason, EXO_VX_HLT);
    EXPECT(g.page->a.rax, 0x123456789abcdef0);
    EXPECT(g.page->cr.efer, EFER_LME | EFER_LMA);
    EXPECT(g.page->cr.cr0 & CR0_PG, CR0_PG);
    EXPECT(guest_run(&g, 0, EXO_VG_SEG), EXO_VX_MORE);
    EXPECT(g.page->segs.seg[EXO_CS].attributes, 0xa9b);
    EXPECT(guest_end(&g), 0);
}

/* VT-x wants the page-directory pointers from the monitor, AMD-V loads them by itself. */
static void test_pae(void)
{
    EXPECT(guest_make(&g, 0, &pae, false), 0);
    *guest_word(&g, GUEST_ROOT) = (GUEST_ROOT + 0x1000) | 1;
    *guest_word(&g, GUEST_ROOT + 0x1000) = 0x83;
    *guest_word(&g, GUEST_DATA) = 0x1111111122222222;
    g.page->cr = (struct exo_vm_cr){.cr0 = 0x80000031, .cr3 = GUEST_ROOT, .cr4 = 0x20, .xcr0 = 1};
    g.page->segs.seg[EXO_CS] = (struct exo_vm_seg){GUEST_CS, 0xc9b, 0xffffffff, 0};
    for (unsigned i = 0; i < EXO_LDTR; i++)
        if (i != EXO_CS) g.page->segs.seg[i] = (struct exo_vm_seg){GUEST_DS, 0xc93, 0xffffffff, 0};
    memset(g.page->pdpte, 0, sizeof g.page->pdpte);
    g.page->pdpte[0] = (GUEST_ROOT + 0x1000) | 1;
    long reason = guest_run(&g, GROUPS_START, 0);
    if (exo.info->vm == EXO_VM_VMX) {
        EXPECT(reason, EXO_VX_REFUSED);
        EXPECT(1ul << g.w.detail[0], EXO_VG_PDPTE);
        g.page->pdpte[1] = 2 | 1; /* a bit that is none */
        EXPECT(guest_run(&g, EXO_VG_PDPTE, 0), EXO_VX_REFUSED);
        g.page->pdpte[1] = 0;
        reason = guest_run(&g, EXO_VG_PDPTE, 0);
    }
    EXPECT(reason, EXO_VX_HLT);
    EXPECT(g.page->a.rbx, 0x22222222);
    EXPECT(g.page->a.rcx, 0x11111111);
    EXPECT(guest_end(&g), 0);
}

/* What no single group shows: VT-x refuses it at the entry, and the guest can be mended. */
static void test_invalid(void)
{
    if (exo.info->vm != EXO_VM_VMX) {
        test_skip("AMD-V does not check this");
        return;
    }
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    g.page->rip.rflags |= RFLAGS_VM;
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_INVALID);
    EXPECT(g.w.detail[0], 33); /* Intel SDM vol. 3, appendix C: guest state */
    EXPECT(guest_run(&g, 0, 0), EXO_VX_REFUSED);
    EXPECT(guest_run(&g, 0, EXO_VG_ALL), EXO_VX_MORE);
    EXPECT(g.page->rip.rip, GUEST_CODE);
    EXPECT(g.page->cr.cr3, GUEST_ROOT);
    g.page->rip.rflags = 2;
    EXPECT(guest_run(&g, EXO_VG_ALL & ~EXO_VG_PDPTE, 0), EXO_VX_HLT);
    EXPECT(guest_end(&g), 0);
}

/* A single step: the exception is the monitor's, which gives it to the guest. */
static void test_step(void)
{
    EXPECT(guest_make(&g, 0, &registers, true), 0);
    guest_gate(&g, 1, guest_more(&g, &error_handler, 0x100));
    g.page->rip.rflags |= RFLAGS_TF;
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_EXCEPTION);
    EXPECT(g.w.detail[0], 1);
    EXPECT(g.page->rip.rip, GUEST_CODE + 3);
    EXPECT(guest_run(&g, 0, EXO_VG_DR), EXO_VX_MORE);
    if (!interrupts_stuck()) EXPECT(g.page->dr.dr6 & DR6_STEP, DR6_STEP); /* Bochs: too early */
    g.page->inject = (struct exo_vm_inject){.event = EXO_VE_VALID | EXO_VE_EXCEPTION | 1};
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_HLT);
    EXPECT(*guest_word(&g, GUEST_DATA), GUEST_CODE + 3);
    EXPECT(guest_end(&g), 0);
}

/* A VT-x exit opens the GDT up to 64 KiB: the kernel has to close it again. LAR finds
 * descriptors without using them; the next CPU's GDT would be in reach. */
static void test_descriptors(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    unsigned found = 0;
    for (uint32_t selector = 3; selector < 0x10000; selector += 8) {
        uint32_t rights;
        bool good;
        __asm__("lar %2, %0" : "=r"(rights), "=@ccz"(good) : "r"(selector));
        found += good;
    }
    EXPECT(found, 2); /* the user's code and data */
    EXPECT(guest_end(&g), 0);
}

const struct test mode_tests[] = {
    {"from real mode to 64-bit mode", test_ascend},      {"PAE paging in 32-bit mode", test_pae},
    {"a state that VT-x refuses", test_invalid},         {"a single step", test_step},
    {"no descriptors behind the GDT", test_descriptors}, {NULL, NULL},
};
