/* SPDX-License-Identifier: MIT
 *
 * A monitor that is none, in the place of vmm: it wishes vmd ill, in the way that a letter of
 * its configuration names (liar=LETTER), with everything that vmd gives a monitor. */
#include "../../../lib/exo/channel.h"

#define SHARED_VA 0x0000130000000000ul
#define FLOOD 4000

static struct exo_channel console, control, log_channel, net;

static char letter(void)
{
    const void *data;
    size_t size;
    if (exo_archive_find("vm.cfg", &data, &size) < 0) return 0;
    const char *text = data;
    for (size_t i = 0; i + 5 < size; i++)
        if (!memcmp(text + i, "liar=", 5)) return text[i + 5];
    return 0;
}

/* Both heads of a channel, and all that it points to, are nonsense. */
static void spoil(struct exo_channel *c)
{
    c->out->head = 0x7fffffff;
    c->in->tail = 0x80000000;
    *c->closed = 0x12345678;
    exo_event_signal(c->signal);
}

static void flood(struct exo_channel *c)
{
    for (unsigned i = 0; i < FLOOD; i++) {
        if (!exo_channel_write(c, "\033]0;nonsense\007\n\n\377", 17)) exo_yield();
        exo_event_signal(c->signal);
    }
}

static void shared_spoil(void)
{
    const struct exo_range *shared = &exo.start.shared;
    if (exo_bind(&exo.pool, SHARED_VA, 1, shared->sel, shared->first, EXO_R | EXO_W) < 0) return;
    memset((void *)SHARED_VA, 0xff, EXO_PAGE);
}

static void files_write(void)
{
    const void *data;
    size_t size;
    if (exo_archive_find("vm.cfg", &data, &size) < 0) return;
    *(volatile char *)(uintptr_t)data = 'x';
}

/* Uses up its own selectors, memory, threads. */
static void greedy(void)
{
    while (exo_event_new(exo.start.sel_thread, 1) >= 0)
        ;
    while (exo_frames_alloc(&exo.pool, 1, 1) >= 0)
        ;
    for (;;)
        exo_yield();
}

int main(struct exo_startup *start)
{
    (void)start;
    if (exo_channel_find(&console, NULL, "console") < 0 ||
        exo_channel_find(&control, NULL, "control") < 0 ||
        exo_channel_find(&log_channel, NULL, "log") < 0 || exo_channel_find(&net, NULL, "net0") < 0)
        return 1;
    exo_channel_write(&console, "liar: here\n", 11);
    switch (letter()) {
    case 'c':
        spoil(&console), spoil(&control), spoil(&log_channel), spoil(&net);
        break;
    case 'f':
        flood(&console), flood(&log_channel), flood(&control), flood(&net);
        break;
    case 's':
        shared_spoil();
        break;
    case 'e': /* says that it died, and goes on */
        exo_event_signal(exo.start.sel_fault);
        break;
    case 'w':
        files_write();
        break;
    case 'g':
        greedy();
        break;
    case 'd':
        exo_thread_set(0, EXO_SET_UPCALL, 0, 0);
        __asm__ volatile("ud2");
        break;
    case 'x':
        return 7;
    }
    for (;;)
        exo_event_wait(1, 0);
}
