/* SPDX-License-Identifier: MIT
 *
 * Starting programs: static ELF files, position-independent too, and scripts. The new stack is
 * made on a stage (proto.h) while the old program still lies there; then the old one goes, the
 * stack moves to its place and the segments become areas of memory.
 * System V ABI, AMD64 supplement, 3.4; Linux' elf(5), execve(2). */
#include "library.h"
#include <asm/signal.h>
#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/mman.h>
#include <linux/resource.h>
#include "../signals.h"
#include "../../../lib/exo/text.h"

#define FXSAVE_MXCSR 24 /* Intel SDM vol. 1, table 10-2 */
#define XSAVE_FIRST 576 /* legacy area and header: vol. 1, 13.4; all else is at its initial state */
#define AUX_PAIRS 20
#define WINDOW_STAGE 6400 /* offset in the window's bytes: there a borrower makes a small stack */

struct exec {
    char path[LX_PATH_MAX];
    char script[256]; /* a script's first line ... */
    uint8_t head[LX_HEAD] __attribute__((aligned(8))); /* what the file begins with */
    /* From here on it begins with zeroes. */
    const char *file; /* the path, or the script's interpreter */
    const char *prefix[3]; /* ... and what it puts before the arguments */
    unsigned prefixes;
    bool own; /* argv and envp are of the library's memory, not the program's */
    uint64_t argv, envp;
    uint64_t argc, envc; /* of the two arrays */
    int handle;
    uint64_t size;
    uint64_t stage, stage_end; /* where the new stack is made */
    bool in_window; /* ... there, from LX_STAGE_SP on: a borrower's */
    uint64_t pages; /* of the stage, so far */
    uint64_t at; /* next free byte of it */
    uint64_t sp; /* final */
    uint64_t entry, phdr, phnum, bias, brk;
    enum replace_policy policy;
};

static long word_get(const struct exec *x, uint64_t array, uint64_t i, uint64_t *word)
{
    *word = 0;
    if (!array) return 0;
    if (!x->own) return user_get(word, array + i * 8, 8);
    *word = ((const uint64_t *)array)[i];
    return 0;
}

static long array_count(const struct exec *x, uint64_t array, uint64_t *count)
{
    uint64_t word;
    for (*count = 0;; ++*count) {
        if (word_get(x, array, *count, &word) < 0) return -EFAULT;
        if (!word) return 0;
        if (*count * 8 > LX_STAGE_FAR_PAGES * PAGE / 2) return -E2BIG;
    }
}

/* ---- the stage ------------------------------------------------------------------------- */

/* No area lies where a new stack would be. */
static bool stage_free(uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < lx.vmas; i++)
        if (lx.vma[i].end > start && lx.vma[i].start < end) return false;
    return true;
}

/* The first place that may have room enough; from one that had not, the next. */
static void stage_choose(struct exec *x)
{
    if (lx.borrowing && !x->stage) {
        x->stage = (uint64_t)this_thread()->window->bytes + WINDOW_STAGE - LX_STAGE_SP;
        x->stage_end = (uint64_t)this_thread()->window->bytes + LX_WINDOW_BYTES;
        x->in_window = true;
        return;
    }
    bool far = x->stage && !x->in_window;
    x->in_window = false;
    for (unsigned i = 0; i < 2 && !far; i++) {
        x->stage = LX_STAGE_NEAR + i * LX_STAGE_STEP;
        x->stage_end = x->stage + LX_STAGE_NEAR_PAGES * PAGE;
        if (stage_free(x->stage - LX_STACK_BELOW * PAGE, x->stage_end)) return;
    }
    x->stage = LX_STAGE_FAR;
    x->stage_end = x->stage + LX_STAGE_FAR_PAGES * PAGE;
}

static long stage_room(struct exec *x, uint64_t end)
{
    if (end > x->stage_end) return -E2BIG;
    while (x->stage + x->pages * PAGE < end && !x->in_window) {
        uint64_t va = x->stage + x->pages * PAGE;
        uint32_t frame = frame_alloc();
        if (!frame || page_map(va, frame, EXO_R | EXO_W) < 0) return -ENOMEM;
        memset((void *)va, 0, PAGE);
        page_note(va, frame | PG_W);
        x->pages++;
    }
    return 0;
}

static void stage_drop(struct exec *x)
{
    pages_drop(x->stage, x->stage + x->pages * PAGE);
    x->pages = 0;
}

/* A string onto the stage: its place there, or an error. */
static long stage_string(struct exec *x, uint64_t from, bool own)
{
    uint64_t place = x->at;
    for (;;) {
        uint64_t room = x->in_window ? x->stage_end - x->at : PAGE - x->at % PAGE;
        long r = stage_room(x, x->at + 1);
        if (r < 0) return r;
        char *to = (char *)x->at;
        r = own ? user_copy_string(to, (const char *)from, room) : user_string(to, from, room);
        if (r >= 0 && r < (long)room) {
            x->at += (uint64_t)r + 1;
            return (long)place;
        }
        if (r < 0 && r != -ENAMETOOLONG) return r;
        x->at += room;
        from += room;
    }
}

/* ---- the file --------------------------------------------------------------------------- */

static void file_close(struct exec *x)
{
    if (x->handle >= 0) server(LX_OP_UNMAP, (uint64_t)x->handle, 0, 0);
    x->handle = -1;
}

/* Opens a file to be executed. */
static long file_open(struct exec *x, const char *name)
{
    struct lx_window *window = this_thread()->window;
    memcpy(window->bytes, name, strlen(name) + 1);
    x->file = name;
    const uint64_t a[6] = {0, 1};
    long r = server_wait(LX_OP_MAP, a, 0);
    if (r < 0) return r;
    x->handle = (int)r;
    memcpy(&x->size, window->bytes, sizeof(x->size));
    memcpy(x->head, window->bytes + sizeof(x->size), LX_HEAD);
    return x->size ? 0 : -ENOEXEC;
}

static char *skip_blanks(char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* "#!interpreter argument": the interpreter is what is executed. */
static long script_open(struct exec *x)
{
    uint64_t n = x->size < sizeof(x->script) - 1 ? x->size : sizeof(x->script) - 1;
    memcpy(x->script, x->head, n);
    x->script[n] = 0;
    char *end = x->script;
    while (*end && *end != '\n')
        end++;
    if (!*end && n == sizeof(x->script) - 1) return -ENOEXEC;
    while (end > x->script && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    char *name = skip_blanks(x->script + 2), *rest = name;
    while (*rest && *rest != ' ' && *rest != '\t')
        rest++;
    if (!*name) return -ENOEXEC;
    if (*rest) *rest++ = 0;
    rest = skip_blanks(rest);
    x->prefix[x->prefixes++] = name;
    if (*rest) x->prefix[x->prefixes++] = rest;
    file_close(x);
    return file_open(x, name);
}

static const Elf64_Phdr *headers(const struct exec *x)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)x->head;
    static const unsigned char ident[] = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB};
    if (x->size < sizeof(*h) || memcmp(h->e_ident, ident, sizeof(ident)) ||
        h->e_machine != EM_X86_64 || (h->e_type != ET_EXEC && h->e_type != ET_DYN) ||
        h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phoff % 8 || h->e_phoff >= LX_HEAD ||
        h->e_phnum > (LX_HEAD - h->e_phoff) / sizeof(Elf64_Phdr))
        return NULL;
    return (const Elf64_Phdr *)(x->head + h->e_phoff);
}

/* Checks the segments before anything of the old program goes. */
static long elf_check(struct exec *x)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)x->head;
    const Elf64_Phdr *p = headers(x);
    if (!p) return -ENOEXEC;
    x->bias = h->e_type == ET_DYN ? LX_PIE_VA : 0;
    x->entry = h->e_entry + x->bias;
    x->phnum = h->e_phnum;
    uint64_t before = 0;
    for (unsigned i = 0; i < h->e_phnum; i++) {
        if (p[i].p_type == PT_INTERP) {
            log_line("%s is not a static program", x->file);
            return -ENOEXEC;
        }
        if (p[i].p_type == PT_PHDR) x->phdr = p[i].p_vaddr + x->bias;
        if (p[i].p_type != PT_LOAD || !p[i].p_memsz) continue;
        uint64_t va = p[i].p_vaddr;
        if (p[i].p_filesz > p[i].p_memsz || va % PAGE != p[i].p_offset % PAGE ||
            p[i].p_memsz > LX_USER_END || va > LX_USER_END - p[i].p_memsz - x->bias ||
            va < before || (!x->bias && va < PAGE) || p[i].p_offset > x->size ||
            p[i].p_filesz > x->size - p[i].p_offset)
            return -ENOEXEC;
        uint64_t end = va + x->bias + p[i].p_memsz;
        if (end > LX_MMAP_TOP) return -ENOMEM;
        if (h->e_phoff >= p[i].p_offset && h->e_phoff < p[i].p_offset + p[i].p_filesz && !x->phdr)
            x->phdr = va + x->bias + h->e_phoff - p[i].p_offset;
        before = va + p[i].p_memsz;
        x->brk = (end + PAGE - 1) & -PAGE;
    }
    return before ? 0 : -ENOEXEC;
}

static int segment_prot(const Elf64_Phdr *p)
{
    return (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
           (p->p_flags & PF_X ? PROT_EXEC : 0);
}

/* A segment's areas of memory. False: it cannot be done, and the old program is gone. */
static bool segment_place(struct exec *x, const Elf64_Phdr *p)
{
    uint64_t start = (p->p_vaddr + x->bias) & -PAGE, file_end = p->p_vaddr + x->bias + p->p_filesz;
    uint64_t pages_end = (file_end + PAGE - 1) & -PAGE;
    uint64_t end = (p->p_vaddr + x->bias + p->p_memsz + PAGE - 1) & -PAGE;
    struct vma vma = {.prot = (uint32_t)segment_prot(p), .flags = MAP_PRIVATE};
    if (p->p_filesz) {
        vma.start = start;
        vma.end = pages_end;
        vma.handle = x->handle;
        vma.offset = p->p_offset / PAGE;
        if (vma_add(&vma) < 0) return false;
        start = pages_end;
    }
    if (start < end) {
        vma = (struct vma){.start = start,
                           .end = end,
                           .prot = vma.prot,
                           .flags = MAP_PRIVATE | MAP_ANONYMOUS,
                           .handle = -1};
        if (vma_add(&vma) < 0) return false;
    }
    return true;
}

/* What of the file's last page is not the segment's is zero. */
static bool segment_clear(struct exec *x, const Elf64_Phdr *p)
{
    uint64_t end = p->p_vaddr + x->bias + p->p_filesz, left = -end & (PAGE - 1);
    if (p->p_memsz == p->p_filesz || !left || !(p->p_flags & PF_W)) return true;
    if (user_touch(end, 1, true) < 0) return false;
    memset((void *)end, 0, left);
    return true;
}

/* The program's areas, and in them what it will touch first. */
static bool program_load(struct exec *x)
{
    const Elf64_Phdr *p = headers(x);
    for (unsigned i = 0; p && i < x->phnum; i++)
        if (p[i].p_type == PT_LOAD && p[i].p_memsz && !segment_place(x, &p[i])) return false;
    x->brk = text_place(x->handle, x->brk);
    program_bind(x->handle);
    for (unsigned i = 0; p && i < x->phnum; i++)
        if (p[i].p_type == PT_LOAD && p[i].p_memsz && !segment_clear(x, &p[i])) return false;
    return true;
}

/* ---- the new stack ----------------------------------------------------------------------- */

static uint64_t final_va(const struct exec *x, uint64_t stage)
{
    if (x->in_window) return stage - x->stage + LX_STAGE_NEAR;
    return x->stage == LX_STAGE_FAR ? stage - x->stage + LX_STACK_TOP - x->pages * PAGE : stage;
}

static void random_bytes(uint64_t *to, unsigned n)
{
    while (n--)
        *to++ = random_word();
}

/* The order in which pages go is chosen in the environment. */
static void policy_look(struct exec *x, const char *variable)
{
    const char *name = "EXO_REPLACE=";
    for (; *name; name++, variable++)
        if (*variable != *name) return;
    x->policy = replace_policy_of(variable);
    if (x->policy != REPLACE_POLICIES) return;
    log_line("EXO_REPLACE=%s: one of clock, fifo, mru, random", variable);
    x->policy = REPLACE_CLOCK;
}

/* All strings, then (their places are known) the pointers in front of them. `places` are
 * remembered in the pointers' own words. */
static long stack_strings(struct exec *x, uint64_t *words)
{
    uint64_t n = 0, word;
    long r;
    for (unsigned i = 0; i < x->prefixes; i++) {
        if ((r = stage_string(x, (uint64_t)x->prefix[i], true)) < 0) return r;
        words[n++] = (uint64_t)r;
    }
    if (x->prefixes) { /* the script's own name is its first argument */
        if ((r = stage_string(x, (uint64_t)x->path, true)) < 0) return r;
        words[n++] = (uint64_t)r;
    }
    for (uint64_t i = x->prefixes ? 1 : 0; i < x->argc; i++) {
        if (word_get(x, x->argv, i, &word) < 0) return -EFAULT;
        if ((r = stage_string(x, word, x->own)) < 0) return r;
        words[n++] = (uint64_t)r;
    }
    words[n++] = 0;
    for (uint64_t i = 0; i < x->envc; i++) {
        if (word_get(x, x->envp, i, &word) < 0) return -EFAULT;
        if ((r = stage_string(x, word, x->own)) < 0) return r;
        policy_look(x, (const char *)r);
        words[n++] = (uint64_t)r;
    }
    words[n++] = 0;
    return (long)n;
}

static uint64_t *aux(uint64_t *at, uint64_t type, uint64_t value)
{
    at[0] = type;
    at[1] = value;
    return at + 2;
}

static void stack_aux(struct exec *x, uint64_t *at, uint64_t name, uint64_t random)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    at = aux(at, AT_HWCAP, edx);
    at = aux(at, AT_PAGESZ, PAGE);
    at = aux(at, AT_CLKTCK, 100);
    at = aux(at, AT_PHDR, x->phdr);
    at = aux(at, AT_PHENT, sizeof(Elf64_Phdr));
    at = aux(at, AT_PHNUM, x->phnum);
    at = aux(at, AT_BASE, 0);
    at = aux(at, AT_FLAGS, 0);
    at = aux(at, AT_ENTRY, x->entry);
    at = aux(at, AT_UID, 0);
    at = aux(at, AT_EUID, 0);
    at = aux(at, AT_GID, 0);
    at = aux(at, AT_EGID, 0);
    at = aux(at, AT_SECURE, 0);
    at = aux(at, AT_RANDOM, random);
    at = aux(at, AT_HWCAP2, 0); /* not FSGSBASE: GS is the library's */
    at = aux(at, AT_EXECFN, name);
    aux(at, AT_NULL, 0);
}

/* The whole stack, on the stage. */
static long stack_make(struct exec *x)
{
    long r = array_count(x, x->argv, &x->argc);
    if (r == 0) r = array_count(x, x->envp, &x->envc);
    if (r < 0) return r;
    if (!x->argc && !x->prefixes) return -EINVAL;
    uint64_t args = x->argc + (x->prefixes ? x->prefixes + (x->argc ? 0 : 1) : 0);
    uint64_t count = 1 + args + 1 + x->envc + 1 + 2 * AUX_PAIRS;
    uint64_t *words = (uint64_t *)(x->stage + LX_STAGE_SP);
    x->at = ((uint64_t)(words + count) + 15) & -16ul;
    if ((r = stage_room(x, x->at + 16)) < 0) return r;
    if (x->in_window) memset(words, 0, x->at - (uint64_t)words);
    uint64_t random = x->at;
    random_bytes((uint64_t *)random, 2);
    x->at += 16;
    r = stack_strings(x, words + 1);
    if (r < 0) return r;
    uint64_t n = (uint64_t)r;
    long name = stage_string(x, (uint64_t)x->path, true);
    if (name < 0) return name;
    words[0] = args;
    for (uint64_t i = 1; i <= n; i++)
        if (words[i]) words[i] = final_va(x, words[i]);
    stack_aux(x, words + 1 + n, final_va(x, (uint64_t)name), final_va(x, random));
    x->sp = final_va(x, (uint64_t)words);
    return 0;
}

/* ---- exec ------------------------------------------------------------------------------------ */

/* What a fork left us goes back; frames of our own stay for the next program. */
static void extents_return(void)
{
    uint64_t give[LX_EXTENTS / 64] = {0}, *left = (uint64_t *)this_thread()->window->bytes;
    for (uint32_t i = 0; i < lx.extents; i++) {
        const struct extent *e = &lx.extent[i];
        bool spare = e->own == EXTENT_OWN && e->free == e->count && lx.owned > 64;
        if (spare) lx.owned -= e->count;
        if (e->own == EXTENT_INHERITED || e->own == EXTENT_LENT || e->own == EXTENT_SHARED ||
            e->own == EXTENT_FILE || spare)
            give[i / 64] |= 1ul << i % 64;
    }
    if (give[0] | give[1] && server(LX_OP_GIVE_ALL, give[0], give[1], 0) == 0)
        for (uint32_t i = 0; i < lx.extents; i++)
            if ((give[i / 64] & ~left[i / 64]) >> i % 64 & 1) lx.extent[i].own = EXTENT_NONE;
    while (lx.extents && !lx.extent[lx.extents - 1].own)
        lx.extents--;
    lx.vfork_child = false;
}

static bool stack_place(struct exec *x)
{
    uint64_t base = final_va(x, x->stage);
    struct vma vma = {.start = base - LX_STACK_BELOW * PAGE,
                      .end = base + x->pages * PAGE,
                      .prot = PROT_READ | PROT_WRITE,
                      .flags = MAP_PRIVATE | MAP_ANONYMOUS | VMA_STACK,
                      .handle = -1};
    for (uint64_t i = 0; i < x->pages && base != x->stage; i++) {
        uint64_t va = x->stage + i * PAGE;
        uint32_t entry = *page_entry(va, false);
        page_unmap(va);
        page_note(va, 0);
        if (page_map(base + i * PAGE, entry, EXO_R | EXO_W) < 0) return false;
        page_note(base + i * PAGE, entry);
    }
    x->pages = 0;
    return vma_add(&vma) == 0;
}

/* What the server is told of the program (LX_OP_EXEC), from offset `at` of the window on: the path,
 * the arguments as /proc shows them, the name. `moved`: the new stack is not where it will be, but
 * so far above. */
static void exec_tell(const struct exec *x, size_t at, uint64_t moved, uint64_t a[6])
{
    uint8_t *bytes = this_thread()->window->bytes;
    size_t path = strlen(x->file) + 1, n = 0;
    memcpy(bytes + at, x->file, path);
    const uint64_t *words = (const uint64_t *)(x->sp + moved);
    for (uint64_t i = 1; words[i]; i++) {
        const char *argument = (const char *)words[i] + moved;
        size_t length = strlen(argument) + 1;
        if (n + length > LX_CMDLINE) break;
        memcpy(bytes + at + path + n, argument, length);
        n += length;
    }
    a[0] = a[3] = at;
    a[1] = at + path;
    a[2] = n;
    if (x->file == x->path) return;
    a[3] = at + path + n;
    memcpy(bytes + a[3], x->path, strlen(x->path) + 1);
}

/* All that was the old program's is gone; but its signals that are ignored stay so. */
static void program_begin(struct exec *x, struct thread_state *t, struct regs *r)
{
    uint64_t fs = 0;
    const uint32_t mxcsr = 0x1f80; /* all exceptions masked: XRSTOR loads it always */
    signals_reset(t);
    memset(r, 0, sizeof(*r));
    *r = (struct regs){.rip = x->entry, .rsp = x->sp, .rflags = 0x202, .number = NO_CALL};
    memset(fork_fpu(), 0, XSAVE_FIRST);
    memcpy(fork_fpu() + FXSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
    __asm__ volatile(FPU_CLAIM "xrstor %0" : : "m"(*fork_fpu()), "a"(~0u), "d"(~0u) : "memory");
    __asm__ volatile("wrfsbase %0" : : "r"(fs));
}

static bool program_place(struct exec *x)
{
    if (!stack_place(x) || !program_load(x)) return false;
    lx.brk_start = lx.brk = x->brk;
    return true;
}

static bool exec_replace(struct exec *x, struct thread_state *t, struct regs *r)
{
    uint64_t a[6];
    futex_process_end();
    threads_end_others(t);
    vfork_back(r->rsp, (uint32_t)x->pages);
    mm_clear(x->stage, x->stage + x->pages * PAGE);
    replace_clear(x->policy);
    lx.shares = false;
    extents_return();
    if (!program_place(x)) return false;
    exec_tell(x, 0, 0, a);
    server6(LX_OP_EXEC, a[0], a[1], a[2], a[3], (uint64_t)x->handle, 0);
    program_begin(x, t, r);
    return true;
}

/* ---- in another env ------------------------------------------------------------------------- */

/* What a borrower's program begins with, at the start of the window's bytes: then the head of its
 * file, and the limits if some were set. */
struct handed {
    struct lx_handed stack; /* the server's word */
    uint64_t stage, used, sp, entry, brk, bias, size, head;
    uint64_t mask, ignored, alarm[2];
    uint64_t xsave_parts;
    uint32_t xsave_size, limits_set;
    int32_t priority;
    uint32_t policy;
};

/* All that exec_tell puts there too has room: a path, or a script's and its interpreter's. */
_Static_assert(sizeof(struct handed) + LX_HEAD + sizeof(lx.limit) + LX_PATH_MAX +
                       sizeof(((struct exec *)0)->script) + LX_CMDLINE <=
                   WINDOW_STAGE,
               "window");

/* As it is where we are. How many bytes it has. */
static size_t handed_write(const struct exec *x, const struct thread_state *t)
{
    struct handed *h = (struct handed *)t->window->bytes;
    const Elf64_Ehdr *elf = (const Elf64_Ehdr *)x->head;
    size_t n = sizeof(*h) + elf->e_phoff + x->phnum * sizeof(Elf64_Phdr);
    *h = (struct handed){.stage = x->in_window ? LX_STAGE_NEAR : x->stage,
                         .used = x->at - x->stage,
                         .sp = x->sp,
                         .entry = x->entry,
                         .brk = x->brk,
                         .bias = x->bias,
                         .size = x->size,
                         .head = n - sizeof(*h),
                         .mask = t->mask,
                         .xsave_parts = lx.xsave_parts,
                         .xsave_size = lx.xsave_size,
                         .limits_set = lx.limits_set,
                         .priority = lx.priority,
                         .policy = x->policy};
    for (uint64_t set = lx.actions_set; set; set &= set - 1)
        if (lx.action[__builtin_ctzl(set)].handler == LX_SIGNAL_IGNORE) h->ignored |= set & -set;
    timers_alarm(h->alarm);
    memcpy(h + 1, x->head, h->head);
    if (!lx.limits_set) return n;
    memcpy((uint8_t *)h + n, lx.limit, sizeof(lx.limit));
    return n + sizeof(lx.limit);
}

/* Where what there is of the stack lies, for the server; 0: in too many pieces. */
static uint64_t stage_where(const struct exec *x)
{
    struct lx_run *run = this_thread()->window->run;
    unsigned runs = 0;
    if (x->in_window) return LX_INLINE | WINDOW_STAGE;
    for (uint64_t i = 0; i < x->pages; i++) {
        uint64_t skip = i ? 0 : LX_STAGE_SP;
        uint64_t physical = (*page_entry(x->stage + i * PAGE, false) & PG_FRAME) * PAGE + skip;
        if (runs && run[runs - 1].address + run[runs - 1].length == physical) {
            run[runs - 1].length += PAGE;
            continue;
        }
        if (runs == LX_RUN_MAX) return 0;
        run[runs++] = (struct lx_run){physical, PAGE - skip};
    }
    return user_where(runs);
}

/* From a borrowed env, when nothing can be wrong with the program any more: the error if it cannot
 * be done all the same. */
static long exec_away(struct exec *x, struct thread_state *t)
{
    uint64_t a[6];
    size_t n = handed_write(x, t);
    exec_tell(x, n, x->stage - final_va(x, x->stage), a);
    a[4] = stage_where(x);
    if (!a[4]) return -ENOMEM;
    a[5] = (x->at - x->stage - LX_STAGE_SP) | n << 32 | (uint64_t)x->handle << 48;
    long r = server6(LX_OP_EXEC_AWAY, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (r < 0) return r;
    if (x->pages) stage_drop(x);
    borrow_end(t);
}

/* The stack's frames are bound where the stage was, and cleared where nothing lies. */
static bool stage_bind(struct exec *x, const struct handed *h)
{
    struct extent *e = &lx.extent[0];
    x->pages = (h->used + PAGE - 1) / PAGE;
    *e = (struct extent){.first = (uint32_t)h->stack.first,
                         .count = (uint32_t)h->stack.count,
                         .id = (uint16_t)h->stack.id,
                         .own = EXTENT_OWN,
                         .free = (uint32_t)(h->stack.count - x->pages)};
    lx.extents = 1;
    lx.owned = e->count;
    for (uint64_t i = 0; i < x->pages; i++) {
        e->used[i / 64] |= 1ul << i % 64;
        page_note(x->stage + i * PAGE, (uint32_t)(e->first + i) | PG_W);
    }
    for (uint64_t i = 0; i < x->pages;) {
        long bound = pages_map(x->stage + i * PAGE, (uint32_t)(e->first + i),
                               (unsigned)(x->pages - i), EXO_R | EXO_W);
        if (bound < 0) return false;
        i += (uint64_t)bound;
    }
    memset((void *)x->stage, 0, LX_STAGE_SP);
    memset((void *)(x->stage + h->used), 0, x->pages * PAGE - h->used);
    return true;
}

static void handed_read(struct exec *x, struct thread_state *t, const struct handed *h)
{
    const uint8_t *head = (const uint8_t *)t->window->bytes + sizeof(*h);
    memset(&x->file, 0, sizeof(*x) - offsetof(struct exec, file));
    x->stage = h->stage;
    x->sp = h->sp;
    x->entry = h->entry;
    x->brk = h->brk;
    x->bias = h->bias;
    x->size = h->size;
    memcpy(x->head, head, h->head);
    x->phnum = ((const Elf64_Ehdr *)x->head)->e_phnum;
    x->policy = h->policy;
    t->mask = h->mask;
    lx.actions_set = h->ignored;
    for (uint64_t set = h->ignored; set; set &= set - 1)
        lx.action[__builtin_ctzl(set)].handler = LX_SIGNAL_IGNORE;
    lx.xsave_parts = h->xsave_parts;
    lx.xsave_size = h->xsave_size;
    lx.priority = h->priority;
    lx.limits_set = h->limits_set;
    if (lx.limits_set) memcpy(lx.limit, head + h->head, sizeof(lx.limit));
    timers_alarm_set(t, h->alarm);
}

void exec_handed(struct thread_state *t)
{
    const struct handed h = *(const struct handed *)t->window->bytes;
    struct exec x;
    struct regs r;
    handed_read(&x, t, &h);
    replace_clear(x.policy);
    if (lx.limits_set >> RLIMIT_RSS & 1) replace_allot(lx.limit[RLIMIT_RSS][0]);
    if (!stage_bind(&x, &h) || !program_place(&x)) server(LX_OP_CRASH, SIGKILL, 0, 0);
    program_begin(&x, t, &r);
    event_keep(t);
    leave(&r);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static long exec(struct exec *x, struct thread_state *t, struct regs *r)
{
    x->handle = -1;
    stage_choose(x);
    long error = file_open(x, x->path);
    if (error == 0 && x->size > 2 && !memcmp(x->head, "#!", 2)) error = script_open(x);
    if (error == 0) error = elf_check(x);
    if (error == 0) error = stack_make(x);
    while (error == -E2BIG && x->stage != LX_STAGE_FAR) {
        stage_drop(x);
        stage_choose(x);
        error = stack_make(x);
    }
    if (error == 0 && lx.borrowing) error = exec_away(x, t);
    if (error < 0) {
        stage_drop(x);
        file_close(x);
        return error;
    }
    if (!exec_replace(x, t, r)) server(LX_OP_CRASH, SIGKILL, 0, 0);
    return 0;
}

long sys_execve(struct thread_state *t, struct regs *r)
{
    struct exec x;
    memset(&x.file, 0, sizeof(x) - offsetof(struct exec, file));
    x.argv = r->rsi;
    x.envp = r->rdx;
    long n = user_string(x.path, r->rdi, sizeof(x.path));
    if (n <= 0) return n < 0 ? n : -ENOENT;
    return exec(&x, t, r);
}

void exec_first(struct thread_state *t)
{
    static const char *const environment[] = {"HOME=/root", "PATH=/bin:/sbin:/usr/bin:/usr/sbin",
                                              "TERM=vt100", NULL};
    const char *argv[32] = {NULL};
    char text[1100];
    struct exec x;
    struct regs r = {0};
    memcpy(text, t->window->bytes, sizeof(text));
    text[sizeof(text) - 1] = text[sizeof(text) - 2] = 0;
    unsigned n = 0;
    for (const char *at = text; *at && n < 31; at += strlen(at) + 1)
        argv[n++] = at;
    memset(&x, 0, sizeof(x));
    x.own = true;
    x.argv = (uint64_t)(argv + 1);
    x.envp = (uint64_t)environment;
    memcpy(x.path, argv[0] ? argv[0] : "", argv[0] ? strlen(argv[0]) + 1 : 1);
    long error = exec(&x, t, &r);
    if (error == 0) leave(&r);
    log_line("%s: cannot be started: error %d", x.path, (int)-error);
    server(__NR_exit_group, 127, 0, 0);
    __builtin_unreachable();
}
