/* SPDX-License-Identifier: MIT
 *
 * The monitor's walk of the guest's page tables: each paging mode leads where its tables say,
 * rights are the processor's, and tables that lead out of memory or onto themselves end in a
 * page fault.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../vmm/walk.c"
#undef main

#define RAM 0x100000u
static uint8_t ram[RAM];

void *guest_ptr(uint64_t address, uint64_t bytes)
{
    return address < RAM && bytes <= RAM - address ? ram + address : NULL;
}

bool guest_read(uint64_t address, void *to, uint64_t bytes)
{
    const void *from = guest_ptr(address, bytes);
    if (from != NULL) memcpy(to, from, bytes);
    return from != NULL;
}

static unsigned failed;

static void check(bool good, const char *what)
{
    if (!good) failed++;
    printf("%s walk: %s\n", good ? "PASS" : "FAIL", what);
}

static void put64(uint64_t table, unsigned index, uint64_t entry)
{
    memcpy(ram + table + 8 * index, &entry, 8);
}

static void put32(uint64_t table, unsigned index, uint32_t entry)
{
    memcpy(ram + table + 4 * index, &entry, 4);
}

static uint64_t get64(uint64_t table, unsigned index)
{
    uint64_t entry;
    memcpy(&entry, ram + table + 8 * index, 8);
    return entry;
}

static const struct walk long_mode = {
    .cr0 = CR0_PG | CR0_WP, .cr3 = 0x1000, .cr4 = CR4_PAE, .efer = EFER_LMA | EFER_NXE};

/* True: it leads there. */
static bool leads(const struct walk *w, uint64_t linear, unsigned access, uint64_t where)
{
    uint64_t physical = 0;
    uint32_t error;
    return walk_translate(w, linear, access, &physical, &error) && physical == where;
}

static bool faults(const struct walk *w, uint64_t linear, unsigned access, uint32_t code)
{
    uint64_t physical;
    uint32_t error = ~0u;
    return !walk_translate(w, linear, access, &physical, &error) && error == code;
}

/* 0x1000 -> 0x2000 -> 0x3000 -> 0x4000, and large pages beside. */
static void tables_64(uint64_t rights)
{
    memset(ram, 0, RAM);
    put64(0x1000, 5, 0x2000 | 7);
    put64(0x2000, 6, 0x3000 | 7);
    put64(0x2000, 7, 0x40000000 | ENTRY_LARGE | 7);
    put64(0x3000, 7, 0x4000 | 7);
    put64(0x3000, 8, 0xabc00000 | ENTRY_LARGE | 7);
    put64(0x4000, 9, 0x123456000 | rights);
}

#define VA ((5ull << 39) + (6ull << 30) + (7ull << 21) + (9ull << 12) + 0x123)

static void test_long_mode(void)
{
    tables_64(7);
    check(leads(&long_mode, VA, 0, 0x123456123), "64-bit, 4 KiB");
    check((get64(0x1000, 5) & ENTRY_A) != 0 && (get64(0x4000, 9) & (ENTRY_A | ENTRY_D)) == ENTRY_A,
          "a read sets accessed bits");
    check(leads(&long_mode, VA, WALK_WRITE, 0x123456123) && (get64(0x4000, 9) & ENTRY_D) != 0,
          "a write sets the dirty bit");
    check(leads(&long_mode, (5ull << 39) + (6ull << 30) + (8ull << 21) + 0x54321, 0, 0xabc54321),
          "64-bit, 2 MiB");
    check(leads(&long_mode, (5ull << 39) + (7ull << 30) + 0x7654321, 0, 0x47654321),
          "64-bit, 1 GiB");
    check(faults(&long_mode, VA + 4096, 0, 0), "not present");
}

static void test_rights(void)
{
    struct walk user = long_mode, loose = long_mode, smep = long_mode, smap = long_mode;
    user.user = true;
    loose.cr0 &= ~CR0_WP;
    smep.cr4 |= CR4_SMEP;
    smap.cr4 |= CR4_SMAP;
    tables_64(5);
    check(faults(&user, VA, WALK_WRITE, 7), "a user's write of a read-only page");
    check(faults(&long_mode, VA, WALK_WRITE, 3), "a kernel's, with WP");
    check(leads(&loose, VA, WALK_WRITE, 0x123456123), "a kernel's, without WP");
    check(faults(&smep, VA, WALK_FETCH, 17), "SMEP");
    check(faults(&smap, VA, 0, 1), "SMAP");
    smap.rflags = RFLAGS_AC;
    check(leads(&smap, VA, 0, 0x123456123), "SMAP with AC");
    tables_64(3);
    check(faults(&user, VA, 0, 5), "a user's read of a kernel page");
    check(leads(&long_mode, VA, WALK_FETCH, 0x123456123), "a kernel's fetch");
    tables_64(7 | ENTRY_NX);
    check(faults(&user, VA, WALK_FETCH, 21), "a fetch from a no-execute page");
    tables_64(7);
    put64(0x2000, 6, 0x3000 | 5);
    check(faults(&user, VA, WALK_WRITE, 7), "read-only further up");
}

static void test_32_bit(void)
{
    struct walk w = {.cr0 = CR0_PG | CR0_WP, .cr3 = 0x1000, .cr4 = CR4_PSE};
    memset(ram, 0, RAM);
    put32(0x1000, 3, 0x2000 | 7);
    put32(0x2000, 4, 0x89abc000 | 7);
    put32(0x1000, 9, 0x12402000 | (uint32_t)ENTRY_LARGE | 7);
    check(leads(&w, (3u << 22) + (4u << 12) + 5, 0, 0x89abc005), "32-bit, 4 KiB");
    check(leads(&w, (9u << 22) + 0x23456, 0, 0x112423456), "32-bit, 4 MiB above 4 GiB");
    w.cr4 = CR4_PAE;
    put64(0x1000, 2, 0x3000 | 1);
    put64(0x3000, 4, 0x4000 | 7);
    put64(0x4000, 5, 0x5000 | 7);
    check(leads(&w, (2u << 30) + (4u << 21) + (5u << 12) + 6, 0, 0x5006), "PAE, 4 KiB");
    check(leads(&w, (1ull << 32) + (2u << 30) + (4u << 21) + (5u << 12) + 6, 0, 0x5006),
          "addresses are cut to 32 bits");
    w.cr0 = 0;
    check(leads(&w, 0x1ffffffffull, 0, 0xffffffff), "no paging");
}

static void test_hostile(void)
{
    struct walk w = long_mode;
    tables_64(7);
    for (uint64_t bad = RAM - 4096; bad < 1ull << 52; bad = bad * 3 + 4096) {
        put64(0x1000, 5, (bad & ENTRY_ADDRESS) | 7);
        if (!faults(&w, VA, 0, 0)) failed++;
    }
    check(failed == 0, "tables beyond memory");
    w.cr3 = 0xffffffffff000;
    check(faults(&w, VA, 0, 0), "CR3 beyond memory");
    w.cr3 = 0x1000;
    for (unsigned i = 0; i < 512; i++)
        put64(0x1000, i, 0x1000 | 7);
    check(leads(&w, VA, 0, 0x1123), "a table that leads to itself ends at level 1");
}

int main(void)
{
    test_long_mode();
    test_rights();
    test_32_bit();
    test_hostile();
    return failed != 0;
}
