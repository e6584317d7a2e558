/* SPDX-License-Identifier: MIT
 *
 * Envs and threads of processes. Everything that a process starts with is made here, out of
 * our frames, and all of it comes back when its env is destroyed, whatever the process did
 * with it. A thread's badge is its place in the table and how often that was used. */
#include "../../signals.h"
#include "../files/fuse.h"
#include "../waiting/futex.h"
#include "borrow.h"
#include "husk.h"
#include "process.h"
#include "../waiting/ring.h"

struct thread threads[LX_ALL_THREADS];
static uint32_t thread_hint;
static uint32_t sel_base; /* our selectors of envs, threads, their events */
static uint32_t gate, fault_event;

#define ENV_SEL(p) (sel_base + (uint32_t)((p)-processes))
#define THREAD_SEL(t) (sel_base + LX_PROCESSES + 2 * (uint32_t)((t)-threads))
#define FRAMES_ENV (3 + LX_TABLES)
#define THREAD_TOP(i) (LX_THREAD_VA + ((i) + 1ul) * LX_THREAD_SPAN)
#define UPCALL_TOP(i) (LX_THREAD_VA + (i)*LX_THREAD_SPAN + LX_THREAD_STACKS + EXO_PAGE)

void lx_gate_entry(void);

long spawn_init(const void *library, size_t size)
{
    if (!size || size > LX_LIB_PAGES * EXO_PAGE) {
        exo_printf("%s: the library has %lu bytes, of at most %lu\n", exo.start.name, size,
                   LX_LIB_PAGES * EXO_PAGE);
        return -EXO_E_ARG;
    }
    uint32_t own = LX_PROCESSES + 2 * LX_ALL_THREADS;
    if (exo.start.nsel < own + 128) {
        exo_printf("%s: needs %u selectors\n", exo.start.name, own + 128);
        return -EXO_E_LIMIT;
    }
    exo.start.nsel -= own; /* exo_sel_alloc leaves them alone */
    sel_base = exo.start.nsel;
    memset(frame_data((uint32_t)library_frame), 0, LX_LIB_PAGES * EXO_PAGE);
    memcpy(frame_data((uint32_t)library_frame), library, size);
    long r = exo_sel_alloc();
    if (r < 0) return r;
    gate = (uint32_t)r;
    r = exo_gate_make(gate, exo.start.sel_thread, (uint64_t)lx_gate_entry, 0);
    if (r < 0) return r;
    r = exo_event_new(exo.start.sel_thread, LX_SERVER_FAULT);
    fault_event = r < 0 ? 0 : (uint32_t)r;
    return r < 0 ? r : husk_init();
}

/* ---- threads ------------------------------------------------------------------------- */

static void thread_join(struct thread *t, struct process *p, uint32_t index)
{
    t->process = p;
    t->index = index;
    t->waiting = NULL;
    t->reading = NULL;
    t->handed = 0;
    t->own_used = false;
    t->window = NULL;
    t->stopping = false;
    p->threads[index] = t;
    p->thread_count++;
}

static struct thread *thread_new(struct process *p, uint32_t index)
{
    for (uint32_t i = thread_hint; i < LX_ALL_THREADS; i++) {
        struct thread *t = &threads[i];
        if (t->process) continue;
        thread_hint = i + 1;
        t->generation++;
        t->sel = THREAD_SEL(t);
        t->event = THREAD_SEL(t) + 1;
        thread_join(t, p, index);
        return t;
    }
    return NULL;
}

/* What the window says is the process's own, and never more than the time there was. */
uint64_t thread_used(const struct thread *t)
{
    uint64_t now = exo_tsc(), life = now - t->started;
    uint64_t waited = __atomic_load_n(&t->window->waited, __ATOMIC_RELAXED);
    uint64_t since = __atomic_load_n(&t->window->since, __ATOMIC_RELAXED);
    if (since && now - since > life) return 0;
    uint64_t left = life - (since ? now - since : 0);
    return waited < left ? left - waited : 0;
}

void thread_settle(struct thread *t)
{
    futex_leave(t);
    wait_end(t);
    fifo_end(t);
    fuse_drop(t);
}

/* It is none of its process's threads any more. */
static void thread_leave(struct thread *t)
{
    if (t->window) t->process->used += thread_used(t);
    thread_settle(t);
    t->tid = 0;
    t->process->threads[t->index] = NULL;
    t->process->thread_count--;
}

static void thread_forget(struct thread *t)
{
    thread_leave(t);
    t->process = NULL;
    thread_hint = EXO_MIN(thread_hint, (uint32_t)(t - threads));
}

static long thread_handlers(const struct thread *t)
{
    long r = exo_thread_set(t->sel, EXO_SET_UPCALL, LX_LIB_UPCALL, UPCALL_TOP(t->index));
    return r == 0 ? exo_thread_set(t->sel, EXO_SET_FAULT, LX_SEL_FAULT, 0) : r;
}

/* The thread's object, out of that frame and the next; gate and badge; handlers. */
static long thread_object(struct process *p, struct thread *t, uint32_t frames_sel, uint64_t frame)
{
    uint32_t env = p->memory->env, sel = LX_SEL_THREAD + 4 * t->index;
    uint64_t badge = (uint64_t)(t - threads) + 1 + ((uint64_t)t->generation << 16);
    long r = exo_thread_make(t->sel, env, frames_sel, frame, exo.start.cpu);
    if (r == 0) r = exo_event_make(t->event, t->sel, LX_EVENT);
    if (r == 0)
        r = t->index ? exo_cap_derive(gate, EXO_REF(env, sel), EXO_GATE_CALL, badge, 1)
                     : husk_give(p, GUARD_GATE, gate, EXO_GATE_CALL, badge, 1);
    return r == 0 ? thread_handlers(t) : r;
}

/* ---- envs --------------------------------------------------------------------------------- */

static long caps_make(struct process *p, uint16_t private)
{
    uint64_t block = exo.start.block.sel, pool = exo.pool.sel;
    long r = husk_give(p, GUARD_FILES, block, EXO_R | EXO_X, files_first, files_count_frames);
    if (r == 0) r = husk_give(p, GUARD_FAULT, fault_event, EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    if (r == 0)
        r = husk_give(p, GUARD_OBJECTS, pool, EXO_R | EXO_W | EXO_OBJECT, p->memory->objects,
                      LX_OBJECT_FRAMES);
    if (r == 0)
        r = husk_give(p, GUARD_DATA, extent_ref(private), EXO_R | EXO_W, extent_first(private),
                      LX_PRIVATE_FRAMES);
    return r;
}

static long bind(uint32_t env, uint64_t va, uint64_t n, uint32_t sel, uint64_t frame,
                 unsigned rights)
{
    long r;
    do
        r = exo_page_bind(env, va, n, sel, frame, rights);
    while (r == -EXO_E_AGAIN);
    return r < 0 ? r : r == (long)n ? 0 : -EXO_E_ARG;
}

/* Upcall page, window and stacks of thread i: the object's second frame and a piece of memory. */
static long thread_bind(uint32_t env, uint32_t i, uint32_t object_sel, uint64_t object,
                        uint32_t sel, uint64_t first)
{
    uint64_t va = LX_THREAD_VA + i * (uint64_t)LX_THREAD_SPAN;
    long r = bind(env, va, 1, object_sel, object + 1, EXO_R | EXO_W);
    if (r < 0) return r;
    return bind(env, va + LX_THREAD_WINDOW, LX_PRIVATE_DATA, sel, first, EXO_R | EXO_W);
}

static long space_make(struct process *p, uint32_t first)
{
    uint32_t env = p->memory->env;
    uint64_t objects = p->memory->objects;
    long r = 0;
    for (unsigned level = 3; level && r == 0; level--)
        r = exo_pt_make(env, LX_OWN_VA, level, LX_SEL_OBJECTS, objects + 5 - level);
    if (r == 0)
        r = bind(env, LX_LIB_VA, 1, LX_SEL_FILES, library_frame, EXO_R | EXO_X | EXO_LARGE_2M);
    if (r == 0) r = bind(env, LX_SHARED_VA, 1, LX_SEL_FILES, library_frame - 1, EXO_R);
    if (r == 0) r = thread_bind(env, 0, LX_SEL_OBJECTS, objects, LX_SEL_DATA, first);
    if (r == 0)
        r = bind(env, LX_DATA_VA, LX_DATA_CHUNK, LX_SEL_DATA, first + LX_PRIVATE_DATA,
                 EXO_R | EXO_W);
    return r;
}

/* The private block's window: zeroed, and what the first thread reads when it begins. */
static void window_init(struct process *p, struct thread *t, uint32_t first)
{
    t->window = frame_data(first);
    memset(t->window, 0, offsetof(struct lx_window, near));
    t->window->started = t->started = exo_tsc();
    t->window->start.objects = p->memory->objects + p->memory->objects_used;
    t->window->start.objects_end = p->memory->objects + LX_OBJECT_FRAMES;
    t->window->start.pid = (uint64_t)p->pid;
    t->window->start.ppid = p->parent ? (uint64_t)p->parent->pid : 0;
}

/* The frames, selectors and thread of a new env. */
static long env_claim(struct process *p, struct thread **thread)
{
    struct process_memory *m = p->memory;
    *thread = thread_new(p, 0);
    if (!*thread) return -EAGAIN;
    m->env = ENV_SEL(p);
    m->objects_used = LX_OBJECTS_USED;
    long frame = husk_frames(FRAMES_ENV);
    if (frame < 0) return -ENOMEM;
    m->env_frame = (uint64_t)frame;
    frame = husk_frames(LX_OBJECT_FRAMES);
    if (frame < 0) return -ENOMEM;
    m->objects = (uint64_t)frame;
    long private = extent_new(p, LX_PRIVATE_FRAMES, LX_FOR_MEMORY, false);
    if (private < 0) return private;
    m->data[m->data_count++] = (uint16_t) private;
    return exo_env_make(m->env, exo.pool.sel, m->env_frame, LX_TABLES, 0) < 0 ? -ENOMEM : 0;
}

static long env_make(struct process *p, struct thread **thread)
{
    struct process_memory *m = p->memory;
    long r = env_claim(p, thread);
    if (r < 0) return r;
    r = caps_make(p, m->data[0]);
    if (r == 0) r = thread_object(p, *thread, LX_SEL_OBJECTS, m->objects);
    if (r == 0) r = space_make(p, extent_first(m->data[0]));
    if (r == 0) r = husk_note(p);
    if (r < 0) log_line("a process cannot be made: %s", exo_strerror(r));
    return r < 0 ? -ENOMEM : 0;
}

/* The env of p with one thread, which is stopped. On an error spawn_end takes it all back. */
long spawn_build(struct process *p)
{
    struct thread *t = NULL;
    long r = 0;
    if (p->memory->husk) {
        t = husk_wake(p);
        thread_join(t, p, 0);
        r = thread_handlers(t);
    } else {
        r = env_make(p, &t);
    }
    if (r < 0) return r;
    t->tid = p->pid;
    window_init(p, t, extent_first(p->memory->data[0]));
    return 0;
}

void spawn_end(struct process *p, bool willing)
{
    struct process_memory *m = p->memory;
    robust_end(p);
    rings_end(p);
    if (willing && husk_keep(p)) {
        thread_leave(m->husk);
        memory_end(p);
        return;
    }
    husk_unbind(p);
    if (m->env) cap_end(m->env);
    husk_forget(p);
    for (uint32_t i = 0; i < LX_THREADS && p->thread_count; i++)
        if (p->threads[i]) thread_forget(p->threads[i]);
    if (m->objects) exo_frames_free(&exo.pool, m->objects, LX_OBJECT_FRAMES);
    if (m->env_frame) exo_frames_free(&exo.pool, m->env_frame, FRAMES_ENV);
    memory_end(p);
    m->env = 0;
    m->objects = m->env_frame = 0;
}

void spawn_drop(struct process *p)
{
    thread_join(husk_wake(p), p, 0);
    spawn_end(p, false);
}

static uint8_t *private_data(const struct process *p)
{
    return (uint8_t *)frame_data(extent_first(p->memory->data[0])) + LX_PRIVATE_DATA * EXO_PAGE;
}

long spawn_start(struct process *p, uint64_t word)
{
    return exo_thread_start(p->threads[0]->sel, LX_LIB_START, THREAD_TOP(0), word);
}

/* Descriptors 0, 1 and 2 of the first process: the console, which becomes its terminal. */
static long console_open(struct process *p)
{
    struct file *file;
    thread_current = p->threads[0];
    long r = file_open(p, "/dev/console", O_RDWR, 0, &file);
    thread_current = NULL;
    if (r < 0) return r;
    for (unsigned i = 0; i < 3 && r >= 0; i++) {
        file_get(file);
        r = fd_install(p, file, false, i);
    }
    file_put(file);
    return r < 0 ? r : 0;
}

long spawn_first(const char *text, size_t size)
{
    struct process *p = process_new(NULL);
    if (!p) return -EAGAIN;
    fds_init(p);
    long r = spawn_build(p);
    if (r == 0) r = console_open(p);
    if (r == 0) {
        memset(private_data(p), 0, LX_DATA_CHUNK * EXO_PAGE);
        memset(p->threads[0]->window->bytes, 0, LX_WINDOW_BYTES);
        memcpy(p->threads[0]->window->bytes, text, EXO_MIN(size, LX_WINDOW_BYTES - 2));
        r = spawn_start(p, LX_START_EXEC);
    }
    return r < 0 ? r : p->pid;
}

/* ---- fork ------------------------------------------------------------------------------------- */

/* The page table for all chunks of data but the near ones. */
static long data_table(struct process *p)
{
    struct process_memory *m = p->memory;
    long r;
    do
        r = exo_pt_make(m->env, LX_DATA_FAR_VA, 1, LX_SEL_OBJECTS, m->objects + m->objects_used);
    while (r == -EXO_E_AGAIN);
    if (r < 0) return r == -EXO_E_BOUND ? 0 : -ENOMEM; /* a husk may have it */
    m->objects_used++;
    p->threads[0]->window->start.objects = m->objects + m->objects_used;
    return 0;
}

/* The parent's library data, as much as is in use, into the child's own; `unused` as LX_OP_FORK
 * has it, whatever its stretches are. */
static long data_copy(struct process *parent, struct process *child, uint64_t bytes,
                      uint64_t unused)
{
    uint64_t end = EXO_MIN(bytes, LX_DATA_CHUNK * EXO_PAGE), at = 0;
    for (unsigned i = 0; i < 3; i++, unused >>= 32) {
        uint64_t stop = i < 2 ? EXO_MIN((unused & 0xffff) * 8, end) : end;
        if (stop > at) memcpy(private_data(child) + at, private_data(parent) + at, stop - at);
        if ((unused >> 16 & 0xffff) * 8 > at) at = (unused >> 16 & 0xffff) * 8;
    }
    for (uint32_t i = 1; i < parent->memory->data_count; i++) {
        long r = i == LX_DATA_NEAR ? data_table(child) : 0;
        if (r == 0) r = op_data(child->threads[0], NULL);
        if (r < 0) return r;
        memcpy(frame_data(extent_first(child->memory->data[i])),
               frame_data(extent_first(parent->memory->data[i])), lx_data_pages(i) * EXO_PAGE);
    }
    return 0;
}

long op_fork(struct thread *thread, const uint64_t a[6])
{
    struct process *parent = thread->process;
    bool lend = a[0] & LX_FORK_VFORK;
    if (a[0] == LX_FORK_BORROW && a[2] <= 64) return borrow_fork(thread, (int)a[2]);
    if (a[0] & ~(uint64_t)LX_FORK_VFORK || a[2] > 64) return -EINVAL;
    struct process *child = process_new(parent);
    if (!child) return -EAGAIN;
    child->exit_signal = (int)a[2];
    long r = spawn_build(child);
    if (r == 0) r = data_copy(parent, child, a[1], a[5]);
    if (r == 0 && extents_fork(parent, child, lend, a + 3) < 0) r = -ENOMEM;
    if (r == 0) {
        child->memory->handles = parent->memory->handles;
        for (uint32_t i = 0; i < parent->memory->handles; i++)
            if (parent->memory->handle[i])
                file_get(child->memory->handle[i] = parent->memory->handle[i]);
        fds_fork(parent, child);
        child->vfork = lend;
        child->lender = lend ? parent : NULL;
        child->threads[0]->window->refused = thread->window->refused;
        if (spawn_start(child, LX_START_FORK) == 0) return child->pid;
        r = -ENOMEM;
        fds_end(child);
    }
    child->state = PROCESS_ZOMBIE;
    spawn_end(child, false);
    process_free(child);
    return r;
}

long exec_names(struct process *p, struct thread *thread, const uint64_t a[6])
{
    char path[LX_PATH_MAX];
    uint64_t n = EXO_MIN(a[2], LX_CMDLINE);
    long r = window_get(thread, a[1], p->cmdline, n);
    if (r < 0) return r;
    r = window_path(thread, a[0], path);
    if (r < 0) return r;
    p->cmdline_length = (uint32_t)n;
    path_real(p, path, p->path, sizeof(p->path));
    if (a[3] != a[0]) r = window_path(thread, a[3], path);
    if (r < 0) return r;
    const char *name = path;
    for (const char *at = path; *at; at++)
        if (*at == '/' && at[1]) name = at + 1;
    exo_strcpy(p->name, name, sizeof(p->name));
    return 0;
}

long op_exec(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    if (p->borrows) return -EINVAL;
    long r = exec_names(p, thread, a);
    if (r < 0) return r;
    if (p->rings_open) rings_close(p);
    p->exit_signal = SIGCHLD;
    p->executed = true;
    fds_exec(p);
    handles_exec(p, a[4]);
    if (!extents_exec(p)) {
        process_end(p, SIGKILL);
        return 0;
    }
    process_release(p);
    return 0;
}

/* ---- more threads ----------------------------------------------------------------------------------- */

/* Takes back what thread i was made of, when its object is gone. */
static void thread_release(struct process *p, uint32_t i)
{
    struct process_memory *m = p->memory;
    uint64_t va = LX_THREAD_VA + i * (uint64_t)LX_THREAD_SPAN;
    while (exo_page_unbind(m->env, va, 1 + LX_PRIVATE_DATA) == -EXO_E_AGAIN)
        ;
    for (uint32_t k = 0; k < 4; k++)
        cap_end(EXO_REF(m->env, LX_SEL_THREAD + 4 * i + k));
    if (m->thread[i].extent) extent_put(p, m->thread[i].extent);
    m->thread[i].extent = 0; /* its frames stay: the process may have copied their capability */
}

void thread_end(struct thread *t)
{
    struct process *p = t->process;
    uint32_t i = t->index;
    cap_end(t->event);
    cap_end(t->sel);
    if (exo_cap_info(t->sel) > 0 || exo_cap_info(t->event) > 0) {
        process_end(p, SIGKILL); /* it holds them up by a revocation that it does not finish */
        return;
    }
    thread_forget(t);
    thread_release(p, i);
}

static long thread_build(struct process *p, struct thread *t)
{
    struct process_memory *m = p->memory;
    uint32_t i = t->index, sel = LX_SEL_THREAD + 4 * i;
    m->odd = true;
    long frame = m->thread[i].frames ? m->thread[i].frames : husk_frames(2);
    if (frame < 0) return -ENOMEM;
    m->thread[i].frames = (uint32_t)frame;
    long number = extent_new(p, LX_UNIT, LX_FOR_MEMORY, false);
    if (number < 0) return number;
    m->thread[i].extent = (uint16_t)number;
    t->window = frame_data(extent_first((uint16_t)number));
    memset(t->window, 0, offsetof(struct lx_window, near));
    t->window->started = t->started = exo_tsc();
    long r = exo_cap_derive(exo.pool.sel, EXO_REF(m->env, sel + 2), EXO_R | EXO_W | EXO_OBJECT,
                            (uint64_t)frame, 2);
    if (r == 0) r = extent_derive(p, (uint16_t)number, sel + 3, EXO_R | EXO_W);
    if (r == 0) r = thread_object(p, t, sel + 2, (uint64_t)frame);
    if (r == 0)
        r = thread_bind(m->env, i, sel + 2, (uint64_t)frame, sel + 3,
                        extent_first((uint16_t)number));
    if (r == 0)
        r = exo_cap_derive(t->event, EXO_REF(m->env, sel + 1), EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    if (r == 0) { /* the first one, which the others have to wake, gets its own only now */
        r = exo_cap_derive(p->threads[0]->event, EXO_REF(m->env, LX_SEL_THREAD + 1),
                           EXO_EVENT_SIGNAL, UINT64_MAX, 1);
        if (r == -EXO_E_FULL) r = 0;
    }
    return r < 0 ? -ENOMEM : 0;
}

long op_thread(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    uint64_t i = a[0];
    if (!i || i >= LX_THREADS) return -EINVAL;
    if (p->threads[i]) return -EEXIST;
    if (p->borrows) return -EAGAIN;
    if (p->rings_open) rings_close(p);
    struct thread *t = thread_new(p, (uint32_t)i);
    if (!t) return -EAGAIN;
    t->tid = pid_new();
    long r = thread_build(p, t);
    if (r == 0 && exo_thread_start(t->sel, LX_LIB_START, THREAD_TOP(i), a[1]) == 0) return t->tid;
    thread_end(t);
    return r < 0 ? r : -EAGAIN;
}

long op_thread_end(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    if (!thread->index) return -EINVAL;
    thread_end(thread);
    return 0;
}

void thread_wake(struct thread *thread) { exo_event_signal(thread->event); }
