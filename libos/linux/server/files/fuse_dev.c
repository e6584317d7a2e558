/* SPDX-License-Identifier: MIT
 *
 * /dev/fuse: connections and their requests (fuse.h). A request is in its connection's list from
 * fuse_tell or fuse_ask until it is answered, or dropped before it was sent; it is freed when it
 * is answered and no thread has it. All its memory, and that of replies, is of one part of the
 * heap. */
#include "fuse.h"
#include "../../../../lib/exo/exo.h"
#include "../budget.h"
#include <asm/poll.h>

#define ERROR_MAX 512 /* errors that a program can see are less */
#define REPLY_MAX (FUSE_DATA_MAX + 4096)
#define MESSAGES_MAX (1u << 20)

static uint32_t messages; /* bytes of all connections, at most MESSAGES_MAX */

/* ---- memory ---- */

/* malloc for a connection: it never has more than it leaves to all others, so that one whose
 * server is silent does not stop theirs. NULL: no more. */
static void *message_take(struct fuse *fuse, size_t n)
{
    uint32_t size = budget_size(n), left = MESSAGES_MAX - messages;
    if (size > left || fuse->messages + size > left - size) return NULL;
    void *memory = malloc(n);
    if (!memory) return NULL;
    messages += size;
    fuse->messages += size;
    return memory;
}

static void message_give(struct fuse *fuse, void *memory, size_t n)
{
    if (!memory) return;
    messages -= budget_size(n);
    fuse->messages -= budget_size(n);
    free(memory);
}

/* ---- requests ---- */

static size_t request_bytes(const struct fuse_request *request)
{
    return offsetof(struct fuse_request, header) + request->size;
}

struct fuse_request *fuse_new(struct fuse *fuse, struct inode *inode, uint32_t opcode, size_t size,
                              fuse_done *done, long *error)
{
    *error = -ENOTCONN;
    if (fuse->gone) return NULL;
    *error = -ENOMEM;
    const struct process *process = thread_current ? thread_current->process : NULL;
    size += sizeof(struct fuse_in_header);
    size_t all = offsetof(struct fuse_request, header) + size;
    struct fuse_request *request = message_take(fuse, all);
    if (!request) return NULL;
    memset(request, 0, all);
    request->fuse = fuse;
    request->opcode = opcode;
    request->size = (uint32_t)size;
    request->done = done;
    request->header = (struct fuse_in_header){.len = (uint32_t)size,
                                              .opcode = opcode,
                                              .unique = fuse->unique += 2,
                                              .nodeid = inode ? fuse_node(inode)->node : 0,
                                              .pid = process ? (uint32_t)process->pid : 0};
    request->inode = inode;
    if (inode) inode_get(inode);
    fuse_get(fuse);
    return request;
}

void fuse_refer(struct fuse_request *request, struct inode *other)
{
    request->other = other;
    inode_get(other);
}

/* What it refers to may end with it. */
static void request_free(struct fuse_request *request)
{
    wake(&request->wait);
    if (request->opened) fuse_release(request->inode, ((struct fuse_open_out *)request->reply)->fh);
    if (request->inode) inode_put(request->inode);
    if (request->other) inode_put(request->other);
    if (request->file) file_put(request->file);
    struct fuse *fuse = request->fuse;
    message_give(fuse, request->reply, request->reply_size);
    message_give(fuse, request, request_bytes(request));
    fuse_put(fuse);
}

static void list_add(struct fuse_request *request)
{
    struct fuse *fuse = request->fuse;
    request->next = NULL;
    *(fuse->first ? &fuse->last->next : &fuse->first) = request;
    fuse->last = request;
    request->started = time_boot();
    wake(&fuse->readable);
}

static void list_remove(struct fuse_request *request)
{
    struct fuse *fuse = request->fuse;
    struct fuse_request **link = &fuse->first, *before = NULL;
    for (; *link != request; link = &before->next)
        before = *link;
    *link = request->next;
    if (fuse->last == request) fuse->last = before;
}

/* The request's reply has come (its bytes are request->reply's), or an error instead. */
static void request_finish(struct fuse_request *request, long error)
{
    request->answered = true;
    request->result =
        request->done ? request->done(request, error, request->reply, request->reply_size) : error;
    wake(&request->wait);
    if (!request->thread) request_free(request);
}

static void request_end(struct fuse_request *request, long error)
{
    list_remove(request);
    request_finish(request, error);
}

void fuse_tell(struct fuse_request *request)
{
    if (!request->done && request->inode) {
        inode_put(request->inode);
        request->inode = NULL;
    }
    list_add(request);
}

/* ---- who waits ---- */

static void timer_start(struct fuse *fuse, uint64_t started)
{
    if (!fuse->timer.deadline) timer_set(&fuse->timer, started + FIRM_TIME);
}

/* Wakes those whose signals have waited long enough, with all others. */
static void timer_end(struct timer *timer)
{
    struct fuse *fuse = (struct fuse *)((char *)timer - offsetof(struct fuse, timer));
    for (struct fuse_request *r = fuse->first; r; r = r->next) {
        wake(&r->wait);
        if (r->inode) wake(&fuse_node(r->inode)->wait);
    }
    if (fuse->first) timer_set(timer, time_boot() + FIRM_TIME);
}

long fuse_wait(struct fuse *fuse, struct waitq *queue, uint64_t started)
{
    long r = wait_on(queue, thread_current);
    if (r != -LX_WAIT || time_boot() - started >= FIRM_TIME) return r;
    timer_start(fuse, started);
    return -LX_WAIT_FIRM;
}

long fuse_ask(struct fuse_request *request, bool final)
{
    struct thread *thread = thread_current;
    if (thread->request) request->made = thread->request->made;
    fuse_drop(thread);
    request->final = final;
    request->thread = thread;
    thread->request = request;
    list_add(request);
    return fuse_wait(request->fuse, &request->wait, request->started);
}

struct fuse_request *fuse_answer(const struct inode *inode, uint32_t opcode)
{
    struct fuse_request *request = thread_current->request;
    if (!request || !thread_current->again || !request->answered || request->inode != inode ||
        request->opcode != opcode)
        return NULL;
    return request;
}

void fuse_drop(struct thread *thread)
{
    struct fuse_request *request = thread->request;
    thread->request = NULL;
    if (!request) return;
    request->thread = NULL;
    if (!request->answered && (request->sent || request->opcode == FUSE_DESTROY))
        return; /* its reply will end it */
    if (!request->answered) list_remove(request);
    request_free(request);
}

bool fuse_again(struct thread *thread, long *result)
{
    struct fuse_request *request = thread->request;
    if (!request->answered) {
        *result = fuse_wait(request->fuse, &request->wait, request->started);
        return true;
    }
    if (!request->final) return false;
    *result = request->result;
    fuse_drop(thread);
    return true;
}

void fuse_aside(struct thread *thread, bool ends)
{
    if (ends)
        fuse_drop(thread);
    else if (!thread->request->answered)
        wait_on(&thread->request->wait, thread);
}

bool fuse_made(const struct inode *inode)
{
    const struct fuse_request *request = thread_current->request;
    return request && thread_current->again && request->made == inode;
}

/* ---- connections ---- */

void fuse_get(struct fuse *fuse) { fuse->references++; }

void fuse_put(struct fuse *fuse)
{
    if (--fuse->references) return;
    timer_cancel(&fuse->timer);
    wake(&fuse->readable);
    free(fuse);
}

void fuse_abort(struct fuse *fuse)
{
    struct fuse_request *request;
    fuse->gone = true;
    while ((request = fuse->first)) {
        fuse->first = request->next;
        request_finish(request, -ENOTCONN);
    }
    wake(&fuse->readable);
}

/* ---- the device ---- */

/* What the server is to read next; before it is ready FUSE_INIT alone. NULL: nothing. */
static struct fuse_request *request_next(const struct fuse *fuse)
{
    struct fuse_request *request = fuse->first;
    while (request && request->sent)
        request = request->next;
    return request && (fuse->ready || request->opcode == FUSE_INIT) ? request : NULL;
}

static long dev_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct fuse *fuse = file->data;
    (void)pos;
    if (fuse->gone) return -ENODEV;
    if (!fuse->mounted) return -EPERM;
    if (io->left < FUSE_MIN_READ_BUFFER) return -EINVAL;
    for (;;) {
        struct fuse_request *request = request_next(fuse);
        if (!request) return -EAGAIN;
        if (request->header.len > io->left) {
            request_end(request, -EIO);
            continue;
        }
        long n = (long)iobuf_put(io, &request->header, request->header.len);
        request->sent = true;
        if (request->opcode != FUSE_BATCH_FORGET) return n;
        list_remove(request); /* it has no reply */
        request_free(request);
        return n;
    }
}

static long dev_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct fuse *fuse = file->data;
    struct fuse_out_header header;
    size_t all = io->left;
    (void)pos;
    if (fuse->gone) return -ENODEV;
    if (!fuse->mounted) return -EPERM;
    if (all < sizeof(header) || all > REPLY_MAX) return -EINVAL;
    iobuf_get(io, &header, sizeof(header));
    if (header.len != all || header.error > 0 || header.error <= -ERROR_MAX) return -EINVAL;
    if (header.error && io->left) return -EINVAL;
    struct fuse_request *request = fuse->first;
    while (request && (request->header.unique != header.unique || !request->sent))
        request = request->next;
    if (!request) return -ENOENT;
    size_t n = io->left;
    if (n) {
        request->reply = message_take(fuse, n);
        if (!request->reply) return -ENOMEM;
        request->reply_size = (uint32_t)n;
        iobuf_get(io, request->reply, n);
    }
    request_end(request, header.error);
    return (long)all;
}

static unsigned dev_poll(struct file *file)
{
    const struct fuse *fuse = file->data;
    if (fuse->gone || !fuse->mounted) return POLLERR;
    return POLLOUT | POLLWRNORM | (request_next(fuse) ? POLLIN | POLLRDNORM : 0);
}

static struct waitq *dev_queue(struct file *file) { return &((struct fuse *)file->data)->readable; }

static void dev_close(struct file *file)
{
    fuse_abort(file->data);
    fuse_put(file->data);
}

static const struct file_ops fuse_dev_ops = {
    .read = dev_read, .write = dev_write, .poll = dev_poll, .queue = dev_queue, .close = dev_close};

static long device_open(void *data, uint32_t flags, struct file **file)
{
    (void)data;
    struct fuse *fuse = malloc(sizeof(*fuse));
    if (!fuse) return -ENOMEM;
    *fuse = (struct fuse){.references = 1, .timer.run = timer_end};
    *file = file_new(&fuse_dev_ops, flags);
    if (*file)
        (*file)->data = fuse;
    else
        free(fuse);
    return *file ? 0 : -ENFILE;
}

struct fuse *fuse_device(struct thread *thread, uint64_t fd, long *error)
{
    struct file *file = fd_file(thread, fd);
    *error = -EBADF;
    if (!file) return NULL;
    *error = -EINVAL;
    if (file->ops != &fuse_dev_ops) return NULL;
    struct fuse *fuse = file->data;
    return fuse->mounted || fuse->gone ? NULL : fuse;
}

long fuse_dev_start(void)
{
    static const struct dev_ops ops = {device_open};
    return dev_register("fuse", S_IFCHR | 0666, LX_DEV(10, 229), &ops, NULL);
}
