/* SPDX-License-Identifier: MIT
 *
 * The manager's numbers, read. */
#include "vm.h"
#include <stdlib.h>
#include <string.h>

static unsigned long long next(char **at) { return strtoull(*at, at, 10); }

static void io_read(struct io *io, char **at)
{
    io->count = next(at);
    io->out = next(at);
    io->out_bytes = next(at);
    io->in = next(at);
    io->in_bytes = next(at);
}

static void machine_read(struct stats *stats, char *line)
{
    struct machine *m = &stats->machine[stats->count];
    int used = 0;
    if (stats->count == MACHINES_MAX) return;
    if (sscanf(line, "vm %63s %u %c%n", m->name, &m->id, &m->state, &used) != 3) return;
    char *at = line + used;
    m->ticks = next(&at);
    m->kib = next(&at);
    m->balloon_kib = next(&at);
    m->vcpus = (unsigned)next(&at);
    io_read(&m->disk, &at);
    io_read(&m->net, &at);
    for (unsigned i = 0; i < REASONS; i++)
        m->exits[i] = next(&at);
    stats->count++;
}

bool stats_get(struct stats *stats)
{
    struct vm_link link;
    struct lines body = {0};
    *stats = (struct stats){0};
    bool good = vm_open(&link, "vm") && vm_send(&link, "stats\n") && vm_reply(&link, &body);
    vm_close(&link);
    for (size_t i = 0; i < body.count; i++) {
        char *line = body.line[i];
        if (strncmp(line, "host ", 5))
            machine_read(stats, line);
        else
            sscanf(line, "host %llu %llu %u %llu %llu", &stats->now, &stats->hz, &stats->cpus,
                   &stats->kib, &stats->free_kib);
    }
    lines_free(&body);
    if (good && !stats->hz) {
        fprintf(stderr, "vm: the manager says nothing of its host\n");
        return false;
    }
    return good;
}

void state_text(char state, char *text)
{
    static const char letters[] = "rbpscd";
    for (size_t i = 0; i < 6; i++)
        text[i] = letters[i] == state ? state : '-';
    text[6] = 0;
}
