/* SPDX-License-Identifier: MIT
 *
 * linuxd: the server that owns what Linux processes share. It is one thread; each call
 * of a process runs to its end and never waits (proto.h). All its memory is its own, or
 * is a process's memory that it may read and write because it handed it out; nothing
 * that a process writes is believed. */
#ifndef LX_SERVER_H
#define LX_SERVER_H
#include "../proto.h"

struct process;
struct thread;
struct file;
struct inode;
struct fuse_request;

/* ---- user memory (memory.c) ---------------------------------------------------------
 * A user's buffer as the server sees it: runs in its own address space, checked. */
struct iobuf {
    struct {
        uint8_t *base;
        size_t length;
    } run[LX_RUN_MAX];
    unsigned runs, at; /* the current run ... */
    size_t offset; /* ... and the place in it */
    size_t left; /* bytes from there to the end */
};
/* From a call's two arguments: 0, -EFAULT where a frame is not the process's to be read (or
 * written, for `write`), or the list is malformed. */
long iobuf_from(struct iobuf *io, struct thread *thread, uint64_t where, uint64_t length,
                bool write);
/* A buffer over the server's own memory. */
void iobuf_own(struct iobuf *io, void *memory, size_t length);
/* Copies n bytes (at most io->left) into the user's buffer, or out of it, and moves on. How
 * many it was. iobuf_zero stores zeroes. */
size_t iobuf_put(struct iobuf *io, const void *from, size_t n);
size_t iobuf_get(struct iobuf *io, void *to, size_t n);
/* From one to the other, as much as fits: how many bytes it was. */
size_t iobuf_move(struct iobuf *to, struct iobuf *from);
size_t iobuf_zero(struct iobuf *io, size_t n);

/* ---- waiting (wait.c) -----------------------------------------------------------------
 * Something that threads can wait for. Whoever finds nothing to do joins the queue and
 * replies -LX_WAIT; waking tells everybody in it, and empties it. A thread leaves all
 * queues at its next call, or when it ends. */
struct waiter {
    struct waiter *next, **link; /* of the queue */
    struct waiter *more; /* the same thread's next one */
    struct thread *thread;
};
struct waitq {
    struct waiter *first;
    uint32_t wakes; /* calls of wake: something happened here since ... (epoll's edges) */
};
#define LX_WAITERS 4096 /* of all threads together */
/* -LX_WAIT; or -ENOMEM when there are too many waiters. */
long wait_on(struct waitq *queue, struct thread *thread);
void wake(struct waitq *queue);
void wait_end(struct thread *thread); /* leaves all queues */

/* ---- open files (file.c) ----------------------------------------------------------------
 * What a descriptor refers to: Linux' open file description. */
struct file_ops { /* NULL: no such thing. No seek: no position, -ESPIPE, for pread too. */
    /* Both move file->position themselves where there is one; pos is NULL for read and
     * write, or points to pread's. Bytes done; 0 at the end; -EAGAIN when it would block. */
    long (*read)(struct file *file, struct iobuf *io, uint64_t *pos);
    long (*write)(struct file *file, struct iobuf *io, uint64_t *pos);
    long (*seek)(struct file *file, int64_t offset, int whence);
    /* argument: the third argument; io: memory of the size that the command has, in the
     * user's (see ioctl_size), may be written to. */
    long (*ioctl)(struct file *file, struct thread *thread, uint32_t command, uint64_t argument,
                  struct iobuf *io);
    unsigned (*poll)(struct file *file); /* POLLIN ... that hold now */
    struct waitq *(*queue)(
        struct file *file); /* woken when poll may say more; NULL: always ready */
    void (*close)(struct file *file); /* the last descriptor is gone */
    long (*getdents)(struct file *file, struct iobuf *io, uint64_t near); /* a3 of getdents64 */
    uint8_t direct; /* what the library does itself: LX_DIRECT_* */
};
struct file {
    const struct file_ops *ops;
    uint32_t references;
    uint32_t flags; /* O_ACCMODE, O_NONBLOCK, O_APPEND ... */
    uint64_t position;
    struct inode *inode; /* NULL: it has no name (a pipe) */
    void *data; /* the kind's own */
    struct epoll_item *watchers; /* epoll's: file_put calls epoll_forget (poll.h) at the end */
};
struct file *file_new(const struct file_ops *ops,
                      uint32_t flags); /* one reference; NULL: none left */
void file_get(struct file *file);
void file_put(struct file *file); /* the last one closes it */

/* Descriptors. */
struct descriptor {
    struct file *file;
    bool cloexec;
};
struct file *fd_file(struct thread *thread, uint64_t fd); /* NULL: -EBADF */
/* The lowest free descriptor from `from` on takes over the caller's reference: its number, or
 * -EMFILE (the reference is then dropped). */
long fd_install(struct process *process, struct file *file, bool cloexec, unsigned from);

/* ---- processes (process.c) ------------------------------------------------------------------ */
#define LX_PROCESSES 128 /* at once, zombies too */
#define LX_ALL_THREADS 256
enum process_state { PROCESS_FREE, PROCESS_RUNNING, PROCESS_STOPPED, PROCESS_ZOMBIE };

struct thread {
    struct process *process; /* NULL: free */
    int tid;
    uint32_t index; /* in its process: 0..LX_THREADS - 1 */
    uint32_t sel, event; /* our capabilities: the thread, its LX_EVENT */
    struct lx_window *window; /* untrusted */
    struct waiter *waiting; /* in these queues */
    struct waiter own; /* the first of them */
    bool own_used;
    /* In a read that waits: the queue it is in, and the read's buffer (iobuf_from). Who has
     * something for it can put it there (pipe.c). NULL: not so. */
    struct waitq *reading;
    uint64_t reading_where, reading_length;
    uint64_t handed; /* 1 + bytes that were put there; its next call may not know yet */
    uint64_t futex, futex_ticket; /* futex.c: where it waits, 0: nowhere; since when */
    uint32_t futex_bits;
    uint32_t generation; /* part of its badge */
    bool stopping; /* it waits in LX_OP_STOPPED */
    bool again; /* its call waited and is made again (LX_OP_AGAIN) */
    struct fuse_request *request; /* what it asked a file system's server (fuse.h); or NULL */
    uint64_t started; /* time-stamp counter */
};

struct process {
    enum process_state state;
    int pid, pgid, sid;
    struct process *parent, *child, *sibling; /* its first child; the next one of its parent's */
    int status; /* as wait4 gives it */
    int exit_signal; /* to the parent */
    uint32_t fds_forbidden; /* so many at the end, by RLIMIT_NOFILE */
    uint32_t fds_top; /* none is open from here on */
    uint32_t fds_low; /* all below are open */
    struct inode *cwd, *root;
    uint32_t umask;
    struct tty *tty; /* controlling terminal, or NULL (tty.h); a child has its parent's */
    char name[LX_NAME];
    uint32_t cmdline_length;
    char cmdline[LX_CMDLINE]; /* arguments, each with its end */
    char path[LX_NAME_MAX + 1]; /* what it executes */
    uint64_t started; /* nanoseconds since boot */
    uint64_t used, used_children; /* ticks: by threads that ended; by children waited for */
    struct waitq children; /* woken when a child changes state */
    struct thread *threads[LX_THREADS];
    uint32_t thread_count;
    bool stop_reported, continued;
    bool executed; /* since it was made */
    bool vfork; /* runs in its parent's memory until exec */
    struct process *lender; /* that parent, while it lives */
    struct process *borrows; /* in whose env it runs, on his thread (borrow.h); NULL: in its own */
    struct process *borrower; /* who does so in ours */
    struct { /* what is ours while there is a borrower */
        uint64_t signals; /* pending */
        uint64_t started, waited, robust, no_zombies; /* of our window */
        uint64_t used; /* ticks of our thread until then, which `used` has in it */
        uint64_t since; /* time-stamp counter */
    } lent;
    struct waitq released; /* woken when it does not any more, and by SIGCONT */
    struct process_memory *memory; /* memory.h */
    struct seen *seen; /* map.c: of what it executes, NULL: nothing is remembered ... */
    uint32_t seen_epoch; /* ... unless this is not the present one any more */
    struct ring *ring[LX_RINGS]; /* by slot (ring.h) */
    uint32_t rings_open; /* of them */
    struct descriptor fds[LX_FDS]; /* what is not open is NULL, of a free process too */
};
extern struct process processes[LX_PROCESSES];
/* Whose call is being served; set by main.c. */
extern struct thread *thread_current;
/* Signals the thread's event, unless it was told already since its last call. */
void thread_wake(struct thread *thread);
/* Signals that are pending for the whole process, a bit each. */
uint64_t process_signals(const struct process *process);
/* What its library says of signals that it ignores, handles, blocks. */
void process_actions(const struct process *process, uint64_t *ignored, uint64_t *handled,
                     uint64_t *blocked);
/* Ticks that its threads did not wait, as their libraries say; of a zombie, too. */
uint64_t process_used(const struct process *process);
struct process *process_by_pid(int pid); /* NULL: none (zombies are found) */
/* Sends a signal to a process, or to all of a process group: 0 or -ESRCH. */
long signal_process(struct process *process, int signal);
long signal_group(int pgid, int signal);

/* ---- calls ---------------------------------------------------------------------------------------
 * A call's function gets its six arguments and gives the result. */
typedef long call_function(struct thread *thread, const uint64_t a[6]);
/* Eight bytes of a window, wherever they lie, read once. */
typedef uint64_t any_word __attribute__((aligned(1), may_alias));
static inline uint64_t word_fetch(const uint8_t *at) { return *(const volatile any_word *)at; }
/* The zero-terminated text at `offset` of the window, copied: 0, -EFAULT, -ENAMETOOLONG. */
long window_path(struct thread *thread, uint64_t offset, char path[LX_PATH_MAX]);
/* Copies n bytes from or to offset `at` of the window's bytes: 0 or -EFAULT. */
long window_get(struct thread *thread, uint64_t at, void *to, size_t n);
long window_put(struct thread *thread, uint64_t at, const void *from, size_t n);

/* ---- memory of the server (heap: malloc and free of libexo), time, pages of files ---------------- */
uint64_t time_boot(void); /* nanoseconds since boot */
uint64_t time_real(void); /* nanoseconds since 1970 */
/* A page for file contents: a frame number, zeroed; 0: no memory left. page_data gives where it
 * lies in the server. A freed page that some process still has mapped is kept aside until it is
 * not. */
uint32_t page_new(void);
uint32_t page_take(void); /* the same, with what its last owner left in it */
void page_free(uint32_t frame);
void *page_data(uint32_t frame);
/* Pages of page_new: all, free. */
void page_count(uint64_t *all, uint64_t *unused);
/* A line into the log that /dev/kmsg and dmesg show. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
#endif
