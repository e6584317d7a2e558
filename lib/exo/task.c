/* SPDX-License-Identifier: MIT
 *
 * Tasks: threads of our own env, each with an upcall page, an upcall stack and a
 * stack in 64 pages of its own at EXO_TASK_VA:
 *   page 0 upcall page; 2.. upcall stack; 8.. stack; the rest is never bound. */
#include "exo.h"

#define TASK_PAGES 64
#define UPCALL_AT 2
#define STACK_AT 8
#define STACKS (EXO_TASK_UPCALL_PAGES + EXO_TASK_STACK_PAGES)

void exo_task_entry(void);
_Noreturn void exo_task_run(struct exo_task *task);

void exo_task_run(struct exo_task *task)
{
    task->function(task->argument);
    task->done = 1;
    exo_event_signal(exo.join_event);
    for (;;)
        exo_thread_stop(0);
}

static uint64_t task_va(const struct exo_task *task)
{
    return EXO_TASK_VA + (uint64_t)task->index * TASK_PAGES * EXO_PAGE;
}

static long index_alloc(void)
{
    for (uint32_t i = 0; i < EXO_TASKS; i++)
        if (!(exo.tasks[i / 64] >> i % 64 & 1)) {
            exo.tasks[i / 64] |= 1ul << i % 64;
            return i;
        }
    return -EXO_E_LIMIT;
}

static long task_bind(struct exo_task *task)
{
    uint64_t va = task_va(task);
    uint32_t sel = exo.pool.sel;
    unsigned rw = EXO_R | EXO_W;
    long r = exo_bind(&exo.pool, va, 1, sel, task->frame + 1, rw);
    if (r == 0)
        r = exo_bind(&exo.pool, va + UPCALL_AT * EXO_PAGE, EXO_TASK_UPCALL_PAGES, sel, task->stacks,
                     rw);
    if (r == 0)
        r = exo_bind(&exo.pool, va + STACK_AT * EXO_PAGE, EXO_TASK_STACK_PAGES, sel,
                     task->stacks + EXO_TASK_UPCALL_PAGES, rw);
    if (r < 0) return r;
    task->upcall_sp = va + (UPCALL_AT + EXO_TASK_UPCALL_PAGES) * EXO_PAGE - 16;
    *(uint64_t *)task->upcall_sp = va;
    task->page = (struct exo_upcall_page *)va;
    r = exo_thread_set(task->sel, EXO_SET_UPCALL, (uint64_t)exo_upcall_entry, task->upcall_sp);
    if (r == 0 && exo.start.sel_fault)
        r = exo_thread_set(task->sel, EXO_SET_FAULT, exo.start.sel_fault, 0);
    return r;
}

static long task_undo(struct exo_task *task, long error)
{
    if (task->sel) exo_drop(task->sel);
    uint64_t va = task_va(task);
    exo_unbind(&exo.pool, va, 1);
    exo_unbind(&exo.pool, va + UPCALL_AT * EXO_PAGE, EXO_TASK_UPCALL_PAGES);
    exo_unbind(&exo.pool, va + STACK_AT * EXO_PAGE, EXO_TASK_STACK_PAGES);
    if (task->frame) exo_frames_free(&exo.pool, task->frame, 2);
    if (task->stacks) exo_frames_free(&exo.pool, task->stacks, STACKS);
    exo.tasks[task->index / 64] &= ~(1ul << task->index % 64);
    *task = (struct exo_task){0};
    return error;
}

long exo_task_make(struct exo_task *task, unsigned cpu)
{
    long index = index_alloc();
    if (index < 0) return index;
    *task = (struct exo_task){.index = (uint32_t)index};
    task->self = task;
    long r = exo_frames_alloc(&exo.pool, 2, 1);
    if (r < 0) return task_undo(task, r);
    task->frame = (uint64_t)r;
    r = exo_frames_alloc(&exo.pool, STACKS, 1);
    if (r < 0) return task_undo(task, r);
    task->stacks = (uint64_t)r;
    long sel = exo_sel_alloc();
    if (sel < 0) return task_undo(task, sel);
    r = exo_thread_make((uint64_t)sel, EXO_SELF, exo.pool.sel, task->frame, cpu);
    if (r < 0) {
        exo_sel_free((uint32_t)sel);
        return task_undo(task, r);
    }
    task->sel = (uint32_t)sel;
    r = task_bind(task);
    return r < 0 ? task_undo(task, r) : 0;
}

long exo_task_start(struct exo_task *task, void (*function)(void *), void *argument)
{
    task->function = function;
    task->argument = argument;
    task->done = 0;
    uint64_t stack = task_va(task) + (STACK_AT + EXO_TASK_STACK_PAGES) * EXO_PAGE;
    long r;
    do /* on another CPU it may still be about to stop after its last function */
        r = exo_thread_start(task->sel, (uint64_t)exo_task_entry, stack, (uint64_t)task);
    while (r == -EXO_E_AGAIN);
    return r;
}

void exo_task_join(struct exo_task *task)
{
    while (!task->done)
        exo_event_wait(EXO_EV_JOIN, 0);
}

long exo_task_destroy(struct exo_task *task)
{
    long r;
    do
        r = exo_thread_stop(task->sel);
    while (r == -EXO_E_AGAIN);
    return task_undo(task, 0);
}

long exo_event_new(uint32_t thread, uint64_t bits)
{
    long sel = exo_sel_alloc();
    if (sel < 0) return sel;
    long r = exo_event_make((uint64_t)sel, thread, bits);
    if (r < 0) exo_sel_free((uint32_t)sel);
    return r < 0 ? r : sel;
}

long exo_gate_new(uint32_t thread, uint64_t badge)
{
    long sel = exo_sel_alloc();
    if (sel < 0) return sel;
    long r = exo_gate_make((uint64_t)sel, thread, (uint64_t)exo_gate_entry, badge);
    if (r < 0) exo_sel_free((uint32_t)sel);
    return r < 0 ? r : sel;
}
