/* SPDX-License-Identifier: MIT
 *
 * The programs that are shown, one at a time. What each of them writes is kept, the last
 * KEPT bytes of it, and printed when it is selected; nobody waits for being selected. Keys
 * go to the selected one. Ctrl-] is ours: what follows it says what to do; when nothing follows
 * soon, it was meant for the program.
 *
 * Programs that only have something to say now and then have a channel with the tag log:
 * they come last, and are never shown unasked.
 *
 * A guest is not trusted: it can write what it likes to the terminal while it is
 * selected, and nothing else. */
#include "../../lib/exo/kept.h"
#include "console.h"

#define ESCAPE 0x1d /* Ctrl-], as telnet and others have it */
#define KEPT 65536u
#define AT_ONCE 4096 /* bytes of one guest before keys are looked at again */
#define GATHER_US 2000 /* while there is output, so long until it is looked for again */
#define COMMANDS (-1) /* selected: our own commands */
#define ALONE_US 700000 /* a Ctrl-] that nothing follows for so long is the program's */

struct guest {
    struct exo_channel channel;
    struct exo_kept kept;
    bool gone; /* it has ended, and that was said */
};
static struct guest guests[EXO_CHANNELS];
static int count, machines, selected = COMMANDS;
static uint64_t events = EV_INPUT;

static void channels_open(const char *tag)
{
    while (count < EXO_CHANNELS) {
        struct guest *g = &guests[count];
        if (exo_channel_find(&g->channel, NULL, tag) < 0) return;
        if (exo_kept_make(&g->kept, KEPT) < 0) {
            exo_printf("console: no memory to keep what %s writes\n", g->channel.peer);
            return;
        }
        events |= g->channel.event;
        count++;
    }
}

void guests_open(void)
{
    channels_open("console");
    machines = count;
    channels_open("log");
}

bool commands_shown(void) { return selected == COMMANDS; }

/* ---- output ---------------------------------------------------------------------------- */

static void show_list(void)
{
    exo_printf("Ctrl-] 0  the commands of this console%s\n", selected < 0 ? "  (shown)" : "");
    for (int i = 0; i < count; i++)
        exo_printf("Ctrl-] %d  %s%s%s\n", i + 1, guests[i].channel.peer,
                   guests[i].gone ? ", which has ended" : "", selected == i ? "  (shown)" : "");
}

static void show_keys(void)
{
    exo_printf("\n");
    show_list();
    exo_printf("Ctrl-] and the first letter of a name does the same; Ctrl-] q powers the machine "
               "off,\nCtrl-] Ctrl-] sends a Ctrl-], Ctrl-] ? shows this.\n");
}

/* index: of a guest, or COMMANDS. */
static void select_guest(int index)
{
    selected = index;
    if (index < 0) {
        exo_printf("\n[commands: 'help' lists them]\n");
        return;
    }
    const struct guest *g = &guests[index];
    exo_printf("\n[%s%s]\n", g->channel.peer, g->gone ? ", which has ended" : "");
    struct exo_kept_reader reader;
    char text[AT_ONCE];
    exo_kept_begin(&g->kept, &reader);
    for (size_t n; (n = exo_kept_read(&g->kept, &reader, text, sizeof(text)));)
        exo_write(text, n);
}

/* True when there was anything; ended is set when the selected one has. */
static bool guest_serve(int index)
{
    struct guest *g = &guests[index];
    char text[AT_ONCE];
    bool closed = exo_channel_closed(&g->channel); /* looked at before the last bytes */
    size_t n = exo_channel_read(&g->channel, text, sizeof(text));
    exo_kept_put(&g->kept, text, n);
    if (selected == index) exo_write(text, n);
    if (n || g->gone || !(closed || exo_channel_broken(&g->channel))) return n != 0;
    g->gone = true;
    exo_printf("\n[%s has ended]\n", g->channel.peer);
    return true;
}

/* ---- keys ------------------------------------------------------------------------------- */

/* What a key after Ctrl-] selects: COMMANDS - 1 when nothing. */
static int selection(char key)
{
    if (key >= '0' && key <= '9' && key - '0' <= count) return key - '1';
    for (int i = 1; i <= count; i++) { /* the next one of that letter */
        int at = (selected + i) % count;
        if (guests[at].channel.peer[0] == key) return at;
    }
    return COMMANDS - 1;
}

static void send_key(char key)
{
    struct guest *g = &guests[selected];
    if (g->gone || !exo_channel_write(&g->channel, &key, 1)) exo_write("\a", 1);
}

/* Obeys the key after Ctrl-]; true when the commands' line is to be printed again. */
static bool obey_key(char key)
{
    int was = selected;
    int next = selection(key);
    if (key == 'q') {
        exo_printf("\nbye\n");
        exo_exit(0);
    }
    if (next >= COMMANDS) {
        select_guest(next);
        return next == COMMANDS;
    }
    show_keys();
    return was == COMMANDS;
}

int key_read(void)
{
    static bool escaped;
    static uint64_t alone;
    for (;;) {
        bool busy = false, ended = false;
        for (int i = 0; i < count; i++) {
            bool gone = guests[i].gone;
            busy |= guest_serve(i);
            ended |= selected == i && !gone && guests[i].gone;
        }
        if (ended) {
            select_guest(COMMANDS);
            return REDRAW;
        }
        int key = serial_poll();
        if (key < 0 && escaped && exo_tsc() >= alone) {
            escaped = false;
            if (selected == COMMANDS) return ESCAPE;
            send_key(ESCAPE);
        } else if (key < 0) {
            /* Who writes byte by byte need not signal each one. */
            uint64_t deadline = escaped ? alone : 0;
            exo_event_wait(busy ? EV_INPUT : events, busy ? exo_in_us(GATHER_US) : deadline);
        } else if (key == ESCAPE && !escaped) {
            escaped = true;
            alone = exo_in_us(ALONE_US);
        } else if (escaped && key != ESCAPE) {
            escaped = false;
            if (obey_key((char)key)) return REDRAW;
        } else {
            escaped = false;
            if (selected == COMMANDS) return key;
            send_key((char)key);
        }
    }
}

void guests_start(const char *first)
{
    if (!count) return;
    show_keys();
    if (machines == 1) return select_guest(0);
    for (int i = 0; i < count; i++)
        if (!strcmp(guests[i].channel.peer, first)) return select_guest(i);
}
