/* SPDX-License-Identifier: MIT
 *
 * libexo: the smallest library OS. Thin stubs, memory, threads, upcalls and child
 * environments for programs that run directly on the exokernel. It manages nothing
 * that the program could not manage otherwise: every structure here is the
 * program's own, and each function is a few system calls of abi/calls.list.
 *
 * Results are >= 0, or the negative of an EXO_E_ error. Unless said otherwise a
 * function is to be called from the env's first thread (no locks inside).
 */
#ifndef LIBEXO_H
#define LIBEXO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../../abi/exo.h"
#include "exo_stubs.h"
#include "text.h"

/* ---- address space of a program (init.c) ----------------------------------------
 * Everything fixed lies in one 2 MiB block at EXO_UPCALL_VA, one page table. */
#define EXO_STARTUP_VA (EXO_UPCALL_VA + 0x2000)
#define EXO_UPCALL_STACK_VA (EXO_UPCALL_VA + 0x30000)
#define EXO_UPCALL_STACK_PAGES 4
#define EXO_WINDOW_VA (EXO_UPCALL_VA + 0x40000) /* where other envs' pages are filled */
#define EXO_WINDOW_PAGES 64
#define EXO_TASK_VA (EXO_UPCALL_VA + 0x200000) /* 64 pages a task */
#define EXO_CHANNEL_VA (EXO_UPCALL_VA + 0x8000000) /* EXO_CHANNEL_SPAN bytes each */
#define EXO_POOL_VA (EXO_UPCALL_VA + 0x10000000) /* the bits of a large pool */
#define EXO_ARCHIVE_VA 0x0000000040000000 /* the boot archive, up to 1 GiB */
#define EXO_FILES_VA 0x0000000080000000 /* the starter's archive, up to 1 GiB */
#define EXO_HEAP_VA 0x0000000010000000
#define EXO_HEAP_PAGES 4096
#define EXO_TASKS 256

/* Event bits that libexo keeps; the program has 0..39. */
#define EXO_EV_CHANNEL 40 /* the first channel's: 40..55 */
#define EXO_EV_LOAN (1ul << 57) /* memory on loan is there again */
#define EXO_EV_FAULT (1ul << 58) /* a child's thread was stopped by a fault */
#define EXO_EV_JOIN (1ul << 59) /* a task ended */

/* ---- startup page ------------------------------------------------------------------
 * Written by whoever starts a program, at EXO_STARTUP_VA, whose value is also the
 * word (rdi) that its first thread starts with. A selector of 0: not given. */
#define EXO_STARTUP_MAGIC 0x75747378u
struct exo_range {
    uint32_t sel;
    uint32_t first;
    uint32_t count;
    uint32_t spare;
};
/* A channel that the configuration gives (channel.h), as one side sees it. */
#define EXO_CHANNELS 16 /* of one program */
struct exo_channel_given {
    char peer[32]; /* the other program's name; empty: none, and no more channels */
    char tag[16]; /* the configuration's word for it, or empty */
    uint32_t sel, first, count; /* its frames: a head, our ring out, our ring in */
    uint32_t event; /* selector: tells the peer to look again */
    uint32_t bit; /* of our first thread's events: the peer tells us */
    uint32_t side; /* 0 or 1: which ring is ours to fill */
};
struct exo_startup {
    uint32_t magic;
    uint32_t sel_memory; /* frames; everything of the program is made of these */
    uint32_t sel_vector; /* frames: its repossession vector */
    uint32_t sel_thread; /* its first thread, all rights */
    uint32_t sel_env; /* its own env, all rights */
    uint32_t sel_fault; /* event: signalled when its thread is stopped by a fault */
    uint32_t sel_console; /* ports: COM1 */
    uint32_t sel_service; /* gate of its starter: EXO_SERVICE_* */
    uint32_t sel_tables; /* frames: the exposed tables, read-only */
    uint32_t sel_ports; /* ports given by name in the configuration */
    uint32_t sel_free; /* the first empty selector */
    uint32_t nsel; /* selectors there are */
    uint32_t cpu, cpus; /* its thread's CPU; CPUs there are */
    uint32_t debug, counting;
    uint64_t memory_base, memory_count; /* sel_memory's range ... */
    uint64_t memory_used; /* ... of which the first so many are in use at the start */
    uint64_t image_va, image_pages;
    uint64_t image_frame; /* the image is in consecutive frames from here on */
    uint64_t tsc_hz;
    uint64_t wall; /* nanoseconds since 1970 when the time-stamp counter was 0; 0: not known */
    uint64_t tables_base, tables_count; /* frames of sel_tables */
    struct exo_range block; /* frames, aligned to their number: a second range */
    struct exo_range loan; /* frames on loan: see EXO_LOAN_PIECES */
    struct exo_range irqs;
    struct exo_range slots[EXO_MAX_CPUS]; /* names, see EXO_SLOTS */
    struct exo_range archive; /* frames of the boot archive, read-only ... */
    uint64_t archive_bytes; /* ... of which it fills so many bytes */
    struct exo_range files; /* frames of an archive that its starter made, read-only ... */
    uint64_t files_bytes; /* ... of so many bytes: looked in before the boot archive */
    struct exo_range names; /* a page of root's: tables.h */
    struct exo_range shared; /* frames that its starter and it both write */
    struct exo_channel_given channels[EXO_CHANNELS];
    char name[32];
    char args[512];
};
_Static_assert(sizeof(struct exo_startup) <= EXO_PAGE, "startup page");
#define EXO_SELECTORS 1024 /* that libexo keeps track of */

/* Memory on loan: EXO_LOAN_PIECES equal parts of exo_startup.loan, a capability each, from
 * loan.sel on. Their starter asks for some of them back (EXO_ASKED) when another program needs
 * memory; whoever gives up the last ones first leaves it frames in a row. A piece is given back by
 * deleting its capability. When one is there again, EXO_EV_LOAN says so. */
#define EXO_LOAN_PIECES 32

/* Calls of sel_service: word 0 is the operation. */
#define EXO_SERVICE_EXIT 1 /* word 1: status; does not come back */
/* For programs with borrow=yes. word 1: frames, word 2: an empty selector of ours, word 3:
 * microseconds that those who have memory on loan get to give it back, at most
 * EXO_BORROW_US_MAX. The frames lie in a row, the first a multiple of 512. Word 0 of the reply:
 * 0, and in word 1 the first frame, in word 2 how many; -EXO_E_AGAIN: some were asked for, call
 * again; -EXO_E_LIMIT: there are not as many, or who has them needs them; -EXO_E_ARG;
 * -EXO_E_RIGHTS: not with borrow=yes; else as cap_derive. One request of a program at a time. */
#define EXO_SERVICE_BORROW 2
/* word 1: the first frame of what was borrowed, whose capability goes; 0: what is asked for is
 * not needed any more. Word 0 of the reply: 0 or -EXO_E_ARG. */
#define EXO_SERVICE_RETURN 3
/* From who was asked: it cannot give as much; nothing is taken. Reply: 0. */
#define EXO_SERVICE_REFUSE 4
#define EXO_BORROW_US_MAX 60000000ul
/* A thread on another CPU ends by UD2 with this in rax, the status in rdi. */
#define EXO_EXIT_MAGIC 0x4558495445584954ul

/* ---- frames and address space (pool.c) ----------------------------------------------- */

/* Frames of one capability, and the env whose address space they serve. */
struct exo_pool {
    uint32_t env; /* EXO_SELF, or our selector of the env */
    uint32_t sel; /* frames capability in that env's table */
    uint64_t base, count;
    uint64_t free; /* of count */
    uint64_t tables; /* page tables made of it so far */
    uint64_t hint; /* no free frame below it */
    uint64_t *used; /* a bit each */
};
#define EXO_POOL_WORDS(frames) (((frames) + 63) / 64)

/* All frames from base on are free but the first `used`. bits: EXO_POOL_WORDS(count). */
void exo_pool_init(struct exo_pool *pool, uint32_t env, uint32_t sel, uint64_t base, uint64_t count,
                   uint64_t used, uint64_t *bits);
/* n consecutive frames, the first a multiple of align (a power of two, >= 1): the
 * lowest that fit; -EXO_E_LIMIT when there are none. */
long exo_frames_alloc(struct exo_pool *pool, uint64_t n, uint64_t align);
void exo_frames_free(struct exo_pool *pool, uint64_t frame, uint64_t n);

/* Binds n frames of capability sel (of pool->env) at va; makes the page tables that
 * are missing out of the pool. Errors as page_bind; what was bound stays bound. */
long exo_bind(struct exo_pool *pool, uint64_t va, uint64_t n, uint32_t sel, uint64_t frame,
              unsigned rights);
long exo_unbind(struct exo_pool *pool, uint64_t va, uint64_t n);
/* Makes the page tables down to level 1 (2 for 2 MiB pages) for va. */
long exo_tables(struct exo_pool *pool, uint64_t va, unsigned level);
/* Fresh, zeroed, consecutive frames of our own memory at va: the first frame. */
long exo_map(uint64_t va, uint64_t n, unsigned rights);
/* Takes them away again and frees the frames. */
long exo_unmap(uint64_t va, uint64_t n, uint64_t frame);

/* Selectors of our own table: an empty one, or -EXO_E_LIMIT. */
long exo_sel_alloc(void);
void exo_sel_free(uint32_t sel);
/* Deletes our capability sel with everything derived from it, in as many steps as
 * it takes, and frees the selector. */
long exo_drop(uint32_t sel);

/* ---- the program (init.c) --------------------------------------------------------------- */
struct exo_task; /* below */

/* libexo's own state; all zero at start. */
struct exo {
    struct exo_startup start; /* copied: the page can be given back */
    struct exo_pool pool;
    uint64_t sels[EXO_SELECTORS / 64];
    uint64_t tasks[EXO_TASKS / 64];
    uint32_t join_event; /* selector: EXO_EV_JOIN of the first thread */
    uint64_t heap_pages; /* mapped by malloc, and kept */
    const struct exo_info *info; /* the exposed tables, NULL: not given */
    const uint64_t *words;
    const struct exo_slot *slots;
    const struct exo_irq *irqs;
    const struct exo_cpu *cpus;
};
extern struct exo exo;

/* The program's own function, and its end. */
int main(struct exo_startup *start);
_Noreturn void exo_exit(long status);
/* Called by the entry code (crt0.S): word is rdi at the thread's start. */
_Noreturn void exo_start(uint64_t word);
/* Weak; root replaces it: fills exo.start and the pool when word is no startup page. */
void exo_start_root(void);
/* Binds the exposed tables at EXO_INFO_VA (where root finds them bound) and sets
 * exo.info, words, slots, irqs, cpus. exo_init does it where the tables were given. */
long exo_tables_map(void);
/* Sets up libexo in the running first thread (after exo.start and exo.pool are). */
void exo_init(void);

static inline uint64_t exo_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
/* Microseconds as ticks of the time-stamp counter. us below 2^40. */
static inline uint64_t exo_us(uint64_t us) { return us * (exo.start.tsc_hz / 1000) / 1000; }
/* Nanoseconds that so many ticks take. */
static inline uint64_t exo_ns(uint64_t ticks)
{
    uint64_t hz = exo.start.tsc_hz;
    return ticks / hz * 1000000000 + ticks % hz * 1000000000 / hz;
}
/* Nanoseconds since 1970 at that value of the time-stamp counter; 0: not known. */
static inline uint64_t exo_wall(uint64_t tsc)
{
    return exo.start.wall ? exo.start.wall + exo_ns(tsc) : 0;
}
/* The time-stamp counter in us microseconds from now. */
static inline uint64_t exo_in_us(uint64_t us) { return exo_tsc() + exo_us(us); }

/* ---- tasks: threads of our own env (task.c) ------------------------------------------------ */
struct exo_task {
    struct exo_task *self; /* FS:0 */
    struct exo_upcall_page *page;
    uint32_t sel; /* its thread */
    uint32_t index;
    uint64_t frame; /* of the thread; its upcall page is the next one */
    uint64_t stacks; /* first frame of its stacks */
    void (*function)(void *);
    void *argument;
    uint64_t upcall_sp;
    volatile uint32_t done;
};
#define EXO_TASK_STACK_PAGES 4
#define EXO_TASK_UPCALL_PAGES 3

static inline struct exo_task *exo_this(void)
{
    struct exo_task *task;
    __asm__("movq %%fs:0, %0" : "=r"(task));
    return task;
}
static inline struct exo_upcall_page *exo_page(void) { return exo_this()->page; }

/* Makes a thread of our env on a CPU, stopped, with a stack of EXO_TASK_STACK_PAGES. */
long exo_task_make(struct exo_task *task, unsigned cpu);
/* Lets it run function(argument). The task may be started again after its end. */
long exo_task_start(struct exo_task *task, void (*function)(void *), void *argument);
/* Waits until the function has returned. */
void exo_task_join(struct exo_task *task);
/* Stops the thread wherever it is and gives everything of it back. */
long exo_task_destroy(struct exo_task *task);
/* Selector of a new event of the thread sel (ours), or an error. */
long exo_event_new(uint32_t thread, uint64_t bits);
/* Selector of a new gate into the thread sel, entered through exo_serve. */
long exo_gate_new(uint32_t thread, uint64_t badge);

/* ---- upcalls (upcall.c, entry.S) -------------------------------------------------------------- */

/* Registers of the interrupted context that C could spoil; the handler may change
 * them. rax, rcx, r11 are in the frame. */
struct exo_saved {
    uint64_t rdi, rsi, rdx, r8, r9, r10;
};
struct exo_handlers {
    /* Vectors 0..31 (14 comes to the regions first): true when the context can go on. */
    bool (*exception)(struct exo_frame *frame, struct exo_saved *saved);
    /* A system call that is not the kernel's: frame->rax is number and result. */
    void (*syscall)(struct exo_frame *frame, struct exo_saved *saved);
    /* Events taken by mask, but EXO_EVENT_REVOKE. */
    void (*events)(uint64_t events);
    /* A record of the repossession vector. */
    void (*revoke)(const struct exo_record *record);
};
extern struct exo_handlers exo_handlers;
/* The general entry (needs *(uint64_t *)stack pointer = upcall page). */
void exo_upcall_entry(void);
void exo_upcall(struct exo_upcall_page *page, struct exo_saved *saved);
/* Makes the calling thread the one that is asked to give memory back. */
long exo_revocations(void (*policy)(const struct exo_record *));
/* Reads the vector's records, clears it; returns how many, or -EXO_E_LIMIT after all
 * when it had overflowed (records were lost). */
long exo_vector_read(void (*policy)(const struct exo_record *));
/* Takes these events as upcalls from now on, or stops doing so. */
static inline void exo_events_mask(uint64_t mask) { exo_page()->event_mask = mask; }

/* ---- protected control transfer (entry.S) --------------------------------------------------------- */

/* Calls a gate with four words, which the reply replaces. Nothing else of the
 * caller's registers reaches the server. */
long exo_call(uint64_t gate, uint64_t word[4]);
/* The same with a selector to hand over (0: none) and a deadline (0: none). */
long exo_call_x(uint64_t gate, uint64_t word[4], uint64_t item, uint64_t deadline);
/* item: rax at the gate's entry, 1 when a capability was handed over. */
typedef void exo_server(uint64_t badge, uint64_t word[4], uint64_t item);
/* Serves calls of the calling thread's gates until an event in mask is there; returns
 * the events, or an error. */
long exo_serve(exo_server *server, uint64_t mask);
/* Only waits: no server, no gate. */
long exo_reply_wait(uint64_t mask);
void exo_gate_entry(void);
/* Replies once with an item (a selector, 0 none), and waits. */
long exo_reply_wait_x(uint64_t mask, uint64_t item);

/* ---- child environments (child.c) --------------------------------------------------------------------- */
#define EXO_CHILD_MEMORY 1 /* selectors of a child */
#define EXO_CHILD_VECTOR 2
#define EXO_CHILD_THREAD 3
#define EXO_CHILD_ENV 4
#define EXO_CHILD_FAULT 5
#define EXO_CHILD_FREE 6

struct exo_child {
    struct exo_pool *from; /* whose frames it is made of; from->env is EXO_SELF */
    struct exo_pool pool; /* the child's memory, as we fill it */
    uint32_t env, thread; /* our selectors */
    uint32_t sel_free; /* its first empty selector */
    uint32_t tables;
    uint64_t frame; /* of the env */
    uint64_t entry;
    uint64_t startup_frame;
    struct exo_startup start;
};
/* Makes an env with `frames` frames of memory and tables * 64 selectors, and its first
 * thread on a CPU. fault: our event selector that is told of its faults, 0 none.
 * bits: EXO_POOL_WORDS(frames). On an error nothing is left. */
long exo_child_make(struct exo_child *child, struct exo_pool *from, uint64_t frames,
                    uint32_t tables, unsigned cpu, uint32_t fault, uint64_t *bits);
/* Binds n frames of its memory at va in the child and copies len bytes there. */
long exo_child_fill(struct exo_child *child, uint64_t va, uint64_t n, uint64_t frame,
                    unsigned rights, const void *data, uint64_t len);
/* Derives our capability src into the child's next selector, which is returned. */
long exo_child_give(struct exo_child *child, uint32_t src, unsigned rights, uint64_t base,
                    uint64_t count);
/* Writes the startup page and starts the child at child->entry. */
long exo_child_start(struct exo_child *child);
/* Loads an ELF64 file of that size: -EXO_E_ARG when it is none of ours. */
long exo_child_load(struct exo_child *child, const void *file, uint64_t size);
/* Copies our own image: text shared, .data as it is now, .bss zero; main runs anew
 * there with these arguments. */
long exo_child_image(struct exo_child *child, const char *args);
/* Destroys the env with everything in it, and frees what it was made of. */
long exo_child_destroy(struct exo_child *child);

/* ---- the boot archive (archive.c) --------------------------------------------------------------------- */
struct exo_file {
    const char *data;
    uint64_t size;
};
/* An entry of a cpio archive (newc). field: the header's numbers in their order. */
#define EXO_CPIO_INODE 0
#define EXO_CPIO_MODE 1
#define EXO_CPIO_UID 2
#define EXO_CPIO_GID 3
#define EXO_CPIO_LINKS 4
#define EXO_CPIO_TIME 5
#define EXO_CPIO_SIZE 6
#define EXO_CPIO_RDEV_MAJOR 9
#define EXO_CPIO_RDEV_MINOR 10
#define EXO_CPIO_NAME 11
struct exo_archive_entry {
    const char *name; /* without a leading "./" */
    struct exo_file file;
    uint32_t field[13];
};
/* Reads the entry at *at, which moves behind it; false: the archive ends or is damaged
 * there, and *at stays. */
bool exo_archive_next(const char *archive, uint64_t size, uint64_t *at,
                      struct exo_archive_entry *entry);
/* Finds a file of a cpio archive (newc); false: none of that name, or the archive is
 * damaged before it. */
bool exo_archive_parse(const char *archive, uint64_t size, const char *name, struct exo_file *file);
/* Finds a file of the starter's archive or the boot archive (archive=yes in the
 * configuration), which the first call maps read-only. -EXO_E_SEL: neither was given;
 * -EXO_E_NONE: no such file; -EXO_E_LIMIT: it is larger than 1 GiB; else as exo_bind. */
long exo_archive_find(const char *name, const void **data, size_t *size);

/* ---- self-paging (region.c) ------------------------------------------------------------------------------ */
struct exo_region;
/* Picks which of region->resident[0..count-1] (oldest first) is given up. */
typedef uint32_t exo_policy(struct exo_region *region);
struct exo_region_page {
    uint32_t index; /* page of the region */
    uint32_t referenced; /* used since the policy last looked (clock) */
    uint64_t frame;
};
struct exo_region {
    uint64_t va, pages;
    uint32_t limit; /* pages resident at most */
    uint32_t count; /* pages resident */
    uint32_t hand;
    exo_policy *policy;
    struct exo_region_page *resident; /* limit entries, oldest first */
    uint8_t *store; /* where pages go: pages * EXO_PAGE bytes, NULL: contents are dropped */
    uint64_t *stored; /* a bit a page: it is in the store */
    uint64_t faults; /* pages brought in */
    uint64_t soft; /* faults on resident pages, taken to learn of their use */
    struct exo_region *next;
};
uint32_t exo_policy_fifo(struct exo_region *region);
uint32_t exo_policy_clock(struct exo_region *region); /* approximates LRU */
uint32_t exo_policy_mru(struct exo_region *region);
/* Makes [va, va + pages) demand-zero memory with at most `limit` frames of its own. */
long exo_region_make(struct exo_region *region, uint64_t va, uint64_t pages, uint32_t limit,
                     exo_policy *policy, bool keep);
void exo_region_destroy(struct exo_region *region);
/* Gives up n pages as the policy says and lowers the limit; returns how many. */
uint32_t exo_region_shrink(struct exo_region *region, uint32_t n);
/* From the page-fault upcall: true when the fault was a region's and is repaired. */
bool exo_region_fault(uint64_t va);

/* ---- text, strings, memory (print.c, string.c, heap.c) ------------------------------------------------------- */

/* As exo_format. A whole line goes out at once. */
int exo_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void exo_write(const char *text, size_t length);
/* Where exo_write sends everything, when set: a program without the serial port sets it
 * to something that writes into its channel to the console. */
extern void (*exo_writer)(const char *text, size_t length);
/* 16-byte aligned; NULL when there is no memory. Sizes up to 2 MiB. */
void *malloc(size_t size);
void free(void *memory);

/* Evaluates each of the two once, since either may be a word that somebody else changes. */
#define EXO_MIN(a, b)                                                                              \
    __extension__({                                                                                \
        __typeof__(1 ? (a) : (b)) min_a_ = (a), min_b_ = (b);                                      \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define EXO_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#endif
