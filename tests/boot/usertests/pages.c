/* SPDX-License-Identifier: MIT
 *
 * Address spaces: binding, protecting, unbinding, page tables, large pages. */
#include "tests.h"

#define RW (EXO_R | EXO_W)
#define PF 15 /* 1 + the vector of a page fault */
#define PTE_ACCESSED 0x20ul /* Intel SDM vol. 3, 4.5 */
#define PTE_DIRTY 0x40ul
#define PTE_FRAME(e) ((e) >> 12 & 0xfffffffffful)

static void test_page_bind(void)
{
    uint64_t f = frames(3), v;
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 3, MEM, f, RW), 3);
    EXPECT(probe_write(TEST_VA, 7), 0);
    EXPECT(probe_write(TEST_VA + 2 * EXO_PAGE, 9), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA + 8 * EXO_PAGE, 1, MEM, f + 2, EXO_R), 1);
    EXPECT(probe_read(TEST_VA + 8 * EXO_PAGE, &v), 0);
    EXPECT(v, 9);
    EXPECT(probe_write(TEST_VA + 8 * EXO_PAGE, 1), PF);
    EXPECT(probe_error, 7); /* present, write, user */
    EXPECT(EXO_FW_BINDINGS(exo.words[f + 2]), 2);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, RW), -EXO_E_BOUND);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA + 6 * EXO_PAGE, 3, MEM, f, EXO_R), 2);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 9), 9);
    EXPECT(probe_read(TEST_VA, NULL), PF);
    EXPECT(probe_addr, TEST_VA);
    EXPECT(probe_error, 4);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), -EXO_E_NONE);
    give_back(f, 3);
}

static void test_page_errors(void)
{
    uint64_t f = frames(2), end = exo.start.memory_base + exo.start.memory_count;
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA + 1, 1, MEM, f, RW), -EXO_E_VA);
    EXPECT(exo_page_bind(EXO_SELF, 0xffff800000000000, 1, MEM, f, RW), -EXO_E_VA);
    EXPECT(exo_page_bind(EXO_SELF, 0x0000800000000000, 1, MEM, f, RW), -EXO_E_VA);
    EXPECT(exo_page_bind(EXO_SELF, EXO_VA_END, 1, MEM, f, RW), -EXO_E_VA);
    EXPECT(exo_page_bind(EXO_SELF, EXO_VA_END - EXO_PAGE, 2, MEM, f, RW), -EXO_E_VA);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 0, MEM, f, RW), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, EXO_RANGE_MAX + 1, MEM, f, RW), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, UINT64_MAX, MEM, f, RW), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, EXO_W), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, 0), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, RW | 1ul << 40), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, end, RW), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, 0, RW), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, UINT64_MAX, RW), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, 1ul << 52, RW), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, FAR_VA, 1, MEM, f, RW), -EXO_E_NOPT);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, 0, f, RW), -EXO_E_SEL);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, exo.start.sel_thread, f, RW), -EXO_E_KIND);
    EXPECT(exo_page_bind(MEM, TEST_VA, 1, MEM, f, RW), -EXO_E_KIND);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, exo.start.sel_tables, exo.start.tables_base, RW),
           -EXO_E_RIGHTS);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 0), -EXO_E_ARG);
    EXPECT(exo_page_unbind(EXO_SELF, EXO_VA_END, 1), -EXO_E_VA);
    EXPECT(exo_page_unbind(EXO_SELF, FAR_VA, 1), -EXO_E_NOPT);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, EXO_R), -EXO_E_NONE);
    EXPECT(exo_page_protect(EXO_SELF, FAR_VA, 1, EXO_R), -EXO_E_NOPT);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA + 8, 1, EXO_R), -EXO_E_VA);
    give_back(f, 2);
}

static void test_page_protect(void)
{
    uint64_t f = frames(2), a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, RW), 1);
    EXPECT(probe_write(TEST_VA, 1), 0);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, EXO_R), 1);
    EXPECT(probe_write(TEST_VA, 2), PF);
    EXPECT(probe_read(TEST_VA, NULL), 0);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, 0), 1);
    EXPECT(probe_read(TEST_VA, NULL), PF);
    EXPECT(EXO_FW_BINDINGS(exo.words[f]), 1);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, RW), -EXO_E_BOUND);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, RW), 1);
    EXPECT(probe_write(TEST_VA, 0xc3), 0); /* RET */
    EXPECT(probe_run(TEST_VA), PF); /* not executable */
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, EXO_R | EXO_X), 1);
    EXPECT(probe_run(TEST_VA), 0);
    EXPECT(exo_cap_derive(MEM, a, EXO_R, f + 1, 1), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA + EXO_PAGE, 1, a, f + 1, RW), -EXO_E_RIGHTS);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA + EXO_PAGE, 1, a, f + 1, EXO_R), 1);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA + EXO_PAGE, 1, RW), -EXO_E_RIGHTS);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA + EXO_PAGE, 1, EXO_R | EXO_X), -EXO_E_RIGHTS);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 2), 2);
    EXPECT(exo_drop((uint32_t)a), 0);
    give_back(f, 2);
}

static void test_page_lists(void)
{
    uint64_t f = frames(8);
    struct exo_batch *list = exo_page()->list;
    EXPECT(exo_page_bind_list(EXO_SELF, 0, MEM, RW), -EXO_E_ARG);
    EXPECT(exo_page_bind_list(EXO_SELF, EXO_LIST_MAX + 1, MEM, RW), -EXO_E_ARG);
    for (unsigned i = 0; i < 8; i++)
        list[i] = (struct exo_batch){TEST_VA + 3 * i * EXO_PAGE, f + 7 - i};
    EXPECT(exo_page_bind_list(EXO_SELF, 8, MEM, RW), 8);
    for (unsigned i = 0; i < 8; i++)
        EXPECT(probe_write(TEST_VA + 3 * i * EXO_PAGE, i), 0);
    EXPECT(exo_page_bind_list(EXO_SELF, 8, MEM, RW), -EXO_E_BOUND);
    EXPECT(exo_page_protect_list(EXO_SELF, 8, EXO_R), 8);
    for (unsigned i = 0; i < 8; i++)
        EXPECT(probe_write(TEST_VA + 3 * i * EXO_PAGE, i), PF);
    list[1].va = EXO_VA_END;
    EXPECT(exo_page_unbind_list(EXO_SELF, 8), 1);
    list[0] = list[7];
    list[1].va = TEST_VA + 3 * EXO_PAGE;
    EXPECT(exo_page_unbind_list(EXO_SELF, 7), 7);
    EXPECT(exo_page_unbind_list(EXO_SELF, 7), -EXO_E_NONE);
    list[0] = (struct exo_batch){TEST_VA, 0};
    EXPECT(exo_page_bind_list(EXO_SELF, 1, MEM, RW), -EXO_E_RANGE);
    list[0].va = FAR_VA;
    list[0].frame = f;
    EXPECT(exo_page_bind_list(EXO_SELF, 1, MEM, RW), -EXO_E_NOPT);
    give_back(f, 8);
}

static void test_page_tables(void)
{
    uint64_t f = frames(4), va = FAR_VA;
    EXPECT(exo_pt_make(EXO_SELF, va, 0, MEM, f), -EXO_E_ARG);
    EXPECT(exo_pt_make(EXO_SELF, va, 4, MEM, f), -EXO_E_ARG);
    EXPECT(exo_pt_make(EXO_SELF, 0xffff800000000000, 1, MEM, f), -EXO_E_VA);
    EXPECT(exo_pt_make(EXO_SELF, va, 1, MEM, f), -EXO_E_NOPT);
    EXPECT(exo_pt_make(EXO_SELF, va, 3, MEM, 0), -EXO_E_RANGE);
    EXPECT(exo_pt_make(EXO_SELF, va, 3, MEM, f), 0);
    EXPECT(exo_pt_make(EXO_SELF, va, 3, MEM, f + 1), -EXO_E_BOUND);
    EXPECT(exo_pt_make(EXO_SELF, va, 2, MEM, f), -EXO_E_TYPE);
    EXPECT(exo_pt_make(EXO_SELF, va, 2, MEM, f + 1), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + 2, EXO_R), 1);
    EXPECT(exo_pt_make(EXO_SELF, va, 1, MEM, f + 2), -EXO_E_BUSY);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    EXPECT(exo_pt_make(EXO_SELF, va, 1, MEM, f + 2), 0);
    EXPECT(EXO_FW_TYPE(exo.words[f + 2]), EXO_FT_PT1);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f + 3, RW), 1);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 1), -EXO_E_BUSY);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 2), -EXO_E_BUSY);
    EXPECT(exo_page_unbind(EXO_SELF, va, 1), 1);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 1), 0);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 1), -EXO_E_NONE);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 2), 0);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 1), -EXO_E_NOPT);
    EXPECT(exo_pt_unmake(EXO_SELF, va, 3), 0);
    for (unsigned i = 0; i < 4; i++)
        EXPECT(EXO_FW_TYPE(exo.words[f + i]), EXO_FT_PLAIN);
    give_back(f, 4);
}

static void test_page_table_readable(void)
{
    uint64_t f = frames(4), va = FAR_VA;
    for (unsigned level = 3; level; level--)
        EXPECT(exo_pt_make(EXO_SELF, va, level, MEM, f + level), 0);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f, RW), 1);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + 1, RW), -EXO_E_TYPE);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + 1, EXO_R), 1);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 1, RW), -EXO_E_TYPE);
    volatile uint64_t *pte = (volatile uint64_t *)TEST_VA;
    EXPECT(PTE_FRAME(pte[0]), f);
    EXPECT(pte[0] & (PTE_ACCESSED | PTE_DIRTY), 0);
    EXPECT(probe_read(va, NULL), 0);
    EXPECT(pte[0] & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED);
    EXPECT(probe_write(va, 1), 0);
    EXPECT(pte[0] & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED | PTE_DIRTY);
    EXPECT(probe_write(TEST_VA, 0), PF);
    EXPECT(exo_page_unbind(EXO_SELF, va, 1), 1);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    for (unsigned level = 1; level <= 3; level++)
        EXPECT(exo_pt_unmake(EXO_SELF, va, level), 0);
    give_back(f, 4);
}

static void test_large_page(void)
{
    long at = exo_frames_alloc(&exo.pool, 512, 512);
    uint64_t va = TEST_VA + (4ul << 20), f = (uint64_t)at, v;
    if (at < 0) {
        test_skip("no 2 MiB of frames");
        return;
    }
    EXPECT(exo_bind(&exo.pool, va, 1, MEM, f, RW | EXO_LARGE_2M), 0);
    EXPECT(probe_write(va, 11), 0);
    EXPECT(probe_write(va + 511 * EXO_PAGE, 12), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + 511, RW), 1);
    EXPECT(probe_read(TEST_VA, &v), 0);
    EXPECT(v, 12);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    /* no frame in it can become a page table or an object */
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, MEM, f + 7), -EXO_E_BUSY);
    uint64_t sel = (uint64_t)exo_sel_alloc();
    EXPECT(exo_thread_make(sel, EXO_SELF, MEM, f + 8, exo.start.cpu), -EXO_E_BUSY);
    exo_sel_free((uint32_t)sel);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f, RW | EXO_LARGE_2M), -EXO_E_BOUND);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f + 1, RW | EXO_LARGE_2M), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, va + EXO_PAGE, 1, MEM, f, RW | EXO_LARGE_2M) < 0, 1);
    EXPECT(exo_page_unbind(EXO_SELF, va, 1), 1);
    EXPECT(probe_read(va, NULL), PF);
    /* and no large page can cover a page table */
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, MEM, f + 7), 0);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f, RW | EXO_LARGE_2M) < 0, 1);
    EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, 3), 0);
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f, RW | EXO_LARGE_2M), 1);
    EXPECT(exo_page_unbind(EXO_SELF, va, 1), 1);
    give_back(f, 512);
}

/* 1 GiB pages, of the block that root gives where there is that much memory. */
#define HUGE_FRAMES 262144ul
#define HUGE_VA (1ul << 40)
#define HUGE_LAST ((HUGE_FRAMES - 1) * EXO_PAGE)

/* CPUID 0x80000001, EDX bit 26: Intel SDM vol. 2; AMD APM vol. 3. */
static bool cpu_has_huge_pages(void)
{
    uint32_t a = 0x80000001, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return d >> 26 & 1;
}

static void test_huge_page(void)
{
    const struct exo_range *b = &exo.start.block;
    uint64_t t = frames(2), v;
    if (b->count < HUGE_FRAMES) {
        give_back(t, 2);
        test_skip("no 1 GiB of memory");
        return;
    }
    uint64_t rights = RW | EXO_LARGE_1G;
    if (!cpu_has_huge_pages()) {
        EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first, rights), -EXO_E_ARG);
        give_back(t, 2);
        return;
    }
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first, rights), -EXO_E_NOPT);
    EXPECT(exo_pt_make(EXO_SELF, HUGE_VA, 3, MEM, t), 0);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first + 512, rights), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA + (2ul << 20), 1, b->sel, b->first, rights) < 0, 1);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 2, b->sel, b->first, rights), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first, rights), 1);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first, rights), -EXO_E_BOUND);
    EXPECT(exo_pt_make(EXO_SELF, HUGE_VA, 2, MEM, t + 1), -EXO_E_BOUND);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, b->sel, b->first + 12345), -EXO_E_BUSY);
    EXPECT(probe_write(HUGE_VA, 21), 0);
    EXPECT(probe_write(HUGE_VA + HUGE_LAST, 22), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, b->sel, b->first + HUGE_FRAMES - 1, RW), 1);
    EXPECT(probe_read(TEST_VA, &v), 0);
    EXPECT(v, 22);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    EXPECT(exo_page_protect(EXO_SELF, HUGE_VA, 1, EXO_R), 1);
    EXPECT(probe_write(HUGE_VA + HUGE_LAST, 0), PF);
    EXPECT(probe_read(HUGE_VA, &v), 0);
    EXPECT(v, 21);
    EXPECT(exo_page_unbind(EXO_SELF, HUGE_VA, 1), 1);
    EXPECT(probe_read(HUGE_VA, NULL), PF);
    EXPECT(probe_read(HUGE_VA + HUGE_LAST, NULL), PF);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, b->sel, b->first + 12345), 0);
    EXPECT(exo_page_bind(EXO_SELF, HUGE_VA, 1, b->sel, b->first, rights), -EXO_E_TYPE);
    EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, 3), 0);
    EXPECT(exo_pt_unmake(EXO_SELF, HUGE_VA, 3), 0);
    give_back(t, 2);
}

static void test_page_reuse(void)
{
    uint64_t f = frames(1);
    for (unsigned i = 0; i < 50; i++) { /* plain, page table, plain ... at once after each */
        EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, RW), 1);
        EXPECT(probe_write(TEST_VA, UINT64_MAX), 0);
        EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
        EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, MEM, f), 0);
        EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, 3), 0);
    }
    give_back(f, 1);
}

static void test_page_ranges(void)
{
    uint64_t n = 300, f = frames(n), va = TEST_VA + (2ul << 20) - 150 * EXO_PAGE;
    CHECK(f);
    EXPECT(exo_bind(&exo.pool, va, n, MEM, f, RW), 0); /* across two page tables */
    for (uint64_t i = 0; i < n; i++)
        EXPECT(probe_write(va + i * EXO_PAGE, i), 0);
    EXPECT(exo_unbind(&exo.pool, va, n), 0);
    for (uint64_t i = 0; i < n; i += 37)
        EXPECT(probe_read(va + i * EXO_PAGE, NULL), PF);
    give_back(f, n);
}

const struct test page_tests[] = {
    {"page_bind", test_page_bind},
    {"page_errors", test_page_errors},
    {"page_protect", test_page_protect},
    {"page_lists", test_page_lists},
    {"page_tables", test_page_tables},
    {"page_table_readable", test_page_table_readable},
    {"large_page", test_large_page},
    {"huge_page", test_huge_page},
    {"page_reuse", test_page_reuse},
    {"page_ranges", test_page_ranges},
    {NULL, NULL},
};
