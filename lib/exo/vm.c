/* SPDX-License-Identifier: MIT
 *
 * Virtual machines and virtual CPUs: what they are made of is taken here and given back
 * here. The wait for exits is in entry.S. */
#include "vm.h"

void exo_vm_entry(void);

long exo_vm_make(struct exo_vm *vm, struct exo_pool *from, uint64_t frames, uint64_t align,
                 uint32_t tables, uint64_t *bits)
{
    uint64_t own = 3 + tables + EXO_VM_ENV_FRAMES;
    *vm = (struct exo_vm){.from = from, .tables = tables, .sel_free = EXO_VM_FREE};
    long memory = exo_frames_alloc(from, frames, align);
    if (memory < 0) return memory;
    long r = exo_frames_alloc(from, own, 1);
    if (r < 0) {
        exo_frames_free(from, (uint64_t)memory, frames);
        return r;
    }
    vm->frame = (uint64_t)r;
    exo_pool_init(&vm->pool, 0, EXO_VM_MEMORY, (uint64_t)memory, frames, 0, bits);
    r = exo_sel_alloc();
    if (r > 0) {
        vm->env = vm->pool.env = (uint32_t)r;
        r = exo_env_make(vm->env, from->sel, vm->frame, tables, EXO_ENV_VM);
        if (r < 0) {
            exo_sel_free(vm->env);
            vm->env = 0;
        }
    }
    if (r >= 0)
        r = exo_cap_derive(from->sel, EXO_REF(vm->env, EXO_VM_MEMORY),
                           EXO_R | EXO_W | EXO_X | EXO_OBJECT, (uint64_t)memory, frames);
    if (r < 0) exo_vm_destroy(vm);
    return r;
}

long exo_vm_destroy(struct exo_vm *vm)
{
    long r = vm->env ? exo_drop(vm->env) : 0;
    if (r < 0) return r;
    exo_frames_free(vm->from, vm->frame, 3 + vm->tables + EXO_VM_ENV_FRAMES);
    exo_frames_free(vm->from, vm->pool.base, vm->pool.count);
    *vm = (struct exo_vm){0};
    return 0;
}

long exo_vm_give(struct exo_vm *vm, uint32_t src, unsigned rights, uint64_t base, uint64_t count)
{
    uint32_t sel = vm->sel_free;
    long r = exo_cap_derive(src, EXO_REF(vm->env, sel), rights, base, count);
    if (r < 0) return r;
    vm->sel_free++;
    return sel;
}

/* The gate that its exits call. */
static long gate_make(struct exo_vcpu *vcpu, uint32_t monitor, uint64_t badge)
{
    struct exo_vm *vm = vcpu->vm;
    uint32_t sel = vm->sel_free;
    long r = exo_gate_make(EXO_REF(vm->env, sel), monitor, (uint64_t)exo_vm_entry, badge);
    if (r < 0) return r;
    vm->sel_free++;
    vcpu->gate = sel;
    return exo_thread_set(vcpu->thread, EXO_SET_FAULT, sel, 0);
}

long exo_vcpu_make(struct exo_vcpu *vcpu, struct exo_vm *vm, uint64_t va, unsigned cpu,
                   uint32_t monitor, uint64_t badge)
{
    *vcpu = (struct exo_vcpu){.vm = vm};
    long frame = exo_frames_alloc(&vm->pool, EXO_VCPU_FRAMES, 1);
    if (frame < 0) return frame;
    vcpu->frame = (uint64_t)frame;
    long r = exo_sel_alloc();
    if (r > 0) {
        vcpu->thread = (uint32_t)r;
        r = exo_thread_make(vcpu->thread, vm->env, EXO_VM_MEMORY, vcpu->frame, cpu);
        if (r < 0) {
            exo_sel_free(vcpu->thread);
            vcpu->thread = 0;
        }
    }
    if (r >= 0) r = gate_make(vcpu, monitor, badge);
    if (r >= 0) r = exo_bind(vm->from, va, 1, vm->from->sel, vcpu->frame + 1, EXO_R | EXO_W);
    if (r >= 0) vcpu->page = (struct exo_vcpu_page *)va;
    if (r < 0) exo_vcpu_destroy(vcpu);
    return r;
}

long exo_vcpu_start(struct exo_vcpu *vcpu)
{
    long r;
    vcpu->page->event_mask |= EXO_VCPU_FIRST;
    __atomic_fetch_or(&vcpu->page->events, EXO_VCPU_FIRST, __ATOMIC_RELAXED);
    do
        r = exo_thread_start(vcpu->thread, 0, 0, 0);
    while (r == -EXO_E_AGAIN);
    return r;
}

long exo_vcpu_destroy(struct exo_vcpu *vcpu)
{
    struct exo_vm *vm = vcpu->vm;
    if (vcpu->gate) exo_cap_delete(EXO_REF(vm->env, vcpu->gate));
    if (vcpu->gate && vcpu->gate + 1 == vm->sel_free) vm->sel_free--;
    long r = vcpu->thread ? exo_drop(vcpu->thread) : 0;
    if (r < 0) return r;
    if (vcpu->page) exo_unbind(vm->from, (uint64_t)vcpu->page, 1);
    exo_frames_free(&vm->pool, vcpu->frame, EXO_VCPU_FRAMES);
    *vcpu = (struct exo_vcpu){0};
    return 0;
}
