/* SPDX-License-Identifier: MIT
 *
 * Model-specific registers. The ones that are switched with the guest pass without an
 * exit (EXO_VP_ALL); the rest is answered here: the local APIC's, time (KVM's clock
 * pages), EFER, and a plausible set of those that an operating system expects on any CPU.
 * Numbers: Intel SDM vol. 4; AMD APM vol. 2, appendix A; Linux
 * Documentation/virt/kvm/x86/msr.rst. Anything else is #GP, with a note.
 */
#include "vcpu.h"

#define MSR_TSC 0x10
#define MSR_PLATFORM_ID 0x17
#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_PRED_CMD 0x49
#define MSR_UCODE 0x8b
#define MSR_MTRR_CAP 0xfe
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_PERF_STATUS 0x198
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_MTRR_FIRST 0x200
#define MSR_MTRR_LAST 0x26f
#define MSR_MTRR_DEFAULT 0x2ff
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST 0x8ff
#define MSR_EFER 0xc0000080
#define MSR_HWCR 0xc0010015
#define MSR_SYSCFG 0xc0010010
#define MSR_AMD_PATCH 0xc0010020
#define MSR_DE_CFG 0xc0011029
#define MSR_KVM_WALL_OLD 0x11
#define MSR_KVM_CLOCK_OLD 0x12
#define MSR_KVM_WALL 0x4b564d00
#define MSR_KVM_CLOCK 0x4b564d01
#define MSR_KVM_PV_EOI 0x4b564d04

#define EFER_LMA (1ull << 10)
#define MISC_ENABLE_FAST_STRINGS 1ull
#define MTRR_VARIABLE 8ull /* pairs */
#define MTRR_CAP (MTRR_VARIABLE | 1ull << 8 | 1ull << 10) /* fixed ranges, WC */
#define MTRR_WB 6ull

/* MTRRs are kept and read back; memory types follow the nested tables alone. */
static uint64_t mtrr[MSR_MTRR_LAST - MSR_MTRR_FIRST + 1];
static uint64_t mtrr_default;
static uint64_t misc_enable;
static uint64_t clock_page[VM_CPUS];
static uint64_t tsc_adjust[VM_CPUS];

/* ---- KVM's clock ------------------------------------------------------------------------- */

/* struct pvclock_vcpu_time_info and pvclock_wall_clock: Linux, pvclock-abi.h */
struct clock_time {
    uint32_t version, pad;
    uint64_t tsc, system_time;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad2[2];
};
struct clock_wall {
    uint32_t version, seconds, nanoseconds;
};
_Static_assert(sizeof(struct clock_time) == 32, "pvclock-abi.h");
#define CLOCK_STABLE 1

static bool clock_write(struct vcpu *v, uint64_t value)
{
    clock_page[v->index] = value;
    if (!(value & 1)) return true;
    volatile struct clock_time *page = guest_ptr(value & ~1ull, sizeof(*page));
    if (!page || value & 2) return false;
    uint64_t hz = vm_tsc_hz();
    int8_t shift = 0;
    /* ns = (ticks << shift) * multiplier >> 32, the multiplier as large as fits */
    while (hz > 2000000000ull) {
        hz >>= 1;
        shift--;
    }
    while (hz <= 1000000000ull) {
        hz <<= 1;
        shift++;
    }
    uint32_t version = (page->version | 1) + 2;
    page->version = version;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    page->tsc = time_base() + v->tsc_offset;
    page->system_time = 0;
    page->multiplier = (uint32_t)((1000000000ull << 32) / hz);
    page->shift = shift;
    page->flags = CLOCK_STABLE;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    page->version = version + 1;
    return true;
}

static bool wall_write(uint64_t value)
{
    uint64_t wall = vm_wall_clock();
    struct clock_wall clock = {2, (uint32_t)(wall / 1000000000), (uint32_t)(wall % 1000000000)};
    return !(value & 3) && guest_write(value, &clock, sizeof(clock));
}

/* ---- time-stamp counter ------------------------------------------------------------------- */

static void tsc_write(struct vcpu *v, uint64_t value)
{
    uint64_t change = value - vm_tsc(v->index);
    v->tsc_offset += change;
    tsc_adjust[v->index] += change;
    v->page->tsc_offset = v->tsc_offset;
    v->set |= EXO_VG_TIME;
}

static void adjust_write(struct vcpu *v, uint64_t value)
{
    v->tsc_offset += value - tsc_adjust[v->index];
    tsc_adjust[v->index] = value;
    v->page->tsc_offset = v->tsc_offset;
    v->set |= EXO_VG_TIME;
}

/* ---- the rest -------------------------------------------------------------------------------- */

void msr_reset(void)
{
    memset(mtrr, 0, sizeof(mtrr));
    memset(clock_page, 0, sizeof(clock_page));
    memset(tsc_adjust, 0, sizeof(tsc_adjust));
    mtrr_default = 3ull << 10 | MTRR_WB; /* enabled, all write-back */
    misc_enable = MISC_ENABLE_FAST_STRINGS;
}

static bool is_apic(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static uint64_t *mtrr_slot(uint32_t msr)
{
    bool variable = msr < MSR_MTRR_FIRST + 2 * MTRR_VARIABLE;
    bool fixed = msr == 0x250 || msr == 0x258 || msr == 0x259 || (msr >= 0x268 && msr <= 0x26f);
    return variable || fixed ? &mtrr[msr - MSR_MTRR_FIRST] : NULL;
}

static bool mtrr_type(uint64_t type) { return type < 2 || (type >= 4 && type <= 6); }

static bool mtrr_write(uint32_t msr, uint64_t value)
{
    uint64_t *slot = mtrr_slot(msr);
    if (!slot) return false;
    if (msr >= 0x250) {
        for (unsigned i = 0; i < 64; i += 8)
            if (!mtrr_type(value >> i & 0xff)) return false;
    } else if (!(msr & 1) && !mtrr_type(value & 0xff)) {
        return false;
    }
    *slot = value;
    return true;
}

/* Registers whose value is fixed, and that swallow what is written. */
static bool fixed_value(uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_UCODE:
        *value = 1ull << 32;
        return true;
    case MSR_DE_CFG: /* LFENCE is serializing */
        *value = 2;
        return true;
    case MSR_HWCR: /* the counter runs at its nominal rate */
        *value = 1ull << 24;
        return true;
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_PERF_STATUS:
    case MSR_DEBUGCTL:
    case MSR_SYSCFG:
        *value = 0;
        return true;
    case MSR_FEATURE_CONTROL:
        *value = 1; /* locked: no virtualization inside */
        return true;
    }
    return false;
}

static bool read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    if (is_apic(msr)) return lapic_msr_read(v->index, msr, value);
    if (msr >= MSR_MTRR_FIRST && msr <= MSR_MTRR_LAST) {
        const uint64_t *slot = mtrr_slot(msr);
        if (slot) *value = *slot;
        return slot != NULL;
    }
    switch (msr) {
    case MSR_EFER:
        vcpu_need(v, EXO_VG_CR);
        *value = v->page->cr.efer;
        return true;
    case MSR_TSC:
        *value = vm_tsc(v->index);
        return true;
    case MSR_TSC_ADJUST:
        *value = tsc_adjust[v->index];
        return true;
    case MSR_MTRR_CAP:
        *value = MTRR_CAP;
        return true;
    case MSR_MTRR_DEFAULT:
        *value = mtrr_default;
        return true;
    case MSR_MISC_ENABLE:
        *value = misc_enable;
        return true;
    case MSR_KVM_CLOCK_OLD:
    case MSR_KVM_CLOCK:
        *value = clock_page[v->index];
        return true;
    }
    return fixed_value(msr, value);
}

/* EFER: LMA follows LME and PG and cannot be written. */
static bool efer_write(struct vcpu *v, uint64_t value)
{
    vcpu_need(v, EXO_VG_CR);
    uint64_t old = v->page->cr.efer;
    if ((value ^ old) & (1ull << 8) && v->page->cr.cr0 >> 31) return false; /* LME with paging */
    v->page->cr.efer = (value & ~EFER_LMA) | (old & EFER_LMA);
    if (vcpu_try(v, EXO_VG_CR)) return true;
    v->page->cr.efer = old;
    return false;
}

static bool write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t ignored;
    if (is_apic(msr)) return lapic_msr_write(v->index, msr, value);
    if (msr >= MSR_MTRR_FIRST && msr <= MSR_MTRR_LAST) return mtrr_write(msr, value);
    switch (msr) {
    case MSR_EFER:
        return efer_write(v, value);
    case MSR_TSC:
        tsc_write(v, value);
        return true;
    case MSR_TSC_ADJUST:
        adjust_write(v, value);
        return true;
    case MSR_MTRR_DEFAULT:
        mtrr_default = value;
        return mtrr_type(value & 0xff);
    case MSR_MISC_ENABLE:
        misc_enable = value;
        return true;
    case MSR_KVM_WALL_OLD:
    case MSR_KVM_WALL:
        return wall_write(value);
    case MSR_KVM_CLOCK_OLD:
    case MSR_KVM_CLOCK:
        return clock_write(v, value);
    case MSR_KVM_PV_EOI:
        lapic_pv_eoi_set(v->index, value);
        return true;
    case MSR_PRED_CMD:
    case MSR_AMD_PATCH:
        return true;
    }
    return fixed_value(msr, &ignored);
}

void msr_read_exit(struct vcpu *v)
{
    uint32_t msr = (uint32_t)v->exit.detail[0];
    uint64_t value = 0;
    vm_lock();
    bool good = read(v, msr, &value);
    if (!good) vm_note("read of MSR %x: #GP", msr);
    vm_unlock();
    if (!good) {
        vcpu_fault(v, 13, 0);
        return;
    }
    v->page->a.rax = (uint32_t)value;
    v->page->a.rdx = value >> 32;
    v->set |= EXO_VG_A;
    vcpu_skip(v, 2);
}

void msr_write_exit(struct vcpu *v)
{
    uint32_t msr = (uint32_t)v->exit.detail[0];
    uint64_t value = v->page->a.rdx << 32 | (uint32_t)v->page->a.rax;
    vm_lock();
    bool good = write(v, msr, value);
    if (!good) vm_note("write of %lx to MSR %x: #GP", value, msr);
    vm_unlock();
    if (good) {
        vcpu_skip(v, 2);
        return;
    }
    vcpu_fault(v, 13, 0);
}
