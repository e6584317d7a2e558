/* SPDX-License-Identifier: MIT
 *
 * What a virtual CPU exited for, answered: one function a reason. They change the page and
 * note in v->set what the reply has to give back; vcpu.c replies. An exit that a guest can
 * provoke ends at most this guest, with a report.
 */
#include "vcpu.h"

#define VECTOR_UD 6
#define VECTOR_GP 13
#define XF_CPL_SHIFT 5 /* of SS.attributes */
#define KVM_ENOSYS ((uint64_t)-1000) /* Linux, kvm_para.h */

static void exit_pio(struct vcpu *v)
{
    uint64_t port = v->exit.detail[0], how = v->exit.detail[1];
    unsigned size = how & EXO_PIO_SIZE;
    if (how & EXO_PIO_STRING) {
        emulate_string_io(v);
        return;
    }
    struct exo_vm_a *a = &v->page->a;
    if (how & EXO_PIO_IN) {
        uint64_t value = port_in(port, size);
        a->rax = size == 4   ? value
                 : size == 2 ? (a->rax & ~0xffffull) | value
                             : (a->rax & ~0xffull) | value;
        v->set |= EXO_VG_A;
    } else {
        port_out(port, size, a->rax);
    }
    uint64_t next = v->exit.detail[2];
    if (next && !v->length) v->length = (uint32_t)(next - v->page->rip.rip) & 15;
    vcpu_skip(v, 0);
}

static void exit_nested(struct vcpu *v)
{
    uint64_t address = v->exit.detail[0], how = v->exit.detail[1];
    if (!(how & EXO_NX_BOUND)) {
        long r = memory_fault(address);
        if (r == 0) return;
        if (r != -EXO_E_RANGE) {
            vm_fail("memory at %lx cannot be bound: %s", address, exo_strerror(r));
            return;
        }
    }
    if (how & EXO_NX_WALK)
        vm_fail("page tables at %lx, where there is no memory", address);
    else if (how & EXO_NX_FETCH)
        vm_fail("instructions at %lx, where there is no memory", address);
    else if (v->event)
        vm_fail("an interrupt's stack or table at %lx, where there is no memory", address);
    else
        emulate_memory(v);
}

static void exit_xsetbv(struct vcpu *v)
{
    vcpu_need(v, EXO_VG_A | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG);
    const struct exo_vm_a *a = &v->page->a;
    uint64_t old = v->page->cr.xcr0;
    bool kernel = (v->page->segs.seg[EXO_SS].attributes >> XF_CPL_SHIFT & 3) == 0;
    v->page->cr.xcr0 = a->rdx << 32 | (uint32_t)a->rax;
    if (kernel && (uint32_t)a->rcx == 0 && vcpu_try(v, EXO_VG_CR)) {
        vcpu_skip(v, 3);
        return;
    }
    v->page->cr.xcr0 = old;
    vcpu_fault(v, VECTOR_GP, 0);
}

/* #DB, #AC and #MC leave the guest so that their delivery cannot go on for ever: given
 * back to it. */
static void exit_exception(struct vcpu *v)
{
    uint32_t vector = (uint32_t)v->exit.detail[0] & 31;
    if (vector == 17)
        vcpu_fault(v, vector, 0);
    else
        vcpu_fault_plain(v, vector);
}

static void exit_instruction(struct vcpu *v)
{
    switch (v->exit.detail[0]) {
    case EXO_IX_INVD:
    case EXO_IX_WBINVD:
        vcpu_need(v, EXO_VG_RIP);
        vcpu_skip(v, 2);
        break;
    case EXO_IX_RDPMC:
        vcpu_fault(v, VECTOR_GP, 0);
        break;
    default: /* hidden by the CPUID policy */
        vcpu_fault_plain(v, VECTOR_UD);
        break;
    }
}

static void exit_hypercall(struct vcpu *v)
{
    v->page->a.rax = KVM_ENOSYS;
    v->set |= EXO_VG_A;
    vcpu_skip(v, 3);
}

/* Exits whose answer touches devices or memory: under the device lock. */
static void exit_locked(struct vcpu *v)
{
    vm_lock();
    switch (v->exit.reason) {
    case EXO_VX_NESTED:
        exit_nested(v);
        break;
    case EXO_VX_CR:
    case EXO_VX_DR:
        emulate_cr(v);
        break;
    case EXO_VX_SHUTDOWN:
        vm_note("virtual CPU %u: triple fault", v->index);
        report_vcpu(v);
        vm_reset();
        break;
    case EXO_VX_TASK:
        vm_fail("a hardware task switch");
        break;
    case EXO_VX_REFUSED:
        vm_fail("state that is not allowed: group %lu, field %lu", v->exit.detail[0],
                v->exit.detail[1]);
        break;
    case EXO_VX_INVALID:
        vm_fail("the CPU refused the guest's state: %lx", v->exit.detail[0]);
        break;
    default:
        vm_fail("an exit that nobody asked for: reason %lu, %lx", v->exit.reason,
                v->exit.detail[0]);
        break;
    }
    vm_unlock();
}

bool exit_handle(struct vcpu *v)
{
    switch (v->exit.reason) {
    case EXO_VX_CPUID:
        cpuid_exit(v);
        return false;
    case EXO_VX_PIO:
        vm_lock();
        exit_pio(v);
        vm_unlock();
        return false;
    case EXO_VX_HLT:
        vcpu_skip(v, 1);
        return true;
    case EXO_VX_MSR_READ:
        msr_read_exit(v);
        return false;
    case EXO_VX_MSR_WRITE:
        msr_write_exit(v);
        return false;
    case EXO_VX_HYPERCALL:
        exit_hypercall(v);
        return false;
    case EXO_VX_WINDOW:
        v->window &= ~EXO_WINDOW_INTERRUPT;
        v->attention = true;
        return false;
    case EXO_VX_NMI_WINDOW:
        v->window &= ~EXO_WINDOW_NMI;
        v->attention = true;
        return false;
    case EXO_VX_FORCED:
        v->attention = true;
        return false;
    case EXO_VX_XSETBV:
        exit_xsetbv(v);
        return false;
    case EXO_VX_EXCEPTION:
        exit_exception(v);
        return false;
    case EXO_VX_INSTR:
        exit_instruction(v);
        return false;
    default:
        exit_locked(v);
        return false;
    }
}
