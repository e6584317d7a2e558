/* SPDX-License-Identifier: MIT
 *
 * The walk, for 32-bit, PAE and 64-bit paging. Guest memory may change meanwhile: each
 * entry is fetched once, and its bits are set only if it is still the same.
 */
#include "walk.h"

#include "vmm.h"

#define CR0_PG 0x80000000ull
#define CR0_WP 0x10000ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_SMEP 0x100000ull
#define CR4_SMAP 0x200000ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull
#define RFLAGS_AC 0x40000ull
#define ENTRY_P 1ull
#define ENTRY_W 2ull
#define ENTRY_U 4ull
#define ENTRY_A 0x20ull
#define ENTRY_D 0x40ull
#define ENTRY_LARGE 0x80ull
#define ENTRY_NX (1ull << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000ull

struct step { /* one table */
    uint64_t table;
    unsigned level; /* 1: its entries map 4 KiB */
    unsigned bytes; /* of an entry: 4 or 8 */
};

static bool entry_fetch(const struct step *s, uint64_t linear, void **at, uint64_t *entry)
{
    unsigned bits = s->bytes == 8 ? 9 : 10;
    uint64_t index = linear >> (12 + bits * (s->level - 1)) & ((1u << bits) - 1);
    *at = guest_ptr(s->table + index * s->bytes, s->bytes);
    if (*at == NULL) return false;
    *entry = s->bytes == 8 ? *(const volatile uint64_t *)*at : *(const volatile uint32_t *)*at;
    return true;
}

/* False if the entry is another by now: the walk begins anew. */
static bool entry_mark(const struct step *s, void *at, uint64_t entry, uint64_t bits)
{
    if ((entry & bits) == bits) return true;
    if (s->bytes == 8)
        return __atomic_compare_exchange_n((uint64_t *)at, &entry, entry | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    uint32_t old = (uint32_t)entry;
    return __atomic_compare_exchange_n((uint32_t *)at, &old, (uint32_t)(entry | bits), false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* May the page be used so? rights: W and U of all entries and-ed, NX or-ed. */
static bool rights_allow(const struct walk *w, uint64_t rights, unsigned access)
{
    bool user_page = (rights & ENTRY_U) != 0, writable = (rights & ENTRY_W) != 0;
    if (access == WALK_FETCH) {
        if ((rights & ENTRY_NX) != 0 && (w->efer & EFER_NXE) != 0) return false;
        if (!w->user && user_page && (w->cr4 & CR4_SMEP) != 0) return false;
        return !w->user || user_page;
    }
    if (w->user) return user_page && (access != WALK_WRITE || writable);
    if (user_page && (w->cr4 & CR4_SMAP) != 0 && (w->rflags & RFLAGS_AC) == 0) return false;
    return access != WALK_WRITE || writable || (w->cr0 & CR0_WP) == 0;
}

static uint32_t error_code(const struct walk *w, unsigned access, unsigned present)
{
    bool fetch = access == WALK_FETCH && ((w->cr4 & CR4_SMEP) != 0 ||
                                          ((w->cr4 & CR4_PAE) != 0 && (w->efer & EFER_NXE) != 0));
    return (access == WALK_WRITE ? WALK_WRITE : 0) | (w->user ? WALK_USER : 0) |
           (fetch ? WALK_FETCH : 0) | present;
}

static bool is_leaf(const struct walk *w, const struct step *s, uint64_t entry)
{
    if (s->level == 1) return true;
    if ((entry & ENTRY_LARGE) == 0 || s->level > 3) return false;
    return s->bytes == 8 || (w->cr4 & CR4_PSE) != 0;
}

static uint64_t leaf_address(const struct step *s, uint64_t entry, uint64_t linear)
{
    if (s->level == 1) return (entry & ENTRY_ADDRESS) | (linear & 0xfff);
    if (s->bytes == 4) /* PSE-36: Intel SDM vol. 3, table 4-4 */
        return (entry & 0xffc00000) | (entry & 0x1fe000) << 19 | (linear & 0x3fffff);
    uint64_t mask = (1ull << (s->level == 2 ? 21 : 30)) - 1;
    return (entry & ENTRY_ADDRESS & ~mask) | (linear & mask);
}

/* The top table; PAE's four pointers are looked at as the CPU did when CR3 was loaded. */
static bool step_first(const struct walk *w, uint64_t linear, struct step *s)
{
    if ((w->efer & EFER_LMA) != 0) {
        *s = (struct step){w->cr3 & ENTRY_ADDRESS, 4, 8};
        return true;
    }
    if ((w->cr4 & CR4_PAE) == 0) {
        *s = (struct step){w->cr3 & 0xfffff000, 2, 4};
        return true;
    }
    uint64_t pointer;
    if (!guest_read((w->cr3 & 0xffffffe0) + 8 * (linear >> 30 & 3), &pointer, 8)) return false;
    *s = (struct step){pointer & ENTRY_ADDRESS, 2, 8};
    return (pointer & ENTRY_P) != 0;
}

enum outcome { FOUND, FAULT, CHANGED };

static enum outcome walk_once(const struct walk *w, uint64_t linear, unsigned access,
                              uint64_t *physical, uint32_t *error)
{
    struct step s;
    uint64_t rights = ENTRY_W | ENTRY_U;
    *error = error_code(w, access, 0);
    if (!step_first(w, linear, &s)) return FAULT;
    for (;; s.level--) {
        void *at;
        uint64_t entry;
        if (!entry_fetch(&s, linear, &at, &entry) || (entry & ENTRY_P) == 0) return FAULT;
        rights = (rights & entry & (ENTRY_W | ENTRY_U)) | ((rights | entry) & ENTRY_NX);
        if (!is_leaf(w, &s, entry)) {
            if (!entry_mark(&s, at, entry, ENTRY_A)) return CHANGED;
            s.table = entry & (s.bytes == 8 ? ENTRY_ADDRESS : 0xfffff000);
            continue;
        }
        *error = error_code(w, access, WALK_PRESENT);
        if (!rights_allow(w, rights, access)) return FAULT;
        if (!entry_mark(&s, at, entry, ENTRY_A | (access == WALK_WRITE ? ENTRY_D : 0)))
            return CHANGED;
        *physical = leaf_address(&s, entry, linear);
        return FOUND;
    }
}

bool walk_translate(const struct walk *w, uint64_t linear, unsigned access, uint64_t *physical,
                    uint32_t *error)
{
    if ((w->cr0 & CR0_PG) == 0) {
        *physical = linear & 0xffffffff;
        return true;
    }
    if ((w->efer & EFER_LMA) == 0) linear &= 0xffffffff;
    enum outcome r = CHANGED;
    for (unsigned tries = 0; r == CHANGED && tries < 16; tries++)
        r = walk_once(w, linear, access, physical, error);
    if (r == CHANGED) *error = error_code(w, access, 0); /* it retries the instruction then */
    return r == FOUND;
}
