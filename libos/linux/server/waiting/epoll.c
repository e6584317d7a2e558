/* SPDX-License-Identifier: MIT
 *
 * epoll: a list of files that are looked at again at each epoll_wait, as poll would; what
 * it saves is the list's way into the server. Owner: the server; no locks, it is one thread.
 * Invariants: an item is in its epoll's list and in its file's list, and leaves both when it
 * is deleted or either of them is closed. An epoll that watches another one is itself
 * watched by none, so that there is no ring and the depth is two.
 *
 * Edges (EPOLLET): a queue counts how often it was woken; an item is told again only when
 * that has changed since it was told. */
#include "epoll.h"
#include "../budget.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>
#include <linux/eventpoll.h>

#define ITEMS 256u /* of one epoll: as many as descriptors */
#define EVENTS_MAX (LX_WINDOW_BYTES / sizeof(struct epoll_event))
#define MODES (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)

struct epoll_item {
    struct epoll *epoll;
    struct epoll_item *next; /* of the same epoll */
    struct epoll_item *of_file; /* of the same file */
    struct file *file;
    int fd; /* by which it was added */
    unsigned owner; /* process that did: its place in the table */
    struct epoll_event event; /* wanted; no events at all after ONESHOT's one */
    bool fresh; /* not told since it was added or changed */
    uint32_t seen; /* its queue's wakes when it was told */
};
struct epoll {
    struct epoll_item *first;
    unsigned count;
    bool watched; /* by another epoll */
    unsigned epolls; /* other epolls among the items */
    struct waitq wait; /* woken when the list changes */
};
static unsigned items;
static struct budget watches = {.most = 1u << 20, .each = 1u << 19};

static uint32_t file_wakes(struct file *file)
{
    struct waitq *queue = file->ops->queue ? file->ops->queue(file) : NULL;
    return queue ? queue->wakes : 0;
}

/* Events that hold and are to be told. */
static unsigned item_ready(const struct epoll_item *item)
{
    unsigned wanted = item->event.events & ~MODES;
    if (!wanted) return 0;
    if ((item->event.events & EPOLLET) && !file_is_epoll(item->file) && !item->fresh &&
        item->seen == file_wakes(item->file))
        return 0;
    return file_poll(item->file) & (wanted | POLLERR | POLLHUP);
}

static void item_remove(struct epoll_item *item)
{
    struct epoll_item **at = &item->epoll->first;
    while (*at != item)
        at = &(*at)->next;
    *at = item->next;
    at = &item->file->watchers;
    while (*at != item)
        at = &(*at)->of_file;
    *at = item->of_file;
    item->epoll->count--;
    if (file_is_epoll(item->file)) {
        item->epoll->epolls--;
        ((struct epoll *)item->file->data)->watched = item->file->watchers != NULL;
    }
    items--;
    budget_give(&watches, item->owner, item, sizeof(*item));
}

void epoll_forget(struct file *file)
{
    while (file->watchers)
        item_remove(file->watchers);
}

/* ---- the file ---- */

static unsigned epoll_poll(struct file *file)
{
    const struct epoll *epoll = file->data;
    for (struct epoll_item *item = epoll->first; item; item = item->next)
        if (item_ready(item)) return POLLIN | POLLRDNORM;
    return 0;
}

static struct waitq *epoll_queue(struct file *file) { return &((struct epoll *)file->data)->wait; }

static void epoll_close(struct file *file)
{
    struct epoll *epoll = file->data;
    while (epoll->first)
        item_remove(epoll->first);
    wake(&epoll->wait);
    free(epoll);
    items--;
}

static const struct file_ops epoll_ops = {
    .poll = epoll_poll, .queue = epoll_queue, .close = epoll_close};

bool file_is_epoll(const struct file *file) { return file->ops == &epoll_ops; }

long epoll_join(struct file *file, struct thread *thread)
{
    struct epoll *epoll = file->data;
    long r = wait_on(&epoll->wait, thread);
    for (struct epoll_item *item = epoll->first; item && r == -LX_WAIT; item = item->next)
        r = file_wait(item->file, thread);
    return r;
}

unsigned epoll_count(void) { return items; }

/* ---- calls ---- */

static long epoll_new(struct thread *thread, bool cloexec)
{
    struct epoll *epoll = malloc(sizeof(*epoll));
    if (!epoll) return -ENOMEM;
    memset(epoll, 0, sizeof(*epoll));
    struct file *file = file_new(&epoll_ops, O_RDWR);
    if (!file) {
        free(epoll);
        return -ENFILE;
    }
    file->data = epoll;
    items++;
    return fd_install(thread->process, file, cloexec, 0);
}

long call_epoll_create(struct thread *thread, const uint64_t a[6])
{
    return (int)a[0] > 0 ? epoll_new(thread, false) : -EINVAL;
}

long call_epoll_create1(struct thread *thread, const uint64_t a[6])
{
    if ((uint32_t)a[0] & ~(uint32_t)EPOLL_CLOEXEC) return -EINVAL;
    return epoll_new(thread, (uint32_t)a[0] & EPOLL_CLOEXEC);
}

static struct epoll_item *item_find(const struct epoll *epoll, const struct file *file, int fd)
{
    struct epoll_item *item = epoll->first;
    while (item && (item->file != file || item->fd != fd))
        item = item->next;
    return item;
}

static void item_set(struct epoll_item *item, const struct epoll_event *event)
{
    item->event = *event;
    item->event.events |= POLLERR | POLLHUP;
    item->fresh = true;
    wake(&item->epoll->wait);
}

static long item_add(struct epoll *epoll, struct file *file, int fd,
                     const struct epoll_event *event)
{
    struct epoll *other = file_is_epoll(file) ? file->data : NULL;
    if (epoll->count == ITEMS) return -ENOSPC;
    if (other && (other->epolls || epoll->watched)) return -ELOOP;
    unsigned owner = (unsigned)(thread_current->process - processes);
    struct epoll_item *item = budget_take(&watches, owner, sizeof(*item));
    if (!item) return -ENOSPC;
    memset(item, 0, sizeof(*item));
    item->owner = owner;
    item->epoll = epoll;
    item->file = file;
    item->fd = fd;
    item->next = epoll->first;
    epoll->first = item;
    item->of_file = file->watchers;
    file->watchers = item;
    epoll->count++;
    items++;
    if (other) {
        other->watched = true;
        epoll->epolls++;
    }
    item_set(item, event);
    return 0;
}

long call_epoll_ctl(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]), *target = fd_file(thread, a[2]);
    struct epoll_event event = {0};
    if (!file || !target) return -EBADF;
    if (!file_is_epoll(file) || file == target) return -EINVAL;
    if (!target->ops->poll) return -EPERM;
    if (a[1] != EPOLL_CTL_DEL && window_get(thread, a[3], &event, sizeof(event)) < 0)
        return -EFAULT;
    struct epoll *epoll = file->data;
    struct epoll_item *item = item_find(epoll, target, (int)a[2]);
    switch (a[1]) {
    case EPOLL_CTL_ADD:
        return item ? -EEXIST : item_add(epoll, target, (int)a[2], &event);
    case EPOLL_CTL_DEL:
        if (!item) return -ENOENT;
        item_remove(item);
        return 0;
    case EPOLL_CTL_MOD:
        if (!item) return -ENOENT;
        item_set(item, &event);
        return 0;
    default:
        return -EINVAL;
    }
}

/* Those behind `last` come first from now on: nobody is left out for ever. */
static void epoll_turn(struct epoll *epoll, struct epoll_item *last)
{
    struct epoll_item *end = last;
    if (!last->next) return;
    while (end->next)
        end = end->next;
    end->next = epoll->first;
    epoll->first = last->next;
    last->next = NULL;
}

/* At most `most` events into the array: how many. */
static unsigned epoll_take(struct epoll *epoll, struct epoll_event *events, unsigned most)
{
    unsigned n = 0;
    struct epoll_item *last = NULL;
    for (struct epoll_item *item = epoll->first; item && n < most; item = item->next) {
        unsigned ready = item_ready(item);
        last = item;
        if (!ready) continue;
        events[n].events = ready;
        events[n++].data = item->event.data;
        item->fresh = false;
        item->seen = file_wakes(item->file);
        if (item->event.events & EPOLLONESHOT) item->event.events &= MODES;
    }
    if (n == most) epoll_turn(epoll, last);
    return n;
}

long call_epoll_wait(struct thread *thread, const uint64_t a[6])
{
    static struct epoll_event events[EVENTS_MAX];
    struct file *file = fd_file(thread, a[0]);
    int wanted = (int)a[1];
    if (!file) return -EBADF;
    if (!file_is_epoll(file) || wanted <= 0) return -EINVAL;
    unsigned n = epoll_take(file->data, events, EXO_MIN((unsigned)wanted, (unsigned)EVENTS_MAX));
    if (n == 0) return a[2] ? epoll_join(file, thread) : 0;
    long r = window_put(thread, 0, events, n * sizeof(events[0]));
    return r < 0 ? r : n;
}
