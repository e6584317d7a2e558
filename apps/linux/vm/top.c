/* SPDX-License-Identifier: MIT
 *
 * vm top: what machines do, between one look and the next, in the columns of xentop(1);
 * below them, of what kinds their exits were. */
#include "vm.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KINDS 6 /* shown of each machine */

static struct lines reasons; /* one a kind */

static bool reasons_get(void)
{
    struct vm_link link;
    struct lines body = {0};
    bool good = vm_open(&link, "vm") && vm_send(&link, "reasons\n") && vm_reply(&link, &body);
    vm_close(&link);
    for (size_t i = 0; i < body.count; i++)
        for (char *word = strtok(body.line[i], "\t"); word; word = strtok(NULL, "\t"))
            lines_add(&reasons, word);
    lines_free(&body);
    return good;
}

static const struct machine *same(const struct stats *stats, const struct machine *m)
{
    for (unsigned i = 0; i < stats->count; i++)
        if (stats->machine[i].id == m->id) return &stats->machine[i];
    return NULL;
}

static double per_second(unsigned long long now, unsigned long long before, double seconds)
{
    return seconds > 0 && now > before ? (double)(now - before) / seconds : 0;
}

/* The kinds with most exits first, those a second. */
static void show_exits(const struct machine *m, const struct machine *old, double seconds,
                       const char *end)
{
    double rate[REASONS], sum = 0;
    for (unsigned i = 0; i < REASONS; i++) {
        rate[i] = per_second(m->exits[i], old->exits[i], seconds);
        sum += rate[i];
    }
    printf("%10s %9.0f exits/s:", m->name, sum);
    for (unsigned n = 0; n < KINDS; n++) {
        unsigned best = 0;
        for (unsigned i = 1; i < REASONS; i++)
            if (rate[i] > rate[best]) best = i;
        if (rate[best] <= 0) break;
        printf(" %s %.0f", best < reasons.count ? reasons.line[best] : "?", rate[best]);
        rate[best] = 0;
    }
    printf("%s\n", end);
}

static void show(const struct stats *now, const struct stats *before, const char *end)
{
    double hz = (double)now->hz;
    double seconds = before->hz ? (double)(now->now - before->now) / hz : 0;
    printf("vm top - %u machine%s, %u CPU%s @ %lluMHz, memory: %lluk total, %lluk free%s\n",
           now->count, now->count == 1 ? "" : "s", now->cpus, now->cpus == 1 ? "" : "s",
           now->hz / 1000000, now->kib, now->free_kib, end);
    printf("%10s %6s %10s %6s %10s %6s %5s %4s %8s %8s %4s %7s %7s%s\n", "NAME", "STATE",
           "CPU(sec)", "CPU(%)", "MEM(k)", "MEM(%)", "VCPUS", "NETS", "NETTX(k)", "NETRX(k)",
           "VBDS", "VBD_RD", "VBD_WR", end);
    for (unsigned i = 0; i < now->count; i++) {
        const struct machine *m = &now->machine[i], *old = same(before, m);
        unsigned long long kib = m->kib - m->balloon_kib;
        char state[7];
        state_text(m->state, state);
        printf("%10s %6s %10.0f %6.1f %10llu %6.1f %5u %4llu %8llu %8llu %4llu %7llu %7llu%s\n",
               m->name, state, (double)m->ticks / hz,
               old ? per_second(m->ticks, old->ticks, seconds) / hz * 100 : 0, kib,
               now->kib ? (double)kib * 100 / (double)now->kib : 0, m->vcpus, m->net.count,
               m->net.out_bytes >> 10, m->net.in_bytes >> 10, m->disk.count, m->disk.in,
               m->disk.out, end);
    }
    for (unsigned i = 0; i < now->count; i++) {
        const struct machine *old = same(before, &now->machine[i]);
        if (old) show_exits(&now->machine[i], old, seconds, end);
    }
    fflush(stdout);
}

int top(int argc, char **argv)
{
    static struct stats stats[2];
    double delay = 3;
    long times = -1;
    bool batch = false;
    for (int option; (option = getopt(argc, argv, "bd:n:")) != -1;) {
        if (option == 'b') batch = true;
        if (option == 'd') delay = atof(optarg);
        if (option == 'n') times = atol(optarg);
        if (option == '?') return 2;
    }
    if (delay < 0.1) delay = 0.1;
    if (!reasons_get()) return 1;
    if (!batch) batch = !isatty(STDOUT_FILENO) || !tty_raw();
    for (unsigned turn = 0; times < 0 || turn < (unsigned long)times; turn++) {
        if (!stats_get(&stats[turn % 2])) return 1;
        if (!batch) printf("\033[H\033[2J");
        show(&stats[turn % 2], &stats[(turn + 1) % 2], batch ? "" : "\r");
        if (times >= 0 && turn + 1 == (unsigned long)times) break;
        int key = key_wait(delay);
        if (key == 'q' || key == 3) break;
    }
    return 0;
}
